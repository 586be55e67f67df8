"""The sandbox over real sockets: what it takes, what it refuses, and what it does wrong when told to."""

import asyncio
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orderbell.channels.http import HttpClient, NoReply, Reply
from orderbell.channels.protocol import Outgoing
from orderbell.channels.sandbox import SandboxChannel
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.ledger import LedgerUnusable
from tests.sandbox_server import RunningSandbox, read_ledger, running_sandbox

START = dt.datetime(2026, 3, 1, 8, 0, tzinfo=dt.UTC)


def message(number: int, **changes: str) -> dict[str, str]:
    """Make a message as it goes over the wire."""
    attempt_id = number.to_bytes(16, "big").hex()
    return {"attempt_id": attempt_id, "channel": "sms", "to": "+8613800138000", "text": "已发货", **changes}


async def ask(http: HttpClient, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask and read the JSON of the answer."""
    answered = await http.request(method, path, None if body is None else json.dumps(body).encode())
    assert isinstance(answered, Reply), answered
    return answered.status, json.loads(answered.body)


async def take(sandbox: RunningSandbox, *messages: dict[str, str]) -> list[str]:
    """Hand messages over and list the codes of the answer."""
    status, answer = await ask(sandbox.http, "POST", "/v1/messages", {"messages": messages})
    assert status == 200
    return [result["code"] for result in answer["results"]]


async def test_messages_taken_and_refused(tmp_path: Path) -> None:
    """Each message must have its own result, and only those taken must be in the ledger."""
    async with running_sandbox(tmp_path) as sandbox:
        codes = await take(
            sandbox,
            message(1, topic="shipped"),
            message(2, to="x"),
            message(3, text="长" * 71),
            message(4) | {"attempt_id": "4"},
            message(5, channel="email", to="a@b.cn", subject="Sent"),
        )
        assert codes == ["ok", "bad_recipient", "bad_content", "bad_request", "ok"]
        assert [(entry.channel, entry.topic, entry.subject) for entry in sandbox.ledger()] == [
            ("sms", "shipped", ""),
            ("email", "", "Sent"),
        ]
        _, summary = await ask(sandbox.http, "GET", "/v1/ledger/summary")
        assert summary["messages"] == 2
        assert summary["channels"] == {"sms": 1, "email": 1}
        assert summary["refused"] == {"bad_recipient": 1, "bad_content": 1, "bad_request": 1}


async def test_messages_latest(tmp_path: Path) -> None:
    """The latest messages must come first, as many as asked for."""
    async with running_sandbox(tmp_path) as sandbox:
        await take(sandbox, message(1), message(2), message(3))
        _, latest = await ask(sandbox.http, "GET", "/v1/messages?limit=2")
        assert [entry["number"] for entry in latest["messages"]] == [3, 2]


async def test_receipts_wait_for_their_delay(tmp_path: Path) -> None:
    """Receipts must come when their delay is over on the sandbox's clock."""
    now = START
    async with running_sandbox(tmp_path, clock=lambda: now) as sandbox:
        await sandbox.set_faults(Faults(receipt_delay_s=60, fail_recipients=frozenset({"+8613800138001"})))
        await take(sandbox, message(1), message(2, to="+8613800138001"))
        status, nothing = await ask(sandbox.http, "GET", "/v1/receipts")
        assert (status, nothing["receipts"]) == (200, [])
        now = START + dt.timedelta(seconds=60)
        _, answer = await ask(sandbox.http, "GET", "/v1/receipts?after=0&limit=10")
        assert [(receipt["number"], receipt["delivered"]) for receipt in answer["receipts"]] == [
            (1, True),
            (2, False),
        ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "hint"),
    [
        ("POST", "/v1/messages", b"not json", 400, "JSON"),
        ("POST", "/v1/messages", b"[]", 400, "object"),
        ("POST", "/v1/messages", b'{"messages":[{"attempt_id":1}]}', 400, "$.messages[0].attempt_id"),
        ("POST", "/v1/messages", json.dumps({"messages": [message(1)] * 1_001}).encode(), 400, "1000"),
        ("POST", "/v1/messages", b" " * (16 * 1024 * 1024 + 1), 413, "larger"),
        ("POST", "/v1/lookup", b'{"attempt_ids":["zz"]}', 400, "$.attempt_ids[0]"),
        ("POST", "/v1/lookup", json.dumps({"attempt_ids": ["0" * 32] * 1_001}).encode(), 400, "1000"),
        ("GET", "/v1/receipts?limit=-1", None, 400, "limit"),
        ("GET", "/v1/receipts?limit=1001", None, 400, "limit"),
        ("GET", "/v1/receipts?after=" + "9" * 5_000, None, 400, "after"),
        ("GET", "/v1/messages?limit=%C2%B2", None, 400, "limit"),
        ("PUT", "/v1/faults", b'{"refuse":2}', 400, "$.refuse"),
        ("PUT", "/v1/faults", b'{"refuze":1}', 400, "refuze"),
        ("DELETE", "/v1/messages", None, 405, "DELETE"),
        ("GET", "/v1/nothing", None, 404, "/v1/nothing"),
    ],
)
async def test_bad_request(
    tmp_path: Path, *, method: str, path: str, body: bytes | None, status: int, hint: str
) -> None:
    """A request that makes no sense must be answered with what is wrong, and change nothing."""
    async with running_sandbox(tmp_path) as sandbox:
        answered = await sandbox.http.request(method, path, body)
        assert isinstance(answered, Reply)
        assert answered.status == status
        assert hint in json.loads(answered.body)["error"]
        assert sandbox.ledger() == []


async def test_token(tmp_path: Path) -> None:
    """With a token, everything but the health check must be closed to those without."""
    async with running_sandbox(tmp_path, token="right") as sandbox:
        for token, status in ((None, 401), ("wrong", 401), ("right", 200)):
            http = HttpClient(sandbox.url, token=token)
            assert (await ask(http, "GET", "/v1/receipts"))[0] == status
            health = await http.request("GET", "/healthz")
            assert isinstance(health, Reply)
            assert health.status == 200
            await http.close()


async def test_page_escapes(tmp_path: Path) -> None:
    """The page must show messages as text, whatever they hold, and load nothing."""
    async with running_sandbox(tmp_path) as sandbox:
        await take(
            sandbox,
            message(1, text="<script>alert(1)</script>", topic="$topic"),
            message(2, channel="email", to='"><b>@x', subject="<i>"),
        )
        answered = await sandbox.http.request("GET", "/")
    assert isinstance(answered, Reply)
    page = answered.body.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    assert "src=" not in page
    assert "2 messages taken: 1 email, 1 sms" in page


async def test_page_of_empty_ledger(tmp_path: Path) -> None:
    """A sandbox without messages must say so."""
    async with running_sandbox(tmp_path) as sandbox:
        answered = await sandbox.http.request("GET", "/")
    assert isinstance(answered, Reply)
    assert b"No message yet" in answered.body


async def test_faults_of_a_share(tmp_path: Path) -> None:
    """With the same seed the same requests must fail, about as many as the share says."""

    async def statuses(sandbox: RunningSandbox, seed: int) -> list[int]:
        await sandbox.set_faults(Faults(refuse=0.3, throttle=0.2, seed=seed))
        body = {"messages": [message(1)]}
        return [(await ask(sandbox.http, "POST", "/v1/messages", body))[0] for _ in range(100)]

    async with running_sandbox(tmp_path) as sandbox:
        first = await statuses(sandbox, 7)
        assert await statuses(sandbox, 7) == first
        assert await statuses(sandbox, 8) != first
    assert 15 <= first.count(503) <= 45
    assert 5 <= first.count(429) <= 30
    assert 40 <= first.count(200) <= 75


async def test_faults_of_one_channel(tmp_path: Path) -> None:
    """Faults of one channel must leave the others alone, even in one request."""
    async with running_sandbox(tmp_path) as sandbox:
        await sandbox.set_faults(Faults(error_body=1, only_channel="push"))
        codes = await take(sandbox, message(1), message(2, channel="push", to="token"))
        assert codes == ["ok", "E-4711"]
        await sandbox.set_faults(Faults(refuse=1, only_channel="push"))
        assert await take(sandbox, message(3)) == ["ok"]
        status, _ = await ask(
            sandbox.http, "POST", "/v1/messages", {"messages": [message(4, channel="push", to="token")]}
        )
        assert status == 503
        assert (await ask(sandbox.http, "GET", "/v1/faults"))[1]["only_channel"] == "push"


async def test_fault_slow(tmp_path: Path) -> None:
    """A slow answer must come late; its messages must be in the ledger before."""
    async with running_sandbox(tmp_path) as sandbox:
        await sandbox.set_faults(Faults(slow_ms=600_000))
        http = HttpClient(sandbox.url, connect_timeout_s=0.4, timeout_s=0.5)
        body = json.dumps({"messages": [message(1)]}).encode()
        assert isinstance(await http.request("POST", "/v1/messages", body), NoReply)
        assert len(sandbox.ledger()) == 1
        await http.close()


async def test_fault_never_answers_until_stopped(tmp_path: Path) -> None:
    """A request that is never answered must not keep the server from stopping."""
    async with running_sandbox(tmp_path) as sandbox:
        await sandbox.set_faults(Faults(timeout_after_accept=1))
        http = HttpClient(sandbox.url, timeout_s=60)
        body = json.dumps({"messages": [message(1)]}).encode()
        waiting = asyncio.create_task(http.request("POST", "/v1/messages", body))
        while not sandbox.ledger():
            await sandbox.http.request("GET", "/healthz")
    answered = await waiting
    assert isinstance(answered, NoReply) or answered.status == 500
    await http.close()


async def test_restart(tmp_path: Path) -> None:
    """After a restart, look-ups and receipts must still know every message."""
    async with running_sandbox(tmp_path) as sandbox:
        await take(sandbox, message(1), message(2))
        before = await ask(sandbox.http, "GET", "/v1/receipts")
    async with running_sandbox(tmp_path) as sandbox:
        assert await ask(sandbox.http, "GET", "/v1/receipts") == before
        asked = {"attempt_ids": [message(2)["attempt_id"], message(3)["attempt_id"]]}
        _, answer = await ask(sandbox.http, "POST", "/v1/lookup", asked)
        assert [(one["state"], one["ref"]) for one in answer["results"]] == [
            ("delivered", "sb-2"),
            ("not_found", ""),
        ]


async def test_two_on_one_ledger(tmp_path: Path) -> None:
    """A second sandbox on the same ledger must refuse to start."""
    async with running_sandbox(tmp_path):
        with pytest.raises(LedgerUnusable):
            async with running_sandbox(tmp_path):
                pass


_PROGRAM = """
import asyncio, functools, pathlib, sys
from orderbell.sandbox.server import serve
asyncio.run(serve("127.0.0.1", 0, pathlib.Path(sys.argv[1]), announce=functools.partial(print, flush=True)))
"""


@pytest.mark.parametrize("stop", ["kill", "terminate"])
async def test_process_stopped(tmp_path: Path, stop: str) -> None:
    """What was answered must be in the ledger, however the sandbox's own process ends."""
    path = tmp_path / "ledger.jsonl"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PROGRAM, path, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    http = HttpClient((await process.stdout.readline()).decode().strip())
    for number in range(20):
        status, _ = await ask(http, "POST", "/v1/messages", {"messages": [message(number)] * 5})
        assert status == 200
    getattr(process, stop)()
    await asyncio.wait_for(process.wait(), 20)
    await http.close()
    assert len(read_ledger(path)) == 100


async def test_receipts_of_a_new_ledger_begin_anew(tmp_path: Path) -> None:
    """A cursor of a ledger that is gone does not hide the receipts of the one that took its place."""
    cursor = ""
    for number, name in enumerate(("first", "second"), start=1):
        folder = tmp_path / name
        folder.mkdir()
        async with running_sandbox(folder) as sandbox:
            channel = SandboxChannel(sandbox.url)
            sent = [Outgoing(bytes([number, index]) * 8, "sms", "+8613800000000", "hello") for index in range(3)]
            await channel.send(sent)
            receipts = await channel.receipts(10, cursor)
            assert [receipt.attempt_id for receipt in receipts] == [outgoing.attempt_id for outgoing in sent]
            cursor = receipts[-1].cursor
            assert await channel.receipts(10, cursor) == []
            await channel.close()
