"""WeChat: template messages and subscribe messages of official accounts, and those of mini-programs.

=============== =========================== ========================= ==============================================
kind            endpoint                    after a lost answer       who gets them
=============== =========================== ========================= ==============================================
`oa_template`   `message/template/send`     KEY, for `key_window_s`   followers of the official account
`oa_subscribe`  `message/subscribe/bizsend` only a receipt can tell   who allowed it: one permission, one message
`mini_program`  `message/subscribe/send`    only a receipt can tell   the same
=============== =========================== ========================= ==============================================

WeChat answers HTTP 200 to everything, with an `errcode`. Sources: developers.weixin.qq.com, "sendTemplateMessage",
"sendNewSubscribeMsg", "subscribe-message / sendMessage", "getStableAccessToken", global return codes.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import (
    Answer,
    Callback,
    ChannelUnavailable,
    Finding,
    Heard,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    ReceiptsBy,
    Recovery,
    Scope,
    Shared,
    Token,
    Veiled,
)
from orderbell.channels.wechat_events import EventReader
from orderbell.channels.wechat_values import DoesNotFit, fit, is_key
from orderbell.errors import OrderBellError

_TOKEN_PATH: Final = "/cgi-bin/stable_token"  # noqa: S105 - a path
_BATCH_MAX: Final = 50
_REQUESTS_AT_ONCE: Final = 10
_DETAIL_LENGTH_MAX: Final = 300

# WeChat hands out the next token five minutes before the end of this one, and both are good until then: to ask a
# little later than that gives the next one, and leaves four minutes to use the old one up.
_TOKEN_MARGIN_S: Final = 240.0

# WeChat knows a client_msg_id for ten minutes; the last one is left for clocks and for requests on their way.
_KEY_WINDOW_S: Final = 540.0

_BEIJING: Final = dt.timezone(dt.timedelta(hours=8))

Kind = Literal["oa_template", "oa_subscribe", "mini_program"]

_SEND_PATHS: Final[Mapping[Kind, str]] = {
    "oa_template": "/cgi-bin/message/template/send",
    "oa_subscribe": "/cgi-bin/message/subscribe/bizsend",
    "mini_program": "/cgi-bin/message/subscribe/send",
}
_LIST_PATHS: Final[Mapping[Kind, str]] = {
    "oa_template": "/cgi-bin/template/get_all_private_template",
    "oa_subscribe": "/wxaapi/newtmpl/gettemplate",
    "mini_program": "/wxaapi/newtmpl/gettemplate",
}

STALE_TOKEN_CODES: Final = frozenset({40001, 40014, 42001})
_NO_PERMISSION: Final = 43101
_MINUTE_QUOTA_CODES: Final = frozenset({45011, 45047})
_DAY_QUOTA: Final = 45009

CODES: Final[Mapping[int, tuple[Outcome, str]]] = {
    0: (Outcome.ACCEPTED, ""),
    -1: (Outcome.RETRY_LATER, "WeChat is busy"),
    45011: (Outcome.THROTTLED, "too many calls in this minute"),
    45047: (Outcome.THROTTLED, "too many messages to this person"),
    45009: (Outcome.CHANNEL_DOWN, "the quota of today is used up; it starts anew at midnight in Beijing"),
    40003: (Outcome.REJECTED_RECIPIENT, "this openid is not one of this account"),
    43004: (Outcome.REJECTED_RECIPIENT, "this person does not follow the account"),
    43019: (Outcome.REJECTED_RECIPIENT, "this person is on the account's blacklist"),
    48002: (Outcome.REJECTED_RECIPIENT, "this person refuses messages of the account"),
    43101: (Outcome.REJECTED_RECIPIENT, "this person has not allowed it, or the permission is used up or taken back"),
    43107: (Outcome.REJECTED_RECIPIENT, "no permission of this person"),
    43108: (Outcome.REJECTED_RECIPIENT, "no permission of this person"),
    45168: (Outcome.REJECTED_RECIPIENT, "no permission of this person"),
    40037: (Outcome.REJECTED_CONTENT, "the account has no template of this id"),
    47001: (Outcome.REJECTED_CONTENT, "WeChat cannot read the message"),
    47003: (Outcome.REJECTED_CONTENT, "a value is missing or breaks the rule of its key"),
    41028: (Outcome.REJECTED_CONTENT, "wrong form id"),
    41029: (Outcome.REJECTED_CONTENT, "form id used up"),
    41030: (Outcome.REJECTED_CONTENT, "the mini-program has no such page: see the option page"),
    40165: (Outcome.REJECTED_CONTENT, "the mini-program has no such page: see the option page"),
    40166: (Outcome.REJECTED_CONTENT, "the mini-program is not linked to the account: see mini_program_appid"),
    40001: (Outcome.CHANNEL_DOWN, "secret or token are wrong: see appid and secret"),
    40014: (Outcome.CHANNEL_DOWN, "the token is refused even when new"),
    42001: (Outcome.CHANNEL_DOWN, "the token is over even when new"),
    41001: (Outcome.CHANNEL_DOWN, "the token is missing"),
    40002: (Outcome.CHANNEL_DOWN, "wrong kind of token"),
    40013: (Outcome.CHANNEL_DOWN, "appid is wrong"),
    40125: (Outcome.CHANNEL_DOWN, "secret is wrong"),
    41002: (Outcome.CHANNEL_DOWN, "appid is missing"),
    41004: (Outcome.CHANNEL_DOWN, "secret is missing"),
    40164: (Outcome.CHANNEL_DOWN, "add the address of this server to the account's IP whitelist"),
    48001: (Outcome.CHANNEL_DOWN, "the account may not use this interface: see message_kind"),
    48004: (Outcome.CHANNEL_DOWN, "WeChat has blocked this interface for the account"),
    50002: (Outcome.CHANNEL_DOWN, "WeChat has limited or closed the account"),
}
"""What each code means, and words for people. An unknown code proves nothing and is `UNKNOWN`."""

_SURELY_UNSENT: Final = frozenset(Outcome) - {Outcome.ACCEPTED, Outcome.UNKNOWN}


class WeChatOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures for one account and one kind of message.

    `keys` gives, for each template id, WeChat's key (such as `thing1`) of each of our slots; an empty key leaves the
    slot out. Slots that have no entry must be named like keys themselves. `long_term` are templates whose permission
    does not end with one message. `page` is where a tap leads in a mini-program, `{order_no}` in it is filled in; an
    official account needs `mini_program_appid` for it, without it a tap opens the message's link. `message_token` and
    `encoding_aes_key` are those of the account's message push. `price_millifen` is 0: WeChat takes nothing.
    """

    appid: str
    secret: str
    message_kind: Kind = "oa_template"
    keys: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    long_term: frozenset[str] = frozenset()
    page: str = ""
    mini_program_appid: str = ""
    mini_program_state: Literal["formal", "trial", "developer"] = "formal"
    language: Literal["zh_CN", "zh_HK", "zh_TW", "en_US"] = "zh_CN"
    message_token: str = ""
    encoding_aes_key: Annotated[str, msgspec.Meta(pattern="^([A-Za-z0-9+/]{43})?$")] = ""
    url: str = "https://api.weixin.qq.com"
    per_second: float = 0.0
    price_millifen: int = 0
    timeout_s: float = 10.0
    connect_timeout_s: float = 2.0


class Result(msgspec.Struct, frozen=True):
    """What an answer of WeChat says; `code` is None where it is none, or cannot be read."""

    outcome: Outcome
    detail: str = ""
    code: int | None = None
    ref: str = ""
    retry_after_s: float = 0.0
    scope: Scope = Scope.PROVIDER


class _Said(msgspec.Struct, frozen=True):
    errcode: int
    errmsg: str = ""
    msgid: int | str = ""


class _TokenGiven(msgspec.Struct, frozen=True):
    access_token: Annotated[str, msgspec.Meta(min_length=1)]
    expires_in: Annotated[float, msgspec.Meta(gt=0)]


class _NoToken(ChannelUnavailable):
    """WeChat gave no access token."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"no access token: {result.detail}")
        self.result = result


_encode = msgspec.json.Encoder().encode
_decode_said = msgspec.json.Decoder(_Said).decode
_decode_token = msgspec.json.Decoder(_TokenGiven).decode


class WeChatChannel(Provider):
    """One WeChat account and one of its kinds of messages, behind the `Channel` protocol.

    `key_window_s` is how long after an attempt's first request the same attempt may be sent again without becoming a
    second message; later WeChat has forgotten its key, and as it cannot be asked, the attempt must stay unknown. It is
    0 for the kinds that know no key.

    Args:
        options: what the shop configures.
        name: name in the ledger.
        now: the clock, aware UTC.
        shared: keeps the access token and the permissions of people.

    Raises:
        SettingsInvalid: `encoding_aes_key` is not one.
        ValueError: the timeouts contradict each other.
    """

    def __init__(self, options: WeChatOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.carries = frozenset({"wechat"})
        self.batch_max = _BATCH_MAX
        self.price_millifen = options.price_millifen
        self.needs_template = True
        self.receipts_by = ReceiptsBy.CALLBACK
        self.limits = Limits(per_second=options.per_second)
        keyed = options.message_kind == "oa_template"
        self.recovery = Recovery.KEY if keyed else Recovery.NONE
        self.key_window_s = _KEY_WINDOW_S if keyed else 0.0
        self._options = options
        self._now = now
        self._shared = shared
        self._at_once = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self._events = EventReader(appid=options.appid, token=options.message_token, aes_key=options.encoding_aes_key)
        self._http = HttpClient(options.url, connect_timeout_s=options.connect_timeout_s, timeout_s=options.timeout_s)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`: one request for each message, ten at once."""
        results = await asyncio.gather(*(self._send_one(outgoing) for outgoing in batch))
        return [
            Answer(outgoing.attempt_id, one.outcome, one.ref, one.detail, one.retry_after_s, one.scope)
            for outgoing, one in zip(batch, results, strict=True)
        ]

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`: receipts, permissions and followers who left; XML or JSON, plain or safe mode."""
        return self._events.hear(callback)

    async def check(self) -> list[Finding]:
        """See `Channel.check`: fetches the token and the list of templates, and compares that with `keys`."""
        try:
            token = await self._shared.token(self._fetch)
            answered = await self._ask("GET", _LIST_PATHS[self._options.message_kind], token)
        except ChannelUnavailable as problem:
            return [Finding(fine=False, words=str(problem))]
        # The list of an official account's templates comes without errcode, so only the list itself is success.
        templates = read_templates(answered.body) if isinstance(answered, Reply) else None
        if templates is None:
            detail = read_answer(answered, self._now()).detail
            return [Finding(fine=False, words=f"the list of templates could not be read: {detail}")]
        findings = [Finding(fine=True, words=f"appid and secret are right; {len(templates)} templates")]
        findings += compare_keys(self._options.keys, templates)
        if not self._options.message_token:
            words = "no receipts and no permissions will be heard: set message_token as in the account's settings"
            findings.append(Finding(fine=False, words=words))
        return findings

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _send_one(self, outgoing: Outgoing) -> Result:
        """Send one message, with the permission spent before and given back where it was not used."""
        try:
            body = write_message(self._options, outgoing)
        except DoesNotFit as problem:
            return Result(Outcome.REJECTED_CONTENT, str(problem))
        if not outgoing.to.strip():
            return Result(Outcome.REJECTED_RECIPIENT, "no openid")
        async with self._at_once:
            try:
                # First the token, so that nobody's permission is spent on a message that cannot go out.
                token = await self._shared.token(self._fetch)
                if not await self._spend(outgoing):
                    words = "this person has to allow another message of this template first, in WeChat"
                    return Result(Outcome.REJECTED_RECIPIENT, words)
            except OrderBellError as problem:
                return _without_token(problem)
            result = await self._post(body, token)
            if result.outcome in _SURELY_UNSENT and result.code != _NO_PERMISSION:
                await self._give_back(outgoing)
            return result

    async def _post(self, body: bytes, token: str) -> Result:
        try:
            answered = await self._ask("POST", _SEND_PATHS[self._options.message_kind], token, body)
            return read_answer(answered, self._now())
        except ChannelUnavailable as problem:
            return _without_token(problem)

    async def _ask(self, method: str, path: str, token: str, body: bytes | None = None) -> Reply | NoReply:
        """Ask with the token; when WeChat refuses it, ask once more with a new one.

        Raises:
            ChannelUnavailable: it was refused, and there is no new one.
        """
        answered = await self._http.request(method, f"{path}?access_token={quote(token)}", body)
        if read_answer(answered, self._now()).code in STALE_TOKEN_CODES:
            token = await self._shared.token(partial(self._fetch, token), stale=token)
            answered = await self._http.request(method, f"{path}?access_token={quote(token)}", body)
        return answered

    async def _fetch(self, stale: str = "") -> Token:
        """Fetch a token; one that WeChat still hands out although it refuses it is made anew by force."""
        given = await self._fetch_token(force=False)
        if stale and given.access_token == stale:
            given = await self._fetch_token(force=True)
        lifetime_s = max(given.expires_in - _TOKEN_MARGIN_S, given.expires_in / 2)
        return Token(given.access_token, self._now() + dt.timedelta(seconds=lifetime_s))

    async def _fetch_token(self, *, force: bool) -> _TokenGiven:
        options = self._options
        asked = {
            "grant_type": "client_credential", "appid": options.appid, "secret": options.secret,
            "force_refresh": force,
        }  # fmt: skip
        answered = await self._http.request("POST", _TOKEN_PATH, _encode(asked))
        judged = judge(answered)
        if isinstance(judged, bytes):
            try:
                return _decode_token(judged)
            except ValueError:
                pass
        raise _NoToken(read_answer(answered, self._now()))

    async def _spend(self, outgoing: Outgoing) -> bool:
        if not self._needs_permission(outgoing):
            return True
        return await self._shared.spend(outgoing.to, outgoing.template_code)

    async def _give_back(self, outgoing: Outgoing) -> None:
        if self._needs_permission(outgoing):
            try:
                await self._shared.grant(outgoing.to, outgoing.template_code)
            except OrderBellError:
                # A permission too few costs a message by another way; losing the answer could cost one twice.
                return

    def _needs_permission(self, outgoing: Outgoing) -> bool:
        return self._options.message_kind != "oa_template" and outgoing.template_code not in self._options.long_term


def write_message(options: WeChatOptions, outgoing: Outgoing) -> bytes:
    """Write one message in the form of its kind.

    Raises:
        DoesNotFit: there is no template, a slot has no key, or its words cannot be made to fit.
    """
    if not outgoing.template_code:
        raise DoesNotFit("WeChat sends approved templates only, and this text is bound to none")
    message: dict[str, Any] = {
        "touser": outgoing.to,
        "template_id": outgoing.template_code,
        "data": {key: {"value": words} for key, words in fill_keys(options.keys, outgoing).items()},
    }
    page = options.page.replace("{order_no}", quote(outgoing.order_no, safe="", errors="replace"))
    if options.message_kind == "mini_program":
        message |= {"miniprogram_state": options.mini_program_state, "lang": options.language}
        if page:
            message["page"] = page
    else:
        if outgoing.link:
            message["url" if options.message_kind == "oa_template" else "page"] = outgoing.link
        if options.mini_program_appid:
            message["miniprogram"] = {"appid": options.mini_program_appid, "pagepath": page}
    if options.message_kind == "oa_template":
        message["client_msg_id"] = outgoing.attempt_id.hex()
    try:
        return _encode(message)
    except UnicodeEncodeError as error:
        raise DoesNotFit("cannot be written as UTF-8") from error


def fill_keys(keys: Mapping[str, Mapping[str, str]], outgoing: Outgoing) -> dict[str, str]:
    """Give each of WeChat's keys its words, made to fit.

    Raises:
        DoesNotFit: a slot has no key or shares one, or its words cannot be made to fit; says which.
    """
    bound = keys.get(outgoing.template_code, {})
    filled: dict[str, str] = {}
    for slot, words in outgoing.slots:
        key = bound.get(slot, slot if is_key(slot) else None)
        if key is None:
            raise DoesNotFit(
                f"slot {slot!r} has no key of WeChat: add it to keys of template {outgoing.template_code!r}"
            )
        if key in filled:
            raise DoesNotFit(f"slot {slot!r} and another one both fill {key}")
        if key:
            filled[key] = fit(key, words)
    return filled


def read_answer(answered: Reply | NoReply, now: dt.datetime) -> Result:
    """Say what an answer means; `now` tells how long a quota lasts."""
    judged = judge(answered)
    if isinstance(answered, NoReply):
        return Result(Outcome.UNKNOWN if answered.perhaps_sent else Outcome.NOT_SENT, answered.detail)
    try:
        said = _decode_said(answered.body)
    except (ValueError, RecursionError):
        said = None
    if isinstance(judged, Verdict):
        if said is None or said.errcode == 0 or said.errcode not in CODES:
            return Result(judged.outcome, judged.detail, retry_after_s=judged.retry_after_s)
    elif said is None:
        return Result(Outcome.UNKNOWN, "unreadable answer")
    return _read_code(said, now)


def _read_code(said: _Said, now: dt.datetime) -> Result:
    outcome, words = CODES.get(said.errcode, (Outcome.UNKNOWN, "a code that is in no manual"))
    if outcome is Outcome.ACCEPTED:
        return Result(outcome, code=0, ref=str(said.msgid))
    detail = f"{said.errcode} {said.errmsg}"[:_DETAIL_LENGTH_MAX] + f": {words}"
    retry_after_s, scope = 0.0, Scope.PROVIDER
    if said.errcode in _MINUTE_QUOTA_CODES:
        retry_after_s = 60.0 - now.second
    elif said.errcode == _DAY_QUOTA:
        retry_after_s = _seconds_to_midnight(now)
    if said.errcode == 45047:  # noqa: PLR2004 - the one quota that is a person's
        scope = Scope.RECIPIENT
    return Result(outcome, detail, said.errcode, "", retry_after_s, scope)


def _seconds_to_midnight(now: dt.datetime) -> float:
    there = now.astimezone(_BEIJING)
    midnight = there.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
    return (midnight - there).total_seconds()


def _without_token(problem: OrderBellError) -> Result:
    """What holds for a message that was not sent for want of a token: nothing of it is in doubt."""
    if not isinstance(problem, _NoToken):
        return Result(Outcome.NOT_SENT, str(problem))
    result = problem.result
    outcome = result.outcome
    if outcome not in (Outcome.CHANNEL_DOWN, Outcome.THROTTLED):
        outcome = Outcome.NOT_SENT if result.code is None else Outcome.RETRY_LATER
    return msgspec.structs.replace(result, outcome=outcome, detail=str(problem), scope=Scope.PROVIDER)


class _Template(msgspec.Struct, frozen=True):
    content: str
    template_id: str = ""
    pri_tmpl_id: str = msgspec.field(default="", name="priTmplId")


class _Templates(msgspec.Struct, frozen=True):
    template_list: list[_Template] | None = None
    data: list[_Template] | None = None


def read_templates(body: bytes) -> dict[str, str] | None:
    """Read the list of an account's templates: the content of each id; None if it is no such list."""
    try:
        listed = msgspec.json.decode(body, type=_Templates)
    except (ValueError, RecursionError):
        return None
    templates = listed.template_list if listed.template_list is not None else listed.data
    if templates is None:
        return None
    return {template.template_id or template.pri_tmpl_id: template.content for template in templates}


def compare_keys(keys: Mapping[str, Mapping[str, str]], templates: Mapping[str, str]) -> list[Finding]:
    """Find templates and keys that are configured, but that the account does not have."""
    findings = []
    for template, bound in keys.items():
        content = templates.get(template)
        if content is None:
            findings.append(Finding(fine=False, words=f"the account has no template {template!r}: see keys"))
            continue
        missing = [key for key in bound.values() if key and f"{{{{{key}.DATA}}}}" not in content]
        if missing:
            words = f"template {template!r} has no {', '.join(missing)}: see keys"
            findings.append(Finding(fine=False, words=words))
    return findings
