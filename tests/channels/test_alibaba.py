"""What is peculiar to Alibaba Cloud SMS: its signature, its codes, and what goes into a request."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from orderbell.channels import alibaba
from orderbell.channels.alibaba import (
    AlibabaChannel,
    AlibabaOptions,
    fault_of,
    wire_phone,
)
from orderbell.channels.alibaba_api import (
    OUTCOMES,
    authorization,
    canonical_query,
    canonical_request,
    host_of,
    read_answer,
    until_next_window_s,
)
from orderbell.channels.http import NoReply, Reply
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import (
    Fate,
    Outcome,
    Outgoing,
    Scope,
)
from orderbell.sandbox.alibaba import AlibabaSimulator, Template
from orderbell.sandbox.faults import Faults
from orderbell.serving import serving
from tests.channels.rigs.alibaba import CODE, connected, message, options, simulator, unsure

NOW = datetime(2026, 11, 22, 6, 3, 20, tzinfo=UTC)  # 14:03:20 in China
SECRET_OF_DOCS = "YourAccessKeySecret"


def named(channel: AlibabaChannel, *batch: Outgoing) -> list[Outgoing]:
    """Give messages the references that they have before they are sent."""
    return [msgspec.structs.replace(one, ref=channel.ref_of(batch[0].attempt_id, one)) for one in batch]


def out_ids(made: AlibabaSimulator) -> dict[str, str]:
    """Tell the OutId of each text that was taken."""
    return {taken.text: taken.fields["out_id"] for taken in made.taken}


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """Make an answer of the API."""
    return Reply(
        status, json.dumps(body).encode(), headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


# The signature


def test_signature_of_documentation() -> None:
    """The example of the documentation must come out to the last digit."""
    query = canonical_query(
        {"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai"}
    )
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }
    canonical, signed = canonical_request("POST", query, headers)
    assert (
        hashlib.sha256(canonical.encode()).hexdigest()
        == "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
    )
    assert signed == "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
    assert authorization("YourAccessKeyId", SECRET_OF_DOCS, "POST", query, headers) == (
        f"ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders={signed},"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


def test_signature_of_message_with_difficult_characters() -> None:
    """Blanks, plus, asterisk, tilde and Chinese must be encoded as RFC 3986 has it."""
    query = canonical_query(
        {
            "OutId": "o-1",
            "PhoneNumbers": "13800138000",
            "SignName": "阿里云",
            "TemplateCode": "SMS_123456789",
            "TemplateParam": '{"code":"1+2 *~","name":"张三"}',
        }
    )
    assert query.endswith("TemplateParam=%7B%22code%22%3A%221%2B2%20%2A~%22%2C%22name%22%3A%22%E5%BC%A0%E4%B8%89%22%7D")
    headers = {
        "host": "dysmsapi.aliyuncs.com",
        "x-acs-action": "SendSms",
        "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-acs-date": "2026-01-02T03:04:05Z",
        "x-acs-signature-nonce": "00000000000000000000000000000001",
        "x-acs-version": "2017-05-25",
    }
    canonical, _ = canonical_request("POST", query, headers)
    assert (
        hashlib.sha256(canonical.encode()).hexdigest()
        == "91f1efafeb0cb513d7712f03fda2d284a20f37c766cbc78676bf039430b81eb6"
    )
    assert authorization("YourAccessKeyId", SECRET_OF_DOCS, "POST", query, headers).endswith(
        "Signature=fb18c8a562e2d02a772d11850e81953222c9d55d2adef4b995f720694fdff10e"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://dysmsapi.aliyuncs.com", "dysmsapi.aliyuncs.com"),
        ("https://DYSMSAPI.aliyuncs.com:443/", "dysmsapi.aliyuncs.com"),
        ("http://127.0.0.1:8025", "127.0.0.1:8025"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:443", "[::1]:443"),
    ],
)
def test_host_that_is_signed(url: str, host: str) -> None:
    """The signed host must be the one that the client writes."""
    assert host_of(url) == host


# What answers mean

CONTENT, DOWN, LATER = Outcome.REJECTED_CONTENT, Outcome.CHANNEL_DOWN, Outcome.RETRY_LATER
TABLE = {
    "isp.SYSTEM_ERROR": LATER,
    "ServiceUnavailable": LATER,
    "InternalError": LATER,
    "Throttling": Outcome.THROTTLED,
    "Throttling.User": Outcome.THROTTLED,
    "Throttling.Api": Outcome.THROTTLED,
    "isv.BUSINESS_LIMIT_CONTROL": Outcome.THROTTLED,
    "isv.DAY_LIMIT_CONTROL": DOWN,
    "isv.MONTH_LIMIT_CONTROL": DOWN,
    "isp.RAM_PERMISSION_DENY": DOWN,
    "isp.RAM_PERMISSION_DENYY": DOWN,
    "isv.OUT_OF_SERVICE": DOWN,
    "isv.AMOUNT_NOT_ENOUGH": DOWN,
    "isv.PRODUCT_UN_SUBSCRIPT": DOWN,
    "isv.PRODUCT_UNSUBSCRIBE": DOWN,
    "isv.ACCOUNT_NOT_EXISTS": DOWN,
    "isv.ACCOUNT_ABNORMAL": DOWN,
    "isv.SECURITY_FROZEN_ACCOUNT": DOWN,
    "isv.DENY_IP_RANGE": DOWN,
    "SignatureDoesNotMatch": DOWN,
    "IncompleteSignature": DOWN,
    "SignatureNonceUsed": DOWN,
    "InvalidAccessKeyId.NotFound": DOWN,
    "InvalidAccessKeyId.Inactive": DOWN,
    "InvalidSecurityToken.Expired": DOWN,
    "InvalidSecurityToken.Malformed": DOWN,
    "MissingSecurityToken": DOWN,
    "InvalidTimeStamp.Expired": DOWN,
    "InvalidTimeStamp.Format": DOWN,
    "InvalidVersion": DOWN,
    "InvalidAction.NotFound": DOWN,
    "Forbidden.RAM": DOWN,
    "NoPermission": DOWN,
    "isv.SMS_TEMPLATE_ILLEGAL": CONTENT,
    "isv.SMS_SIGNATURE_ILLEGAL": CONTENT,
    "isv.SMS_SIGN_ILLEGAL": CONTENT,
    "isv.SIGN_STATE_ILLEGAL": CONTENT,
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": CONTENT,
    "isv.SMS_CONTENT_ILLEGAL": CONTENT,
    "isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE": CONTENT,
    "isv.UNSUPPORTED_CONTENT": CONTENT,
    "isv.INVALID_PARAMETERS": CONTENT,
    "isv.INVALID_JSON_PARAM": CONTENT,
    "isv.TEMPLATE_MISSING_PARAMETERS": CONTENT,
    "isv.TEMPLATE_PARAMS_ILLEGAL": CONTENT,
    "isv.PARAM_LENGTH_LIMIT": CONTENT,
    "isv.PARAM_NOT_SUPPORT_URL": CONTENT,
    "isv.EXTEND_CODE_ERROR": CONTENT,
    "isv.BLACK_KEY_CONTROL_LIMIT": CONTENT,
    "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT": CONTENT,
    "isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL": CONTENT,
    "isv.SMS_TEST_NUMBER_LIMIT": CONTENT,
    "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": CONTENT,
    "isv.MOBILE_COUNT_OVER_LIMIT": CONTENT,
    "isv.CUSTOMER_REFUSED": CONTENT,
    "isv.MOBILE_NUMBER_ILLEGAL": Outcome.REJECTED_RECIPIENT,
}


def test_codes_are_all_in_the_table() -> None:
    """The table below must be the whole one, so that no code gets a meaning without a test."""
    assert OUTCOMES == TABLE


@pytest.mark.parametrize(("code", "outcome"), TABLE.items())
@pytest.mark.parametrize("status", [200, 400, 500])
def test_code_of_the_table(code: str, outcome: Outcome, status: int) -> None:
    """A documented code must decide, whatever status it comes with, and be named to people."""
    said = read_answer(reply({"Code": code, "Message": "?"}, status), NOW)
    assert (said.outcome, said.code) == (outcome, code)
    assert code in said.detail


async def test_codes_over_the_wire() -> None:
    """Each code must mean the same for one message and for a batch, as the simulator answers it."""
    async with connected() as (made, channel):
        for code, outcome in TABLE.items():
            made.fail_with = code
            answers = await channel.send([message(1)]) + await channel.send([message(1), message(2)])
            assert [answer.outcome for answer in answers] == [outcome] * 3, answers
            assert {answer.provider_ref for answer in answers} == {""}
    assert made.taken == []


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (reply({"Code": "OK"}), Outcome.ACCEPTED),
        (reply({"Code": "isv.NEW"}), Outcome.UNKNOWN),
        (reply({"Code": "Throttling.New"}, 400), Outcome.THROTTLED),
        (reply({"Code": "ok"}), Outcome.UNKNOWN),
        (reply({}), Outcome.UNKNOWN),
        (reply([]), Outcome.UNKNOWN),
        (reply({"Code": 0}), Outcome.UNKNOWN),
        (Reply(200, b""), Outcome.UNKNOWN),
        (Reply(200, b"<Code>OK</Code>"), Outcome.UNKNOWN),
        (Reply(200, b"[" * 100_000), Outcome.UNKNOWN),
        (reply({"Code": "OK"}, 500), Outcome.UNKNOWN),
        (reply({"Code": "OK"}, 400), Outcome.UNKNOWN),
        (reply({"Code": "MissingSignName"}, 400), Outcome.REJECTED_CONTENT),
        (reply({"Code": "Forbidden.New"}, 403), Outcome.CHANNEL_DOWN),
        (reply({"Code": "New"}, 500), Outcome.UNKNOWN),
        (reply({"Code": "InternalError"}, 500), Outcome.RETRY_LATER),
        (reply({"Code": "ServiceUnavailable"}, 503), Outcome.RETRY_LATER),
        (Reply(503, b""), Outcome.UNKNOWN),
        (Reply(502, b"<html>"), Outcome.UNKNOWN),
        (Reply(429, b""), Outcome.THROTTLED),
        (Reply(302, b""), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=True, detail="cut"), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=False, detail="refused"), Outcome.NOT_SENT),
    ],
)
def test_answer_of_any_form(answered: Reply | NoReply, outcome: Outcome) -> None:
    """Only a clear OK is success; what is not documented is unknown unless the status says that nothing was done."""
    assert read_answer(answered, NOW).outcome is outcome


@pytest.mark.parametrize(
    ("header", "wait_s"), [("1500", 1.5), ("99999999999999", 3600.0), ("", 1.0), ("-5", 1.0), ("１５００", 1.0)]
)
def test_throttled_request_waits_as_the_header_says(header: str, wait_s: float) -> None:
    """The provider's own header counts milliseconds; nonsense is a second."""
    said = read_answer(reply({"Code": "Throttling.User"}, 429, x_acs_retry_after=header), NOW)
    assert (said.outcome, said.scope, said.retry_after_s) == (Outcome.THROTTLED, Scope.PROVIDER, wait_s)


@pytest.mark.parametrize(
    ("words", "wait_s"),
    [
        ("触发分钟级流控Permits:1", 41),
        ("触发小时级流控Permits:5", 56 * 60 + 41),
        ("触发天级流控Permits:10", (9 * 60 + 56) * 60 + 41),
        ("触发号码天级流控Permits:40", (9 * 60 + 56) * 60 + 41),
        ("业务限流", 41),
    ],
)
def test_phone_over_its_limit_waits_for_the_next_window(words: str, wait_s: float) -> None:
    """Minutes, hours and days are those of the clock in China, read from the words."""
    assert until_next_window_s(words, NOW) == wait_s
    said = read_answer(reply({"Code": "isv.BUSINESS_LIMIT_CONTROL", "Message": words}), NOW)
    assert (said.outcome, said.scope, said.retry_after_s) == (Outcome.THROTTLED, Scope.RECIPIENT, wait_s)


@pytest.mark.parametrize(
    ("code", "at", "until"),
    [
        ("isv.DAY_LIMIT_CONTROL", NOW, datetime(2026, 11, 22, 16, tzinfo=UTC)),
        ("isv.DAY_LIMIT_CONTROL", datetime(2026, 12, 31, 16, tzinfo=UTC), datetime(2027, 1, 1, 16, tzinfo=UTC)),
        ("isv.MONTH_LIMIT_CONTROL", NOW, datetime(2026, 11, 30, 16, tzinfo=UTC)),
        ("isv.MONTH_LIMIT_CONTROL", datetime(2026, 12, 31, 15, 59, tzinfo=UTC), datetime(2026, 12, 31, 16, tzinfo=UTC)),
    ],
)
def test_account_over_its_quota_waits_for_the_next_day_or_month(code: str, at: datetime, until: datetime) -> None:
    """A quota opens again at midnight in China."""
    said = read_answer(reply({"Code": code}), at)
    assert said.retry_after_s == (until - at).total_seconds() + 1


@pytest.mark.parametrize(("off_s", "side"), [(1200, "ahead"), (-1200, "behind")])
async def test_clock_that_is_wrong_is_named(off_s: int, side: str) -> None:
    """When the provider refuses the time of a request, the answer must say how far the clock is off."""
    made = simulator()
    async with serving(made, stopping=made.end_waiting) as url:
        now = datetime.now(UTC) + timedelta(seconds=off_s)
        channel = AlibabaChannel(options(url), name="alibaba", now=lambda: now, shared=KeptInMemory(lambda: now))
        (answer,) = await channel.send([message(1)])
        (finding,) = await channel.check()
        await channel.close()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    named_s = re.search(rf"(\d+) s {side}", answer.detail)
    # The server writes whole seconds, and the test takes some.
    assert named_s is not None, answer.detail
    assert abs(int(named_s[1]) - 1200) < 20
    assert not finding.fine
    assert "clock" in finding.words


@pytest.mark.parametrize("date", [None, "yesterday", "Sun, 22 Nov 2026 06:03:20"])
def test_clock_that_is_wrong_without_a_date(date: str | None) -> None:
    """An answer without a readable date must still blame the clock."""
    headers = {} if date is None else {"date": date}
    assert "clock" in read_answer(reply({"Code": "InvalidTimeStamp.Expired"}, 400, **headers), NOW).detail


async def test_clock_ten_minutes_off_is_tolerated() -> None:
    """Fifteen minutes are allowed, so ten must do no harm."""
    made = simulator(clock=lambda: datetime.now(UTC) + timedelta(minutes=10))
    async with connected(made) as (_, channel):
        (answer,) = await channel.send([message(1)])
    assert answer.outcome is Outcome.ACCEPTED


async def test_nonce_found_used_is_changed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with a used nonce was not looked at, so it must go again with another; twice is enough."""
    nonces = iter(["a", "a", "b", "b", "a", "c"])
    monkeypatch.setattr("orderbell.channels.alibaba_api.secrets.token_hex", lambda _: next(nonces))
    async with connected() as (made, channel):
        first, second, third = [(await channel.send([message(number)]))[0] for number in (1, 2, 3)]
    assert [first.outcome, second.outcome] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert (third.outcome, len(made.taken)) == (Outcome.CHANNEL_DOWN, 2)
    assert next(nonces) == "c"


async def test_secret_is_never_repeated() -> None:
    """Neither answers nor options written out may hold the secret; references must not hold the phone."""
    async with connected(access_key_secret="not to be seen") as (_, channel):
        (answer,) = await channel.send(named(channel, message(1)))
        (finding,) = await channel.check()
        ref = channel.ref_of(bytes(16), message(1))
    assert answer.outcome is Outcome.CHANNEL_DOWN
    shown = f"{answer!r} {finding!r} {options('http://x', access_key_secret='not to be seen')!r}"
    assert "not to be seen" not in shown
    assert "a key of tests" not in shown
    assert "38000000" not in ref


# What is sent


async def test_single_message_over_the_wire() -> None:
    """One message must go by SendSms with the variables, the extend code and the OutId."""
    async with connected(extend_code="07") as (made, channel):
        (answer,) = await channel.send([message(1)])
    assert answer.outcome is Outcome.ACCEPTED
    (taken,) = made.taken
    assert made.requests == [("SendSms", 0)]
    assert taken.text == "【叮咚】您的订单D1已由顺丰速运发出"
    assert taken.fields["out_id"] == message(1).attempt_id.hex()
    assert taken.fields["extend_code"] == "07"
    assert answer.provider_ref.startswith(f"{message(1).attempt_id.hex()}/")


async def test_batch_over_the_wire() -> None:
    """Messages of one template must share a request, its OutId and nothing else."""
    async with connected(extend_code="07") as (made, channel):
        answers = await channel.send([message(number) for number in range(1, 4)])
    assert made.requests == [("SendBatchSms", 0)]
    assert [taken.text for taken in made.taken] == [message(number).text for number in range(1, 4)]
    assert {taken.fields["out_id"] for taken in made.taken} == {message(1).attempt_id.hex()}
    assert {taken.fields["extend_code"] for taken in made.taken} == {"07"}
    assert len({answer.provider_ref for answer in answers}) == 3


async def test_variables_with_any_character_arrive_unchanged() -> None:
    """Whatever a variable holds must arrive as it was, alone and in a batch."""
    awkward = ['a+b c*~%2F&=?#"\\', "换行\n制表\t", "😀é\u2028", "'<>`{}[]|^;:@,$!()"]
    made = simulator(templates={CODE: Template("${order}")})
    async with connected(made) as (_, channel):
        texts = [message(number, slots=(("order", words),)) for number, words in enumerate(awkward)]
        answers = await channel.send(texts[:1]) + await channel.send(texts[1:])
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}, answers
    assert [taken.fields["variables"]["order"] for taken in made.taken] == awkward


async def test_templates_do_not_mix() -> None:
    """Messages of two templates must go in two requests, each with an OutId of its own where none was named."""
    made = simulator(templates={CODE: Template("甲${order}"), "SMS_2": Template("乙${order}")})
    async with connected(made) as (_, channel):
        batch = [message(number, template_code=CODE if number % 2 else "SMS_2") for number in range(4)]
        answers = await channel.send(batch)
    assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED] * 4
    assert sorted(action for action, _ in made.requests) == ["SendBatchSms", "SendBatchSms"]
    assert len(set(out_ids(made).values())) == 2


async def test_requests_of_one_batch_share_the_named_out_id() -> None:
    """Messages that were named for one request must keep its OutId when they are cut into several."""
    async with connected(batch_max=2) as (made, channel):
        batch = named(channel, *(message(number) for number in range(1, 6)))
        answers = await channel.send(batch)
    assert [answer.provider_ref for answer in answers] == [one.ref for one in batch]
    assert set(out_ids(made).values()) == {batch[0].attempt_id.hex()}
    assert len(made.requests) == 3


@pytest.mark.parametrize("is_named", [True, False])
async def test_phone_twice_in_a_batch_gets_two_out_ids(is_named: bool) -> None:
    """Two messages to one phone must never share a request or an OutId, and the answers must say which they had."""
    async with connected() as (made, channel):
        batch = [message(1), message(2), message(3, to=message(2).to), message(4, to=message(1).to)]
        if is_named:
            batch = named(channel, *batch)
        answers = await channel.send(batch)
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert [answer.provider_ref.partition("/")[0] for answer in answers] == [
        batch[place].attempt_id.hex() for place in (0, 0, 2, 3)
    ]
    assert len({answer.provider_ref for answer in answers}) == 4
    assert {(taken.fields["out_id"], taken.to) for taken in made.taken} == {
        (answer.provider_ref.partition("/")[0], one.to) for answer, one in zip(answers, batch, strict=True)
    }
    if is_named:
        assert [answer.provider_ref for answer in answers] == [one.ref for one in batch]


async def test_same_reference_given_twice_is_not_trusted() -> None:
    """Even if two messages to one phone come with one reference, they must be told apart by what was really sent."""
    async with connected() as (_, channel):
        batch = [message(1), message(2, to=message(1).to)]
        ref = channel.ref_of(batch[0].attempt_id, batch[0])
        answers = await channel.send([msgspec.structs.replace(one, ref=ref) for one in batch])
    assert answers[0].provider_ref == ref
    assert answers[1].provider_ref == f"{batch[1].attempt_id.hex()}/{ref.partition('/')[2]}"


async def test_reference_is_the_same_each_time() -> None:
    """Naming a message again must give the same reference; another key must give another."""
    async with connected() as (_, channel):
        first, second = message(1), message(2)
        refs = [channel.ref_of(first.attempt_id, one) for one in (first, second, first, second)]
        assert refs[:2] == refs[2:]
        assert all(ref.startswith(first.attempt_id.hex()) for ref in refs)
    async with connected(ref_key="another key") as (_, other):
        assert other.ref_of(first.attempt_id, first) != refs[0]


async def test_names_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was named must not fill the memory, and first messages keep their names all the same."""
    monkeypatch.setattr(alibaba, "_NAMED_MAX", 2)
    async with connected() as (_, channel):
        refs = [channel.ref_of(message(number).attempt_id, message(number)) for number in (1, 2, 3, 1)]
        assert len(channel._named) == 2
    assert refs[0] == refs[3]


async def test_one_bad_message_among_a_hundred() -> None:
    """A request refused for one message must be cut in halves until all others are out, each handed over once."""
    async with connected() as (made, channel):
        made.refused_phones = {"13800000037"}
        made.forbidden_words = {"D61"}
        answers = await channel.send(named(channel, *(message(number) for number in range(100))))
    outcomes = {place: answer.outcome for place, answer in enumerate(answers) if answer.outcome is not Outcome.ACCEPTED}
    assert outcomes == {37: Outcome.REJECTED_RECIPIENT, 61: Outcome.REJECTED_CONTENT}
    assert len(made.taken) == len({taken.to for taken in made.taken}) == 98
    assert set(out_ids(made).values()) == {message(0).attempt_id.hex()}
    assert len(made.requests) < 30


async def test_template_refused_is_not_cut_up() -> None:
    """A refusal of the template concerns all alike, so it must not be asked about message by message."""
    async with connected() as (made, channel):
        answers = await channel.send([message(number, template_code="SMS_1") for number in range(50)])
    assert {answer.outcome for answer in answers} == {Outcome.REJECTED_CONTENT}
    assert len(made.requests) == 1


async def test_phone_over_its_limit_holds_nobody_else_up() -> None:
    """Of a batch only the phone that got too much must wait."""
    async with connected(simulator(flow_control=True, templates={CODE: Template("码${order}", otp=True)})) as (
        _,
        channel,
    ):
        await channel.send([message(1)])
        first, second = await channel.send([message(1), message(2)])
    assert (first.outcome, first.scope) == (Outcome.THROTTLED, Scope.RECIPIENT)
    assert 0 < first.retry_after_s <= 61
    assert second.outcome is Outcome.ACCEPTED


async def test_unknown_answer_carries_its_reference() -> None:
    """Where a message may have been sent, the answer must tell by what to look for it."""
    async with connected(timeout_s=0.5, connect_timeout_s=0.4) as (made, channel):
        made.faults = Faults(timeout_after_accept=1)
        batch = [message(1), message(2, to=message(1).to)]
        answers = await channel.send(batch)
        made.faults = Faults()
        asked = [unsure(one, ref=answer.provider_ref) for one, answer in zip(batch, answers, strict=True)]
        found = await channel.lookup(asked)
    assert {answer.outcome for answer in answers} == {Outcome.UNKNOWN}
    assert {(one.fate, one.provider_ref) for one in found} == {
        (Fate.DELIVERED, answer.provider_ref) for answer in answers
    }


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("长" * 35, ""),
        ("长" * 36, "variable order has 36 characters, more than 35"),
        ("", "variable order is empty"),
        ("https://a.example", "variable order contains an address: only the template itself may"),
        ("查看www.店", "variable order contains an address: only the template itself may"),
        ("查看t.cn/abc详情", "variable order contains an address: only the template itself may"),
        ("SHOP.COM", "variable order contains an address: only the template itself may"),
        ("10.0.0.1", "variable order contains an address: only the template itself may"),
        ("3.5公斤", ""),
        ("11.22 14:03", ""),
        ("No.5 v1.2.3", ""),
        ("¥1,299.00", ""),
    ],
)
def test_variable_within_the_rules(words: str, fault: str) -> None:
    """A variable may have 35 characters and no address, and the refusal must name it."""
    assert fault_of((("order", words),)) == fault


async def test_variable_that_breaks_the_rules_is_not_sent() -> None:
    """What the provider would refuse must be refused before it is asked."""
    async with connected() as (made, channel):
        (answer,) = await channel.send([message(1, slots=(("order", "D1"), ("carrier", "长" * 36)))])
        (without,) = await channel.send([message(1, template_code="")])
    assert (answer.outcome, "carrier" in answer.detail) == (Outcome.REJECTED_CONTENT, True)
    assert (without.outcome, "template" in without.detail) == (Outcome.REJECTED_CONTENT, True)
    assert made.requests == []


@pytest.mark.parametrize(
    ("phone", "at_home", "anywhere"),
    [
        ("+8613800138000", "13800138000", "13800138000"),
        ("+8612800138000", "", ""),
        ("+862131234567", "", ""),
        ("+86138001380001", "", ""),
        ("+85291234567", "", "85291234567"),
        # As digits it would be somebody's number in China.
        ("+13055550123", "", ""),
        ("13800138000", "", ""),
        ("+86１3800138000", "", ""),
        ("+8613800138000\n", "", ""),
        ("", "", ""),
    ],
)
def test_phone_as_the_wire_wants_it(phone: str, at_home: str, anywhere: str) -> None:
    """Only mobile numbers may be sent to, and none that would be read as another's."""
    assert wire_phone(phone, mainland_only=True) == at_home
    assert wire_phone(phone, mainland_only=False) == anywhere


async def test_temporary_key_is_signed_with_its_token() -> None:
    """A temporary key must come with its token, and the token must be part of what is signed."""
    async with connected(simulator(security_token="token"), security_token="token") as (_, channel):
        (answer,) = await channel.send([message(1)])
    assert answer.outcome is Outcome.ACCEPTED
    async with connected(simulator(security_token="token")) as (_, channel):
        (answer,) = await channel.send([message(1)])
    assert answer.outcome is Outcome.CHANNEL_DOWN


def test_options_are_checked() -> None:
    """Options that cannot work must be refused with the name of the field."""
    good = {"access_key_id": "a", "access_key_secret": "b", "sign": "叮咚", "ref_key": "12345678"}
    assert msgspec.convert(good, AlibabaOptions).url == "https://dysmsapi.aliyuncs.com"
    for field, value in (
        ("batch_max", 101),
        ("ref_key", "short"),
        ("extend_code", "a"),
        ("typo", 1),
        ("sign", "【叮咚】"),
    ):
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert({**good, field: value}, AlibabaOptions)
