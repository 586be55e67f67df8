"""Canaries: what must never be read is brought in by every way there is, and then looked for wherever it could leak.

A real process runs with logs in JSON and traces on. Phones, mails, names, passwords, keys and tokens are sent in the
shapes that break logs: line ends, escapes, separators of Unicode, quotes that would end a JSON text.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from orderbell.app.accounts import make_ticket
from orderbell.playbooks import load_shelf
from orderbell.serving import bind
from orderbell.store.accounts import Accounts
from orderbell.store.keys import create_key
from orderbell.store.postgres import Store
from orderbell.store.sessions import Sessions
from orderbell.store.tenants import add_tenant
from orderbell.store.tracking import Tracking
from tests.operations.collector import collector, spans_of

WITHIN_S: Final = 90
SECRET: Final = bytes(range(32)).hex()  # that of the tests' vault
PHONE, OTHER_PHONE, FOREIGN_PHONE = "13812340987", "13912347654", "+447911123456"
MAIL: Final = "wang.canary@canary-mail.example"
NAME: Final = "王金丝雀"
ADDRESS: Final = "金丝雀路7号"
PASSWORD: Final = "canary-password-7f3a"
METRICS_TOKEN: Final = "canary-metrics-token-91c2"
CALLBACK_TOKEN: Final = "canary-callback-token-0123456789abcdef"
WORDS: Final = "canary-words"
"""Stands in every hostile text: where it may be read, the text around it must have been made harmless."""

HOSTILE: Final = (
    f"{WORDS}\r\nlevel=critical injected", f"{WORDS}\x1b[31mred\x1b[0m", f"{WORDS}\u2028\u2029\x85line",
    f'{WORDS}", "level": "critical', f"{WORDS}\\n\\u000a", f"{WORDS}\x00\x07\x7f", f"{WORDS}\u202egnp.exe",
    f"{WORDS}{{{{7*7}}}}<script>alert(1)</script>", f"{WORDS} {PHONE} {MAIL}", f"{WORDS} +86 {PHONE} 0086{PHONE}",
)  # fmt: skip
PROVIDERS: Final = """
[[provider]]
name = "post"
kind = "mail"
callback_token = "{token}"
host = "127.0.0.1"
port = {relay}
tls = "none"
from_address = "notice@shop.example"
bounce_domain = "b.shop.example"
bounce_key = "0123456789abcdef"
bounce_listen = "127.0.0.1:{bounces}"
"""


@dataclass
class Cage:
    """A process that runs, what must not leave it, and what it said to its callers."""

    url: str
    key: str
    tokens: dict[str, str]
    said: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def note(self, path: str, answer: httpx.Response) -> None:
        """Keep what an error says, and to whom: a page may name the address that its visitor has asked for."""
        if answer.status_code >= 400:
            self.said.append((path, answer.text))
        if answer.status_code >= 500:
            self.broken.append(f"{path.partition('?')[0]}: {answer.status_code} {answer.text}")

    @property
    def secrets(self) -> list[str]:
        """What must be found nowhere."""
        given = (PHONE, OTHER_PHONE, FOREIGN_PHONE, MAIL, NAME, ADDRESS, PASSWORD, METRICS_TOKEN, CALLBACK_TOKEN)
        return [*given, self.key, SECRET, *self.tokens.values()]


@contextlib.asynccontextmanager
async def rude_relay() -> AsyncIterator[int]:
    """A mail relay that refuses everybody, and repeats what it was told with escapes."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"220 relay\r\n")
            while line := (await reader.readline()).strip():
                if line.upper().startswith((b"EHLO", b"HELO")):
                    writer.write(b"250 relay\r\n")
                elif line.upper().startswith(b"RCPT"):
                    told = f"550 5.1.1 {OTHER_PHONE} {MAIL} \x1b[31m unknown: ".encode()
                    writer.write(told + line + b"\r\n")
                elif line.upper().startswith(b"QUIT"):
                    break
                else:
                    writer.write(b"250 ok\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def right_now() -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC)


def free_port() -> int:
    """A port that was free a moment ago."""
    with bind("127.0.0.1", 0) as held:
        port: int = held.getsockname()[1]
        return port


async def tokens_of(store: Store) -> dict[str, str]:
    """Every kind of secret that opens something: a ticket, a first-run token, a session, a customer's page."""
    account = await Accounts(store).add("acme", "warden", "owner", right_now())
    sessions = Sessions(store, right_now)
    session = await sessions.open(account)
    assert session is not None
    return {
        "ticket": (await make_ticket(store, "acme", "warden")).rpartition("/")[2],
        "session": session,
        "page": await Tracking(store).token_for("acme", "C1", right_now()),
    }


@contextlib.asynccontextmanager
async def running(store: Store, folder: Path, traces_url: str, relay: int) -> AsyncIterator[tuple[str, Path]]:
    """Run `orderbell up` as a process of its own; gives its address and the file of its logs."""
    providers, log, port = folder / "providers.toml", folder / "log", free_port()
    providers.write_text(PROVIDERS.format(token=CALLBACK_TOKEN, relay=relay, bounces=free_port()), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERBELL_")} | {
        "ORDERBELL_DATABASE_URL": store.dsn, "ORDERBELL_DATA_DIR": str(folder), "ORDERBELL_SECRET_KEY": SECRET,
        "ORDERBELL_PORT": str(port), "ORDERBELL_SANDBOX_PORT": "0", "ORDERBELL_PROVIDERS_FILE": str(providers),
        "ORDERBELL_METRICS_TOKEN": METRICS_TOKEN, "ORDERBELL_LOG_FORMAT": "json", "ORDERBELL_LOG_LEVEL": "debug",
        "ORDERBELL_TRACES_URL": traces_url, "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1",
        "ORDERBELL_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orderbell", "up", env=environment, stdout=errors, stderr=errors
        )
        try:
            await until_ready(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}", log
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN_S):
                await process.wait()


async def until_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until the process can take requests."""
    async with asyncio.timeout(WITHIN_S), httpx.AsyncClient(trust_env=False) as http:
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)  # a process that starts gives no other sign
    pytest.fail(await asyncio.to_thread(log.read_text))


def people(hostile: str) -> dict[str, dict[str, str]]:
    """Two people of an order, one of them with a name that is hostile."""
    return {
        "buyer": {"id": f"{NAME} {WORDS}", "phone": PHONE, "email": MAIL, "wechat": "canary-open-id"},
        "recipient": {"phone": OTHER_PHONE, "app": hostile.replace("\x00", "")},
    }


async def tell_events(http: httpx.AsyncClient, cage: Cage) -> None:
    """Events that are taken, refused, and no events at all."""
    told: list[dict[str, Any]] = [
        {"id": "c1", "subject": "C1", "type": "order.placed", "data": {"people": people("x"), "title": NAME}},
        {"id": f"tel {PHONE}", "subject": "C1", "type": "payment.failed", "data": {"reason": f"{NAME} {PHONE}"}},
        {"id": "c2", "subject": "C1", "type": "message.replied", "data": {"text": f"{ADDRESS} {PHONE}"}},
        *({"id": one, "subject": "C1", "type": "payment.failed", "data": {"reason": one}} for one in HOSTILE),
        *({"id": f"s{n}", "subject": one, "type": "order.placed", "data": {}} for n, one in enumerate(HOSTILE)),
        *({"id": f"t{n}", "subject": "C1", "type": one, "data": {}} for n, one in enumerate(HOSTILE)),
        *({"id": f"p{n}", "subject": "C2", "type": "order.placed", "data": {"people": people(one)}}
          for n, one in enumerate(HOSTILE)),
    ]  # fmt: skip
    for event in told:
        answer = await http.post("/v1/events", json={"source": f"shop {MAIL}", **event})
        if answer.status_code >= 500:
            cage.note("", answer)  # a refusal quotes what is wrong, to the shop that sent it
    for body in (f'{{"id": "{PHONE}', f'[{{"people": "{NAME}"}}]', PHONE, '"' + "[" * 5000):
        await http.post("/v1/events", content=body.encode(), headers={"content-type": "application/json"})


async def knock(http: httpx.AsyncClient, cage: Cage) -> None:
    """Every other way in, with what must not be read in the path, the query, the headers and the body."""
    callback = f"/v1/callbacks/post/{CALLBACK_TOKEN}"
    for one in HOSTILE:
        requests = [
            ("POST", "/v1/replies", {"json": {"id": one, "text": f"{one} {PHONE}", "phone": PHONE}}),
            ("GET", "/v1/contacts", {"params": {"phone": PHONE, "q": one}}),
            ("PATCH", "/v1/contacts/x", {"json": {"name": NAME, "phone": f"{PHONE}{one}"}}),
            ("GET", f"/v1/orders/{PHONE}", {"params": {"q": one}}),
            ("POST", callback, {"content": f"{one} {PHONE} {MAIL}".encode("utf-8", "replace")}),
            ("POST", "/v1/callbacks/post/wrong-" + "t" * 30, {"content": PHONE.encode()}),
            ("POST", "/sign-in", {"data": {"name": f"{NAME}{one}", "password": PASSWORD, "code": one}}),
            ("POST", "/sign-in", {"data": {"name": "warden", "password": f"{PASSWORD}{one}"}}),
            ("POST", "/track", {"data": {"order_no": "C1", "digits": PHONE[-4:], "tenant": one}}),
            ("POST", f"/t/{cage.tokens['page']}/address", {"data": {"text": f"{ADDRESS} {one}", "phone": PHONE}}),
        ]  # fmt: skip
        for method, path, given in requests:
            answer = await http.request(method, path, **given)  # type: ignore[arg-type]
            if answer.status_code >= 500 or not path.startswith(("/v1/", "/sign-in")):
                cage.note(f"{path} {given}", answer)
    for path in (
        f"/enter/{cage.tokens['ticket']}", f"/setup?token={cage.tokens['ticket']}", f"/t/{cage.tokens['page']}",
        f"/l/{cage.tokens['page'][:10]}", f"/u/{cage.tokens['ticket']}", f"/nowhere/{PHONE}/{MAIL}", f"/t/{PHONE}",
        f"/console/people?q={PHONE}", "/metrics", f"/static/{PHONE}",
    ):  # fmt: skip
        headers = {"user-agent": f"{PHONE} {MAIL}", "traceparent": f"00-{PHONE}", "accept": "text/html",
                   "cookie": f"__Host-session={cage.tokens['session']}", "referer": f"http://x/{PHONE}"}  # fmt: skip
        answer = await http.get(path, headers=headers)
        cage.note(path, answer)


async def test_nothing_leaks_and_every_record_is_one_line(store: Store, tmp_path: Path) -> None:
    """No canary stands in logs, traces, metrics or error pages, and each line of the log is one JSON object."""
    await add_tenant(store.pool, "acme", load_shelf(""))
    key = await create_key(store, "acme")
    tokens = await tokens_of(store)
    with collector() as (traces_url, received):
        async with rude_relay() as relay, running(store, tmp_path, traces_url, relay) as (url, log):
            cage = Cage(url, key, tokens)
            headers = {"authorization": f"Bearer {key}", "sec-fetch-site": "same-origin"}
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
                await tell_events(http, cage)
                await knock(http, cage)
                async with asyncio.timeout(WITHIN_S):
                    refused = "SELECT count(*) FROM attempt WHERE outcome <> 'accepted'"
                    while not await store.pool.fetchval(refused):  # noqa: ASYNC110 - another process gives no signal
                        await asyncio.sleep(0.05)
            async with httpx.AsyncClient(base_url=url, trust_env=False) as stranger:
                metrics = await stranger.get("/metrics")
            assert metrics.status_code == 200
        lines = log.read_text(encoding="utf-8").splitlines()
    spans = spans_of(received)
    assert any(span.name == "send" for span in spans)
    written = {
        "logs": "\n".join(lines), "metrics": metrics.text, "traces": "\n".join(map(str, spans)),
    }  # fmt: skip
    leaks = [(where, secret) for where, text in written.items() for secret in cage.secrets if secret in text]
    leaks += [
        ("error page", secret)
        for path, text in cage.said
        for secret in cage.secrets
        if secret in text and secret not in path
    ]
    assert leaks == []
    assert cage.broken == []
    records = [line for line in lines if not line.startswith(("OrderBell ", "Messages go", "Nobody has"))]
    assert all(isinstance(json.loads(line), dict) for line in records), records
    assert len(written["logs"].split("\n")) == len(lines)  # no separator of Unicode makes two lines of one
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028\u2029\x85\u202e]", written["logs"]) is None
    assert not any(json.loads(line).get("level") == "critical" for line in records)


def test_hostile_texts_are_spelled_out_in_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is logged comes out as one line of JSON, however it is logged."""
    code = (
        "import sys, json, logging, structlog; from orderbell.observe import set_up_logging\n"
        "set_up_logging('DEBUG', 'json')\n"
        "for text in json.loads(sys.argv[1]):\n"
        "    structlog.get_logger().warning('heard', words=text, more={'list': [text]})\n"
        "    logging.getLogger('some.library').error('%s', text)\n"
        "    try: raise ValueError(text)\n"
        "    except ValueError: structlog.get_logger().exception('failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(HOSTILE)], capture_output=True, check=True, encoding="utf-8"
    )
    lines = done.stderr.split("\n")[:-1]
    assert len(lines) == 3 * len(HOSTILE)
    for line in lines:
        assert len(line.splitlines()) == 1, line
        assert json.loads(line)["level"] in {"warning", "error"}
        assert not any(secret in line for secret in (PHONE, MAIL))
