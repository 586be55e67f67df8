"""Outreach at size: claims among a million contacts, and what caps, merging and preferences cost a dispatcher."""

import dataclasses
import gc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import perf_counter

from bench.dispatch import measure
from bench.scratch import Scratch
from bench.seed import seeded
from bench.stream import TENANT, VAULT
from bench.table import Report, Sample, figure_row, interleave, percentile, rate_row, ratio_row
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.model import Contact, Notice, derive_id, encode_state
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.dispatch.patience import patience_of
from orderbell.dispatch.planning import Planner
from orderbell.dispatch.routes import Routes
from orderbell.playbooks import shipped_shelf
from orderbell.store.ledger import Claim, Ledger, Pending, Planned
from orderbell.store.postgres import Store
from orderbell.store.rows import phone_key

CONTACTS = 1_000_000
DUE = 100_000
ORDERS = 20_000
BATCH = 500
CLAIM_AIM_MS = 50
COST_AIM = 0.85


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    claims = [await _claims(scratch, scale) for _ in range(max(1, rounds // 2))]
    note = f"{int(CONTACTS * scale):,} contacts, {claims[-1].count:,} of them due at once, {BATCH} a claim"
    report.rows.append(figure_row("outreach", "claim, p99", "ms", claims, "claim_p99_ms", aim=CLAIM_AIM_MS, note=note))
    report.rows.append(figure_row("outreach", "claim, median", "ms", claims, "claim_median_ms"))
    report.rows.append(rate_row("outreach", "notices claimed, planned and written", "/s", claims))
    async with seeded(scratch, int(ORDERS * scale), queued=True) as (template, _):
        shelves = {"with": shipped_shelf(), "without": _bare(shipped_shelf())}
        runs = {name: (lambda shelf=shelf: measure(scratch, template, shelf)) for name, shelf in shelves.items()}
        samples = await interleave(rounds, runs)
    report.rows.append(rate_row("outreach", "messages with caps, merging, preferences", "/s", samples["with"]))
    report.rows.append(rate_row("outreach", "messages without", "/s", samples["without"]))
    what = "with against without"
    report.rows.append(ratio_row("outreach", what, samples["with"], samples["without"], aim=COST_AIM))


def _bare(shelf: Shelf) -> Shelf:
    """The same playbooks without caps, merging, fallback and review."""

    def bare(book: Playbook) -> Playbook:
        rules = {
            topic: dataclasses.replace(rule, covers=frozenset(), after=frozenset(), fallback=False)
            for topic, rule in book.notices.items()
        }
        return dataclasses.replace(book, caps=(), review=None, after=frozenset(), notices=rules)

    return Shelf({name: bare(book) for name, book in shelf.playbooks.items()}, shelf.default)


async def _claims(scratch: Scratch, scale: float) -> Sample:
    """Plan everything that is due, claim by claim; nothing is sent."""
    async with scratch.store() as store:
        now = datetime.now(UTC)
        due_count = int(DUE * scale)
        await _fill(store, int(CONTACTS * scale), due_count, now)
        ledger = Ledger(store)
        worker = await ledger.take_lease("bench", timedelta(minutes=10))
        channel = SandboxChannel("http://127.0.0.1:9")
        planner = Planner({TENANT: shipped_shelf()}, Routes([channel], now), now, patience_of(["sms", "inbox"], {}))
        claim = Claim(now, BATCH, [TENANT], worker)
        waits_ms: list[float] = []
        began = asked_at = perf_counter()

        def plan(pendings: list[Pending]) -> Planned:
            waits_ms.append((perf_counter() - asked_at) * 1000)
            return planner.plan(pendings, worker)

        gc.collect()
        gc.freeze()  # as `orderbell worker` does
        planned_count = 0
        while True:
            asked_at = perf_counter()
            planned = await ledger.plan_due(claim, plan)
            if not planned.fates:
                break
            planned_count += len(planned.fates)
        seconds = perf_counter() - began
        gc.unfreeze()
        await channel.close()
    assert planned_count == due_count, (planned_count, due_count)
    figures = {"claim_p99_ms": percentile(waits_ms, 99), "claim_median_ms": percentile(waits_ms, 50)}
    return Sample(planned_count, seconds, figures=figures)


async def _fill(store: Store, contact_count: int, due_count: int, now: datetime) -> None:
    key = VAULT.index_key(TENANT)

    def people() -> Iterator[tuple[object, ...]]:
        for number in range(contact_count):
            one = Contact(TENANT, f"c{number:07d}", f"+86138{number:08d}", checked_at=now)
            yield TENANT, one.id, VAULT.seal(TENANT, one.id, encode_state(one)), now, phone_key(key, one.phone)

    def waiting() -> Iterator[tuple[object, ...]]:
        step = max(1, contact_count // due_count)
        for number in range(due_count):
            order_no = f"B{number:07d}"
            at = now - timedelta(seconds=60 + number / 1000)
            notice = Notice(
                derive_id(at, order_no), TENANT, f"c{number * step:07d}", order_no, "buyer", "retail", "payment_failed",
                at, at, at + timedelta(minutes=5), at + timedelta(hours=6), values={"order_no": order_no},
            )  # fmt: skip
            yield TENANT, notice.contact, notice.id, 0, notice.due_at, encode_state(notice)

    columns = ("tenant", "contact", "body", "updated_at", "phone_key")
    await store.pool.copy_records_to_table("contact", records=people(), columns=columns, timeout=600)
    await store.pool.copy_records_to_table("queue", records=waiting(), timeout=600)
    await store.pool.execute("VACUUM ANALYZE contact, queue", timeout=600)
