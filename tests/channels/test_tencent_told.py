"""What Tencent Cloud SMS tells or is asked for later must name its message, or be left alone."""

from datetime import UTC, datetime, timedelta

import pytest

from orderbell.channels.protocol import (
    Callback,
    CallbackRefused,
    ChannelUnavailable,
    Fate,
    Found,
    Heard,
    InboundSms,
    Outcome,
    Receipt,
    Review,
    Unsure,
)
from orderbell.channels.tencent_rows import History, match
from orderbell.channels.tencent_wire import Row
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import Answered, Asked
from orderbell.sandbox.tencent import TencentSimulator
from tests.channels.rigs.tencent import (
    TEMPLATES,
    error,
    make,
    message,
    talking,
    utc_now,
)
from tests.raw_server import answering, http_answer, raw_server

NOON = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
"""Twelve o'clock in Beijing."""
HEARD = b'{"result":0,"errmsg":"OK"}'
ATTEMPT = bytes(range(16))


def told(body: bytes) -> Heard:
    """Hear a callback."""
    return make(now=lambda: NOON).hear(Callback("POST", "http://shop/x", {}, {}, body))


def test_hear_receipts() -> None:
    """Receipts must name their message by `sid`, at a time in UTC."""
    body = """[
        {"user_receive_time":"2015-10-17 08:03:04","nationcode":"86","mobile":"13800138000","report_status":"SUCCESS",
         "errmsg":"DELIVRD","description":"用户短信送达成功","sid":"2640:1","new":{"a":[1]}},
        {"user_receive_time":"","nationcode":"86","mobile":"13800138000","report_status":"FAIL",
         "errmsg":"MK:0005","description":"停机 13800138000","sid":"2640:2"},
        {"report_status":"PERHAPS","sid":"2640:3"}
    ]"""
    heard = told(body.encode())
    assert heard == Heard(
        receipts=(
            Receipt(b"", "2640:1", True, "DELIVRD 用户短信送达成功", datetime(2015, 10, 17, 0, 3, 4, tzinfo=UTC)),
            Receipt(b"", "2640:2", False, "MK:0005 停机 ***", NOON),
        ),
        answer=HEARD,
    )


def test_hear_reply() -> None:
    """A reply must come from its phone in E.164, with the same id each time that it is pushed."""
    body = '{"extend":"","mobile":"13800138000","nationcode":"86","sign":"腾讯云","text":"TD","time":1457336869}'
    heard = told(body.encode())
    (reply,) = heard.inbound
    at = datetime.fromtimestamp(1457336869, UTC)
    assert reply == InboundSms(reply.id, "+8613800138000", "TD", at)
    assert len(reply.id) == 32
    assert heard == told(body.encode())
    assert heard.answer == HEARD
    assert told(body.replace("TD", "T").encode()).inbound[0].id != reply.id


@pytest.mark.parametrize(
    ("body", "review"),
    [
        ('{"template_id":1001,"status":0}', Review("template", "1001", "approved")),
        ('{"template_id":"1001","status":1}', Review("template", "1001", "in_review")),
        ('{"template_id":1001,"status":2}', Review("template", "1001", "in_review")),
        ('{"tpl_id":1001,"status":-1,"reply":"no"}', Review("template", "1001", "rejected", "no")),
        ('{"sign_name":"叮咚","sign_id":7,"status":0}', Review("signature", "叮咚", "approved")),
        ('{"sign_id":7,"status":-1,"review_reply":"no"}', Review("signature", "7", "rejected", "no")),
    ],
)
def test_hear_review(body: str, review: Review) -> None:
    """A template or signature must be usable when its status is 0, and at no other."""
    assert told(body.encode()) == Heard(reviews=(review,), answer=HEARD)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b"[1]",
        b"[{}]",
        b'[{"sid":1,"report_status":"SUCCESS"}]',
        b'{"status":0}',
        b'{"status":7,"template_id":1}',
        b'{"status":"0","template_id":1}',
        b'{"mobile":"","text":"T"}',
        b'{"mobile":"138x","text":"T"}',
        b'{"mobile":"13800138000\\n","text":"T"}',
        b'{"mobile":"13800138000","nationcode":"eins","text":"T"}',
        b'{"mobile":"13800138000"}',
        b'{"mobile":"13800138000","text":"\\ud83d"}',
        b"\xff",
        b"<xml/>",
        b"a=b&c=d",
        b"[" * 200_000,
        b'{"text":' * 100_000,
        b'{"a":' + b"[" * 400_000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_hear_garbage(body: bytes) -> None:
    """What cannot be read must be refused, whatever it is."""
    with pytest.raises(CallbackRefused):
        told(body)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"sid":"s\\u0000","report_status":"FAIL","user_receive_time":"0001-01-01 00:00:00"}]',
        b'[{"sid":"s","report_status":"FAIL","user_receive_time":"tomorrow","errmsg":null}]',
        b'{"mobile":13800138000,"text":"a\\u0000b","time":99999999999999999999999}',
        b'{"mobile":"13800138000","text":"ab","time":"-99999999999999"}',
        b'{"mobile":"13800138000","text":"ab","time":"x"}',
        b'{"mobile":"13800138000","text":"ab"}',
    ],
)
def test_hear_nonsense_times(body: bytes) -> None:
    """A time that no calendar has must be taken for now, and NUL, which tables cannot hold, must go."""
    heard = told(body)
    assert [receipt.at for receipt in heard.receipts] + [reply.at for reply in heard.inbound] == [NOON]
    assert [receipt.provider_ref for receipt in heard.receipts] + [reply.text for reply in heard.inbound] in (
        ["s"],
        ["ab"],
    )


SENT_S = int(NOON.timestamp())


def row(serial: str, after_s: float, status: str = "SUCCESS", context: str = "") -> Row:
    """Make a row that was received so long after the attempt."""
    return Row(serial, int(SENT_S + after_s), status, "words", context)


def matched(*rows: Row, ref: str = "", age_s: float = 3600, known: dict[str, bytes] | None = None) -> list[Found]:
    """Look for one attempt in rows."""
    one = Unsure(ATTEMPT, "+8613800138000", NOON, ref)
    asked = {ATTEMPT: (one, History(rows))}
    return match(asked, known or {}, absent_after_s=1800, now=NOON + timedelta(seconds=age_s))


NOT_FOUND = [Found(ATTEMPT, Fate.NOT_FOUND, "", "Tencent knows of no such message")]
DELIVERED = [Found(ATTEMPT, Fate.DELIVERED, "s1", "words")]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row("s1", 4)], DELIVERED),
        ([row("s1", 4), row("s1", 4)], DELIVERED),
        ([row("s1", 4, "FAIL")], [Found(ATTEMPT, Fate.FAILED, "s1", "words")]),
        ([row("s1", 4, "")], [Found(ATTEMPT, Fate.ACCEPTED, "s1", "words")]),
        ([row("s0", -300), row("s1", 4)], DELIVERED),
        ([row("s1", 4), row("s2", 4000)], DELIVERED),
        ([row("s1", 4), row("s2", 5)], []),
        ([row("s1", -20)], []),
        ([row("s1", 600)], []),
        ([Row("s1")], []),
        ([row("s0", -300), row("s2", 4000)], NOT_FOUND),
        ([], NOT_FOUND),
        ([row(f"s{number}", -500) for number in range(100)], []),
        ([row(f"s{number}", -500) for number in range(99)] + [row("s100", 4)], []),
        ([row("s0", 4), row("s1", 5, context=ATTEMPT.hex())], DELIVERED),
        ([row("s1", 900, context=ATTEMPT.hex())], DELIVERED),
    ],
)
def test_match_by_time(rows: list[Row], found: list[Found]) -> None:
    """A row must be taken for the attempt only if no other could be, and none be missed in silence."""
    assert matched(*rows) == found


def test_match_too_early() -> None:
    """That there is no row must not be believed before the carrier can have spoken."""
    assert matched(age_s=1799) == []
    assert matched(age_s=1800) == NOT_FOUND


def test_match_by_serial() -> None:
    """A row whose message is known must be its own, and nobody else's."""
    rows = (row("s0", 3), row("s1", 4))
    assert matched(*rows, ref="s1") == DELIVERED
    assert matched(*rows, known={"s0": bytes(16)}) == DELIVERED
    assert matched(*rows, known={"s1": ATTEMPT}) == DELIVERED
    assert matched(row("s0", 3), known={"s0": bytes(16)}) == NOT_FOUND


def test_match_of_two_to_one_phone() -> None:
    """Two attempts to one phone must not both claim its only row, nor one the row that names the other."""
    later = Unsure(bytes(16), "+8613800138000", NOON + timedelta(seconds=10))
    now = NOON + timedelta(hours=1)

    def both(*rows: Row, ref: str = "") -> list[Found]:
        one = Unsure(ATTEMPT, "+8613800138000", NOON, ref)
        asked = {ATTEMPT: (one, History(rows)), bytes(16): (later, History(rows))}
        return match(asked, {}, absent_after_s=1800, now=now)

    assert both(row("s1", 14)) == []
    assert both(row("s1", 14), ref="s1") == [*DELIVERED, Found(bytes(16), Fate.NOT_FOUND, "", NOT_FOUND[0].detail)]
    named = both(row("s1", 14, context=ATTEMPT.hex()), row("s2", 15))
    assert [(one.attempt_id, one.provider_ref) for one in named] == [(ATTEMPT, "s1"), (bytes(16), "s2")]


def test_match_with_clock_apart() -> None:
    """The provider's times must be read by the provider's clock."""
    one = Unsure(ATTEMPT, "+8613800138000", NOON)
    asked = {ATTEMPT: (one, History([row("s1", 204)], 200.0))}
    assert match(asked, {}, absent_after_s=1800, now=NOON) == DELIVERED


async def test_lookup_of_shared_request() -> None:
    """Each phone of a request whose answer was lost must be found, with the context of the first or without."""
    for shows_context in (False, True):
        batch = [message(number) for number in (5, 10, 15)]
        async with talking(TencentSimulator(templates=TEMPLATES, shows_context=shows_context)) as (channel, simulator):
            simulator.faults = Faults(cut_after_accept=1)
            answers = await channel.send(batch)
            found = await channel.lookup([Unsure(one.attempt_id, one.to, utc_now()) for one in batch])
        assert {answer.outcome for answer in answers} == {Outcome.UNKNOWN}
        assert [(one.attempt_id, one.fate) for one in found] == [(one.attempt_id, Fate.DELIVERED) for one in batch]
        assert [one.provider_ref for one in found] == [taken.ref for taken in simulator.taken]


async def test_lookup_beside_accepted_message() -> None:
    """A message that was answered must not be taken for one to the same phone that never went out."""
    first, second = message(1, to="+8613800138000"), message(2, to="+8613800138000")
    async with talking(absent_after_s=0) as (channel, simulator):
        await channel.send([first])
        simulator.faults = Faults(refuse=1)
        await channel.send([second])
        simulator.faults = Faults()
        (found,) = await channel.lookup([Unsure(second.attempt_id, second.to, utc_now())])
    assert found.fate is Fate.NOT_FOUND


async def test_lookup_before_receipt() -> None:
    """While the carrier is silent nothing must be said, neither found nor not found."""
    async with talking() as (channel, simulator):
        simulator.faults = Faults(cut_after_accept=1, receipt_delay_s=60)
        await channel.send([message(1)])
        assert await channel.lookup([Unsure(message(1).attempt_id, message(1).to, utc_now())]) == []


async def test_lookup_of_what_cannot_be_asked() -> None:
    """Attempts without a phone or a time, and those that Tencent has forgotten, must be left out unasked."""
    week_ago = utc_now() - timedelta(days=7)
    unaskable = [Unsure(ATTEMPT, "", utc_now()), Unsure(ATTEMPT, "+8613800138000"), Unsure(ATTEMPT, "x", utc_now())]
    async with talking(absent_after_s=0) as (channel, simulator):
        assert await channel.lookup([*unaskable, Unsure(ATTEMPT, "+8613800138000", week_ago)]) == []
        assert simulator.requests == 0


async def test_lookup_too_quick() -> None:
    """A provider that wants to be left alone must be, and what it said by then must count."""

    class Tired(TencentSimulator):
        async def answer(self, asked: Asked) -> Answered:
            if self.requests >= 2:
                return Answered(body=error("RequestLimitExceeded"))
            return await super().answer(asked)

    unsure = [Unsure(message(number).attempt_id, message(number).to, utc_now()) for number in range(1, 30)]
    async with talking(Tired(templates=TEMPLATES), absent_after_s=0) as (channel, simulator):
        found = await channel.lookup(unsure)
        assert 1 <= len(found) <= 2
        assert simulator.requests == 2
        with pytest.raises(ChannelUnavailable, match="RequestLimitExceeded"):
            await channel.lookup(unsure)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Response":{"PullSmsSendStatusSet":[{}]}}', error("AuthFailure.New")])
async def test_lookup_with_garbage(body: bytes) -> None:
    """An unreadable answer must not look like "not found"."""
    async with raw_server(answering(http_answer(body))) as url:
        channel = make(url, absent_after_s=0)
        with pytest.raises(ChannelUnavailable):
            await channel.lookup([Unsure(ATTEMPT, "+8613800138000", utc_now())])
        await channel.close()
