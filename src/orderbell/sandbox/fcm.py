"""Pretends to be Firebase Cloud Messaging, HTTP v1, with the token service of Google beside it.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and `.../ErrorCode`, and
https://developers.google.com/identity/protocols/oauth2/service-account.
"""

import datetime as dt
import functools
import re
import secrets
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, utc_now

PROJECT: Final = "orderbell-sandbox"
_EMAIL: Final = f"push@{PROJECT}.iam.gserviceaccount.com"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_TOKEN_GOOD_FOR_S: Final = 3_599
_PAYLOAD_BYTES_MAX: Final = 4_096
_SKEW_S: Final = 300
_REGISTRATION: Final = re.compile(r"[0-9A-Za-z_:-]{20,4096}")
_LIFETIME: Final = re.compile(r"(\d+)(\.\d+)?s")
_LIFETIME_S_MAX: Final = 28 * 86_400
_FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
_QUOTA_FAILURE: Final = "type.googleapis.com/google.rpc.QuotaFailure"

ERRORS: Final = {
    "UNSPECIFIED_ERROR": (500, "UNKNOWN", "No more information is available about this error."),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "UNREGISTERED": (404, "NOT_FOUND", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED", "SenderId mismatch"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Messages sent'."),
    "UNAVAILABLE": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "INTERNAL": (500, "INTERNAL", "Internal error encountered."),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
}
"""HTTP status, `status` and words of each `errorCode`."""
_PLAIN: Final = {
    "UNAUTHENTICATED": (401, "Request had invalid authentication credentials."),
    "PERMISSION_DENIED": (403, "Permission 'cloudmessaging.messages.create' denied on resource."),
    "NOT_FOUND": (404, "Requested entity was not found."),
    "DEADLINE_EXCEEDED": (504, "Deadline expired before operation could complete."),
}


@functools.cache
def _make_key() -> rsa.RSAPrivateKey:
    """Make the key of the service account; once, for it takes a while."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class _Message(msgspec.Struct):
    token: str = ""
    topic: str = ""
    notification: dict[str, str] = {}
    data: dict[str, str] = {}
    android: dict[str, Any] = {}
    apns: dict[str, Any] = {}
    webpush: dict[str, Any] = {}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    message: _Message
    validate_only: bool = False


_decode = msgspec.json.Decoder(_Request).decode


class FcmSimulator(Simulator):
    """FCM on a local port; the token service is under `/token`.

    Args:
        clock: tells the time as aware UTC.

    Attributes:
        gone: tokens of apps that were removed.
        strangers: tokens of another sender.
        fail_with: an `errorCode` or a status that every message is refused with.
        about_device: whether a quota that is over is that of the device.
        fail_tokens: what the token service answers instead: an error of OAuth, or `503` for a bare one.
        granted: how many access tokens have been given.
        access_tokens: those that are good, with the moment until which they are.
    """

    def __init__(self, *, clock: Clock = utc_now) -> None:
        super().__init__(clock=clock)
        self.gone: set[str] = set()
        self.strangers: set[str] = set()
        self.fail_with = ""
        self.about_device = False
        self.fail_tokens = ""
        self.granted = 0
        self.access_tokens: dict[str, dt.datetime] = {}

    def service_account(self, url: str) -> dict[str, str]:
        """Give the key file of the account that may send; `url` is where this simulator listens."""
        pem = _make_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": _EMAIL,
            "token_uri": f"{url}/token",
        }

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as Google would."""
        if asked.method != "POST":
            return Answered(404)
        if asked.path == "/token":
            return self._give_token(asked)
        if not asked.path.startswith("/v1/projects/") or not asked.path.endswith("/messages:send"):
            return Answered(404)
        if asked.path != f"/v1/projects/{PROJECT}/messages:send":
            return _error("PERMISSION_DENIED")
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        good_until = self.access_tokens.get(token)
        if good_until is None or good_until <= self.clock():
            return _error("UNAUTHENTICATED")
        return self._send(asked)

    def _give_token(self, asked: Asked) -> Answered:
        if self.fail_tokens == "503":
            return Answered(503)
        if self.fail_tokens:
            return _no_grant(self.fail_tokens, "")
        if asked.form.get("grant_type") != _GRANT:
            return _no_grant("unsupported_grant_type", "Invalid grant_type")
        # The audience is the address under which the client reached us.
        audience = f"http://{asked.headers.get('host', '')}/token"
        try:
            claims = jwt.decode(
                asked.form.get("assertion", ""),
                _make_key().public_key(),
                algorithms=["RS256"],
                audience=audience,
                options={"verify_exp": False, "verify_iat": False, "require": ["iss", "iat", "exp"]},
            )
        except jwt.PyJWTError:
            return _no_grant("invalid_grant", "Invalid JWT Signature.")
        if claims["iss"] != _EMAIL:
            return _no_grant("invalid_grant", "Invalid grant: account not found")
        now_s = self.clock().timestamp()
        if claims["exp"] - claims["iat"] > 3_600 or not claims["iat"] - _SKEW_S <= now_s < claims["exp"]:  # noqa: PLR2004 - an hour
            why = "Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            return _no_grant("invalid_grant", f"Invalid JWT: {why} Check your iat and exp values in the JWT claim.")
        if claims.get("scope") != _SCOPE:
            return _no_grant("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        self.granted += 1
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self.access_tokens[token] = self.clock() + dt.timedelta(seconds=_TOKEN_GOOD_FOR_S)
        granted = {"access_token": token, "expires_in": _TOKEN_GOOD_FOR_S, "token_type": "Bearer"}
        return Answered(body=msgspec.json.encode(granted))

    def _send(self, asked: Asked) -> Answered:
        if self.fail_with:
            return _error(self.fail_with, about_device=self.about_device)
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        if self.dice.strikes(self.faults.throttle):
            return _error("QUOTA_EXCEEDED", about_device=self.about_device)
        if self.dice.strikes(self.faults.error_body):
            return Answered(body=b'{"result":"in no manual"}')
        try:
            request = _decode(asked.body)
        except ValueError:
            return _bad_field("message", "Invalid JSON payload received.")
        refused = self._find_fault(request.message, len(asked.body))
        if refused is not None:
            return refused
        message = request.message
        if request.validate_only:
            return Answered(body=msgspec.json.encode({"name": f"projects/{PROJECT}/messages/fake_message_id"}))
        name = f"projects/{PROJECT}/messages/0:{1_767_323_045_000_000 + len(self.taken)}%31bd1c96f9fd7ecd"
        self.keep(name, message.token or message.topic, message.notification.get("body", ""), message=message)
        return Answered(body=msgspec.json.encode({"name": name}), took=True)

    def _find_fault(self, message: _Message, length: int) -> Answered | None:
        if bool(message.token) == bool(message.topic):
            return _bad_field("message", "Exactly one of token, topic or condition is required")
        lifetime = _LIFETIME.fullmatch(str(message.android.get("ttl", "0s")))
        if lifetime is None or int(lifetime[1]) > _LIFETIME_S_MAX:
            return _bad_field("message.android.ttl", "Invalid value for ttl")
        if message.android.get("priority", "NORMAL") not in ("NORMAL", "HIGH"):
            return _bad_field("message.android.priority", "Invalid value for priority")
        if length > _PAYLOAD_BYTES_MAX:
            return _error("INVALID_ARGUMENT", "Android message is too big")
        if message.token and not _REGISTRATION.fullmatch(message.token):
            return _error("INVALID_ARGUMENT", "The registration token is not a valid FCM registration token")
        if message.token in self.gone:
            return _error("UNREGISTERED")
        return _error("SENDER_ID_MISMATCH") if message.token in self.strangers else None


def _error(code: str, message: str = "", *, about_device: bool = False) -> Answered:
    if code in ERRORS:
        http, status, words = ERRORS[code]
        details: list[dict[str, Any]] = [{"@type": _FCM_ERROR, "errorCode": code}]
        if about_device:
            violation = {"subject": "device", "description": "Device message rate exceeded"}
            details.append({"@type": _QUOTA_FAILURE, "violations": [violation]})
    else:
        http, words = _PLAIN.get(code, (500, "an unknown code"))
        status, details = code, []
    error = {"code": http, "message": message or words, "status": status, "details": details}
    headers = (("retry-after", "30"),) if code in ("UNAVAILABLE", "QUOTA_EXCEEDED") else ()
    return Answered(http, msgspec.json.encode({"error": error}), headers=headers)


def _bad_field(field: str, words: str) -> Answered:
    violation = {"field": field, "description": words}
    details = [{"@type": _BAD_REQUEST, "fieldViolations": [violation]}]
    error = {"code": 400, "message": words, "status": "INVALID_ARGUMENT", "details": details}
    return Answered(400, msgspec.json.encode({"error": error}))


def _no_grant(error: str, words: str) -> Answered:
    return Answered(400, msgspec.json.encode({"error": error, "error_description": words}))
