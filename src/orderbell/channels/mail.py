"""Mail over SMTP: one message for each recipient, handed to a relay of the shop's choice, signed here if it has a key.

A lost answer leaves an attempt unknown for good: nobody can be asked, only a bounce can tell
(`orderbell.channels.bounces`). And no bounce is no proof of delivery: `MailChannel.confirms_delivery`.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Literal

import dns.asyncresolver
import dns.exception
import dns.resolver
import msgspec

from orderbell.channels.bounces import BounceListener, BounceReader, Tags
from orderbell.channels.letters import (
    Letterhead,
    LetterRefused,
    Mailbox,
    Signer,
    compose,
    holds_control,
    public_key_of,
    read_mailbox,
)
from orderbell.channels.protocol import (
    Answer,
    Callback,
    CallbackRefused,
    ChannelUnavailable,
    Finding,
    Heard,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    ReceiptsBy,
    Recovery,
    Shared,
    Veiled,
)
from orderbell.channels.smtp import CLOSING, Line, Lost, Refusal, Refused, Relay, Stage, outcome_of

_DETAIL_LENGTH_MAX: Final = 200
_DNS_WITHIN_S: Final = 5.0
_BOUNCE_KEY_LENGTH_MIN: Final = 16
_PORT_MAX: Final = 65_535
_ID_LENGTH: Final = 16
# So many addresses in a row must be refused by policy before it is about us and not about them.
_POLICY_REFUSALS_MAX: Final = 3
_HOST: Final = re.compile(r"[!-~]+")
# After these a connection is not used again; what they say holds for the next message as well.
_ENDS_CONNECTION: Final = frozenset({Outcome.NOT_SENT, Outcome.UNKNOWN, Outcome.THROTTLED, Outcome.CHANNEL_DOWN})

ResolveTxt = Callable[[str], Awaitable[list[str]]]
"""Gives the TXT records of a name, none if there are none; raises ChannelUnavailable if nobody could be asked."""


class DkimKey(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that mails are signed with: see `orderbell.channels.letters.Signer`."""

    domain: str
    selector: str
    private_key: str


class MailOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures for mail.

    `host`, `port`, `tls`, `username` and `password` are those of the relay; `ca_pem` is an authority to trust besides
    those of the system; `hello_name` is what we call ourselves, by default the domain of `from_address`.

    `dkim` may hold two keys, RSA and Ed25519 (RFC 8463 section 3). With `bounce_domain` and `bounce_key` (a secret of
    at least 16 characters) each mail is sent from an address of its own, to which bounces return; `bounce_listen`
    (`0.0.0.0:25`) makes us the mail server of that domain. `feedback_id` goes
    into the header of that name, `unsubscribe_mail` is a second way to unsubscribe for marketing mail, besides the
    link.

    `link_words` stand on the button, `unsubscribe_words` on the link below. `connections_max` connections at most are
    open at a time. `connect_timeout_s` is for connecting, TLS and login together; `timeout_s` for handing the message
    over and once more for the answer to it. `slow_down_s` is how long to wait when the relay asks us to slow down, for
    which SMTP has no time of its own. `per_second` limits the messages, 0 is no limit.
    """

    host: str
    from_address: str
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_pem: str = ""
    username: str = ""
    password: str = ""
    hello_name: str = ""
    from_name: str = ""
    reply_to: str = ""
    dkim: tuple[DkimKey, ...] = ()
    bounce_domain: str = ""
    bounce_mailbox: str = "bounces"
    bounce_key: str = ""
    bounce_listen: str = ""
    feedback_id: str = ""
    unsubscribe_mail: str = ""
    link_words: str = "查看详情"
    unsubscribe_words: str = "退订"
    connections_max: int = 5
    connect_timeout_s: float = 10.0
    timeout_s: float = 30.0
    slow_down_s: float = 60.0
    price_millifen: int = 0
    per_second: float = 0.0


class _Letter(msgspec.Struct, frozen=True):
    """A message ready for the wire."""

    to: Mailbox
    sender: str
    raw: bytes


async def resolve_txt(name: str) -> list[str]:
    """Ask the DNS for the TXT records of a name; the strings of a record are put together (RFC 6376 section 3.6.2.2).

    Raises:
        ChannelUnavailable: nobody could be asked.
    """
    try:
        found = await dns.asyncresolver.resolve(name, "TXT", lifetime=_DNS_WITHIN_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise ChannelUnavailable(f"the DNS could not be asked: {type(error).__name__}") from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in found]


class MailChannel(Provider):
    """A mail relay behind the `Channel` protocol.

    Args:
        options: what the shop configured.
        name: name in the ledger.
        now: the clock, aware UTC.
        shared: not needed, a relay has no tokens.

    Raises:
        ValueError: an option makes no sense; the message names it.
    """

    confirms_delivery = False
    """Receipts mostly tell of failures; a mail without any may well have arrived."""

    def __init__(
        self, options: MailOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared | None = None
    ) -> None:
        if options.connections_max < 1:
            raise ValueError("`connections_max` must be 1 or more")
        if min(options.connect_timeout_s, options.timeout_s) <= 0:
            raise ValueError("`connect_timeout_s` and `timeout_s` must be above 0")
        self.name = name
        self.carries = frozenset({"email"})
        self.batch_max = 50
        self.price_millifen = options.price_millifen
        self.recovery = Recovery.NONE
        self.receipts_by = ReceiptsBy.CALLBACK
        self.limits = Limits(per_second=options.per_second)
        self.resolve_txt: ResolveTxt = resolve_txt
        self._options = options
        self._now = now
        sender = _configured_mailbox(options)
        self._head = Letterhead(
            sender=sender,
            sender_name=options.from_name,
            reply_to=options.reply_to,
            feedback_id=options.feedback_id,
            unsubscribe_mail=options.unsubscribe_mail,
            link_words=options.link_words,
            unsubscribe_words=options.unsubscribe_words,
        )
        self._signers = [Signer(key.domain, key.selector, key.private_key) for key in options.dkim]
        self._tags = _make_tags(options)
        self._listen = _read_listen(options)
        self.bounces = BounceReader(self._tags, sender.domain, now)
        self._relay = _make_relay(options, sender)
        self._slots = asyncio.Semaphore(options.connections_max)
        self._refused_by_policy: set[str] = set()

    def ref_of(self, first: bytes, outgoing: Outgoing) -> str:
        """See `Channel.ref_of`: the Message-ID."""
        return self._head.message_id(outgoing.attempt_id)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`: several connections share the batch, and each is used for as many messages as it takes.

        A connection that fails takes itself out; what the others cannot take over is given back unsent.
        """
        answers: dict[int, Answer] = {}
        waiting = deque(enumerate(batch))
        troubles: list[Answer] = []
        workers = min(len(batch), self._options.connections_max)
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(waiting, answers, troubles))
        for place, outgoing in waiting:
            answers[place] = _left_over(outgoing, troubles[-1])
        return [answers[place] for place in range(len(batch))]

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`: a mail that came back is posted as it is to `.../bounces`.

        A mail server that knows the recipient of its envelope may name it: `.../bounces?to=bounces+...`.
        """
        if callback.kind != "bounces" or callback.method != "POST":
            raise CallbackRefused("bounces are posted to `bounces`", 404)
        named = callback.query.get("to", "")
        return self.bounces.read(callback.body, [named] if named else [])

    @contextlib.asynccontextmanager
    async def listening(self, tell: Callable[[Heard], Awaitable[None]]) -> AsyncIterator[None]:
        """See `Channel.listening`: the mail server of the bounce domain, where `bounce_listen` is set."""
        if self._listen is None:
            yield
            return
        listener = BounceListener(self.bounces, tell, host_name=self._options.bounce_domain)
        async with listener.listening(*self._listen):
            yield

    async def check(self) -> list[Finding]:
        """See `Channel.check`: connect, TLS, login, NOOP; then the DKIM keys in the DNS and whether they fit `From`."""
        findings = [await self._check_relay()]
        if self._options.password and self._options.tls == "none" and not _is_loopback(self._options.host):
            findings.append(Finding(fine=False, words="the password crosses the network in clear: set `tls`"))
        findings += [await self._check_key(signer) for signer in self._signers]
        findings.append(self._check_alignment())
        return findings

    async def _work(
        self, waiting: deque[tuple[int, Outgoing]], answers: dict[int, Answer], troubles: list[Answer]
    ) -> None:
        async with self._slots:
            line = Line(self._relay)
            try:
                while waiting:
                    place, outgoing = waiting.popleft()
                    answers[place] = answer = await self._send_one(line, outgoing)
                    if line.broken or answer.outcome in _ENDS_CONNECTION:
                        troubles.append(answer)
                        break
                await line.hang_up()
            finally:
                line.drop()

    async def _send_one(self, line: Line, outgoing: Outgoing) -> Answer:
        try:
            letter = await asyncio.to_thread(self._write, outgoing)
        except LetterRefused as refused:
            return Answer(outgoing.attempt_id, refused.outcome, detail=str(refused))
        international = letter.to.international or self._head.sender.international
        while True:
            try:
                await line.ready()
                await line.hand_over(letter.sender, letter.to, letter.raw, international=international)
            except (Lost, Refused) as trouble:
                again = line.used and _had_enough(trouble)
                if again or not _is_in_step(trouble):
                    line.drop()
                if again:
                    continue
                return self._answer_of(outgoing, letter, trouble)
            self._refused_by_policy.clear()
            return Answer(outgoing.attempt_id, Outcome.ACCEPTED, self._head.message_id(outgoing.attempt_id))

    def _write(self, outgoing: Outgoing) -> _Letter:
        """Write and sign a message; in a thread, for an RSA signature takes several milliseconds."""
        if len(outgoing.attempt_id) != _ID_LENGTH:
            raise LetterRefused("an attempt id has 16 bytes")
        to = read_mailbox(outgoing.to)
        tag, sender = "", self._head.sender.address
        if self._tags is not None:
            tag = self._tags.recipient_tag(outgoing.attempt_id, to.address)
            sender = self._tags.bounce_address(outgoing.attempt_id)
        raw = compose(outgoing, to, self._head, self._now(), tag)
        for signer in self._signers:
            raw = signer.sign(raw)
        return _Letter(to, sender, raw)

    def _answer_of(self, outgoing: Outgoing, letter: _Letter, trouble: Lost | Refused) -> Answer:
        detail = str(trouble)[:_DETAIL_LENGTH_MAX]
        if isinstance(trouble, Lost):
            outcome = Outcome.UNKNOWN if trouble.after_dot else Outcome.NOT_SENT
            return Answer(outgoing.attempt_id, outcome, detail=detail)
        judged = outcome_of(trouble.stage, trouble.code, trouble.words)
        outcome = self._judge_policy(letter, trouble.stage) if isinstance(judged, Refusal) else judged
        wait_s = self._options.slow_down_s if outcome is Outcome.THROTTLED else 0.0
        return Answer(outgoing.attempt_id, outcome, detail=detail, retry_after_s=wait_s)

    def _judge_policy(self, letter: _Letter, stage: Stage) -> Outcome:
        """Tell a policy against us from one about a single address or text: by what others fare.

        The address is never blamed for good, for tomorrow the policy may be another.
        """
        if len(self._refused_by_policy) < _POLICY_REFUSALS_MAX:
            self._refused_by_policy.add(letter.to.address)
        if len(self._refused_by_policy) >= _POLICY_REFUSALS_MAX:
            return Outcome.CHANNEL_DOWN
        return Outcome.REJECTED_CONTENT if stage is Stage.CONTENT else Outcome.RETRY_LATER

    async def _check_relay(self) -> Finding:
        where = f"{self._options.host}:{self._options.port}"
        line = Line(self._relay)
        try:
            await line.ready()
            await line.ask()
        except Lost as lost:
            return Finding(fine=False, words=f"{where} cannot be reached ({lost}): check `host`, `port` and `tls`")
        except Refused as refused:
            wrong = "`username` and `password`" if refused.stage is Stage.LOGIN else "account, `tls` and `hello_name`"
            return Finding(fine=False, words=f"{where} refuses us ({refused}): check {wrong}")
        finally:
            await line.hang_up()
        return Finding(fine=True, words=f"{where} answers and takes us, TLS: {self._options.tls}")

    async def _check_key(self, signer: Signer) -> Finding:
        try:
            records = await self.resolve_txt(signer.name)
        except ChannelUnavailable as unavailable:
            return Finding(fine=True, words=f"the DKIM key at {signer.name} was not checked: {unavailable}")
        keys = [key for record in records if (key := public_key_of(record)) is not None]
        if signer.public_key in keys:
            return Finding(fine=True, words=f"the DKIM key at {signer.name} is ours")
        trouble = "there is none" if not keys else "it was withdrawn" if keys == [""] else "it is another"
        return Finding(fine=False, words=f"the DKIM key at {signer.name}: {trouble}; publish TXT {signer.record}")

    def _check_alignment(self) -> Finding:
        """Tell whether DMARC would see the signature as that of `From` (RFC 7489 section 3.1.1, relaxed)."""
        ours = self._head.sender.domain.lower()
        if not self._signers:
            words = f"mail is not signed here: see to it that the relay signs for {ours} (or set `dkim`)"
            return Finding(fine=True, words=words)
        domains = [signer.domain for signer in self._signers]
        if any(ours == one or ours.endswith(f".{one}") or one.endswith(f".{ours}") for one in domains):
            return Finding(fine=True, words=f"the signature of {domains[0]} stands for mail from {ours}")
        words = f"a signature of {', '.join(domains)} says nothing about mail from {ours}: DMARC will fail"
        return Finding(fine=False, words=words)


def _left_over(outgoing: Outgoing, trouble: Answer) -> Answer:
    """What holds for a message that nobody could hand over any more: it was surely not sent."""
    outcome = Outcome.NOT_SENT if trouble.outcome is Outcome.UNKNOWN else trouble.outcome
    return Answer(outgoing.attempt_id, outcome, detail=trouble.detail, retry_after_s=trouble.retry_after_s)


def _configured_mailbox(options: MailOptions) -> Mailbox:
    for name in ("from_name", "reply_to", "feedback_id", "unsubscribe_mail", "hello_name", "bounce_mailbox"):
        if holds_control(getattr(options, name)):
            raise ValueError(f"`{name}` holds a line break or another control character")
    try:
        if options.reply_to:
            read_mailbox(options.reply_to)
        if options.unsubscribe_mail:
            read_mailbox(options.unsubscribe_mail)
        return read_mailbox(options.from_address)
    except LetterRefused as refused:
        raise ValueError(f"`from_address`, `reply_to` or `unsubscribe_mail`: {refused}") from None


def _make_tags(options: MailOptions) -> Tags | None:
    if not options.bounce_domain:
        return None
    if len(options.bounce_key) < _BOUNCE_KEY_LENGTH_MIN:
        raise ValueError(f"`bounce_key` must have {_BOUNCE_KEY_LENGTH_MIN} characters or more")
    tags = Tags(options.bounce_key, options.bounce_mailbox, options.bounce_domain)
    try:
        read_mailbox(tags.bounce_address(bytes(_ID_LENGTH)))
    except LetterRefused as refused:
        raise ValueError(f"`bounce_mailbox` and `bounce_domain`: {refused}") from None
    return tags


def _read_listen(options: MailOptions) -> tuple[str, int] | None:
    if not options.bounce_listen:
        return None
    host, _, port = options.bounce_listen.rpartition(":")
    if not options.bounce_domain:
        raise ValueError("`bounce_listen` needs `bounce_domain` and `bounce_key`")
    if not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise ValueError("`bounce_listen` is an address and a port, such as `0.0.0.0:25`")
    return host.strip("[]"), int(port)


def _make_relay(options: MailOptions, sender: Mailbox) -> Relay:
    hello_name = options.hello_name or sender.domain
    for name, value in (("host", options.host), ("hello_name", hello_name)):
        if not _HOST.fullmatch(value):
            raise ValueError(f"`{name}` is no name of a host")
    context = None
    if options.tls != "none":
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cadata=options.ca_pem) if options.ca_pem else None
        except (ssl.SSLError, ValueError):
            raise ValueError("`ca_pem` holds no certificate") from None
    return Relay(
        host=options.host,
        port=options.port,
        tls=options.tls,
        context=context,
        username=options.username,
        password=options.password,
        hello_name=hello_name,
        connect_timeout_s=options.connect_timeout_s,
        timeout_s=options.timeout_s,
    )


def _is_in_step(trouble: Lost | Refused) -> bool:
    """Tell whether the next reply would surely be the one to the next command."""
    return isinstance(trouble, Refused) and 200 <= trouble.code < 600  # noqa: PLR2004 - the replies of RFC 5321


def _had_enough(trouble: Lost | Refused) -> bool:
    """Tell whether the relay only wants no more over this connection; surely the message was not taken."""
    if isinstance(trouble, Lost):
        return not trouble.after_dot
    return trouble.code == CLOSING and trouble.stage is not Stage.CONTENT


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
