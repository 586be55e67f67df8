"""Sending seen and steered from the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from orderbell.app.sending import ProvidersMissing, ReasonTaken
from orderbell.cli import app
from orderbell.store.ledger import Ledger, Standing
from orderbell.store.postgres import Store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECRET = bytes(range(32)).hex()  # that of the tests' vault


class Desk:
    """Somebody at a terminal."""

    def __init__(self, store: Store) -> None:
        self.store, self.ledger = store, Ledger(store)

    async def run(self, *arguments: str) -> Result:
        """Run `orderbell dispatch`."""
        environment = {"ORDERBELL_DATABASE_URL": self.store.dsn, "ORDERBELL_SECRET_KEY": SECRET, "COLUMNS": "200"}
        return await asyncio.to_thread(CliRunner().invoke, app, ["dispatch", *arguments], env=environment)

    async def says(self, *arguments: str) -> str:
        """Run a command that must go well; gives what it printed."""
        done = await self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    """A desk at a fresh installation."""
    yield Desk(store)
    await store.close()


async def test_halt_keeps_its_reason_and_time(desk: Desk) -> None:
    """Who halts again without a word must not wipe out why and since when it was halted; a new reason is taken."""
    assert "Sending." in await desk.says("status")
    assert "wrong [/x] text" in await desk.says("halt", "--reason", "wrong [/x] text")
    _, _, since = await desk.ledger.halted()
    assert "wrong [/x] text" in await desk.says("halt")
    assert "another one" in await desk.says("halt", "--reason", "another one")
    assert await desk.ledger.halted() == (True, "another one", since)
    assert "Sending goes on." in await desk.says("resume")
    assert "by hand" in await desk.says("halt")
    assert json.loads(await desk.says("status", "--json"))["reason"] == "by hand"


async def test_only_a_restore_is_called_so(desk: Desk) -> None:
    """Nobody may halt for a reason that would have the providers asked for hours afterwards."""
    refused = await desk.run("halt", "--reason", "restored")
    assert isinstance(refused.exception, ReasonTaken)
    assert await desk.ledger.halted() == (False, "", None)


async def test_status_shows_how_providers_stand(desk: Desk) -> None:
    """The worst that any living worker knows of a provider must be shown, with the last trouble, and nothing older."""
    assert "No worker is sending now" in await desk.says("status")
    alive = [await desk.ledger.take_lease(name, timedelta(minutes=1)) for name in ("a", "b")]
    gone = await desk.ledger.take_lease("c", timedelta(0))
    paused = Standing("ali", "open", "account", "isv.AMOUNT_NOT_ENOUGH [/]", NOW + timedelta(seconds=30))
    await desk.ledger.put_standings(alive[0], [Standing("ali", "closed"), Standing("tencent", "closed")], NOW)
    await desk.ledger.put_standings(alive[1], [paused, Standing("tencent", "closed")], NOW)
    await desk.ledger.put_standings(gone, [Standing("old", "open", "failing")], NOW)
    said = await desk.says("status")
    assert "ali: paused until 12:00:30 UTC (account); last trouble: isv.AMOUNT_NOT_ENOUGH [/]" in said
    assert "tencent: well\n" in said
    assert "old" not in said
    shown = json.loads(await desk.says("status", "--json"))["providers"]
    assert [(one["provider"], one["state"]) for one in shown] == [("ali", "open"), ("tencent", "closed")]


async def test_resume_without_the_providers_of_before(desk: Desk) -> None:
    """After a restore nothing may go on before those are asked who carried messages, and the way out must be said."""
    await desk.store.pool.execute(
        "INSERT INTO tally (provider, minute, accepted) VALUES ('ali', $1, 5), ('sandbox', $1, 9), ('inbox', $1, 1)",
        NOW,
    )
    await desk.ledger.halt("restored", NOW)
    refused = await desk.run("resume")
    assert isinstance(refused.exception, ProvidersMissing)
    assert "messages went by ali, which" in str(refused.exception)
    assert "ORDERBELL_PROVIDERS_FILE" in str(refused.exception)
    assert (await desk.ledger.halted())[0]
    found = json.loads(await desk.says("resume", "--anyway", "--json"))
    assert set(found) == {"sent", "not_sent", "unknowable", "unasked"}
    assert not (await desk.ledger.halted())[0]
