"""What became of everything, in words: the lines that pages of orders and people are made of.

Words and reasons are worked out in another room and handed in (`Stories`); here they become things to look at.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from orderbell.core.phones import mask_email, mask_phone
from orderbell.core.segments import SEPTETS_MAX, UNITS_MAX, measure
from orderbell.core.story import Line, Sending
from orderbell.core.turn import Shelf
from orderbell.store.dossier import Dossier, Posted
from orderbell.store.written import TYPES as WRITTEN
from orderbell.web.rendering import View

Kind: TypeAlias = Literal["good", "bad", "warn", "calm"]

STATUS_KINDS: Final[Mapping[str, Kind]] = {
    "queued": "calm", "sending": "calm", "accepted": "calm", "delivered": "good", "failed": "bad", "rejected": "bad",
    "unknown": "warn",
}  # fmt: skip
"""How each status of a message is coloured."""

FATE_KINDS: Final[Mapping[str, Kind]] = {"sent": "good", "held": "warn", "merged": "calm", "dropped": "warn"}
"""How each fate of a notice is coloured."""

SHOWS: Final = ("all", "heard", "silent", "wrote")
"""What of a time line may be asked for: all of it, what people heard, did not hear and why, and what they wrote."""

_TOKEN_SHOWN: Final = 4


class Story(Struct, frozen=True):
    """All that happened, the oldest first; `answer` says why there is nothing, where there is nothing.

    A page says when something happened beside a line, so `happened` of every line is without the time.
    """

    lines: tuple[Line, ...]
    answer: str = ""


class Stories(Protocol):
    """Who tells the stories, in `zh-CN` or `en`."""

    def order(self, dossier: Dossier, shelf: Shelf, locale: str) -> Story:
        """Tell of an order."""
        ...

    def contact(self, dossier: Dossier, shelf: Shelf, locale: str) -> Story:
        """Tell of the last notices of a person."""
        ...


class Bubble(Struct, frozen=True):
    """A message as the person saw it; `units` of `units_max` fill one SMS, of `parts` it has; 0 where no SMS."""

    channel: str
    status: str
    kind: Kind
    text: str
    subject: str
    told_at: datetime
    settled_at: datetime | None
    provider: str = ""
    attempt_count: int = 1
    to: str = ""
    units: int = 0
    units_max: int = 0
    parts: int = 0


class Voice(Struct, frozen=True):
    """What a customer wrote, as it came; `is_hidden` where whoever looks may not see people, `text` is empty then."""

    who: str
    text: str
    is_hidden: bool = False


class Item(Struct, frozen=True):
    """A line of a time line, ready to be shown; `mark` is its colour there, `tag` what became of a notice."""

    line: Line
    mark: str
    tag: str = ""
    kind: Kind = "calm"
    bubbles: tuple[Bubble, ...] = ()
    voice: Voice | None = None


def items_of(story: Story, posted: Iterable[Posted], view: View, show: str = "all") -> list[Item]:
    """The lines of a story as a time line, the newest first."""
    by_id = {one.message.id.hex(): one for one in posted}
    return [_item(line, by_id, view) for line in reversed(story.lines) if _is_shown(line, show)]


def _is_shown(line: Line, show: str) -> bool:
    if show == "heard":
        return bool(line.sent)
    if show == "wrote":
        return line.name in WRITTEN
    if show == "silent":
        return line.kind == "notice" and line.fate in ("held", "merged", "dropped")
    return True


def _item(line: Line, by_id: Mapping[str, Posted], view: View) -> Item:
    if line.kind != "notice":
        mark = "" if line.kind not in ("anomaly", "case") else "good" if line.ended else "bad"
        return Item(line, mark)
    bubbles = tuple(bubbles_of(line.sent, by_id, view))
    tag, kind = view.say(f"order.fate_{line.fate}"), FATE_KINDS.get(line.fate, "calm")
    if line.fate == "sent" and bubbles and all(one.kind == "bad" for one in bubbles):
        tag, kind = view.say("order.fate_undelivered"), "bad"
    return Item(line, "said" if bubbles else "silent", tag, kind, bubbles)


def bubbles_of(sent: Sequence[Sending], by_id: Mapping[str, Posted], view: View) -> Iterator[Bubble]:
    """The messages of a notice as they were seen, with what their rows say besides."""
    for one in sent:
        channel, status = view.called("channels", one.channel), view.say(f"messages.status_{one.status}")
        made = Bubble(
            channel, status, STATUS_KINDS.get(one.status, "calm"), one.text, one.subject, one.told_at, one.settled_at
        )
        found = by_id.get(one.id)
        yield made if found is None else _with_row(made, found)


def _with_row(made: Bubble, row: Posted) -> Bubble:
    message = row.message
    size = measure(message.text) if message.channel == "sms" else None
    return Bubble(
        made.channel, made.status, made.kind, made.text, made.subject, made.told_at, made.settled_at, row.provider,
        row.attempt_no, masked(message.channel, message.to), size.units if size is not None else 0,
        0 if size is None else SEPTETS_MAX if size.gsm else UNITS_MAX, size.parts if size is not None else 0,
    )  # fmt: skip


def masked(channel: str, address: str) -> str:
    """An address as it may be shown; nothing of the inbox, which is a person's id."""
    if channel == "inbox" or not address:
        return ""
    if channel == "sms":
        return mask_phone(address)
    if channel == "email":
        return mask_email(address)
    return "…" + address[-_TOKEN_SHOWN:]
