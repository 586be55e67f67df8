"""The figures of the overview are those of the rows, and the news are told once."""

from datetime import timedelta

from orderbell.store.overview import Overview
from orderbell.store.pulse import Rollup
from orderbell.store.postgres import Store
from tests.town import running_town


async def test_smoke(store: Store) -> None:
    async with running_town(store) as town:
        rollup = Rollup(store, town.clock)
        over = Overview(store, "acme")
        news, mark = await over.news(town.clock())
        assert news == []
        for n in range(5):
            await town.tell("order.placed", f"A{n}", people={"buyer": {"phone": f"+861380013800{n % 3}"}})
        await town.tell("payment.failed", "A1")
        news, mark = await over.news(town.clock(), mark)
        print(*news, sep="\n")
        await town.dispatcher.step()
        town.clock.turn(1)
        news, mark = await over.news(town.clock(), mark)
        print(*news, sep="\n")
        while await rollup.round():
            pass
        print(await over.figures(town.clock(), town.clock().replace(hour=0, minute=0, second=0), ["payment_failed"], {"scripted": 4500}))
