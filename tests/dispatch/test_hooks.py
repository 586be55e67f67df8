"""Webhooks out: what receivers get, what their answers do, and that nothing is lost, whoever dies."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from orderbell.channels.guarded import GuardedClient
from orderbell.dispatch.hooks import (
    BODY_BYTES_MAX,
    JITTER,
    PAUSES,
    TRIES_MAX,
    TurnedOff,
    Webhooks,
    _Answered,
    body_of,
    next_try,
)
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.sandbox.simulator import Answered, Asked
from orderbell.store.changes import ADD_CHANGES
from orderbell.store.hooks import OVERLAP, Delivery, Outbox
from orderbell.store.postgres import Store
from orderbell.store.rows import columns
from tests.dispatch.hooks_rig import TENANT, Bell, Scripted, is_signed, listening, ringing
from tests.raw_server import (
    Behaviour,
    answering,
    close_at_once,
    hang,
    hang_in_the_answer,
    http_answer,
    raw_server,
    reset_after_reading,
    unused_port,
)

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No failpoint outlives its test."""
    yield
    arm_failpoints("")


def delivery(tries: int = 0) -> Delivery:
    """One that waits."""
    return Delivery(b"\1" * 16, "order.changed", "A1", "{}", NOON, NOON, "waiting", tries, None, 0, "")


async def test_change_arrives_signed(store: Store) -> None:
    """A change must arrive once, in the form of Standard Webhooks, so that the reference library verifies it."""
    async with ringing(store) as bell, listening() as (receiver, url):
        hook, secret = await bell.add(url)
        await bell.happen("A1")
        assert await bell.loop.step() == 1
        (asked,) = receiver.seen
        body = Webhook(secret).verify(asked.body, dict(asked.headers))
        assert set(body) == {"type", "timestamp", "data"}
        assert body["type"] == "order.changed"
        assert body["data"] == {"order_no": "A1", "version": 1}
        assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
        assert asked.headers["content-type"] == "application/json"
        done = await bell.only(hook)
        assert (done.state, done.status, done.tries, done.detail) == ("delivered", 200, 1, "")
        assert asked.headers["webhook-id"] == f"msg_{done.id.hex()}"
        assert await bell.loop.step() == 0
        assert await store.pool.fetchval("SELECT count(*) FROM change") == 0


async def test_ten_tries_and_then_no_more(store: Store) -> None:
    """The same id must be tried ten times with a fresh time in 75 h 35 min; then the webhook is off, and staff told."""
    async with ringing(store) as bell, listening(*[500] * 20) as (receiver, url):
        hook, secret = await bell.add(url)
        await bell.happen("A1")
        for pause in PAUSES:
            before = bell.clock()
            assert await bell.loop.step() == 1
            waiting = await bell.only(hook)
            assert timedelta() <= waiting.due_at - before - pause < 5 * SECOND
            assert (waiting.state, waiting.status) == ("waiting", 500)
            bell.clock.turn(pause - 5 * SECOND)
            assert await bell.loop.step() == 0, "never early"
            bell.clock.turn(10 * SECOND)
        assert (await bell.hooks().every())[0].failing_since is not None
        assert await bell.loop.step() == 1
        over = await bell.only(hook)
        assert (over.state, over.tries) == ("failed", 10)
        assert len(set(receiver.ids)) == 1
        assert len({asked.headers["webhook-timestamp"] for asked in receiver.seen}) == TRIES_MAX == 10
        assert len({asked.body for asked in receiver.seen}) == 1
        assert all(is_signed(asked, secret) for asked in receiver.seen)
        assert sum(PAUSES, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
        found = await bell.hooks().find(hook.id)
        assert found is not None
        assert (found.state, found.reason) == ("off", "failing")
        assert bell.off == [TurnedOff(TENANT, "127.0.0.1", "failing")]


async def test_one_bad_delivery_turns_nothing_off(store: Store) -> None:
    """A delivery that failed ten times must end alone where others got through meanwhile."""
    async with ringing(store) as bell, listening() as (receiver, url):
        hook, _ = await bell.add(url)
        await bell.happen("A1")
        for number, pause in enumerate([*PAUSES, SECOND]):
            receiver.statuses = [500]
            await bell.loop.step()
            if number == 5:
                bell.clock.turn(timedelta(minutes=1))
                await bell.happen("A2")
                await bell.loop.step()
            bell.clock.turn(pause + 10 * SECOND)
        assert [one.state for one in await bell.deliveries(hook)] == ["failed", "delivered"]
        assert bell.off == []


def test_pauses_have_jitter() -> None:
    """A pause must be a tenth shorter or longer at most, and never shorter than the receiver asked for."""
    for tries, pause in enumerate(PAUSES):
        for dice, share in ((0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)):
            tried = next_try(delivery(tries), _Answered(503, ""), NOON, lambda dice=dice: dice)  # type: ignore[misc]
            assert tried.due_at - NOON == pause * share
    asked = next_try(delivery(), _Answered(429, "", retry_after_s=120), NOON, lambda: 0.5)
    assert (asked.state, asked.due_at - NOON) == ("waiting", timedelta(minutes=2))
    assert next_try(delivery(9), _Answered(503, ""), NOON, lambda: 0.5).state == "failed"


async def test_gone_disables(store: Store) -> None:
    """410 must end it at once: nothing more is sent, what waits is kept, staff are told."""
    async with ringing(store) as bell, listening(410) as (receiver, url):
        hook, _ = await bell.add(url)
        await bell.happen("A1")
        assert await bell.loop.step() == 1
        await bell.happen("A2")
        bell.clock.turn(timedelta(days=1))
        assert await bell.loop.step() == 0
        found = await bell.hooks().find(hook.id)
        assert found is not None
        assert (found.state, found.reason, len(receiver.seen)) == ("gone", "gone", 1)
        assert bell.off == [TurnedOff(TENANT, "127.0.0.1", "gone")]
        await bell.hooks().change(hook.id, bell.clock(), on=True)
        await bell.happen("A3")
        assert await bell.loop.step() == 1
        assert receiver.body()["data"] == {"order_no": "A3", "version": 3}


async def test_redirect_is_not_followed(store: Store) -> None:
    """A redirect must count as a failure, and its target never be called."""
    async with ringing(store) as bell, listening() as (elsewhere, target):
        for status in (301, 302, 303, 307, 308):
            async with listening(status) as (receiver, url):
                receiver.headers = (("location", target),)
                hook, _ = await bell.add(url)
                await bell.happen("A1")
                await bell.loop.step()
                found = await bell.only(hook)
                assert (found.state, found.status) == ("waiting", status)
                assert "redirect" in found.detail
                await bell.hooks().remove(hook.id, bell.clock())
        assert elsewhere.seen == []


async def test_too_many_requests(store: Store) -> None:
    """429 with Retry-After must keep everything back from this webhook for that long, and only from this one."""
    async with ringing(store) as bell, listening(429) as (busy, url), listening() as (calm, other):
        busy.headers = (("retry-after", "120"),)
        hook, _ = await bell.add(url)
        await bell.add(other)
        await bell.happen("A1")
        await bell.loop.step()
        await bell.happen("A2")
        await bell.loop.step()
        assert (len(busy.seen), len(calm.seen)) == (1, 2)
        bell.clock.turn(timedelta(seconds=110))
        assert await bell.loop.step() == 0
        bell.clock.turn(timedelta(seconds=20))
        assert await bell.loop.step() == 2
        assert {one.state for one in await bell.deliveries(hook)} == {"delivered"}


@pytest.mark.parametrize(
    "behave",
    [
        answering(b"what?\r\n\r\n"), answering(b"HTTP/1.1 200"), answering(http_answer(b"{}", status=999)),
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"), close_at_once, reset_after_reading, hang,
        hang_in_the_answer, answering(http_answer(b"no", status=500)), answering(http_answer(b"no", status=404)),
    ],
    ids=["garbage", "half", "status", "short", "closed", "reset", "hang", "hang later", "500", "404"],
)  # fmt: skip
async def test_whatever_is_no_yes_is_tried_again(store: Store, behave: Behaviour) -> None:
    """Garbage, silence, a cut connection and refusals must each be a failed try that is made again, with words."""
    async with ringing(store, timeout_s=0.4) as bell, raw_server(behave) as url:
        hook, _ = await bell.add(url)
        await bell.happen("A1")
        assert await bell.loop.step() == 1
        found = await bell.only(hook)
        assert (found.state, found.tries) == ("waiting", 1)
        assert found.detail


async def test_nobody_listens(store: Store) -> None:
    """A refused connection must be tried again, and found when somebody listens once more."""
    async with ringing(store) as bell:
        hook, _ = await bell.add(f"http://127.0.0.1:{unused_port()}/hook")
        await bell.happen("A1")
        assert await bell.loop.step() == 1
        assert ((await bell.only(hook)).state, (await bell.only(hook)).status) == ("waiting", 0)
        async with listening() as (receiver, url):
            await bell.hooks().change(hook.id, bell.clock(), url=url)
            bell.clock.turn(10 * SECOND)
            assert await bell.loop.step() == 1
            assert len(receiver.seen) == 1


async def test_silent_receiver_holds_up_nobody(store: Store) -> None:
    """While one receiver is silent, another must hear everything."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await hang(reader, writer)

    async with ringing(store, timeout_s=60) as bell, raw_server(silent) as url, listening() as (receiver, other):
        await bell.add(url)
        await bell.add(other)
        running = asyncio.create_task(bell.loop.run())
        await bell.happen(*(f"A{number}" for number in range(30)))
        async with asyncio.timeout(20):
            await asked.wait()
            while len(receiver.seen) < 30:  # noqa: ASYNC110 - the receiver runs in this loop; each look lets it
                await asyncio.sleep(0)
        await bell.loop.close()
        await asyncio.wait_for(running, 10)


async def test_rotation_while_retrying(store: Store) -> None:
    """In the overlap both secrets must sign, also what was made before; afterwards the new one alone."""
    async with ringing(store) as bell, listening(500, 500, 500) as (receiver, url):
        hook, old = await bell.add(url)
        await bell.happen("A1")
        await bell.loop.step()
        new = await bell.hooks().rotate(hook.id, bell.clock())
        assert new is not None
        assert new != old
        for pause in PAUSES[:2]:
            bell.clock.turn(pause + SECOND)
            await bell.loop.step()
        bell.clock.turn(OVERLAP)
        await bell.loop.step()
        assert [is_signed(asked, old) for asked in receiver.seen] == [True, False, False, False]
        assert [is_signed(asked, new, old) for asked in receiver.seen] == [False, True, True, False]
        assert [is_signed(asked, new) for asked in receiver.seen] == [False, False, False, True]
        assert len(set(receiver.ids)) == 1


async def test_one_order_after_another(store: Store) -> None:
    """What is about one order must come in its order and never two at once, while other orders go beside it."""
    under_way: Counter[str] = Counter()
    widest = 0
    got: dict[str, list[int]] = {}

    class Careful(Scripted):
        async def answer(self, asked: Asked) -> Answered:
            nonlocal widest
            self.seen.append(asked)
            data = self.body()["data"]
            assert isinstance(data, dict)
            name = data["order_no"]
            under_way[name] += 1
            widest = max(widest, under_way.total())
            assert under_way[name] == 1
            for _ in range(5):
                await asyncio.sleep(0)
            got.setdefault(name, []).append(data["version"])
            under_way[name] -= 1
            return Answered(200, b"{}")

    from orderbell.serving import serving  # noqa: PLC0415 - for this one receiver

    receiver = Careful()
    async with ringing(store) as bell, serving(receiver, stopping=receiver.end_waiting) as url:
        await bell.add(url)
        names = [f"A{number % 7}" for number in range(70)]
        await bell.happen(*names)
        assert await bell.loop.step() == 70
        assert all(versions == sorted(versions) and len(versions) == 10 for versions in got.values())
        assert widest > 1
        await receiver.close()


async def test_late_commit_is_not_skipped(store: Store) -> None:
    """A change that commits after later ones have been told must be told as well."""
    async with ringing(store) as bell, listening() as (receiver, url):
        await bell.add(url)
        async with store.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            row = [(TENANT, b"\7" * 16, "order.changed", "late", '{"order_no": "late"}', bell.clock())]
            await connection.execute(ADD_CHANGES, *columns(row, 6))
            await bell.happen("A1", "A2")
            assert await bell.loop.step() == 2
            await transaction.commit()
        assert await bell.loop.step() == 1
        assert receiver.body()["data"] == {"order_no": "late"}


async def test_death_before_the_mark_sends_again(store: Store) -> None:
    """Who dies between the answer and its mark must be followed by somebody who sends it again with the same id."""
    async with ringing(store) as bell, listening() as (receiver, url):
        hook, _ = await bell.add(url)
        await bell.happen("A1")
        arm_failpoints("hooks.answered=raise@1")
        with pytest.raises(FailpointReached):
            await bell.loop.step()
        assert (await bell.only(hook)).state == "waiting"
        other = bell.another()
        assert await other.step() == 0, "somebody else is on duty"
        await store.pool.execute("UPDATE worker SET lease_until = now() - interval '1 minute'")
        assert await other.step() == 1
        assert receiver.ids == [f"msg_{(await bell.only(hook)).id.hex()}"] * 2
        assert (await bell.only(hook)).state == "delivered"


async def test_word_of_the_dead_does_not_count(store: Store) -> None:
    """A mark by a process that was thought dead must not overwrite what another one found out since."""
    async with ringing(store) as bell, listening(500, 500) as (_, url):
        hook, _ = await bell.add(url)
        await bell.happen("A1")
        await bell.loop.step()
        stale = next_try(await bell.only(hook), _Answered(500, "stale"), bell.clock(), lambda: 0.5)
        bell.clock.turn(10 * SECOND)
        await bell.loop.step()
        assert await Outbox(store).settle((TENANT, hook.id), [stale], bell.clock()) == 0
        assert ((await bell.only(hook)).tries, (await bell.only(hook)).detail) == (2, "HTTP 500")


async def test_dead_receiver_is_only_probed(store: Store) -> None:
    """A receiver that fails must not be asked for each of a thousand deliveries; when it is back it gets them all."""
    async with ringing(store) as bell, listening(*[500] * 2_000) as (receiver, url):
        hook, _ = await bell.add(url)
        await bell.happen(*(f"A{number}" for number in range(300)))
        for _ in range(60):
            await bell.loop.step()
            bell.clock.turn(SECOND)
        assert len(receiver.seen) < 40
        receiver.statuses = []
        for _ in range(6):
            bell.clock.turn(timedelta(minutes=10))
            await bell.loop.step()
        assert {one.state for one in await bell.deliveries(hook)} == {"delivered"}


async def test_address_that_became_private(store: Store) -> None:
    """An address that was public when it was saved must not be called once its name leads inside."""
    async with ringing(store) as bell, listening() as (receiver, url):
        port = url.rpartition(":")[2]
        moved = ["1.2.3.4"]
        client = GuardedClient(ports=[int(port), 443], resolve=lambda _host, _port: moved)
        await client.examine(f"https://shop.example:{port}/hook")
        hook, _ = await bell.add(f"https://shop.example:{port}/hook")
        await bell.happen("A1")
        moved[:] = ["127.0.0.1"]
        loop = Webhooks(Outbox(store), client, now=bell.clock, dice=lambda: 0.5)
        assert await loop.step() == 1
        found = await bell.only(hook)
        assert (found.state, found.status, receiver.seen) == ("waiting", 0, [])
        assert "refused" in found.detail
        await client.close()


async def test_everybody_hears_their_own(store: Store) -> None:
    """A webhook must hear changes of its tenant and types only, and nothing while it is off."""
    async with ringing(store) as bell, listening() as (mine, url), listening() as (theirs, other):
        hook, _ = await bell.add(url, ["case.opened"])
        await bell.add(other, ["order.changed", "case.opened"], tenant="other")
        await bell.happen("A1", kind="case.opened")
        await bell.happen("A2", kind="order.changed")
        await bell.happen("B1", kind="order.changed", tenant="other")
        await bell.loop.step()
        assert [mine.body(number)["type"] for number in range(len(mine.seen))] == ["case.opened"]
        assert [asked.headers["webhook-id"] for asked in theirs.seen] != []
        assert theirs.body()["data"] == {"order_no": "B1", "version": 3}
        assert len(theirs.seen) == 1
        await bell.hooks().change(hook.id, bell.clock(), on=False)
        await bell.happen("A3", kind="case.opened")
        await bell.loop.step()
        assert len(mine.seen) == 1


async def test_ping_arrives(store: Store) -> None:
    """What is sent to try a webhook out must come at once, whatever types it wants."""
    async with ringing(store) as bell, listening() as (receiver, url):
        hook, secret = await bell.add(url, ["case.opened"])
        sent = await bell.hooks().ping(hook.id, bell.clock())
        assert sent is not None
        await bell.loop.step()
        assert receiver.body()["type"] == "ping"
        assert receiver.body()["data"] == {}
        assert receiver.ids == [f"msg_{sent.hex()}"]
        assert is_signed(receiver.seen[0], secret)


async def test_body_that_is_too_long(store: Store) -> None:
    """A body above 20 kB must never leave."""
    async with ringing(store) as bell, listening() as (receiver, url):
        hook, _ = await bell.add(url)
        row = [(TENANT, b"\7" * 16, "order.changed", "A1", f'"{"x" * BODY_BYTES_MAX}"', bell.clock())]
        await store.pool.execute(ADD_CHANGES, *columns(row, 6))
        await bell.loop.step()
        assert receiver.seen == []
        assert "longer" in (await bell.only(hook)).detail


async def test_nothing_is_asked_where_nobody_has_a_webhook(store: Store) -> None:
    """Without a webhook the loop must not ask the database but for the look once a minute."""
    async with ringing(store) as bell:
        await bell.loop.step()
        await store.close()
        assert await bell.loop.step() == 0


async def test_body_is_what_it_was(store: Store) -> None:
    """The body must be made of type, time and data alone, the same each time."""
    async with ringing(store) as bell:
        assert isinstance(bell, Bell)
    body = body_of(delivery())
    assert body == b'{"type":"order.changed","timestamp":"2026-03-02T12:00:00Z","data":{}}'
