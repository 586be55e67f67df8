"""Apple Push Notification service, over HTTP/2 with a provider token.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns,
`establishing-a-token-based-connection-to-apns` and `handling-notification-responses-from-apns`.

Apple gives no receipt and does not recognise a message that it has seen before: `apns-id` only names it.
"""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import Answer, Finding, Outcome, Scope, Shared, Token
from orderbell.channels.push import (
    UNREADABLE,
    CredentialsRefused,
    Note,
    PushChannel,
    PushOptions,
    answer_of,
    clock_gap,
)
from orderbell.errors import OrderBellError

# Apple wants a token to be used between 20 and 60 minutes: a younger one is too many, an older one is expired.
_TOKEN_GOOD_FOR: Final = dt.timedelta(minutes=40)
_COLLAPSE_LENGTH_MAX: Final = 64
_PAYLOAD_BYTES_MAX: Final = 4_096
_DEVICE_TOKEN_LENGTH_MAX: Final = 200
_URGENT, _CALM = "10", "5"
_TOO_MANY_TOKENS_S: Final = 1_200.0
_TOO_MANY_REQUESTS_S: Final = 60.0
_ID: Final = "apns-id"
_NO_DEVICE: Final = "0" * 64

OUTCOMES: Final = {
    "BadDeviceToken": Outcome.REJECTED_RECIPIENT,
    "DeviceTokenNotForTopic": Outcome.REJECTED_RECIPIENT,
    "ExpiredToken": Outcome.REJECTED_RECIPIENT,
    "Unregistered": Outcome.REJECTED_RECIPIENT,
    "BadCollapseId": Outcome.REJECTED_CONTENT,
    "BadExpirationDate": Outcome.REJECTED_CONTENT,
    "BadMessageId": Outcome.REJECTED_CONTENT,
    "BadPriority": Outcome.REJECTED_CONTENT,
    "DuplicateHeaders": Outcome.REJECTED_CONTENT,
    "InvalidPushType": Outcome.REJECTED_CONTENT,
    "MissingDeviceToken": Outcome.REJECTED_CONTENT,
    "PayloadEmpty": Outcome.REJECTED_CONTENT,
    "PayloadTooLarge": Outcome.REJECTED_CONTENT,
    "BadTopic": Outcome.CHANNEL_DOWN,
    "MissingTopic": Outcome.CHANNEL_DOWN,
    "TopicDisallowed": Outcome.CHANNEL_DOWN,
    "BadCertificate": Outcome.CHANNEL_DOWN,
    "BadCertificateEnvironment": Outcome.CHANNEL_DOWN,
    "BadEnvironmentKeyIdInToken": Outcome.CHANNEL_DOWN,
    "ExpiredProviderToken": Outcome.CHANNEL_DOWN,
    "Forbidden": Outcome.CHANNEL_DOWN,
    "InvalidProviderToken": Outcome.CHANNEL_DOWN,
    "MissingProviderToken": Outcome.CHANNEL_DOWN,
    "UnrelatedKeyIdInToken": Outcome.CHANNEL_DOWN,
    "BadPath": Outcome.CHANNEL_DOWN,
    "MethodNotAllowed": Outcome.CHANNEL_DOWN,
    "TooManyProviderTokenUpdates": Outcome.THROTTLED,
    "TooManyRequests": Outcome.THROTTLED,
    "IdleTimeout": Outcome.RETRY_LATER,
    "InternalServerError": Outcome.RETRY_LATER,
    "ServiceUnavailable": Outcome.RETRY_LATER,
    "Shutdown": Outcome.RETRY_LATER,
}
"""What each reason of Apple means."""

_REMEDIES: Final = {
    "BadDeviceToken": "if this happens to all, the app was built for the other environment (sandbox or production)",
    "BadEnvironmentKeyIdInToken": "the key is for the other environment (sandbox or production)",
    "TopicDisallowed": "the key may not push to this topic: it must be the bundle id of an app of the team",
    "InvalidProviderToken": "compare team id, key id and key with Certificates, Identifiers and Profiles of Apple",
    "ExpiredProviderToken": "the token was made this moment, so the clock of this server is wrong",
}


class ApnsOptions(PushOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures to use APNs.

    `private_key` is the text of the `.p8` file, `topic` the bundle id of the app. Builds from Xcode want the `url`
    `https://api.sandbox.push.apple.com`; one that begins with `http:` is spoken to in plain text. `ca_pem`
    is a certificate authority to trust besides those of the system. Both are for tests.
    """

    team_id: str
    key_id: str
    private_key: str
    topic: str
    url: str = "https://api.push.apple.com"
    ca_pem: str = ""


class _Refused(msgspec.Struct, frozen=True):
    reason: str
    timestamp: Any = 0


_encode = msgspec.json.Encoder().encode
_decode_refused = msgspec.json.Decoder(_Refused).decode


def payload_of(note: Note) -> dict[str, Any]:
    """Write a message as Apple wants it: what the app reads stands beside `aps`."""
    alert = {"title": note.title, "body": note.body} if note.title else {"body": note.body}
    return {"aps": {"alert": alert, "sound": "default"}, **note.extras}


def headers_of(note: Note, topic: str) -> dict[str, str]:
    """Write the headers of a message, the provider token apart."""
    headers = {
        "apns-topic": topic,
        "apns-push-type": "alert",
        _ID: str(uuid.UUID(bytes=note.attempt_id)),
        # 0 is tried once and not kept.
        "apns-expiration": str(int(note.expires_at.timestamp())) if note.lifetime_s else "0",
        "apns-priority": _URGENT if note.urgent else _CALM,
    }
    if note.group:
        headers["apns-collapse-id"] = note.group.hex()[:_COLLAPSE_LENGTH_MAX]
    return headers


class Judged(msgspec.Struct, frozen=True):
    """What came of a request: the name of the message, or a verdict with Apple's reason and whom it is about."""

    read: Verdict | str
    reason: str = ""
    scope: Scope = Scope.PROVIDER


def read_answer(answered: Reply | NoReply) -> Judged:
    """Read the id under which Apple took the message, or why it did not."""
    judged = judge(answered)
    if isinstance(answered, NoReply):
        return Judged(judged if isinstance(judged, Verdict) else Verdict(Outcome.UNKNOWN, answered.detail))
    if answered.status == 200 and not answered.body.strip():  # noqa: PLR2004 - the only success that Apple documents
        return Judged(answered.headers.get(_ID, ""))
    try:
        refused = _decode_refused(answered.body)
    except UNREADABLE:
        return Judged(judged if isinstance(judged, Verdict) else Verdict(Outcome.UNKNOWN, "unreadable answer"))
    return _judge_reason(refused, answered)


def _judge_reason(refused: _Refused, reply: Reply) -> Judged:
    reason = refused.reason[:60]
    outcome = OUTCOMES.get(reason, Outcome.UNKNOWN)
    scope, retry_after_s = Scope.PROVIDER, reply.retry_after_s
    if outcome is Outcome.THROTTLED:
        is_tokens = reason == "TooManyProviderTokenUpdates"
        scope = Scope.PROVIDER if is_tokens else Scope.RECIPIENT
        retry_after_s = retry_after_s or (_TOO_MANY_TOKENS_S if is_tokens else _TOO_MANY_REQUESTS_S)
    words = [f"{reason} since {_moment_of(refused.timestamp)}" if refused.timestamp else reason]
    words += [remedy] if (remedy := _REMEDIES.get(reason)) else []
    return Judged(Verdict(outcome, ": ".join(words), retry_after_s), reason, scope)


def _moment_of(timestamp_ms: Any) -> str:  # noqa: ANN401 - whatever was sent
    try:
        return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return "no time"


def _is_device_token(text: str) -> bool:
    """Tell whether a token can be one of Apple's, and stand in a path: they are hexadecimal, of no fixed length."""
    return 0 < len(text) <= _DEVICE_TOKEN_LENGTH_MAX and all(letter in "0123456789abcdefABCDEF" for letter in text)


class ApnsChannel(PushChannel):
    """APNs behind the `Channel` protocol; addresses are `apns:DEVICE_TOKEN`, in hexadecimal."""

    kind = "apns"

    def __init__(self, options: ApnsOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        super().__init__(options, name=name, now=now, shared=shared)
        self._options = options
        self._http = HttpClient(
            options.url,
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.timeout_s,
            keep=(_ID, "date"),
            http2="plain" if options.url.startswith("http:") else "tls",
            ca_pem=options.ca_pem.encode() or None,
        )

    async def check(self) -> list[Finding]:
        """See `Channel.check`: push to a device that does not exist, which Apple refuses last of all."""
        note = self._empty_note()
        judged = await self._ask(_NO_DEVICE, b'{"aps":{}}', headers_of(note, self._options.topic))
        if judged.reason in ("BadDeviceToken", "Unregistered", "DeviceTokenNotForTopic"):
            return [Finding(fine=True, words=f"APNs accepts the key for {self._options.topic}")]
        detail = judged.read.detail if isinstance(judged.read, Verdict) else "it took a message for no device"
        return [Finding(fine=False, words=f"APNs: {detail}")]

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _push(self, note: Note) -> Answer:
        if not _is_device_token(note.to):
            return answer_of(note, Verdict(Outcome.REJECTED_RECIPIENT, "a device token of Apple is hexadecimal"))
        body = _encode(payload_of(note))
        if len(body) > _PAYLOAD_BYTES_MAX:
            words = f"a payload of {len(body)} bytes is above {_PAYLOAD_BYTES_MAX}"
            return answer_of(note, Verdict(Outcome.REJECTED_CONTENT, words))
        judged = await self._ask(note.to, body, headers_of(note, self._options.topic))
        # An id that came back empty is still the one that we gave.
        read = judged.read if isinstance(judged.read, Verdict) else judged.read or str(uuid.UUID(bytes=note.attempt_id))
        return answer_of(note, read, judged.scope)

    async def _ask(self, device: str, body: bytes, headers: dict[str, str]) -> Judged:
        """Ask with the token that is shared by all, and once more with a new one if Apple finds it too old."""
        stale = ""
        while True:
            try:
                token = await self._shared.token(self._sign, stale)
            except CredentialsRefused as refused:
                return Judged(Verdict(Outcome.CHANNEL_DOWN, str(refused)))
            except OrderBellError as unavailable:
                return Judged(Verdict(Outcome.NOT_SENT, f"no provider token: {unavailable}"))
            signed = {**headers, "authorization": f"bearer {token}"}
            answered = await self._http.request("POST", f"/3/device/{device}", body, signed)
            judged = read_answer(answered)
            if judged.reason != "ExpiredProviderToken" or stale:
                return self._name_clock(judged, answered)
            stale = token

    def _name_clock(self, judged: Judged, answered: Reply | NoReply) -> Judged:
        if judged.reason not in ("ExpiredProviderToken", "InvalidProviderToken") or isinstance(answered, NoReply):
            return judged
        if not isinstance(judged.read, Verdict):
            return judged
        detail = clock_gap(answered, self._now()) + judged.read.detail
        return msgspec.structs.replace(judged, read=msgspec.structs.replace(judged.read, detail=detail))

    async def _sign(self) -> Token:
        now = self._now()
        claims = {"iss": self._options.team_id, "iat": int(now.timestamp())}
        try:
            token = jwt.encode(
                claims, self._options.private_key, algorithm="ES256", headers={"kid": self._options.key_id}
            )
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise CredentialsRefused("the private key (the .p8 file) cannot be read") from error
        return Token(token, now + _TOKEN_GOOD_FOR)

    def _empty_note(self) -> Note:
        return Note(bytes(16), _NO_DEVICE, "", "", {}, urgent=False, lifetime_s=0, expires_at=self._now())
