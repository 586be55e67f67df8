"""The sandbox channel must trust nothing in an answer that it does not understand."""

import asyncio
import sys
from itertools import count
from pathlib import Path

import pytest

from orderbell.channels.protocol import ChannelUnavailable, Outcome, Outgoing, Unsure
from orderbell.channels.sandbox import SandboxChannel
from tests.raw_server import answering, http_answer, raw_server, unused_port
from tests.sandbox_server import read_ledger

ATTEMPT_ID = bytes(range(16))
OUTGOING = Outgoing(attempt_id=ATTEMPT_ID, channel="sms", to="+8613800138000", text="hello")
OTHER = Outgoing(attempt_id=bytes(16), channel="sms", to="+8613800138000", text="hello")


async def outcomes(body: bytes, *batch: Outgoing) -> list[Outcome]:
    """Send a batch to a provider that answers 200 with this body."""
    async with raw_server(answering(http_answer(body))) as url:
        channel = SandboxChannel(url)
        answers = await channel.send(batch or [OUTGOING])
        await channel.close()
    return [answer.outcome for answer in answers]


def result(code: str) -> bytes:
    """Answer one attempt with a code."""
    return b'{"results":[{"attempt_id":"%s","code":"%s"}]}' % (ATTEMPT_ID.hex().encode(), code.encode())


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("ok", Outcome.ACCEPTED),
        ("retry_later", Outcome.RETRY_LATER),
        ("throttled", Outcome.THROTTLED),
        ("bad_recipient", Outcome.REJECTED_RECIPIENT),
        ("bad_content", Outcome.REJECTED_CONTENT),
        ("bad_channel", Outcome.REJECTED_CONTENT),
        ("channel_down", Outcome.CHANNEL_DOWN),
        ("OK", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
        ("unknown", Outcome.UNKNOWN),
    ],
)
async def test_send_with_code(code: str, outcome: Outcome) -> None:
    """Each code must have its outcome, and a code that is not in the list must be unknown."""
    assert await outcomes(result(code)) == [outcome]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"null",
        b"[]",
        b"{}",
        b'{"results":null}',
        b'{"results":[]}',
        b'{"results":[{}]}',
        b'{"results":[{"attempt_id":1,"code":"ok"}]}',
        b'{"results":[{"attempt_id":"0","code":"ok"}]}',
        b'\xff\xfe{"results":[]}',
        b"<html>maintenance</html>",
    ],
)
async def test_send_with_garbage(body: bytes) -> None:
    """A body without a clear word about the message must leave it unknown."""
    assert await outcomes(body) == [Outcome.UNKNOWN]


async def test_send_with_missing_answer() -> None:
    """A message that the answer does not name must be unknown, its neighbour what the answer says."""
    assert await outcomes(result("ok"), OTHER, OUTGOING) == [Outcome.UNKNOWN, Outcome.ACCEPTED]


async def test_send_with_long_detail() -> None:
    """A provider must not be able to fill our tables by its explanations."""
    body = b'{"results":[{"attempt_id":"%s","code":"%s","detail":"%s"}]}'
    body %= (ATTEMPT_ID.hex().encode(), b"x" * 10_000, b"y" * 10_000)
    async with raw_server(answering(http_answer(body))) as url:
        channel = SandboxChannel(url)
        (answer,) = await channel.send([OUTGOING])
        await channel.close()
    assert len(answer.detail) <= 200


@pytest.mark.parametrize("body", [b"", b"[]", b'{"results":[{}]}', b'{"receipts":[{"number":"x"}]}'])
async def test_questions_with_garbage(body: bytes) -> None:
    """An unreadable answer to a question must not look like "nothing there"."""
    async with raw_server(answering(http_answer(body))) as url:
        channel = SandboxChannel(url)
        with pytest.raises(ChannelUnavailable):
            await channel.receipts(10)
        with pytest.raises(ChannelUnavailable):
            await channel.lookup([Unsure(ATTEMPT_ID)])
        await channel.close()


async def test_receipts_with_unreadable_attempt_id() -> None:
    """A receipt that names no attempt must be reported, not skipped in silence."""
    body = b'{"receipts":[{"number":1,"attempt_id":"zz","ref":"","delivered":true,"at":"2026-01-01T00:00:00Z"}]}'
    async with raw_server(answering(http_answer(body))) as url:
        channel = SandboxChannel(url)
        with pytest.raises(ChannelUnavailable, match="unreadable"):
            await channel.receipts(10)
        await channel.close()


async def test_lookup_with_unknown_state() -> None:
    """A state that is not in the list must leave the attempt out: it stays unknown."""
    body = b'{"results":[{"attempt_id":"%s","state":"perhaps"}]}' % ATTEMPT_ID.hex().encode()
    async with raw_server(answering(http_answer(body))) as url:
        channel = SandboxChannel(url)
        assert await channel.lookup([Unsure(ATTEMPT_ID)]) == []
        await channel.close()


_PROGRAM = """
import asyncio, functools, pathlib, sys
from orderbell.sandbox.server import serve
announce = functools.partial(print, flush=True)
asyncio.run(serve("127.0.0.1", int(sys.argv[1]), pathlib.Path(sys.argv[2]), announce=announce))
"""


async def _start(port: int, ledger_path: Path) -> asyncio.subprocess.Process:
    """Start a sandbox as a process of its own and wait until it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, str(port), ledger_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline()
    return process


async def test_send_while_provider_is_killed(tmp_path: Path) -> None:
    """However often the provider dies in mid-flow: accepted is in its ledger once, not sent is not in it."""
    port, ledger_path = unused_port(), tmp_path / "ledger.jsonl"
    channel = SandboxChannel(f"http://127.0.0.1:{port}", timeout_s=30)
    numbers = count()
    answered: dict[bytes, Outcome] = {}

    async def send_until_not_sent() -> None:
        while Outcome.NOT_SENT not in await send_three():
            pass

    async def send_three() -> set[Outcome]:
        batch = [
            Outgoing(attempt_id=next(numbers).to_bytes(16, "big"), channel="push", to="token", text="hi")
            for _ in range(3)
        ]
        answers = await channel.send(batch)
        answered.update((answer.attempt_id, answer.outcome) for answer in answers)
        return {answer.outcome for answer in answers}

    for _ in range(4):
        process = await _start(port, ledger_path)
        senders = [asyncio.create_task(send_until_not_sent()) for _ in range(8)]
        enough = len(answered) + 300
        while len(answered) < enough:
            await send_three()
        process.kill()
        await process.wait()
        await asyncio.gather(*senders)
    await channel.close()

    entries = read_ledger(ledger_path)
    recorded = {bytes.fromhex(entry.attempt_id) for entry in entries}
    assert len(recorded) == len(entries), "nothing may be sent twice by the client itself"
    for attempt_id, outcome in answered.items():
        if outcome is Outcome.ACCEPTED:
            assert attempt_id in recorded
        elif outcome is Outcome.NOT_SENT:
            assert attempt_id not in recorded
    assert recorded <= answered.keys()
