"""A dispatcher dies at each of eight places, with each provider: nothing is lost, and nobody is told twice unasked.

The places are those between "the lease is committed" and "the answer is committed". With each of them die four messages
in one go: two of a class that waits where nobody can find out what became of them, two of one that would rather be told
twice. Then another dispatcher takes over, on a clock that is turned.
"""

import asyncio
import contextlib
import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from orderbell.channels.protocol import Answer, Channel, InboundSms, Outgoing, Provider, ReceiptsBy, Recovery
from orderbell.core.events import ChannelName
from orderbell.core.model import Message, derive_id
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.outcomes import DOUBT_ENDS_AFTER, next_attempt
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.routes import Routes
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.store.departures import MESSAGE_COLUMNS
from orderbell.store.ledger import Claim, Departure
from tests.channels import situations
from tests.channels.situations import Rig, Situation
from tests.dispatch.rig import TENANT, House, Scripted

RIGS = sorted(file.stem for file in (Path(situations.__file__).parent / "rigs").glob("*.py"))
PLACES = {
    "lease committed": "dispatch.lease_committed",
    "before connect": "dispatch.before_send",
    "bytes written": "",  # the provider has it and has not answered: no line of ours runs then
    "answer unread": "http.answer_unread",
    "answer read": "dispatch.after_send",
    "before commit": "dispatch.before_settle",
    "during commit": "ledger.settle_written",
    "after commit": "dispatch.after_settle",
}
UNTAKEN = ("lease committed", "before connect")
ANSWERS = {"mail": "smtp.answer_unread", "smpp": "smpp.answer_unread"}
"""Where the answers of providers arrive that do not speak HTTP."""

OF_ITS_OWN = ("apprise",)
"""Those whose answers are read inside a package, between two lines of ours."""

SAYS_WHOSE = ("mail",)
"""Of those that cannot be asked: the ones whose receipts say which attempt they are about, even without an answer."""

SHARE_A_REQUEST = ("alibaba", "sandbox", "tencent")
NUMBERS = {5: False, 10: True, 15: False, 20: True}
"""The messages of a cell, and whether they are sent again in doubt; to Tencent those of one rest by 5 go together."""

NEXT = 100
"""Between the numbers of one cell and of the next with the same provider."""

SOON_S = 20


class AsSms(Provider):
    """A provider of what no notice goes by (robots, webhooks), as if it carried SMS: the wire is its own."""

    carries = frozenset({"sms"})

    def __init__(self, provider: Channel, channel: str) -> None:
        self.provider, self.channel, self.name = provider, channel, provider.name
        self.batch_max, self.recovery, self.receipts_by = provider.batch_max, provider.recovery, provider.receipts_by
        self.key_window_s, self.lookup_after_s = provider.key_window_s, provider.lookup_after_s

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Hand over as what it is."""
        return await self.provider.send([replace(one, channel=self.channel) for one in batch])


@dataclass
class Cell:
    """One provider and one place to die at, with the messages in one house; `resend` is whether each of them would be."""

    house: House
    rig: Rig
    name: str
    place: str
    channel: Channel
    resend: dict[int, bool]
    messages: dict[int, Message] = field(default_factory=dict)
    attempts: dict[bytes, int] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def dispatcher(self) -> Dispatcher:
        """A dispatcher that knows nothing but what is written down."""
        routes = Routes([self.channel], self.house.clock())
        routes.set_templates(self.codes)
        return self.house.dispatcher(routes)

    def handed_over(self) -> Counter[int]:
        """How often the provider took each message."""
        numbers = (self.attempts.get(one, int.from_bytes(one, "big")) for one in self.rig.handed_over())
        return Counter(number for number in numbers if number in self.resend)

    async def statuses(self) -> dict[int, str]:
        """The status of each message."""
        rows = await self.house.pool.fetch("SELECT message_id, status FROM message")
        known = {message.id: number for number, message in self.messages.items()}
        return {known[row["message_id"]]: row["status"] for row in rows}


async def furnish(house: House, rig: Rig, name: str, place: str) -> Cell:
    """Write the messages as the planner does when no provider is free: queued, none tried yet."""
    await house.clear()
    house.clock.at = now = datetime.now(UTC)
    first = NEXT * list(PLACES).index(place)
    cell = Cell(house, rig, name, place, rig.channel, {first + one: resend for one, resend in NUMBERS.items()})
    for number, resend in cell.resend.items():
        wanted = rig.outgoing(number)
        carried = next((name for name in get_args(ChannelName) if name == wanted.channel), None)
        if carried is None:
            cell.channel = AsSms(rig.channel, wanted.channel)
        message = Message(
            derive_id(now, number), TENANT, f"c{number}", carried or "sms", wanted.to, wanted.topic or "shipped",
            "parcel", "critical", wanted.order_no or f"A{number}", wanted.text, wanted.subject, (), now, now,
            now + timedelta(days=1), template=wanted.template, slots=wanted.slots, resend=resend,
        )  # fmt: skip
        cell.messages[number] = message
        cell.attempts |= {next_attempt(message, tries): number for tries in range(1, 5)}
        cell.codes = {rig.channel.name: {wanted.template: wanted.template_code}}
    claim = Claim(now, 0, [], 0)
    rows = [
        house.ledger._message_row(Departure(message, next_attempt(message, 0), 0), claim, "queued", "", now, "paced")
        for message in cell.messages.values()
    ]
    await house.pool.copy_records_to_table("message", records=rows, columns=MESSAGE_COLUMNS)
    return cell


async def until_taken(cell: Cell) -> None:
    """Wait until the provider has every message."""
    async with asyncio.timeout(SOON_S):
        while True:
            if cell.handed_over().total() >= len(NUMBERS):
                return
            await asyncio.sleep(0)


async def die(cell: Cell) -> None:
    """Let a dispatcher send the messages, and die."""
    await cell.channel.check()  # whoever needs an access token has one
    if cell.place == "bytes written":
        await cell.rig.arrange(Situation.NEVER_ANSWERS)
        sending = asyncio.create_task(cell.dispatcher().step())
        await until_taken(cell)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await cell.rig.arrange(Situation.HEALTHY)
        return
    name, visit = PLACES[cell.place], 1
    if cell.place == "answer unread":
        # With the last of the answers, so that the provider surely has all.
        name, visit = ANSWERS.get(cell.name, name), 1 if cell.name in SHARE_A_REQUEST else len(NUMBERS)
    arm_failpoints(f"{name}=raise@{visit}")
    with pytest.raises((FailpointReached, BaseExceptionGroup)) as death:
        await cell.dispatcher().step()
    arm_failpoints("")
    assert isinstance(death.value, FailpointReached) or death.group_contains(FailpointReached)


async def take_over(cell: Cell) -> None:
    """Let another dispatcher do whatever there is to do, until only a receipt could change anything."""
    clock, heir = cell.house.clock, cell.dispatcher()
    await cell.house.end_leases()
    for pause_s in (0.0, cell.channel.lookup_after_s, DOUBT_ENDS_AFTER.total_seconds()):
        clock.turn(pause_s)
        await heir.resolve()
        while (due_at := await heir.next_due_at()) is not None:
            clock.at = max(clock.at, due_at)
            await heir.step()
    await read_receipts(cell, heir)


async def read_receipts(cell: Cell, heir: Dispatcher) -> None:
    """Bring every receipt that the provider has given by now."""
    told = await cell.rig.receipts()
    if cell.channel.receipts_by is ReceiptsBy.PULL:
        while await heir.receipts():
            continue
    elif told:
        receiver = Receiver(cell.house.ledger, cell.house.clock, learn=False)
        await receiver.take(cell.channel.name, told)
        await heir.match()


async def judge(cell: Cell, before: Counter[int]) -> dict[str, int]:
    """See to it that each message is where it must be; `before` is how often each was taken before the death."""
    after, statuses, recovery = cell.handed_over(), await cell.statuses(), cell.channel.recovery
    known = recovery is not Recovery.NONE or cell.place == "after commit"
    for number, resend in cell.resend.items():
        status = "accepted" if cell.channel.receipts_by is ReceiptsBy.NONE else "delivered"
        times = 1
        if not known:
            times = before[number] + resend
            told = resend or (cell.name in SAYS_WHOSE and before[number])
            status = status if told else "unknown"
        assert (after[number], statuses[number]) == (times, status), f"{cell.name}, {cell.place}: {number}"
    unknown = [number for number, status in statuses.items() if status == "unknown"]
    twice = [number for number, times in after.items() if times > 1]
    backlog = await cell.house.ledger.backlog(cell.house.clock())
    assert (backlog.queued, backlog.requests, backlog.unknown) == (0, 0, len(unknown)), cell.place
    return {
        "deaths": 1,
        "messages": len(cell.resend),
        "lost": sum(not after[number] and number not in unknown for number in cell.resend),
        "never sent, shown as unknown": sum(not after[number] for number in unknown),
        f"twice ({recovery})": len(twice),
        "twice against the class": sum(not cell.resend[number] for number in twice),
    }


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """Count over all providers, and tell it at the end."""
    counted: Counter[str] = Counter()
    yield counted
    sys.stdout.write("\n" + ", ".join(f"{name} {number}" for name, number in counted.items()) + "\n")


@pytest.mark.parametrize("name", RIGS)
async def test_death_at_every_place(house: House, tmp_path: Path, name: str, tally: Counter[str]) -> None:
    """What a dead dispatcher leaves must be told once; twice only where nobody can know and the class wants it."""
    async with importlib.import_module(f"tests.channels.rigs.{name}").rig(tmp_path) as rig:
        for place in PLACES:
            if place == "answer unread" and name in OF_ITS_OWN:
                continue
            cell = await furnish(house, rig, name, place)
            await die(cell)
            before = cell.handed_over()
            assert before == Counter({} if place in UNTAKEN else dict.fromkeys(cell.resend, 1)), place
            left = "accepted" if place == "after commit" else "sending"
            assert await cell.statuses() == dict.fromkeys(cell.resend, left), place
            await take_over(cell)
            tally.update(await judge(cell, before))


async def test_repeat_whose_template_was_withdrawn(house: House, tmp_path: Path) -> None:
    """An attempt that may have been taken must not count as refused because it cannot be made again."""
    async with importlib.import_module("tests.channels.rigs.wechat").rig(tmp_path) as rig:
        cell = await furnish(house, rig, "wechat", "before commit")
        await die(cell)
        cell.codes = {}
        await house.end_leases()
        await cell.dispatcher().resolve()
        assert await cell.statuses() == dict.fromkeys(cell.resend, "unknown")
        assert cell.handed_over() == Counter(dict.fromkeys(cell.resend, 1))


class Asked(Scripted):
    """A provider that counts how often it is asked for replies."""

    times = 0

    async def inbound(self, limit: int, after: str = "") -> list[InboundSms]:
        """Nobody wrote."""
        self.times += 1
        return []


async def test_replies_are_read_by_one_process(house: House) -> None:
    """Who does not read the receipts of a connection must not ask it for replies either, until the reader is dead."""

    async def keep(_provider: str, _messages: Sequence[InboundSms]) -> None:
        """Nothing comes."""

    first, second = Asked(), Asked()
    reader, heir = (
        Dispatcher(house.ledger, house.shelves, [channel], now=house.clock, inbound=keep) for channel in (first, second)
    )
    await reader.receipts()
    for dispatcher in (heir, reader):
        await dispatcher.inbound()
    assert (first.times, second.times) == (1, 0)
    await house.end_leases()
    heir._lease.renounce()
    await heir.inbound()
    assert (first.times, second.times) == (1, 1)
