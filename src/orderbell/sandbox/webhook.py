"""A receiver of Standard Webhooks: verifies signatures as a careful shop does, and fails as a careless one can."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, utc_now

_TOLERANCE_S: Final = 300
RETRY_AFTER_S: Final = 7


class WebhookReceiver(Simulator):
    """A server that takes webhooks at every path.

    `fail_with` is a status that everything is answered with instead (302 with a place to go to, 429 with a time to
    wait), `padding` the number of bytes that every good answer is longer. `repeats` counts webhooks whose id had come
    before: they are answered well and not taken again. The fault `error_body` answers with a redirect.

    Args:
        clock: tells the time as aware UTC.
        secrets: those that are good, each `whsec_` and base64.
    """

    def __init__(self, *, clock: Clock = utc_now, secrets: Iterable[str] = ()) -> None:
        super().__init__(clock=clock)
        self.secrets = tuple(secrets)
        self.fail_with = 0
        self.padding = 0
        self.repeats = 0
        self.seen: list[Asked] = []

    async def answer(self, asked: Asked) -> Answered:
        """Take a webhook, or say what is wrong with it."""
        self.seen.append(asked)
        if self.fail_with or self.dice.strikes(self.faults.error_body):
            return _failed(self.fail_with or 302)
        if self.dice.strikes(self.faults.refuse):
            return _failed(503)
        if self.dice.strikes(self.faults.throttle):
            return _failed(429)
        if asked.method != "POST":
            return _failed(405)
        if wrong := self.what_is_wrong(asked):
            return _failed(401, wrong)
        webhook_id = asked.headers["webhook-id"]
        if any(taken.ref == webhook_id for taken in self.taken):
            self.repeats += 1
        else:
            self.keep(webhook_id, asked.path, asked.body.decode(), at_s=int(asked.headers["webhook-timestamp"]))
        return Answered(body=b'{"ok": true}' + b" " * self.padding, took=True)

    def what_is_wrong(self, asked: Asked) -> str:
        """Verify id, time and signatures; "" if all is well."""
        named = [asked.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]
        webhook_id, timestamp, signatures = named
        if not all(named):
            return "missing required headers"
        if not timestamp.isdecimal() or abs(int(timestamp) - self.clock().timestamp()) > _TOLERANCE_S:
            return "timestamp too old or too new"
        signed = b".".join([webhook_id.encode(), timestamp.encode(), asked.body])
        good = [
            base64.b64encode(hmac.digest(_key_of(secret), signed, hashlib.sha256)).decode() for secret in self.secrets
        ]
        for signature in signatures.split(" "):
            version, _, value = signature.partition(",")
            if version == "v1" and any(hmac.compare_digest(value, one) for one in good):
                return ""
        return "no matching signature"


def _key_of(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_") + "==")


def _failed(status: int, reason: str = "") -> Answered:
    headers: tuple[tuple[str, str], ...] = ()
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
        headers = (("location", "/elsewhere"),)
    elif status == 429:  # noqa: PLR2004 - RFC 6585 section 4
        headers = (("retry-after", str(RETRY_AFTER_S)),)
    return Answered(status, msgspec.json.encode({"error": reason or f"HTTP {status}"}), headers=headers)
