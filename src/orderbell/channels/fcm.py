"""Firebase Cloud Messaging, HTTP v1: Android phones outside mainland China, iPhones and browsers.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and `.../ErrorCode`; the access token
is asked for as in https://developers.google.com/identity/protocols/oauth2/service-account (RFC 7523).

Google neither recognises a message that it has seen before nor tells what became of it: there is no receipt, and
after a lost answer nothing can be learnt.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import Answer, ChannelUnavailable, Finding, Outcome, Scope, Shared, Token, Veiled
from orderbell.channels.push import UNREADABLE, CredentialsRefused, Note, PushChannel, PushOptions, answer_of, clock_gap
from orderbell.errors import OrderBellError

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_GOOD_FOR: Final = dt.timedelta(minutes=55)
# A token is given up this long before it is over, so that no request starts with one that ends on its way.
_TOKEN_MARGIN_S: Final = 120
_TOKEN_GOOD_FOR_S_MAX: Final = 43_200
_LIFETIME_S_MAX: Final = 28 * 86_400
_APNS_URGENT, _APNS_CALM = "10", "5"
# What Google asks for where it names no time: a minute when a quota is over, ten seconds otherwise.
_QUOTA_S: Final = 60.0
_BUSY_S: Final = 10.0

OUTCOMES: Final = {
    "UNREGISTERED": Outcome.REJECTED_RECIPIENT,
    "SENDER_ID_MISMATCH": Outcome.REJECTED_RECIPIENT,
    "INVALID_ARGUMENT": Outcome.REJECTED_CONTENT,
    "QUOTA_EXCEEDED": Outcome.THROTTLED,
    "RESOURCE_EXHAUSTED": Outcome.THROTTLED,
    "UNAVAILABLE": Outcome.RETRY_LATER,
    "INTERNAL": Outcome.RETRY_LATER,
    "THIRD_PARTY_AUTH_ERROR": Outcome.CHANNEL_DOWN,
    "UNAUTHENTICATED": Outcome.CHANNEL_DOWN,
    "PERMISSION_DENIED": Outcome.CHANNEL_DOWN,
    "NOT_FOUND": Outcome.CHANNEL_DOWN,
    "UNSPECIFIED_ERROR": Outcome.UNKNOWN,
    "DEADLINE_EXCEEDED": Outcome.UNKNOWN,
}
"""What each `errorCode` means, or `status` where there is none; INVALID_ARGUMENT may be about the recipient."""

_REMEDIES: Final = {
    "THIRD_PARTY_AUTH_ERROR": "enter the APNs key of the iOS app, or the web push key, in the Firebase console",
    "PERMISSION_DENIED": "give the service account the role of Firebase Cloud Messaging API Admin",
    "NOT_FOUND": "the project does not exist, or has Firebase Cloud Messaging API (V1) switched off",
}


class ServiceAccount(Veiled, frozen=True, kw_only=True):
    """The key file that the Firebase console gives (Project settings, Service accounts), as it is."""

    project_id: str
    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


class FcmOptions(PushOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures to use FCM; a project may send 600,000 a minute.

    `android_channel_id` is the notification channel of the Android app.
    """

    service_account: ServiceAccount
    url: str = "https://fcm.googleapis.com"
    android_channel_id: str = ""
    per_second: float = 10_000.0


class _Sent(msgspec.Struct, frozen=True):
    name: str


class _Violation(msgspec.Struct, frozen=True):
    field: str = ""
    subject: str = ""
    description: str = ""


class _Detail(msgspec.Struct, frozen=True, rename="camel"):
    error_code: str = ""
    field_violations: tuple[_Violation, ...] = ()
    violations: tuple[_Violation, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""
    details: tuple[_Detail, ...] = ()


class _Refused(msgspec.Struct, frozen=True):
    error: _Error


class _Granted(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 3_600.0


class _NotGranted(msgspec.Struct, frozen=True):
    error: str
    error_description: str = ""


_encode = msgspec.json.Encoder().encode
_decode_sent = msgspec.json.Decoder(_Sent).decode
_decode_refused = msgspec.json.Decoder(_Refused).decode
_decode_granted = msgspec.json.Decoder(_Granted).decode
_decode_not_granted = msgspec.json.Decoder(_NotGranted).decode


def payload_of(note: Note, options: FcmOptions) -> dict[str, Any]:
    """Write a message as `messages:send` wants it."""
    words = {"title": note.title, "body": note.body} if note.title else {"body": note.body}
    android: dict[str, Any] = {
        "priority": "HIGH" if note.urgent else "NORMAL",
        "ttl": f"{min(note.lifetime_s, _LIFETIME_S_MAX)}s",
    }
    if options.android_channel_id:
        android["notification"] = {"channel_id": options.android_channel_id}
    headers = {
        "apns-priority": _APNS_URGENT if note.urgent else _APNS_CALM,
        "apns-expiration": str(int(note.expires_at.timestamp())),
    }
    message = {"token": note.to, "notification": words, "android": android, "apns": {"headers": headers}}
    if note.extras:
        message["data"] = note.extras
    return {"message": message}


class Judged(msgspec.Struct, frozen=True):
    """What came of a request: the name of the message, or a verdict with the code and whom it is about."""

    read: Verdict | str
    code: str = ""
    scope: Scope = Scope.PROVIDER


def read_answer(answered: Reply | NoReply) -> Judged:
    """Read the name that Google gave the message, or why it did not take it."""
    judged = judge(answered)
    if isinstance(answered, NoReply) or not isinstance(judged, Verdict):
        return Judged(judged if isinstance(judged, Verdict) else _name_of(judged))
    try:
        error = _decode_refused(answered.body).error
    except UNREADABLE:
        return Judged(judged)
    code = next((detail.error_code for detail in error.details if detail.error_code), error.status)
    outcome = OUTCOMES.get(code, Outcome.UNKNOWN)
    scope = Scope.PROVIDER
    retry_after_s = answered.retry_after_s
    if code == "INVALID_ARGUMENT" and _is_about_token(error):
        outcome = Outcome.REJECTED_RECIPIENT
    elif outcome is Outcome.THROTTLED:
        scope = Scope.RECIPIENT if _is_about_device(error) else Scope.PROVIDER
        retry_after_s = max(retry_after_s, _QUOTA_S)
    elif outcome is Outcome.RETRY_LATER:
        retry_after_s = max(retry_after_s, _BUSY_S)
    words = [f"{code} {error.message}", _REMEDIES.get(code, "")]
    return Judged(Verdict(outcome, ": ".join(filter(None, words)), retry_after_s), code, scope)


def _name_of(body: bytes) -> Verdict | str:
    try:
        return _decode_sent(body).name or Verdict(Outcome.UNKNOWN, "an answer without a name")
    except UNREADABLE:
        return Verdict(Outcome.UNKNOWN, "unreadable answer")


def _is_about_token(error: _Error) -> bool:
    """Tell whether an invalid argument is the token, and not the rest of the message."""
    violations = [violation.field for detail in error.details for violation in detail.field_violations]
    if violations:
        return "message.token" in violations
    # Of a message that is too big, Google says so with the same code.
    return any(detail.error_code for detail in error.details) and "too big" not in error.message.lower()


def _is_about_device(error: _Error) -> bool:
    told = [violation for detail in error.details for violation in detail.violations]
    return any("device" in f"{one.subject} {one.description}".lower() for one in told)


class FcmChannel(PushChannel):
    """FCM behind the `Channel` protocol; addresses are `fcm:TOKEN`."""

    kind = "fcm"

    def __init__(self, options: FcmOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        super().__init__(options, name=name, now=now, shared=shared)
        self._options = options
        self._account = options.service_account
        self._path = f"/v1/projects/{self._account.project_id}/messages:send"
        connect_timeout_s, timeout_s = options.connect_timeout_s, options.timeout_s
        self._http = HttpClient(options.url, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
        self._tokens = HttpClient(
            self._account.token_uri, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s, keep=("date",)
        )

    async def check(self) -> list[Finding]:
        """See `Channel.check`: let Google look at a message to a topic, and not send it."""
        message = {"topic": "orderbell-check", "notification": {"body": "check"}}
        judged = await self._ask(_encode({"validate_only": True, "message": message}))
        if isinstance(judged.read, Verdict):
            return [Finding(fine=False, words=f"FCM: {judged.read.detail}")]
        return [Finding(fine=True, words=f"FCM accepts the service account for project {self._account.project_id}")]

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()
        await self._tokens.close()

    async def _push(self, note: Note) -> Answer:
        judged = await self._ask(_encode(payload_of(note, self._options)))
        return answer_of(note, judged.read, judged.scope)

    async def _ask(self, body: bytes) -> Judged:
        """Ask with the token that is good now, and once more with a new one if Google no longer knows it."""
        stale = ""
        while True:
            try:
                token = await self._shared.token(self._fetch_token, stale)
            except CredentialsRefused as refused:
                return Judged(Verdict(Outcome.CHANNEL_DOWN, str(refused)))
            except OrderBellError as unavailable:
                # Whatever became of that request, the message itself has not been written.
                return Judged(Verdict(Outcome.NOT_SENT, f"no access token: {unavailable}"))
            headers = {"authorization": f"Bearer {token}"}
            judged = read_answer(await self._http.request("POST", self._path, body, headers))
            if judged.code != "UNAUTHENTICATED" or stale:
                return judged
            stale = token

    async def _fetch_token(self) -> Token:
        now = self._now()
        form = urlencode({"grant_type": _GRANT, "assertion": self._sign(now)}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answered = await self._tokens.request("POST", "", form, headers)
        if isinstance(answered, NoReply):
            raise ChannelUnavailable(answered.detail)
        try:
            granted = _decode_granted(answered.body)
        except UNREADABLE:
            raise self._not_granted(answered) from None
        expires_in_s = min(max(granted.expires_in, 0.0), _TOKEN_GOOD_FOR_S_MAX)
        good_for_s = max(expires_in_s - _TOKEN_MARGIN_S, expires_in_s / 2)
        return Token(granted.access_token, now + dt.timedelta(seconds=good_for_s))

    def _sign(self, now: dt.datetime) -> str:
        claims = {
            "iss": self._account.client_email,
            "scope": _SCOPE,
            "aud": self._account.token_uri,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_GOOD_FOR).timestamp()),
        }
        headers = {"kid": self._account.private_key_id} if self._account.private_key_id else None
        try:
            return jwt.encode(claims, self._account.private_key, algorithm="RS256", headers=headers)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise CredentialsRefused("the private key of the service account cannot be read") from error

    def _not_granted(self, reply: Reply) -> ChannelUnavailable:
        try:
            told = _decode_not_granted(reply.body)
        except UNREADABLE:
            return ChannelUnavailable(f"HTTP {reply.status}")
        words = f"Google refuses the service account: {told.error} {told.error_description}".strip()
        return CredentialsRefused(clock_gap(reply, self._now()) + words)
