"""A whole installation in one process, with a provider that it does not simulate itself."""

import asyncio
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from orderbell.app.platform import open_platform
from orderbell.errors import SettingsInvalid
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.mail import MailSimulator
from orderbell.serving import bind
from orderbell.settings import Settings
from orderbell.store.postgres import Store

SECRET = bytes(range(32)).hex()  # that of the tests' vault
WITHIN_S = 60
ANN = "ann@mail.example"
FILE = """
[[provider]]
name = "mail"
kind = "mail"
callback_token = "a-token-that-nobody-guesses-1234567890"
host = "127.0.0.1"
port = {port}
tls = "none"
from_address = "notice@shop.example"
bounce_domain = "b.shop.example"
bounce_key = "0123456789abcdef"
bounce_listen = "127.0.0.1:{bounces}"
"""


def free_port() -> int:
    """Find a port that was free a moment ago and may be shared."""
    with bind("127.0.0.1", 0, shared=True) as held:
        port: int = held.getsockname()[1]
        return port


def settings_of(store: Store, folder: Path, relay: int, bounces: int) -> Settings:
    """Write a file with one mail provider; gives the settings that name it."""
    file = folder / "providers.toml"
    file.write_text(FILE.format(port=relay, bounces=bounces), encoding="utf-8")
    return Settings(database_url=store.dsn, secret_key=SECRET, port=0, providers_file=str(file))


async def status_of_mail(pool: asyncpg.Pool) -> str | None:
    """Say what has become of the mail, if there is one."""
    status: str | None = await pool.fetchval("SELECT status FROM message WHERE channel = 'email'")
    return status


async def test_mail_that_comes_back(store: Store, tmp_path: Path) -> None:
    """A mail whose relay bounces it must be known as failed, by the platform's own mail server for bounces."""
    bounces = free_port()
    simulator = MailSimulator(bounce_mx=("127.0.0.1", bounces))
    simulator.faults = Faults(fail_recipients=frozenset({ANN}))
    async with (
        simulator.serving_smtp() as relay,
        open_platform(settings_of(store, tmp_path, relay, bounces)) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        key = await platform.add_tenant("acme")
        envelope = {"source": "shop", "subject": "A1", "time": datetime.now(UTC).isoformat()}
        events = [
            {"id": "1", "type": "order.placed", "data": {"people": {"buyer": {"email": ANN}}}},
            {"id": "2", "type": "payment.failed", "data": {"reason": "余额不足"}},
        ]
        taken = await http.post(
            "/v1/events",
            json=[envelope | {"specversion": "1.0"} | event for event in events],
            headers={"authorization": f"Bearer {key}"},
        )
        assert taken.status_code == 200, taken.text
        async with asyncio.timeout(WITHIN_S):
            while await status_of_mail(store.pool) != "failed":  # noqa: ASYNC110 - the state is the database's
                await asyncio.sleep(0.05)
    assert [taken.to for taken in simulator.taken] == [ANN]


async def test_port_that_is_taken(store: Store, tmp_path: Path) -> None:
    """A port that somebody else has must be said before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        settings = replace(settings_of(store, tmp_path, 1, 0), port=held.getsockname()[1])
        with pytest.raises(SettingsInvalid, match="cannot be listened on"):
            async with open_platform(settings):
                pass
    assert await store.pool.fetchval("SELECT count(*) FROM worker") == 0


async def test_place_to_listen_that_is_taken(store: Store, tmp_path: Path) -> None:
    """Where bounces cannot be listened for, the start must fail and name the provider."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        settings = settings_of(store, tmp_path, 1, held.getsockname()[1])
        with pytest.raises(SettingsInvalid, match="the provider mail cannot listen where it should"):
            async with open_platform(settings, worker=False):
                pass


async def test_addresses_of_webhooks_are_looked_at_no_longer_than_the_site_runs(store: Store) -> None:
    """What was opened to look at addresses must end with the site: neither its threads nor its sockets stay behind."""
    settings = Settings(database_url=store.dsn, secret_key=SECRET, port=0)
    async with (
        open_platform(settings, worker=False) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        key = await platform.add_tenant("acme")
        hook = {"url": "https://localhost/bell", "types": ["order.changed"]}
        refused = await http.post("/v1/hooks", json=hook, headers={"authorization": f"Bearer {key}"})
        assert refused.json()["reason"] == "bad_address"
        looking = [thread for thread in threading.enumerate() if thread.name.startswith("guarded")]
        assert looking
    for thread in looking:
        thread.join(WITHIN_S)
        assert not thread.is_alive()
