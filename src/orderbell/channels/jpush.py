"""JPush (极光推送), which reaches Android phones in China through the makers' own channels, and iPhones.

Source: https://docs.jiguang.cn/jpush/server/push/rest_api_v3_push and `_push_advanced` for the `cid`.

JPush recognises a request by its `cid` and then gives the result of the first one instead of pushing again. A `cid`
cannot be made up: it comes from a pool that JPush hands out, and is good for a day. Since it is not known before the
attempt is put down, another process could not find it again, so after a restart nothing is recognised
(`Recovery.NONE`). Inside one `send` it is worth much: an answer that was lost is asked for once more under the same
`cid`, which makes no second message.

Receipts can only be asked for with the list of messages in hand, which no channel keeps: there are none.
"""

import asyncio
import base64
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge, parse_retry_after
from orderbell.channels.protocol import Answer, Finding, Outcome, Shared
from orderbell.channels.push import UNREADABLE, Note, PushChannel, PushOptions, answer_of

_LIFETIME_S_MAX: Final = 10 * 86_400
# A cid is good for a day; one that is nearly over could fail to be recognised.
_CIDS_GOOD_FOR: Final = dt.timedelta(hours=12)
_RATE_LIMIT_RESET: Final = "x-rate-limit-reset"
_THROTTLED_S: Final = 60.0

OUTCOMES: Final = {
    1000: Outcome.RETRY_LATER,
    1030: Outcome.RETRY_LATER,
    2002: Outcome.THROTTLED,
    1011: Outcome.REJECTED_RECIPIENT,
    1002: Outcome.REJECTED_CONTENT,
    1003: Outcome.REJECTED_CONTENT,
    1005: Outcome.REJECTED_CONTENT,
    1007: Outcome.REJECTED_CONTENT,
    1009: Outcome.REJECTED_CONTENT,
    1012: Outcome.REJECTED_CONTENT,
    1001: Outcome.CHANNEL_DOWN,
    1004: Outcome.CHANNEL_DOWN,
    1008: Outcome.CHANNEL_DOWN,
    1020: Outcome.CHANNEL_DOWN,
    2003: Outcome.CHANNEL_DOWN,
    2004: Outcome.CHANNEL_DOWN,
    2005: Outcome.CHANNEL_DOWN,
    2006: Outcome.CHANNEL_DOWN,
    2007: Outcome.CHANNEL_DOWN,
}
"""What each code of JPush means; 1003 is about the recipient if its words name the registration id."""

_REMEDIES: Final = {
    1004: "copy AppKey and Master Secret of the app from the console of JPush",
    1008: "copy the AppKey of the app from the console of JPush",
    2003: "JPush has locked this app: ask its support",
    2004: "enter the address of this server in the IP whitelist of the app",
}


class JpushOptions(PushOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures to use JPush.

    `apns_production` is false for an iOS app in development. `cids` of 0 does without; else so many are fetched at
    once, at most 10, or 1,000 for a VIP app. `third_party_channel` goes to JPush as it is: there the makers of phones
    want their categories. Ten a second is the limit of a free app.
    """

    app_key: str
    master_secret: str
    url: str = "https://api.jpush.cn"
    apns_production: bool = True
    cids: int = 10
    third_party_channel: dict[str, Any] = msgspec.field(default_factory=dict)
    per_second: float = 10.0


class _Taken(msgspec.Struct, frozen=True):
    msg_id: str | int


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class _Refused(msgspec.Struct, frozen=True):
    error: _Error


class _Cids(msgspec.Struct, frozen=True):
    cidlist: list[str]


_encode = msgspec.json.Encoder().encode
_decode_taken = msgspec.json.Decoder(_Taken).decode
_decode_refused = msgspec.json.Decoder(_Refused).decode
_decode_cids = msgspec.json.Decoder(_Cids).decode


def payload_of(note: Note, cid: str, options: JpushOptions) -> dict[str, Any]:
    """Write a message as `POST /v3/push` wants it."""
    alert = {"title": note.title, "body": note.body} if note.title else note.body
    android: dict[str, Any] = {"alert": note.body, "priority": 1 if note.urgent else 0, "extras": note.extras}
    if note.title:
        android["title"] = note.title
    chosen: dict[str, Any] = {
        "time_to_live": min(note.lifetime_s, _LIFETIME_S_MAX),
        "apns_production": options.apns_production,
    }
    if note.group:
        chosen["apns_collapse_id"] = note.group.hex()
    if options.third_party_channel:
        chosen["third_party_channel"] = options.third_party_channel
    payload: dict[str, Any] = {
        "platform": ["android", "ios"],
        "audience": {"registration_id": [note.to]},
        "notification": {"android": android, "ios": {"alert": alert, "sound": "default", "extras": note.extras}},
        "options": chosen,
    }
    return {"cid": cid, **payload} if cid else payload


def read_answer(answered: Reply | NoReply) -> Verdict | str:
    """Read the name that JPush gave the message, or why it did not take it."""
    judged = judge(answered)
    if isinstance(judged, Verdict) and isinstance(answered, NoReply):
        return judged
    outcome = judged.outcome if isinstance(judged, Verdict) else Outcome.UNKNOWN
    if isinstance(answered, Reply):
        try:
            return _verdict_of(_decode_refused(answered.body).error, answered, outcome)
        except UNREADABLE:
            pass
    if isinstance(judged, Verdict):
        return judged
    try:
        return str(_decode_taken(judged).msg_id) or Verdict(Outcome.UNKNOWN, "an answer without msg_id")
    except UNREADABLE:
        return Verdict(Outcome.UNKNOWN, "unreadable answer")


def _verdict_of(error: _Error, reply: Reply, outcome: Outcome) -> Verdict:
    """Translate an error of JPush; an unknown code means what its HTTP status means (`outcome`)."""
    outcome = OUTCOMES.get(error.code, outcome)
    if error.code == 1003 and "registration" in error.message.lower():  # noqa: PLR2004 - a code of theirs
        outcome = Outcome.REJECTED_RECIPIENT
    retry_after_s = reply.retry_after_s
    if outcome is Outcome.THROTTLED:
        retry_after_s = parse_retry_after(reply.headers.get(_RATE_LIMIT_RESET)) or retry_after_s or _THROTTLED_S
    words = [f"{error.code} {error.message}", _REMEDIES.get(error.code, "")]
    return Verdict(outcome, ": ".join(filter(None, words)), retry_after_s)


class _CidPool:
    """Cids that are left, fetched a batch at a time."""

    def __init__(self, fetch: Callable[[], Awaitable[list[str] | Verdict]], now: Callable[[], dt.datetime]) -> None:
        self._fetch = fetch
        self._now = now
        self._left: list[str] = []
        self._good_until = now()
        self._lock = asyncio.Lock()

    async def take(self) -> str | Verdict:
        """Give one that nobody has used, or say why there is none."""
        async with self._lock:
            if not self._left or self._good_until <= self._now():
                good_until = self._now() + _CIDS_GOOD_FOR
                fetched = await self._fetch()
                if isinstance(fetched, Verdict):
                    return fetched
                self._left, self._good_until = fetched, good_until
            return self._left.pop()


class JpushChannel(PushChannel):
    """JPush behind the `Channel` protocol; addresses are `jpush:REGISTRATION_ID`."""

    kind = "jpush"

    def __init__(self, options: JpushOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        super().__init__(options, name=name, now=now, shared=shared)
        self._options = options
        secret = base64.b64encode(f"{options.app_key}:{options.master_secret}".encode()).decode()
        self._headers = {"authorization": f"Basic {secret}"}
        self._cids = _CidPool(self._fetch_cids, now)
        self._http = HttpClient(
            options.url,
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.timeout_s,
            keep=(_RATE_LIMIT_RESET,),
        )

    async def check(self) -> list[Finding]:
        """See `Channel.check`: fetch one cid, which needs the right key and sends nothing."""
        fetched = await self._fetch_cids(1)
        if isinstance(fetched, Verdict):
            return [Finding(fine=False, words=f"JPush: {fetched.detail}")]
        return [Finding(fine=True, words="JPush accepts AppKey and Master Secret")]

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _push(self, note: Note) -> Answer:
        cid = await self._cids.take() if self._options.cids else ""
        if isinstance(cid, Verdict):
            return answer_of(note, cid)
        body = _encode(payload_of(note, cid, self._options))
        read = await self._ask(body)
        if cid and isinstance(read, Verdict) and read.outcome is Outcome.UNKNOWN:
            again = await self._ask(body)
            # Only a success is a clear word: a refusal may have been spoken before anybody looked at the cid.
            read = again if isinstance(again, str) else read
        return answer_of(note, read)

    async def _ask(self, body: bytes) -> Verdict | str:
        return read_answer(await self._http.request("POST", "/v3/push", body, self._headers))

    async def _fetch_cids(self, count: int = 0) -> list[str] | Verdict:
        path = f"/v3/push/cid?count={count or self._options.cids}"
        answered = await self._http.request("GET", path, None, self._headers)
        judged = judge(answered)
        if not isinstance(judged, Verdict):
            try:
                if cids := _decode_cids(judged).cidlist:
                    return cids
            except UNREADABLE:
                pass
        read = read_answer(answered)
        if isinstance(read, Verdict) and read.outcome in (Outcome.CHANNEL_DOWN, Outcome.THROTTLED):
            return read
        # Whatever became of this request, the message itself has not been written.
        detail = read.detail if isinstance(read, Verdict) else "unreadable answer"
        return Verdict(Outcome.NOT_SENT, f"no cid: {detail}")
