"""A platform that runs until it is told to end, and what it says meanwhile."""

import gc
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from orderbell.app.clock import system_clock
from orderbell.app.running import run_platform
from orderbell.settings import Settings
from orderbell.store.accounts import Accounts
from orderbell.store.postgres import Store
from orderbell.store.sessions import Sessions
from tests.kinds import table

SECRET = bytes(range(32)).hex()  # that of the tests' vault


async def said_by(settings: Settings, *, worker: bool = True) -> list[str]:
    """Run a platform and end it as soon as it says that it can be reached."""
    lines: list[str] = []

    def announce(words: str) -> None:
        lines.append(words)
        if words.startswith("OrderBell"):
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        await run_platform(settings, web=True, worker=worker, announce=announce)
    finally:
        gc.unfreeze()
    return lines


@pytest.fixture
def settings(store: Store, tmp_path: Path) -> Settings:
    """Settings of an installation that sends by two providers."""
    file = tmp_path / "providers.toml"
    file.write_text(table("tencent") + table("jpush"), "utf-8")
    return Settings(
        database_url=store.dsn, secret_key=SECRET, data_dir=str(tmp_path), port=0, sandbox_port=0,
        providers_file=str(file),
    )  # fmt: skip


async def test_start_says_by_whom_messages_go(settings: Settings) -> None:
    """With a file of providers their names and the file must be said, without one the sandbox and its address."""
    assert (await said_by(settings))[0] == f"Messages go by p_tencent, p_jpush ({settings.providers_file})"
    (first, *_) = await said_by(replace(settings, providers_file=""))
    assert first.startswith("Messages go to the sandbox at http://127.0.0.1:")


async def test_way_in_alone_sends_nothing(settings: Settings) -> None:
    """A process that only takes events must not say that it sends."""
    (first, _) = await said_by(settings, worker=False)
    assert first.startswith("OrderBell listens on http://127.0.0.1:")


async def test_first_start_says_where_the_first_account_is_made(settings: Settings, store: Store) -> None:
    """While nobody has an account each start must say a new link, which voids the last; then none any more."""
    sessions, tokens = Sessions(store, system_clock), []
    for _ in range(2):
        last = (await said_by(settings, worker=False))[-1]
        tokens.append(last.partition("/setup?token=")[2])
    assert [await sessions.look_at_setup_token(token) for token in tokens] == [False, True]
    await Accounts(store).add("acme", "ann", "owner", system_clock())
    assert len(await said_by(settings, worker=False)) == 1
