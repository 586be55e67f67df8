"""Pretends to be the Apple Push Notification service with provider tokens; serve it with `serving_http2`.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns and
`handling-notification-responses-from-apns`.
"""

import re
import uuid
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orderbell.sandbox.simulator import OWN_PATHS, Answered, Asked, Clock, Receive, Scope, Send, Simulator, utc_now

_TOKEN_GOOD_FOR_S: Final = 3_600
_TOKEN_KEPT_FOR_S: Final = 1_200
_SKEW_S: Final = 60
_PAYLOAD_BYTES_MAX: Final = 4_096
_COLLAPSE_BYTES_MAX: Final = 64
_DEVICE_PATH: Final = re.compile(r"/3/device/([^/]*)")
_DEVICE: Final = re.compile(r"[0-9a-fA-F]{64,200}")
_PUSH_TYPES: Final = {"alert", "background", "complication", "fileprovider", "location", "mdm", "voip", "widgets"}
_NO_DEVICE: Final = "0" * 64

STATUSES: Final = {
    400: (
        "BadCollapseId",
        "BadDeviceToken",
        "BadExpirationDate",
        "BadMessageId",
        "BadPriority",
        "BadTopic",
        "DeviceTokenNotForTopic",
        "DuplicateHeaders",
        "IdleTimeout",
        "InvalidPushType",
        "MissingDeviceToken",
        "MissingTopic",
        "PayloadEmpty",
        "TopicDisallowed",
    ),
    403: (
        "BadCertificate",
        "BadCertificateEnvironment",
        "BadEnvironmentKeyIdInToken",
        "ExpiredProviderToken",
        "Forbidden",
        "InvalidProviderToken",
        "MissingProviderToken",
        "UnrelatedKeyIdInToken",
    ),
    404: ("BadPath",),
    405: ("MethodNotAllowed",),
    410: ("ExpiredToken", "Unregistered"),
    413: ("PayloadTooLarge",),
    429: ("TooManyProviderTokenUpdates", "TooManyRequests"),
    500: ("InternalServerError",),
    503: ("ServiceUnavailable", "Shutdown"),
}
"""The reasons of each HTTP status."""
_STATUS_OF: Final = {reason: status for status, reasons in STATUSES.items() for reason in reasons}


class ApnsSimulator(Simulator):
    """APNs on a local port.

    Args:
        team_id: the team of the provider token.
        key_id: its key.
        topic: the bundle id of the app.
        counts_tokens: whether a second provider token within 20 minutes is one too many.
        clock: tells the time as aware UTC.

    Attributes:
        private_key: the `.p8` file that goes with it.
        gone: devices that no longer have the app, with the moment since when in milliseconds.
        strangers: devices with another app.
        fail_with: a reason that every push is refused with.
        tokens: the provider tokens that were seen, with the time of their making.
    """

    def __init__(
        self,
        team_id: str,
        key_id: str,
        topic: str,
        *,
        counts_tokens: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(clock=clock)
        self._team_id = team_id
        self._key_id = key_id
        self._topic = topic
        self._counts_tokens = counts_tokens
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.private_key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.gone: dict[str, int] = {}
        self.strangers: set[str] = set()
        self.fail_with = ""
        self.tokens: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3), if it came over HTTP/2: Apple speaks nothing else."""
        if scope["type"] == "http" and scope.get("http_version") != "2" and scope["path"] not in OWN_PATHS:
            await send({"type": "http.response.start", "status": 505, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await super().__call__(scope, receive, send)

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as Apple would."""
        asked_id = asked.headers.get("apns-id", "")
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        if self.dice.strikes(self.faults.error_body):
            return Answered(body=b'{"reason":"InNoManual"}')
        path = _DEVICE_PATH.fullmatch(asked.path)
        if path is None:
            return _refuse("BadPath", asked_id)
        if asked.method != "POST":
            return _refuse("MethodNotAllowed", asked_id)
        reason = self._find_bad_token(asked) or _find_bad_header(asked) or self._find_fault(asked, path[1])
        if reason:
            return _refuse(reason, asked_id, self.gone.get(path[1], 0))
        return self._take(asked, path[1], asked_id or str(uuid.uuid4()))

    def _find_bad_token(self, asked: Asked) -> str:
        if self.fail_with:
            return self.fail_with
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            return "MissingProviderToken"
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["ES256"],
                options={"verify_iat": False, "require": ["iss", "iat"]},
            )
            is_ours = jwt.get_unverified_header(token).get("kid") == self._key_id and claims["iss"] == self._team_id
        except jwt.PyJWTError:
            return "InvalidProviderToken"
        made_s, now_s = claims["iat"], self.clock().timestamp()
        if not is_ours or not isinstance(made_s, int) or made_s > now_s + _SKEW_S:
            return "InvalidProviderToken"
        if now_s - made_s > _TOKEN_GOOD_FOR_S:
            return "ExpiredProviderToken"
        return self._find_too_many_tokens(token, made_s)

    def _find_too_many_tokens(self, token: str, made_s: int) -> str:
        if token not in self.tokens:
            newest_s = max(self.tokens.values(), default=0)
            if self._counts_tokens and made_s - newest_s < _TOKEN_KEPT_FOR_S:
                return "TooManyProviderTokenUpdates"
            self.tokens[token] = made_s
        return ""

    def _find_fault(self, asked: Asked, device: str) -> str:
        topic = asked.headers.get("apns-topic", "")
        if topic != self._topic:
            return "TopicDisallowed" if topic else "MissingTopic"
        if not asked.body:
            return "PayloadEmpty"
        if len(asked.body) > _PAYLOAD_BYTES_MAX:
            return "PayloadTooLarge"
        if not device:
            return "MissingDeviceToken"
        if not _DEVICE.fullmatch(device) or device == _NO_DEVICE:
            return "BadDeviceToken"
        if device in self.strangers:
            return "DeviceTokenNotForTopic"
        if device in self.gone:
            return "Unregistered"
        return "TooManyRequests" if self.dice.strikes(self.faults.throttle) else ""

    def _take(self, asked: Asked, device: str, ref: str) -> Answered:
        payload = _decode_payload(asked.body)
        aps = payload.get("aps")
        alert = aps.get("alert", "") if isinstance(aps, dict) else ""
        text = alert.get("body", "") if isinstance(alert, dict) else alert
        self.keep(ref, device, str(text), payload=payload, headers=dict(asked.headers))
        # An answer without a body cannot be cut in the middle.
        body = b"  " if self.faults.cut_after_accept else b""
        return Answered(body=body, headers=(("apns-id", ref),), took=True)


def _decode_payload(body: bytes) -> dict[str, Any]:
    """Read a payload; what is none is delivered to nobody, but Apple takes it."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except ValueError:
        return {}


def _find_bad_header(asked: Asked) -> str:
    headers = asked.headers
    expiration, priority = headers.get("apns-expiration", "0"), headers.get("apns-priority", "10")
    if "apns-id" in headers:
        try:
            uuid.UUID(headers["apns-id"])
        except ValueError:
            return "BadMessageId"
    if not expiration.isdecimal():
        return "BadExpirationDate"
    if priority not in ("10", "5", "1"):
        return "BadPriority"
    push_type = headers.get("apns-push-type", "")
    if push_type not in _PUSH_TYPES:
        return "InvalidPushType"
    if push_type == "background" and priority != "5":
        return "BadPriority"
    return "BadCollapseId" if len(headers.get("apns-collapse-id", "")) > _COLLAPSE_BYTES_MAX else ""


def _refuse(reason: str, asked_id: str, since_ms: int = 0) -> Answered:
    status = _STATUS_OF.get(reason, 400)
    told: dict[str, Any] = {"reason": reason}
    if status == 410:  # noqa: PLR2004 - the only status with a time
        told["timestamp"] = since_ms
    headers = (("apns-id", asked_id or str(uuid.uuid4())),)
    return Answered(status, msgspec.json.encode(told), headers=headers)
