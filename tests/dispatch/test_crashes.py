"""Whatever a dispatcher dies of, the next one must find out what became of its messages and send none twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from orderbell.channels.protocol import Answer, Fate, Found, Outcome, Outgoing
from orderbell.channels.sandbox import SandboxChannel
from orderbell.observe import FailpointReached, arm_failpoints, counts
from orderbell.sandbox.faults import Faults
from tests.dispatch.rig import Gated, House, Scripted, notice
from tests.sandbox_server import RunningSandbox


@pytest.fixture
async def channel(sandbox: RunningSandbox) -> AsyncIterator[SandboxChannel]:
    """A channel to the sandbox, whose receipts come late."""
    await sandbox.set_faults(Faults(receipt_delay_s=3600))
    made = SandboxChannel(sandbox.url)
    yield made
    await made.close()


@pytest.mark.parametrize("place", ["lease_committed", "before_send", "after_send", "before_settle", "after_settle"])
async def test_crash_at_every_place(house: House, sandbox: RunningSandbox, channel: SandboxChannel, place: str) -> None:
    """After a death at any place the messages must be handed over once, by whoever comes next."""
    await house.put(*(notice("paid", n, f"A{n}") for n in range(30)))
    arm_failpoints(f"dispatch.{place}=raise@1")
    with pytest.raises(FailpointReached):
        await house.dispatcher(channel).step()
    left = await house.statuses()
    assert left == ["accepted" if place == "after_settle" else "sending"] * 30
    heir = house.dispatcher(channel)
    assert (await heir.resolve(), await heir.step()) == (0, 0), "a live lease was taken"
    await house.end_leases()
    assert await heir.resolve() == (0 if place == "after_settle" else 30)
    assert await heir.resolve() == 0, "asked too early"
    house.clock.turn(channel.lookup_after_s)
    await heir.resolve()
    await heir.step()
    assert await house.statuses() == ["accepted"] * 30
    entries = sandbox.ledger()
    assert len({entry.text for entry in entries}) == len(entries) == 30
    assert await house.pool.fetchval("SELECT count(*) FROM flight") == 0


async def test_cancellation_on_the_way(house: House, sandbox: RunningSandbox) -> None:
    """A dispatcher that is cancelled while its request is under way must leave the message to its heir."""
    gated = Gated(sandbox.url)
    await house.put(notice("paid"))
    stepping = asyncio.create_task(house.dispatcher(gated).step())
    await gated.arrived.wait()
    stepping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stepping
    assert await house.statuses() == ["sending"]
    gated.opened.set()
    await house.end_leases()
    heir = house.dispatcher(gated)
    await heir.resolve()
    house.clock.turn(gated.lookup_after_s)
    await heir.resolve()
    await heir.step()
    assert len(sandbox.ledger()) == 1
    await gated.close()


async def test_zombie_before_its_last_look(house: House) -> None:
    """Who finds its lease over before the first byte must not send; the message goes out under the next lease."""
    channel = Scripted()
    zombie = house.dispatcher(channel)
    await house.put(notice("paid"))
    await zombie.step()
    await house.put(notice("paid", order_no="A2"))
    zombie._lease._ends_at_s = 0
    assert await zombie.step() == 1
    assert len(channel.got) == 1
    assert await house.statuses() == ["accepted", "queued"]
    zombie._lease._renew_at_s = 0
    house.clock.turn(5)
    assert await zombie.step() == 1
    assert await house.statuses() == ["accepted", "accepted"]


class Slow(Scripted):
    """A provider that takes messages at once, and answers when the test lets it."""

    def __init__(self, outcome: Outcome = Outcome.ACCEPTED) -> None:
        super().__init__(outcome)
        self.taken, self.answering = asyncio.Event(), asyncio.Event()

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Take, wait, answer."""
        answers = await super().send(batch)
        self.taken.set()
        await self.answering.wait()
        return answers


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.ACCEPTED, "accepted"), (Outcome.REJECTED_CONTENT, "rejected")]
)
async def test_zombie_whose_message_is_in_doubt(house: House, outcome: Outcome, status: str) -> None:
    """The answer that a zombie brings while its attempt is still the message's own must count."""
    slow = Slow(outcome)
    zombie = house.dispatcher(slow)
    await house.put(notice("paid"))
    stepping = asyncio.create_task(zombie.step())
    await slow.taken.wait()
    await house.end_leases()
    assert await house.dispatcher(slow).resolve() == 1
    assert await house.statuses() == ["unknown"]
    slow.answering.set()
    await stepping
    assert await house.statuses() == [status]


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.RETRY_LATER, Outcome.REJECTED_CONTENT])
async def test_zombie_whose_attempt_was_replaced(house: House, outcome: Outcome) -> None:
    """The answer of a zombie must not touch a message that another attempt carries; an acceptance is put on record."""
    slow, quick = Slow(outcome), Scripted()
    await house.put(notice("paid"))
    stepping = asyncio.create_task(house.dispatcher(slow).step())
    await slow.taken.wait()
    await house.end_leases()
    heir = house.dispatcher(quick)
    await heir.resolve()
    quick.found = [Found(slow.got[0].attempt_id, Fate.NOT_FOUND)]
    house.clock.turn(2)
    await heir.resolve()
    await heir.step()
    before = counts().get("dispatch.accepted_late", 0)
    slow.answering.set()
    await stepping
    assert await house.statuses() == ["accepted"]
    row = await house.pool.fetchrow("SELECT m.attempt_no, t.outcome FROM message m JOIN attempt t USING (message_id)")
    assert row is not None
    late = outcome is Outcome.ACCEPTED
    assert tuple(row) == (2, "accepted_late" if late else "not_sent")
    assert counts().get("dispatch.accepted_late", 0) - before == late


async def test_lost_lease_is_never_renewed(house: House) -> None:
    """A dispatcher whose lease was over must go on under a new number."""
    dispatcher = house.dispatcher(Scripted())
    first = await dispatcher._lease.ensure()
    await house.end_leases()
    dispatcher._lease._renew_at_s = 0
    second = await dispatcher._lease.ensure()
    assert second != first
    assert not dispatcher._lease.holds(first)
    assert dispatcher._lease.holds(second)


async def test_run_until_close(house: House, sandbox: RunningSandbox) -> None:
    """A running dispatcher must send, read receipts, and on close finish what is under way and give up its lease."""
    channel = Gated(sandbox.url)
    dispatcher = house.dispatcher(channel, poll_ms=5)
    running = asyncio.create_task(dispatcher.run())
    await house.put(*(notice("paid", n, f"A{n}") for n in range(20)))
    await channel.arrived.wait()
    closing = asyncio.create_task(dispatcher.close())
    await asyncio.sleep(0)
    channel.opened.set()
    await closing
    await running
    assert set(await house.statuses()) <= {"accepted", "delivered"}
    assert len(sandbox.ledger()) == 20
    assert await house.pool.fetchval("SELECT count(*) FROM worker") == 0
    await channel.close()
