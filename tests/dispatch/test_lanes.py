"""More to send than can be sent: what is critical waits for nobody, each shop has its share, and advertising gives way."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from orderbell.channels.protocol import Answer, Outgoing
from orderbell.core.model import Notice
from tests.dispatch.rig import House, Scripted, contact, notice

CROWD = 10
"""So many a step may take; more falls due before each."""


def of(tenant: str, one: Notice) -> Notice:
    """The same notice at another shop."""
    return replace(one, tenant=tenant)


async def test_overload_keeps_the_order_of_lanes(house: House) -> None:
    """Whatever waited longest, what is critical must go first, then service, then marketing."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel, batch=CROWD)
    await house.put(*(notice("offer", n) for n in range(30)))
    await house.put(*(notice("shipped", n, after_s=1) for n in range(100, 125)))
    await house.put(*(notice("paid", n, after_s=2) for n in range(200, 205)))
    house.clock.turn(10)
    await dispatcher.step()
    assert [out.topic for out in channel.got] == ["paid"] * 5 + ["shipped"] * 5
    await dispatcher.step()
    await house.put(*(notice("paid", n, after_s=10) for n in range(300, 303)))
    await dispatcher.step()
    assert [out.topic for out in channel.got[20:]] == ["paid"] * 3 + ["shipped"] * 7
    while await dispatcher.step():
        pass
    assert [out.topic for out in channel.got[30:]] == ["shipped"] * 3 + ["offer"] * 30


async def test_overload_loses_nothing_and_tells_nothing_late(house: House) -> None:
    """With twice as much due as can go out, advertising alone must be left out: by a fate with its reason, not late."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel, batch=CROWD)
    due = Counter[str]()
    late = 0
    for second in range(60):
        crowd = {"paid": 2, "shipped": 6, "offer": 12}
        numbers = iter(range(second * 100, second * 100 + 100))
        coming = [
            notice(topic, next(numbers), after_s=second, valid_s=20) for topic, n in crowd.items() for _ in range(n)
        ]
        await house.put(*coming)
        due.update(crowd)
        before = len(channel.got)
        await dispatcher.step()
        sent = channel.got[before:]
        assert Counter(out.topic for out in sent if out.topic != "offer") == {"paid": 2, "shipped": 6}
        late += sum(out.valid_until is None or out.valid_until < house.clock() for out in sent)
        house.clock.turn(1)
    house.clock.turn(60)
    while await dispatcher.step():
        pass
    rows = await house.pool.fetch("SELECT topic, fate, reason, count(*) FROM notice GROUP BY 1, 2, 3")
    fates = {(row["topic"], row["fate"], row["reason"]): row["count"] for row in rows}
    told = Counter(out.topic for out in channel.got)
    assert late == 0
    assert fates == {
        ("paid", "sent", "sent"): due["paid"],
        ("shipped", "sent", "sent"): due["shipped"],
        ("offer", "sent", "sent"): told["offer"],
        ("offer", "dropped", "out_of_date"): due["offer"] - told["offer"],
    }
    assert 0 < told["offer"] < due["offer"]
    assert await house.waiting() == 0
    assert len({out.attempt_id for out in channel.got}) == len(channel.got)


async def test_flood_of_one_shop_leaves_the_others_their_share(house: House) -> None:
    """A shop with ten times as much as a claim takes must not put off what the others have due, however late they came."""
    house.serve("acme", "bell", "cart")
    channel = Scripted()
    dispatcher = house.dispatcher(channel, batch=30)
    people = [replace(contact(n), tenant=tenant) for tenant in ("acme", "bell", "cart") for n in range(300)]
    await house.put(*(notice("shipped", n) for n in range(300)), contacts=people)
    for tenant in ("bell", "cart"):
        await house.put(*(of(tenant, notice("shipped", n, f"{tenant}{n}", after_s=60)) for n in range(8)), contacts=())
    house.clock.turn(60)
    await dispatcher.step()
    assert len(channel.got) == 26
    assert sum(out.order_no.startswith(("bell", "cart")) for out in channel.got) == 16
    await dispatcher.step()
    assert len(channel.got) == 56


class Slow(Scripted):
    """A provider that keeps everything waiting but what is critical."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_max = 1
        self.opened, self.told = asyncio.Event(), asyncio.Event()
        self.kept = 0

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Take a batch, at the gate unless it is critical."""
        if not batch[0].urgent:
            self.kept += 1
            await self.opened.wait()
        answers = await super().send(batch)
        if batch[0].urgent:
            self.told.set()
        return answers


async def test_critical_passes_a_provider_that_keeps_others_waiting(house: House) -> None:
    """With every place of the other lanes taken, and more waiting, what is critical must go out all the same."""
    channel = Slow()
    dispatcher = house.dispatcher(channel, batch=CROWD, poll_ms=1)
    await house.put(*(notice("offer" if n % 2 else "shipped", n) for n in range(40)))
    running = asyncio.create_task(dispatcher.run())
    try:
        async with asyncio.timeout(20):
            while channel.kept < 4:  # noqa: ASYNC110 - the places fill up one by one
                await asyncio.sleep(0)
            await house.put(notice("paid", 100))
            await channel.told.wait()
        assert [out.topic for out in channel.got] == ["paid"]
    finally:
        channel.opened.set()
        await dispatcher.close()
        await running
    assert all(status == "accepted" for status in await house.statuses())
