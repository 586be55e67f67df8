"""A WeChat that listens on this machine: tokens, the three endpoints for messages, and what WeChat pushes.

It keeps to WeChat's rules: `stable_token` hands out the same token until its last five minutes, every value is held
against the rule of its key (47003), subscribe messages use up a permission each (43101), and a `client_msg_id` is
known for ten minutes. What happened is pushed in plain XML, in encrypted XML (safe mode) or in JSON.
"""

import base64
import datetime as dt
import hashlib
import re
import secrets
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from orderbell.sandbox.ledger import Delivery
from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, Taken, utc_now

_TOKEN_LIFETIME: Final = dt.timedelta(hours=2)
_TOKEN_OVERLAP: Final = dt.timedelta(minutes=5)
_FORCED_PER_DAY_MAX: Final = 20
_FORCED_APART: Final = dt.timedelta(seconds=30)
_KEY_WINDOW: Final = dt.timedelta(minutes=10)
_TELLINGS_MAX: Final = 3
_OK: Final = 200

# Above 2**53: who reads the number as a double loses its last digits.
_FIRST_MSGID: Final = 1_988_810_812_324_364_291
_STRANGE_CODE: Final = 99_999
_BEIJING: Final = dt.timezone(dt.timedelta(hours=8))

_SENDING: Final = {
    "/cgi-bin/message/template/send": "template",
    "/cgi-bin/message/subscribe/bizsend": "subscribe",
    "/cgi-bin/message/subscribe/send": "mini",
}
_MESSAGES: Final = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40003: "invalid openid",
    40013: "invalid appid",
    40014: "invalid access_token",
    40037: "invalid template_id",
    40125: "invalid appsecret",
    40164: "invalid ip 203.0.113.7, not in whitelist",
    41001: "access_token missing",
    41030: "invalid page",
    42001: "access_token expired",
    43002: "require POST method",
    43004: "require subscribe",
    43019: "require remove blacklist",
    43101: "user refuse to accept the msg",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit, must slower, retry next minute",
    45065: "clientmsgid exist",
    47001: "data format error",
    48001: "api unauthorized",
}

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_TIME: Final = r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?"
_DATE: Final = r"\d{4}(年\d{1,2}月\d{1,2}日|-\d{1,2}-\d{1,2}|/\d{1,2}/\d{1,2}|\.\d{1,2}\.\d{1,2})"
_RULES: Final = {
    "thing": r"[^\x00-\x1f]{1,20}",
    "number": r"(?=.{1,32}$)[0-9]+(\.[0-9]+)?",
    "letter": r"[A-Za-z]{1,32}",
    "symbol": rf"[^0-9A-Za-z\s{_HAN}]{{1,5}}",
    "character_string": r"[!-~]{1,32}",
    "time": rf"({_DATE} ?)?({_TIME})?(~({_DATE} ?)?({_TIME})?)?",
    "date": rf"{_DATE}( ?{_TIME})?(~({_DATE})?( ?{_TIME})?)?",
    "amount": r"[¥$€£₩]?[0-9]{1,10}(\.[0-9]+)?元?",
    "phone_number": r"[0-9+\-()#*]{1,17}",
    "car_number": rf"[{_HAN}A-Z0-9][A-Z0-9]{{0,6}}[{_HAN}A-Z0-9]?",
    "name": rf"[^0-9{_HAN}]{{1,20}}|[^0-9]{{1,10}}",
    "phrase": rf"[{_HAN}]{{1,5}}",
    "const": r".{0,20}",
}

Push = Literal["xml", "safe", "json"]


class _Refused(Exception):
    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class WeChatSimulator(Simulator):
    """One WeChat account: official account and mini-program in one.

    `fail_with` is an errcode for every message, `fail_token_with` one for every request for a token; `grants` are the
    permissions that people gave, by openid and template; `not_following` and `blacklisted` are openids; `pages` are
    the pages of the mini-program, none: any. `repeat_code` is what a repeated `client_msg_id` is answered with, next
    to the msgid of the first: the manual does not say. `refused_pushes` counts events that nobody confirmed.
    `takes_any_template` is for templates that are not in `templates`: then they have the keys that come.

    Args:
        appid: the account.
        secret: its secret.
        templates: the keys of each template id.
        callback_url: where events are pushed to.
        callback_token: what they are signed with.
        encoding_aes_key: what they are encrypted with in safe mode, 43 characters.
        push: the form of the events.
        per_minute: calls for messages in one minute (45011); 0: any number.
        per_day: the same for one day (45009).
        clock: tells the time as aware UTC.
    """

    def __init__(
        self,
        *,
        appid: str = "wx5823bf96d3bd56c7",
        secret: str = "sandbox-secret",  # noqa: S107 - of an account that exists here only
        templates: Mapping[str, Sequence[str]],
        callback_url: str = "",
        callback_token: str = "",
        encoding_aes_key: str = "",
        push: Push = "xml",
        per_minute: int = 0,
        per_day: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(clock=clock, callback_url=callback_url)
        self.appid, self.secret, self.templates = appid, secret, templates
        self.callback_token, self.encoding_aes_key, self.push = callback_token, encoding_aes_key, push
        self.per_minute, self.per_day = per_minute, per_day
        self.fail_with = self.fail_token_with = ""
        self.repeat_code = 0
        self.takes_any_template = False
        self.grants: Counter[tuple[str, str]] = Counter()
        self.not_following: set[str] = set()
        self.blacklisted: set[str] = set()
        self.pages: frozenset[str] = frozenset()
        self.tokens_given = self.refused_pushes = 0
        self.token = ""
        self._tokens: dict[str, dt.datetime] = {}
        self._refused_tokens: set[str] = set()
        self._forced_at: list[dt.datetime] = []
        self._calls_made: Counter[str] = Counter()
        self._keys: dict[tuple[str, str], tuple[int, dt.datetime]] = {}
        self._pushed = 0

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as WeChat does: HTTP 200 with an errcode."""
        try:
            if asked.path == "/cgi-bin/stable_token":
                return _json(self._stable_token(asked))
            if asked.path in _SENDING:
                return self._send(asked, _SENDING[asked.path])
            if asked.path in ("/cgi-bin/template/get_all_private_template", "/wxaapi/newtmpl/gettemplate"):
                self._require_token(asked)
                return _json(self._list(official="private" in asked.path))
        except _Refused as refused:
            message = refused.message or _MESSAGES.get(refused.code, "unknown error")
            return _json({"errcode": refused.code, "errmsg": f"{message} rid: {secrets.token_hex(4)}"})
        return Answered(404, b"", "text/plain")

    def forget_tokens(self) -> None:
        """Make every token invalid, as when somebody else has refreshed them by force."""
        self._tokens.clear()
        self.token = ""

    def spoil_token(self) -> None:
        """Refuse the token of now, but go on handing it out until it is refreshed by force."""
        self._refused_tokens.add(self.token)

    async def allow(self, openid: str, *templates: str, answer: str = "accept") -> None:
        """Let a person answer the question for permission (`accept`, `reject`), and push it."""
        for template in templates:
            self.grants[openid, template] += answer == "accept"
        items = [{"TemplateId": one, "SubscribeStatusString": answer, "PopupScene": "0"} for one in templates]
        await self.push_event(openid, "subscribe_msg_popup_event", "SubscribeMsgPopupEvent", items)

    async def turn_off(self, openid: str, *templates: str) -> None:
        """Let a person take permissions back, and push it."""
        for template in templates:
            self.grants[openid, template] = 0
        items = [{"TemplateId": one, "SubscribeStatusString": "reject"} for one in templates]
        await self.push_event(openid, "subscribe_msg_change_event", "SubscribeMsgChangeEvent", items)

    async def unfollow(self, openid: str) -> None:
        """Let a person leave the official account, and push it."""
        self.not_following.add(openid)
        await self.push_event(openid, "unsubscribe", fields={"EventKey": ""})

    async def push_event(
        self,
        openid: str,
        event: str,
        holder: str = "",
        items: Sequence[Mapping[str, str]] = (),
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Push an event as WeChat does: three times at most, until it is confirmed with "success" or nothing."""
        content: dict[str, Any] = {
            "ToUserName": "gh_123456789abc", "FromUserName": openid, "CreateTime": int(self.clock().timestamp()),
            "MsgType": "event", "Event": event, **(fields or {}),
        }  # fmt: skip
        if items and self.push == "json":
            content["List"] = list(items) if len(items) > 1 else items[0]
        elif items:
            content[holder] = {"List": list(items)}
        for _ in range(_TELLINGS_MAX):
            query, body, content_type = self.wrap(content)
            status = await self.call(body, content_type, url=f"{self.callback_url}?{urlencode(query)}")
            if status == _OK and self.last_reply in (b"success", b""):
                return
        self.refused_pushes += 1

    def wrap(self, content: Mapping[str, Any]) -> tuple[dict[str, str], bytes, str]:
        """Give the query, the body and its type in which an event is pushed."""
        self._pushed += 1
        query = self.signed(str(int(self.clock().timestamp())), str(self._pushed))
        body = msgspec.json.encode(content) if self.push == "json" else _xml(content)
        if self.push == "safe":
            sealed = self.seal(body, secrets.token_bytes(16))
            query["encrypt_type"] = "aes"
            query["msg_signature"] = _sign(self.callback_token, query["timestamp"], query["nonce"], sealed)
            body = _xml({"ToUserName": "gh_123456789abc", "Encrypt": sealed})
        return query, body, "application/json" if self.push == "json" else "text/xml"

    def signed(self, timestamp: str, nonce: str) -> dict[str, str]:
        """Sign a query as for the check of the address."""
        return {"signature": _sign(self.callback_token, timestamp, nonce), "timestamp": timestamp, "nonce": nonce}

    def seal(self, message: bytes, salt: bytes) -> str:
        """Encrypt a message for this account, with 16 random bytes as salt."""
        key = base64.b64decode(self.encoding_aes_key + "=")
        padder = PKCS7(256).padder()
        plain = salt + struct.pack(">I", len(message)) + message + self.appid.encode()
        padded = padder.update(plain) + padder.finalize()
        encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()

    def _stable_token(self, asked: Asked) -> dict[str, Any]:
        if asked.method != "POST":
            raise _Refused(43002)
        if self.fail_token_with:
            raise _Refused(int(self.fail_token_with))
        body = _read(asked.body)
        if body.get("grant_type") != "client_credential":
            raise _Refused(40002, "invalid grant_type")
        if body.get("appid") != self.appid:
            raise _Refused(40013)
        if body.get("secret") != self.secret:
            raise _Refused(40125)
        now = self.clock()
        if body.get("force_refresh"):
            self._count_force(now)
            self._tokens.pop(self.token, None)
            self._make_token(now)
        elif self._tokens.get(self.token, now) - now <= _TOKEN_OVERLAP:
            self._make_token(now)
        return {"access_token": self.token, "expires_in": int((self._tokens[self.token] - now).total_seconds())}

    def _count_force(self, now: dt.datetime) -> None:
        today = [at for at in self._forced_at if at.astimezone(_BEIJING).date() == now.astimezone(_BEIJING).date()]
        if len(today) >= _FORCED_PER_DAY_MAX:
            raise _Refused(45009)
        if today and now - today[-1] < _FORCED_APART:
            raise _Refused(45011)
        self._forced_at = [*today, now]

    def _make_token(self, now: dt.datetime) -> None:
        self.tokens_given += 1
        # As long as the real ones can be.
        self.token = f"{self.tokens_given}_" + hashlib.shake_256(f"{self.appid}{self.tokens_given}".encode()).hexdigest(
            255
        )
        self._tokens[self.token] = now + _TOKEN_LIFETIME

    def _require_token(self, asked: Asked) -> None:
        token = asked.parameters.get("access_token", "")
        if not token:
            raise _Refused(41001)
        if token not in self._tokens or token in self._refused_tokens:
            raise _Refused(40001)
        if self._tokens[token] <= self.clock():
            raise _Refused(42001)

    def _send(self, asked: Asked, kind: str) -> Answered:
        faults = self.faults
        if self.dice.strikes(faults.refuse):
            return Answered(503, b"", "text/html")
        self._require_token(asked)
        if self.dice.strikes(faults.throttle):
            raise _Refused(45011)
        if self.dice.strikes(faults.error_body):
            raise _Refused(_STRANGE_CODE)
        if self.fail_with:
            raise _Refused(int(self.fail_with))
        if asked.method != "POST":
            raise _Refused(43002)
        self._count_call()
        message = _read(asked.body)
        openid, template, words = self._require_message(message, kind)
        key = (openid, str(message.get("client_msg_id", "")))
        if kind == "template" and key[1] and (known := self._keys.get(key)) and self.clock() - known[1] < _KEY_WINDOW:
            return _json({"errcode": self.repeat_code, "errmsg": "ok", "msgid": known[0]})
        if kind != "template":
            self.grants[openid, template] -= 1
        msgid = _FIRST_MSGID + len(self.taken)
        self._keys[key] = (msgid, self.clock())
        taken = self.keep(str(msgid), openid, " ".join(words.values()), kind=kind, message=message, words=words)
        if self.callback_url and taken.delivery is not Delivery.SILENT:
            self.later(self._tell(taken, kind, template))
        return _json({"errcode": 0, "errmsg": "ok", "msgid": msgid}, took=True)

    def _count_call(self) -> None:
        there = self.clock().astimezone(_BEIJING)
        for span, limit, code in (
            (f"{there:%Y%m%d}", self.per_day, 45009),
            (f"{there:%Y%m%d%H%M}", self.per_minute, 45011),
        ):
            if limit and self._calls_made[span] >= limit:
                raise _Refused(code)
            self._calls_made[span] += 1

    def _require_message(self, message: Mapping[str, Any], kind: str) -> tuple[str, str, dict[str, str]]:
        """Hold a message against all rules; gives the person, the template and the words."""
        openid, template = str(message.get("touser", "")), str(message.get("template_id", ""))
        if not re.fullmatch(r"o[\w-]{5,63}", openid, re.ASCII):
            raise _Refused(40003)
        if template not in self.templates and not (template and self.takes_any_template):
            raise _Refused(40037)
        if openid in self.blacklisted:
            raise _Refused(43019)
        if kind == "template" and openid in self.not_following:
            raise _Refused(43004)
        if kind != "template" and self.grants[openid, template] < 1:
            raise _Refused(43101)
        page = str(message.get("page", "")).partition("?")[0]
        if kind == "mini" and page and self.pages and page not in self.pages:
            raise _Refused(41030)
        data = message.get("data")
        keys = self.templates[template] if template in self.templates else _keys_in(data)
        return openid, template, _require_words(data, keys)

    async def _tell(self, taken: Taken, kind: str, template: str) -> None:
        """Push what became of a message."""
        failed = taken.delivery is Delivery.FAILED
        if kind == "template":
            status = "failed:user block" if failed else "success"
            fields = {"MsgID": taken.ref, "Status": status}
            await self.push_event(taken.to, "TEMPLATESENDJOBFINISH", fields=fields)
            return
        code, status = ("43101", "user refuse to accept the msg") if failed else ("0", "success")
        item = {"TemplateId": template, "MsgID": taken.ref, "ErrorCode": code, "ErrorStatus": status}
        await self.push_event(taken.to, "subscribe_msg_sent_event", "SubscribeMsgSentEvent", [item])

    def _list(self, *, official: bool) -> dict[str, Any]:
        contents = {
            template: "\n".join(f"{key}:{{{{{key}.DATA}}}}" for key in keys)
            for template, keys in self.templates.items()
        }
        if official:
            listed = [{"template_id": one, "title": "t", "content": content} for one, content in contents.items()]
            return {"template_list": listed}
        data = [{"priTmplId": one, "title": "t", "content": text, "type": 2} for one, text in contents.items()]
        return {"errcode": 0, "errmsg": "ok", "data": data}


def _keys_in(data: object) -> list[str]:
    return [key for key in data if key.rstrip("0123456789") in _RULES] if isinstance(data, dict) else []


def _require_words(data: object, keys: Sequence[str]) -> dict[str, str]:
    given = data if isinstance(data, dict) else {}
    words: dict[str, str] = {}
    for key in dict.fromkeys([*keys, *given]):
        value = given.get(key)
        found = value.get("value") if isinstance(value, dict) and key in keys else None
        if not isinstance(found, str):
            raise _Refused(47003, f"argument invalid! data.{key}.value is empty")
        if not re.fullmatch(_RULES[key.rstrip("0123456789")], found) or (not found and not key.startswith("const")):
            raise _Refused(47003, f"argument invalid! data.{key}.value invalid")
        words[key] = found
    return words


def _read(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except ValueError as error:
        raise _Refused(47001) from error


def _json(body: Mapping[str, Any], *, took: bool = False) -> Answered:
    return Answered(200, msgspec.json.encode(body), "application/json; encoding=utf-8", took=took)


def _sign(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


def _xml(content: Mapping[str, Any]) -> bytes:
    return f"<xml>{_elements(content)}</xml>".encode()


def _elements(content: Mapping[str, Any]) -> str:
    written = []
    for name, value in content.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                inner = _elements(one)
            else:
                inner = str(one) if isinstance(one, int) else f"<![CDATA[{one}]]>" if "]]>" not in one else escape(one)
            written.append(f"<{name}>{inner}</{name}>")
    return "\n".join(written)
