"""Looking finds what is there, all of it and nothing else, whatever is asked for."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from orderbell.store.lines import CaseFilter, MessageFilter, NoticeFilter, OrderFilter
from orderbell.store.looking import Looking, order_versions
from orderbell.store.pages import Page, cursor_of
from orderbell.store.postgres import Store
from tests.town import Town, running_town

Line = TypeVar("Line")


async def walk(look: Callable[[str], Awaitable[Page[Line]]]) -> list[Line]:
    """All pages of a list, one after the other."""
    found: list[Line] = []
    after = ""
    while True:
        page = await look(after)
        found += page.items
        after = page.next
        if not after:
            return found


async def test_smoke(store: Store) -> None:
    async with running_town(store) as town:
        for n in range(5):
            await town.tell("order.placed", f"A{n}", people={"buyer": {"phone": f"+861380013800{n % 3}"}})
        look = Looking(store, "acme")
        print([l.order.no for l in (await look.orders(OrderFilter())).items])
        for text in ("A", "A3", "8000", "13800138001", "001", "%", "+86 138-0013-8002"):
            print(text, [l.order.no for l in await walk(lambda after: look.orders(OrderFilter(text=text), after, 1))])
        print([l.order.no for l in await walk(lambda after: look.orders(OrderFilter(stage="placed"), after, 2))])
        print([l.order.no for l in await walk(lambda after: look.orders(OrderFilter(light="red"), after, 2))])
        await town.tell("payment.failed", "A1")
        await town.tell("payment.failed", "A3")
        print([l.order.no for l in await walk(lambda after: look.orders(OrderFilter(light="red"), after, 1))])
        print([l.order.no for l in await walk(lambda after: look.orders(OrderFilter(anomaly="payment_failed"), after, 1))])
        print(await look.people("8001"), await look.people("x"))
        print(await look.notices(NoticeFilter(fate="waiting")))
        print(await look.notices(NoticeFilter(fate="waiting", order_no="A1")))
        town.clock.turn(3600)
        await town.dispatcher.step() if hasattr(town.dispatcher, "step") else None
        for state in ("", "waiting", "unknown", "failed"):
            print(state, await look.messages(MessageFilter(state=state)))
        print(await look.messages(MessageFilter(order_no="A1")), await look.messages(MessageFilter(contact="A1", created_from=town.clock())))
        print(await look.notices(NoticeFilter()), await look.notices(NoticeFilter(order_no="A1")))
        print(await look.cases(CaseFilter()), await look.cases(CaseFilter(state="open")), await look.cases(CaseFilter(owner="finance", order_no="A1")))
        print(await look.case("00" * 16), await look.message("00" * 16), await look.unknowns())
        print(await order_versions(store, [("acme", "A1"), ("other", "A1"), ("acme", "\0")]))
        print(await walk(lambda after: look.orders_of((l.order.parties[0].contact), after, 1)) for l in (await look.orders(OrderFilter())).items)
