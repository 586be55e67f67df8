"""Pretends to be the group robots of DingTalk, WeCom, Feishu and Slack, all at one address, told apart by path."""

import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, utc_now

TOKEN: Final = "sandboxrobottoken"  # noqa: S105 - opens nothing but the sandbox
_PATHS: Final = {
    "dingtalk": f"/robot/send?access_token={TOKEN}",
    "wecom": f"/cgi-bin/webhook/send?key={TOKEN}",
    "feishu": f"/open-apis/bot/v2/hook/{TOKEN}",
    "slack": f"/services/T0SANDBOX/B0SANDBOX/{TOKEN}",
}
_STARTS: Final = {
    "dingtalk": "/robot/send", "wecom": "/cgi-bin/webhook/send", "feishu": "/open-apis/bot/v2/hook/",
    "slack": "/services/",
}  # fmt: skip
_HOUR: Final = timedelta(hours=1)
_BODY_BYTES_MAX: Final = 20_000
_WECOM_BYTES_MAX: Final = 2_048
_SLACK_LENGTH_MAX: Final = 40_000

# How many within how many seconds, and how long the robot is shut afterwards (0: until the window has room again).
_LIMITS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "dingtalk": ((20, 60),), "wecom": ((20, 60),), "feishu": ((100, 60), (5, 1)), "slack": ((1, 1),),
}  # fmt: skip
_SHUT_S: Final = {"dingtalk": 600}

_TOO_QUICK: Final = {"dingtalk": "130101", "wecom": "45009", "feishu": "11232", "slack": "rate_limited"}
_STRANGE: Final = {"dingtalk": "987654", "wecom": "987654", "feishu": "987654", "slack": "queued"}
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "dingtalk": {
        "-1": "系统繁忙", "130101": "send too fast, exceed 20 times per minute", "300001": "token is not exist",
        "40035": "缺少参数 json", "400105": "unsupported message type",
        "460101": "message too long, exceed 20000 bytes",
    },
    "wecom": {
        "-1": "system busy", "45009": "api freq out of limit", "93000": "invalid webhook url",
        "40008": "invalid message type", "44004": "empty content",
        "40058": "text.content exceed max length 2048. invalid Request Parameter",
    },
    "feishu": {
        "11232": "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]",
        "19001": "param invalid: incoming webhook access token invalid", "19024": "Key Words Not Found",
        "19002": "params error, msg_type need", "9499": "Bad Request",
        "19021": "sign match fail or timestamp is not within one hour from current time",
    },
}  # fmt: skip
_SLACK_STATUSES: Final = {
    "ok": 200, "queued": 200, "rate_limited": 429, "rollup_error": 500, "channel_is_archived": 410,
    "action_prohibited": 403, "invalid_token": 403, "posting_to_general_channel_denied": 403, "team_disabled": 403,
    "channel_not_found": 404, "no_service": 404, "no_service_id": 404, "no_team": 404, "no_active_hooks": 404,
}  # fmt: skip


class _Refusal(Exception):
    """Why a robot takes no message, in its own code."""

    def __init__(self, code: str, words: str = "") -> None:
        super().__init__(code)
        self.code, self.words = code, words


class StaffSimulator(Simulator):
    """The four kinds of robot; `robot_url` gives the address of each.

    Args:
        secret: signing is switched on at DingTalk and Feishu with this secret.
        keyword: DingTalk and Feishu only take messages with this word.
        limited: the limits of the real ones hold (20 a minute at DingTalk, which then shuts the robot for 10 minutes,
            and at WeCom; 100 a minute and 5 a second at Feishu; one a second at Slack).
        clock: as `Simulator`.

    `fail_with` is a code that everything is answered with; `fail_words` are the words with it. `punished` answers as
    DingTalk does to a whole IP address.
    """

    def __init__(self, *, secret: str = "", keyword: str = "", limited: bool = False, clock: Clock = utc_now) -> None:
        super().__init__(clock=clock)
        self.secret, self.keyword, self.limited = secret, keyword, limited
        self.fail_with = self.fail_words = ""
        self.punished = False
        self._times: dict[str, deque[datetime]] = {kind: deque() for kind in _PATHS}
        self._shut_until: dict[str, datetime] = {}

    @staticmethod
    def robot_url(base_url: str, kind: str) -> str:
        """The address of a robot, token included."""
        return base_url + _PATHS[kind]

    async def answer(self, asked: Asked) -> Answered:
        """Answer as the robot of that path would."""
        kind = _kind_of(asked.path)
        if kind is None or asked.method != "POST":
            return Answered(404 if kind is None else 405, b"", "text/plain")
        if self.dice.strikes(self.faults.refuse):
            return Answered(503, b"<html>Service Unavailable</html>", "text/html")
        if self.dice.strikes(self.faults.throttle):
            return _say(kind, _TOO_QUICK[kind])
        if self.dice.strikes(self.faults.error_body):
            return _say(kind, _STRANGE[kind])
        if self.punished:
            body = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "0"}
            return Answered(200, msgspec.json.encode(body))
        if self.fail_with:
            return _say(kind, self.fail_with, self.fail_words)
        try:
            text, mentions = self._take(kind, asked)
        except _Refusal as refusal:
            return _say(kind, refusal.code, refusal.words)
        self.keep(f"{kind}-{len(self.taken) + 1}", kind, text, kind=kind, mentions=mentions, bytes=len(asked.body))
        answered = _say(kind, "ok" if kind == "slack" else "0")
        return Answered(answered.status, answered.body, answered.content_type, took=True)

    def _take(self, kind: str, asked: Asked) -> tuple[str, list[str]]:
        """Read a message, or refuse it; in the order in which the real ones look."""
        at = self.clock()
        parameters = asked.parameters
        token = parameters.get("access_token") or parameters.get("key") or asked.path.rstrip("/").rpartition("/")[2]
        if token != TOKEN:
            raise _Refusal({"dingtalk": "300001", "wecom": "93000", "feishu": "19001", "slack": "invalid_token"}[kind])
        body = _read_object(asked.body)
        if body is None:
            raise _Refusal({"dingtalk": "40035", "wecom": "40008", "feishu": "9499", "slack": "invalid_payload"}[kind])
        if self.secret and kind == "dingtalk":
            self._verify_dingtalk(parameters, at)
        if self.secret and kind == "feishu":
            self._verify_feishu(body, at)
        read: Callable[[Mapping[str, Any]], tuple[str, list[str]]] = _READERS[kind]
        text, mentions = read(body)
        if len(asked.body) > _BODY_BYTES_MAX and kind in ("dingtalk", "feishu"):
            raise _Refusal("460101" if kind == "dingtalk" else "9499")
        if self.keyword and self.keyword not in text and kind in ("dingtalk", "feishu"):
            raise _Refusal("310000", "keywords not in content") if kind == "dingtalk" else _Refusal("19024")
        if self.limited:
            self._count(kind, at)
        return text, mentions

    def _verify_dingtalk(self, parameters: Mapping[str, str], at: datetime) -> None:
        given = parameters.get("timestamp", "")
        if not given.isdecimal() or abs(at.timestamp() - int(given) / 1000) > _HOUR.total_seconds():
            raise _Refusal("310000", "invalid timestamp")
        mac = hmac.new(self.secret.encode(), f"{given}\n{self.secret}".encode(), hashlib.sha256)
        if not hmac.compare_digest(base64.b64encode(mac.digest()), parameters.get("sign", "").encode()):
            raise _Refusal("310000", "sign not match")

    def _verify_feishu(self, body: Mapping[str, Any], at: datetime) -> None:
        given, sign = body.get("timestamp"), body.get("sign")
        if not isinstance(given, str) or not isinstance(sign, str) or not given.isdecimal():
            raise _Refusal("19021")
        mac = hmac.new(f"{given}\n{self.secret}".encode(), digestmod=hashlib.sha256)
        if not hmac.compare_digest(base64.b64encode(mac.digest()), sign.encode()):
            raise _Refusal("19021")
        if abs(at.timestamp() - int(given)) > _HOUR.total_seconds():
            raise _Refusal("19021")

    def _count(self, kind: str, at: datetime) -> None:
        times = self._times[kind]
        if at < self._shut_until.get(kind, at):
            raise _Refusal(_TOO_QUICK[kind])
        for count_max, within_s in _LIMITS[kind]:
            if sum(at - one < timedelta(seconds=within_s) for one in times) >= count_max:
                self._shut_until[kind] = at + timedelta(seconds=_SHUT_S.get(kind, 0))
                raise _Refusal(_TOO_QUICK[kind])
        times.append(at)
        while times and at - times[0] > timedelta(minutes=1):
            times.popleft()


def _kind_of(path: str) -> str | None:
    return next((kind for kind, start in _STARTS.items() if path.startswith(start)), None)


def _read_object(body: bytes) -> dict[str, Any] | None:
    try:
        read = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _say(kind: str, code: str, words: str = "") -> Answered:
    if kind == "slack":
        headers = (("retry-after", "30"),) if code == "rate_limited" else ()
        return Answered(_SLACK_STATUSES.get(code, 400), code.encode(), "text/html", headers)
    ok = code == "0"
    words = words or ("ok" if ok else _WORDS[kind].get(code, "no"))
    if kind != "feishu":
        return Answered(200, msgspec.json.encode({"errcode": int(code), "errmsg": words}))
    if ok:
        said: dict[str, Any] = {"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"}
        return Answered(200, msgspec.json.encode(said))
    headers = (("x-ogw-ratelimit-reset", "42"),) if code == "99991400" else ()
    return Answered(200, msgspec.json.encode({"code": int(code), "data": {}, "msg": words}), headers=headers)


def _read_dingtalk(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    if body.get("msgtype") != "text":
        raise _Refusal("400105")
    text, at = body.get("text"), body.get("at") or {}
    if not isinstance(text, dict) or not isinstance(text.get("content"), str) or not isinstance(at, dict):
        raise _Refusal("40035")
    everybody = ["all"] if at.get("isAtAll") else []
    return text["content"], [*at.get("atMobiles", []), *at.get("atUserIds", []), *everybody]


def _read_wecom(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    if body.get("msgtype") != "text":
        raise _Refusal("40008")
    text = body.get("text")
    if not isinstance(text, dict) or not isinstance(text.get("content"), str) or not text["content"]:
        raise _Refusal("44004")
    if len(text["content"].encode()) > _WECOM_BYTES_MAX:
        raise _Refusal("40058")
    return text["content"], [*text.get("mentioned_list", []), *text.get("mentioned_mobile_list", [])]


def _read_feishu(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    content = body.get("content")
    if body.get("msg_type") != "text":
        raise _Refusal("19002")
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        raise _Refusal("9499")
    return content["text"], [piece.partition('"')[0] for piece in content["text"].split('<at user_id="')[1:]]


def _read_slack(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    text = body.get("text")
    if not isinstance(text, str) or not text:
        raise _Refusal("no_text")
    if len(text) > _SLACK_LENGTH_MAX:
        raise _Refusal("msg_too_long")
    return text, [piece.partition(">")[0].lstrip("!@") for piece in text.split("<")[1:]]


_READERS: Final = {
    "dingtalk": _read_dingtalk, "wecom": _read_wecom, "feishu": _read_feishu, "slack": _read_slack,
}  # fmt: skip
