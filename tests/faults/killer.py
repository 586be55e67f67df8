"""The killer of the fault test: a seeded list of deaths, each in the middle of the flow of events."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.feeder import Feeder
from tests.faults.rig import Process, Rig

Fault = Literal["web", "worker", "stop PostgreSQL", "kill PostgreSQL", "zombie"]

DATABASE_FAULTS: tuple[Fault, ...] = (
    "kill PostgreSQL", "stop PostgreSQL", "kill PostgreSQL", "stop PostgreSQL",
)  # fmt: skip
PROCESS_FAULTS = 24
LAST_WEBS = 3
"""At the end no worker dies, so that the leases of the dead are over when the flood is."""

ZOMBIE_AT = 3
ZOMBIE_S = 14.0
"""Longer than a lease and its grace."""

PAUSE_S = (0.2, 1.2)
IN_FLIGHT_SHARE = 0.7
"""Of the deaths of workers: those that come while a request to the sandbox is under way."""

IN_FLIGHT_WITHIN_S = 2.0
REACHED_WITHIN_S = 60.0
"""For the events of one step: longer than both web processes need to come back on a machine that is busy."""


@dataclass
class Killer:
    """Lets the feeder go on step by step, and kills somebody in each."""

    rig: Rig
    feeder: Feeder
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"killer {self.seed}")
        self._began_s = time.monotonic()
        self._waking: asyncio.Task[None] | None = None

    def plan(self) -> list[Fault]:
        """The deaths in their order: those of the database spread evenly among the others, and one zombie."""
        faults: list[Fault] = [self._dice.choice(("web", "worker")) for _ in range(PROCESS_FAULTS - LAST_WEBS)]
        faults += ["web"] * LAST_WEBS
        gap = PROCESS_FAULTS // len(DATABASE_FAULTS)
        for number, fault in enumerate(DATABASE_FAULTS):
            faults.insert(gap // 2 + number * (gap + 1), fault)
        faults.insert(ZOMBIE_AT, "zombie")
        return faults

    async def run(self) -> None:
        """Do all of it, then let the rest of the events flow."""
        plan = self.plan()
        for number, fault in enumerate(plan):
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))
            begin, end = (self.feeder.goal * part // (len(plan) + 1) for part in (number, number + 1))
            await self.feeder.allow(end)
            async with asyncio.timeout(REACHED_WITHIN_S):
                await self.feeder.reached(begin + round((end - begin) * self._dice.uniform(0.05, 0.8)))
            await self._strike(fault)
        await self.feeder.allow(self.feeder.goal)
        if self._waking is not None:
            await self._waking

    async def _strike(self, fault: Fault) -> None:
        self.done[fault] += 1
        at_s = time.monotonic() - self._began_s
        name: str = fault
        if fault in ("web", "worker"):
            victim = self._dice.choice([process for process in self._of(fault) if not process.paused])
            if fault == "worker" and self._dice.random() < IN_FLIGHT_SHARE:
                victim = await self.rig.sender(IN_FLIGHT_WITHIN_S) or victim
            victim.send(signal.SIGKILL)
            name = victim.name
        elif fault == "zombie":
            victim = await self.rig.sender(IN_FLIGHT_WITHIN_S) or self.rig.workers[0]
            victim.send(signal.SIGSTOP)
            self._waking = asyncio.create_task(_wake(victim))
            name = f"zombie {victim.name}"
        else:
            server = self.rig.server
            down: Callable[[], None] = server.kill if fault == "kill PostgreSQL" else lambda: server.stop("immediate")
            await asyncio.to_thread(down)
            await asyncio.sleep(self._dice.uniform(0, 0.5))
            await asyncio.to_thread(server.ensure)
        self.log.append(f"{at_s:6.1f} s  {name}, {len(self.feeder.taken)} events taken")

    def _of(self, role: str) -> list[Process]:
        return self.rig.webs if role == "web" else self.rig.workers


async def _wake(victim: Process) -> None:
    await asyncio.sleep(ZOMBIE_S)
    victim.send(signal.SIGCONT)
