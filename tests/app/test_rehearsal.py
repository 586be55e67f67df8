"""All providers simulated at once: the file that is written works, receipts come back, and nothing stays behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from litestar import Litestar
from typer.testing import CliRunner

from orderbell.app import doctor
from orderbell.app.providers import ProviderSpec, read_providers
from orderbell.app.rehearsal import FILE_NAME, Playing, Rehearsal, program_of, rehearsing
from orderbell.channels.http import HttpClient, Reply
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Channel, Heard, Outcome, Outgoing, Receipt, ReceiptsBy
from orderbell.channels.registry import KINDS
from orderbell.cli import app
from orderbell.errors import SettingsInvalid
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.twilio import TwilioSimulator
from orderbell.serving import bind, serving
from orderbell.settings import Settings
from orderbell.sources.callbacks import Caller, callbacks_route

WITHIN_S = 60
SLOTS = {"wechat": (("thing1", "您的订单已发货"), ("character_string2", "A1001"))}
TEXTS = {"webhook": '{"type": "order.shipped"}'}


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


@pytest.fixture
async def rehearsal(tmp_path: Path) -> AsyncIterator[Rehearsal]:
    """Run the whole rehearsal on free ports; nobody hears its callbacks."""
    async with rehearsing(tmp_path / "made", port_from=0) as running:
        yield running


class Site:
    """The callbacks of an installation, as the platform serves them; `receipts` are those heard, by provider."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}
        self.receipts: dict[str, list[Receipt]] = {}
        self.heard = asyncio.Condition()
        self.app = Litestar([callbacks_route(self.callers, self._keep)])

    async def _keep(self, provider: str, heard: Heard) -> None:
        async with self.heard:
            self.receipts.setdefault(provider, []).extend(heard.receipts)
            self.heard.notify_all()

    async def receipt_of(self, provider: str) -> Receipt:
        """Wait for the first receipt of a provider."""
        async with asyncio.timeout(WITHIN_S), self.heard:
            await self.heard.wait_for(lambda: self.receipts.get(provider))
        return self.receipts[provider][0]


@asynccontextmanager
async def opened(specs: list[ProviderSpec]) -> AsyncIterator[dict[str, Channel]]:
    """Open the channels of a file."""
    async with AsyncExitStack() as stack:
        channels = {spec.name: spec.open(utc_now, KeptInMemory(utc_now)) for spec in specs}
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        yield channels


def message_to(channel: str, to: str) -> Outgoing:
    """Make a message that every provider of a channel takes."""
    return Outgoing(
        os.urandom(16), channel, to, TEXTS.get(channel, "【叮咚】您的订单A1001已发货"), subject="发货通知",
        template="您的订单{order_no}已发货", slots=SLOTS.get(channel, (("order_no", "A1001"),)),
        template_code="1001", order_no="A1001",
    )  # fmt: skip


async def ask(page: str, method: str, path: str, body: bytes | None = None) -> Reply:
    """Ask a simulator as a person does."""
    client = HttpClient(page, connect_timeout_s=10, timeout_s=30)
    answered = await client.request(method, path, body)
    await client.close()
    assert isinstance(answered, Reply)
    return answered


async def pulled(channel: Channel) -> list[Receipt]:
    """Ask a provider for receipts until there are some."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if found := await channel.receipts(10):
                return found


async def test_every_simulated_kind_is_in_the_file(rehearsal: Rehearsal) -> None:
    """The file is read without complaint and names a provider of every kind but the one that has no wire of its own."""
    specs = read_providers(rehearsal.file)
    assert {spec.kind for spec in specs} == set(KINDS) - {"apprise"}
    assert [spec.name for spec in specs] == [one.name for one in rehearsal.playing]


async def test_files_are_for_their_owner_only(rehearsal: Rehearsal) -> None:
    """Keys stand in them."""
    assert {file.stat().st_mode & 0o777 for file in (rehearsal.file, rehearsal.people)} == {0o600}


async def test_doctor_finds_nothing_wrong(rehearsal: Rehearsal) -> None:
    """Credentials, signatures, connections and callback addresses of all providers are fine."""
    settings = Settings(providers_file=str(rehearsal.file), public_url=rehearsal.public_url)
    findings = await doctor._providers(settings, doctor.Stored())
    assert [finding for finding in findings if finding.state != "fine"] == []
    assert {f"provider {one.name}" for one in rehearsal.playing} <= {finding.name for finding in findings}


@pytest.mark.parametrize("name", ["alibaba", "tencent"])
async def test_doctor_finds_another_signature(rehearsal: Rehearsal, name: str) -> None:
    """A signature that the account does not have must be found before the first message is refused for it."""
    file = rehearsal.file
    file.write_text(file.read_text("utf-8").replace('"叮咚"', '"别的店"'), "utf-8")
    findings = await doctor._providers(Settings(providers_file=str(file)), doctor.Stored())
    (wrong,) = [one for one in findings if one.name == f"provider {name}" and one.state == "wrong"]
    assert "别的店" in wrong.says


@pytest.mark.parametrize(
    ("called", "program"),
    [
        ("venv/bin/orderbell", "venv/bin/orderbell"),
        ("{here}/venv/bin/orderbell", "venv/bin/orderbell"),
        ("{here}/other/orderbell", "orderbell"),
        ("/opt/orderbell/__main__.py", "{python} -m orderbell"),
        ("/usr/bin/pytest", "orderbell"),
    ],
)
def test_program_is_named_as_it_was_called(
    called: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people are told to run next must run: by its path, unless the shell finds it by its name."""
    for folder in ("venv/bin", "other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "orderbell").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    named = program_of(called.format(here=tmp_path))
    assert named == program.format(python="venv/bin/python")


async def test_message_through_every_provider_is_taken_and_receipts_come_back(tmp_path: Path) -> None:
    """Each channel has its message accepted, and who brings receipts brings them to the address with its token."""
    site = Site()
    async with serving(site.app) as url, rehearsing(tmp_path, port_from=0, public_url=url) as running:
        specs = read_providers(running.file)
        people: Mapping[str, Mapping[str, str]] = msgspec.json.decode(running.people.read_bytes())
        async with opened(specs) as channels:
            site.callers.update({spec.name: Caller(channels[spec.name], spec.callback_token) for spec in specs})
            for name, channel in channels.items():
                ((carried, to),) = people[name].items()
                assert channel.takes(to)
                outgoing = message_to(carried, to)
                (answer,) = await channel.send([outgoing])
                assert answer.outcome is Outcome.ACCEPTED, (name, answer)
                await check_receipt(site, name, channel, outgoing, answer.provider_ref)
    assert {name for name in site.receipts if site.receipts[name]} == {"alibaba", "tencent", "twilio", "wechat", "mail"}


async def check_receipt(site: Site, name: str, channel: Channel, outgoing: Outgoing, ref: str) -> None:
    """Wait for the receipt of a message, where its provider has such."""
    if channel.receipts_by is ReceiptsBy.CALLBACK:
        receipt = await site.receipt_of(name)
    elif channel.receipts_by is ReceiptsBy.PULL:
        (receipt,) = await pulled(channel)
    else:
        return
    assert receipt.delivered
    assert receipt.attempt_id == outgoing.attempt_id or receipt.provider_ref == ref


async def test_people_can_look_at_what_was_taken(rehearsal: Rehearsal) -> None:
    """Every simulator shows its messages as JSON, also those that speak no HTTP to OrderBell."""
    people = msgspec.json.decode(rehearsal.people.read_bytes())
    async with opened(read_providers(rehearsal.file)) as channels:
        for one in rehearsal.playing:
            ((carried, to),) = people[one.name].items()
            await channels[one.name].send([message_to(carried, to)])
            shown = msgspec.json.decode((await ask(one.page, "GET", "/_taken")).body)
            assert (shown["count"], len(shown["taken"])) == (1, 1), one.name
            assert {"ref", "to", "text", "at", "delivery", "fields"} == set(shown["taken"][0])
            none = msgspec.json.decode((await ask(one.page, "GET", "/_taken?last=0")).body)
            assert none == {"count": 1, "taken": []}


async def test_people_can_set_faults(rehearsal: Rehearsal) -> None:
    """A fault that is set strikes the next message, and can be read and taken back."""
    alibaba = playing(rehearsal, "alibaba")
    set_ = await ask(alibaba.page, "PUT", "/_faults", b'{"throttle": 1}')
    assert set_.status == 200
    assert msgspec.json.decode((await ask(alibaba.page, "GET", "/_faults")).body)["throttle"] == 1
    async with opened(read_providers(rehearsal.file)) as channels:
        message = message_to("sms", alibaba.people["sms"])
        assert [answer.outcome for answer in await channels["alibaba"].send([message])] == [Outcome.THROTTLED]
        await ask(alibaba.page, "PUT", "/_faults", b"{}")
        assert [answer.outcome for answer in await channels["alibaba"].send([message])] == [Outcome.ACCEPTED]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/_faults", b'{"throtle": 1}', 400),
        ("PUT", "/_faults", b"[" * 100_000, 400),
        ("PUT", "/_taken", b"{}", 405),
        ("POST", "/_faults", b"{}", 405),
        ("GET", "/_taken?last=-1", None, 400),
        ("GET", "/_taken?last=" + "9" * 30, None, 400),
    ],
)
async def test_nonsense_changes_no_simulator(method: str, path: str, body: bytes | None, status: int) -> None:
    """What is no fault and no number is refused with a word, and everything stays as it was."""
    simulator = TwilioSimulator()
    simulator.faults = Faults(throttle=0.5)
    async with serving(simulator) as url:
        answered = await ask(url, method, path, body)
    await simulator.close()
    assert (answered.status, "error" in msgspec.json.decode(answered.body)) == (status, True)
    assert simulator.faults == Faults(throttle=0.5)


async def test_tokens_and_keys_are_new_at_every_start(tmp_path: Path) -> None:
    """Nothing that one start wrote down opens anything in the next."""
    written: list[dict[str, Any]] = []
    for _ in range(2):
        async with rehearsing(tmp_path, port_from=0) as running:
            specs = read_providers(running.file)
            written.append({spec.name: (spec.callback_token, spec.options) for spec in specs})
    for name in ("alibaba", "tencent", "twilio", "wechat", "mail"):
        assert written[0][name][0] != written[1][name][0]
    assert all(written[0][name][1] != written[1][name][1] for name in written[0])


async def test_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A file of providers that a person wrote is never written over."""
    theirs = '[[provider]]\nname = "ali"\nkind = "alibaba"\n'
    (tmp_path / FILE_NAME).write_text(theirs)
    with pytest.raises(SettingsInvalid, match="--folder"):
        async with rehearsing(tmp_path, port_from=0):
            pass
    assert (tmp_path / FILE_NAME).read_text() == theirs


async def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Whoever starts it twice is told which port is taken and what to do; what had started is stopped."""
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=rf"port {port} for alibaba.*--port-from"):
            async with rehearsing(tmp_path, port_from=port):
                pass
    assert not (tmp_path / FILE_NAME).exists()


def playing(rehearsal: Rehearsal, name: str) -> Playing:
    """The simulator of a name."""
    return next(one for one in rehearsal.playing if one.name == name)


def test_command_ends_at_once_and_leaves_no_port(tmp_path: Path) -> None:
    """SIGTERM ends the command with success; afterwards nothing listens where the file says."""
    command = [sys.executable, "-m", "orderbell", "sandbox", "providers", "--folder", str(tmp_path), "--port-from", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watch = threading.Timer(WITHIN_S, process.kill)
        watch.start()
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        specs = read_providers(tmp_path / FILE_NAME)
        start = f"ORDERBELL_PROVIDERS_FILE={tmp_path / FILE_NAME} ORDERBELL_PUBLIC_URL=http://127.0.0.1:8470"
        assert f"{start} {program_of('/orderbell/__main__.py')} up" in said
        assert all(spec.name in said for spec in specs)
        (twilio,) = [spec.options for spec in specs if spec.kind == "twilio"]
        assert f"curl {twilio.url}/_taken" in said  # type: ignore[attr-defined]
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=WITHIN_S)[0]
        watch.cancel()
    assert (process.returncode, said) == (0, "")
    ports = {port for spec in specs for port in ports_in(msgspec.to_builtins(spec.options))}
    assert len(ports) == len(specs)
    for port in ports:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0


def test_command_takes_no_second_name_of_an_option() -> None:
    """The address of callbacks has one name, the one that the help shows."""
    done = CliRunner().invoke(app, ["sandbox", "providers", "--tenant-callbacks", "http://127.0.0.1:8470", "--help-me"])
    assert (done.exit_code, "No such option: --tenant-callbacks" in done.output) == (2, True)


def ports_in(value: Any) -> set[int]:  # noqa: ANN401 - options as plain values
    """The ports of this machine that options name, callbacks apart."""
    if isinstance(value, dict):
        named = {value["port"]} if isinstance(value.get("port"), int) and value.get("host") == "127.0.0.1" else set()
        return named.union(
            *(ports_in(one) for key, one in value.items() if key != "callback_url"), *map(ports_in, value)
        )
    if isinstance(value, (list, tuple)):
        return set().union(*map(ports_in, value))
    address = urlsplit(value) if isinstance(value, str) and value.startswith("http://127.0.0.1:") else None
    return {address.port} if address is not None and address.port else set()
