"""Trials of drafts on past orders: each in a process of its own, its progress and result in the database.

So any process can show how far a trial is and stop it, whichever runs it; and one that dies leaves nothing behind but
a trial that says nothing any more.
"""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from time import monotonic
from typing import Final
from uuid import UUID, uuid4

import msgspec
import structlog
from msgspec import Struct

from orderbell.app.activation import Desk
from orderbell.app.clock import Clock
from orderbell.app.trial import LIVES_MAX_S, Job, Side
from orderbell.core.playbook import Playbook
from orderbell.insight.comparison import Comparison
from orderbell.insight.page import digest, language_of, render_page
from orderbell.store.postgres import Store
from orderbell.store.trail import Trail
from orderbell.store.trials import State, Trial, TrialBook, TrialRunning
from orderbell.web.console.trials import Begun, Findings

ORDERS_MAX: Final = 5_000
EVENTS_MAX: Final = 60_000
BEAT_S: Final = 1.0
_LINE_BYTES_MAX: Final = 32 * 1024 * 1024

log = structlog.get_logger()


class _Result(Struct, frozen=True):
    """What is kept of a trial; no comparison where there was no order to compare."""

    is_cut: bool
    comparison: Comparison | None = None


class Trying:
    """Tries drafts; see `orderbell.web.console.trials.Trials`. `close` stops what runs here."""

    def __init__(self, store: Store, desk: Desk, now: Clock) -> None:
        self._store, self._desk, self._now = store, desk, now
        self._running: set[asyncio.Task[None]] = set()

    async def begin(self, tenant: str, name: str, body: str, *, days: int, actor: str) -> Begun:
        """Try a draft on the orders of the last days, against what counts."""
        checked = await self._desk.check(body)
        counts = self._desk.shelf(tenant).playbooks.get(name)
        if checked.playbook is None or checked.faults or checked.playbook.name != name or counts is None:
            return "faults"
        now = self._now()
        trial = Trial(
            uuid4(), name, checked.playbook.version, counts.version, days, "running", 0, 0, "", now, now, actor, None
        )
        try:
            await TrialBook(self._store, tenant).start(trial)
        except TrialRunning:
            return "busy"
        detail = {"version": trial.version, "against": trial.against, "days": days}
        await Trail(self._store, self._now).write(tenant, actor, "playbook.try", name, detail)
        task = asyncio.create_task(self._run(tenant, trial, counts, checked.playbook))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return "begun"

    async def latest(self, tenant: str, name: str) -> Trial | None:
        """The last trial of a playbook."""
        return await TrialBook(self._store, tenant).latest(name)

    async def stop(self, tenant: str, name: str) -> None:
        """Ask what runs for a playbook to stop, wherever it runs."""
        await TrialBook(self._store, tenant).ask_to_stop(name)

    def findings(self, trial: Trial, locale: str) -> Findings | None:
        """What a trial found, in the viewer's words."""
        found = _read(trial.result or b"")
        if found.comparison is None:
            return None
        said = digest(found.comparison, language_of(locale))
        return Findings(
            found.comparison.order_count, found.comparison.event_count, found.is_cut, found.comparison.is_same,
            said.summary, said.cards, said.kinds, said.topics, said.channels, said.hours, said.examples,
        )  # fmt: skip

    def report(self, trial: Trial, locale: str) -> str:
        """All of it as one page."""
        found = _read(trial.result or b"").comparison
        return render_page(found, language_of(locale)) if found is not None else ""

    @property
    def is_busy(self) -> bool:
        """Whether anything runs here."""
        return bool(self._running)

    async def finished(self) -> None:
        """Wait until something that runs here has ended."""
        if self._running:
            await asyncio.wait(list(self._running), return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Stop what runs here."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    async def _run(self, tenant: str, trial: Trial, counts: Playbook, draft: Playbook) -> None:
        book = TrialBook(self._store, tenant)
        state: State
        try:
            state, detail, result = await self._compare(book, trial, counts, draft)
        except TimeoutError:
            state, detail, result = "failed", "too_long", b""
        except asyncio.CancelledError:
            with suppress(Exception):
                await asyncio.shield(book.end(trial.id, "stopped", self._now()))
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the page must not wait for ever
            log.error("trial failed", tenant=tenant, name=trial.name, kind=type(problem).__name__, problem=str(problem))  # noqa: TRY400 - the trace may quote events
            state, detail, result = "failed", "error", b""
        with suppress(Exception):  # without the database the trial is given up by itself
            await book.end(trial.id, state, self._now(), detail=detail, result=result)

    async def _compare(
        self, book: TrialBook, trial: Trial, counts: Playbook, draft: Playbook
    ) -> tuple[State, str, bytes]:
        since = self._now() - timedelta(days=trial.days)
        past = await book.past(trial.name, since, orders_max=ORDERS_MAX, events_max=EVENTS_MAX)
        if not past.events:
            return "done", "", msgspec.json.encode(_Result(past.is_cut))
        job = Job(_side(counts, counts.version), _side(draft, draft.version), past.events)
        body = await asyncio.to_thread(msgspec.msgpack.encode, job)
        found = await self._in_a_process(book, trial.id, body, 2 * len(past.events))
        if found is None:
            return "stopped", "", b""
        kept = _Result(past.is_cut, msgspec.json.decode(found, type=Comparison))
        return "done", "", msgspec.json.encode(kept)

    async def _in_a_process(self, book: TrialBook, trial: UUID, body: bytes, total: int) -> bytes | None:
        """Run it; None where it was stopped."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orderbell.app.trial", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=_LINE_BYTES_MAX,
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIVES_MAX_S):
                return await self._hear(process, book, trial, body, total)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    async def _hear(
        self, process: asyncio.subprocess.Process, book: TrialBook, trial: UUID, body: bytes, total: int
    ) -> bytes | None:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        assert process.stdout is not None  # noqa: S101 - likewise
        if not await book.beat(trial, 0, total, self._now()):
            return None
        process.stdin.write(body)
        await process.stdin.drain()
        process.stdin.close()
        done, said_at = 0, monotonic()
        while True:
            line = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    line = await process.stdout.readline()
                    if not line:
                        raise RuntimeError("the process of the trial ended without a result")
            if line[:1] == b"r":
                return line[1:]
            done = int(line[1:]) if line else done
            if monotonic() - said_at >= BEAT_S or not line:
                said_at = monotonic()
                if not await book.beat(trial, done, total, self._now()):
                    return None


def _side(playbook: Playbook, label: str) -> Side:
    return Side(label, playbook.spec, {locale: words.spec for locale, words in playbook.wording.items()})


@lru_cache(maxsize=4)
def _read(result: bytes) -> _Result:
    return msgspec.json.decode(result, type=_Result)
