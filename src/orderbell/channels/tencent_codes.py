"""What the error codes of Tencent Cloud SMS mean: pure.

The lists are those of SMS (https://cloud.tencent.com/document/product/382/59177) and of every product of the cloud.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from orderbell.channels.protocol import Outcome, Scope

BEIJING: Final = dt.timezone(dt.timedelta(hours=8))
"""The time of Tencent's days and receipts."""


class Meaning(msgspec.Struct, frozen=True):
    """What a code of Tencent's says: the outcome, and for how long to leave whom alone."""

    outcome: Outcome
    retry_after_s: float = 0.0
    scope: Scope = Scope.PROVIDER


def _codes(outcome: Outcome, **families: str) -> dict[str, Outcome]:
    return {f"{family}.{code}": outcome for family, codes in families.items() for code in codes.split()}


_OUTCOMES: Final[Mapping[str, Outcome]] = {
    "InternalError": Outcome.RETRY_LATER,
    "ServiceUnavailable": Outcome.RETRY_LATER,
    "LimitExceeded": Outcome.CHANNEL_DOWN,
    "ActionOffline": Outcome.CHANNEL_DOWN,
    "InvalidAction": Outcome.CHANNEL_DOWN,
    "IpInBlacklist": Outcome.CHANNEL_DOWN,
    "IpNotInWhitelist": Outcome.CHANNEL_DOWN,
    "NoSuchProduct": Outcome.CHANNEL_DOWN,
    "NoSuchVersion": Outcome.CHANNEL_DOWN,
    "RequestExpired": Outcome.CHANNEL_DOWN,
    "UnsupportedProtocol": Outcome.CHANNEL_DOWN,
    "UnsupportedRegion": Outcome.CHANNEL_DOWN,
    "InvalidParameter": Outcome.REJECTED_CONTENT,
    "InvalidParameterValue": Outcome.REJECTED_CONTENT,
    "InvalidRequest": Outcome.REJECTED_CONTENT,
    "RequestSizeLimitExceeded": Outcome.REJECTED_CONTENT,
    "UnknownParameter": Outcome.REJECTED_CONTENT,
    "UnsupportedOperation": Outcome.REJECTED_CONTENT,
    **_codes(
        Outcome.RETRY_LATER,
        InternalError="OtherError UnknownError SigVerificationFail SigFieldMissing",
        FailedOperation="MarketingSendTimeConstraint",
    ),
    # Something inside waited for an answer in vain: nobody says that the message had not left by then.
    **_codes(Outcome.UNKNOWN, InternalError="Timeout SendAndRecvFail ParseBackendResponseFail"),
    **_codes(
        Outcome.THROTTLED,
        LimitExceeded=(
            "GlobalSmsSendingRateLimit DeliveryFrequencyLimit PhoneNumberThirtySecondLimit PhoneNumberOneHourLimit "
            "PhoneNumberDailyLimit PhoneNumberSameContentDailyLimit AppCountryOrRegionDailyLimit"
        ),
    ),
    **_codes(
        Outcome.CHANNEL_DOWN,
        LimitExceeded="AppDailyLimit AppMainlandChinaDailyLimit AppGlobalDailyLimit DailyLimit",
        FailedOperation="InsufficientBalanceInSmsPackage NotEnterpriseCertification ProhibitSubAccountUse",
        InternalError="RequestTimeException RestApiInterfaceNotExist",
        InvalidParameterValue="SdkAppIdNotExist",
        InvalidParameter="AppidAndBizId",
    ),
    **_codes(
        Outcome.REJECTED_RECIPIENT,
        FailedOperation="PhoneNumberInBlacklist PhoneNumberParseFail",
        InvalidParameterValue="IncorrectPhoneNumber",
        UnsupportedOperation="UnsupportedRegion",
        LimitExceeded="AppCountryOrRegionInBlacklist",
    ),
    **_codes(
        Outcome.REJECTED_CONTENT,
        FailedOperation=(
            "ContainSensitiveWord SignatureIncorrectOrUnapproved TemplateIncorrectOrUnapproved "
            "TemplateUnapprovedOrNotExist TemplateParamSetNotMatchApprovedTemplate TemplateIdNotExist "
            "FailResolvePacket JsonParseFail OtherError ParametersOtherError"
        ),
        InternalError="JsonParseFail",
        InvalidParameter="DirtyWordFound InvalidParameters",
        InvalidParameterValue=(
            "ContentLengthLimit TemplateParameterFormatError TemplateParameterLengthLimit "
            "ProhibitedUseUrlInTemplateParameter MarketingTemplateWithoutUnsubscribe UnsupportedTemplateVariable "
            "InvalidTemplateFormat TemplateWithDirtyWords"
        ),
        LimitExceeded="PhoneNumberCountLimit",
        UnsupportedOperation=(
            "ContainDomesticAndInternationalPhoneNumber ContainDomesticPhoneNumber "
            "ChineseMainlandTemplateToGlobalPhone GlobalTemplateToChineseMainlandPhone"
        ),
        # Only marketing is forbidden to the accounts of persons; everything else must go on.
        UnauthorizedOperation="IndividualUserMarketingSmsPermissionDeny",
    ),
}
_FAMILIES: Final[Mapping[str, Outcome]] = {
    "AuthFailure": Outcome.CHANNEL_DOWN,
    "UnauthorizedOperation": Outcome.CHANNEL_DOWN,
    "MissingParameter": Outcome.REJECTED_CONTENT,
    "RequestLimitExceeded": Outcome.THROTTLED,
}
CLOCK_CODES: Final = frozenset(
    {
        "AuthFailure.SignatureExpire",
        "AuthFailure.RequestExpired",
        "RequestExpired",
        "InternalError.RequestTimeException",
    }
)
"""Codes that come from a clock that is off: ours, mostly."""

# Limits of the interface are by the second; the others say for how long.
_THROTTLED_S: Final = 1.0


def _next_hour_s(now: dt.datetime) -> float:
    return 3600.0 - now.minute * 60 - now.second


def _next_day_s(now: dt.datetime) -> float:
    return _until_s(now, 0)


def _until_s(now: dt.datetime, hour: int) -> float:
    """Seconds until it is that hour in Beijing."""
    local = now.astimezone(BEIJING)
    passed_s = (local - local.replace(hour=hour, minute=0, second=0, microsecond=0)).total_seconds()
    return 86_400 - passed_s if passed_s >= 0 else -passed_s


_PAUSES: Final[Mapping[str, tuple[Scope, Callable[[dt.datetime], float]]]] = {
    "LimitExceeded.PhoneNumberThirtySecondLimit": (Scope.RECIPIENT, lambda _: 30.0),
    "LimitExceeded.PhoneNumberOneHourLimit": (Scope.RECIPIENT, _next_hour_s),
    "LimitExceeded.PhoneNumberDailyLimit": (Scope.RECIPIENT, _next_day_s),
    "LimitExceeded.PhoneNumberSameContentDailyLimit": (Scope.RECIPIENT, _next_day_s),
    # Of one country: the others must go on.
    "LimitExceeded.AppCountryOrRegionDailyLimit": (Scope.RECIPIENT, _next_day_s),
    "LimitExceeded.AppDailyLimit": (Scope.PROVIDER, _next_day_s),
    "LimitExceeded.AppMainlandChinaDailyLimit": (Scope.PROVIDER, _next_day_s),
    "LimitExceeded.AppGlobalDailyLimit": (Scope.PROVIDER, _next_day_s),
    "LimitExceeded.DailyLimit": (Scope.PROVIDER, _next_day_s),
    "FailedOperation.MarketingSendTimeConstraint": (Scope.RECIPIENT, lambda now: _until_s(now, 8)),
}


def meaning_of(code: str, now: dt.datetime) -> Meaning:
    """Say what an error code means, of a request or of one number; one that is in no list leaves it unknown."""
    outcome = _OUTCOMES.get(code) or _FAMILIES.get(code.partition(".")[0], Outcome.UNKNOWN)
    if code in _PAUSES:
        scope, pause_s = _PAUSES[code]
        return Meaning(outcome, pause_s(now), scope)
    return Meaning(outcome, _THROTTLED_S if outcome is Outcome.THROTTLED else 0.0)
