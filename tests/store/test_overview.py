"""The figures of the overview are those of the rows, and the news are told once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import pytest

from orderbell.store import overview as module
from orderbell.store import pulse
from orderbell.store.overview import Figures, Overview, Promptness
from orderbell.store.postgres import Store
from orderbell.store.pulse import BACK, SLOT, Rollup, slot_of
from tests.dispatch.rig import NOON
from tests.town import Town, running_town

MIDNIGHT = NOON.replace(hour=0)
RED = ["payment_failed"]
PRICES = {"scripted": 4500}


@pytest.fixture
async def town(store: Store) -> AsyncIterator[Town]:
    """A town in which three orders were placed at noon, and the payment of two failed."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(running_town(store))
        for number in range(3):
            await made.tell("order.placed", f"A{number}", people={"buyer": {"phone": f"+861380013800{number}"}})
        for number in range(2):
            await made.tell("payment.failed", f"A{number}")
        yield made


async def count(town: Town) -> None:
    """Count what is due."""
    rollup = Rollup(town.store, town.clock)
    while await rollup.round():
        pass


async def figures(town: Town, tenant: str = "acme", day_began: datetime = MIDNIGHT) -> Figures:
    """The figures of this moment."""
    return await Overview(town.store, tenant).figures(town.clock(), day_began, RED, PRICES)


async def test_figures_are_those_of_the_rows(town: Town) -> None:
    """Orders, lights, anomalies, events and messages are counted, each where it belongs."""
    await town.tell("stock.short", "A2")
    await town.dispatcher.step()
    await count(town)
    found = await figures(town)
    assert (found.orders, found.red, found.green) == (3, 2, 0)
    assert found.stages == {"retail": {"placed": 3}}
    rows = await town.store.pool.fetch("SELECT name, count(*) FROM anomaly WHERE closed_at IS NULL GROUP BY 1")
    assert found.anomalies == {row[0]: row[1] for row in rows}
    assert found.anomalies["payment_failed"] == 2
    assert sum(found.cases.values()) == await town.store.pool.fetchval("SELECT count(*) FROM cases")
    assert found.events == 6
    assert found.events_per_minute == [0] * 59 + [6]
    assert found.events_per_hour == [0] * 23 + [6]
    sent = await town.store.pool.fetchval("SELECT count(*) FROM message WHERE channel = 'sms'")
    assert found.messages["accepted"]["sms"] == sent
    assert found.cost_fen == 4.5 * sent
    assert (found.opt_outs, found.unknown) == (0, 0)
    assert (found.counted_at, found.census_at) == (town.clock(), town.clock())


async def test_red_orders_are_those_of_the_census_where_they_are_many(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With very many open anomalies the red orders are not counted anew for every look."""
    await count(town)
    await town.tell("payment.failed", "A2")
    assert (await figures(town)).red == 3
    monkeypatch.setattr(module, "RED_MAX", 2)
    assert (await figures(town)).red == 2


async def test_figures_before_the_first_count_are_empty(town: Town) -> None:
    """Where nothing was counted yet the figures say so, and what is open now is right all the same."""
    found = await figures(town)
    assert (found.counted_at, found.census_at, found.orders, found.events) == (None, None, 0, 0)
    assert (found.red, found.anomalies) == (2, {"payment_failed": 2})
    assert found.critical == found.all == Promptness()


async def test_tenants_have_their_own_figures(town: Town) -> None:
    """What happens to one tenant is in no figure of another."""
    await town.tell("order.placed", "B1", tenant="other")
    await town.dispatcher.step()
    await count(town)
    found = await figures(town, "other")
    assert (found.orders, found.red, found.events, found.anomalies, found.messages) == (1, 0, 1, {}, {})
    assert (await Overview(town.store, "other").news(town.clock()))[0][0].order_no == "B1"
    assert len((await Overview(town.store, "other").news(town.clock()))[0]) == 1


async def test_promptness_tells_who_was_told_in_time(town: Town) -> None:
    """News handed over after more than five minutes, and news that still waits then, lower the share of five minutes."""
    await town.dispatcher.step()
    await count(town)
    found = (await figures(town)).critical
    assert (found.count, found.share) == (2, 1.0)
    assert found.p95_minutes is not None
    assert found.p95_minutes < 0.1
    set_delay = "UPDATE message SET sending_at = created_at + $2::interval WHERE order_no = $1"
    await town.store.pool.execute(set_delay, "A1", timedelta(seconds=600))
    await _count_anew(town)
    found = (await figures(town)).critical
    assert (found.count, found.share) == (2, 0.5)
    assert found.median_minutes is not None
    assert found.p95_minutes == pytest.approx(10, rel=0.1)
    await town.store.pool.execute("UPDATE message SET status = 'queued' WHERE order_no = 'A0'")
    town.clock.turn(11 * 60)
    await _count_anew(town)
    found = (await figures(town)).all
    assert (found.count, found.share) == (1, 0.0)
    await town.store.pool.execute("UPDATE message SET status = 'rejected' WHERE order_no = 'A0'")
    await _count_anew(town)
    assert ((await figures(town)).all.count, (await figures(town)).all.share) == (1, 0.0)


async def test_news_on_two_channels_counts_once_by_the_first(town: Town) -> None:
    """A second message that follows on another channel makes nobody later than the first one was."""
    await town.dispatcher.step()
    await town.store.pool.execute(
        "INSERT INTO message SELECT (r).* FROM (SELECT jsonb_populate_record(m, jsonb_build_object('message_id',"
        " '\\x' || encode(substring(message_id FROM 1 FOR 6) || int8send(7) || '\\x0000', 'hex'), 'attempt_id',"
        " '\\x0707', 'channel', 'email', 'sending_at', created_at + interval '1 hour')) AS r FROM message m"
        " WHERE order_no = 'A0') AS copied"
    )
    await count(town)
    found = await figures(town)
    assert (found.critical.count, found.critical.share) == (2, 1.0)
    assert found.messages["accepted"] == {"sms": 2, "email": 1}


async def test_long_sms_cost_by_their_parts(town: Town) -> None:
    """Every part of a long SMS is paid, and what no provider took costs nothing."""
    await town.dispatcher.step()
    for text, parts in (("字" * 70, 1), ("字" * 71, 2), ("x" * 160, 1), ("x" * 161, 2), ("x" * 307, 3)):
        await town.store.pool.execute("UPDATE message SET text = $1", text)
        await town.store.pool.execute("UPDATE message SET status = 'rejected' WHERE order_no = 'A1'")
        await _count_anew(town)
        assert (await figures(town)).cost_fen == 4.5 * parts, text


async def test_days_begin_where_they_are_said_to(town: Town) -> None:
    """What arose before the day began is not of today, and events leave the hour after an hour."""
    town.clock.turn(3600)
    await town.tell("order.placed", "A9")
    await count(town)
    found = await figures(town, day_began=town.clock().replace(minute=0, second=0))
    assert found.events == 1
    assert (await figures(town)).events == 6
    assert sum(found.events_per_minute) == 1
    assert found.events_per_minute[-1] == 1
    assert found.events_per_hour[-2:] == [5, 1]


async def test_unknown_messages_are_counted_until_they_are_known(town: Town) -> None:
    """A message in doubt is counted, and no longer when its outcome is heard, however long ago it was sent."""
    await town.dispatcher.step()
    await town.store.pool.execute("UPDATE message SET status = 'unknown' WHERE order_no = 'A0'")
    await count(town)
    assert (await figures(town)).unknown == 1
    town.clock.turn(26 * 3600)
    await town.store.pool.execute("UPDATE message SET status = 'delivered'")
    await count(town)
    assert (await figures(town)).unknown == 0


async def test_opt_outs_are_counted(town: Town) -> None:
    """Those who opted out today are counted, and those who opted in are not."""
    await town.store.pool.execute(
        "INSERT INTO consent VALUES ('acme', 'a', 'marketing', false, $1, 's', ''),"
        " ('acme', 'b', 'marketing', true, $1, 's', ''), ('other', 'a', 'marketing', false, $1, 's', '')",
        town.clock(),
    )
    await count(town)
    assert (await figures(town)).opt_outs == 1


async def test_slots_are_counted_again_while_something_is_open(town: Town) -> None:
    """A slot is counted anew as long as its messages have no end, more rarely the older it is, and then no more."""
    await town.dispatcher.step()
    rollup = Rollup(town.store, town.clock)
    while await rollup.round():
        pass
    slot = slot_of(town.clock())
    counted_at = "SELECT counted_at FROM pulse WHERE tenant = '' AND slot = $1"
    first_at = await town.store.pool.fetchval(counted_at, slot)
    town.clock.turn(3600)
    await count(town)
    second_at = await town.store.pool.fetchval(counted_at, slot)
    assert second_at == town.clock() > first_at
    town.clock.turn(60)
    await count(town)
    assert await town.store.pool.fetchval(counted_at, slot) == second_at
    await town.store.pool.execute("UPDATE message SET status = 'delivered'")
    town.clock.turn(3600)
    await count(town)
    third_at = await town.store.pool.fetchval(counted_at, slot)
    assert third_at == town.clock()
    assert (await figures(town)).messages == {"delivered": {"sms": 2}}
    town.clock.turn(7200)
    await count(town)
    assert await town.store.pool.fetchval(counted_at, slot) == third_at


async def test_one_process_counts_at_a_time(town: Town) -> None:
    """While another process counts, a round does nothing."""
    async with town.store.connection() as connection, connection.transaction():
        assert await connection.fetchval("SELECT pg_try_advisory_xact_lock(1886153829)")
        assert not await Rollup(town.store, town.clock).round()
    assert await town.store.pool.fetchval("SELECT count(*) FROM pulse") == 0
    await count(town)
    slots = await town.store.pool.fetchval("SELECT count(*) FROM pulse WHERE tenant = ''")
    assert slots == BACK // SLOT


async def test_news_are_told_once_and_none_is_missed(town: Town) -> None:
    """What happened since the marker comes once, with what it opened and closed, messages and timers among it."""
    overview = Overview(town.store, "acme")
    news, marker = await overview.news(town.clock())
    assert [(one.kind, one.order_no, one.name) for one in news] == [
        ("event", "A0", "order.placed"), ("event", "A1", "order.placed"), ("event", "A2", "order.placed"),
        ("event", "A0", "payment.failed"), ("anomaly_opened", "A0", "payment_failed"),
        ("event", "A1", "payment.failed"), ("anomaly_opened", "A1", "payment_failed"),
    ]  # fmt: skip
    assert (await overview.news(town.clock(), marker))[0] == []
    await town.dispatcher.step()
    await town.tell("payment.succeeded", "A0", amount_fen=100)
    news, marker = await overview.news(town.clock(), marker)
    assert {(one.kind, one.order_no) for one in news} == {
        ("message", "A0"), ("message", "A1"), ("event", "A0"), ("anomaly_closed", "A0"),
    }  # fmt: skip
    assert next(one for one in news if one.kind == "message").detail == "sms accepted"
    town.clock.turn(1)
    assert (await overview.news(town.clock(), marker))[0] == []


async def test_news_that_commit_late_are_told(town: Town) -> None:
    """A line that became visible after a younger one was read is not passed over."""
    overview = Overview(town.store, "acme")
    _, marker = await overview.news(town.clock())
    town.clock.turn(3)
    await town.tell("order.placed", "A8")
    _, marker = await overview.news(town.clock(), marker)
    await town.store.pool.execute(
        "INSERT INTO journal SELECT tenant, 'LATE', version, at - interval '1 second', type, source, 'late', verdict,"
        " stage, event, decision, detail FROM journal WHERE order_no = 'A8'"
    )
    news, _ = await overview.news(town.clock(), marker)
    assert [one.order_no for one in news] == ["LATE"]


async def test_news_are_limited_to_the_newest(town: Town) -> None:
    """Of many only the newest come."""
    news, _ = await Overview(town.store, "acme").news(town.clock(), None, 2)
    assert [(one.kind, one.order_no) for one in news] == [("event", "A1"), ("anomaly_opened", "A1")]


async def _count_anew(town: Town) -> None:
    await town.store.pool.execute("DELETE FROM pulse")
    await count(town)


async def test_counting_goes_on_after_whatever_failed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that breaks off must cost that round alone: nobody watches whether figures move."""
    monkeypatch.setattr(pulse, "RETRY_S", 0.0)
    asked = iter([True, False])
    counted = asyncio.Event()

    def now() -> datetime:
        if next(asked, False):
            raise KeyError("a mistake of ours")
        counted.set()
        return town.clock()

    rollup = Rollup(town.store, now)
    task = asyncio.create_task(rollup.run())
    await asyncio.wait_for(counted.wait(), 20)
    await rollup.close()
    await task
