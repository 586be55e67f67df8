"""SMS through Twilio: the Messages resource of its REST API of 2010-04-01.

There is no key that would keep a message from being made twice. Instead the address for status callbacks carries the id
of the attempt, so that every receipt names it even when the answer was lost; and the list of messages to one number can
be read, where text and time tell which one it was. Only `delivered`, `read`, `undelivered`, `failed` and `canceled` are
receipts: everything before is on its way, and callbacks may overtake each other.

Sources: twilio.com/docs/messaging/api/message-resource, /docs/usage/security, /docs/api/errors,
/docs/messaging/tutorials/advanced-opt-out.
"""

import asyncio
import base64
import datetime as dt
import email.utils
import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, judge
from orderbell.channels.protocol import (
    Answer,
    Callback,
    CallbackRefused,
    ChannelUnavailable,
    Fate,
    Finding,
    Found,
    Heard,
    InboundSms,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Shared,
    Unsure,
    Veiled,
)
from orderbell.channels.twilio_codes import outcome_of, pause_of, words_of
from orderbell.core.replies import read_reply

_BATCH_MAX: Final = 50
_AT_ONCE_MAX: Final = 10
_VALIDITY_S_MAX: Final = 36_000
_PAGE_SIZE: Final = 200
_PAGES_MAX: Final = 10
# Their clock and ours may differ, and a request may have been on its way for as long as we wait for answers.
_CLOCKS_APART: Final = dt.timedelta(seconds=60)
_DETAIL_LENGTH_MAX: Final = 200
_NOTHING_TO_SAY: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_FORM: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_ATTEMPT: Final = "attempt"
_ATTEMPT_ID_LENGTH: Final = 16
_CODE_LENGTH_MAX: Final = 6
_TRIAL: Final = "Sent from your Twilio trial account - "

_DELIVERED: Final = frozenset({"delivered", "read"})
_FAILED: Final = frozenset({"undelivered", "failed", "canceled"})
_UNDER_WAY: Final = frozenset({"accepted", "scheduled", "queued", "sending", "sent", "partially_delivered"})


class TwilioOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop sets up to send through Twilio.

    `sender` is a number of the account in E.164, a short code or a name of letters; `messaging_service_sid` (MG…) takes
    its place where one is used. Requests are signed with `api_key` and `api_secret` if given, else with `auth_token`,
    which is always needed because callbacks are signed with it. `shared_keys` are the keys of the newer SHA-256
    signatures: the id of each, and its secret.

    `callback_url` is the public address that Twilio calls with receipts; the same may be set in the console for
    incoming messages. Without it there are no receipts. `price_millifen` is by country and has no honest default.
    `per_second` is 1 for a long code; Twilio keeps what comes quicker in a queue for up to 10 hours.
    """

    account_sid: str
    auth_token: str
    api_key: str = ""
    api_secret: str = ""
    sender: str = ""
    messaging_service_sid: str = ""
    shared_keys: dict[str, str] = msgspec.field(default_factory=dict)
    callback_url: str = ""
    url: str = "https://api.twilio.com"
    price_millifen: int = 0
    per_second: float = 1.0
    lookup_after_s: float = 60.0
    timeout_s: float = 10.0
    connect_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        """Refuse an account that nothing could be sent from (ValueError)."""
        if bool(self.sender) is bool(self.messaging_service_sid):
            raise ValueError("set either sender or messaging_service_sid")
        if bool(self.api_key) is not bool(self.api_secret):
            raise ValueError("set both api_key and api_secret, or neither")


class _Message(msgspec.Struct, frozen=True):
    sid: str
    status: str
    error_code: int | None = None
    body: str | None = None
    to: str | None = None
    date_created: str | None = None


class _Page(msgspec.Struct, frozen=True):
    messages: list[_Message]
    next_page_uri: str | None = None


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


class _Account(msgspec.Struct, frozen=True):
    status: str
    type: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_page = msgspec.json.Decoder(_Page).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_decode_account = msgspec.json.Decoder(_Account).decode


def sign(key: str, url: str, form: Iterable[tuple[str, str]], algorithm: str = "HMAC_SHA1") -> str:
    """Sign a callback: the address and then each name and value of the form, sorted and without repeats.

    Raises:
        ValueError: the algorithm is neither HMAC_SHA1 nor HMAC_SHA256.
    """
    algorithms = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
    if algorithm.upper() not in algorithms:
        raise ValueError(f"unknown algorithm {algorithm[:40]!r}")
    signed = url + "".join(name + value for name, value in sorted(set(form)))
    return base64.b64encode(hmac.digest(key.encode(), signed.encode(), algorithms[algorithm.upper()])).decode()


def with_and_without_port(url: str) -> tuple[str, str]:
    """Give an address with its port and without: Twilio signs the one or the other.

    Raises:
        ValueError: it is no address.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    without = host if parts.port is None else host.rpartition(":")[0]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    login = parts.netloc[: len(parts.netloc) - len(host)]
    both = (f"{login}{without}:{port}", f"{login}{without}")
    first, second = (urlunsplit(parts._replace(netloc=netloc)) for netloc in both)
    return first, second


class TwilioChannel(Provider):
    """SMS through one account of Twilio, from one sender or messaging service."""

    carries = frozenset({"sms"})
    batch_max = _BATCH_MAX
    recovery = Recovery.LOOKUP

    def __init__(self, options: TwilioOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.price_millifen = options.price_millifen
        self.lookup_after_s = options.lookup_after_s
        self.receipts_by = ReceiptsBy.CALLBACK if options.callback_url else ReceiptsBy.NONE
        self.limits = Limits(per_second=options.per_second)
        self._options = options
        self._now = now
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)
        self._account = f"/2010-04-01/Accounts/{options.account_sid}"
        user, word = (
            (options.api_key, options.api_secret) if options.api_key else (options.account_sid, options.auth_token)
        )
        self._headers = {**_FORM, "authorization": "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()}
        self._http = HttpClient(options.url, connect_timeout_s=options.connect_timeout_s, timeout_s=options.timeout_s)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`: one request for each message, some at once."""
        return list(await asyncio.gather(*(self._send_one(outgoing) for outgoing in batch)))

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """See `Channel.lookup`: an attempt is found when exactly one message to it has its text and its time.

        Messages that wait in a queue have no `DateSent` yet, so that "not found" is only said after all messages to the
        number have been read.
        """
        asked = [one for one in attempts if one.to and one.text and one.sent_at is not None]
        alike = Counter((one.to, one.text) for one in asked)
        clear = [one for one in asked if alike[one.to, one.text] == 1]
        found = await asyncio.gather(*(self._look_up(one) for one in clear), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [one for one in found if isinstance(one, Found)]

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`: status callbacks and incoming messages, both signed forms, told apart by what is in them.

        The `RawDlrDoneDate` of a receipt is in the carrier's own time zone, so that the time of the callback counts.
        """
        form = self._verified(callback)
        status = form.get("MessageStatus", "")
        if status and form.get("MessageSid"):
            return Heard(
                receipts=self._receipts_in(callback, form, status), answer=_NOTHING_TO_SAY, content_type="text/xml"
            )
        if "Body" in form and form.get("MessageSid"):
            return Heard(inbound=self._inbound_in(form), answer=_NOTHING_TO_SAY, content_type="text/xml")
        raise CallbackRefused("neither a status nor a message")

    async def check(self) -> list[Finding]:
        """See `Channel.check`: asks for the account, or for one message where a key may not see the account."""
        findings = [await self._check_account()]
        if not self._options.callback_url:
            findings.append(Finding(fine=False, words="Twilio: set callback_url, without it there are no receipts"))
        return findings

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        try:
            body = urlencode(self._form_of(outgoing)).encode()
        except UnicodeEncodeError:
            return Answer(outgoing.attempt_id, Outcome.REJECTED_CONTENT, detail="cannot be written as UTF-8")
        if outgoing.valid_until is not None and outgoing.valid_until <= self._now():
            return Answer(outgoing.attempt_id, Outcome.REJECTED_CONTENT, detail="its time was over before it was sent")
        async with self._at_once:
            answered = await self._http.request("POST", f"{self._account}/Messages.json", body, self._headers)
        return _read_answer(outgoing.attempt_id, answered)

    def _form_of(self, outgoing: Outgoing) -> dict[str, str]:
        options = self._options
        form = {"To": outgoing.to, "Body": outgoing.text}
        if options.messaging_service_sid:
            form["MessagingServiceSid"] = options.messaging_service_sid
        else:
            form["From"] = options.sender
        if options.callback_url:
            joint = "&" if "?" in options.callback_url else "?"
            form["StatusCallback"] = f"{options.callback_url}{joint}{_ATTEMPT}={outgoing.attempt_id.hex()}"
        if outgoing.valid_until is not None:
            left_s = int((outgoing.valid_until - self._now()).total_seconds())
            form["ValidityPeriod"] = str(min(max(left_s, 1), _VALIDITY_S_MAX))
        return form

    async def _look_up(self, unsure: Unsure) -> Found | None:
        sent_at = unsure.sent_at
        if sent_at is None:
            return None
        since = (sent_at - _CLOCKS_APART).astimezone(dt.UTC)
        until = sent_at + dt.timedelta(seconds=self._options.timeout_s) + _CLOCKS_APART
        days = {"DateSent>": f"{since:%Y-%m-%d}"}
        for narrowed in (days, {}):
            messages, complete = await self._list({"To": unsure.to, **narrowed})
            matching = [one for one in messages if _matches(one, unsure, since, until)]
            if matching or (complete and not narrowed):
                return _found(unsure.attempt_id, matching)
        return None

    async def _list(self, wanted: Mapping[str, str]) -> tuple[list[_Message], bool]:
        """Read messages page by page; also tells whether all have been read."""
        messages: list[_Message] = []
        path: str | None = f"{self._account}/Messages.json?" + urlencode({**wanted, "PageSize": _PAGE_SIZE})
        for _ in range(_PAGES_MAX):
            if not path or not path.startswith("/"):
                break
            try:
                page = _decode_page(await self._ask(path))
            except ValueError as error:
                raise ChannelUnavailable(f"channel {self.name}: unreadable list of messages") from error
            messages += page.messages
            path = page.next_page_uri
        return messages, not path

    async def _ask(self, path: str) -> bytes:
        """Ask something that changes nothing, and have an answer or an exception."""
        async with self._at_once:
            answered = await self._http.request("GET", path, None, self._headers)
        judged = judge(answered)
        if isinstance(judged, bytes):
            return judged
        detail = _read_answer(b"", answered).detail
        raise ChannelUnavailable(f"channel {self.name}: {detail}")

    async def _check_account(self) -> Finding:
        try:
            if self._options.api_key:
                _decode_page(await self._ask(f"{self._account}/Messages.json?PageSize=1"))
                return Finding(fine=True, words="Twilio: the key may read messages")
            account = _decode_account(await self._ask(f"{self._account}.json"))
        except ChannelUnavailable as unavailable:
            return Finding(fine=False, words=f"Twilio: {unavailable}")
        except ValueError:
            return Finding(fine=False, words="Twilio: what answers at this url is not Twilio")
        if account.status != "active":
            return Finding(fine=False, words=f"Twilio: the account is {account.status}, look into the Twilio console")
        trial = "; a trial account only sends to verified numbers" if account.type == "Trial" else ""
        return Finding(fine=True, words=f"Twilio: the account is active{trial}")

    def _verified(self, callback: Callback) -> dict[str, str]:
        """Read the form of a callback that is Twilio's; nothing of it is believed before."""
        signature = callback.headers.get("x-twilio-signature", "")
        key, algorithm = self._key_of(callback.headers.get("x-twilio-webhooks-signature-settings", ""))
        try:
            form = parse_qsl(callback.body.decode(), keep_blank_values=True, max_num_fields=1_000)
            good = [sign(key, url, form, algorithm) for url in with_and_without_port(callback.url)]
        except ValueError as error:
            raise CallbackRefused("unreadable callback") from error
        if not any(hmac.compare_digest(one.encode(), signature.encode()) for one in good):
            raise CallbackRefused("the signature is not Twilio's: is the public address right?", 403)
        return dict(form)

    def _key_of(self, settings: str) -> tuple[str, str]:
        """Choose the key and the algorithm of a callback by its header, such as `key=…,algorithm=HMAC_SHA256`."""
        named = dict(part.strip().partition("=")[::2] for part in settings.split(","))
        algorithm = named.get("algorithm") or "HMAC_SHA1"
        if not named.get("key"):
            return self._options.auth_token, algorithm
        key = self._options.shared_keys.get(named["key"])
        if key is None:
            raise CallbackRefused("signed with a key that is not in shared_keys", 403)
        return key, algorithm

    def _receipts_in(self, callback: Callback, form: Mapping[str, str], status: str) -> tuple[Receipt, ...]:
        if status not in _DELIVERED | _FAILED:
            return ()
        try:
            attempt_id = bytes.fromhex(callback.query.get(_ATTEMPT, ""))
        except ValueError:
            attempt_id = b""
        number = form.get("ErrorCode", "")[:_CODE_LENGTH_MAX]
        code = int(number) if number.isdecimal() else None
        return (
            Receipt(
                attempt_id=attempt_id if len(attempt_id) == _ATTEMPT_ID_LENGTH else b"",
                provider_ref=form["MessageSid"],
                delivered=status in _DELIVERED,
                detail=_describe(status, code),
                at=self._now(),
            ),
        )

    def _inbound_in(self, form: Mapping[str, str]) -> tuple[InboundSms, ...]:
        """Read a message from a person; a STOP in a shop's own words becomes one that everybody understands."""
        sender, text = form.get("From", ""), form["Body"]
        if not (sender.startswith("+") and sender[1:].isdecimal()):
            return ()
        if form.get("OptOutType") == "STOP" and read_reply(text).kind != "opt_out":
            text = "STOP"
        media = [form[name] for number in range(10) if (name := f"MediaUrl{number}") in form]
        return (InboundSms(form["MessageSid"], sender, "\n".join([text, *media]).strip(), self._now()),)


def _read_answer(attempt_id: bytes, answered: Reply | NoReply) -> Answer:
    judged = judge(answered)
    if isinstance(judged, bytes):
        return _read_message(attempt_id, judged)
    if isinstance(answered, NoReply):
        return Answer(attempt_id, judged.outcome, detail=judged.detail)
    error = _read_error(answered.body)
    outcome, words = (judged.outcome, judged.detail) if error is None else outcome_of(error.code, answered.status)
    code = 0 if error is None else error.code
    pause_s = answered.retry_after_s or (pause_of(code) if outcome is Outcome.THROTTLED else 0.0)
    return Answer(attempt_id, outcome, detail=f"{code or ''} {words}".strip(), retry_after_s=pause_s)


def _read_error(body: bytes) -> _Error | None:
    """Read Twilio's own words about an error, None where there are none."""
    try:
        return _decode_error(body)
    except ValueError:
        return None


def _read_message(attempt_id: bytes, body: bytes) -> Answer:
    """Read the message that was made; it may have failed at once."""
    try:
        message = _decode_message(body)
    except ValueError as error:
        return Answer(attempt_id, Outcome.UNKNOWN, detail=f"unreadable body: {error}"[:_DETAIL_LENGTH_MAX])
    outcome, detail = Outcome.ACCEPTED, ""
    if message.status in _FAILED:
        outcome, _ = outcome_of(message.error_code or 0, 400)
        detail = _describe(message.status, message.error_code)
    elif message.status not in _UNDER_WAY | _DELIVERED or not message.sid:
        outcome, detail = Outcome.UNKNOWN, f"unknown status {message.status[:40]!r}"
    return Answer(attempt_id, outcome, provider_ref=message.sid, detail=detail)


def _matches(message: _Message, unsure: Unsure, since: dt.datetime, until: dt.datetime) -> bool:
    """Whether a message may be the one that was asked for; a trial account writes its own words before the text."""
    if message.to != unsure.to or message.body not in {unsure.text, _TRIAL + unsure.text}:
        return False
    try:
        created_at = email.utils.parsedate_to_datetime(message.date_created or "")
    except ValueError:
        return True
    return created_at.tzinfo is None or since <= created_at <= until


def _found(attempt_id: bytes, matching: Sequence[_Message]) -> Found | None:
    if not matching:
        return Found(attempt_id, Fate.NOT_FOUND)
    message = matching[0]
    if len(matching) > 1:
        return None
    detail = _describe(message.status, message.error_code)
    if message.status in _DELIVERED:
        return Found(attempt_id, Fate.DELIVERED, message.sid)
    if message.status in _FAILED:
        return Found(attempt_id, Fate.FAILED, message.sid, detail)
    return Found(attempt_id, Fate.ACCEPTED, message.sid) if message.status in _UNDER_WAY else None


def _describe(status: str, code: int | None) -> str:
    return " ".join(part for part in (status, "" if code is None else str(code), words_of(code)) if part)
