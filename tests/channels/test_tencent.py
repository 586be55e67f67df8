"""Every code of Tencent Cloud SMS must be understood, and every request be such that it can be answered."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.channels.protocol import (
    Answer,
    Outcome,
    Outgoing,
    Scope,
)
from orderbell.channels.tencent_codes import meaning_of
from orderbell.channels.tencent_wire import authorization, day_key, host_of
from orderbell.sandbox.simulator import Answered, Asked
from orderbell.sandbox.tencent import Sign, TencentSimulator
from tests.channels.rigs.tencent import (
    SECRET_ID,
    SECRET_KEY,
    TEMPLATES,
    error,
    make,
    message,
    options,
    talking,
    utc_now,
)
from tests.raw_server import answering, http_answer, raw_server

NOON = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
"""Twelve o'clock in Beijing."""
HEARD = b'{"result":0,"errmsg":"OK"}'
ATTEMPT = bytes(range(16))


async def answers_to(batch: Sequence[Outgoing], body: bytes, *, status: int = 200, headers: str = "") -> list[Answer]:
    """Send a batch to a provider that always answers the same."""
    async with raw_server(answering(http_answer(body, status=status, headers=headers))) as url:
        channel = make(url)
        answers = await channel.send(batch)
        await channel.close()
    return answers


def statuses(*given: tuple[str, str, str]) -> bytes:
    """Answer numbers with codes and serial numbers."""
    rows = [
        {"PhoneNumber": number, "Code": code, "SerialNo": serial, "Message": "words", "Fee": 0, "SessionContext": ""}
        for number, code, serial in given
    ]
    return msgspec.json.encode({"Response": {"SendStatusSet": rows, "RequestId": "r"}})


def test_signature_of_golden_vector() -> None:
    """The signature must be that which the official SDK makes of the same request."""
    body = (
        '{"PhoneNumberSet":["+8613800138000"],"SmsSdkAppId":"1400006666","SignName":"腾讯云",'
        '"TemplateId":"1234","TemplateParamSet":["123456"]}'
    ).encode()
    key = day_key("SECRETEXAMPLE", "2026-01-02")
    signed = authorization("AKIDEXAMPLE", key, "sms.tencentcloudapi.com", 1767323045, "2026-01-02", body)
    assert signed == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2026-01-02/sms/tc3_request, SignedHeaders=content-type;host, "
        "Signature=87bc329f4667902fffa96908faab8879d002df36e2edbccb3cb85aa3d68fe68c"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://sms.tencentcloudapi.com", "sms.tencentcloudapi.com"),
        ("https://SMS.tencentcloudapi.com:443/", "sms.tencentcloudapi.com"),
        ("http://127.0.0.1:8030", "127.0.0.1:8030"),
        ("http://127.0.0.1:80", "127.0.0.1"),
    ],
)
def test_host_as_signed(url: str, host: str) -> None:
    """The host that is signed must be the one that the client puts into its header."""
    assert host_of(url) == host


async def test_signature_after_midnight() -> None:
    """The key of the day must change with the UTC date."""
    clock = [datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC)]
    async with talking(TencentSimulator(templates=TEMPLATES, clock=lambda: clock[0]), now=lambda: clock[0]) as (
        channel,
        _,
    ):
        (before,) = await channel.send([message(1)])
        clock[0] += timedelta(seconds=2)
        (after,) = await channel.send([message(2)])
    assert (before.outcome, after.outcome) == (Outcome.ACCEPTED, Outcome.ACCEPTED)


@pytest.mark.parametrize(("off_s", "words"), [(-600, "600 s behind"), (600, "600 s ahead of")])
async def test_send_with_wrong_clock(off_s: int, words: str) -> None:
    """A clock that is off must be named as the reason, with how much it is off; sending must not go on."""
    async with talking(now=lambda: utc_now() + timedelta(seconds=off_s)) as (channel, simulator):
        (answer,) = await channel.send([message(1)])
        (finding,) = await channel.check()
    assert answer.outcome is Outcome.CHANNEL_DOWN
    exact = {words, words.replace("600", "599"), words.replace("600", "601")}
    assert any(one in answer.detail for one in exact), answer.detail
    assert any(one in finding.words for one in exact)
    assert "NTP" in finding.words
    assert not finding.fine
    assert simulator.taken == []


async def test_check_with_clock_slightly_off() -> None:
    """A clock that will soon be refused must be told of while all still works."""
    async with talking(now=lambda: utc_now() - timedelta(seconds=120)) as (channel, _):
        findings = await channel.check()
        (answer,) = await channel.send([message(1)])
    assert answer.outcome is Outcome.ACCEPTED
    assert [finding.fine for finding in findings] == [True, False, True]
    assert "behind" in findings[1].words


async def test_clock_without_date() -> None:
    """Where the provider does not tell its time, the clock must still be named."""
    (answer,) = await answers_to([message(1)], error("AuthFailure.SignatureExpire"))
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert "clock is off" in answer.detail


CODES: dict[Outcome, str] = {
    Outcome.UNKNOWN: """
        InternalError.Timeout InternalError.SendAndRecvFail InternalError.ParseBackendResponseFail
        """,
    Outcome.RETRY_LATER: """
        InternalError InternalError.OtherError InternalError.UnknownError InternalError.SigVerificationFail
        InternalError.SigFieldMissing ServiceUnavailable FailedOperation.MarketingSendTimeConstraint
        """,
    Outcome.THROTTLED: """
        RequestLimitExceeded RequestLimitExceeded.UinLimitExceeded RequestLimitExceeded.IPLimitExceeded
        RequestLimitExceeded.GlobalRegionUinLimitExceeded LimitExceeded.GlobalSmsSendingRateLimit
        LimitExceeded.DeliveryFrequencyLimit LimitExceeded.PhoneNumberThirtySecondLimit
        LimitExceeded.PhoneNumberOneHourLimit LimitExceeded.PhoneNumberDailyLimit
        LimitExceeded.PhoneNumberSameContentDailyLimit LimitExceeded.AppCountryOrRegionDailyLimit
        """,
    Outcome.CHANNEL_DOWN: """
        AuthFailure.InvalidAuthorization AuthFailure.InvalidSecretId AuthFailure.MFAFailure
        AuthFailure.SecretIdNotFound AuthFailure.SignatureExpire AuthFailure.SignatureFailure AuthFailure.TokenFailure
        AuthFailure.UnauthorizedOperation AuthFailure.RequestExpired RequestExpired UnauthorizedOperation
        UnauthorizedOperation.RequestIpNotInWhitelist UnauthorizedOperation.RequestPermissionDeny
        UnauthorizedOperation.SdkAppIdIsDisabled UnauthorizedOperation.ServiceSuspendDueToArrears
        UnauthorizedOperation.SmsSdkAppIdVerifyFail FailedOperation.InsufficientBalanceInSmsPackage
        FailedOperation.NotEnterpriseCertification FailedOperation.ProhibitSubAccountUse
        InvalidParameterValue.SdkAppIdNotExist InvalidParameter.AppidAndBizId InternalError.RequestTimeException
        InternalError.RestApiInterfaceNotExist LimitExceeded LimitExceeded.AppDailyLimit
        LimitExceeded.AppMainlandChinaDailyLimit LimitExceeded.AppGlobalDailyLimit LimitExceeded.DailyLimit
        ActionOffline InvalidAction IpInBlacklist IpNotInWhitelist NoSuchProduct NoSuchVersion UnsupportedProtocol
        UnsupportedRegion
        """,
    Outcome.REJECTED_RECIPIENT: """
        FailedOperation.PhoneNumberInBlacklist FailedOperation.PhoneNumberParseFail
        InvalidParameterValue.IncorrectPhoneNumber UnsupportedOperation.UnsupportedRegion
        LimitExceeded.AppCountryOrRegionInBlacklist
        """,
    Outcome.REJECTED_CONTENT: """
        FailedOperation.ContainSensitiveWord FailedOperation.SignatureIncorrectOrUnapproved
        FailedOperation.TemplateIncorrectOrUnapproved FailedOperation.TemplateUnapprovedOrNotExist
        FailedOperation.TemplateParamSetNotMatchApprovedTemplate FailedOperation.TemplateIdNotExist
        FailedOperation.FailResolvePacket FailedOperation.JsonParseFail FailedOperation.OtherError
        FailedOperation.ParametersOtherError InternalError.JsonParseFail InvalidParameter InvalidParameterValue
        InvalidParameter.DirtyWordFound InvalidParameter.InvalidParameters InvalidRequest RequestSizeLimitExceeded
        UnknownParameter UnsupportedOperation InvalidParameterValue.ContentLengthLimit
        InvalidParameterValue.TemplateParameterFormatError InvalidParameterValue.TemplateParameterLengthLimit
        InvalidParameterValue.ProhibitedUseUrlInTemplateParameter InvalidParameterValue.InvalidTemplateFormat
        InvalidParameterValue.MarketingTemplateWithoutUnsubscribe InvalidParameterValue.UnsupportedTemplateVariable
        InvalidParameterValue.TemplateWithDirtyWords LimitExceeded.PhoneNumberCountLimit MissingParameter
        MissingParameter.EmptyPhoneNumberSet UnsupportedOperation.ChineseMainlandTemplateToGlobalPhone
        UnsupportedOperation.GlobalTemplateToChineseMainlandPhone UnsupportedOperation.ContainDomesticPhoneNumber
        UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber
        UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny
        """,
    Outcome.UNKNOWN: "Ok ok OK SUCCESS FailedOperation FailedOperation.New InternalError.New LimitExceeded.New 0",
}


@pytest.mark.parametrize(
    ("code", "outcome"), [(code, outcome) for outcome, codes in CODES.items() for code in codes.split()]
)
async def test_code_of_request(code: str, outcome: Outcome) -> None:
    """Each code must have its outcome, and one that is in no list must leave the message unknown."""
    assert meaning_of(code, NOON).outcome is outcome


def test_code_of_nothing() -> None:
    """An empty code must not be a success."""
    assert meaning_of("", NOON).outcome is Outcome.UNKNOWN


# Only those who apply for templates and signatures, or query and bill, get these.
NOT_OF_SENDING = """
    FailedOperation.ForbidAddMarketingTemplates FailedOperation.MissingSignature FailedOperation.MissingSignatureList
    FailedOperation.MissingSignatureToModify FailedOperation.MissingTemplateList
    FailedOperation.MissingTemplateToModify FailedOperation.QualificationIdNotApproved
    FailedOperation.SignIdNotExist FailedOperation.SignNumberLimit FailedOperation.TemplateAlreadyPassedCheck
    FailedOperation.TemplateNumberLimit InvalidParameterValue.BeginTimeVerifyFail
    InvalidParameterValue.EndTimeVerifyFail InvalidParameterValue.ImageInvalid
    InvalidParameterValue.InvalidDocumentType InvalidParameterValue.InvalidInternational
    InvalidParameterValue.InvalidSignPurpose InvalidParameterValue.InvalidSmsType
    InvalidParameterValue.InvalidStartTime InvalidParameterValue.InvalidUsedMethod
    InvalidParameterValue.LimitVerifyFail InvalidParameterValue.MultiSmsInfoSetEmpty
    InvalidParameterValue.OffsetVerifyFail InvalidParameterValue.QualificationIdNotFound
    InvalidParameterValue.SignAlreadyPassedCheck InvalidParameterValue.SignExistAndUnapproved
    InvalidParameterValue.SignNameLengthTooLong
    """


def test_codes_of_official_sdk() -> None:
    """No code that the official SDK lists for sending may have been forgotten."""
    listed = pytest.importorskip("tencentcloud.sms.v20210111.errorcodes", reason="the official SDK is not installed")
    codes = {value for name, value in vars(listed).items() if name.isupper()}
    assert len(codes) > 80
    forgotten = {code for code in codes if meaning_of(code, NOON).outcome is Outcome.UNKNOWN}
    told = {"InternalError.Timeout", "InternalError.SendAndRecvFail", "InternalError.ParseBackendResponseFail"}
    assert forgotten - told == set(NOT_OF_SENDING.split())


@pytest.mark.parametrize(
    ("code", "at", "scope", "retry_after_s"),
    [
        ("RequestLimitExceeded", "12:00:00", Scope.PROVIDER, 1),
        ("LimitExceeded.DeliveryFrequencyLimit", "12:00:00", Scope.PROVIDER, 1),
        ("LimitExceeded.PhoneNumberThirtySecondLimit", "12:00:00", Scope.RECIPIENT, 30),
        ("LimitExceeded.PhoneNumberOneHourLimit", "12:59:50", Scope.RECIPIENT, 10),
        ("LimitExceeded.PhoneNumberOneHourLimit", "12:00:00", Scope.RECIPIENT, 3600),
        ("LimitExceeded.PhoneNumberDailyLimit", "23:59:00", Scope.RECIPIENT, 60),
        ("LimitExceeded.PhoneNumberDailyLimit", "00:00:00", Scope.RECIPIENT, 86_400),
        ("LimitExceeded.PhoneNumberSameContentDailyLimit", "12:00:00", Scope.RECIPIENT, 43_200),
        ("LimitExceeded.AppDailyLimit", "12:00:00", Scope.PROVIDER, 43_200),
        ("FailedOperation.MarketingSendTimeConstraint", "22:30:00", Scope.RECIPIENT, 9.5 * 3600),
        ("FailedOperation.MarketingSendTimeConstraint", "07:59:00", Scope.RECIPIENT, 60),
        ("UnauthorizedOperation.ServiceSuspendDueToArrears", "12:00:00", Scope.PROVIDER, 0),
    ],
)
def test_pause_of_code(code: str, at: str, scope: Scope, retry_after_s: float) -> None:
    """A limit must say for how long, by the days and hours of Beijing, and for whom."""
    meaning = meaning_of(code, datetime.fromisoformat(f"2026-01-02T{at}+08:00").astimezone(UTC))
    assert (meaning.scope, meaning.retry_after_s) == (scope, retry_after_s)


async def test_code_of_each_number() -> None:
    """Within an answer of success each number must have its own outcome, and one that is not named be unknown."""
    batch = [message(number) for number in (5, 10, 15, 20, 25)]
    body = statuses(
        (batch[3].to, "FailedOperation.Unheard", ""),
        (batch[1].to, "LimitExceeded.PhoneNumberThirtySecondLimit", ""),
        (batch[0].to, "Ok", "2640:1"),
        (batch[2].to, "FailedOperation.PhoneNumberInBlacklist", ""),
    )
    answers = await answers_to(batch, body)
    assert [(answer.outcome, answer.provider_ref) for answer in answers] == [
        (Outcome.ACCEPTED, "2640:1"),
        (Outcome.THROTTLED, ""),
        (Outcome.REJECTED_RECIPIENT, ""),
        (Outcome.UNKNOWN, ""),
        (Outcome.UNKNOWN, ""),
    ]
    assert (answers[1].scope, answers[1].retry_after_s) == (Scope.RECIPIENT, 30)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>maintenance</html>",
        b'{"Response":null}',
        b'{"Response":{}}',
        b'{"Response":{"SendStatusSet":null}}',
        b'{"Response":{"SendStatusSet":[]}}',
        b'{"Response":{"SendStatusSet":[{}]}}',
        b'{"Response":{"SendStatusSet":[{"PhoneNumber":1,"Code":"Ok"}]}}',
        b'{"Response":{"SendStatusSet":[{"PhoneNumber":"+8613900000000","Code":"Ok","SerialNo":"1"}]}}',
        b'{"Response":{"Error":{"Code":"Ok","Message":""}}}',
        b'{"Response":{"Error":{}}}',
        b"\xff\xfe",
        b'{"Response":{"x":' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:60]),
)
async def test_send_with_garbage(body: bytes) -> None:
    """A body without a clear word about the number must leave the message unknown."""
    (answer,) = await answers_to([message(1)], body)
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (500, error("InternalError.OtherError"), Outcome.RETRY_LATER),
        (503, error("RequestLimitExceeded"), Outcome.THROTTLED),
        (500, error("InternalError.New"), Outcome.UNKNOWN),
        (500, b"", Outcome.UNKNOWN),
        (502, b"<html>", Outcome.UNKNOWN),
        (429, b"", Outcome.THROTTLED),
        (404, b"", Outcome.CHANNEL_DOWN),
        (500, statuses((message(1).to, "Ok", "2640:1")), Outcome.UNKNOWN),
    ],
)
async def test_send_with_http_status(status: int, body: bytes, outcome: Outcome) -> None:
    """Tencent's own word must count whatever the HTTP status; without one an error may mean that it was sent."""
    (answer,) = await answers_to([message(1)], body, status=status)
    assert answer.outcome is outcome


async def test_send_with_private_words() -> None:
    """Phones, key ids and floods of words in a refusal must not get into our tables."""
    words = f"phone +8613800138000 or 13800138000, {SECRET_ID}, " + "x" * 10_000
    (answer,) = await answers_to([message(1)], error("FailedOperation.OtherError", words))
    assert "13800138000" not in answer.detail
    assert SECRET_ID not in answer.detail
    assert len(answer.detail) <= 200
    assert SECRET_KEY not in repr(options()) + str(options())


async def test_requests_of_batch() -> None:
    """Messages that share template and variables must share a request; others, and those of elsewhere, must not."""
    alike = [message(number, slots=(("order", "A1"), ("carrier", "顺丰"))) for number in range(1, 6)]
    other = message(6, slots=(("order", "A2"), ("carrier", "顺丰")))
    abroad = message(7, to="+85261234567", code="1003", slots=(("order", "A1"),))
    async with talking() as (channel, simulator):
        answers = await channel.send([*alike[:3], other, abroad, *alike[3:]])
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert simulator.requests == 3
    assert {taken.fields["context"] for taken in simulator.taken} == {
        one.attempt_id.hex() for one in (alike[0], other, abroad)
    }


async def test_request_with_number_twice() -> None:
    """A phone must never be twice in a request: there is one answer for each number."""
    batch = [message(number, to="+8613800138000") for number in (5, 10, 15)]
    async with talking() as (channel, simulator):
        answers = await channel.send(batch)
    assert len({answer.provider_ref for answer in answers}) == 3
    assert simulator.requests == 3


async def test_request_with_more_numbers_than_allowed() -> None:
    """A request must not have more than 200 numbers."""
    async with talking() as (channel, simulator):
        answers = await channel.send([message(5 * number) for number in range(450)])
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert simulator.requests == 3


class Crowd(TencentSimulator):
    """Holds requests until so many are there at once."""

    def __init__(self, size: int) -> None:
        super().__init__(templates=TEMPLATES)
        self.size, self.inside, self.peak = size, 0, 0
        self.full = asyncio.Event()

    async def answer(self, asked: Asked) -> Answered:
        """Wait for the others."""
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        if self.inside >= self.size:
            self.full.set()
        await self.full.wait()
        answered = await super().answer(asked)
        self.inside -= 1
        return answered


async def test_requests_side_by_side() -> None:
    """The requests of a batch must go out at once, but never more of them than `parallel`."""
    crowd = Crowd(4)
    batch = [message(number, slots=(("order", str(number)), ("carrier", "顺丰"))) for number in range(12)]
    async with talking(crowd, parallel=4) as (channel, _):
        answers = await channel.send(batch)
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert crowd.peak == 4


class OneBad(TencentSimulator):
    """Refuses a whole request for one of its numbers."""

    bad = message(10).to

    async def answer(self, asked: Asked) -> Answered:
        """Look into the request."""
        if self.bad in asked.body.decode():
            return Answered(body=error("InvalidParameterValue.IncorrectPhoneNumber"))
        return await super().answer(asked)


async def test_request_refused_for_one_number() -> None:
    """Where a whole request is refused because of one phone, its neighbours must go out without it."""
    batch = [message(number) for number in (5, 10, 15)]
    async with talking(OneBad(templates=TEMPLATES)) as (channel, _):
        answers = await channel.send(batch)
    assert [answer.outcome for answer in answers] == [
        Outcome.ACCEPTED,
        Outcome.REJECTED_RECIPIENT,
        Outcome.ACCEPTED,
    ]


async def test_request_abroad() -> None:
    """Other countries must get their own signature and sender, and no limit of mainland China on variables."""
    abroad = message(1, to="+85261234567", code="1003", slots=(("order", "A" * 30),))
    async with talking(sign="", sign_abroad="Shop", sender_id="SHOP") as (channel, simulator):
        (answer,) = await channel.send([abroad])
        (refused,) = await channel.send([message(2)])
    assert answer.outcome is Outcome.ACCEPTED
    assert simulator.taken[0].text == f"Your order {'A' * 30} is on its way"
    assert refused.outcome is Outcome.CHANNEL_DOWN
    assert "sign" in refused.detail


@pytest.mark.parametrize(
    ("variable_max", "value", "outcome"),
    [
        (6, "123456", Outcome.ACCEPTED),
        (6, "1234567", Outcome.REJECTED_CONTENT),
        (12, "123456789012", Outcome.ACCEPTED),
        (0, "1" * 40, Outcome.ACCEPTED),
    ],
)
async def test_variable_by_length(variable_max: int, value: str, outcome: Outcome) -> None:
    """A variable that is too long for the account must be named before anything is sent."""
    async with talking(variable_max=variable_max) as (channel, simulator):
        (answer,) = await channel.send([message(1, slots=(("order", value), ("carrier", "顺丰")))])
    assert answer.outcome is outcome
    assert len(simulator.taken) == (outcome is Outcome.ACCEPTED)
    assert outcome is Outcome.ACCEPTED or ("order" in answer.detail and value not in answer.detail)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("https://shop.cn", Outcome.REJECTED_CONTENT),
        ("看www.shop", Outcome.REJECTED_CONTENT),
        ("点t.cn/Ab1", Outcome.REJECTED_CONTENT),
        ("T.CN/A", Outcome.REJECTED_CONTENT),
        ("SF1.5/2", Outcome.ACCEPTED),
        ("3.5kg", Outcome.ACCEPTED),
        ("1/2", Outcome.ACCEPTED),
        ("12:30", Outcome.ACCEPTED),
    ],
)
async def test_variable_with_link(value: str, outcome: Outcome) -> None:
    """A link in a variable must be refused before anything is sent; what only looks a little like one must not."""
    async with talking(variable_max=0) as (channel, simulator):
        (answer,) = await channel.send([message(1, slots=(("order", value), ("carrier", "顺丰")))])
    assert answer.outcome is outcome, answer
    assert simulator.requests == (outcome is Outcome.ACCEPTED)


async def test_variables_by_position() -> None:
    """The variables must stand in the order in which they stand in the text."""
    async with talking() as (channel, simulator):
        await channel.send([message(1, slots=(("order", "A1"), ("carrier", "圆通")))])
        await channel.send([message(2, code="1005", slots=())])
    assert [taken.text for taken in simulator.taken] == ["【腾讯云】您的订单A1已由圆通发出", "【腾讯云】已发货"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"secret_id": "AKIDother"}, "check secret_id"),
        ({"secret_key": "other"}, "check secret_key"),
        ({"sdk_app_id": "1"}, "check sdk_app_id"),
        ({"sign": "叮咚"}, "apply for"),
        ({"sign": "在审"}, "in_review"),
        ({"sign": "被拒"}, "rejected: 无资质"),
    ],
)
async def test_check_names_the_fault(changed: dict[str, Any], words: str) -> None:
    """A check must say what to do about each fault, without sending or showing secrets."""
    signs = {"腾讯云": Sign(), "在审": Sign(status=1), "被拒": Sign(status=-1, reply="无资质")}
    async with talking(TencentSimulator(templates=TEMPLATES, signs=signs), **changed) as (channel, simulator):
        findings = await channel.check()
    assert not findings[-1].fine
    assert words in findings[-1].words
    assert "AKID" not in findings[-1].words.replace("secret_id", "")
    assert simulator.taken == []


async def test_check_of_account_that_may_not_list() -> None:
    """A key that may not list signatures must not make a healthy account look ill."""

    class Person(TencentSimulator):
        async def answer(self, asked: Asked) -> Answered:
            if asked.headers["x-tc-action"] == "DescribeSmsSignList":
                return Answered(body=error("FailedOperation.NotEnterpriseCertification"))
            return await super().answer(asked)

    async with talking(Person(templates=TEMPLATES)) as (channel, _):
        findings = await channel.check()
    assert [finding.fine for finding in findings] == [True, True]
    assert "console" in findings[1].words


async def test_check_of_nobody() -> None:
    """A provider that cannot be reached must be told of."""
    channel = make("http://127.0.0.1:9")
    (finding,) = await channel.check()
    await channel.close()
    assert not finding.fine
    assert "check url and network" in finding.words


@pytest.mark.parametrize("field", ["sign", "sign_abroad"])
@pytest.mark.parametrize("sign", ["【叮咚】", "叮咚】"])
def test_signature_in_brackets(field: str, sign: str) -> None:
    """Tencent adds 【】, and knows no signature with them: such options must be refused with the name of the field."""
    with pytest.raises(ValueError, match=f"^{field}: write it without 【】"):
        options(**{field: sign})
