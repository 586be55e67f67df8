"""The way to each provider: who may carry what, how well they are, and how quickly messages may leave for them.

The arithmetic is that of `core/routing.py`; here stand the values that change while a process runs. Each process learns
from its own answers, and from the receipts of all (they are counted in the database).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import structlog
from msgspec import Struct

from orderbell.channels.protocol import Answer, Channel, Outcome, Provider, ReceiptsBy, Scope
from orderbell.core import routing
from orderbell.core.events import ChannelName
from orderbell.core.model import Message, Outlook, Told
from orderbell.observe import count
from orderbell.store.ledger import INBOX, Standing, Tally

CLOCK_BACK = timedelta(seconds=1)
LOST_SHARE = 0.5
"""A provider that confirms less than this share of its messages loses traffic for it."""

CONFIRMED_MIN = 20
"""Messages from which on missing receipts mean something."""

LOOK_AGAIN = timedelta(seconds=3)
"""When to come back while a provider is on trial."""

SLOW = timedelta(seconds=1)
"""A request that has been under way for longer keeps its place from others."""

PLACES = 4
"""Requests of a provider under way at once; with so many slow ones it gets no more while another could have them."""

REFUSES_CONTENT = "!"
"""Behind the name of a provider in `tried`: it refuses these words for good."""

PACE_AHEAD = timedelta(milliseconds=100)
"""So much of what a second allows may leave at once: messages come in batches."""

log = structlog.get_logger()

_TROUBLES = frozenset({
    Outcome.RETRY_LATER, Outcome.NOT_SENT, Outcome.UNKNOWN, Outcome.THROTTLED, Outcome.CHANNEL_DOWN,
})  # fmt: skip
_FAILED = frozenset({Outcome.RETRY_LATER, Outcome.NOT_SENT, Outcome.UNKNOWN})


class Terms(Struct, frozen=True):
    """On what terms a shop uses a provider.

    `weight` is its part of the traffic while all are well. `tenants` and `prefixes` (of addresses, such as `+86`) say
    for whom and where to it may be used; empty: for all.
    """

    weight: float = 1.0
    tenants: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()


class Change(Struct, frozen=True):
    """A breaker that opened or closed, for the staff to know."""

    provider: str
    state: routing.State
    reason: str
    detail: str = ""


class Choice(Struct, frozen=True):
    """Where a message goes now: the provider, and its code of the approved template."""

    provider: str
    code: str = ""


class Wait(Struct, frozen=True):
    """Nobody may carry the message before then, and why."""

    until: datetime
    reason: str


RETRY_LATER = timedelta(seconds=30)
"""When to look again for a provider of a message that none can carry now."""


class Routes:
    """All providers of an installation, and what is known of them now.

    Args:
        channels: The providers, each with a name of its own.
        terms: How they may be used, by name; without any, for everything and everybody.
        now: The moment at which all of them count as well.
        changed: Is told when a breaker opens or closes.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        now: datetime,
        terms: Mapping[str, Terms] | None = None,
        changed: Callable[[Change], None] = lambda _: None,
    ) -> None:
        self.channels = {channel.name: channel for channel in channels}
        self._terms = {name: (terms or {}).get(name, Terms()) for name in self.channels}
        self._health = {name: routing.Health(now) for name in self.channels}
        self._changed = changed
        self._flying: dict[str, dict[bytes, datetime]] = {name: {} for name in self.channels}
        self._troubles: dict[str, str] = {}  # the last words of each provider about a failure
        self._carriers: dict[str, list[Channel]] = {}
        for channel in self.channels.values():
            for carried in channel.carries - {INBOX}:
                self._carriers.setdefault(carried, []).append(channel)
        self._codes: dict[str, dict[str, str]] = {}
        # Most providers go everywhere; only where one does not each address needs a look.
        self._is_choosy = any(terms.prefixes for terms in self._terms.values()) or any(
            getattr(type(channel), "takes", None) is not Provider.takes for channel in self.channels.values()
        )
        self._paces: dict[tuple[str, bool], routing.Pace] = {}
        self._clock = now
        self.set_workers(1)

    @property
    def open(self) -> list[ChannelName]:
        """The channels that some provider carries, and the inbox."""
        return [*cast("list[ChannelName]", list(self._carriers)), "inbox"]

    @property
    def health(self) -> Mapping[str, routing.Health]:
        """What is known of each provider."""
        return self._health

    @property
    def in_flight(self) -> Mapping[str, int]:
        """How many requests to each provider are under way."""
        return {name: len(requests) for name, requests in self._flying.items()}

    @property
    def standings(self) -> list[Standing]:
        """How each provider stands now, with the last trouble in its own words."""
        return [
            Standing(name, health.state, health.reason, self._troubles.get(name, ""), health.retry_at)
            for name, health in self._health.items()
        ]

    def set_workers(self, worker_count: int) -> None:
        """Share what providers allow in a second with the other processes that send."""
        for name, channel in self.channels.items():
            if channel.limits.per_second:
                rate = channel.limits.per_second / worker_count
                for critical in (False, True):
                    old = self._paces.get((name, critical))
                    self._paces[name, critical] = routing.Pace(rate, old.next_at if old else self._health[name].at)

    def set_templates(self, codes: Mapping[str, Mapping[str, str]]) -> None:
        """Take over the approved templates: by provider, by text, its code."""
        self._codes = {name: dict(found) for name, found in codes.items()}

    def outlook(self, tenant: str, patience: Mapping[ChannelName, timedelta], statuses: Mapping[bytes, str]) -> Outlook:
        """What the planner of a tenant needs to know."""
        carriers = {
            channel: [one for one in found if self._serves(one.name, tenant)]
            for channel, found in self._carriers.items()
        }
        open_ = {channel: wait for channel, wait in patience.items() if channel == INBOX or carriers.get(channel)}
        templated = {channel for channel, found in carriers.items() if any(one.needs_template for one in found)}
        approved = {
            channel: _Approved([self._codes.get(one.name, {}) for one in found])
            for channel, found in carriers.items()
            if found and all(one.needs_template for one in found)
        }
        silent = {channel for channel, found in carriers.items() if found and not any(map(_confirms, found))}
        names = cast("Callable[[Iterable[str]], frozenset[ChannelName]]", frozenset)
        return Outlook(
            open_, statuses, names(templated), cast("Mapping[ChannelName, _Approved]", approved), names(silent),
            self._reaches(carriers) if self._is_choosy else None,
        )  # fmt: skip

    def _reaches(self, carriers: Mapping[str, Sequence[Channel]]) -> Callable[[ChannelName, str], bool]:
        def reaches(channel: ChannelName, address: str) -> bool:
            return channel == INBOX or any(self._goes_to(one, address) for one in carriers.get(channel, ()))

        return reaches

    def _goes_to(self, channel: Channel, address: str) -> bool:
        prefixes = self._terms[channel.name].prefixes
        return (not prefixes or address.startswith(prefixes)) and channel.takes(address)

    def choose(
        self,
        message: Message,
        key: bytes,
        now: datetime,
        tried: Sequence[str] = (),
        told: Sequence[Told] = (),
        *,
        paced: bool = True,
    ) -> Choice | Wait:
        """Draw a provider for a message; `told` is what its person heard lately, the oldest first.

        A provider in `tried` failed this message and is not drawn while another one is left. One that is not `paced`
        has had its place reserved before.
        """
        self._notice_clock(now)
        able = [one for one in self._able(message) if f"{one.name}{REFUSES_CONTENT}" not in tried]
        if not able:
            return Wait(now + RETRY_LATER, "no_provider")
        fresh = [one for one in able if one.name not in tried] or able
        well = [one for one in fresh if routing.is_open_to(self._faded(one.name, now), now)]
        if not well:
            # what failed it once is still better than nobody, when it is well and the others are not
            well = [one for one in able if routing.is_open_to(self._faded(one.name, now), now)]
        if not well:
            return Wait(self._opens_at(able, now), "providers_away")
        free = well
        if told:
            free_at = {one.name: _free_at(one, message, told, now) for one in well}
            free = [one for one in well if free_at[one.name] is None]
            if not free:
                return Wait(min(at for at in free_at.values() if at is not None), "recipient_limit")
        if len(free) > 1:
            free = [one for one in free if not self._is_slow(one.name, now)] or free
        routes = [
            routing.Route(one.name, self._terms[one.name].weight, one.price_millifen, self._health[one.name])
            for one in free
        ]
        name = routing.draw(routes, key)
        leaves_at = self._reserve(name, message.lane == "critical", now) if paced else now
        if leaves_at > now + PACE_AHEAD:
            return Wait(leaves_at, "paced")
        if self._health[name].state == "half_open":
            self._health[name] = routing.begin_trial(self._health[name], now)
        return Choice(name, self.code_of(self.channels[name], message))

    def another_at(self, message: Message, tried: Sequence[str], now: datetime) -> datetime | None:
        """From when somebody else could carry a message; None where there is nobody else.

        One that failed it before counts once its turn comes again; one that refused its words does not.
        """
        able = [one for one in self._able(message) if f"{one.name}{REFUSES_CONTENT}" not in tried]
        fresh = [one for one in able if one.name not in tried]
        if any(routing.is_open_to(self._faded(one.name, now), now) for one in fresh):
            return now
        others = fresh or [one for one in able if not tried or one.name != tried[-1]]
        return self._opens_at(others, now) if others else None

    def may_carry(self, channel: Channel, message: Message) -> bool:
        """Whether a provider is used for such a message at all, by its terms and the address."""
        return (
            message.channel in channel.carries
            and self._serves(channel.name, message.tenant)
            and self._goes_to(channel, message.to)
        )

    def left(self, provider: str, request: bytes, now: datetime) -> None:
        """Put down that a request is under way."""
        self._flying[provider][request] = now

    def landed(self, provider: str, request: bytes) -> None:
        """Put down that it is no more, whatever came of it."""
        self._flying[provider].pop(request, None)

    def saw(self, provider: str, answers: Sequence[Answer], now: datetime) -> None:
        """Learn from the answers to a request."""
        before = self._health[provider]
        words = [answer.detail or str(answer.outcome) for answer in answers if answer.outcome in _TROUBLES]
        if words:
            self._troubles[provider] = words[-1]
        accepted = sum(answer.outcome is Outcome.ACCEPTED for answer in answers)
        failed = sum(answer.outcome in _FAILED for answer in answers)
        health = routing.saw(before, now, accepted, failed)
        for answer in answers:
            if answer.outcome is Outcome.CHANNEL_DOWN:
                pause = max(routing.ACCOUNT_PAUSE, timedelta(seconds=answer.retry_after_s))
                health = routing.trip(health, now, "account", pause)
            elif answer.outcome is Outcome.THROTTLED and answer.scope is Scope.PROVIDER:
                health = routing.trip(health, now, "throttled", timedelta(seconds=max(answer.retry_after_s, 1.0)))
        self._health[provider] = health
        if (before.state == "closed") != (health.state == "closed"):  # a trial that failed is no news
            count(f"dispatch.breaker_{health.state}")
            detail = next((a.detail for a in answers if a.outcome is not Outcome.ACCEPTED), "")
            log.warning(
                "provider is well again" if health.state == "closed" else "provider is paused",
                provider=provider, reason=health.reason or before.reason, detail=detail,
                until=health.retry_at.isoformat("T", "seconds") if health.retry_at else "",
            )  # fmt: skip
            self._changed(Change(provider, health.state, health.reason or before.reason, detail))

    def heard(self, tallies: Iterable[Tally]) -> None:
        """Learn from the receipts of the last minutes."""
        for tally in tallies:
            channel = self.channels.get(tally.provider)
            if channel is None or not _confirms(channel):
                continue
            part = tally.received / tally.accepted if tally.accepted >= CONFIRMED_MIN else 1.0
            confirmed = 1.0 if part >= LOST_SHARE else max(part, 0.05)
            self._health[tally.provider] = routing.heard(self._health[tally.provider], confirmed, tally.delay_s)

    def _is_slow(self, name: str, now: datetime) -> bool:
        flying = self._flying[name]
        return len(flying) >= PLACES and sum(now - at > SLOW for at in flying.values()) >= PLACES

    def _faded(self, name: str, now: datetime) -> routing.Health:
        health = self._health[name] = routing.fade(self._health[name], now)
        return health

    def _opens_at(self, able: Sequence[Channel], now: datetime) -> datetime:
        times = [self._health[one.name].retry_at for one in able]
        later = [at for at in times if at is not None and at > now]
        return min(later, default=now + LOOK_AGAIN)

    def _reserve(self, name: str, critical: bool, now: datetime) -> datetime:  # noqa: FBT001 - which of two
        pace = self._paces.get((name, critical))
        if pace is None:
            return now
        self._paces[name, critical], at = routing.reserve(pace, now)
        if critical:  # a line of its own, so that no flood that was there first keeps it waiting: the flood moves back
            self._paces[name, False], _ = routing.reserve(self._paces[name, False], now)
        return at

    def _able(self, message: Message) -> list[Channel]:
        return [one for one in self._carriers.get(message.channel, ()) if self._can_carry(one, message)]

    def _notice_clock(self, now: datetime) -> None:
        """A clock that is set back must keep nobody waiting for the time that it shows once more."""
        back = self._clock - now
        self._clock = now
        if back > CLOCK_BACK:
            self._health = {name: routing.turned_back(health, back) for name, health in self._health.items()}
            self._paces = {key: routing.Pace(pace.per_second, now) for key, pace in self._paces.items()}

    def _serves(self, name: str, tenant: str) -> bool:
        tenants = self._terms[name].tenants
        return not tenants or tenant in tenants

    def _can_carry(self, channel: Channel, message: Message) -> bool:
        return self.may_carry(channel, message) and (not channel.needs_template or bool(self.code_of(channel, message)))

    def code_of(self, channel: Channel, message: Message) -> str:
        """A provider's code of the approved template of a message; empty where it needs or has none."""
        if not channel.needs_template:
            return ""
        return self._codes.get(channel.name, {}).get(message.template, "")


def _free_at(channel: Channel, message: Message, told: Sequence[Told], now: datetime) -> datetime | None:
    """When a provider's limits allow one more message to this address; None for now.

    A topic stands for its template: the same news of another order fills the same one.
    """
    limits = channel.limits
    if not limits.per_recipient and not limits.per_template:
        return None
    same = [one for one in told if one.channel == message.channel]
    alike = [one.at for one in same if one.topic == message.topic]
    times = (
        routing.free_at([one.at for one in same], limits.per_recipient, now),
        routing.free_at(alike, limits.per_template, now),
    )
    return max((at for at in times if at is not None), default=None)


def _confirms(channel: Channel) -> bool:
    return channel.receipts_by is not ReceiptsBy.NONE and channel.confirms_delivery


class _Approved:
    """The texts that at least one of some providers has approved."""

    def __init__(self, codes: Sequence[Mapping[str, str]]) -> None:
        self._codes = codes

    def __contains__(self, text: object) -> bool:
        return any(text in codes for codes in self._codes)
