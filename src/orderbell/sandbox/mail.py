"""Pretends to be a mail relay: takes mail over SMTP, delivers none, and sends the bounces and complaints of real ones.

Besides the faults of every simulator it can refuse at each step of the conversation with any reply:

- `replies` maps a step (`greeting`, `EHLO`, `MAIL`, `RCPT`, `DATA` or `content`, the last being after the message) to
  the whole reply, such as `550 5.7.1 Relaying denied`; after a 421 the connection is closed.
- `recipients` maps an address to the reply that it gets.
- `fail_with` is the reply that every message gets.
- `messages_per_connection_max` closes connections that have brought so many.

Faults: `refuse` answers 451 after the message, `throttle` 421 to MAIL, `error_body` 299 after the message.

What comes back goes to `callback_url` (posted as it is, as a mail server pipes it to `curl`) or by SMTP to `bounce_mx`.
A relay tells of failures only; with `reports_success` it confirms deliveries as well (RFC 3464, Action: delivered).
"""

import asyncio
import contextlib
import datetime as dt
import email
import email.utils
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import AnyStr, Final

import aiosmtplib
import dkim  # type: ignore[import-untyped]
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from aiosmtplib.errors import SMTPException

from orderbell.sandbox.ledger import Delivery
from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, Taken, utc_now

_HOST_NAME: Final = "relay.sandbox.invalid"
_BYTES_MAX: Final = 10 * 1024 * 1024
_IDLE_S: Final = 300.0
_CLOSING: Final = "421"
_REPORT_WITHIN_S: Final = 5.0

FindKey = Callable[[bytes], bytes]
"""Gives the DKIM record of a name, as the DNS would."""


class _Session(SMTP):
    """A session whose greeting can be a refusal."""

    greeting = ""
    brought = 0

    async def push(self, status: AnyStr) -> None:
        """Send a reply; the first is the greeting."""
        refusal, self.greeting = self.greeting, ""
        if refusal:
            await super().push(refusal)
        else:
            await super().push(status)
        if refusal or str(status).startswith(_CLOSING):
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection once everything has been sent."""
        if self.transport is not None:
            self.transport.close()


class MailSimulator(Simulator):
    """A relay of the sandbox; `async with simulator.serving_smtp() as port` runs it.

    Args:
        clock: tells the time as aware UTC.
        callback_url: where bounces are posted.
        bounce_mx: host and port of the mail server that takes bounces, instead.
        username: of the login; without one, everybody may send.
        password: of the login.
        tls: offers STARTTLS, and then no login without it; None: speaks in clear.
        implicit_tls: speaks TLS from the first byte, as on port 465.
        find_key: if given, only mail with a DKIM signature that its keys verify is taken.
    """

    def __init__(
        self,
        *,
        clock: Clock = utc_now,
        callback_url: str = "",
        bounce_mx: tuple[str, int] | None = None,
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        find_key: FindKey | None = None,
    ) -> None:
        super().__init__(clock=clock, callback_url=callback_url)
        self.bounce_mx = bounce_mx
        self.replies: dict[str, str] = {}
        self.recipients: dict[str, str] = {}
        self.fail_with = ""
        self.reports_success = False
        self.messages_per_connection_max = 0
        self.accepts_utf8 = True
        self.connection_count = 0
        self.login = (username.encode(), password.encode())
        self._tls = tls
        self._implicit = implicit_tls
        self._find_key = find_key
        self._sessions: list[_Session] = []

    async def answer(self, asked: Asked) -> Answered:
        """Answer HTTP: there is nothing, a relay speaks SMTP."""
        return Answered(404)

    @contextlib.asynccontextmanager
    async def serving_smtp(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        """Listen for as long as the block lasts; gives the port.

        Raises:
            OSError: the port is taken or not allowed.
        """
        # The library logs every line of every session, and warns of logins without TLS, which are meant here.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        context = self._tls if self._implicit else None
        server = await asyncio.get_running_loop().create_server(self._meet, host, port, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await self.close()
            for session in self._sessions:
                session.hang_up()
            await server.wait_closed()

    def _meet(self) -> _Session:
        self.connection_count += 1
        self._sessions = [session for session in self._sessions if session.transport is not None]
        session = _Session(
            self,
            data_size_limit=_BYTES_MAX,
            enable_SMTPUTF8=self.accepts_utf8,
            hostname=_HOST_NAME,
            ident="ESMTP",
            tls_context=None if self._implicit else self._tls,
            auth_require_tls=self._tls is not None and not self._implicit,
            authenticator=self._authenticate,
            timeout=_IDLE_S,
            loop=asyncio.get_running_loop(),
        )
        session.greeting = self.replies.get("greeting", "")
        self._sessions.append(session)
        return session

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        right = (given.login, given.password) == self.login
        return AuthResult(success=right, handled=False, auth_data=given)

    async def handle_EHLO(  # noqa: N802 - the name of the command
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Greet; offer a login only where there are accounts."""
        if refusal := self.replies.get("EHLO"):
            return [refusal]
        session.host_name = hostname
        return [line for line in responses if self.login[0] or not line.startswith("250-AUTH")]

    async def handle_MAIL(  # noqa: N802 - as above
        self, server: _Session, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender."""
        if self.login[0] and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if self.dice.strikes(self.faults.throttle):
            return "421 4.7.0 Too many messages, slow down"
        server.brought += 1
        if 0 < self.messages_per_connection_max < server.brought:
            return "421 4.7.0 Too many messages over this connection"
        if refusal := self.replies.get("MAIL"):
            return refusal
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - as above
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient."""
        if refusal := self.recipients.get(address) or self.replies.get("RCPT"):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        """Take a message, unless something is the matter with it or with us."""
        if refusal := self._refusal(envelope):
            return refusal
        raw = envelope.original_content or b""
        mail = email.message_from_bytes(raw)
        to = envelope.rcpt_tos[0]
        message_id = str(mail["Message-ID"]).strip()
        taken = self.keep(message_id, to, _text_of(mail), raw=raw, sender=envelope.mail_from or "")
        self._tell_fate(taken)
        if self.faults.slow_ms:
            await self._wait(self.faults.slow_ms / 1000)
        if self.dice.strikes(self.faults.timeout_after_accept):
            await self._closing.wait()
        if self.dice.strikes(self.faults.cut_after_accept) and isinstance(server.transport, asyncio.WriteTransport):
            server.transport.write(b"25")
            server.transport.close()
            await self._closing.wait()
        return "250 2.0.0 OK: queued"

    async def bounce(
        self,
        taken: Taken,
        status: str = "5.1.1",
        words: str = "550 5.1.1 No such user here",
        *,
        action: str = "failed",
    ) -> None:
        """Send a delivery status (RFC 3464); `action` is failed, delayed, delivered, relayed or expanded."""
        await self._send_back(taken, delivery_status(taken, action, status, words, self.clock()).as_bytes())

    async def complain(self, taken: Taken, to: str = "") -> None:
        """Send a complaint of the recipient (RFC 5965), to the address of bounces or to another."""
        await self._send_back(taken, feedback_report(taken, self.clock()).as_bytes(), to)

    async def answer_automatically(self, taken: Taken) -> None:
        """Send what an answering machine sends (RFC 3834)."""
        reply = EmailMessage()
        reply["From"], reply["To"], reply["Subject"] = taken.to, taken.fields["sender"], "Auto: 休假中"
        reply["Auto-Submitted"], reply["In-Reply-To"] = "auto-replied", taken.ref
        reply.set_content("Until Monday 550 5.1.1 colleagues look after my mail.")
        await self._send_back(taken, reply.as_bytes())

    def _refusal(self, envelope: Envelope) -> str:
        if self.dice.strikes(self.faults.refuse):
            return "451 4.3.0 Temporary trouble, try again later"
        if self.dice.strikes(self.faults.error_body):
            return "299 2.9.9 What is this"
        if self.fail_with or "content" in self.replies:
            return self.fail_with or self.replies["content"]
        raw = envelope.original_content or b""
        head = raw.partition(b"\r\n\r\n")[0].lower()
        if any(
            head.count(b"\r\n" + name) + head.startswith(name) != 1 for name in (b"from:", b"date:", b"message-id:")
        ):
            return "550 5.6.0 A message has one From, one Date and one Message-ID"
        if self._find_key is not None and not self._is_signed(raw):
            return "550 5.7.20 No passing DKIM signature found"
        return ""

    def _is_signed(self, raw: bytes) -> bool:
        def ask(name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - dkimpy calls it so
            return None if self._find_key is None else self._find_key(name)

        return bool(dkim.verify(raw, dnsfunc=ask))

    def _tell_fate(self, taken: Taken) -> None:
        if taken.delivery is Delivery.FAILED:
            self.later(self.bounce(taken))
        elif taken.delivery is Delivery.DELIVERED and self.reports_success:
            self.later(self.bounce(taken, "2.0.0", "250 2.0.0 OK", action="delivered"))

    async def _send_back(self, taken: Taken, raw: bytes, to: str = "") -> None:
        if self.bounce_mx is None:
            if self.callback_url:
                await self.call(raw, "message/rfc822")
            return
        host, port = self.bounce_mx
        with contextlib.suppress(SMTPException, OSError):
            client = aiosmtplib.SMTP(
                hostname=host, port=port, local_hostname=_HOST_NAME, start_tls=False, timeout=_REPORT_WITHIN_S
            )
            async with client:
                # Reports have no sender, so that nobody ever reports about a report (RFC 5321 section 4.5.5).
                await client.sendmail("", [to or taken.fields["sender"]], raw)


def _text_of(mail: Message) -> str:
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            text = part.get_payload(decode=True)
            return text.decode("utf-8", "replace") if isinstance(text, bytes) else ""
    return ""


def delivery_status(taken: Taken, action: str, status: str, words: str, at: dt.datetime) -> Message:
    """Write a delivery status notification about a message that was taken (RFC 3464, RFC 6522)."""
    report = MIMEMultipart("report")
    report.set_param("report-type", "delivery-status")
    _address_report(report, taken, f"Delivery status: {action}", at)
    report.attach(MIMEText(f"The message to <{taken.to}>: {action}.\n\n{words}\n"))
    about_recipient = {"Final-Recipient": f"rfc822; {taken.to}", "Action": action, "Status": status}
    blocks: list[Message | str] = [
        _block({"Reporting-MTA": f"dns; {_HOST_NAME}"}),
        _block({**about_recipient, "Diagnostic-Code": f"smtp; {words}"}),
    ]
    report.attach(_part("message/delivery-status", blocks))
    report.attach(_part("text/rfc822-headers", _headers_of(taken)))
    return report


def feedback_report(taken: Taken, at: dt.datetime) -> Message:
    """Write a complaint about a message that was taken (RFC 5965)."""
    report = MIMEMultipart("report")
    report.set_param("report-type", "feedback-report")
    _address_report(report, taken, "FW: complaint", at)
    report.attach(MIMEText("This is an email abuse report for a message.\n"))
    fields = {"Feedback-Type": "abuse", "User-Agent": "OrderBellSandbox/1.0", "Version": "1"}
    report.attach(_part("message/feedback-report", [_block({**fields, "Original-Rcpt-To": f"<{taken.to}>"})]))
    report.attach(_part("message/rfc822", _with_unix_lines(taken.fields["raw"])))
    return report


def _address_report(report: Message, taken: Taken, subject: str, at: dt.datetime) -> None:
    report["From"] = f"Mail Delivery System <MAILER-DAEMON@{_HOST_NAME}>"
    report["To"] = taken.fields["sender"]
    report["Subject"] = subject
    report["Date"] = email.utils.format_datetime(at)
    report["Auto-Submitted"] = "auto-generated"


def _part(content_type: str, content: str | list[Message | str]) -> Message:
    # The classes of the standard library would read a returned mail first, and write it anew.
    part = Message()
    part["Content-Type"] = content_type
    part.set_payload(content)
    return part


def _block(fields: dict[str, str]) -> Message:
    block = Message()
    for name, value in fields.items():
        block[name] = value
    return block


def _with_unix_lines(raw: bytes) -> str:
    return raw.decode("ascii", "surrogateescape").replace("\r\n", "\n")


def _headers_of(taken: Taken) -> str:
    return _with_unix_lines(taken.fields["raw"].partition(b"\r\n\r\n")[0]) + "\n"
