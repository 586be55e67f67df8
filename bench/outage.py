"""The outage test: one of two providers of SMS fails while messages flow, and everybody must be told all the same.

GOV.UK Notify in the same test (one provider answers HTTP 500, 20 messages a second) had 17.2 % of its messages unsent
four minutes later. Counted here, for messages that fell due while the provider was broken: how many had reached no
provider ten seconds after they were due, how many reached two, and how long it took.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from bench.providers import Pair, dispatcher_to, pair
from bench.scratch import Scratch
from bench.stream import TENANT, VAULT
from bench.table import Report, Row
from orderbell.app.clock import system_clock
from orderbell.core.model import Contact, Notice, derive_id, encode_state
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.faults import Faults
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store

TOPIC, PLAYBOOK = "payment_failed", "retail"
PER_S = 20
BEFORE_S, BROKEN_S = 3.0, 25.0
UNSENT_AFTER_S = 10.0

SCENARIOS = {
    "nothing is broken": ("breaks", ""),
    "500 with its error code": ("breaks", "words"),
    "500 without a word": ("breaks", "bare"),
    "500 to everything, questions too": ("breaks", "all"),
    "takes it, never answers": ("faults", Faults(timeout_after_accept=1)),
    "answers after 2.5 s": ("faults", Faults(slow_ms=2500)),
    "200 with an error code": ("fail_with", "isp.SYSTEM_ERROR"),
    "account in arrears": ("fail_with", "isv.AMOUNT_NOT_ENOUGH"),
    "gives no receipts": ("faults", Faults(lose_receipts=1)),
}


class Outcome(Struct, frozen=True):
    """What became of the messages that fell due while the provider was broken; delays in seconds."""

    scenario: str
    messages: int
    unsent: int
    twice: int
    unknown: int
    delay_p50_s: float
    delay_p99_s: float
    by_broken: int


async def outage(store: Store, scenario: str, *, broken_s: float = BROKEN_S, per_s: float = PER_S) -> Outcome:
    """Let messages flow, break Alibaba, and count; takes `broken_s` and about 14 s more."""
    shelf = shipped_shelf()
    ledger = Ledger(store)
    async with pair(ledger, shelf, [TOPIC]) as both:
        dispatcher = dispatcher_to(ledger, {TENANT: shelf}, both.routes())
        running = asyncio.create_task(dispatcher.run())
        try:
            await _flow(store, shelf, 0, BEFORE_S, per_s)
            _break(both, scenario)
            began = system_clock()
            due = await _flow(store, shelf, 1_000_000, broken_s, per_s)
            await asyncio.sleep(UNSENT_AFTER_S + 0.5)
            return await _count(store, both, scenario, due, began)
        finally:
            await dispatcher.close()
            await running


def _break(both: Pair, scenario: str) -> None:
    match SCENARIOS[scenario]:
        case ("breaks", str(how)):
            both.breakable.breaks = how
        case ("faults", Faults() as faults):
            both.ali.faults = faults
        case ("fail_with", str(code)):
            both.ali.fail_with = code


async def _flow(store: Store, shelf: Shelf, first: int, seconds: float, per_s: float) -> dict[str, datetime]:
    """Put notices into the queue, each for a person of their own; gives the moment at which each phone was due."""
    due: dict[str, datetime] = {}
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(first, first + int(seconds * per_s)):
        await asyncio.sleep(max(0.0, began + (number - first) / per_s - loop.time()))
        now = system_clock()
        phone = f"138{number:08}"
        due[phone] = now
        await put(store, shelf, number, now, phone)
    return due


async def put(store: Store, shelf: Shelf, number: int, now: datetime, phone: str, tenant: str = TENANT) -> None:
    """Put one notice for a new person into the queue."""
    rule = shelf.playbooks[PLAYBOOK].notices[TOPIC]
    contact = Contact(tenant, f"c{number}", f"+86{phone}")
    notice = Notice(
        derive_id(now, tenant, number), tenant, contact.id, f"A{number}", "buyer", PLAYBOOK, TOPIC, now, now,
        now + rule.within, now + rule.valid_for, values={"order_no": f"A{number}"},
    )  # fmt: skip
    body = VAULT.seal(tenant, contact.id, encode_state(contact))
    await store.pool.execute("INSERT INTO contact VALUES ($1, $2, $3, $4)", tenant, contact.id, body, now)
    await store.pool.execute(
        "INSERT INTO queue VALUES ($1, $2, $3, 0, $4, $5)", tenant, contact.id, notice.id, now, encode_state(notice)
    )


async def _count(store: Store, both: Pair, scenario: str, due: dict[str, datetime], began: datetime) -> Outcome:
    taken = both.taken_at()
    delays = sorted((min(taken[phone]) - at).total_seconds() for phone, at in due.items() if phone in taken)
    late = sum(delay > UNSENT_AFTER_S for delay in delays)
    unknown = await store.pool.fetchval(
        "SELECT count(*) FROM message WHERE status = 'unknown' AND told_at >= $1", began
    )
    by_ali = {one.to.removeprefix("+86") for one in both.ali.taken}
    return Outcome(
        scenario, len(due), len(due) - len(delays) + late, sum(len(taken.get(phone, ())) > 1 for phone in due), unknown,
        _quantile(delays, 0.5), _quantile(delays, 0.99), sum(phone in by_ali for phone in due),
    )  # fmt: skip


def _quantile(sorted_values: Sequence[float], part: float) -> float:
    return sorted_values[min(int(len(sorted_values) * part), len(sorted_values) - 1)] if sorted_values else 0.0


async def run(report: Report, _rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench; each scenario once, for they take their time by themselves."""
    for scenario in SCENARIOS:
        async with scratch.store() as store:
            found = await outage(store, scenario, broken_s=max(BROKEN_S * scale, 5.0))
        words = (
            f"{found.messages} messages; twice {found.twice}, in doubt {found.unknown}, by the broken one "
            f"{found.by_broken}; due to taken p50 {found.delay_p50_s:.2f} s, p99 {found.delay_p99_s:.2f} s"
        )
        unsent = 100 * found.unsent / found.messages
        aim = 0.0 if found.messages else None
        row = Row(bench="outage", what=scenario, unit="% unsent", values=[unsent], aim=aim, at_most=True, note=words)
        report.rows.append(row)
