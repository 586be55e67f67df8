"""Writes one mail as the exact bytes that go over the wire, DKIM signature included.

The signature covers the bytes, so nothing may change them afterwards: everything is 7-bit (no relay needs to recode
it), lines end in CRLF, and the signature is made last.

Sources: RFC 5322 (form), RFC 6376 and RFC 8463 (DKIM), RFC 8058 (one-click unsubscribe), RFC 3834 (Auto-Submitted).
"""

import base64
import binascii
import datetime as dt
import email.policy
import email.utils
import html
import re
import string
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any, Final

import dkim  # type: ignore[import-untyped]
import idna
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from orderbell.channels.protocol import Outcome, Outgoing
from orderbell.errors import OrderBellError

# RFC 5321 section 4.5.3.1 counts octets.
_LOCAL_BYTES_MAX: Final = 64
_ADDRESS_BYTES_MAX: Final = 254
# RFC 5322 allows 998 characters a line, and these headers stand on one.
_URL_LENGTH_MAX: Final = 900
# RFC 8301 section 3.2: receivers must not accept less.
_RSA_BITS_MIN: Final = 1024
_ED25519_SEED_BYTES: Final = 32

# No quoted local parts and no address literals: nobody's mailbox needs them, and each has been a way to smuggle
# something past a parser.
_LOCAL: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_URL: Final = re.compile(r"https?://[!-~]+")
_PARAGRAPHS: Final = re.compile(r"\n[ \t]*\n\s*")

_SIGNED: Final = (
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "Auto-Submitted",
    "Feedback-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "X-Recipient-Tag",
    "MIME-Version",
    "Content-Type",
)
# What an encoded word begins with (RFC 2047). In a finished text it is no such thing, and must not be read as one.
_ENCODED_WORD: Final = "=?"
_PLAIN_WORDS_MAX: Final = 60
# Bytes for each character: a third letter of Chinese makes quoted-printable as long as base64.
_MOSTLY_ASCII: Final = 1.2
# Every paragraph finds its own direction from its first letter, and cannot reverse its neighbours.
_PAGE: Final = string.Template(
    """<!DOCTYPE html>
<html>
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>$title</title></head>
<body style="margin:0;padding:24px;background:#ffffff;color:#222222;font:16px/1.6 sans-serif">
<div style="max-width:560px;margin:0 auto">
$parts
</div>
</body>
</html>
"""
)
_PARAGRAPH: Final = '<p dir="auto" style="margin:0 0 16px;text-align:start;unicode-bidi:isolate">{}</p>'
_BUTTON: Final = (
    '<p style="margin:24px 0"><a href="{}" style="display:inline-block;padding:10px 20px;border-radius:4px;'
    'background:#1558d6;color:#ffffff;text-decoration:none"><bdi>{}</bdi></a></p>'
)
_FOOT: Final = '<p style="margin:24px 0 0;font-size:13px"><a href="{}" style="color:#666666"><bdi>{}</bdi></a></p>'


class LetterRefused(OrderBellError):
    """A message cannot be written as a mail; `outcome` says whether its text or its address is to blame."""

    def __init__(self, reason: str, outcome: Outcome = Outcome.REJECTED_CONTENT) -> None:
        super().__init__(reason)
        self.outcome = outcome


class _Verbatim(email.policy.Compat32):
    """Writes headers as they are, for they are finished here.

    The newer policies of the standard library decode encoded words when a header is set, and so let a subject such as
    `=?utf-8?q?=0D=0ABcc:x?=` make a header of its own. The older ones fold long addresses into words that nobody
    decodes there. And both take several times as long.
    """

    def fold_binary(self, name: str, value: Any) -> bytes:  # noqa: ANN401 - as in the standard library
        return f"{name}: {value}\r\n".encode()


_POLICY: Final = _Verbatim(linesep="\r\n")
# All of it said here: other libraries (Apprise is one) change what the standard library does with UTF-8 everywhere, and
# the quoted-printable words of a long header gain blanks.
_BASE64: Final = Charset("utf-8")
_BASE64.header_encoding = _BASE64.body_encoding = BASE64
_QUOTED: Final = Charset("utf-8")
_QUOTED.header_encoding, _QUOTED.body_encoding = BASE64, QP


class Mailbox(msgspec.Struct, frozen=True):
    """An address that was read: `address` as it stands on the wire, `international` if it needs SMTPUTF8 (RFC 6531)."""

    address: str
    international: bool = False

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.address.rpartition("@")[2]


def read_mailbox(text: str) -> Mailbox:
    """Read an address strictly; a domain that is not ASCII is written as IDNA does (RFC 5891).

    Raises:
        LetterRefused: it is no address (`Outcome.REJECTED_RECIPIENT`).
    """
    local, at, domain = text.rpartition("@")
    try:
        domain = idna.encode(domain, uts46=True).decode("ascii") if not domain.isascii() else domain
        length = len(local.encode()), len(f"{local}@{domain}".encode())
    except (idna.IDNAError, UnicodeError):
        raise LetterRefused("the address has a domain that cannot be", Outcome.REJECTED_RECIPIENT) from None
    labels = domain.split(".")
    sound = at and _LOCAL.fullmatch(local) and all(_LABEL.fullmatch(label) for label in labels)
    if not sound or length[0] > _LOCAL_BYTES_MAX or length[1] > _ADDRESS_BYTES_MAX:
        raise LetterRefused("this is no mail address", Outcome.REJECTED_RECIPIENT)
    return Mailbox(f"{local}@{domain}", international=not local.isascii())


class Letterhead(msgspec.Struct, frozen=True, kw_only=True):
    """What all mails of a shop have in common; `link_words` and `unsubscribe_words` are what stands on the links."""

    sender: Mailbox
    sender_name: str = ""
    reply_to: str = ""
    feedback_id: str = ""
    unsubscribe_mail: str = ""
    link_words: str = ""
    unsubscribe_words: str = ""

    def message_id(self, attempt_id: bytes) -> str:
        """The Message-ID of an attempt, brackets included."""
        return f"<{attempt_id.hex()}@{self.sender.domain}>"


def compose(outgoing: Outgoing, to: Mailbox, head: Letterhead, at: dt.datetime, tag: str = "") -> bytes:
    """Write a mail, unsigned.

    `tag` goes into a header of its own: it proves later, in a complaint, that this attempt went to this address.

    Raises:
        LetterRefused: a line break or control character in the subject, a link that is none, text that is no Unicode,
            or marketing without a way to unsubscribe.
    """
    _refuse(outgoing)
    # Base64 and quoted-printable lines cannot hold "=_", and the same attempt gives the same bytes.
    message = MIMEMultipart("alternative", boundary=f"=_{outgoing.attempt_id.hex()}", policy=_POLICY)
    message["From"] = _named(head.sender_name, head.sender.address)
    message["To"] = to.address
    message["Subject"] = _words("Subject", outgoing.subject)
    message["Date"] = email.utils.format_datetime(at)
    message["Message-ID"] = head.message_id(outgoing.attempt_id)
    message["Auto-Submitted"] = "auto-generated"
    if head.reply_to:
        message["Reply-To"] = head.reply_to
    if head.feedback_id:
        message["Feedback-ID"] = head.feedback_id
    if outgoing.unsubscribe:
        _offer_unsubscribe(message, outgoing.unsubscribe, head.unsubscribe_mail)
    if tag:
        message["X-Recipient-Tag"] = tag
    message.attach(_text_part("plain", _plain(outgoing, head)))
    message.attach(_text_part("html", _page(outgoing, head)))
    return message.as_bytes()


def _text_part(subtype: str, text: str) -> Message:
    """Write text in the encoding that is shorter: filters of spam do not like ASCII in base64."""
    charset = _QUOTED if len(text.encode()) < len(text) * _MOSTLY_ASCII else _BASE64
    text = "\r\n".join(text.splitlines()) + "\r\n"
    part = MIMEText(text, subtype, charset, policy=_POLICY)  # type: ignore[arg-type] # the stubs know no Charset here
    del part["MIME-Version"]
    return part


def holds_control(text: str) -> bool:
    """Tell whether a line of text holds a line break or any other control character."""
    return _CONTROL.search(text) is not None or len(f"{text}.".splitlines()) > 1


def _refuse(outgoing: Outgoing) -> None:
    words = (outgoing.subject, outgoing.text, outgoing.link, outgoing.unsubscribe)
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise LetterRefused("cannot be written as UTF-8") from None
    if holds_control(outgoing.subject):
        raise LetterRefused("the subject holds a line break or another control character")
    for name, url in (("link", outgoing.link), ("unsubscribe", outgoing.unsubscribe)):
        if url and (not _URL.fullmatch(url) or len(url) > _URL_LENGTH_MAX or "<" in url or ">" in url):
            raise LetterRefused(f"`{name}` is no http or https address of at most {_URL_LENGTH_MAX} characters")
    if outgoing.marketing and not outgoing.unsubscribe:
        raise LetterRefused("marketing without a way to unsubscribe")


def _words(header: str, text: str) -> str:
    """Write text for a header, encoded wherever it could be taken for anything else (RFC 2047)."""
    if text.isascii() and _ENCODED_WORD not in text and len(text) <= _PLAIN_WORDS_MAX and text == text.strip():
        return text
    return Header(text, _BASE64, header_name=header).encode(linesep="\r\n")


def _named(name: str, address: str) -> str:
    if not name:
        return address
    if name.isascii() and _ENCODED_WORD not in name:
        return f'"{email.utils.quote(name)}" <{address}>'
    return f"{_words('From', name)} <{address}>"


def _offer_unsubscribe(message: Message, url: str, mailbox: str) -> None:
    ways = [f"<{url}>"] + ([f"<mailto:{mailbox}>"] if mailbox else [])
    message["List-Unsubscribe"] = ", ".join(ways)
    # RFC 8058 section 3.1 wants https; without it, promising one click would be a lie.
    if url.startswith("https://"):
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"


def _plain(outgoing: Outgoing, head: Letterhead) -> str:
    parts = [outgoing.text.rstrip()]
    if outgoing.link and outgoing.link not in outgoing.text:
        parts.append(f"{head.link_words}\n{outgoing.link}".strip())
    if outgoing.unsubscribe and outgoing.unsubscribe not in outgoing.text:
        parts.append(f"{head.unsubscribe_words}\n{outgoing.unsubscribe}".strip())
    return "\n\n".join(parts) + "\n"


def _page(outgoing: Outgoing, head: Letterhead) -> str:
    paragraphs = _PARAGRAPHS.split("\n".join(outgoing.text.strip().splitlines()))
    parts = [_PARAGRAPH.format(html.escape(one).replace("\n", "<br>\n")) for one in paragraphs]
    if outgoing.link:
        parts.append(_BUTTON.format(html.escape(outgoing.link), html.escape(head.link_words or outgoing.link)))
    if outgoing.unsubscribe:
        words = head.unsubscribe_words or outgoing.unsubscribe
        parts.append(_FOOT.format(html.escape(outgoing.unsubscribe), html.escape(words)))
    return _PAGE.substitute(title=html.escape(outgoing.subject), parts="\n".join(parts))


class Signer:
    """Signs mails with one DKIM key.

    Args:
        domain: the signing domain (`d=`).
        selector: the name under which the public key stands in the DNS (`s=`).
        private_key: an RSA or Ed25519 key in PEM, or the 32 bytes of an Ed25519 key in base64.

    Raises:
        ValueError: the key cannot be read, is of another kind, or is too short.
    """

    def __init__(self, domain: str, selector: str, private_key: str) -> None:
        self.domain = domain.lower()
        self.selector = selector
        key = _read_key(private_key)
        encoding, raw = serialization.Encoding, serialization.PublicFormat.Raw
        if isinstance(key, Ed25519PrivateKey):
            self._algorithm, kind = b"ed25519-sha256", "ed25519"
            self._key = base64.b64encode(key.private_bytes_raw())
            public = key.public_key().public_bytes(encoding.Raw, raw)
        else:
            self._algorithm, kind = b"rsa-sha256", "rsa"
            form, closed = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            self._key = key.private_bytes(encoding.PEM, form, closed)
            form_of_public = serialization.PublicFormat.SubjectPublicKeyInfo
            public = key.public_key().public_bytes(encoding.DER, form_of_public)
        self.public_key = base64.b64encode(public).decode("ascii")
        self.record = f"v=DKIM1; k={kind}; p={self.public_key}"

    @property
    def name(self) -> str:
        """The name in the DNS under which the receivers look for the public key."""
        return f"{self.selector}._domainkey.{self.domain}"

    def sign(self, mail: bytes) -> bytes:
        """Give the mail with the signature in front; `From` is signed twice, so that no second one can be added."""
        present = {name.lower() for name in re.findall(rb"(?m)^([A-Za-z-]+):", mail.partition(b"\r\n\r\n")[0])}
        names = [name.encode() for name in _SIGNED if name.lower().encode() in present]
        signature: bytes = dkim.sign(
            mail,
            self.selector.encode(),
            self.domain.encode(),
            self._key,
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=self._algorithm,
            include_headers=[*names, b"From"],
        )
        return signature + mail


def _read_key(text: str) -> RSAPrivateKey | Ed25519PrivateKey:
    try:
        if "-----BEGIN" not in text:
            seed = base64.b64decode(text, validate=True)
            return Ed25519PrivateKey.from_private_bytes(seed[: _ED25519_SEED_BYTES + 1])
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        # What the library says might repeat the key.
        raise ValueError("the DKIM key is neither PEM nor 32 bytes in base64") from None
    if isinstance(key, RSAPrivateKey) and key.key_size >= _RSA_BITS_MIN:
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError(f"a DKIM key must be Ed25519, or RSA of at least {_RSA_BITS_MIN} bits")


def public_key_of(record: str) -> str | None:
    """Read the public key out of a DKIM record; None where it is no such record, empty where the key was withdrawn."""
    tags = dict[str, str]()
    for part in record.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags[name.strip()] = "".join(value.split())
    if tags.get("v", "DKIM1") != "DKIM1":
        return None
    return tags.get("p")
