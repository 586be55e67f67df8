"""Web Push: browsers, through the push services of their makers.

Source: RFC 8030 (protocol), RFC 8291 (encryption), RFC 8292 (VAPID).

The address is what `PushSubscription.toJSON()` gave in the browser, after `webpush:`. It comes from a customer, and we
send requests to the endpoint in it: so only the push services of the known browsers are called, over TLS, and never a
redirect of theirs. What the service worker gets is JSON with `title`, `body`, and `order_no` and `link` where there
are such. There are no receipts, and a message is not recognised if it comes twice.
"""

import base64
import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import http_ece  # type: ignore[import-untyped]
import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import Answer, Finding, Outcome, Scope, Shared, Token
from orderbell.channels.push import UNREADABLE, Note, PushChannel, PushOptions, answer_of, clock_gap

HOSTS: Final = ("fcm.googleapis.com", "*.push.services.mozilla.com", "*.push.apple.com", "*.notify.windows.com")
"""The push services of Chrome and its kin, Firefox, Safari and Edge."""

_LIFETIME_S_MAX: Final = 28 * 86_400
# Push services must take 4,096 bytes (RFC 8291 section 4): 86 of them are the header, 17 the padding and the tag.
_TEXT_BYTES_MAX: Final = 3_993
_TOPIC_LENGTH_MAX: Final = 32
_ENDPOINT_LENGTH_MAX: Final = 2_048
_POINT_BYTES: Final = 65
_SECRET_BYTES: Final = 16
_SCALAR_BYTES: Final = 32
_THROTTLED_S: Final = 60.0
_REF_LENGTH_MAX: Final = 100
_REASON_LENGTH_MAX: Final = 120
# RFC 8292 allows a day.
_SIGNED_FOR: Final = dt.timedelta(hours=12)
_SIGNED_AFRESH: Final = dt.timedelta(hours=6)
_ORIGINS_MAX: Final = 200
# Narrower than what a URL may be: where two readers could see two different hosts in it, it is none of ours.
_ENDPOINT: Final = re.compile(r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+)(?P<port>:\d{1,5})?)/[!-~]*")
_NOT_IN_PATHS: Final = frozenset('\\#<>"`{}|^')

_ACCEPTED: Final = (200, 201, 202)
_GONE: Final = (404, 410)
_TOO_QUICK: Final = (406, 429)
_REFUSED: Final = (400, 401, 403)
# In whose words a subscription was made with another key than ours.
_OTHER_KEY: Final = ("do not correspond", "mismatch")
_ABOUT_KEY: Final = ("vapid", "jwt", "authorization", "crypto-key")
_TRY_AGAIN: Final = ("InternalServerError", "ServiceUnavailable", "Shutdown")
_MOZILLA_BUSY: Final = 201


class WebPushOptions(PushOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures to use Web Push.

    `vapid_private_key` is a PEM text or 32 bytes in base64url, as the usual tools make it; `subject` is whom a push
    service may write to, `mailto:` or `https:`. `allow_hosts` are called besides the known push services: a host, or
    `*.` and a domain for all hosts in it, or a whole origin such as `http://127.0.0.1:8030` for tests.
    """

    vapid_private_key: str
    subject: str
    allow_hosts: tuple[str, ...] = ()


class _Keys(msgspec.Struct, frozen=True):
    p256dh: str
    auth: str


class _Subscription(msgspec.Struct, frozen=True):
    endpoint: str
    keys: _Keys


class Target(msgspec.Struct, frozen=True):
    """Where a message goes, and the keys of the browser that reads it: a point of P-256 and a secret."""

    endpoint: str
    origin: str
    point: bytes
    secret: bytes


class _Told(msgspec.Struct, frozen=True):
    """What push services say about errors, each with fields of its own."""

    reason: str = ""
    message: str = ""
    errno: int = 0


_encode = msgspec.json.Encoder().encode
_decode_subscription = msgspec.json.Decoder(_Subscription).decode
_decode_told = msgspec.json.Decoder(_Told).decode


def decode_base64url(text: str) -> bytes:
    """Read base64url, padded or not.

    Raises:
        ValueError: it is none.
    """
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode_base64url(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def load_key(text: str) -> ec.EllipticCurvePrivateKey | None:
    """Read a private key of P-256, a PEM text or 32 bytes in base64url; None if it is none."""
    try:
        if "-----BEGIN" in text:
            key = load_pem_private_key(text.encode(), None)
            is_right = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
            return key if isinstance(key, ec.EllipticCurvePrivateKey) and is_right else None
        scalar = decode_base64url(text.strip())
        return ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1()) if len(scalar) == _SCALAR_BYTES else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Give the public key as browsers want it (`applicationServerKey`)."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def is_allowed(endpoint: str, hosts: Sequence[str]) -> bool:
    """Tell whether an endpoint may be called: one of the hosts over TLS at its usual port, or an origin of them."""
    parts = _ENDPOINT.fullmatch(endpoint)
    if parts is None or len(endpoint) > _ENDPOINT_LENGTH_MAX or not _NOT_IN_PATHS.isdisjoint(endpoint):
        return False
    if parts["origin"].lower() in hosts:
        return True
    host = parts["host"].lower()
    is_known = any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts)
    return is_known and parts["scheme"] == "https" and parts["port"] in (None, ":443")


def read_target(to: str, hosts: Sequence[str]) -> Target | str:
    """Read a subscription, or say what is wrong with it."""
    try:
        subscription = _decode_subscription(to)
        point, secret = decode_base64url(subscription.keys.p256dh), decode_base64url(subscription.keys.auth)
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except UNREADABLE:
        return "the address is no push subscription"
    if len(point) != _POINT_BYTES or len(secret) != _SECRET_BYTES:
        return "the keys of the push subscription have the wrong length"
    endpoint = subscription.endpoint
    parts = _ENDPOINT.fullmatch(endpoint)
    if parts is None or not is_allowed(endpoint, hosts):
        return "the endpoint of the push subscription is no known push service"
    origin = parts["origin"].lower()
    # The audience of a signature is an origin as RFC 6454 writes it, without the usual port.
    return Target(endpoint, origin.removesuffix(":443") if parts["scheme"] == "https" else origin, point, secret)


def encrypt(
    text: bytes, target: Target, key: ec.EllipticCurvePrivateKey | None = None, salt: bytes | None = None
) -> bytes:
    """Encrypt for one browser (RFC 8291); key and salt are made afresh, except for the example of the RFC."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    encrypted: bytes = http_ece.encrypt(text, salt, private_key=key, dh=target.point, auth_secret=target.secret)
    return encrypted


def headers_of(note: Note, authorization: str) -> dict[str, str]:
    """Write the headers of a message."""
    headers = {
        "authorization": authorization,
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
        "ttl": str(min(note.lifetime_s, _LIFETIME_S_MAX)),
        "urgency": "high" if note.urgent else "normal",
    }
    if note.group:
        headers["topic"] = encode_base64url(note.group)[:_TOPIC_LENGTH_MAX]
    return headers


def read_answer(answered: Reply | NoReply) -> Verdict | str:
    """Read the name that the push service gave the message, or why it did not take it."""
    judged = judge(answered)
    if isinstance(answered, NoReply):
        return judged if isinstance(judged, Verdict) else Verdict(Outcome.UNKNOWN, answered.detail)
    if answered.status in _ACCEPTED:
        return answered.headers.get("location", "").rpartition("/")[2][:_REF_LENGTH_MAX]
    told, reason = _read_reason(answered.body)
    outcome = judged.outcome if isinstance(judged, Verdict) else Outcome.UNKNOWN
    retry_after_s = answered.retry_after_s
    if answered.status in _GONE:
        outcome = Outcome.REJECTED_RECIPIENT
    elif answered.status in _TOO_QUICK:
        outcome, retry_after_s = Outcome.THROTTLED, retry_after_s or _THROTTLED_S
    elif answered.status in _REFUSED:
        outcome = _outcome_of_refusal(answered.status, reason.lower())
    elif told.reason in _TRY_AGAIN or told.errno == _MOZILLA_BUSY:
        outcome = Outcome.RETRY_LATER
    return Verdict(outcome, f"HTTP {answered.status} {reason}".strip(), retry_after_s)


def _outcome_of_refusal(status: int, reason: str) -> Outcome:
    """Tell a key that is ours and wrong from a subscription that was made with another one."""
    if any(words in reason for words in _OTHER_KEY):
        return Outcome.REJECTED_RECIPIENT
    if status == 400 and not any(word in reason for word in _ABOUT_KEY):  # noqa: PLR2004 - 401 and 403 are about it
        return Outcome.REJECTED_CONTENT
    return Outcome.CHANNEL_DOWN


def _read_reason(body: bytes) -> tuple[_Told, str]:
    try:
        told = _decode_told(body)
    except UNREADABLE:
        told = _Told()
    text = told.reason or told.message or body[:_REASON_LENGTH_MAX].decode("utf-8", "replace")
    return told, " ".join(text[:_REASON_LENGTH_MAX].split())


class WebPushChannel(PushChannel):
    """Web Push behind the `Channel` protocol; addresses are `webpush:` and the JSON of a subscription."""

    kind = "webpush"

    def __init__(self, options: WebPushOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        super().__init__(options, name=name, now=now, shared=shared)
        self._subject = options.subject
        self._hosts = (*HOSTS, *(host.rstrip("/").lower() for host in options.allow_hosts))
        self._key = load_key(options.vapid_private_key)
        self._signatures: dict[str, Token] = {}
        # One pool for all push services: requests bring their whole address.
        self._http = HttpClient(
            "",
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.timeout_s,
            keep=("location", "date"),
        )

    @property
    def public_key(self) -> str:
        """What pages pass to `pushManager.subscribe` as `applicationServerKey`; empty if the private key is bad."""
        return encode_base64url(point_of(self._key)) if self._key else ""

    async def check(self) -> list[Finding]:
        """See `Channel.check`: only the key can be looked at, for push services know none but their subscriptions."""
        findings = []
        if self._key is None:
            words = "Web Push: vapid_private_key is neither a PEM text nor 32 bytes in base64url of a key of P-256"
            findings.append(Finding(fine=False, words=words))
        if not self._subject.startswith(("mailto:", "https:")):
            findings.append(Finding(fine=False, words="Web Push: subject must begin with mailto: or https:"))
        return findings

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _push(self, note: Note) -> Answer:
        if self._key is None:
            return answer_of(note, Verdict(Outcome.CHANNEL_DOWN, "vapid_private_key cannot be read"))
        target = read_target(note.to, self._hosts)
        if isinstance(target, str):
            return answer_of(note, Verdict(Outcome.REJECTED_RECIPIENT, target))
        told: dict[str, Any] = {"title": note.title, "body": note.body, **note.extras}
        text = _encode(told)
        if len(text) > _TEXT_BYTES_MAX:
            words = f"a message of {len(text)} bytes is above {_TEXT_BYTES_MAX}"
            return answer_of(note, Verdict(Outcome.REJECTED_CONTENT, words))
        headers = headers_of(note, self._authorize(target.origin, self._key))
        try:
            answered = await self._http.request("POST", target.endpoint, encrypt(text, target), headers)
        except ValueError:
            # Nothing was written: the client reads names of hosts more strictly than we do.
            words = "the endpoint of the push subscription has an impossible host"
            return answer_of(note, Verdict(Outcome.REJECTED_RECIPIENT, words))
        read = read_answer(answered)
        if isinstance(read, Verdict) and read.outcome is Outcome.CHANNEL_DOWN and isinstance(answered, Reply):
            read = msgspec.structs.replace(read, detail=clock_gap(answered, self._now()) + read.detail)
        # One that is too quick for its push service does not hold up those of the others.
        return answer_of(note, read, Scope.RECIPIENT)

    def _authorize(self, origin: str, key: ec.EllipticCurvePrivateKey) -> str:
        """Sign for one push service, or give the signature that is still good."""
        now = self._now()
        kept = self._signatures.get(origin)
        if kept is None or kept.good_until <= now:
            # Anybody can make up names of hosts under the domains that are allowed.
            if len(self._signatures) >= _ORIGINS_MAX:
                self._signatures.clear()
            claims = {"aud": origin, "exp": int((now + _SIGNED_FOR).timestamp()), "sub": self._subject}
            value = f"vapid t={jwt.encode(claims, key, algorithm='ES256')}, k={encode_base64url(point_of(key))}"
            kept = self._signatures[origin] = Token(value, now + _SIGNED_AFRESH)
        return kept.value
