"""The channel to the staff: robots in group chats of DingTalk, WeCom, Feishu (Lark) and Slack.

A robot is an address that whoever knows it may post to, so the address is a secret like a password. All four answer
HTTP 200 to much that they refuse, none recognises a message that comes twice, none can be asked what became of one,
and none has receipts: after a lost answer nothing will ever be known (`Recovery.NONE`).

Sources: open.dingtalk.com/document/robots/custom-robot-access, developer.work.weixin.qq.com/document/path/91770,
open.feishu.cn/document/client-docs/bot-v3/add-custom-bot and
docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
"""

import asyncio
import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import Answer, Finding, Limits, Outcome, Outgoing, Provider, Scope, Shared, Veiled

Kind = Literal["dingtalk", "wecom", "feishu", "slack"]
Locale = Literal["zh-CN", "en"]

_AT_ONCE: Final = 5
_DETAIL_LENGTH_MAX: Final = 200
_SKEW_S_MIN: Final = 60.0
_SECRET_LENGTH_MIN: Final = 6
_HTTP_OK: Final = range(200, 300)

# 20 a minute is what DingTalk and WeCom take; Feishu takes 100, Slack one a second. One list holds for all robots of
# the channel, so it is the strictest.
_LIMITS: Final = Limits(per_recipient=((20, 60.0), (1, 1.0)))

_BODY_BYTES_MAX: Final = 20_000  # DingTalk and Feishu (20 KB), for the whole request
_WECOM_BYTES_MAX: Final = 2_048  # of a text
_SLACK_LENGTH_MAX: Final = 40_000  # of a text, in characters

# How long a robot that says "too quick" is left alone when it names no time: DingTalk shuts it for ten minutes.
_WAIT_S: Final[Mapping[Kind, float]] = {"dingtalk": 600.0, "wecom": 60.0, "feishu": 60.0, "slack": 30.0}
_PUNISHED: Final = "1111"
_PUNISHED_MINUTES_MIN: Final = 5
_MINUTES_MAX: Final = 60
_CODE_MAX: Final = 10**12

_SENT, _LATER, _QUICK = Outcome.ACCEPTED, Outcome.RETRY_LATER, Outcome.THROTTLED
_GONE, _TEXT, _DOWN = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.CHANNEL_DOWN

CODES: Final[Mapping[Kind, Mapping[str, Outcome]]] = {
    "dingtalk": {
        "0": _SENT, "-1": _LATER,
        "130101": _QUICK, "410100": _QUICK, "660026": _QUICK, "90030": _QUICK, "302033": _QUICK, _PUNISHED: _QUICK,
        "400013": _GONE,  # the group was dissolved
        "300001": _DOWN, "300005": _DOWN, "400101": _DOWN, "400102": _DOWN, "400106": _DOWN,  # token, robot
        "310000": _DOWN,  # sign, clock or IP; see `_refine` for the keyword
        "40035": _TEXT, "43004": _TEXT, "400105": _TEXT, "460101": _TEXT,
        "430101": _TEXT, "430102": _TEXT, "430103": _TEXT, "430104": _TEXT,  # unseemly link, text, picture, content
    },
    "wecom": {
        "0": _SENT, "-1": _LATER,
        "45009": _QUICK, "45033": _QUICK,
        "93000": _DOWN, "93004": _DOWN, "93008": _DOWN, "60020": _DOWN,  # key, robot switched off, not in the group, IP
        "40008": _TEXT, "40058": _TEXT, "44004": _TEXT, "45002": _TEXT,
    },
    "feishu": {
        "0": _SENT,
        "11232": _QUICK, "99991400": _QUICK,
        "19001": _DOWN, "19021": _DOWN, "19022": _DOWN,  # token, sign or clock, IP
        "19002": _TEXT, "19024": _TEXT, "9499": _TEXT,  # kind of message, keyword, body
    },
    "slack": {
        "ok": _SENT, "rollup_error": _LATER, "rate_limited": _QUICK,
        "channel_not_found": _GONE, "channel_is_archived": _GONE,
        "action_prohibited": _DOWN, "invalid_token": _DOWN, "posting_to_general_channel_denied": _DOWN,
        "no_service": _DOWN, "no_service_id": _DOWN, "no_team": _DOWN, "team_disabled": _DOWN, "no_active_hooks": _DOWN,
        "invalid_payload": _TEXT, "no_text": _TEXT, "invalid_blocks": _TEXT, "invalid_blocks_format": _TEXT,
        "too_many_attachments": _TEXT, "user_not_found": _TEXT, "msg_too_long": _TEXT,
    },
}  # fmt: skip
"""What each documented code means; an unknown one with a status of success is unknown."""

_KEYWORD = re.compile(r"keyword|关键词", re.IGNORECASE)
_TOO_QUICK = re.compile(r"too many|too fast|frequency|rate limit", re.IGNORECASE)
_FEISHU_TAG = re.compile(r"<(?=/?at\b)", re.IGNORECASE)
_MOBILE = re.compile(r"\+?[\d-]{6,20}")
_LEFT_OUT: Final[Mapping[Locale, str]] = {"zh-CN": "（另有 {} 行未显示）", "en": "({} more lines left out)"}
_encode = msgspec.json.Encoder().encode


class Robot(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One robot: `url` as the chat gives it, with its token; `secret` where signing is switched on (DingTalk, Feishu).

    `mention` are those whom urgent messages call by name: mobile numbers or user ids (DingTalk, WeCom), open ids
    (Feishu), member ids (Slack), or `all`. `roles` says whose alerts it takes; without any, those that
    no other robot has by name.
    """

    kind: Kind
    url: str
    secret: str = ""
    mention: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no address, before a client is made for it."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the url of a robot must begin with https:// and a host")


class StaffOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The robots by name; `Outgoing.to` is such a name. `locale` is that of the word about lines left out."""

    robots: dict[str, Robot]
    locale: Locale = "zh-CN"
    timeout_s: float = 10.0
    connect_timeout_s: float = 3.0


def sign_dingtalk(secret: str, at_ms: int) -> str:
    """The `sign` of DingTalk's query, not yet percent-encoded; good for an hour around `at_ms`."""
    digest = hmac.digest(secret.encode(), f"{at_ms}\n{secret}".encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def sign_feishu(secret: str, at_s: int) -> str:
    """The `sign` of Feishu's body: the text is the key, and nothing is signed; good for an hour around `at_s`."""
    return base64.b64encode(hmac.digest(f"{at_s}\n{secret}".encode(), b"", hashlib.sha256)).decode()


def cut(text: str, fits: Callable[[str], bool], locale: Locale = "zh-CN") -> str:
    """Shorten a text until it fits: whole lines from its end, with a word how many were left out.

    Only where not even the first line fits it is cut in the middle. `fits` must hold for all that is shorter than a
    text for which it holds.
    """
    if fits(text):
        return text
    lines = text.split("\n")

    def first(count: int) -> str:
        return "\n".join([*lines[:count], _LEFT_OUT[locale].format(len(lines) - count)])

    kept = _most(len(lines) - 1, lambda count: fits(first(count)))
    if kept:
        return first(kept)
    rest = f"\n{_LEFT_OUT[locale].format(len(lines) - 1)}" if len(lines) > 1 else ""
    length = _most(len(lines[0]), lambda count: fits(f"{lines[0][:count]}…{rest}"))
    return f"{lines[0][:length]}…{rest}"


def _most(count_max: int, holds: Callable[[int], bool]) -> int:
    """The greatest count from 1 to `count_max` for which something holds, 0 where it holds for none."""
    return bisect_left(range(1, count_max + 1), x=1, key=lambda count: 0 if holds(count) else 1)


def write_body(robot: Robot, text: str, *, urgent: bool, at_s: int, locale: Locale = "zh-CN") -> bytes:
    """The request of one message, cut to what the robot takes.

    Raises:
        UnicodeEncodeError: the text is no Unicode.
    """
    writer = _WRITERS[robot.kind]
    mention = robot.mention if urgent else ()

    def write(wanted: str) -> bytes:
        body = writer(wanted, mention)
        if robot.kind == "feishu" and robot.secret:
            body |= {"timestamp": str(at_s), "sign": sign_feishu(robot.secret, at_s)}
        return _encode(body)

    def fits(wanted: str) -> bool:
        body = writer(wanted, mention)
        if robot.kind == "slack":
            return len(body["text"]) <= _SLACK_LENGTH_MAX
        if robot.kind == "wecom":
            return len(body["text"]["content"].encode()) <= _WECOM_BYTES_MAX
        return len(write(wanted)) <= _BODY_BYTES_MAX

    return write(cut(text, fits, locale))


def _write_dingtalk(text: str, mention: Sequence[str]) -> dict[str, Any]:
    people = [one for one in mention if one != "all"]
    mobiles = [one for one in people if _MOBILE.fullmatch(one)]
    # Only who is named in the text as well is called.
    named = "".join(f" @{one}" for one in people)
    at = {"atMobiles": mobiles, "atUserIds": [one for one in people if one not in mobiles], "isAtAll": "all" in mention}
    return {"msgtype": "text", "text": {"content": text + ("\n" + named.strip() if named else "")}, "at": at}


def _write_wecom(text: str, mention: Sequence[str]) -> dict[str, Any]:
    people = ["@all" if one == "all" else one for one in mention]
    mobiles = [one for one in people if _MOBILE.fullmatch(one)]
    users = [one for one in people if one not in mobiles]
    return {
        "msgtype": "text",
        "text": {"content": text, "mentioned_list": users, "mentioned_mobile_list": mobiles},
    }


def _write_feishu(text: str, mention: Sequence[str]) -> dict[str, Any]:
    # A tag in our text would call people: orders' data must not be able to.
    safe = _FEISHU_TAG.sub("＜", text)
    called = "".join(f'<at user_id="{one}"></at>' for one in mention)
    return {"msg_type": "text", "content": {"text": safe + ("\n" + called if called else "")}}


def _write_slack(text: str, mention: Sequence[str]) -> dict[str, Any]:
    # The three signs that Slack reads as its own; `<!channel>` in an order's data must call nobody.
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = {"all": "<!channel>", "channel": "<!channel>", "here": "<!here>"}
    called = " ".join(words.get(one, f"<@{one}>") for one in mention)
    return {"text": f"{called}\n{safe}" if called else safe}


_WRITERS: Final[Mapping[Kind, Callable[[str, Sequence[str]], dict[str, Any]]]] = {
    "dingtalk": _write_dingtalk, "wecom": _write_wecom, "feishu": _write_feishu, "slack": _write_slack,
}  # fmt: skip


def judge_robot(kind: Kind, answered: Reply | NoReply, now: dt.datetime) -> Verdict:
    """Say what a robot's answer means; success is only its own word for it under a status of success.

    The detail repeats the provider's words at their full length, whatever they give away.
    """
    judged = judge(answered)
    if isinstance(answered, NoReply):
        return judged if isinstance(judged, Verdict) else Verdict(Outcome.UNKNOWN, "")  # pragma: no cover - the former
    code, words, minutes = _read(kind, answered.body)
    outcome = CODES[kind].get(code)
    if outcome is None or (outcome is _SENT and isinstance(judged, Verdict)):
        if isinstance(judged, Verdict):
            wait_s = max(judged.retry_after_s, _WAIT_S[kind]) if judged.outcome is _QUICK else 0.0
            return Verdict(judged.outcome, judged.detail, wait_s)
        return Verdict(Outcome.UNKNOWN, f"unknown code {code!r} {words}" if code else "unreadable answer")
    outcome = _refine(kind, code, words, outcome)
    detail = f"{code} {words}{_clock_words(answered, now) if outcome is _DOWN else ''}".strip()
    wait_s = _wait_s(kind, answered, minutes) if outcome is _QUICK else 0.0
    return Verdict(outcome, detail, wait_s)


def _read(kind: Kind, body: bytes) -> tuple[str, str, int]:
    """Read the code, the words, and for how many minutes we are shut out; the code is empty where there is none."""
    if kind == "slack":
        return body.decode("utf-8", "replace").strip(), "", 0
    try:
        read = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return "", "", 0
    if not isinstance(read, dict):
        return "", "", 0
    if "punish" in read:
        wait = read.get("wait")
        return _spelled(read.get("status")), "shut out", min(wait, _MINUTES_MAX) if type(wait) is int else 0
    name, told = ("errcode", "errmsg") if kind in ("dingtalk", "wecom") else ("code", "msg")
    code = read.get(name, read.get("StatusCode") if kind == "feishu" else None)
    words = read.get(told, read.get("StatusMessage"))
    return _spelled(code), words if isinstance(words, str) else "", 0


def _spelled(code: object) -> str:
    # Longer numbers are no codes, and Python refuses to spell very long ones.
    return str(code) if type(code) is int and abs(code) < _CODE_MAX else ""


def _refine(kind: Kind, code: str, words: str, outcome: Outcome) -> Outcome:
    """Tell apart what a provider puts under one code."""
    if kind == "dingtalk" and code == "310000" and _KEYWORD.search(words):
        return _TEXT
    if kind == "feishu" and code == "9499" and _TOO_QUICK.search(words):
        return _QUICK
    return outcome


def _wait_s(kind: Kind, reply: Reply, minutes: int) -> float:
    if minutes:
        # For all calls from our address.
        return max(minutes, _PUNISHED_MINUTES_MIN) * 60.0
    reset = reply.headers.get("x-ogw-ratelimit-reset", "")
    named = float(reset) if reset.isdecimal() and len(reset) < 5 else reply.retry_after_s  # noqa: PLR2004 - hours at most
    return named or _WAIT_S[kind]


def _clock_words(reply: Reply, now: dt.datetime) -> str:
    """Say how far our clock is off by the `Date` of the answer, where that may be what a signature fails for."""
    try:
        theirs = email.utils.parsedate_to_datetime(reply.headers.get("date", ""))
        skew_s = (now - theirs).total_seconds()
    except (ValueError, TypeError):
        return ""
    if abs(skew_s) < _SKEW_S_MIN:
        return ""
    return f" (our clock is {abs(skew_s) / 60:.0f} minutes {'ahead of' if skew_s > 0 else 'behind'} the provider's)"


class StaffChannel(Provider):
    """Robots of group chats behind the `Channel` protocol.

    A robot that says "too quick" is left alone for as long as it asks: asking on would lengthen that.
    """

    carries = frozenset({"staff"})
    batch_max = 20
    limits = _LIMITS

    def __init__(self, options: StaffOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self._options, self._now = options, now
        self._clients = {robot: self._client(one.url) for robot, one in options.robots.items()}
        self._secrets = {robot: _secrets(one) for robot, one in options.robots.items()}
        self._shut_until: dict[str, dt.datetime] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def takes(self, to: str) -> bool:
        """See `Channel.takes`: the names of its robots."""
        return to in self._options.robots

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`; one request per message."""
        return list(await asyncio.gather(*(self._send_one(outgoing) for outgoing in batch)))

    async def check(self) -> list[Finding]:
        """See `Channel.check`: only the options can be looked at, for a robot cannot be asked without posting."""
        return [finding for name, robot in self._options.robots.items() for finding in _look_at(name, robot)]

    async def close(self) -> None:
        """See `Channel.close`."""
        for client in self._clients.values():
            await client.close()

    def _client(self, url: str) -> HttpClient:
        parts = urlsplit(url)
        return HttpClient(
            f"{parts.scheme}://{parts.netloc}", timeout_s=self._options.timeout_s,
            connect_timeout_s=self._options.connect_timeout_s, keep=("date", "x-ogw-ratelimit-reset"),
        )  # fmt: skip

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        name, attempt_id = outgoing.to, outgoing.attempt_id
        robot = self._options.robots.get(name)
        if robot is None:
            return Answer(attempt_id, Outcome.REJECTED_RECIPIENT, detail="no robot of that name")
        now = self._now()
        try:
            body = write_body(
                robot, _text_of(outgoing), urgent=outgoing.urgent, at_s=int(now.timestamp()),
                locale=self._options.locale,
            )  # fmt: skip
        except UnicodeEncodeError:
            return Answer(attempt_id, Outcome.REJECTED_CONTENT, detail="cannot be written as UTF-8")
        async with self._slots:
            left_s = (self._shut_until.get(name, now) - now).total_seconds()
            if left_s > 0:
                detail = "the robot asked for a pause; not tried"
                return Answer(attempt_id, Outcome.THROTTLED, "", detail, left_s, Scope.RECIPIENT)
            answered = await self._clients[name].request("POST", _path(robot, now), body)
        verdict = judge_robot(robot.kind, answered, self._now())
        if verdict.outcome is Outcome.THROTTLED:
            self._shut_until[name] = self._now() + dt.timedelta(seconds=verdict.retry_after_s)
        detail = _scrub(verdict.detail, self._secrets[name])
        return Answer(attempt_id, verdict.outcome, "", detail, verdict.retry_after_s, Scope.RECIPIENT)


def _text_of(outgoing: Outgoing) -> str:
    link = outgoing.link if outgoing.link not in outgoing.text else ""
    return "\n".join(part for part in (outgoing.subject, outgoing.text, link) if part)


def _path(robot: Robot, now: dt.datetime) -> str:
    parts = urlsplit(robot.url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    if robot.kind == "dingtalk" and robot.secret:
        at_ms = int(now.timestamp() * 1000)
        path += f"&timestamp={at_ms}&sign={quote(sign_dingtalk(robot.secret, at_ms), safe='')}"
    return path


def _secrets(robot: Robot) -> list[str]:
    """Everything that must not be told on, the longest first."""
    parts = urlsplit(robot.url)
    pieces = [robot.secret, robot.url, parts.query, *(value for _, value in parse_qsl(parts.query))]
    if robot.kind in ("feishu", "slack"):
        pieces += [parts.path, *parts.path.split("/")[-3 if robot.kind == "slack" else -1 :]]
    return sorted({piece for piece in pieces if len(piece) >= _SECRET_LENGTH_MIN}, key=len, reverse=True)


def _scrub(detail: str, secrets: Sequence[str]) -> str:
    # Before it is cut: half a token is not found, and too much to tell.
    for secret in secrets:
        detail = detail.replace(secret, "***")
    return detail[:_DETAIL_LENGTH_MAX]


def _look_at(name: str, robot: Robot) -> list[Finding]:
    parts = urlsplit(robot.url)
    wanted: Mapping[Kind, tuple[str, bool]] = {
        "dingtalk": ("/robot/send?access_token=…", bool(dict(parse_qsl(parts.query)).get("access_token"))),
        "wecom": ("/cgi-bin/webhook/send?key=…", bool(dict(parse_qsl(parts.query)).get("key"))),
        "feishu": ("/open-apis/bot/v2/hook/…", bool(parts.path.partition("/bot/v2/hook/")[2])),
        "slack": ("/services/T…/B…/…", bool(parts.path.rpartition("/services/")[2].count("/") == 2)),  # noqa: PLR2004 - three parts
    }
    form, right = wanted[robot.kind]
    what = f"robot {name} ({robot.kind})"
    findings = []
    if not right:
        findings.append(Finding(fine=False, words=f"{what}: the url must end in {form}; copy it anew from the chat"))
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        findings.append(Finding(fine=False, words=f"{what}: the url must begin with https://, for it holds the token"))
    if not findings:
        words = f"{what}: looks right; whether it works shows only in the chat, for it cannot be asked without posting"
        findings.append(Finding(fine=True, words=words))
    return findings
