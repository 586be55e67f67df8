"""Tells the staff: collects alerts and untold cases, and hands each robot one message now and then.

Robots take 20 messages a minute and are shut for minutes beyond that, so alerts wait for a few seconds and go out
together. An alert goes to the first robot of its role that takes it. What no robot took is kept, in memory or in the
table of cases, and goes along with the next message. After a lost answer it is told again: a colleague rather reads
something twice than never.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta, tzinfo
from typing import Final

import structlog

from orderbell.channels.protocol import Answer, Channel, Outcome, Outgoing
from orderbell.core.model import derive_id
from orderbell.dispatch.digest import (
    GROUPS_MAX,
    Alert,
    Gravity,
    Group,
    Key,
    Locale,
    bound,
    case_alert,
    compose,
    count_of,
    gather,
    group,
    hold,
    join,
    share_out,
)
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count, failpoint
from orderbell.store.casework import Casework, UntoldCase

EVERY_S: Final = 15.0
EVERY_S_MIN: Final = 4.0
"""15 messages a minute of the 20 that a robot takes."""

CASES_MAX: Final = 1_000
"""Of one message; more are told with the next."""

REST_MAX: Final = timedelta(minutes=10)
AGAIN_AFTER: Final = timedelta(minutes=10)
"""When staff is reminded of a state that it was told of."""

STATES_MAX: Final = 1_000

log = structlog.get_logger()


class Alerts:
    """Alerts on their way to the staff.

    Args:
        channel: The robots.
        robots: The robots' names with the roles that each takes, none for all; the first choice first.
        now: The clock, aware UTC.
        every_s: Seconds between two messages to a robot. Every process has its own alerts: where more than four of
            them share the robots it must be longer.
        locale: The language of the staff.
        zone: Where the staff is, for the times in the messages.
        casework: The cases of the database; None where they are told elsewhere.
        tenants: Those whose cases are told.
        name_of: What an anomaly is called in the language of the staff.

    Raises:
        ValueError: `every_s` is so short that the robots would shut.
    """

    def __init__(
        self,
        channel: Channel,
        robots: Mapping[str, Collection[str]],
        *,
        now: Callable[[], datetime],
        zone: tzinfo,
        every_s: float = EVERY_S,
        locale: Locale = "zh-CN",
        casework: Casework | None = None,
        tenants: Callable[[], Iterable[str]] = tuple,
        name_of: Callable[[str], str] = str,
    ) -> None:
        if every_s < EVERY_S_MIN:
            raise ValueError(f"every_s={every_s} must be {EVERY_S_MIN} or more: robots take 20 messages a minute")
        self._channel, self._robots, self._now, self._zone = channel, robots, now, zone
        self._every_s, self._locale = every_s, locale
        self._casework, self._tenants, self._name_of = casework, tenants, name_of
        self._kept: dict[Key, Group] = {}
        self._reminders: dict[Key, datetime] = {}
        self._states: dict[str, tuple[str, datetime]] = {}
        self._resting: dict[str, tuple[datetime, int]] = {}
        self._doubted: set[str] = set()
        self._late: set[bytes] = set()
        self._message_count = 0
        self._closing = asyncio.Event()

    def tell(self, *alerts: Alert) -> None:
        """Take alerts; they go out with the next message. Never waits and never fails."""
        for alert in alerts:
            one = group(alert)
            due_at = self._repeated(alert)
            if due_at is None:
                self._reminders.pop(one.key, None)
            elif one.key not in self._kept:
                self._reminders[one.key] = due_at
            self._keep([one])

    @property
    def kept_count(self) -> int:
        """How many alerts wait in memory."""
        return count_of(list(self._kept.values()))

    async def flush(self) -> int:
        """Tell what is there now; returns how many alerts and cases robots took."""
        async with AsyncExitStack() as stack:
            return await self._round(await self._claim(stack))

    async def run(self) -> None:
        """Tell every few seconds until `close`, and then once more."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._closing.wait()
            try:
                await self.flush()
            except Exception:
                # Whatever it was, the next alerts must get out.
                log.exception("staff could not be told")
                count("alerts.failed")

    async def close(self) -> None:
        """Let `run` end."""
        self._closing.set()

    def _repeated(self, alert: Alert) -> datetime | None:
        """When an alert that says nothing new is due as a reminder; None where it is new."""
        now = self._now()
        kind, at = self._states.get(alert.about, ("", now))
        # By its kind alone: the words of providers differ from answer to answer.
        if alert.about and kind == alert.kind and now < at + AGAIN_AFTER:
            return at + AGAIN_AFTER
        if alert.about:
            self._states.pop(alert.about, None)
            self._states[alert.about] = (alert.kind, now)
            if len(self._states) > STATES_MAX:
                del self._states[next(iter(self._states))]
        return None

    def _keep(self, groups: Iterable[Group]) -> None:
        for one in groups:
            known = self._kept.get(one.key)
            self._kept[one.key] = one if known is None else join(known, one)
        if len(self._kept) > GROUPS_MAX:
            self._kept = bound(self._kept.values(), self._locale)

    async def _claim(self, stack: AsyncExitStack) -> list[UntoldCase]:
        """The untold cases, if it is for us to tell them; then nobody else does until the stack is left."""
        if self._casework is None:
            return []
        tenants = list(self._tenants())
        try:
            if await self._casework.waiting(tenants) and await stack.enter_async_context(self._casework.on_duty()):
                return await self._casework.untold(tenants, CASES_MAX)
        except DatabaseUnavailable as problem:
            log.warning("cases cannot be read for the staff", problem=str(problem))
        return []

    async def _round(self, cases: Sequence[UntoldCase]) -> int:
        now = self._now()
        waiting = self._take(now)
        of_cases: dict[str, list[UntoldCase]] = {}
        for case in cases:
            of_cases.setdefault(case.owner, []).append(case)
        roles = sorted({role for role, _ in waiting} | of_cases.keys())
        closed = {name for name, (until, _) in self._resting.items() if now < until}
        told_count = 0
        try:
            while shared := share_out(roles, self._robots, closed):
                closed |= shared.keys()
                for robot, answer in (await self._send(shared, waiting, of_cases, now)).items():
                    if answer.outcome is Outcome.ACCEPTED:
                        told = [case for role in shared[robot] for case in of_cases.pop(role, [])]
                        done = [key for key in waiting if key[0] in shared[robot]]
                        told_count += len(told) + count_of([waiting.pop(key) for key in done])
                        roles = [role for role in roles if role not in shared[robot]]
                        await self._accepted(robot, shared[robot], told)
                    else:
                        self._refused(robot, shared[robot], answer)
        finally:
            self._keep(hold(one) for one in waiting.values())
            self._late = {case.id for left in of_cases.values() for case in left}
        if roles:
            count("alerts.held", len(self._late) + count_of(list(waiting.values())))
        count("alerts.told", told_count)
        return told_count

    def _take(self, now: datetime) -> dict[Key, Group]:
        """Take out what is to be told now: everything, unless there is nothing but reminders that are not due."""
        if all(now < self._reminders.get(key, now) for key in self._kept):
            return {}
        waiting, self._kept = self._kept, {}
        self._reminders.clear()
        return waiting

    async def _send(
        self,
        shared: Mapping[str, Sequence[str]],
        waiting: Mapping[Key, Group],
        of_cases: Mapping[str, Sequence[UntoldCase]],
        now: datetime,
    ) -> dict[str, Answer]:
        """Hand each robot one message about all of its roles."""
        batch = [self._write(robot, roles, waiting, of_cases, now) for robot, roles in shared.items()]
        answers = {answer.attempt_id: answer for answer in await self._channel.send(batch)}
        silent = Outcome.UNKNOWN
        return {
            one.to: answers.get(one.attempt_id, Answer(one.attempt_id, silent, detail="no answer")) for one in batch
        }

    def _write(
        self,
        robot: str,
        roles: Sequence[str],
        waiting: Mapping[Key, Group],
        of_cases: Mapping[str, Sequence[UntoldCase]],
        now: datetime,
    ) -> Outgoing:
        kept = [one for (role, _), one in waiting.items() if role in roles]
        cases = [self._group_of(case) for role in roles for case in of_cases.get(role, ())]
        groups = list(gather([*kept, *cases]).values())
        text = compose(groups, now, self._locale, self._zone, doubt=not self._doubted.isdisjoint(roles))
        self._message_count += 1
        attempt_id = derive_id(now, "staff", robot, self._message_count)
        urgent = any(one.gravity is Gravity.GRAVE for one in groups)
        return Outgoing(attempt_id, "staff", robot, text, topic="staff_alerts", urgent=urgent)

    def _group_of(self, case: UntoldCase) -> Group:
        name = self._name_of(case.anomaly)
        alert = case_alert(case.kind, case.anomaly, case.owner, case.order_no, case.opened_at, name, self._locale)
        return hold(group(alert)) if case.id in self._late else group(alert)

    async def _accepted(self, robot: str, roles: Sequence[str], told: Sequence[UntoldCase]) -> None:
        self._resting.pop(robot, None)
        self._doubted -= set(roles)
        failpoint("alerts.accepted")
        if not told or self._casework is None:
            return
        problem = "turns hold their rows"
        try:
            left = await self._casework.mark_told(told, self._now())
        except DatabaseUnavailable as unavailable:
            left, problem = len(told), str(unavailable)
        if left:
            self._doubted |= set(roles)
            log.warning("cases will be told again", cases=left, problem=problem)

    def _refused(self, robot: str, roles: Sequence[str], answer: Answer) -> None:
        """Leave a robot alone for a while, longer each time."""
        failures = self._resting.get(robot, (self._now(), 0))[1] + 1
        grown = min(timedelta(seconds=self._every_s) * 2 ** min(failures, 10), REST_MAX)
        rest = max(grown, timedelta(seconds=answer.retry_after_s))
        self._resting[robot] = (self._now() + rest, failures)
        if answer.outcome is Outcome.UNKNOWN:
            self._doubted |= set(roles)
        count(f"alerts.{answer.outcome}")
        log.warning(
            "robot does not take alerts", robot=robot, outcome=answer.outcome, detail=answer.detail,
            rest_s=rest.total_seconds(),
        )  # fmt: skip
