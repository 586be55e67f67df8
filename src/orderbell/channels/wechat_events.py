"""What WeChat pushes to us: signatures, the safe mode's encryption, XML and JSON, and what the events mean.

WeChat signs the time and a random number in plain mode, but not the body; only the safe mode (an EncodingAESKey is
set) proves that the body is WeChat's. The secret part of the callback's address is what protects plain mode.

Source: developers.weixin.qq.com, "Message push", "Message encryption and decryption", "Template messages / event
push", "Subscribe to the event push for notifications".
"""

import base64
import datetime as dt
import hashlib
import hmac
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from orderbell.channels.protocol import Callback, CallbackRefused, Heard, Receipt
from orderbell.errors import SettingsInvalid

_AES_KEY_LENGTH: Final = 43
_BLOCK_BITS: Final = 256
_RANDOM_LENGTH: Final = 16
_HEAD_LENGTH: Final = _RANDOM_LENGTH + 4
_DEPTH_MAX: Final = 8
_REF_LENGTH_MAX: Final = 64
_DETAIL_LENGTH_MAX: Final = 200
_NUMBER_BITS_MAX: Final = 64
_FORBIDDEN: Final = 403

# Anything but "success" or an empty answer within five seconds is sent again, three times in all.
_SUCCESS: Final = b"success"
_PLAIN: Final = "text/plain"

_Fields = Mapping[str, object]


class EventReader:
    """Reads what WeChat pushes for one account.

    Args:
        appid: the account; in safe mode whatever is for another one is refused.
        token: the callback token set in the account's settings; empty: nothing is believed.
        aes_key: the EncodingAESKey of 43 characters; empty: plain mode.

    Raises:
        SettingsInvalid: the key is not one.
    """

    def __init__(self, *, appid: str, token: str, aes_key: str = "") -> None:
        self._appid = appid
        self._token = token
        self._key = read_aes_key(aes_key) if aes_key else b""

    def hear(self, callback: Callback) -> Heard:
        """Read one request: the check of the address (GET) or an event (POST).

        Raises:
            CallbackRefused: it is not WeChat's, not for this account, or cannot be read.
        """
        if not self._token:
            raise CallbackRefused("message_token is not set, so nothing from WeChat can be believed", _FORBIDDEN)
        query = callback.query
        moment, nonce = query.get("timestamp", ""), query.get("nonce", "")
        self._verify(query.get("signature", ""), moment, nonce)
        if callback.method == "GET":
            if not query.get("echostr"):
                raise CallbackRefused("echostr is missing")
            return Heard(answer=query["echostr"].encode("utf-8", "replace"), content_type=_PLAIN)
        fields = _parse(callback.body)
        if "Encrypt" in fields:
            fields = _parse(self._open(_word(fields, "Encrypt"), query.get("msg_signature", ""), moment, nonce))
        elif self._key:
            raise CallbackRefused("not encrypted, although encoding_aes_key is set: set the safe mode", _FORBIDDEN)
        return _mean(fields)

    def _open(self, encrypted: str, signature: str, moment: str, nonce: str) -> bytes:
        if not self._key:
            raise CallbackRefused("WeChat encrypts: set encoding_aes_key as in the account's settings", _FORBIDDEN)
        self._verify(signature, moment, nonce, encrypted)
        message, appid = decrypt(encrypted, self._key)
        if appid != self._appid:
            raise CallbackRefused("for another appid than the one configured", _FORBIDDEN)
        return message

    def _verify(self, signature: str, *signed: str) -> None:
        expected = sign(self._token, *signed)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise CallbackRefused("wrong signature: message_token is not the one in the account's settings", _FORBIDDEN)


def sign(*parts: str) -> str:
    """Sign as WeChat does: SHA-1 of the token and the other parts, sorted and joined."""
    joined = "".join(sorted(parts)).encode("utf-8", "replace")
    return hashlib.sha1(joined, usedforsecurity=False).hexdigest()


def read_aes_key(aes_key: str) -> bytes:
    """Read an EncodingAESKey: base64 of 32 bytes without the sign at its end.

    Raises:
        SettingsInvalid: it is not one.
    """
    try:
        key = base64.b64decode(aes_key + "=") if len(aes_key) == _AES_KEY_LENGTH and aes_key.isascii() else b""
    except ValueError:
        key = b""
    if len(key) * 8 != _BLOCK_BITS:
        raise SettingsInvalid("encoding_aes_key must be the 43 letters and digits of WeChat's EncodingAESKey")
    return key


def decrypt(encrypted: str, key: bytes) -> tuple[bytes, str]:
    """Open a message of the safe mode; gives it and the appid that it is for.

    AES-256 in CBC mode whose first vector is the beginning of the key; padded to blocks of 32 bytes (PKCS #7); inside
    are 16 random bytes, the length in 4 bytes, the message, the appid.

    Raises:
        CallbackRefused: it was not made so.
    """
    try:
        sealed = base64.b64decode(encrypted, validate=True)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(key[:_RANDOM_LENGTH])).decryptor()
        padded = decryptor.update(sealed) + decryptor.finalize()
        unpadder = PKCS7(_BLOCK_BITS).unpadder()
        plain = unpadder.update(padded) + unpadder.finalize()
        (length,) = struct.unpack_from(">I", plain, _RANDOM_LENGTH)
        end = _HEAD_LENGTH + length
        if end > len(plain):
            raise CallbackRefused("encrypted message is cut off")
        return plain[_HEAD_LENGTH:end], plain[end:].decode()
    except (ValueError, struct.error) as error:
        raise CallbackRefused(
            "cannot be decrypted: encoding_aes_key is not the one in the account's settings"
        ) from error


def _parse(body: bytes) -> _Fields:
    if not body.lstrip().startswith(b"{"):
        return parse_xml(body)
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
    except (ValueError, RecursionError) as error:
        raise CallbackRefused("unreadable JSON") from error
    return fields


def parse_xml(body: bytes) -> _Fields:
    """Read XML into what the JSON of the same event would be: repeated elements become a list.

    Documents with a DOCTYPE are refused, so there are no entities to expand; deep ones as well.

    Raises:
        CallbackRefused: it is not plain XML of WeChat's form.
    """
    builder = _TreeBuilder()
    # WeChat writes UTF-8; a declaration of another encoding is not followed.
    parser = expat.ParserCreate(encoding="utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(body, True)  # noqa: FBT003 - this is the whole; takes no names
    except (expat.ExpatError, ValueError) as error:
        raise CallbackRefused("unreadable XML") from error
    if not isinstance(builder.root, dict):
        raise CallbackRefused("XML without fields")
    return builder.root


class _TreeBuilder:
    """Builds the tree of a small document: an element is its text, or the fields in it."""

    def __init__(self) -> None:
        self.root: dict[str, object] | str = ""
        self._open: list[tuple[str, dict[str, object], list[str]]] = []

    def refuse(self, *_declared: object) -> None:
        raise CallbackRefused("XML with a DOCTYPE")

    def start(self, name: str, _attributes: object) -> None:
        if len(self._open) >= _DEPTH_MAX:
            raise CallbackRefused("XML too deep")
        self._open.append((name, {}, []))

    def text(self, text: str) -> None:
        self._open[-1][2].append(text)

    def end(self, _name: str) -> None:
        name, fields, texts = self._open.pop()
        value: dict[str, object] | str = fields or "".join(texts).strip()
        if not self._open:
            self.root = value
            return
        outer = self._open[-1][1]
        if name not in outer:
            outer[name] = value
            return
        known = outer[name]
        if isinstance(known, list):
            known.append(value)
        else:
            outer[name] = [known, value]


def _mean(fields: _Fields) -> Heard:
    """Say what an event means; those that are none of our business are only confirmed."""
    match fields.get("Event") if fields.get("MsgType") == "event" else None:
        case "TEMPLATESENDJOBFINISH":
            return _confirm(receipts=(_template_receipt(fields),))
        case "subscribe_msg_sent_event":
            items = _items(fields, "SubscribeMsgSentEvent")
            return _confirm(receipts=tuple(_subscribe_receipt(fields, item) for item in items))
        case "subscribe_msg_popup_event":
            return _confirm(grants=_granted(fields))
        case "subscribe_msg_change_event":
            return _confirm(grants=_taken_back(fields))
        case "unsubscribe":
            return _confirm(gone=(("wechat", _word(fields, "FromUserName")),))
        case _:
            return _confirm()


def _confirm(
    receipts: tuple[Receipt, ...] = (),
    grants: tuple[tuple[str, str, int], ...] = (),
    gone: tuple[tuple[str, str], ...] = (),
) -> Heard:
    return Heard(receipts=receipts, grants=grants, gone=gone, answer=_SUCCESS, content_type=_PLAIN)


def _template_receipt(fields: _Fields) -> Receipt:
    status = _word(fields, "Status")
    return _receipt(fields, _word(fields, "MsgID"), status, delivered=status == "success")


def _subscribe_receipt(fields: _Fields, item: _Fields) -> Receipt:
    code = _word(item, "ErrorCode")
    detail = f"{code} {_word(item, 'ErrorStatus', '')}".strip()
    return _receipt(fields, _word(item, "MsgID"), detail, delivered=code == "0")


def _receipt(fields: _Fields, ref: str, detail: str, *, delivered: bool) -> Receipt:
    return Receipt(b"", ref[:_REF_LENGTH_MAX], delivered, detail[:_DETAIL_LENGTH_MAX], _created_at(fields))


def _granted(fields: _Fields) -> tuple[tuple[str, str, int], ...]:
    """Count what was allowed: `accept`, or a longer word that begins with it (with sound, with a reminder)."""
    to = _word(fields, "FromUserName")
    counts = Counter(
        _word(item, "TemplateId")
        for item in _items(fields, "SubscribeMsgPopupEvent")
        if _word(item, "SubscribeStatusString").startswith("accept")
    )
    return tuple((to, template, count) for template, count in counts.items())


def _taken_back(fields: _Fields) -> tuple[tuple[str, str, int], ...]:
    """Read who turned off which template; turning it on again does not bring grants back."""
    to = _word(fields, "FromUserName")
    return tuple(
        (to, _word(item, "TemplateId"), 0)
        for item in _items(fields, "SubscribeMsgChangeEvent")
        if _word(item, "SubscribeStatusString") == "reject"
    )


def _items(fields: _Fields, holder: str) -> list[_Fields]:
    """Find the items of an event.

    XML has them as `<List>` inside an element of the event's name, JSON as `List` or under that name, and in both a
    single one is no list.
    """
    found = fields.get(holder, fields.get("List"))
    if isinstance(found, dict) and "List" in found:
        found = found["List"]
    return [_as_item(item) for item in (found if isinstance(found, list) else [found])]


def _as_item(item: object) -> _Fields:
    if not isinstance(item, dict):
        raise CallbackRefused("an item of the event's list cannot be read")
    return item


def _word(fields: _Fields, name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if isinstance(value, str) and (value or default is not None):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _NUMBER_BITS_MAX:
        return str(value)
    raise CallbackRefused(f"{name} is missing or cannot be read")


def _created_at(fields: _Fields) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(int(_word(fields, "CreateTime")), dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise CallbackRefused("CreateTime cannot be read") from error
