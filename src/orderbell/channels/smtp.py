"""The conversation with a mail relay: one connection, one message at a time, and what each of its refusals means.

Until the dot that ends a message has been written, the relay must not deliver it (RFC 5321 section 4.1.1.4). So
everything that breaks before it is surely not sent, and only a lost answer after it is unknown.

Codes are read with their enhanced status (RFC 3463 and its registry), which is what the relay means; the bare code is
only looked at where there is none.
"""

import asyncio
import contextlib
import re
import ssl
from enum import Enum
from typing import Final, Literal

import msgspec
from aiosmtplib import SMTP
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected

from orderbell.channels.letters import Mailbox
from orderbell.channels.protocol import Outcome
from orderbell.errors import OrderBellError
from orderbell.observe import failpoint

_QUIT_WITHIN_S: Final = 1.0
_COMPLETED: Final = 250
_START_INPUT: Final = 354
CLOSING: Final = 421
# No code of the relay: it said nothing, but does not offer what we must have (STARTTLS, or a login that we speak).
_LACKS: Final = 0

_DOTS: Final = re.compile(rb"(?m)^\.")
_ENHANCED: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]+")


class Stage(Enum):
    """How far a conversation with a relay has come; the values are for people."""

    CONNECT = "connecting"
    LOGIN = "login"
    SENDER = "sender"
    RECIPIENT = "recipient"
    DATA = "before the message"
    CONTENT = "message"


class Refusal(Enum):
    """A refusal whose meaning hangs on what the relay does with others."""

    POLICY = "policy"


# RFC 7372 (DKIM, SPF, reverse DNS), RFC 4954 (login), RFC 7505 (sender without MX), and the registry of RFC 5248.
_ABOUT_US: Final = frozenset(
    {"5.1.7", "5.1.8", "5.7.3", "5.7.8", "5.7.9", "5.7.10", "5.7.11", "5.7.13", "5.7.14"}
    | {"5.7.20", "5.7.21", "5.7.22", "5.7.23", "5.7.24", "5.7.25", "5.7.26", "5.7.27", "5.7.28", "5.7.29"}
)
_ABOUT_US_CODES: Final = frozenset({530, 534, 535, 538})
# RFC 7293: the mailbox or its domain has another owner now.
_OTHER_OWNER: Final = frozenset({"5.7.17", "5.7.18"})
# RFC 6531: addresses that are not ASCII.
_NOT_ASCII: Final = frozenset({"5.6.7", "5.6.8"})
_TOO_LARGE: Final = frozenset({"5.2.3", "5.3.4"})
_MAILBOX_FULL: Final = "5.2.2"
_NO_PROTOCOL: Final = frozenset({500, 502, 503, 504, 555})
_NO_MAILBOX: Final = frozenset({501, 521, 550, 551, 553, 556})
_STORAGE_EXCEEDED: Final = 552
_TRANSACTION_FAILED: Final = 554
# Tencent's mail services say so with 550 and without a status.
_TOO_QUICK: Final = re.compile(
    r"(frequency|rate) limit|too (fast|frequent)|too many (connections|messages|mails)", re.IGNORECASE
)
_POLICY_WORDS: Final = re.compile(
    r"relay|spam|block(ed|ed using|list)|blacklist|polic(y|ies)|authenticat", re.IGNORECASE
)


def outcome_of(stage: Stage, code: int, words: str) -> Outcome | Refusal:
    """Say what a refusal means; `words` are the text of the reply, with the enhanced status if there is one.

    A code that RFC 5321 does not know is never success: unknown after the message, otherwise it was not taken.
    """
    if code == CLOSING or (code >= 500 and _TOO_QUICK.search(words)):  # noqa: PLR2004 - the classes of RFC 5321
        return Outcome.THROTTLED
    if code == _LACKS:
        return Outcome.CHANNEL_DOWN
    if not 400 <= code < 600:  # noqa: PLR2004 - as above
        return Outcome.UNKNOWN if stage is Stage.CONTENT else Outcome.RETRY_LATER
    if code < 500:  # noqa: PLR2004 - as above
        return Outcome.RETRY_LATER
    found = _ENHANCED.search(words)
    status = found[1] if found and found[1].startswith("5") else ""
    if stage in {Stage.CONNECT, Stage.LOGIN} or status in _ABOUT_US or code in _ABOUT_US_CODES:
        return Outcome.CHANNEL_DOWN
    if stage is Stage.SENDER:
        return _outcome_at_sender(code, status)
    return _outcome_of_status(status) or _outcome_of_code(stage, code, words)


def _outcome_at_sender(code: int, status: str) -> Outcome:
    if status in _TOO_LARGE or code == _STORAGE_EXCEEDED:
        return Outcome.REJECTED_CONTENT
    return Outcome.REJECTED_RECIPIENT if status in _NOT_ASCII else Outcome.CHANNEL_DOWN


def _outcome_of_status(status: str) -> Outcome | Refusal | None:
    """Judge by the enhanced status; None where it leaves the matter to the code."""
    if status == _MAILBOX_FULL:
        return Outcome.RETRY_LATER
    if status in _TOO_LARGE:
        return Outcome.REJECTED_CONTENT
    if status in _OTHER_OWNER | _NOT_ASCII:
        return Outcome.REJECTED_RECIPIENT
    match status.split(".")[1:2]:
        case ["1" | "2" | "4"]:
            return Outcome.REJECTED_RECIPIENT
        case ["3"]:
            # Trouble of the system and not of the address: it must not be suppressed for that.
            return Outcome.RETRY_LATER
        case ["6"]:
            return Outcome.REJECTED_CONTENT
        case ["7"]:
            return Refusal.POLICY
        case _:
            return None


def _outcome_of_code(stage: Stage, code: int, words: str) -> Outcome | Refusal:
    if code in _NO_PROTOCOL and stage is not Stage.CONTENT:
        return Outcome.CHANNEL_DOWN
    if stage is Stage.CONTENT:
        return Outcome.REJECTED_CONTENT
    if _POLICY_WORDS.search(words) or code == _TRANSACTION_FAILED:
        return Refusal.POLICY
    if code in _NO_MAILBOX and stage is Stage.RECIPIENT:
        return Outcome.REJECTED_RECIPIENT
    return Outcome.RETRY_LATER


class Refused(OrderBellError):
    """The relay said no."""

    def __init__(self, stage: Stage, code: int, words: str) -> None:
        super().__init__(f"{stage.value}: {code} {words}" if code else f"{stage.value}: {words}")
        self.stage, self.code, self.words = stage, code, words


class Lost(OrderBellError):
    """The connection broke or stood still; `after_dot` tells whether the message may have been taken."""

    def __init__(self, detail: str, *, after_dot: bool = False) -> None:
        super().__init__(detail)
        self.after_dot = after_dot


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """A relay and how we come to it; `context` is None where there is no TLS."""

    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    context: ssl.SSLContext | None
    username: str
    password: str
    hello_name: str
    connect_timeout_s: float
    timeout_s: float


class Line:
    """One connection to the relay at a time.

    `used` tells whether an earlier message went over it: if the relay drops such a connection, it had enough of it,
    which says nothing about the next. `broken` tells that no new one could be made.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._smtp: SMTP | None = None
        # A message that was refused half-way has left its sender and recipient behind.
        self._unfinished = False
        self.used = False
        self.broken = False

    async def ready(self) -> None:
        """Have a connection, the one of before if it is still good.

        Raises:
            Refused: the relay does not want us.
            Lost: it cannot be reached.
        """
        if self._smtp is not None and self._smtp.is_connected and await self._start_afresh(self._smtp):
            self.used = True
            return
        self.drop()
        self.broken = True
        self._smtp = await self._open()
        self.broken = False

    async def hand_over(self, sender: str, to: Mailbox, raw: bytes, *, international: bool) -> None:
        """Hand one message over; `international` if an address of it needs SMTPUTF8.

        Raises:
            Refused: the relay said no.
            Lost: the connection broke or stood still.
        """
        smtp = self._smtp
        if smtp is None:
            raise Lost("not connected")
        self._unfinished = True
        if international and not smtp.supports_extension("smtputf8"):
            raise Refused(Stage.RECIPIENT, 553, "5.6.7 the relay cannot take addresses that are not ASCII")
        await self._announce(smtp, sender, to, international=international)
        try:
            protocol = smtp.protocol
            if protocol is None:
                raise Lost("the connection was closed before the message")
            protocol.write(_DOTS.sub(b"..", raw) + b".\r\n")
        except SMTPServerDisconnected as error:
            raise Lost(f"the connection was closed before the message: {error}") from None
        try:
            reply = await protocol.read_response(timeout=self._relay.timeout_s)
        except SMTPResponseException as error:
            raise Lost(f"the answer cannot be read: {self._words(error.message)}", after_dot=True) from None
        except (SMTPServerDisconnected, OSError) as error:
            raise Lost(f"after the message: {type(error).__name__}: {error}", after_dot=True) from None
        failpoint("smtp.answer_unread")
        if reply.code != _COMPLETED:
            raise Refused(Stage.CONTENT, reply.code, self._words(reply.message))
        self._unfinished = False

    async def ask(self) -> None:
        """Ask for nothing (NOOP).

        Raises:
            Refused: the relay said no.
            Lost: the connection broke or stood still.
        """
        try:
            if self._smtp is not None:
                await self._smtp.noop()
        except SMTPResponseException as error:
            raise Refused(Stage.CONNECT, error.code, self._words(error.message)) from None
        except (SMTPServerDisconnected, OSError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from None

    def drop(self) -> None:
        """Close the connection without a word."""
        if self._smtp is not None:
            self._smtp.close()
        self._smtp = None
        self._unfinished = self.used = False

    async def hang_up(self) -> None:
        """Say goodbye if there is still somebody to say it to."""
        if self._smtp is not None and self._smtp.is_connected:
            with contextlib.suppress(SMTPException, OSError):
                async with asyncio.timeout(_QUIT_WITHIN_S):
                    await self._smtp.quit()
        self.drop()

    async def _start_afresh(self, smtp: SMTP) -> bool:
        """Have the relay forget the last message; False if it does not answer to that."""
        if not self._unfinished:
            return True
        with contextlib.suppress(SMTPException, OSError):
            async with asyncio.timeout(self._relay.timeout_s):
                await smtp.rset()
            return True
        return False

    async def _announce(self, smtp: SMTP, sender: str, to: Mailbox, *, international: bool) -> None:
        """Name sender and recipient, and be told to go on."""
        options, encoding = (["SMTPUTF8"], "utf-8") if international else ([], "ascii")
        stage = Stage.SENDER
        try:
            async with asyncio.timeout(self._relay.timeout_s):
                await smtp.mail(sender, options=options, encoding=encoding)
                stage = Stage.RECIPIENT
                await smtp.rcpt(to.address, encoding=encoding)
                stage = Stage.DATA
                reply = await smtp.execute_command(b"DATA")
        except SMTPResponseException as error:
            raise Refused(stage, error.code, self._words(error.message)) from None
        except (SMTPServerDisconnected, OSError) as error:
            raise Lost(f"{stage.value}: {type(error).__name__}: {error}") from None
        if reply.code != _START_INPUT:
            raise Refused(stage, reply.code, self._words(reply.message))

    async def _open(self) -> SMTP:
        relay = self._relay
        smtp = SMTP(
            hostname=relay.host,
            port=relay.port,
            local_hostname=relay.hello_name,
            timeout=relay.timeout_s,
            use_tls=relay.tls == "implicit",
            start_tls=relay.tls == "starttls",
            tls_context=relay.context,
        )
        stage = Stage.CONNECT
        try:
            async with asyncio.timeout(relay.connect_timeout_s):
                await smtp.connect()
                await smtp.ehlo()
                if relay.username:
                    stage = Stage.LOGIN
                    await _log_in(smtp, relay.username, relay.password)
        except BaseException as error:
            smtp.close()
            if isinstance(error, SMTPResponseException):
                raise Refused(stage, error.code, self._words(error.message)) from None
            if isinstance(error, (SMTPServerDisconnected, OSError, UnicodeError)):
                raise Lost(f"{stage.value}: {type(error).__name__}: {self._words(str(error))}") from None
            if isinstance(error, SMTPException):
                raise Refused(stage, _LACKS, self._words(error.message)) from None
            raise
        return smtp

    def _words(self, text: str) -> str:
        """The relay's words on one line, without our password should it repeat it."""
        if self._relay.password:
            text = text.replace(self._relay.password, "***")
        return _CONTROLS.sub(" ", text).strip()


async def _log_in(smtp: SMTP, username: str, password: str) -> None:
    """Log in once: to try every way that the relay offers looks like an attack, and locks accounts."""
    offered = smtp.server_auth_methods
    if "plain" in offered:
        await smtp.auth_plain(username, password)
    elif "login" in offered:
        await smtp.auth_login(username, password)
    elif "cram-md5" in offered:
        await smtp.auth_crammd5(username, password)
    else:
        raise SMTPException("the relay offers no login by password; perhaps only after TLS")
