"""Orders looked up by whoever counts through the numbers: nothing is learnt, neither by answers nor by their time."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from orderbell.core.model import Contact
from orderbell.store.postgres import Store
from orderbell.web.guest import look_up
from orderbell.web.guest.desk import TooOften
from orderbell.web.guest.look_up import _LookingUp
from tests.dispatch.rig import Clock
from tests.guests import PHONE, Pages, buyer, running_pages
from tests.security.counting import rank_distance, statements

NUMBERS = 100_000
EACH = 97
"""Every so-manieth number is an order's."""


class MemoryThrottle:
    """Counts as the real one does, in memory, so that a hundred thousand tries take seconds."""

    def __init__(self, now: Clock) -> None:
        self.now = now
        self.hits: dict[tuple[str, str], list[datetime]] = {}

    async def take(self, scope: str, key: str, limit: int, window: timedelta) -> int:
        """Let a try through, or say after how long."""
        now = self.now()
        recent = [at for at in self.hits.get((scope, key), []) if at > now - window]
        self.hits[scope, key] = recent
        if len(recent) >= limit:
            return max(1, round((recent[-limit] + window - now).total_seconds()))
        recent.append(now)
        return 0


class Ledger:
    """Orders in memory; notes which numbers were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pages = 0

    async def holders(self, _tenant: str, order_no: str) -> tuple[object, list[Contact]] | None:
        """The people of an order, where there is one."""
        self.asked.append(order_no)
        people = [Contact(id="ann", tenant="acme", phone=PHONE)]
        return (SimpleNamespace(playbook="retail"), people) if int(order_no) % EACH == 0 else None

    async def page(self, *_: object) -> None:
        """Never gets this far with wrong digits."""
        self.pages += 1


def counting_desk(throttle: MemoryThrottle, ledger: Ledger, address: Callable[[], str]) -> Any:  # noqa: ANN401 - stands in for a desk
    """What looking up needs of a desk, in memory."""
    return SimpleNamespace(throttle=throttle, tracking=ledger, client=lambda _: address(), now=throttle.now)


async def _told(work: Awaitable[str]) -> str:
    """What an asker learns: a way in, a miss, or how long to wait."""
    try:
        return await work or "miss"
    except TooOften as often:
        return f"wait {often.wait}"


async def test_hundred_thousand_numbers_from_as_many_addresses() -> None:
    """With wrong digits every number must be the same miss, after the same questions, whether it is an order's or not."""
    throttle, ledger, place = MemoryThrottle(Clock()), Ledger(), iter(range(NUMBERS))
    looking = _LookingUp(counting_desk(throttle, ledger, lambda: f"2001:db8::{next(place)}"), lambda: ["acme"])
    request: Any = None
    answers = {await _told(looking.found(request, "", str(number), "1111")) for number in range(NUMBERS)}
    assert answers == {"miss"}
    assert ledger.asked == [str(number) for number in range(NUMBERS)]
    assert ledger.pages == 0
    assert {scope: sum(one == scope for one, _ in throttle.hits) for scope in ("track.address", "track.order")} == {
        "track.address": NUMBERS, "track.order": NUMBERS,
    }  # fmt: skip


async def test_hundred_thousand_numbers_from_one_address() -> None:
    """Of one address five numbers a minute must be looked at, and none of the others, whatever they are."""
    clock, ledger = Clock(), Ledger()
    looking = _LookingUp(counting_desk(MemoryThrottle(clock), ledger, lambda: "198.51.100.1"), lambda: ["acme"])
    request: Any = None
    minutes, answers = 10, []
    for number in range(NUMBERS):
        clock.turn(minutes * 60 / NUMBERS)
        answers.append(await _told(looking.found(request, "", str(number), "1111")))
    assert len(ledger.asked) == 5 * minutes
    assert answers.count("miss") == 5 * minutes
    waits = {answer for answer in answers if answer.startswith("wait")}
    assert waits <= {f"wait {timedelta(seconds=seconds)}" for seconds in range(1, 61)}


async def test_crowd_at_one_order_gets_ten_tries_an_hour() -> None:
    """From however many addresses, ten pairs of digits an hour must be tried against a number, order or not."""
    for order_no in ("97", "98"):
        throttle, ledger, place = MemoryThrottle(Clock()), Ledger(), iter(range(10_000))
        desk = counting_desk(throttle, ledger, lambda place=place: f"2001:db8::{next(place)}")  # type: ignore[misc]
        looking, request = _LookingUp(desk, lambda: ["acme"]), SimpleNamespace()
        told = [
            await _told(looking.found(request, "", order_no, f"{digits:04d}"))  # type: ignore[arg-type]
            for digits in range(5_000)
        ]
        assert told == ["miss"] * 10 + ["wait 1:00:00"] * 4_990


async def _asked(pages: Pages, order_no: str, digits: str = "1111", **more: str) -> tuple[int, str, str]:
    """Status, how long to wait, and the page without what the asker has typed and what each answer has of its own."""
    answer = await pages.http.post("/track", data={"order": order_no, "phone": digits, **more})
    text = re.sub(r'nonce="[^"]*"', "", answer.text).replace(f'value="{order_no}"', "")
    return answer.status_code, answer.headers.get("retry-after", ""), text


async def test_numbers_in_a_row_over_http(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of numbers in a row, a third of them orders, all answers must be one and the same, before and after the limits."""
    monkeypatch.setattr(look_up, "ANSWER_S", 0.01)
    async with running_pages(store) as pages:
        for number in range(0, 60, 3):
            await pages.tell("order.placed", str(1000 + number), people=buyer())
        free, late = set(), set()
        for number in range(60):
            answer = await _asked(pages, str(1000 + number))
            free.add(answer)
            if number % 5 == 4:
                late.update([await _asked(pages, str(1000 + number + more)) for more in range(4)])
                pages.clock.turn(61)
        assert [(status, wait) for status, wait, _ in free] == [(404, "")]
        assert [(status, wait) for status, wait, _ in late] == [(429, "60")]
        crowd = set()
        monkeypatch.setattr(look_up, "BY_ADDRESS", (1000, timedelta(minutes=1)))
        for order_no in ("1000", "1001"):
            pages.clock.turn(3600)
            answers = [await _asked(pages, order_no, f"{digits:04d}") for digits in range(14)]
            assert [status for status, *_ in answers] == [404] * 10 + [429] * 4
            crowd.update(answers[10:])
        assert len(crowd) == 1


async def test_misses_ask_the_database_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is not there must run the same statements in the same order as one whose digits are wrong."""
    monkeypatch.setattr(look_up, "ANSWER_S", 0.01)
    monkeypatch.setattr(look_up, "BY_ADDRESS", (1000, timedelta(minutes=1)))
    async with running_pages(store, ("acme", "other")) as pages:
        await pages.tell("order.placed", people=buyer())
        await pages.tell("order.placed", "N1")
        await pages.tell("order.placed", "X1", tenant="other", people=buyer())
        seen = {}
        async with statements(store) as noted:
            for order_no, digits in (("A1", "1111"), ("Z1", "8000"), ("N1", "8000"), ("X1", "8000"), ("A1", ""), ("", ""), ("订单", "x")):  # fmt: skip
                await _asked(pages, order_no, digits, shop="acme")  # the shop's brand is read and kept
                noted.clear()
                assert (await _asked(pages, order_no, digits, shop="acme"))[0] == 404
                seen[order_no, digits] = list(noted)
    for miss, run in seen.items():
        assert run == seen["A1", "1111"], miss


async def test_misses_take_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured in turns that are shuffled, the ranks of both kinds of misses must be mixed."""
    monkeypatch.setattr(look_up, "BY_ADDRESS", (1000, timedelta(minutes=1)))
    monkeypatch.setattr(look_up, "BY_ORDER", (1000, timedelta(minutes=1)))
    monkeypatch.setattr(look_up, "ANSWER_S", 0.1)
    dice, spans = random.Random(5), {"A1": [], "Z1": []}  # type: ignore[var-annotated]
    loop = asyncio.get_running_loop()

    async def ask(pages: Pages, order_no: str) -> None:
        begun = loop.time()
        assert (await _asked(pages, order_no))[0] == 404
        spans[order_no].append(loop.time() - begun)

    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        for _ in range(10):
            turns = ["A1", "Z1"] * 4
            dice.shuffle(turns)
            await asyncio.gather(*(ask(pages, order_no) for order_no in turns))
    assert abs(rank_distance(spans["A1"], spans["Z1"])) < 5


def test_ranks_tell_what_differs() -> None:
    """The measure itself must see a difference that is there, and none where there is none."""
    dice = random.Random(1)
    one, other = ([dice.gauss(mean) for _ in range(40)] for mean in (0.0, 0.0))
    assert abs(rank_distance(one, other)) < 3
    assert rank_distance([value + 5 for value in one], other) > 6
    assert rank_distance([1.0] * 40, [1.0] * 40) == 0
