"""The outgoing webhook by the rules of Standard Webhooks (standardwebhooks.com): events for a shop's own programs.

A message's text is the JSON body, its address an https address that somebody typed in; it is called through
`orderbell.channels.guarded`. The id of a webhook is that of the attempt and stays the same when the attempt is sent
again, by which a receiver knows what it has had already; the time is that of each sending. While a secret is being
changed the body is signed with the old and the new one, and either will do for the receiver.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from orderbell.channels.guarded import AddressRefused, GuardedClient, Unresolved
from orderbell.channels.http import NoReply, read_address
from orderbell.channels.protocol import (
    Answer,
    Finding,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    Recovery,
    Scope,
    Shared,
    Veiled,
)

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
_KEY_BYTES: Final = range(24, 65)
_BATCH_MAX: Final = 50
_AT_ONCE_MAX: Final = 10
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


class WebhookOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop sets up for its webhooks.

    `endpoints` are addresses, each with its secrets; `secrets` are for addresses that have none of their own. A secret
    is `whsec_` and 24 to 64 bytes in base64; give the new one and the old one while it is being changed, newest first.

    `allow_hosts` are hosts of one's own network that may be called over http and at private addresses, as `name` or
    `name:port`; `ports` those that may be called elsewhere; `ca_pem` is a certificate authority of one's own.
    """

    endpoints: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = (443,)
    ca_pem: str = ""
    timeout_s: float = 15.0
    connect_timeout_s: float = 2.0
    per_second: float = 0.0

    def __post_init__(self) -> None:
        """Refuse secrets that are none (ValueError)."""
        for secret in (*self.secrets, *(secret for secrets in self.endpoints.values() for secret in secrets)):
            key_of(secret)


def key_of(secret: str) -> bytes:
    """Read a secret.

    Raises:
        ValueError: it is not `whsec_` and 24 to 64 bytes in base64.
    """
    text = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) not in _KEY_BYTES:
        raise ValueError("a secret of a webhook must be whsec_ and 24 to 64 bytes in base64")
    return key


def sign(key: bytes, webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Make one signature of version 1: HMAC-SHA256 over id, time and body, joined by full stops."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers_of(keys: Sequence[bytes], attempt_id: bytes, now: datetime, body: bytes) -> dict[str, str]:
    """Make the three headers of a webhook, with a signature for each key."""
    webhook_id, timestamp_s = f"msg_{attempt_id.hex()}", int(now.timestamp())
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(sign(key, webhook_id, timestamp_s, body) for key in keys),
        "user-agent": "OrderBell",
    }


def outcome_of(status: int) -> tuple[Outcome, str]:
    """Say what a receiver's status means, and what a person should know about it.

    Whatever is no clear yes or no is tried again with the same id, as the rules want it: a second copy does no harm.
    Nothing that one receiver says is held against the others, so it never means that the channel is down.
    """
    match status:
        case _ if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110 section 15
            return Outcome.ACCEPTED, ""
        case 410:
            return Outcome.REJECTED_RECIPIENT, "the receiver wants no more webhooks (HTTP 410)"
        case 413 | 415:
            return Outcome.REJECTED_CONTENT, f"HTTP {status}"
        case 429:
            return Outcome.THROTTLED, "HTTP 429"
        case 401 | 403:
            return Outcome.RETRY_LATER, f"HTTP {status}: does the receiver have the same secret?"
        case _ if 400 <= status < 500:  # noqa: PLR2004 - as above
            return Outcome.RETRY_LATER, f"HTTP {status}"
        case _ if 300 <= status < 400:  # noqa: PLR2004 - as above
            return Outcome.UNKNOWN, f"HTTP {status}: redirects are not followed, give the final address"
        case _:
            return Outcome.UNKNOWN, f"HTTP {status}"


class WebhookChannel(Provider):
    """Webhooks to addresses of the shop's choice."""

    carries = frozenset({"webhook"})
    batch_max = _BATCH_MAX
    recovery = Recovery.KEY

    def __init__(self, options: WebhookOptions, *, name: str, now: Callable[[], datetime], shared: Shared) -> None:
        self.name = name
        self.limits = Limits(per_second=options.per_second)
        self._now = now
        self._endpoints = options.endpoints
        self._keys: Mapping[str, tuple[bytes, ...]] = {
            url: tuple(map(key_of, secrets)) for url, secrets in options.endpoints.items() if secrets
        }
        self._default_keys = tuple(map(key_of, options.secrets))
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)
        self._client = GuardedClient(
            allow_hosts=options.allow_hosts,
            ports=options.ports,
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.timeout_s,
            ca_pem=options.ca_pem.encode() or None,
        )

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`: one request for each message, some at once."""
        return list(await asyncio.gather(*(self._send_one(outgoing) for outgoing in batch)))

    async def check(self) -> list[Finding]:
        """See `Channel.check`: looks at every endpoint's address and secret, and calls none."""
        return [await self._examine(url) for url in self._endpoints]

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._client.close()

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        attempt_id = outgoing.attempt_id
        try:
            body = outgoing.text.encode()
            _check_json(body)
        except ValueError:
            return Answer(attempt_id, Outcome.REJECTED_CONTENT, detail="the body is no JSON")
        keys = self._keys.get(outgoing.to, self._default_keys)
        if not keys:
            return Answer(attempt_id, Outcome.REJECTED_RECIPIENT, detail="no secret is set for this address")
        try:
            async with self._at_once:
                headers = headers_of(keys, attempt_id, self._now(), body)
                answered = await self._client.request("POST", outgoing.to, body, headers)
        except AddressRefused as refused:
            return Answer(attempt_id, Outcome.REJECTED_RECIPIENT, detail=f"the address is refused: {refused}")
        if isinstance(answered, NoReply):
            outcome = Outcome.UNKNOWN if answered.perhaps_sent else Outcome.NOT_SENT
            return Answer(attempt_id, outcome, detail=answered.detail)
        outcome, detail = outcome_of(answered.status)
        return Answer(attempt_id, outcome, detail=detail, retry_after_s=answered.retry_after_s, scope=Scope.RECIPIENT)

    async def _examine(self, url: str) -> Finding:
        address = read_address(url)
        host = address.host if address else "an endpoint"
        if not self._keys.get(url, self._default_keys):
            return Finding(fine=False, words=f"{host}: set a secret, without one nothing is sent there")
        try:
            await self._client.examine(url)
        except AddressRefused as refused:
            return Finding(fine=False, words=f"{host}: {refused}; name it in allow_hosts if it is your own")
        except Unresolved as unresolved:
            return Finding(fine=False, words=f"{host}: {unresolved}; correct the address")
        return Finding(fine=True, words=f"{host}: the address may be called")
