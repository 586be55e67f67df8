"""Overview: how things stand with a tenant, in numbers that cost the same however many orders there are.

What is open now is counted when somebody looks; what happened today comes from the pulse (`orderbell.store.pulse`),
a few seconds behind.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from math import exp
from typing import Final, Literal

import msgspec
from msgspec import Struct

from orderbell.core.events import OWN_SOURCE
from orderbell.store.looking import look
from orderbell.store.postgres import Store
from orderbell.store.pulse import SLOT, SLOT_MINUTES, Beat, decode_beat, decode_counts, slot_of

HOUR_MINUTES: Final = 60
DAY_HOURS: Final = 24
NEWS_MAX: Final = 200
OVERLAP: Final = timedelta(seconds=5)
"""What is written at the same time becomes visible in any order; so long it is looked for again."""

FIRST_NEWS: Final = (timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=4))
"""How far the first look goes back: further only where there was little."""

NEWEST_MESSAGES_MAX: Final = 300
RED_MAX: Final = 5000
"""So many open anomalies are looked through for the orders that they are of; with more the census has to do."""

_BEATS: Final = "SELECT slot, counted_at, body FROM pulse WHERE tenant = $1 AND slot >= $2 AND slot < $3"
_COUNTED_AT: Final = "SELECT max(counted_at) FROM pulse WHERE tenant = '' AND slot >= $1"
_UNKNOWN: Final = "SELECT coalesce(sum(unknown), 0)::bigint FROM pulse WHERE tenant = $1 AND unknown > 0"
_CENSUS: Final = "SELECT counted_at, body FROM census WHERE tenant = $1"
_ANOMALIES: Final = "SELECT name, count(*) FROM anomaly WHERE tenant = $1 AND closed_at IS NULL GROUP BY 1"
_RED: Final = """
SELECT count(*) FROM (
    SELECT order_no FROM anomaly WHERE tenant = $1 AND closed_at IS NULL AND name = ANY ($2::text[]) GROUP BY 1
) AS red
"""
_CASES: Final = "SELECT owner, count(*) FROM cases WHERE tenant = $1 AND closed_at IS NULL GROUP BY 1"
# By time, whatever the statistics are: the index by order would lead through all lines of the tenant.
_STEPS: Final = """
SELECT at, order_no, version, type, source, event_id, verdict, stage, decision FROM journal
WHERE tenant || '' = $1 AND at > $2 AND at <= $3 ORDER BY at DESC LIMIT $4
"""
_SENT: Final = """
SELECT message_id, order_no, topic, channel, status, sending_at FROM (
    SELECT * FROM message WHERE tenant = $1 ORDER BY message_id DESC LIMIT $4
) AS newest
WHERE sending_at > $2 AND sending_at <= $3 AND status <> 'queued'
"""

HappeningKind = Literal["event", "timer", "anomaly_opened", "anomaly_closed", "case_opened", "case_closed", "message"]
_OF_EFFECT: Final[dict[str, HappeningKind]] = {
    "OpenAnomaly": "anomaly_opened", "CloseAnomaly": "anomaly_closed", "OpenCase": "case_opened",
    "CloseCase": "case_closed",
}  # fmt: skip


class Promptness(Struct, frozen=True):
    """How quickly today's news was handed to a provider: each once, by the first channel that took it, inbox left out.

    `count` is how many were, `share` the part of them that were within five minutes of the moment the news arose
    (S0-15); what has waited longer than that and was not handed over yet counts among the others. None where there was
    nothing. Median and 95th percentile in minutes are exact to a tenth of their value.
    """

    count: int = 0
    share: float | None = None
    median_minutes: float | None = None
    p95_minutes: float | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """How things stand with a tenant.

    Now, exactly: `red` (orders with an open anomaly of those that are red; with more than `RED_MAX` of them as of
    `census_at`), `anomalies` that are open by name, `cases` that are not resolved by owner.

    As of `census_at` (seconds ago, with a million orders some minutes; None before the first count): `orders` in all,
    `yellow` (in progress), `green` (done), `stages` by playbook and stage.

    As of `counted_at` (ten seconds ago; None before the first count): `events_per_minute` of the last hour, the oldest
    minute first and the running one last; `events_per_hour` of the last 24 hours likewise, whole hours of UTC; `events`
    taken in since the day began; `messages` about news that arose
    since the day began, by status and channel; `critical` and `all` news; `cost_fen`, what providers charge for the
    messages that they took; `opt_outs` since the day began; `unknown`, messages whose outcome nobody knows, of
    whatever day.
    """

    at: datetime
    counted_at: datetime | None
    census_at: datetime | None
    red: int
    yellow: int
    green: int
    orders: int
    stages: dict[str, dict[str, int]]
    anomalies: dict[str, int]
    cases: dict[str, int]
    events: int
    events_per_minute: list[int]
    events_per_hour: list[int]
    messages: dict[str, dict[str, int]]
    critical: Promptness
    all: Promptness
    cost_fen: float
    opt_outs: int
    unknown: int


class Happening(Struct, frozen=True):
    """Something that happened: `name` is an event's type, an anomaly's name, a case's owner, or a message's topic.

    `stage` is the order's after it, `detail` the channel and status of a message, or the kind of a case. `id` is that
    of a message, else empty.
    """

    kind: HappeningKind
    at: datetime
    order_no: str
    name: str
    stage: str = ""
    detail: str = ""
    id: str = ""


class Marker(Struct, frozen=True):
    """How far the news have been read; for `Overview.news` alone."""

    at: datetime
    seen: frozenset[str]


class _Case(Struct, frozen=True, array_like=True):  # as `core.model.Case`
    id: str = ""
    anomaly: str = ""
    kind: str = ""
    owner: str = ""


class _Effect(Struct, frozen=True):
    type: str
    name: str = ""
    case: _Case = _Case()


_decode_effects = msgspec.json.Decoder(list[_Effect]).decode


class Overview:
    """How things stand with a tenant.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer within five seconds.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    async def figures(
        self,
        now: datetime,
        day_began: datetime,
        red: Collection[str] = (),
        price_millifen: Mapping[str, int] | None = None,
    ) -> Figures:
        """The figures of a moment.

        Args:
            now: The moment, aware.
            day_began: When the day began for whoever looks, a whole five minutes; at most 37 hours ago.
            red: The names of the anomalies that turn an order red.
            price_millifen: What a part of an SMS, or another message, costs by provider, in 1/1000 fen.
        """
        hour_began = now.replace(second=0, microsecond=0) - timedelta(minutes=HOUR_MINUTES - 1)
        first_hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=DAY_HOURS - 1)
        first = slot_of(min(day_began, hour_began, first_hour))
        async with self._store.connection() as connection, look(connection):
            beats = await connection.fetch(_BEATS, self._tenant, first, now)
            counted_at = await connection.fetchval(_COUNTED_AT, first)
            unknown = await connection.fetchval(_UNKNOWN, self._tenant)
            census = await connection.fetchrow(_CENSUS, self._tenant)
            anomalies = await connection.fetch(_ANOMALIES, self._tenant)
            few = sum(row[1] for row in anomalies if row[0] in red) <= RED_MAX
            red_now = await connection.fetchval(_RED, self._tenant, list(red)) if few or census is None else None
            cases = await connection.fetch(_CASES, self._tenant)
        read = {row["slot"]: decode_beat(row["body"]) for row in beats}
        today = {slot: beat for slot, beat in read.items() if slot >= slot_of(day_began)}
        counts = decode_counts(census["body"]) if census is not None else []
        lights = {light: sum(c.count for c in counts if c.light == light) for light in ("red", "yellow", "green")}
        stages: dict[str, dict[str, int]] = {}
        for count in counts:
            of_playbook = stages.setdefault(count.playbook, {})
            of_playbook[count.stage] = of_playbook.get(count.stage, 0) + count.count
        return Figures(
            at=now, counted_at=counted_at, census_at=census["counted_at"] if census is not None else None,
            red=lights["red"] if red_now is None else red_now,
            yellow=lights["yellow"], green=lights["green"], orders=sum(lights.values()), stages=stages,
            anomalies={row[0]: row[1] for row in anomalies}, cases={row[0]: row[1] for row in cases},
            events=sum(sum(beat.events) for beat in today.values()), events_per_minute=_minutes(read, hour_began),
            events_per_hour=_hours(read, first_hour),
            messages=_messages(today), critical=_promptness(today, now, critical_only=True),
            all=_promptness(today, now, critical_only=False), cost_fen=_cost_fen(today, price_millifen or {}),
            opt_outs=sum(beat.opt_outs for beat in today.values()), unknown=unknown,
        )  # fmt: skip

    async def news(self, now: datetime, after: Marker | None = None, limit: int = 50) -> tuple[list[Happening], Marker]:
        """What happened since, the oldest first, at most the newest `limit`; and from where to go on.

        Without a marker: what happened of late. A message is named when it leaves, if its news arose lately.
        """
        backs = [now - after.at + OVERLAP] if after is not None else FIRST_NEWS
        seen = after.seen if after is not None else frozenset()
        steps, sent = [], []
        async with self._store.connection() as connection, look(connection):
            for back in backs:
                steps = await connection.fetch(_STEPS, self._tenant, now - back, now, NEWS_MAX)
                sent = await connection.fetch(_SENT, self._tenant, now - back, now, NEWEST_MESSAGES_MAX)
                if len(steps) + len(sent) >= limit:
                    break
        found: list[Happening] = []
        keys: set[str] = set()
        for at, order_no, version, kind, source, event_id, _verdict, stage, decision in steps:
            key = f"{source}\0{event_id}\0{version}"
            keys.add(key)
            if key in seen:
                continue
            own = source == OWN_SOURCE
            name = event_id.partition("@")[0] if own else kind
            found.append(Happening("timer" if own else "event", at, order_no, name, stage))
            found += [
                Happening(_OF_EFFECT[e.type], at, order_no, e.name or e.case.owner, stage, e.case.kind)
                for e in _decode_effects(decision)
                if e.type in _OF_EFFECT
            ]
        for message_id, order_no, topic, channel, status, sending_at in sent:
            key = message_id.hex()
            keys.add(key)
            if key not in seen:
                found.append(Happening("message", sending_at, order_no, topic, "", f"{channel} {status}", key))
        found.sort(key=lambda one: one.at)
        return found[-limit:], Marker(now, frozenset(keys))


def _minutes(beats: Mapping[datetime, Beat], first: datetime) -> list[int]:
    minutes = [0] * HOUR_MINUTES
    for slot, beat in beats.items():
        offset = (slot - first) // timedelta(minutes=1)
        for minute in range(SLOT_MINUTES):
            if 0 <= offset + minute < HOUR_MINUTES:
                minutes[offset + minute] += beat.events[minute]
    return minutes


def _hours(beats: Mapping[datetime, Beat], first: datetime) -> list[int]:
    hours = [0] * DAY_HOURS
    for slot, beat in beats.items():
        if slot >= first:
            hours[(slot - first) // timedelta(hours=1)] += sum(beat.events)
    return hours


def _messages(beats: Mapping[datetime, Beat]) -> dict[str, dict[str, int]]:
    made: dict[str, dict[str, int]] = {}
    for beat in beats.values():
        for sent in beat.messages:
            of_status = made.setdefault(sent.status, {})
            of_status[sent.channel] = of_status.get(sent.channel, 0) + sent.count
    return made


def _cost_fen(beats: Mapping[datetime, Beat], price_millifen: Mapping[str, int]) -> float:
    sent = (one for beat in beats.values() for one in beat.messages)
    return sum(one.parts * price_millifen.get(one.provider, 0) for one in sent) / 1000


def _promptness(beats: Mapping[datetime, Beat], now: datetime, *, critical_only: bool) -> Promptness:
    classes: dict[int, int] = {}
    in_time = late = 0
    for slot, beat in beats.items():
        for told in beat.told:
            if critical_only and not told.critical:
                continue
            if told.delay_class is None:
                late += told.count if slot + 2 * SLOT <= now else 0
            else:
                classes[told.delay_class] = classes.get(told.delay_class, 0) + told.count
                in_time += told.count if told.in_time else 0
    count = sum(classes.values())
    if not count + late:
        return Promptness()
    share = in_time / (count + late)
    return Promptness(count, share, _percentile(classes, count, 50), _percentile(classes, count, 95))


def _percentile(classes: Mapping[int, int], count: int, percent: int) -> float | None:
    """The middle of the class in which the percentile lies, in minutes."""
    passed = 0
    for delay_class in sorted(classes):
        passed += classes[delay_class]
        if passed * 100 >= count * percent:
            return exp((delay_class + 0.5) / 10) / 60
    return None
