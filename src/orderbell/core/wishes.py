"""What a person, or the shop for them, may change about themselves: endpoints, tier, and what they wish to hear.

A change is a JSON merge patch (RFC 7396) over the fields of `core.events.Person`: what is not named stays, null or an
empty text takes back. Everything that makes no sense is refused before it reaches the contact, with words that say
what would (S1-29, S3-18..21).
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from orderbell.core.calendar import is_hours, is_zone
from orderbell.core.events import ChannelName, Person
from orderbell.core.model import Contact
from orderbell.core.phones import read_phone
from orderbell.core.turn import Shelf, agree, contact_id, merge_contact

CHANNELS: Final[tuple[str, ...]] = get_args(ChannelName)
ENDPOINTS: Final[dict[str, ChannelName]] = {"phone": "sms", "email": "email", "app": "push", "wechat": "wechat"}
"""The fields of a person that are addresses, and the channel of each."""

FIELDS: Final = tuple(name for name in Person.__struct_fields__ if name != "id")
MUTES_MAX: Final = 100

_is_locale = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*").fullmatch


class Refusal(Struct, frozen=True):
    """Why a change is not made: the field, and what is wrong with it in words."""

    field: str
    detail: str


class Change(Struct, frozen=True):
    """What is said of a person, and the names of the fields that are taken back."""

    says: Person
    clears: frozenset[str] = frozenset()

    def names(self, field: str) -> bool:
        """Whether the field is given or taken back."""
        return bool(getattr(self.says, field)) or field in self.clears


def read_change(tree: Mapping[str, object]) -> Change | Refusal:
    """Read a merge patch that was decoded from JSON."""
    unknown = next((name for name in tree if name not in FIELDS), None)
    if unknown is not None:
        detail = "the id of a person never changes" if unknown == "id" else f"no such field; known: {', '.join(FIELDS)}"
        return Refusal(unknown[:100], f"{unknown[:100]}: {detail}")
    clears = frozenset(name for name, value in tree.items() if value is None or value == "")
    if "marketing" in clears:
        return Refusal("marketing", "marketing: say true or false; a consent is not forgotten")
    for name, (is_right, detail) in _FORMS.items():
        value = tree.get(name)
        if isinstance(value, str) and value and not is_right(value):
            return Refusal(name, f"{name}: {value[:40]!r} {detail}")
    try:
        says = msgspec.convert({name: value for name, value in tree.items() if name not in clears}, Person)
    except msgspec.ValidationError as problem:
        text, _, where = str(problem).rpartition(" - at `$.")
        field = where.rstrip("`").partition("[")[0]
        return Refusal(field, f"{field}: {text}" if "regex" not in text else f"{field}: cannot be read as such")
    return Change(says, clears)


_FORMS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "quiet": (is_hours, "are no hours of the day; write them such as 22:00-08:00, over midnight or not"),
    "timezone": (is_zone, "is no time zone; write its name, such as Asia/Shanghai or Europe/Berlin"),
    "locale": (_is_locale, "is no language; write it such as zh-CN or en"),
}


def check_change(change: Change, contact: Contact, shelf: Shelf, key: bytes = b"") -> Refusal | None:
    """Say why a change cannot be made to this contact of a tenant with these playbooks; None when it can.

    `key` is the tenant's of blind indexes. A person whom the shop gave no id is known by the phone, else by the mail
    address, so another one is another person: were it changed here, the next holder of the old number would be
    taken for this one.
    """
    region = region_of(shelf)
    for field, name in (("phone", Person(phone=contact.phone)), ("email", Person(email=contact.email))):
        if change.names(field) and contact.id == contact_id("", "", name, key, region):
            said = read_phone(change.says.phone, region).number if field == "phone" else change.says.email
            if said.casefold() != getattr(contact, field).casefold():
                detail = "this person is known by it; tell the new one with an event of the order, `contact.changed`"
                return Refusal(field, f"{field}: {detail}")
    return _check_mute(change.says.mute or (), shelf)


def changed_fields(old: Contact, new: Contact) -> list[str]:
    """The names of the fields that differ; no values, so that they may be written down."""
    return [name for name in FIELDS if getattr(old, name) != getattr(new, name)]


def _check_mute(mute: tuple[str, ...], shelf: Shelf) -> Refusal | None:
    if len(mute) > MUTES_MAX:
        return Refusal("mute", f"mute: at most {MUTES_MAX} entries are taken")
    mandatory = categories_of(shelf)
    for word in mute:
        category, colon, channel = word.partition(":")
        if category not in mandatory:
            known = ", ".join(mandatory)
            return Refusal("mute", f"mute: there is no category {category[:40]!r}; known: {known}")
        if colon and channel not in CHANNELS:
            known = ", ".join(CHANNELS)
            return Refusal("mute", f"mute: there is no channel {channel[:40]!r}; known: {known}")
        if not colon and mandatory[category]:
            channels = ", ".join(f"{category}:{name}" for name in CHANNELS if name != "inbox")
            return Refusal(
                "mute",
                f"mute: {category!r} cannot be turned off, an order cannot do without it; single channels can, as "
                f"long as another one reaches the person: {channels}",
            )
    return None


def categories_of(shelf: Shelf) -> dict[str, bool]:
    """The categories of all playbooks of a tenant, and whether any of them makes it mandatory."""
    found: dict[str, bool] = {}
    for playbook in shelf.playbooks.values():
        for name, category in playbook.spec.categories.items():
            found[name] = found.get(name, False) or category.mandatory
    return found


def region_of(shelf: Shelf) -> str:
    """The country of phones without a country code, where no order says otherwise."""
    playbook = shelf.find("")
    return playbook.spec.region if playbook is not None else "CN"


def is_stale(contact: Contact, shelf: Shelf, now: datetime) -> bool:
    """Whether the addresses of a person want looking over, by the `review` of the tenant's own playbook (S0-5)."""
    playbook = shelf.find("")
    review = playbook.review if playbook is not None else None
    return review is not None and contact.checked_at is not None and now - contact.checked_at >= review.every


def apply_change(contact: Contact, change: Change, at: datetime, region: str = "CN") -> Contact:
    """Make a change that was checked. Whoever names an address, be it the known one, has looked it over (S0-2)."""
    says = change.says
    if says.mute is not None:
        says = msgspec.structs.replace(says, mute=tuple(dict.fromkeys(says.mute)))
    new = merge_contact(contact, says, at, region)
    if says.marketing is not None and new.marketing != ("yes" if says.marketing else "no"):
        new = agree(new, says.marketing, at)
    changes: dict[str, object] = {name: _BLANK[name] for name in change.clears if name in _BLANK}
    if "tier" in change.clears:
        changes["tier_set"] = False  # the rules of the playbook set it with the next order
    gone = [channel for name, channel in ENDPOINTS.items() if name in change.clears]
    if gone:
        changes["states"] = {channel: state for channel, state in new.states.items() if channel not in gone}
    if any(change.names(name) for name in ENDPOINTS):
        changes["checked_at"] = at
    return msgspec.structs.replace(new, **changes) if changes else new


_BLANK: Final[dict[str, object]] = {
    **dict.fromkeys((*ENDPOINTS, "locale", "timezone", "quiet"), ""),
    "mute": (),
    "frequency": "normal",
}
