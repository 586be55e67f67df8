"""Changes must be written with what changed, and only where somebody listens; webhooks must be kept as they are asked for."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from orderbell.core.events import parse_event
from orderbell.errors import VaultSealed
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.store.changes import CHANGE_TYPES, DATA_BYTES_MAX, CaseData, change_id, data_text
from orderbell.store.hooks import HOOKS_MAX, KEPT, OVERLAP, WAITING_MAX, Hooks, Outbox, watch
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.vault import Vault
from tests.dispatch.rig import TENANT, House, Scripted, notice
from tests.town import PHONE, Town, people, running_town

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
URL = "https://shop.example/hook"


async def listen(store: Store, types: Sequence[str] = CHANGE_TYPES, tenant: str = TENANT) -> bytes:
    """Add a webhook, and have the store know of it; returns its id."""
    made = await Hooks(store, tenant).add(URL, types, "", NOW)
    assert made is not None
    return made[0].id


async def changes(store: Store, tenant: str = TENANT) -> list[tuple[str, str, dict[str, Any]]]:
    """What was put down: type, subject and data."""
    rows = await store.pool.fetch("SELECT type, subject, data FROM change WHERE tenant = $1 ORDER BY place", tenant)
    return [(row["type"], row["subject"], json.loads(row["data"])) for row in rows]


async def tell_all(town: Town, tenant: str = TENANT) -> None:
    """An order with a payment that fails at first, and that somebody has to look at."""
    await town.tell("order.placed", tenant=tenant, amount_fen=500, people=people(email="ann@example.com"))
    await town.tell("payment.failed", tenant=tenant, reason="card of Ann Lee 13800138000")
    await town.tell("payment.succeeded", tenant=tenant)
    await town.tell("risk.flagged", tenant=tenant)


async def test_turn_puts_changes_down(store: Store) -> None:
    """What people can see of an order must be told with each change of it, and nothing personal."""
    async with running_town(store) as town:
        await listen(store)
        await tell_all(town)
        told = await changes(store)
        orders = [data for kind, _, data in told if kind == "order.changed"]
        assert {subject for _, subject, _ in told} == {"A1"}
        assert [one["version"] for one in orders] == sorted(one["version"] for one in orders)
        assert orders[0]["stage"] != ""
        assert [one["payment"] for one in orders] == ["none", "failed", "paid", "paid"]
        assert orders[1]["opened"] == orders[1]["anomalies"] == ["payment_failed"]
        assert (orders[2]["closed"], orders[2]["anomalies"]) == (["payment_failed"], [])
        assert orders[1]["light"] in {"yellow", "red"}
        opened = [data for kind, _, data in told if kind == "case.opened"]
        assert opened
        assert all(one["state"] == "open" and one["order_no"] == "A1" for one in opened)
        everything = json.dumps(told)
        for private in (PHONE[3:], "ann", "Ann", "example.com"):
            assert private not in everything


async def test_case_is_told_when_it_opens_and_closes(store: Store) -> None:
    """A case must be told twice, by the same id: when it is opened, and when it is closed."""
    async with running_town(store) as town:
        await listen(store, ["case.opened", "case.closed"])
        await tell_all(town)
        await town.tell("risk.cleared")
        told = await changes(store)
        assert {kind for kind, _, _ in told} == {"case.opened", "case.closed"}
        opened = {data["case_id"] for kind, _, data in told if kind == "case.opened"}
        closed = {data["case_id"]: data for kind, _, data in told if kind == "case.closed"}
        assert closed.keys() == opened
        assert all(one["closed_at"] is not None for one in closed.values())


async def test_nothing_is_put_down_where_nobody_listens(store: Store) -> None:
    """A tenant without a webhook must cost no row; one that wants cases must get no orders."""
    async with running_town(store) as town:
        await listen(store, ["case.opened"], "other")
        await tell_all(town)
        await tell_all(town, "other")
        assert await changes(store) == []
        assert {kind for kind, _, _ in await changes(store, "other")} == {"case.opened"}


async def test_change_falls_with_its_turn(store: Store) -> None:
    """A turn that is rolled back must leave no change behind."""
    async with running_town(store) as town:
        await listen(store)
        arm_failpoints("turn.before_commit=raise@1")
        try:
            with pytest.raises(FailpointReached):
                await town.tell("order.placed", people=people())
        finally:
            arm_failpoints("")
        assert await changes(store) == []


async def test_timer_puts_changes_down(store: Store) -> None:
    """What a deadline changes must be told like what an event changes."""
    async with running_town(store) as town:
        await listen(store, ["order.changed"])
        await town.tell("order.placed", people=people())
        before = len(await changes(store))
        await store.fire_due(town.shelves, town.clock() + timedelta(days=40))
        told = await changes(store)
        assert len(told) > before
        assert told[-1][2]["opened"] or told[-1][2]["stage"]


async def test_scan_that_shows_nothing_new_is_not_told(store: Store) -> None:
    """A parcel that merely moves on must not make a webhook of each scan."""
    async with running_town(store) as town:
        await listen(store, ["order.changed"])
        await town.tell("order.placed", people=people())
        await town.tell("payment.succeeded")
        for place in ("Wuhan", "Jinan", "Beijing"):
            await town.tell("parcel.scanned", tracking_no="SF1", carrier="sf", phase="in_transit", place=place)
        told = await changes(store)
        assert len([data for _, _, data in told if data["phase"] == "in_transit"]) == 1


async def message_statuses(house: House, channel: Scripted, store: Store, **put: Any) -> list[str]:  # noqa: ANN401 - of a notice
    """What was told of the messages of one round."""
    house.serve(TENANT)
    await house.put(notice(**put))
    await house.dispatcher(channel).step()
    return [data["status"] for kind, _, data in await changes(store) if kind == "message.changed"]


async def test_fate_of_messages_is_told(store: Store) -> None:
    """Acceptance and delivery must be told with ids and channel, in this order, and no text or address."""
    house, channel = House(store), Scripted()
    await listen(store, ["message.changed"])
    assert await message_statuses(house, channel, store) == ["accepted"]
    (message,) = await store.pool.fetch("SELECT message_id, attempt_id FROM message")
    from orderbell.store.ledger import Word  # noqa: PLC0415 - for this test alone

    ledger = Ledger(store)
    word = Word(message["attempt_id"], delivered=True, provider_ref="", detail="", at=NOW)
    await ledger.take_words("scripted", [word, word])
    told = await changes(store)
    assert [(kind, subject, data["status"]) for kind, subject, data in told] == [
        ("message.changed", "A1", "accepted"), ("message.changed", "A1", "delivered"),
    ]  # fmt: skip
    assert set(told[0][2]) == {"message_id", "order_no", "topic", "channel", "status"}
    assert told[0][2] | {"status": ""} == {
        "message_id": message["message_id"].hex(), "order_no": "A1", "topic": "paid", "channel": "sms", "status": "",
    }  # fmt: skip


async def test_messages_of_others_are_not_told(store: Store) -> None:
    """A tenant that listens must not bring the messages of another into the table."""
    house, channel = House(store), Scripted()
    await listen(store, ["message.changed"], "other")
    assert await message_statuses(house, channel, store) == []
    assert await store.pool.fetchval("SELECT count(*) FROM change") == 0


async def test_doubt_after_a_restore_is_told(store: Store) -> None:
    """Messages that became unknown by a restore must be told as unknown."""
    house, channel = House(store), Scripted()
    await listen(store, ["message.changed"])
    await message_statuses(house, channel, store)
    await store.pool.execute("UPDATE message SET status = 'sending'; DELETE FROM change")
    assert await Ledger(store).doubt_everything(NOW) == 1
    assert [data["status"] for _, _, data in await changes(store)] == ["unknown"]


async def test_same_change_has_the_same_id(store: Store) -> None:
    """A change that is told once more, such as after a restore from a backup, must make no second delivery."""
    hook_id = await listen(store)
    outbox = Outbox(store)
    row = ("acme", change_id("acme", "order.changed", "A1", 3), "order.changed", "A1", "{}", NOW)
    insert = "INSERT INTO change (tenant, change_id, type, subject, data, at) VALUES ($1, $2, $3, $4, $5, $6)"
    for _ in range(2):
        await store.pool.execute(insert, *row)
        assert await outbox.fan_out(NOW, 10) == 1
    assert len(await Hooks(store, TENANT).deliveries(hook_id, 10)) == 1


async def test_fan_out_is_fair(store: Store) -> None:
    """A tenant with many changes must not keep another one waiting."""
    for tenant in ("acme", "other"):
        await listen(store, tenant=tenant)
    insert = (
        "INSERT INTO change (tenant, change_id, type, subject, data, at) VALUES ($1, $2, 'order.changed', $3, '{}', $4)"
    )
    rows = [("acme", change_id("a", number), f"A{number}", NOW) for number in range(50)]
    await store.pool.executemany(insert, [*rows, ("other", change_id("b"), "B1", NOW)])
    assert await Outbox(store).fan_out(NOW, 10) == 11
    assert await store.pool.fetchval("SELECT count(*) FROM hook_delivery WHERE tenant = 'other'") == 1


def test_data_that_are_too_large_are_cut() -> None:
    """Data above the limit must shrink to what names them, and say so."""
    data = CaseData("c1", "A1", "x" * DATA_BYTES_MAX, "handle", "service", "open", NOW, None)
    assert json.loads(data_text(data, ("case_id", "order_no"))) == {"case_id": "c1", "order_no": "A1", "cut": True}


async def test_secret_is_sealed_to_its_webhook(store: Store) -> None:
    """A secret must open with the installation's secret only, and not stand in another row."""
    hooks = Hooks(store, TENANT)
    made = await hooks.add(URL, CHANGE_TYPES, "", NOW)
    assert made is not None
    hook, secret = made
    assert await hooks.ping(hook.id, NOW) is not None
    key = (TENANT, hook.id)
    due = await Outbox(store).due(key, NOW, 10)
    assert due is not None
    assert due[0].secrets == (secret,)
    other = Store(store.dsn, store.pool, Vault(b"x" * 32))
    with pytest.raises(VaultSealed):
        await Outbox(other).due(key, NOW, 10)
    new = await hooks.rotate(hook.id, NOW)
    during, after = [await Outbox(store).due(key, NOW + wait, 10) for wait in (OVERLAP - KEPT / 1000, OVERLAP)]
    assert during is not None
    assert after is not None
    assert (during[0].secrets, after[0].secrets) == ((new, secret), (new,))


async def test_tidy_forgets_what_is_over(store: Store) -> None:
    """After a week what is over must go, and at once what was removed; what waits must stay."""
    hooks, outbox = Hooks(store, TENANT), Outbox(store)
    kept, removed = await listen(store), await listen(store)
    for hook_id in (kept, removed):
        for _ in range(3):
            await hooks.ping(hook_id, NOW)
    await store.pool.execute(
        "UPDATE hook_delivery SET state = 'delivered', tried_at = $2 WHERE place IN"
        " (SELECT place FROM hook_delivery WHERE hook_id = $1 LIMIT 2)",
        kept, NOW,
    )  # fmt: skip
    assert await outbox.tidy(NOW + KEPT - timedelta(seconds=1)) == []
    assert len(await hooks.deliveries(kept, 10)) == 3
    await hooks.remove(removed, NOW)
    await outbox.tidy(NOW + KEPT + timedelta(seconds=1))
    assert [one.state for one in await hooks.deliveries(kept, 10)] == ["waiting"]
    assert await store.pool.fetchval("SELECT count(*) FROM hook_delivery") == 1
    assert [one.id for one in await hooks.every()] == [kept]
    assert await store.pool.fetchval("SELECT count(*) FROM hook") == 1


async def test_changes_that_nobody_hears_are_forgotten(store: Store) -> None:
    """What was put down for a webhook that has gone meanwhile must not lie there for ever."""
    hook_id = await listen(store)
    await store.pool.execute(
        "INSERT INTO change (tenant, change_id, type, subject, data, at) VALUES ('acme', '\\x01', 'x', '', '{}', now())"
    )
    await Hooks(store, TENANT).remove(hook_id, NOW)
    assert store.watched == {}
    await Outbox(store).tidy(NOW)
    assert await store.pool.fetchval("SELECT count(*) FROM change") == 0


async def test_receiver_that_drowns_is_turned_off(store: Store) -> None:
    """A receiver that takes nothing must not fill the database without end."""
    hook_id = await listen(store)
    await store.pool.execute(
        "INSERT INTO hook_delivery (tenant, hook_id, delivery_id, type, subject, data, at, due_at)"
        " SELECT 'acme', $1, sha256(convert_to(n::text, 'UTF8')), 'x', '', '{}', $2, $2 FROM generate_series(1, $3) AS n",
        hook_id, NOW, WAITING_MAX + 1,
    )  # fmt: skip
    assert await Outbox(store).tidy(NOW) == [], "it may be merely busy"
    await store.pool.execute("UPDATE hook SET failing_since = $1", NOW)
    assert await Outbox(store).tidy(NOW) == [(TENANT, hook_id)]
    found = await Hooks(store, TENANT).find(hook_id)
    assert found is not None
    assert (found.state, found.reason) == ("off", "backlog")


async def test_hooks_of_others_are_out_of_reach(store: Store) -> None:
    """No method must find, change or tell anything of another tenant's webhook."""
    hook_id = await listen(store)
    ours, theirs = Hooks(store, TENANT), Hooks(store, "other")
    delivery_id = await ours.ping(hook_id, NOW)
    assert delivery_id is not None
    assert await theirs.find(hook_id) is None
    assert await theirs.every() == []
    assert await theirs.deliveries(hook_id, 10) == []
    assert await theirs.change(hook_id, NOW, on=False) is None
    assert await theirs.rotate(hook_id, NOW) is None
    assert not await theirs.remove(hook_id, NOW)
    assert await theirs.ping(hook_id, NOW) is None
    assert not await theirs.retry(hook_id, delivery_id, NOW)
    await watch(store)
    assert store.watched["order.changed"] == frozenset({TENANT})


async def test_duties_take_no_share_of_sending(store: Store) -> None:
    """A lease for a duty must not count as a worker that sends, or providers would be asked less than they allow."""
    ledger = Ledger(store)
    await ledger.take_lease("machine:1", timedelta(minutes=1))
    await ledger.take_lease("webhooks: out", timedelta(minutes=1))
    assert await ledger.worker_count() == 1


async def test_turn_without_listeners_runs_the_same_statements(store: Store) -> None:
    """Where nobody listens a turn must not run a single statement more."""
    async with running_town(store) as town:
        runs: list[list[str]] = []
        await town.tell("order.placed", "warm")  # makes the month, and has the driver learn the types
        for number, wanted in enumerate(["", "other", TENANT]):
            if wanted:
                await listen(store, tenant=wanted)
            asked: list[str] = []

            def log(record: asyncpg.connection.LoggedQuery, asked: list[str] = asked) -> None:
                asked.append(" ".join(record.query.split())[:40])

            async with store.pool.acquire() as connection:
                connection.add_query_logger(log)
            shelves = town.shelves
            wire = {"id": f"x{number}", "source": "shop", "type": "order.placed", "subject": f"X{number}", "data": {}}
            event = parse_event(json.dumps(wire).encode(), TENANT, NOW)
            await store.turn(shelves, [event])  # type: ignore[list-item]
            async with store.pool.acquire() as connection:
                connection.remove_query_logger(log)
            runs.append(asked)
    assert len(runs[0]) == len(runs[1]) > 0
    assert len(runs[2]) == len(runs[0]) + 1


async def test_many_at_once_keep_to_the_most_that_a_tenant_may_have(store: Store) -> None:
    """Webhooks that are made at the same moment must be counted, too."""
    hooks = Hooks(store, TENANT)
    for _ in range(HOOKS_MAX - 2):
        await listen(store)
    made = await asyncio.gather(*(hooks.add(URL, CHANGE_TYPES, "", NOW) for _ in range(6)))
    assert sum(one is not None for one in made) == 2
    assert len(await hooks.every()) == HOOKS_MAX
