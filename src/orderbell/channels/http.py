"""The seam around the HTTP client: ask, and learn either the answer or whether the request may have arrived.

Nothing outside this file knows which library speaks HTTP, so another one can take its place.

The one question that matters to a sender of messages is *may the provider have seen this request?* The
exception classes of pyreqwest 0.15 do not answer it: `ConnectError` is raised for a refused connection and
equally for one that was cut after the whole request had been read, and `ConnectTimeoutError` for every
timeout before the answer's headers, so also for a request that arrived and was never answered. What tells
them apart is the chain of causes: `client error (Connect)` is there exactly when no connection, TLS included,
was made, and then no byte of the request was written. The tests pin this against real sockets; everything not
proven unsent counts as perhaps sent.
"""

import datetime as dt
import email.utils
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, PoolTimeoutError, PyreqwestError
from pyreqwest.http import Url
from pyreqwest.response import Response

from orderbell.channels.protocol import Outcome
from orderbell.observe import failpoint

_CAUSE_BEFORE_CONNECTED = "client error (Connect)"
_ERRORS_BEFORE_CONNECTED = (BuilderError, PoolTimeoutError)
# The first cause repeats the address, and some providers want their secret in it.
_CAUSE_WITH_ADDRESS = "error sending request for url"

_DETAIL_LENGTH_MAX = 200
# An answer to the largest batch is below 300 kB; more than this is no answer but an accident or an attack.
_BODY_BYTES_MAX = 8 * 1024 * 1024
# Shorter than the keep-alive of usual servers: when the server closes an idle connection just as a request is
# written to it, the request is unknown although nobody saw it.
_IDLE_S = 3.0
_RETRY_AFTER_S_MAX = 3600.0


class Reply(msgspec.Struct, frozen=True):
    """A complete HTTP answer; `retry_after_s` is 0 where the server named no time.

    `headers` are those that were asked for (`HttpClient(keep=...)`) and came, by their names in small letters.
    """

    status: int
    body: bytes
    retry_after_s: float = 0.0
    headers: Mapping[str, str] = {}


class NoReply(msgspec.Struct, frozen=True):
    """No complete answer came; `perhaps_sent` is false only if surely no byte of the request was written."""

    perhaps_sent: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """What came of all messages of one request."""

    outcome: Outcome
    detail: str
    retry_after_s: float = 0.0


class Address(msgspec.Struct, frozen=True):
    """An HTTP address as the client itself understands it: `host` is a name or an IP address, `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """What stands before the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_address(url: str) -> Address | None:
    """Take an address apart with the client's own parser, so that what is checked is what is called.

    None where it is no http or https address, or names a user; a fragment is dropped.
    """
    try:
        read = Url(url)
    except ValueError:
        return None
    if read.scheme not in {"http", "https"} or not read.host_str or read.username or read.password is not None:
        return None
    query = "" if read.query_string is None else f"?{read.query_string}"
    host, port = read.host_str.removeprefix("[").removesuffix("]"), read.port_or_known_default
    return None if port is None else Address(read.scheme, host, port, read.path + query)


class HttpClient:
    """A pool of connections to one provider.

    Redirects are not followed (the answer to a message must come from the provider itself) and proxies of the
    environment are not used (an answer must not come from something in between).

    Args:
        base_url: scheme, host and port; paths of requests are appended to it.
        token: sent as bearer token if given.
        connect_timeout_s: how long to wait for a connection; a timeout here means surely not sent.
        timeout_s: how long a request may take in all. Must be longer than `connect_timeout_s`, otherwise a
            slow connect could not be told from a lost answer.
        keep: headers of answers that are wanted, in small letters.
        http2: speak HTTP/2 only, over TLS or in plain (RFC 9113 section 3.3).
        ca_pem: a certificate authority to trust besides those of the system.
        connect_to: a host name and the IP address to connect to when it is called; nobody is asked for its address.
        cut_bytes: read no more than this of an answer and take it as it is then; 0 reads all and refuses endless ones.

    Raises:
        ValueError: the timeouts contradict each other.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        connect_timeout_s: float = 2.0,
        timeout_s: float = 10.0,
        keep: Sequence[str] = (),
        http2: Literal["", "tls", "plain"] = "",
        ca_pem: bytes | None = None,
        connect_to: tuple[str, str] | None = None,
        cut_bytes: int = 0,
    ) -> None:
        if not 0 < connect_timeout_s < timeout_s:
            raise ValueError(f"connect_timeout_s={connect_timeout_s} must be above 0 and below timeout_s={timeout_s}")
        self._base_url = base_url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._keep = tuple(keep)
        self._cut_bytes = cut_bytes
        builder = ClientBuilder()
        if http2:
            # Over TLS too: without it the client does not even offer HTTP/2 when the connection is made.
            builder = builder.http2_prior_knowledge()
        if ca_pem is not None:
            builder = builder.add_root_certificate_pem(ca_pem)
        if connect_to is not None:
            builder = builder.resolve(*connect_to, 0)  # 0: the port of the address that is called
        self._client: Client = (
            builder.no_proxy()
            .follow_redirects(enable=False)
            .connect_timeout(dt.timedelta(seconds=connect_timeout_s))
            .timeout(dt.timedelta(seconds=timeout_s))
            .pool_idle_timeout(dt.timedelta(seconds=_IDLE_S))
            .default_headers(self._headers)
            .build()
        )

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply | NoReply:
        """Ask once, never again by itself, and never raise for what the network or the server does.

        `path` comes after the base address and may hold a query; `headers` are added to, or take the place of, those
        that every request has.
        """
        try:
            builder = self._client.request(method, self._base_url + path)
            if headers:
                builder = builder.headers(dict(headers))
            if body is not None:
                builder = builder.body_bytes(body)
            async with builder.build_streamed() as response:
                failpoint("http.answer_unread")
                received = await _read(response, self._cut_bytes)
                if received is None:
                    return NoReply(perhaps_sent=True, detail=f"answer longer than {_BODY_BYTES_MAX} bytes")
                retry_after_s = parse_retry_after(response.get_header("retry-after"))
                kept = {name: value for name in self._keep if (value := response.get_header(name)) is not None}
                return Reply(status=response.status, body=received, retry_after_s=retry_after_s, headers=kept)
        except PyreqwestError as error:
            return NoReply(perhaps_sent=_perhaps_sent(error), detail=_describe(error))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


async def _read(response: Response, cut_bytes: int) -> bytes | None:
    """Read the body up to `cut_bytes` if given, or give up (None) when it is longer than any honest answer."""
    chunks: list[bytes] = []
    length = 0
    while (chunk := await response.body_reader.read_chunk()) is not None:
        chunks.append(bytes(chunk))
        length += len(chunk)
        if 0 < cut_bytes <= length:
            return b"".join(chunks)[:cut_bytes]
        if length > _BODY_BYTES_MAX:
            return None
    return b"".join(chunks)


def judge(answered: Reply | NoReply) -> Verdict | bytes:
    """Say what an answer means for all messages of its request, or give the body if that says it (2xx)."""
    if isinstance(answered, NoReply):
        outcome = Outcome.UNKNOWN if answered.perhaps_sent else Outcome.NOT_SENT
        return Verdict(outcome=outcome, detail=answered.detail)
    status = answered.status
    if 200 <= status < 300:  # noqa: PLR2004 - the classes of RFC 9110 section 15
        return answered.body
    return Verdict(outcome=_outcome_of(status), detail=f"HTTP {status}", retry_after_s=answered.retry_after_s)


def _outcome_of(status: int) -> Outcome:
    """Translate a status that is no success (RFC 9110 section 15, RFC 6585 section 4)."""
    match status:
        case 429:
            return Outcome.THROTTLED
        case 401 | 402 | 403 | 404 | 405 | 407 | 410:
            # Key, account or address of the provider are wrong: no message would fare better, so it is not
            # the fault of this one's content and must not be held against it.
            return Outcome.CHANNEL_DOWN
        case 408:
            return Outcome.RETRY_LATER
        case _ if 400 <= status < 500:  # noqa: PLR2004 - as above
            return Outcome.REJECTED_CONTENT
        case _:
            # 5xx may come from a proxy after the provider had taken the messages; 3xx may be its way to say
            # done.
            return Outcome.UNKNOWN


def parse_retry_after(value: str | None) -> float:
    """Read a Retry-After header (RFC 9110 section 10.2.3) as seconds, at most 3,600; nonsense is 0."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    if not math.isfinite(seconds):
        return 0.0
    return min(max(seconds, 0.0), _RETRY_AFTER_S_MAX)


def _seconds_until(http_date: str) -> float:
    try:
        moment = email.utils.parsedate_to_datetime(http_date)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime.now(dt.UTC)).total_seconds()


def _causes(error: PyreqwestError) -> list[str]:
    if not isinstance(error, DetailedPyreqwestError):
        return []
    return [cause["message"] for cause in error.details.get("causes") or []]


def _perhaps_sent(error: PyreqwestError) -> bool:
    if isinstance(error, _ERRORS_BEFORE_CONNECTED):
        return False
    return _CAUSE_BEFORE_CONNECTED not in _causes(error)


def _describe(error: PyreqwestError) -> str:
    causes = [cause for cause in _causes(error) if not cause.startswith(_CAUSE_WITH_ADDRESS)]
    return ": ".join([error.message, *causes])[:_DETAIL_LENGTH_MAX]
