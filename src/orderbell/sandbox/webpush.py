"""Pretends to be the push service of a browser, and the browser behind it.

Source: RFC 8030, RFC 8291, RFC 8292; errors as the services of Google, Mozilla, Apple and Microsoft word them.
"""

import base64
import re
import secrets
from typing import Any, Final

import http_ece  # type: ignore[import-untyped]
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, utc_now

_BODY_BYTES_MAX: Final = 4_096
_SIGNED_FOR_S_MAX: Final = 86_400
_AUTHORIZATION: Final = re.compile(r"vapid\s+t=([\w.-]+)\s*,\s*k=([\w-]+)", re.ASCII)
_TOPIC: Final = re.compile(r"[\w-]{1,32}", re.ASCII)
_URGENCIES: Final = ("very-low", "low", "normal", "high")

_EXPIRED: Final = b"push subscription has unsubscribed or expired.\n"
_OTHER_KEY: Final = (
    b"the VAPID credentials in the authorization header do not correspond to the credentials used to create the "
    b"subscriptions.\n"
)

ERRORS: Final = {
    "google gone": (410, _EXPIRED),
    "google other key": (403, _OTHER_KEY),
    "google bad signature": (403, b"invalid JWT provided\n"),
    "mozilla unknown": (404, b'{"code":404,"errno":102,"error":"Not Found","message":"Invalid URL endpoint"}'),
    "mozilla gone": (410, b'{"code":410,"errno":106,"error":"Gone","message":"Endpoint is no longer valid"}'),
    "mozilla too large": (413, b'{"code":413,"errno":104,"error":"Payload Too Large","message":"too large"}'),
    "mozilla other key": (401, b'{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID key mismatch"}'),
    "mozilla no signature": (401, b'{"code":401,"errno":109,"error":"Unauthorized","message":"Missing VAPID"}'),
    "mozilla bad header": (400, b'{"code":400,"errno":110,"error":"Bad Request","message":"Invalid TTL"}'),
    "mozilla busy": (503, b'{"code":503,"errno":201,"error":"Service Unavailable","message":"Use back-off"}'),
    "mozilla broken": (500, b'{"code":500,"errno":999,"error":"Internal Server Error","message":"Unknown error"}'),
    "apple other key": (400, b'{"reason":"VapidPkHashMismatch"}'),
    "apple bad signature": (403, b'{"reason":"BadJwtToken"}'),
    "apple too quick": (429, b'{"reason":"TooManyRequests"}'),
    "apple broken": (500, b'{"reason":"InternalServerError"}'),
    "microsoft too quick": (406, b""),
}
"""HTTP status and body of what push services answer."""


class _Subscriber(msgspec.Struct, frozen=True):
    key: ec.EllipticCurvePrivateKey
    secret: bytes
    sender: str


class WebPushSimulator(Simulator):
    """A push service on a local port.

    Args:
        clock: tells the time as aware UTC.

    Attributes:
        gone: names of subscriptions that have ended: the last part of their endpoints.
        fail_with: a name of `ERRORS` that every message is answered with.
    """

    def __init__(self, *, clock: Clock = utc_now) -> None:
        super().__init__(clock=clock)
        self._subscribers: dict[str, _Subscriber] = {}
        self.gone: set[str] = set()
        self.fail_with = ""

    def subscribe(self, url: str, application_server_key: str, name: str = "") -> str:
        """Subscribe as a page does, and give the JSON of the subscription; `url` is where this simulator listens."""
        key, secret = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16)
        name = name or secrets.token_urlsafe(24)
        self._subscribers[name] = _Subscriber(key, secret, application_server_key)
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": _encode(point), "auth": _encode(secret)}
        made = {"endpoint": f"{url}/wpush/v2/{name}", "expirationTime": None, "keys": keys}
        return msgspec.json.encode(made).decode()

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as a push service would."""
        if self.fail_with:
            return _refuse(self.fail_with)
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        if self.dice.strikes(self.faults.throttle):
            return Answered(429, headers=(("retry-after", "30"),))
        if self.dice.strikes(self.faults.error_body):
            return Answered(207)
        name = asked.path.removeprefix("/wpush/v2/")
        subscriber = self._subscribers.get(name)
        if asked.method != "POST" or subscriber is None:
            return _refuse("mozilla unknown")
        if name in self.gone:
            return _refuse("mozilla gone")
        error = _find_bad_header(asked) or self._find_bad_signature(asked, subscriber)
        if error:
            return _refuse(error)
        if len(asked.body) > _BODY_BYTES_MAX:
            return _refuse("mozilla too large")
        return self._take(asked, name, subscriber)

    def _find_bad_signature(self, asked: Asked, subscriber: _Subscriber) -> str:
        parts = _AUTHORIZATION.fullmatch(asked.headers.get("authorization", ""))
        if parts is None:
            return "mozilla no signature"
        token, point = parts.groups()
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(point))
            claims = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                audience=f"http://{asked.headers.get('host', '')}",
                options={"verify_exp": False, "require": ["aud", "exp", "sub"]},
            )
        except (ValueError, jwt.PyJWTError):
            return "google bad signature"
        left_s = claims["exp"] - self.clock().timestamp()
        if not 0 < left_s <= _SIGNED_FOR_S_MAX or not str(claims["sub"]).startswith(("mailto:", "https:")):
            return "google bad signature"
        return "google other key" if point != subscriber.sender else ""

    def _take(self, asked: Asked, name: str, subscriber: _Subscriber) -> Answered:
        ref = secrets.token_urlsafe(16)
        message = _open(asked.body, subscriber)
        self.keep(ref, name, str(message.get("body", "")), message=message, headers=dict(asked.headers))
        location = f"http://{asked.headers.get('host', '')}/m/{ref}"
        # An answer without a body cannot be cut in the middle.
        body = b"  " if self.faults.cut_after_accept else b""
        return Answered(201, body, headers=(("location", location), ("ttl", asked.headers["ttl"])), took=True)


def _open(body: bytes, subscriber: _Subscriber) -> dict[str, Any]:
    """Read a message as the browser does; what it cannot read it drops, and the push service never knows."""
    try:
        text = http_ece.decrypt(body, private_key=subscriber.key, auth_secret=subscriber.secret)
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, IndexError, http_ece.ECEException):
        return {}


def _find_bad_header(asked: Asked) -> str:
    headers = asked.headers
    is_good = (
        headers.get("ttl", "").isdecimal()
        and headers.get("content-encoding") == "aes128gcm"
        and headers.get("urgency", "normal") in _URGENCIES
        and _TOPIC.fullmatch(headers.get("topic", "none"))
    )
    return "" if is_good else "mozilla bad header"


def _refuse(error: str) -> Answered:
    status, body = ERRORS.get(error, (500, b""))
    return Answered(status, body, "application/json" if body.startswith(b"{") else "text/plain")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
