"""Every text of a playbook as people will read it: with sample values, and with the longest that may come.

`preview` writes each rung of each ladder with the real composer, so what is seen is what will be sent. The length of
the longest SMS is that of the proof which lint relies on (S0-17).
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from msgspec import Struct

from orderbell.core.durations import format_duration
from orderbell.core.events import ORDER_NO_MAX, ChannelName, Frequency, Tier
from orderbell.core.forms import FEN_MAX
from orderbell.core.model import Lane, Tone
from orderbell.core.playbook import NoticeRule, Playbook
from orderbell.core.segments import SEPTETS_MAX, UNITS_MAX, is_gsm, measure, utf16_units
from orderbell.core.wording import TEXT_MAX, TONES, VARIABLES, Kind, Text, Wording
from orderbell.errors import OrderBellError

CHANNELS: tuple[ChannelName, ...] = get_args(ChannelName)
Alphabet = Literal["GSM-7", "UCS-2", ""]
Values = dict[str, str | int]
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


class PreviewUnknown(OrderBellError):
    """The playbook has no such topic, locale, channel or tone."""


class Slot(Struct, frozen=True):
    """A variable of a text: `units_max` is the most that it takes of an SMS, in UTF-16 units."""

    name: str
    kind: Kind
    units_max: int


class Filled(Struct, frozen=True):
    """A text with values in it.

    In an SMS `units` counts septets in GSM-7 and UTF-16 units in UCS-2, of which `units_max` are one part. Elsewhere
    it counts UTF-16 units, `units_max` is None, `parts` is 0, and there is no `alphabet`.
    """

    text: str
    subject: str
    units: int
    units_max: int | None
    parts: int
    alphabet: Alphabet

    @property
    def fits(self) -> bool:
        """Whether it is no SMS of several parts."""
        return self.units_max is None or self.units <= self.units_max


class TierWay(Struct, frozen=True):
    """What is other for people of a tier; `tone` is the least that they hear."""

    channels: tuple[ChannelName, ...]
    also: tuple[ChannelName, ...]
    tone: Tone | None


class About(Struct, frozen=True):
    """What the playbook says of a topic, spans as people write them: `5m`, `1d`."""

    to: tuple[str, ...]
    category: str
    mandatory: bool
    marketing: bool
    lane: Lane
    within: str
    wait: str
    valid_for: str
    level: Frequency
    channels: tuple[ChannelName, ...]
    also: tuple[ChannelName, ...]
    fallback: bool
    covers: tuple[str, ...]
    after: tuple[str, ...]
    tiers: dict[Tier, TierWay]


class Preview(Struct, frozen=True):
    """One text: a rung of the ladder of a topic, locale, channel and tone, `variant` 0 the fullest.

    `newcomer` texts end with the explanation of the step (S3-28); where it has no room, the ladder for everybody
    follows. `chosen` is what goes out for the sample values. The `last` must fit whatever the values are. A channel
    without words of its `own` takes the ladder of the SMS, unsigned. `opt_out` is the line that ends marketing.
    """

    topic: str
    locale: str
    channel: ChannelName
    tone: Tone
    newcomer: bool
    variant: int
    variant_count: int
    last: bool
    chosen: bool
    own: bool
    sample: Filled
    worst: Filled
    slots: tuple[Slot, ...]
    opt_out: str
    about: About


def preview(
    playbook: Playbook, *, topic: str = "", locale: str = "", channel: str = "", tone: str = ""
) -> list[Preview]:
    """Every text of a playbook, or those asked for, in the order of the file, its own locale first.

    A tone that a topic has no words for shows those that stand in for it. Raises PreviewUnknown, which names what
    there is.
    """
    _check("topic", topic, playbook.notices)
    _check("locale", locale, playbook.wording)
    _check("channel", channel, CHANNELS)
    _check("tone", tone, TONES)
    locales = sorted(playbook.wording, key=lambda name: (name != playbook.locale, name))
    wanted = [known for known in CHANNELS if channel in ("", known)]
    return [
        made
        for rule in playbook.notices.values()
        if topic in ("", rule.topic)
        for name in locales
        if locale in ("", name)
        for made in _Writer(playbook, rule, playbook.wording[name]).write(wanted, tone)
    ]


def _check(what: str, asked: str, known: Collection[str]) -> None:
    if asked and asked not in known:
        near = difflib.get_close_matches(asked, known, 1)
        remedy = f"did you mean {near[0]!r}? " if near else ""
        raise PreviewUnknown(f"there is no {what} {asked!r}; {remedy}There is: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class _Rung:
    # `words` hold this text and no other, so that composing cannot pass it over.
    words: Wording
    tone: Tone
    variant: int
    count: int
    own: bool
    opt_out: str
    slots: tuple[Slot, ...]


def _rungs(wording: Wording, topic: str, channel: ChannelName, tone: str, *, newcomer: bool) -> Iterator[_Rung]:
    """The texts of one channel, of one tone or of every tone that has its own, each alone."""
    shared = wording._shared  # noqa: SLF001 - what composing passes over is known to the wording alone
    kept = wording._explained if newcomer else wording._topics  # noqa: SLF001 - likewise
    for known, rungs in kept.get(topic, {}).get(channel, {}).items():
        if known == (tone or rungs.tone):
            for variant, template in enumerate(rungs.templates):
                spoken = [*template.names, *(rungs.subject.names if rungs.subject else ())]
                inner = [shared.phrases[name].names if name in shared.phrases else (name,) for name in spoken]
                alone = replace(rungs, templates=(template,), needs=((),))
                names = dict.fromkeys(name for group in inner for name in group)
                yield _Rung(
                    Wording(shared, {topic: ({channel: {rungs.tone: alone}}, {})}), rungs.tone, variant,
                    len(rungs.templates), channel in rungs.path, shared.spec.opt_out,
                    tuple(Slot(name, VARIABLES[name].kind, shared.widths[name]) for name in names),
                )  # fmt: skip
                if newcomer and 2 * (variant + 1) >= len(rungs.templates):
                    break  # the rest of the ladder is that of everybody


class _Writer:
    """Writes the texts of one topic in one locale."""

    def __init__(self, playbook: Playbook, rule: NoticeRule, wording: Wording) -> None:
        self.playbook, self.rule, self.wording = playbook, rule, wording
        self.samples = _sample_values(playbook, rule.topic, wording.locale)
        proofs = wording.longest(rule.topic, marketing=rule.marketing)
        self.proofs = {(found.tone, found.path[-1]): found for found in proofs}
        self.about = _about(rule)
        self.sent: dict[tuple[ChannelName, Tone, bool], int] = {}
        self.longest_of: dict[tuple[ChannelName, str, bool], str | int] = {}

    def write(self, channels: Collection[ChannelName], tone: str) -> Iterator[Preview]:
        for channel in channels:
            for newcomer in (False, True):
                for rung in _rungs(self.wording, self.rule.topic, channel, tone, newcomer=newcomer):
                    yield self.one(rung, channel, newcomer=newcomer)

    def one(self, rung: _Rung, channel: ChannelName, *, newcomer: bool) -> Preview:
        return Preview(
            topic=self.rule.topic, locale=self.wording.locale, channel=channel, tone=rung.tone, newcomer=newcomer,
            variant=rung.variant, variant_count=rung.count, last=rung.variant == rung.count - 1,
            chosen=self.chosen(channel, rung.tone, newcomer=newcomer) == rung.variant, own=rung.own,
            sample=_filled(self.compose(rung.words, channel, rung.tone, self.samples), channel),
            worst=self.worst(rung, channel, newcomer=newcomer), slots=rung.slots,
            opt_out=rung.opt_out if self.rule.marketing and channel == "sms" else "", about=self.about,
        )  # fmt: skip

    def chosen(self, channel: ChannelName, tone: Tone, *, newcomer: bool) -> int:
        """The rung that goes out for the sample values: one for a whole ladder, which may be long."""
        key = channel, tone, newcomer
        if key not in self.sent:
            self.sent[key] = self.compose(self.wording, channel, tone, self.samples, newcomer=newcomer).variant
        return self.sent[key]

    def compose(
        self, words: Wording, channel: ChannelName, tone: Tone, values: Values, *, newcomer: bool = False
    ) -> Text:
        found = words.compose(
            self.rule.topic, channel, tone, values,
            timezone=self.playbook.timezone, marketing=self.rule.marketing, newcomer=newcomer,
        )  # fmt: skip
        if found is None:  # pragma: no cover - there are rungs only where there are words
            raise PreviewUnknown(f"{self.rule.topic} has no words for {channel}")
        return found

    def worst(self, rung: _Rung, channel: ChannelName, *, newcomer: bool) -> Filled:
        """The rung with the longest values; an SMS in the alphabet, and of the length, that the proof counts."""
        text = self.longest(rung, channel, gsm=True)
        if channel != "sms":
            return _filled(text, channel)
        proof = None if newcomer else self.proofs.get((rung.tone, rung.variant))
        if proof:
            gsm, units = proof.units_max == SEPTETS_MAX, proof.units
        else:
            gsm = is_gsm(text.text) and utf16_units(text.text) > UNITS_MAX
            units = measure(text.text).units if gsm else utf16_units(text.text)
        if not gsm:
            text = self.longest(rung, channel, gsm=False)
        units_max = SEPTETS_MAX if gsm else UNITS_MAX
        parts = 1 if units <= units_max else measure(text.text).parts
        return Filled(text.text, "", units, units_max, parts, "GSM-7" if gsm else "UCS-2")

    def longest(self, rung: _Rung, channel: ChannelName, *, gsm: bool) -> Text:
        """The longest text that any values make."""
        found = {
            slot.name: values
            for slot in rung.slots
            if (values := _longest_values(self.playbook, slot, self.wording.locale, gsm=gsm))
        }
        longest: Values = {name: values[0] for name, values in found.items()}
        for name, values in found.items():
            # What a variable adds hangs on neither text nor tone, so it is tried out in one of them.
            key = channel, name, gsm
            if len(values) > 1 and key not in self.longest_of:
                texts = [self.compose(rung.words, channel, rung.tone, longest | {name: one}) for one in values]
                self.longest_of[key] = values[max(range(len(values)), key=lambda place: texts[place].units)]
            longest[name] = self.longest_of.get(key, values[0])
        return self.compose(rung.words, channel, rung.tone, longest)


def _filled(text: Text, channel: ChannelName) -> Filled:
    if channel != "sms":
        return Filled(text.text, text.subject, text.units, None, 0, "")
    gsm = is_gsm(text.text)
    units_max = SEPTETS_MAX if gsm else UNITS_MAX
    return Filled(text.text, "", text.units, units_max, text.segments, "GSM-7" if gsm else "UCS-2")


def _about(rule: NoticeRule) -> About:
    return About(
        to=tuple(sorted(rule.to)), category=rule.category, mandatory=rule.mandatory, marketing=rule.marketing,
        lane=rule.lane, within=format_duration(rule.within), wait=format_duration(rule.wait),
        valid_for=format_duration(rule.valid_for), level=rule.level, channels=rule.channels, also=rule.also,
        fallback=rule.fallback, covers=tuple(sorted(rule.covers)), after=tuple(sorted(rule.after)),
        tiers={
            tier: TierWay(way.channels, way.also, way.tone)
            for tier, way in rule.ways.items()
            if way.tone or (way.channels, way.also) != (rule.channels, rule.also)
        },
    )  # fmt: skip


def _on(month: int, day: int) -> int:
    return int(datetime(2026, month, day, 4, tzinfo=UTC).timestamp())


# Values as they come in a shop's day, the goods those of the playbook or of the one that it extends.
_PARCEL: Values = {
    "order_no": "20261111-0087", "tracking_no": "SF1234567890", "carrier": "SF", "choice": "refund",
    "promised": _on(11, 14), "until": _on(11, 20), "next": 12 * _HOUR,
}  # fmt: skip
_GOODS: Mapping[str, Mapping[str, Values]] = {
    "retail": {
        "zh-CN": {"title": "羊毛围巾", "kind": "服装", "amount": 19_900, "price": 19_900, "sum": 19_900},
        "en": {"title": "wool scarf", "kind": "clothing", "amount": 19_900, "price": 19_900, "sum": 19_900},
    },
    "digital": {
        "zh-CN": {"title": "视频会员月卡", "kind": "卡密", "amount": 2_500, "price": 2_500, "sum": 2_500},
        "en": {"title": "video pass, 1 month", "kind": "key", "amount": 2_500, "price": 2_500, "sum": 2_500},
    },
    "consignment": {
        "zh-CN": {"title": "机械腕表", "kind": "腕表", "amount": 1_280_000, "price": 1_280_000, "sum": 1_152_000},
        "en": {"title": "mechanical watch", "kind": "watch", "amount": 1_280_000, "price": 1_280_000, "sum": 1_152_000},
    },
}
_PLACES = {"zh-CN": "杭州转运中心", "en": "Hangzhou hub"}
_REASONS = {
    "payment_failed": "insufficient_funds", "order_cancelled": "order.cancelled_by_merchant",
    "address_bad": "recipient.bad_address", "attempt_failed": "recipient.unreachable", "key_problem": "key.none_left",
    "payout_late": "card_declined",
}  # fmt: skip
_OWN_REASONS = {"rejected": {"zh-CN": "成色不符", "en": "not as described"}}  # in the shop's own words
_STAGES = ("shipped", "listed", "issued")

# The longest words that come, without a blank where they could be cut shorter; repeated, so that any length is filled.
_LONG_WORDS: Mapping[str, Mapping[str, str]] = {
    "zh-CN": {
        "title": "手工编织加厚纯羊毛格纹长围巾礼盒装",
        "kind": "限量版自动机械腕表",
        "reason": "收件人临时更改了收货地址",
        "parcel_reason": "极端天气造成航班延误待恢复",
        "carrier": "顺丰速运国际特快专递",
        "place": "上海浦东国际机场转运中心",
    },
    "en": {
        "title": "Hand-knitted-lambswool-scarf-with-fringes-",
        "kind": "wrist-chronometer-",
        "reason": "address-changed-by-recipient-",
        "parcel_reason": "flight-cancelled-in-bad-weather-",
        "carrier": "Transcontinental-Express-",
        "place": "Shanghai-Pudong-airport-hub-",
    },
}
_LONG_CODE = "ORDER-2026-ABCDEFGH-0123456789-VWXYZ"[:ORDER_NO_MAX].ljust(ORDER_NO_MAX, "0")
_WIDE_CODE = "[~]" * (ORDER_NO_MAX // 3)  # each of these signs takes two septets
_FOREIGN = "Ż"  # one letter outside GSM-7 makes the whole text UCS-2
_LONG_SPANS = (179 * _MINUTE, 71 * _HOUR, 999 * _DAY, _MINUTE, _HOUR, _DAY)


def _sample_values(playbook: Playbook, topic: str, locale: str) -> Values:
    goods = next((_GOODS[name] for name in (playbook.name, playbook.spec.extends) if name in _GOODS), _GOODS["retail"])
    known = "zh-CN" if locale == "zh-CN" else "en"
    reason = _OWN_REASONS[topic][known] if topic in _OWN_REASONS else _REASONS.get(topic, "carrier.weather")
    stage = next((name for name in _STAGES if name in playbook.stages), playbook.first_stage.name)
    places = {"place": _PLACES[known], "reason": reason, "parcel_reason": "carrier.weather", "state": stage}
    return _PARCEL | goods[known] | places


def _longest_values(playbook: Playbook, slot: Slot, locale: str, *, gsm: bool) -> list[str | int]:
    """What may make a variable longest: one value, or where that depends on the words of the locale, several."""
    if slot.kind == "code":
        return [_WIDE_CODE if gsm else _LONG_CODE]
    if slot.kind == "money":
        return [FEN_MAX - 1]
    if slot.kind == "date":
        return [_on(month, 28) for month in range(1, 13)]
    if slot.kind == "span":
        return list(_LONG_SPANS)
    if slot.name == "state":
        return [*playbook.stages, *(f"anomaly.{name}" for name in playbook.anomalies)]
    if slot.name == "choice":
        return sorted({option for ask in playbook.asks for option in (ask.yes, ask.no, *ask.choices) if option})
    words = _LONG_WORDS["zh-CN" if locale == "zh-CN" else "en"]
    word = words.get(slot.name, words["title"])
    text = (word * TEXT_MAX)[: TEXT_MAX + 1]
    return [text if gsm or locale == "zh-CN" else _FOREIGN + text]
