"""Reads what comes back after a mail was accepted: bounces, confirmations, complaints, and all kinds of noise.

What a mail is about is taken from the address that it came to: every mail is sent from an address of its own,
`bounces+<attempt>-<tag>@bounce.domain` (VERP), whose tag nobody else can make. Many bounces say nothing else that a
program could read. Whether it failed is taken from the delivery status (RFC 3464), and only where there is none from
the looks of the mail. Complaints are feedback reports (RFC 5965).

An address is only given up as gone when the returned headers hold the tag that our mail to this very address had:
otherwise whoever got one mail of ours could silence anybody.
"""

import asyncio
import contextlib
import datetime as dt
import email
import email.header
import email.utils
import hashlib
import hmac
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from email.message import Message
from typing import Final

import msgspec
import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from orderbell.channels.protocol import CallbackRefused, Heard, Receipt
from orderbell.serving import bind

log = structlog.get_logger(__name__)

RAW_BYTES_MAX: Final = 1024 * 1024
_TAG_LENGTH: Final = 16
# A bounce comes for one address; more are an attempt to get the same mail read many times.
_RECIPIENTS_MAX: Final = 10
_IDLE_S: Final = 60.0
# A mail takes a handful of commands; nobody needs to stay for hundreds.
_COMMANDS_MAX: Final = 100
# Relays give up after a week at the latest.
_REPORT_AGE_MAX: Final = dt.timedelta(days=30)
_DETAIL_LENGTH_MAX: Final = 200
# The report stands at the beginning; what follows is the returned mail. The parser of the standard library takes time
# by lines times depth, so both are cut before it starts.
_LINES_MAX: Final = 10_000
_MULTIPARTS_MAX: Final = 20
_ADDRESSES_MAX: Final = 50

_RECIPIENT_HEADERS: Final = ("X-Original-To", "Delivered-To", "Envelope-To", "X-Envelope-To", "To")
_ADDRESS: Final = re.compile(r"[^\s<>,;:\"'()]+@[^\s<>,;:\"'()]+")
_TAGGED: Final = re.compile(r"(?P<mailbox>[^+@]+)\+(?P<attempt>[0-9a-f]{32})-(?P<tag>[0-9a-f]{16})@(?P<domain>[^@]+)")
_MESSAGE_ID: Final = re.compile(r"<(?P<attempt>[0-9a-f]{32})@(?P<domain>[^<>@\s]+)>")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")

_FAILED: Final = frozenset({"failed"})
_ARRIVED: Final = frozenset({"delivered", "relayed", "expanded"})
# RFC 3463 and 7505: no such mailbox, no such host, bad syntax, moved away, takes no mail. A full or locked mailbox and
# refusals by policy are about today.
_GONE_STATUSES: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})

_POSTMASTERS: Final = re.compile(r"(mailer-daemon|postmaster|mail-daemon|mailerdaemon)@", re.IGNORECASE)
_BOUNCE_SUBJECT: Final = re.compile(
    r"undeliver|non-?deliver|not delivered|could not be delivered|returned mail|mail delivery|delivery (status|fail)"
    r"|failure notice|退信|系统退信|无法投递|投递失败",
    re.IGNORECASE,
)
_DELAY_SUBJECT: Final = re.compile(r"delay|warning|still being retried|延迟|推迟", re.IGNORECASE)
_STATUS_IN_TEXT: Final = re.compile(r"\b([45]\.\d{1,3}\.\d{1,3})\b")
_CODE_IN_TEXT: Final = re.compile(r"^.*\b[45]\d\d[ -].*$", re.MULTILINE)


class Tags:
    """Makes and checks the tags that only we can make.

    Args:
        key: the secret behind them.
        mailbox: what stands before the + of the bounce address.
        domain: the bounce domain, whose MX leads to whoever passes the bounces on.
    """

    def __init__(self, key: str, mailbox: str, domain: str) -> None:
        self._key = key.encode()
        self._mailbox = mailbox.lower()
        self._domain = domain.lower()

    def bounce_address(self, attempt_id: bytes) -> str:
        """The envelope sender of an attempt."""
        return f"{self._mailbox}+{attempt_id.hex()}-{self._tag(b'bounce', attempt_id)}@{self._domain}"

    def recipient_tag(self, attempt_id: bytes, to: str) -> str:
        """The tag that says that this attempt went to this address."""
        return self._tag(b"recipient", attempt_id + to.lower().encode("utf-8", "replace"))

    def is_recipient_tag(self, tag: str, attempt_id: bytes, to: str) -> bool:
        """Tell whether a tag is the one of this attempt and this address."""
        return hmac.compare_digest(tag.encode("utf-8", "replace"), self.recipient_tag(attempt_id, to).encode())

    def attempt_of(self, address: str) -> bytes | None:
        """The attempt of a bounce address; None if it is no address of ours.

        Raises:
            CallbackRefused: it looks like one, and its tag is wrong.
        """
        found = _TAGGED.fullmatch(address.lower())
        if found is None or (found["mailbox"], found["domain"]) != (self._mailbox, self._domain):
            return None
        attempt_id = bytes.fromhex(found["attempt"])
        if not hmac.compare_digest(found["tag"], self._tag(b"bounce", attempt_id)):
            raise CallbackRefused("the tag of the bounce address is wrong", 403)
        return attempt_id

    def _tag(self, purpose: bytes, about: bytes) -> str:
        return hmac.new(self._key, b"orderbell " + purpose + b"\0" + about, hashlib.sha256).hexdigest()[:_TAG_LENGTH]


class _Returned(msgspec.Struct, frozen=True):
    """What the returned headers of our mail say: nothing of it is proven yet."""

    attempt_id: bytes
    to: str
    tag: str


class _Status(msgspec.Struct, frozen=True):
    """What one block of a delivery status says about one recipient."""

    action: str
    code: str
    words: str
    recipients: tuple[str, ...]


class BounceReader:
    """Reads mails that came back.

    Args:
        tags: ours, or None where mails are sent without tags: then the returned Message-ID is believed.
        domain: the domain of our Message-IDs.
        now: the clock, aware UTC.
    """

    def __init__(self, tags: Tags | None, domain: str, now: Callable[[], dt.datetime]) -> None:
        self._tags = tags
        self._domain = domain.lower()
        self._now = now

    def knows(self, recipient: str) -> bool:
        """Tell whether a mail to this address can be about one of ours."""
        try:
            return self._tags is not None and self._tags.attempt_of(recipient) is not None
        except CallbackRefused:
            return False

    def read(self, raw: bytes, recipients: Sequence[str] = ()) -> Heard:
        """Read a mail; `recipients` are those of its envelope, where they are known.

        A receipt for a bounce or a confirmation, a complaint, and nothing for delays, answering machines and what
        cannot be told.

        Raises:
            CallbackRefused: it cannot be read, names no mail of ours, or its tag is forged.
        """
        if len(raw) > RAW_BYTES_MAX:
            raise CallbackRefused(f"longer than {RAW_BYTES_MAX} bytes", 413)
        if raw.lower().count(b"boundary") > _MULTIPARTS_MAX:
            raise CallbackRefused("nested too deeply")
        beginning = b"\n".join(raw.split(b"\n", _LINES_MAX)[:_LINES_MAX])
        try:
            return self._read(email.message_from_bytes(beginning), recipients)
        except CallbackRefused:
            raise
        except Exception as error:  # noqa: BLE001 - on hostile input the parser raises whatever comes to its mind
            raise CallbackRefused(f"cannot be read as a mail: {type(error).__name__}") from None

    def _read(self, mail: Message, recipients: Sequence[str]) -> Heard:
        parts = list(mail.walk())
        returned = self._returned(parts)
        attempt_id = self._attempt_of(mail, recipients, returned)
        proven = "" if returned is None else self._proven(attempt_id, returned, _claimed(parts))
        if any(part.get_content_type() == "message/feedback-report" for part in parts):
            return self._complaint(attempt_id, proven)
        statuses = [status for part in parts for status in _statuses(part)]
        if attempt_id is None:
            raise CallbackRefused("names no mail of ours")
        if statuses:
            return self._report(mail, attempt_id, statuses, proven)
        if _is_bounce(mail):
            return Heard(receipts=(self._receipt(mail, attempt_id, _words_of(mail), delivered=False),))
        return Heard()

    def _attempt_of(self, mail: Message, recipients: Sequence[str], returned: _Returned | None) -> bytes | None:
        """Which attempt it is about: by the address it came to, or else by the returned headers if they prove it."""
        if self._tags is None:
            return None if returned is None else returned.attempt_id
        headers = [str(value) for name in _RECIPIENT_HEADERS for value in mail.get_all(name, [])]
        addresses = [*recipients, *_addresses(headers)]
        forged: CallbackRefused | None = None
        for address in addresses[:_ADDRESSES_MAX]:
            try:
                attempt_id = self._tags.attempt_of(address)
            except CallbackRefused as refused:
                forged = refused
                continue
            if attempt_id is not None:
                return attempt_id
        if forged is not None:
            raise forged
        if returned is not None and self._tags.is_recipient_tag(returned.tag, returned.attempt_id, returned.to):
            return returned.attempt_id
        return None

    def _returned(self, parts: Sequence[Message]) -> _Returned | None:
        """Find the headers of our mail, which a report returns as a message or as a text of headers (RFC 6522)."""
        for part in parts[1:]:
            headers = part
            if part.get_content_type() == "text/rfc822-headers":
                text = part.get_payload(decode=True)
                headers = email.message_from_bytes(text if isinstance(text, bytes) else b"")
            found = _MESSAGE_ID.fullmatch(str(headers.get("Message-ID", "")).strip().lower())
            if found and found["domain"] == self._domain:
                to = next(iter(_addresses([str(headers.get("To", ""))])), "")
                tag = str(headers.get("X-Recipient-Tag", "")).strip()
                return _Returned(bytes.fromhex(found["attempt"]), to, tag)
        return None

    def _proven(self, attempt_id: bytes | None, returned: _Returned, claimed: Sequence[str]) -> str:
        """The address to which our mail surely went, or nothing."""
        if self._tags is None:
            return ""
        if attempt_id is not None and attempt_id != returned.attempt_id:
            return ""
        for to in [returned.to, *claimed][:_ADDRESSES_MAX]:
            if self._tags.is_recipient_tag(returned.tag, returned.attempt_id, to):
                return to
        return ""

    def _complaint(self, attempt_id: bytes | None, proven: str) -> Heard:
        if proven and attempt_id is not None:
            return Heard(complaints=(attempt_id,))
        if attempt_id is None:
            raise CallbackRefused("a complaint that names no mail of ours")
        return Heard()

    def _report(self, mail: Message, attempt_id: bytes, statuses: Sequence[_Status], proven: str) -> Heard:
        failed = next((status for status in statuses if status.action in _FAILED), None)
        arrived = next((status for status in statuses if status.action in _ARRIVED), None)
        told = failed or arrived
        if told is None:
            return Heard()
        detail = " ".join(word for word in (told.code, told.words) if word) or told.action
        gone = failed is not None and failed.code in _GONE_STATUSES and proven != ""
        return Heard(receipts=(self._receipt(mail, attempt_id, detail, delivered=failed is None, gone=gone),))

    def _receipt(
        self, mail: Message, attempt_id: bytes, detail: str, *, delivered: bool, gone: bool = False
    ) -> Receipt:
        return Receipt(
            attempt_id=attempt_id,
            provider_ref=f"<{attempt_id.hex()}@{self._domain}>",
            delivered=delivered,
            detail=_CONTROLS.sub(" ", detail).strip()[:_DETAIL_LENGTH_MAX],
            at=self._time_of(mail),
            gone=gone,
        )

    def _time_of(self, mail: Message) -> dt.datetime:
        """When the mail says that it was written, unless that is nonsense or to come."""
        now = self._now()
        try:
            written = email.utils.parsedate_to_datetime(str(mail.get("Date", "")))
            if written.tzinfo is None:
                written = written.replace(tzinfo=dt.UTC)
            written = min(written.astimezone(dt.UTC), now)
        except (ValueError, OverflowError):
            return now
        return written if now - written < _REPORT_AGE_MAX else now


def _addresses(headers: Iterable[str]) -> list[str]:
    return [found for header in headers for found in _ADDRESS.findall(header)[:_ADDRESSES_MAX]]


def _typed(block: Message, name: str) -> str:
    """Read a field such as `rfc822; a@b.example` or `smtp; 550 5.1.1 no such user` without its type (RFC 3464)."""
    return str(block.get(name, "")).partition(";")[2].strip()


def _statuses(part: Message) -> list[_Status]:
    """Read the blocks of a delivery status; those without an action are about the report and not about a recipient."""
    if part.get_content_type() not in {"message/delivery-status", "message/global-delivery-status"}:
        return []
    blocks = part.get_payload()
    if not isinstance(blocks, list):
        return []
    return [
        _Status(
            action=str(block["Action"]).strip().lower().partition(" ")[0],
            code=str(block.get("Status", "")).strip().partition(" ")[0],
            words=_typed(block, "Diagnostic-Code"),
            recipients=tuple(_addresses([_typed(block, "Original-Recipient"), _typed(block, "Final-Recipient")])),
        )
        for block in blocks
        if isinstance(block, Message) and block.get("Action")
    ]


def _claimed(parts: Sequence[Message]) -> list[str]:
    """Every address that a report claims to be about."""
    claimed = [address for part in parts for status in _statuses(part) for address in status.recipients]
    for part in parts:
        # The parser reads the fields of a feedback report as the headers of a message inside it.
        blocks = part.get_payload() if part.get_content_type() == "message/feedback-report" else []
        for block in blocks if isinstance(blocks, list) else []:
            if not isinstance(block, Message):
                continue
            for name in ("Original-Rcpt-To", "Removal-Recipient"):
                claimed += _addresses(str(value) for value in block.get_all(name, []))
    return claimed


def _is_bounce(mail: Message) -> bool:
    """Tell a bounce without a delivery status from an answering machine (RFC 3834) and from a note of a delay."""
    if "replied" in str(mail.get("Auto-Submitted", "")).lower() or mail.get("X-Autoreply") or mail.get("X-Autorespond"):
        return False
    subject = str(mail.get("Subject", ""))
    with contextlib.suppress(ValueError, LookupError):
        subject = str(email.header.make_header(email.header.decode_header(subject)))
    if _DELAY_SUBJECT.search(subject):
        return False
    from_machine = _POSTMASTERS.search(str(mail.get("From", ""))) is not None
    return bool(from_machine or mail.get("X-Failed-Recipients") or _BOUNCE_SUBJECT.search(subject))


def _words_of(mail: Message) -> str:
    """What a bounce in free text says: the line with the code of the refusal if there is one."""
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
            line = _CODE_IN_TEXT.search(text) or _STATUS_IN_TEXT.search(text)
            if line:
                return line[0].strip()
    return str(mail.get("Subject", "")) or "returned without a reason"


class BounceListener:
    """The mail server of the bounce domain: its MX may lead straight here, no other mail server is needed.

    It takes mail for bounce addresses with a right tag and for nobody else, so that there is nothing to be gained from
    it for spammers; what it cannot read is refused, what cannot be stored right now is asked for again (451).

    Args:
        reader: reads the mails, as `MailChannel.bounces`.
        tell: stores what was heard; it is called before the mail is confirmed, and may raise.
        host_name: how the server calls itself.
        tls: offers STARTTLS if given.
    """

    def __init__(
        self,
        reader: BounceReader,
        tell: Callable[[Heard], Awaitable[None]],
        *,
        host_name: str = "localhost",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._reader = reader
        self._tell = tell
        self._host_name = host_name
        self._tls = tls
        self._sessions: list[SMTP] = []

    @contextlib.asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        """Listen for as long as the block lasts; gives the port.

        Raises:
            OSError: the port is taken or not allowed.
        """
        # The library logs every line of every session, addresses included.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        # Several web processes may share the port.
        server = await asyncio.get_running_loop().create_server(self._meet, sock=bind(host, port, shared=True))
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for session in self._sessions:
                if session.transport is not None:
                    session.transport.close()
            await server.wait_closed()

    async def handle_RCPT(  # noqa: N802 - the name of the command
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a bounce address of ours."""
        if not self._reader.knows(address):
            return "550 5.1.1 No such mailbox here"
        if len(envelope.rcpt_tos) >= _RECIPIENTS_MAX:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Read a mail and pass on what it says."""
        raw = envelope.original_content or b""
        try:
            heard = [self._reader.read(raw, [recipient]) for recipient in envelope.rcpt_tos]
        except CallbackRefused as refused:
            return f"550 5.6.0 {refused}"
        for one in heard:
            await self._tell(one)
        return "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Ask for the mail again, whatever went wrong: it is all that tells of the failure."""
        log.error("a bounce could not be stored", error=type(error).__name__)
        return "451 4.3.0 Try again later"

    def _meet(self) -> SMTP:
        self._sessions = [session for session in self._sessions if session.transport is not None]
        session = SMTP(
            self,
            data_size_limit=RAW_BYTES_MAX,
            enable_SMTPUTF8=True,
            hostname=self._host_name,
            ident="ESMTP",
            tls_context=self._tls,
            auth_exclude_mechanism=["LOGIN", "PLAIN"],
            timeout=_IDLE_S,
            command_call_limit=_COMMANDS_MAX,
            loop=asyncio.get_running_loop(),
        )
        self._sessions.append(session)
        return session
