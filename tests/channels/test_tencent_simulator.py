"""The simulator of Tencent Cloud SMS must be as strict as the real one: its official SDK must not see a difference."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.channels.protocol import (
    Callback,
    CallbackRefused,
    Heard,
    Outcome,
    Review,
)
from orderbell.channels.tencent_wire import authorization, day_key
from orderbell.sandbox.simulator import Asked
from orderbell.sandbox.tencent import PhoneLimits, Template, TencentSimulator
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.rigs.tencent import (
    SECRET_ID,
    SECRET_KEY,
    TEMPLATES,
    make,
    message,
    talking,
    utc_now,
)

NOON = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
"""Twelve o'clock in Beijing."""
HEARD = b'{"result":0,"errmsg":"OK"}'
ATTEMPT = bytes(range(16))


SENT_S = int(NOON.timestamp())


def sdk(url: str, *, secret_key: str = SECRET_KEY, unsigned: bool = False) -> tuple[Any, Any, Any]:
    """Make the official client, its models, and its exception."""
    reason = "the official SDK is not installed"
    credential = pytest.importorskip("tencentcloud.common.credential", reason=reason)
    client_profile = pytest.importorskip("tencentcloud.common.profile.client_profile")
    http_profile = pytest.importorskip("tencentcloud.common.profile.http_profile")
    sms_client = pytest.importorskip("tencentcloud.sms.v20210111.sms_client")
    models = pytest.importorskip("tencentcloud.sms.v20210111.models")
    refused = pytest.importorskip("tencentcloud.common.exception.tencent_cloud_sdk_exception").TencentCloudSDKException
    http = http_profile.HttpProfile(protocol="http", endpoint=url.removeprefix("http://"), reqTimeout=10)
    profile = client_profile.ClientProfile(httpProfile=http)
    profile.unsignedPayload = unsigned
    client = sms_client.SmsClient(credential.Credential(SECRET_ID, secret_key), "ap-guangzhou", profile)
    return client, models, refused


def sdk_request(models: Any, **changed: Any) -> Any:  # noqa: ANN401 - the SDK has no types
    """Make a request to send."""
    request = models.SendSmsRequest()
    request.PhoneNumberSet = ["+8613800138000", "13900139001"]
    request.SmsSdkAppId = "1400006666"
    request.TemplateId = "1001"
    request.SignName = "腾讯云"
    request.TemplateParamSet = ["A1", "顺丰"]
    request.SessionContext = "context"
    for name, value in changed.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize("unsigned", [False, True])
async def test_official_sdk_sends(unsigned: bool) -> None:
    """The official SDK must be able to send, be heard from, and ask for what became of it."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with (
        listening(make().hear) as (listener, heard),
        serving(simulator, stopping=simulator.end_waiting) as url,
    ):
        simulator.callback_url = f"{listener}/receipts"
        client, models, _ = sdk(url, unsigned=unsigned)
        sent = await asyncio.to_thread(client.SendSms, sdk_request(models))
        first, second = sent.SendStatusSet
        assert (first.Code, first.PhoneNumber, first.SessionContext, first.Fee) == (
            "Ok",
            "+8613800138000",
            "context",
            1,
        )
        assert (second.Code, second.PhoneNumber) == ("Ok", "+8613900139001")
        pull = models.PullSmsSendStatusByPhoneNumberRequest()
        pull.BeginTime, pull.Offset, pull.Limit = int(utc_now().timestamp()) - 60, 0, 10
        pull.PhoneNumber, pull.SmsSdkAppId = "+8613800138000", "1400006666"
        pulled = await asyncio.to_thread(client.PullSmsSendStatusByPhoneNumber, pull)
        (found,) = pulled.PullSmsSendStatusSet
        assert (found.SerialNo, found.ReportStatus, found.SubscriberNumber) == (
            first.SerialNo,
            "SUCCESS",
            "13800138000",
        )
        await simulator.told()
        await simulator.close()
    receipts = [receipt.provider_ref for one in heard for receipt in one.receipts]
    assert receipts == [first.SerialNo, second.SerialNo]


async def test_official_sdk_asks() -> None:
    """The official SDK must be able to list templates and signatures and to count."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        client, models, _ = sdk(url)
        listing = models.DescribeSmsTemplateListRequest()
        listing.International, listing.TemplateIdSet = 0, [1001, 1002]
        listed = await asyncio.to_thread(client.DescribeSmsTemplateList, listing)
        assert [(one.TemplateId, one.StatusCode) for one in listed.DescribeTemplateStatusSet] == [(1001, 0), (1002, 1)]
        signing = models.DescribeSmsSignListRequest()
        signing.International = 0
        signed = await asyncio.to_thread(client.DescribeSmsSignList, signing)
        assert [(one.SignName, one.StatusCode) for one in signed.DescribeSignListStatusSet] == [("腾讯云", 0)]
        await asyncio.to_thread(client.SendSms, sdk_request(models))
        counting = models.SendStatusStatisticsRequest()
        counting.BeginTime, counting.EndTime = "2020010100", "2099010100"
        counting.SmsSdkAppId, counting.Limit, counting.Offset = "1400006666", 0, 0
        counted = await asyncio.to_thread(client.SendStatusStatistics, counting)
        assert counted.SendStatusStatistics.FeeCount == 2
    await simulator.close()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"PhoneNumberSet": []}, "MissingParameter.EmptyPhoneNumberSet"),
        ({"PhoneNumberSet": [f"+86138{number:08d}" for number in range(201)]}, "LimitExceeded.PhoneNumberCountLimit"),
        ({"SmsSdkAppId": "1"}, "UnauthorizedOperation.SmsSdkAppIdVerifyFail"),
        ({"TemplateId": None}, "MissingParameter"),
        ({"TemplateParamSet": [1]}, "InvalidParameter"),
        ({"SessionContext": "x" * 512}, "InvalidParameterValue"),
        (
            {"PhoneNumberSet": ["+8613800138000", "+85261234567"]},
            "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber",
        ),
    ],
)
async def test_official_sdk_is_refused(changed: dict[str, Any], code: str) -> None:
    """The official SDK must get the refusals that it would get from the real one."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        client, models, refused = sdk(url)
        with pytest.raises(refused) as raised:
            await asyncio.to_thread(client.SendSms, sdk_request(models, **changed))
    assert raised.value.get_code() == code
    assert simulator.taken == []


async def test_official_sdk_with_wrong_key() -> None:
    """A wrong secret must be found out."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        client, models, refused = sdk(url, secret_key="other")
        with pytest.raises(refused) as raised:
            await asyncio.to_thread(client.SendSms, sdk_request(models))
    assert raised.value.get_code() == "AuthFailure.SignatureFailure"


def asked(body: bytes = b"{}", *, at: datetime = NOON, changed: Mapping[str, str] | None = None) -> Asked:
    """Make a signed request to send; headers are `changed` after it was signed."""
    at_s, date = int(at.timestamp()), at.strftime("%Y-%m-%d")
    signed = authorization(SECRET_ID, day_key(SECRET_KEY, date), "h", at_s, date, body)
    sent = {
        "host": "h",
        "content-type": "application/json; charset=utf-8",
        "x-tc-action": "SendSms",
        "x-tc-version": "2021-01-11",
        "x-tc-region": "ap-guangzhou",
        "x-tc-timestamp": str(at_s),
        "authorization": signed,
    }
    return Asked("POST", "/", "", {**sent, **(changed or {})}, body)


async def code_of(simulator: TencentSimulator, request: Asked) -> str:
    """Tell the code that refuses a request, or that of the first number."""
    response = msgspec.json.decode((await simulator.answer(request)).body)["Response"]
    code = response["Error"]["Code"] if "Error" in response else response["SendStatusSet"][0]["Code"]
    assert isinstance(code, str)
    return code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": ""}, "AuthFailure.InvalidAuthorization"),
        ({"authorization": "Bearer x"}, "AuthFailure.InvalidAuthorization"),
        ({"x-tc-timestamp": ""}, "MissingParameter"),
        ({"x-tc-timestamp": str(SENT_S - 301)}, "AuthFailure.SignatureExpire"),
        ({"x-tc-timestamp": str(SENT_S + 301)}, "AuthFailure.SignatureExpire"),
        ({"x-tc-timestamp": str(SENT_S + 1)}, "AuthFailure.SignatureFailure"),
        ({"content-type": "application/json"}, "AuthFailure.SignatureFailure"),
        ({"host": "other"}, "AuthFailure.SignatureFailure"),
        ({"x-tc-version": "2019-07-11"}, "NoSuchVersion"),
        ({"x-tc-action": "SendFax"}, "InvalidAction"),
        ({"x-tc-region": ""}, "MissingParameter"),
        ({}, "MissingParameter"),
    ],
)
async def test_simulator_refuses(headers: dict[str, str], code: str) -> None:
    """What is not signed, or not as it was signed, must be refused with the real code."""
    assert await code_of(TencentSimulator(clock=lambda: NOON), asked(changed=headers)) == code


async def test_simulator_honours_signed_headers() -> None:
    """A signature that covers more headers must be verified over them, and one that covers too few refused."""
    sign = pytest.importorskip("tencentcloud.common.sign", reason="the official SDK is not installed").Sign
    simulator, date, plain = TencentSimulator(clock=lambda: NOON), "2026-01-02", asked()

    def signed(names: str) -> str:
        lines = "".join(f"{name}:{plain.headers[name]}\n" for name in names.split(";"))
        hashed = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashed}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"TC3-HMAC-SHA256\n{SENT_S}\n{date}/sms/tc3_request\n{digest}"
        signature = sign.sign_tc3(SECRET_KEY, date, "sms", to_sign)
        credential = f"{SECRET_ID}/{date}/sms/tc3_request"
        return f"TC3-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"

    more = signed("content-type;host;x-tc-action")
    assert await code_of(simulator, asked(changed={"authorization": more})) == "MissingParameter"
    changed = asked(changed={"authorization": more, "x-tc-action": "DescribeSmsSignList"})
    assert await code_of(simulator, changed) == "AuthFailure.SignatureFailure"
    assert await code_of(simulator, asked(changed={"authorization": signed("host")})) == "AuthFailure.SignatureFailure"


def sending(**changed: Any) -> bytes:  # noqa: ANN401 - wrong types as well
    """Make the body of a request to send."""
    fields = {
        "PhoneNumberSet": ["+8613800138000"],
        "SmsSdkAppId": "1400006666",
        "TemplateId": "1001",
        "SignName": "腾讯云",
        "TemplateParamSet": ["A1", "顺丰"],
    }
    return msgspec.json.encode({**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, "Ok"),
        ({"Unheard": 1}, "UnknownParameter"),
        ({"TemplateId": "9"}, "FailedOperation.TemplateUnapprovedOrNotExist"),
        ({"SignName": "叮咚"}, "FailedOperation.SignatureIncorrectOrUnapproved"),
        ({"TemplateParamSet": ["A1"]}, "FailedOperation.TemplateParamSetNotMatchApprovedTemplate"),
        ({"TemplateParamSet": ["A1", "1234567"]}, "InvalidParameterValue.TemplateParameterLengthLimit"),
        (
            {"TemplateParamSet": ["A1", "www.x"]},
            "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter",
        ),
        (
            {"TemplateId": "2001", "TemplateParamSet": ["12a"]},
            "InvalidParameterValue.TemplateParameterFormatError",
        ),
        (
            {"TemplateId": "1003", "TemplateParamSet": ["A1"]},
            "UnsupportedOperation.GlobalTemplateToChineseMainlandPhone",
        ),
        ({"PhoneNumberSet": ["+85261234567"]}, "UnsupportedOperation.ChineseMainlandTemplateToGlobalPhone"),
        ({"PhoneNumberSet": ["12"]}, "InvalidParameterValue.IncorrectPhoneNumber"),
        ({"TemplateId": "1004", "TemplateParamSet": ["5折"]}, "FailedOperation.MarketingSendTimeConstraint"),
    ],
)
async def test_simulator_enforces_rules(changed: dict[str, Any], code: str) -> None:
    """What the real one would not send must not be sent, with the real code."""
    night = NOON + timedelta(hours=11)
    templates = {**TEMPLATES, "2001": Template("验证码{1}", kind="code")}
    simulator = TencentSimulator(templates=templates, variable_max=6, enforce_hours=True, clock=lambda: night)
    assert await code_of(simulator, asked(sending(**changed), at=night)) == code


@pytest.mark.parametrize(
    ("limits", "pause", "code"),
    [
        (PhoneLimits(thirty_seconds=1), timedelta(seconds=30), "LimitExceeded.PhoneNumberThirtySecondLimit"),
        (PhoneLimits(hour=1), timedelta(hours=1), "LimitExceeded.PhoneNumberOneHourLimit"),
        (PhoneLimits(day=1), timedelta(hours=12), "LimitExceeded.PhoneNumberDailyLimit"),
        (PhoneLimits(same_content=1), timedelta(hours=12), "LimitExceeded.PhoneNumberSameContentDailyLimit"),
    ],
)
async def test_simulator_limits_phones(limits: PhoneLimits, pause: timedelta, code: str) -> None:
    """A phone must get no more than its limit, until the window is over."""
    clock = [NOON]
    simulator = TencentSimulator(templates=TEMPLATES, limits=limits, clock=lambda: clock[0])
    codes = []
    for at in (NOON, NOON + pause - timedelta(seconds=1), NOON + pause):
        clock[0] = at
        codes.append(await code_of(simulator, asked(sending(), at=at)))
    assert codes == ["Ok", code, "Ok"]


async def test_simulator_runs_out_of_balance() -> None:
    """When what was paid for is used up, nothing more must be sent."""
    simulator = TencentSimulator(templates=TEMPLATES, clock=lambda: NOON)
    simulator.balance = 1
    codes = [await code_of(simulator, asked(sending())) for _ in range(2)]
    assert codes == ["Ok", "FailedOperation.InsufficientBalanceInSmsPackage"]


async def test_simulator_fails_as_told() -> None:
    """It must fail with any code, of requests and of numbers, and take nothing."""
    async with talking() as (channel, simulator):
        simulator.fail_with = "UnauthorizedOperation.ServiceSuspendDueToArrears"
        (arrears,) = await channel.send([message(1)])
        (finding,) = await channel.check()
        simulator.fail_with = ""
        simulator.fail_numbers_with = "FailedOperation.ContainSensitiveWord"
        (content,) = await channel.send([message(1)])
        simulator.fail_numbers_with = ""
        simulator.codes[message(1).to] = "LimitExceeded.PhoneNumberDailyLimit"
        limited, fine = await channel.send([message(1), message(2)])
        (hour,) = (simulator.taken,)
    outcomes = [answer.outcome for answer in (arrears, content, limited, fine)]
    assert outcomes == [
        Outcome.CHANNEL_DOWN,
        Outcome.REJECTED_CONTENT,
        Outcome.THROTTLED,
        Outcome.ACCEPTED,
    ]
    assert "pay the bill" in finding.words
    assert [taken.to for taken in hour] == [message(2).to]


async def test_simulator_tells_replies_and_reviews() -> None:
    """Replies and reviews must be heard, and a review must change what can be sent."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with talking(simulator) as (channel, _), listening(channel.hear) as (listener, heard):
        simulator.callback_url = f"{listener}/anything"
        slots = (("order", "A1"),)
        (early,) = await channel.send([message(1, code="1002", slots=slots)])
        assert await simulator.send_reply("+8613800138000", "TD") == 200
        assert await simulator.review_template("1002", status=0) == 200
        assert await simulator.review_sign("叮咚", status=-1, reason="无资质") == 200
        (late,) = await channel.send([message(1, code="1002", slots=slots)])
    assert (early.outcome, late.outcome) == (Outcome.REJECTED_CONTENT, Outcome.ACCEPTED)
    assert [(reply.sender, reply.text) for one in heard for reply in one.inbound] == [("+8613800138000", "TD")]
    assert [review for one in heard for review in one.reviews] == [
        Review("template", "1002", "approved"),
        Review("signature", "叮咚", "rejected", "无资质"),
    ]


async def test_simulator_pushes_again() -> None:
    """A callback that was not answered well must come again, three times in all."""
    calls = 0

    def refuse(_: Callback) -> Heard:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise CallbackRefused("not now", 503)
        return Heard(answer=HEARD)

    simulator = TencentSimulator(templates=TEMPLATES, push_again_s=0)
    async with listening(refuse) as (listener, _):
        simulator.callback_url = listener
        assert await simulator.send_reply("+8613800138000", "R") == 200
        await simulator.close()
    assert calls == 3


async def test_simulator_tells_receipts_together() -> None:
    """Receipts that come due while others are told must be told together."""
    simulator = TencentSimulator(templates=TEMPLATES)
    async with talking(simulator) as (channel, _), listening(channel.hear) as (listener, heard):
        simulator.callback_url = listener
        answers = await channel.send([message(number) for number in range(1, 300)])
        await simulator.told()
    refs = [receipt.provider_ref for one in heard for receipt in one.receipts]
    assert sorted(refs) == sorted(answer.provider_ref for answer in answers)
    assert max(len(one.receipts) for one in heard) <= 100
