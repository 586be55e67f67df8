"""What Alibaba Cloud SMS says later: records of lost answers, receipts, replies, reviews, the state of the account."""

import contextlib
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.channels import alibaba
from orderbell.channels.alibaba import (
    HEARD_ANSWER,
    AlibabaChannel,
    find,
)
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import (
    Callback,
    CallbackRefused,
    ChannelUnavailable,
    Fate,
    Review,
    Unsure,
)
from orderbell.serving import serving
from tests.channels.rigs.alibaba import (
    CODE,
    SIGN,
    channel_to,
    connected,
    message,
    options,
    simulator,
    unsure,
)

NOW = datetime(2026, 11, 22, 6, 3, 20, tzinfo=UTC)  # 14:03:20 in China


# What is found afterwards


def records(*given: dict[str, Any]) -> list[Any]:
    """Read records as the channel does."""
    body = json.dumps({"TotalCount": len(given), "SmsSendDetailDTOs": {"SmsSendDetailDTO": given}})
    return alibaba._decode_details(body).records.sms_send_detail_d_t_o


def record(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Make a record of a message that was sent at `NOW`."""
    sent = {"Content": "甲", "TemplateCode": CODE, "SendDate": "2026-11-22 14:03:21", "OutId": "", "SendStatus": 3}
    return {**sent, **changed}


FIRST, OWN = bytes(15) + b"\x01", bytes(15) + b"\x02"
ASKED = Unsure(OWN, "+8613800138000", NOW, f"{FIRST.hex()}/tag", "甲", "", CODE)


@pytest.mark.parametrize(
    ("asked", "given", "fate"),
    [
        (ASKED, [record(OutId=FIRST.hex())], Fate.DELIVERED),
        (ASKED, [record(OutId=FIRST.hex(), SendStatus=1)], Fate.ACCEPTED),
        (ASKED, [record(OutId=FIRST.hex(), SendStatus=2, ErrCode="UNDELIV")], Fate.FAILED),
        (ASKED, [record(OutId=FIRST.hex(), SendStatus="3")], Fate.DELIVERED),
        (ASKED, [record(OutId=FIRST.hex(), SendStatus=9)], None),
        (ASKED, [record(OutId=FIRST.hex(), SendStatus=2), record(OutId=OWN.hex())], Fate.DELIVERED),
        (ASKED, [record(OutId="of somebody else")], Fate.NOT_FOUND),
        (ASKED, [], Fate.NOT_FOUND),
        (msgspec.structs.replace(ASKED, ref=""), [record(OutId="?")], Fate.DELIVERED),
        (msgspec.structs.replace(ASKED, ref=""), [record(OutId=None)], Fate.DELIVERED),
        (msgspec.structs.replace(ASKED, ref=""), [record(), record()], None),
        (msgspec.structs.replace(ASKED, ref=""), [record(Content="乙")], None),
        (msgspec.structs.replace(ASKED, ref=""), [record(TemplateCode="SMS_2")], Fate.NOT_FOUND),
        (msgspec.structs.replace(ASKED, ref=""), [record(SendDate="2026-11-22 09:00:00")], Fate.NOT_FOUND),
        (msgspec.structs.replace(ASKED, ref=""), [record(SendDate="once", Content="乙")], None),
        (msgspec.structs.replace(ASKED, ref="", text=""), [record(Content="")], None),
        (msgspec.structs.replace(ASKED, ref=""), [], Fate.NOT_FOUND),
    ],
)
def test_attempt_found_among_records(asked: Unsure, given: list[dict[str, Any]], fate: Fate | None) -> None:
    """The OutId decides; without one the text, if it is the only one; what is doubtful must stay unknown."""
    found = find(asked, records(*given), shared_ref=False)
    assert (None if found is None else found[0]) is fate


def test_reference_of_two_attempts_decides_for_neither() -> None:
    """Where two attempts are asked about by one reference, its record could be either's."""
    assert find(ASKED, records(record(OutId=FIRST.hex())), shared_ref=True) is None
    assert find(ASKED, records(record(OutId=OWN.hex())), shared_ref=True) is not None
    assert find(ASKED, [], shared_ref=True) == (Fate.NOT_FOUND, None)


async def test_lookup_without_a_reference() -> None:
    """Attempts of which only the text is known must be found by it."""
    async with connected() as (_, channel):
        await channel.send([message(1), message(2)])
        asked = [unsure(message(number, attempt_id=bytes([number]) * 16), ref="") for number in (1, 2, 3)]
        found = await channel.lookup(asked)
    assert [one.fate for one in found] == [Fate.DELIVERED, Fate.DELIVERED, Fate.NOT_FOUND]
    assert found[0].provider_ref.partition("/")[0] == message(1).attempt_id.hex()


async def test_lookup_around_midnight_asks_for_both_days() -> None:
    """A message sent just before midnight in China may stand under the next day."""
    at = datetime(2026, 11, 22, 16, 0, 30, tzinfo=UTC)
    made = simulator(clock=lambda: at)
    async with serving(made, stopping=made.end_waiting) as url:
        channel = AlibabaChannel(options(url), name="alibaba", now=lambda: at, shared=KeptInMemory(lambda: at))
        await channel.send([message(1)])
        (found,) = await channel.lookup([unsure(message(1), sent_at=at - timedelta(minutes=1))])
        await channel.close()
    assert found.fate is Fate.DELIVERED
    assert [action for action, _ in made.requests] == ["SendSms", "QuerySendDetails", "QuerySendDetails"]


async def test_lookup_reads_all_pages() -> None:
    """A phone that got more than fifty messages in a day must be searched to the end."""
    async with connected() as (_, channel):
        batch = [message(number, to=message(1).to) for number in range(1, 122)]
        await channel.send(batch)
        found = await channel.lookup(
            [unsure(batch[0]), unsure(batch[-1]), unsure(message(999, to=batch[0].to), ref=f"{bytes(16).hex()}/x")]
        )
    assert [one.fate for one in found] == [Fate.DELIVERED, Fate.DELIVERED, Fate.NOT_FOUND]


async def test_lookup_of_what_cannot_be_asked_for() -> None:
    """Attempts without phone or time, or from before the records begin, must be left out."""
    async with connected() as (made, channel):
        asked = [
            unsure(message(1), sent_at=None),
            unsure(message(1, to="")),
            unsure(message(1), sent_at=datetime.now(UTC) - timedelta(days=31)),
        ]
        assert await channel.lookup(asked) == []
    assert made.requests == []


async def test_lookup_of_which_a_part_fails() -> None:
    """What could be asked must be answered even if another question was refused."""
    async with connected() as (_, channel):
        await channel.send([message(1)])
        found = await channel.lookup([unsure(message(2, to="+85291234567")), unsure(message(1))])
        with pytest.raises(ChannelUnavailable, match="MOBILE_NUMBER_ILLEGAL"):
            await channel.lookup([unsure(message(2, to="+85291234567"))])
    assert [(one.attempt_id, one.fate) for one in found] == [(message(1).attempt_id, Fate.DELIVERED)]


@pytest.mark.parametrize(
    "said", [{}, {"TotalCount": "x"}, {"TotalCount": 3}, {"TotalCount": 1, "SmsSendDetailDTOs": []}]
)
async def test_lookup_that_is_not_understood(said: dict[str, Any]) -> None:
    """Records that cannot be read, or are fewer than there are, must not count as "never sent"."""
    async with connected() as (made, channel):
        made._actions["QuerySendDetails"] = lambda _: (said, False)
        with pytest.raises(ChannelUnavailable, match="records"):
            await channel.lookup([unsure(message(1))])


# What the provider tells

REPORT = {
    "phone_number": "13800138000",
    "send_time": "2026-11-22 14:03:20",
    "report_time": "2026-11-22 14:03:25",
    "success": True,
    "err_code": "DELIVERED",
    "err_msg": "用户接收成功",
    "sms_size": "1",
    "biz_id": "9006000000000001^0",
    "out_id": FIRST.hex(),
}
MO = {
    "phone_number": "13800138000",
    "content": "T",
    "send_time": "2026-11-22 14:03:20",
    "dest_code": "10690000000007",
    "sequence_id": 123456,
    "sign_name": "叮咚",
}
TEMPLATE_REVIEW = {
    "template_type": "短信通知",
    "template_code": CODE,
    "template_status": "rejected",
    "reason": "变量太多",
    "orderId": "1",
}
SIGN_REVIEW = {
    "sign_name": "叮咚",
    "sign_status": "approving",
    "create_date": "2026-11-22 14:03:20",
    "orderId": "1",
    "reason": None,
}


@pytest.fixture
async def channel() -> AsyncIterator[AlibabaChannel]:
    """Give a channel to nowhere, for what needs no provider."""
    made = channel_to("http://127.0.0.1:9")
    yield made
    await made.close()


def callback(body: object, method: str = "POST") -> Callback:
    """Make a callback as the provider does."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Callback(
        method, "https://shop.example/callbacks/x", {"content-type": "application/json;charset=utf-8"}, {}, raw
    )


async def test_receipt_is_heard(channel: AlibabaChannel) -> None:
    """A receipt must name the message as the answer did, in UTC, and be answered to the byte."""
    heard = channel.hear(callback([REPORT, {**REPORT, "success": False, "err_code": "MK:0005", "err_msg": "空号"}]))
    delivered, failed = heard.receipts
    assert delivered.provider_ref == channel.ref_of(FIRST, message(1, to="+8613800138000"))
    assert (delivered.attempt_id, delivered.delivered, delivered.detail) == (b"", True, "DELIVERED 用户接收成功")
    assert (failed.delivered, failed.detail) == (False, "MK:0005 空号")
    assert delivered.at == NOW + timedelta(seconds=5)
    assert (heard.status, heard.answer) == (200, '{"code":0,"msg":"接收成功"}'.encode())
    assert heard.answer == HEARD_ANSWER


@pytest.mark.parametrize("phone", ["13800138000", "8613800138000", "+8613800138000", "008613800138000"])
async def test_receipt_with_phone_in_any_form(channel: AlibabaChannel, phone: str) -> None:
    """The phone of a receipt must be recognised however its country is written."""
    (receipt,) = channel.hear(callback([{**REPORT, "phone_number": phone}])).receipts
    assert receipt.provider_ref == channel.ref_of(FIRST, message(1, to="+8613800138000"))


@pytest.mark.parametrize("out_id", [None, "", "order 17", FIRST.hex().upper().replace("0", "A"), FIRST.hex() + "0"])
async def test_receipt_of_somebody_else_is_left_out(channel: AlibabaChannel, out_id: str | None) -> None:
    """An account may be used by others too; their receipts must be taken and forgotten."""
    heard = channel.hear(callback([{**REPORT, "out_id": out_id}, REPORT]))
    assert len(heard.receipts) == 1
    assert heard.answer == HEARD_ANSWER


async def test_reply_is_heard(channel: AlibabaChannel) -> None:
    """A message from a person must come with the provider's number, be that a number or a string."""
    first, second = channel.hear(callback([MO, {**MO, "sequence_id": "abc"}])).inbound
    assert (first.id, first.sender, first.text, first.at) == ("123456", "+8613800138000", "T", NOW)
    assert second.id == "abc"


async def test_reviews_are_heard(channel: AlibabaChannel) -> None:
    """Reviews of templates and signatures must come with state and reason; states without meaning are passed over."""
    heard = channel.hear(callback([TEMPLATE_REVIEW, SIGN_REVIEW, {**SIGN_REVIEW, "sign_status": "cancelled"}]))
    assert heard.reviews == (
        Review("template", CODE, "rejected", "变量太多"),
        Review("signature", "叮咚", "in_review", ""),
    )


async def test_mixture_is_heard(channel: AlibabaChannel) -> None:
    """One address may be given for everything, so the fields must tell what is what."""
    heard = channel.hear(callback([SIGN_REVIEW, REPORT, MO, TEMPLATE_REVIEW]))
    assert (len(heard.receipts), len(heard.inbound), len(heard.reviews)) == (1, 1, 2)
    assert channel.hear(callback([])).answer == HEARD_ANSWER


HOSTILE = [
    b"",
    b"null",
    b"{}",
    b"[null]",
    b"[1]",
    b"[{}]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    REPORT,
    [{**REPORT, "phone_number": None}],
    [{**REPORT, "phone_number": "1" * 21}],
    [{**REPORT, "phone_number": "１３８"}],
    [{**REPORT, "phone_number": 13800138000}],
    [{**REPORT, "report_time": "now"}],
    [{**REPORT, "report_time": "0001-01-01 00:00:00"}],
    [{**REPORT, "report_time": None}],
    [{**REPORT, "success": "true"}],
    [{**REPORT, "success": None}],
    [{**MO, "send_time": ""}],
    [{**MO, "content": None}],
    [{**MO, "sequence_id": None}],
    [{**MO, "sequence_id": 1.5}],
    [{**MO, "phone_number": "<script>"}],
    [{**TEMPLATE_REVIEW, "template_code": ""}],
    [{**SIGN_REVIEW, "sign_name": None}],
    b'[{"phone_number":"13800138000","content":"\\ud83d","send_time":"2026-11-22 14:03:20","sequence_id":1}]',
    b'[{"sequence_id":'
    + b"9" * 5_000
    + b',"content":"T","phone_number":"13800138000","send_time":"2026-11-22 14:03:20"}]',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_callback_is_refused(channel: AlibabaChannel, body: object) -> None:
    """What is no callback must be refused, never raise anything else."""
    with pytest.raises(CallbackRefused) as refused:
        channel.hear(callback(body))
    assert refused.value.status == 400


async def test_callback_by_another_method_is_refused(channel: AlibabaChannel) -> None:
    """Callbacks come by POST."""
    with pytest.raises(CallbackRefused) as refused:
        channel.hear(callback([REPORT], "GET"))
    assert refused.value.status == 405


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_callbacks_are_heard_or_refused(channel: AlibabaChannel, seed: int) -> None:
    """Whatever becomes of the bytes on their way, the result must be a reading or a refusal."""
    dice = random.Random(seed)
    whole = json.dumps([REPORT, MO, TEMPLATE_REVIEW, SIGN_REVIEW], ensure_ascii=False).encode()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with contextlib.suppress(CallbackRefused):
            assert channel.hear(callback(bytes(damaged[: dice.randint(1, len(damaged))]))).status == 200


# What a check finds


async def test_check_names_the_state_of_the_signature() -> None:
    """A check must tell an approved signature from one in review, rejected, cancelled or unknown."""
    async with connected() as (made, channel):
        found = []
        for status in (1, 0, 2, 10):
            made.sign_statuses = {SIGN: status}
            found.append((await channel.check())[1])
        made.sign_statuses, made.signs = {}, set()
        found.append((await channel.check())[1])
    assert [finding.fine for finding in found] == [True, False, False, False, False]
    assert all(SIGN in finding.words for finding in found)
    assert "review" in found[1].words
    assert "资料不全" in found[2].words


async def test_check_without_the_right_to_ask_for_signatures() -> None:
    """Sending needs no such right, so its lack must be told and do no harm."""
    async with connected() as (made, channel):

        def denied(parameters: Any) -> Any:  # noqa: ANN401 - as the simulator has it
            made.fail_with = "isp.RAM_PERMISSION_DENY"
            made._fail("GetSmsSign")

        made._actions["GetSmsSign"] = denied
        key, signature = await channel.check()
    assert key.fine
    assert (signature.fine, "AliyunDysmsFullAccess" in signature.words) == (True, True)
