"""The feeder of the fault test: a shop that tells a seeded stream of events and believes only what it was answered.

Every event is sent again, with the same id, until it was answered; the next event of an order is sent only then.
So the feeder knows what was accepted, and in which order.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from orderbell.app.shop import Story, tell_stories
from orderbell.channels.http import HttpClient, NoReply, Reply
from orderbell.core.events import Answer, Status
from orderbell.sources.events import Answers

SOURCE = "shop"
SIZES = (1, 1, 1, 7, 7, 7, 100)
CLIENTS = 8
SPARE = 1.15  # so many events are ready, so that the last ones are not all of a few orders
PATH = "/v1/events"
PAUSE_S = 0.1
TIMEOUT_S = 15.0
SLOW_S = 3.0
_decode_one = msgspec.json.Decoder(Answer).decode
_decode_many = msgspec.json.Decoder(Answers).decode

Kind = Literal["fresh", "again", "altered"]
TAKEN = (Status.ACCEPTED, Status.DUPLICATE)


@dataclass
class Life:
    """An order whose story is being told; its next event is that at `told`."""

    order_no: str
    playbook: str
    beats: list[tuple[int, str, dict[str, Any]]]
    told: int = 0
    began_at: datetime | None = None


@dataclass(frozen=True)
class Item:
    """An event in a batch, as it travels; `life` is the order that goes on when a fresh one was answered."""

    kind: Kind
    id: str
    body: bytes
    life: Life | None = None


@dataclass
class Feeder:
    """Tells `goal` events through several clients; `allowed` says how far it may go for now."""

    urls: list[str]
    key: str
    seed: int
    goal: int
    taken: dict[str, bytes] = field(default_factory=dict)
    """The bodies of accepted events by id."""
    sequence: dict[str, list[str]] = field(default_factory=dict)
    """The ids of accepted events by order, as they were told."""
    altered: Counter[str] = field(default_factory=Counter)
    """How often each id was refused because its body had changed."""
    wrong: list[str] = field(default_factory=list)
    """Answers that must not come."""
    retries: Counter[str] = field(default_factory=Counter)
    longest_s: list[tuple[float, str]] = field(default_factory=list)
    """Requests that were answered late or never: seconds, and what came of them."""
    requests: int = 0
    again: int = 0
    allowed: int = 0
    begun: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._changed = asyncio.Condition()
        self._past: list[Item] = []
        self._ready = list(_lives(self._dice, self.goal))
        self._clients = [HttpClient(url, token=self.key, timeout_s=TIMEOUT_S) for url in self.urls]

    async def run(self) -> None:
        """Tell everything; returns when all was answered."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(self._client(number))
        finally:
            for client in self._clients:
                await client.close()

    async def allow(self, count: int) -> None:
        """Let it go on until so many events were begun."""
        async with self._changed:
            self.allowed = min(count, self.goal)
            self._changed.notify_all()

    async def reached(self, count: int) -> None:
        """Wait until so many events were answered."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= min(count, self.goal))

    async def _client(self, number: int) -> None:
        turn = number
        while True:
            async with self._changed:
                # while all orders wait for an answer, so does this client
                await self._changed.wait_for(
                    lambda: self.begun >= self.goal or (self.begun < self.allowed and self._ready)
                )
                if self.begun >= self.goal:
                    return
                batch = self._batch()
            turn = await self._deliver(batch, turn)
            async with self._changed:
                self._changed.notify_all()

    def _batch(self) -> list[Item]:
        """The next events of some orders, among them some that were told before."""
        dice, batch = self._dice, []
        size = min(dice.choice(SIZES), len(self._ready), self.goal - self.begun)
        for _ in range(size):
            place = dice.randrange(len(self._ready))
            self._ready[place], self._ready[-1] = self._ready[-1], self._ready[place]
            item = _next_item(self._ready.pop(), dice)
            batch += [item] * dice.choice((1, 1, 1, 1, 2, 3)) if size > 1 else [item]
        self.begun += size
        if self._past and (size > 1 or dice.random() < 0.2):
            for old in dice.choices(self._past, k=1 + size // 10):
                new = _altered(old) if dice.random() < 0.2 else Item("again", old.id, old.body)
                batch.insert(dice.randrange(len(batch) + 1), new)
        return batch

    async def _deliver(self, batch: list[Item], turn: int) -> int:
        """Send a batch until it was answered, to the web processes in turn."""
        body = batch[0].body if len(batch) == 1 else b"[" + b",".join(item.body for item in batch) + b"]"
        tries = 0
        while True:
            turn, tries = turn + 1, tries + 1
            self.requests += 1
            asked_s = time.monotonic()
            answered = await self._clients[turn % len(self._clients)].request("POST", PATH, body)
            if (took_s := time.monotonic() - asked_s) > SLOW_S:
                said = f"HTTP {answered.status}" if isinstance(answered, Reply) else answered.detail
                self.longest_s.append((round(took_s, 1), f"web{turn % len(self._clients)} {said}"))
            answers = _read(answered, single=len(batch) == 1)
            if answers is not None and len(answers) == len(batch):
                break
            self._note_retry(answered)
            await asyncio.sleep(PAUSE_S)
        seen: set[str] = set()
        for item, answer in zip(batch, answers, strict=True):
            self._note(item, answer, sure=tries == 1 and item.id not in seen)
            seen.add(item.id)
        return turn

    def _note_retry(self, answered: Reply | NoReply) -> None:
        if isinstance(answered, NoReply):
            self.retries["answer lost" if answered.perhaps_sent else "not reached"] += 1
        else:
            self.retries[f"HTTP {answered.status}"] += 1
            if answered.status not in (429, 503):
                self.wrong.append(f"HTTP {answered.status}: {answered.body[:300]!r}")

    def _note(self, item: Item, answer: Answer, *, sure: bool) -> None:
        """Believe an answer; `sure` when the event cannot have been taken before, or must have been."""
        status = answer.status
        if item.kind == "altered":
            if answer.reason != "altered_duplicate":
                self.wrong.append(f"an altered duplicate: {answer}")
            self.altered[item.id] += 1
        elif item.kind == "again":
            self.again += 1
            if status is not Status.DUPLICATE:
                self.wrong.append(f"an event that was taken before: {answer}")
        elif status not in TAKEN or (sure and status is Status.DUPLICATE):
            self.wrong.append(f"a new event: {answer}")
        elif item.id not in self.taken and item.life is not None:
            life = item.life
            self.taken[item.id] = item.body
            self.sequence.setdefault(life.order_no, []).append(item.id)
            self._past.append(item)
            life.told += 1
            if life.told < len(life.beats):
                self._ready.append(life)


def _lives(dice: random.Random, goal: int) -> Iterator[Life]:
    stories = tell_stories(dice.randrange(1 << 30), datetime.now(UTC) - timedelta(days=2), timedelta(seconds=1))
    count = 0
    while count < goal * SPARE:
        life = _life(next(stories), dice)
        count += len(life.beats)
        yield life


def _life(story: Story, dice: random.Random) -> Life:
    """A story with its events in their order, or with some of them told late; half of them with short deadlines."""
    beats = [(number, beat.type, _with_tiers(beat.data)) for number, beat in enumerate(story.beats)]
    if dice.random() < 0.2:
        late = beats[1:]
        dice.shuffle(late)
        beats[1:] = late
    playbook = dice.choice((story.playbook, f"hasty_{story.playbook}"))
    return Life(story.order_no, playbook, beats)


def _with_tiers(data: dict[str, Any]) -> dict[str, Any]:
    """The shop says who is who: else that would depend on which of a person's orders is decided first."""
    if "people" not in data:
        return data
    return data | {"people": {role: {"tier": "regular"} | person for role, person in data["people"].items()}}


def _next_item(life: Life, dice: random.Random) -> Item:
    number, kind, data = life.beats[life.told]
    if life.began_at is None:
        life.began_at = datetime.now(UTC) - timedelta(seconds=1)
    wire: dict[str, Any] = {
        "specversion": "1.0", "id": f"{life.order_no}-{number}", "source": SOURCE, "type": kind,
        "subject": life.order_no, "data": data, "playbook": life.playbook,
    }  # fmt: skip
    if dice.random() < 0.5:
        wire["time"] = life.began_at + timedelta(milliseconds=20 * number)
    return Item("fresh", wire["id"], msgspec.json.encode(wire), life)


def _altered(old: Item) -> Item:
    wire = msgspec.json.decode(old.body)
    wire["type"], wire["data"] = "order.confirmed", {}
    return Item("altered", old.id, msgspec.json.encode(wire))


def _read(answered: Reply | NoReply, *, single: bool) -> list[Answer] | None:
    """The answers to a batch, None where it must be sent again."""
    if isinstance(answered, NoReply):
        return None
    if not single:
        return _decode_many(answered.body).results if answered.status == 200 else None
    if answered.status in (200, 202):
        return [_decode_one(answered.body)]
    if answered.status in (409, 422):
        problem = msgspec.json.decode(answered.body)
        return [Answer(problem.get("id", ""), Status.REFUSED, problem.get("reason", ""), "", problem["detail"])]
    return None
