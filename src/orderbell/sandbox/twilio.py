"""A simulated Twilio: the Messages resource, its checks and codes, signed callbacks, and messages from people.

A created message is `queued`, is told of as `sent` and then as what became of it. Its list is filtered by `To`, `From`
and `DateSent`, and given in pages; the account itself can be asked for. What Twilio does not say in its public pages is
kept simple: there is one price, and every text that is taken is delivered unless a fault says otherwise.

Sources: twilio.com/docs/messaging/api/message-resource, /docs/usage/requests-to-twilio, /docs/usage/security,
/docs/usage/webhooks/messaging-webhooks.
"""

import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from orderbell.core.segments import measure
from orderbell.sandbox.ledger import Delivery
from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, Taken, utc_now

_API: Final = "/2010-04-01/Accounts/"
_TEXT_LENGTH_MAX: Final = 1_600
_VALIDITY_S: Final = range(1, 36_001)
_PAGE_SIZES: Final = range(1, 1_001)
_HTTP_TOO_MANY: Final = 429
_is_number = re.compile(r"\+[1-9]\d{6,14}").fullmatch

_ERRORS: Final[Mapping[int, tuple[int, str]]] = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (_HTTP_TOO_MANY, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    21211: (400, "The 'To' number is not a valid phone number."),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21604: (400, "A 'To' phone number is required."),
    21609: (400, "The 'StatusCallback' URL is not a valid URL."),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21611: (_HTTP_TOO_MANY, "This 'From' number has exceeded the maximum number of queued messages"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
    21624: (400, "The 'ValidityPeriod' is invalid."),
    21659: (400, "'From' is not a Twilio phone number or Short Code country mismatch"),
    21703: (400, "The Messaging Service does not have a phone number available to send a message"),
    21730: (503, "System under maintenance. Please try again later."),
}
_OPT_OUTS: Final = {"STOP": "STOP", "START": "START", "UNSTOP": "START", "HELP": "HELP", "INFO": "HELP"}


class TwilioSimulator(Simulator):
    """One account of Twilio with one sender and one messaging service.

    `fail_with` is a code that every request to send is answered with; `shared_key` an id and a secret with which
    callbacks are signed by SHA-256 instead of with the account's token by SHA-1. `stopped` are the people who replied
    STOP. `queue_max` is how many messages of the sender may be waiting for their receipts, 0 for any number.

    Args:
        clock: tells the time as aware UTC.
        callback_url: where messages from people are sent, as set in the console for the sender.
        account_sid: the account (AC…).
        auth_token: its token; also good for callbacks.
        keys: further API keys and their secrets.
        sender: the number of the account.
        messaging_service_sid: its messaging service (MG…).
    """

    def __init__(
        self,
        *,
        clock: Clock = utc_now,
        callback_url: str = "",
        account_sid: str = "AC" + "0" * 32,
        auth_token: str = "sandbox",  # noqa: S107 - of a simulated account
        keys: Mapping[str, str] | None = None,
        sender: str = "+15005550006",
        messaging_service_sid: str = "MG" + "0" * 32,
    ) -> None:
        super().__init__(clock=clock, callback_url=callback_url)
        self.account_sid, self.auth_token = account_sid, auth_token
        self.sender, self.messaging_service_sid = sender, messaging_service_sid
        self.keys = {account_sid: auth_token, **(keys or {})}
        self.account_status = "active"
        self.account_type = "Full"
        self.shared_key: tuple[str, str] | None = None
        self.stopped: set[str] = set()
        self.queue_max = 0
        self.fail_with = ""
        self.waiting = 0

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request to the REST API."""
        if not self._is_known(asked):
            return _error(20003)
        account, _, rest = asked.path.removeprefix(_API).partition("/")
        if not asked.path.startswith(_API) or account.removesuffix(".json") != self.account_sid:
            return _error(20404)
        if not rest:
            return _json({"sid": self.account_sid, "status": self.account_status, "type": self.account_type})
        if rest == "Messages.json":
            return self._list(asked) if asked.method == "GET" else self._create(asked.form)
        wanted = rest.removeprefix("Messages/").removesuffix(".json")
        found = [taken for taken in self.taken if taken.ref == wanted]
        return _json(self._shown(found[0])) if found else _error(20404)

    async def reply(self, sender: str, text: str, *, opt_out: bool = False, sid: str = "", **more: str) -> int:
        """Let a person write to the account's number; gives the status of the answer.

        STOP and START take effect; `opt_out` is whether the account has Advanced Opt-Out, which tells of them.
        """
        kind = _OPT_OUTS.get(text.strip().upper(), "")
        if kind == "STOP":
            self.stopped.add(sender)
        elif kind == "START":
            self.stopped.discard(sender)
        sid = sid or f"SM{len(self.taken):08x}{int(self.clock().timestamp() * 1000):024x}"
        form = {
            "ToCountry": "US", "MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "SmsStatus": "received",
            "NumSegments": "1", "NumMedia": "0", "AccountSid": self.account_sid, "From": sender, "To": self.sender,
            "Body": text, "ApiVersion": "2010-04-01", **({"OptOutType": kind} if opt_out and kind else {}), **more,
        }  # fmt: skip
        return await self._tell(self.callback_url, form)

    def signature_of(self, url: str, form: Mapping[str, str]) -> dict[str, str]:
        """Make the headers with which a callback is signed."""
        signed = (url + "".join(name + form[name] for name in sorted(form))).encode()
        key, algorithm, more = self.auth_token, hashlib.sha1, {}
        if self.shared_key is not None:
            key_id, key = self.shared_key
            algorithm = hashlib.sha256
            more = {"x-twilio-webhooks-signature-settings": f"key={key_id},algorithm=HMAC_SHA256"}
        digest = hmac.new(key.encode(), signed, algorithm).digest()
        return {"x-twilio-signature": base64.b64encode(digest).decode(), **more}

    async def tell_status(self, taken: Taken, status: str, error_code: str = "") -> int:
        """Call the status callback of a message; gives the status of the answer."""
        form = {
            "ApiVersion": "2010-04-01", "AccountSid": self.account_sid, "From": self.sender, "To": taken.to,
            "MessageSid": taken.ref, "SmsSid": taken.ref, "MessageStatus": status, "SmsStatus": status,
        }  # fmt: skip
        if status in {"delivered", "undelivered"}:
            form["RawDlrDoneDate"] = f"{self.clock():%y%m%d%H%M}"
        if error_code:
            form["ErrorCode"] = error_code
        return await self._tell(str(taken.fields["StatusCallback"]), form)

    async def _tell(self, url: str, form: Mapping[str, str]) -> int:
        body = urlencode(form).encode()
        return await self.call(body, "application/x-www-form-urlencoded", url=url, headers=self.signature_of(url, form))

    def _is_known(self, asked: Asked) -> bool:
        scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
        try:
            user, _, word = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and self.keys.get(user) == word

    def _create(self, form: Mapping[str, str]) -> Answered:
        if self.dice.strikes(self.faults.refuse):
            return Answered(503, b"upstream connect error", "text/plain")
        if self.dice.strikes(self.faults.throttle):
            return _error(20429)
        if self.fail_with:
            return _error(int(self.fail_with))
        if code := self._what_is_wrong(form):
            return _error(code)
        if self.dice.strikes(self.faults.error_body):
            return _json({"sid": "SM" + "f" * 32, "status": "teleported", "error_code": None}, status=201)
        sid = f"SM{len(self.taken) + 1:032x}"
        taken = self.keep(sid, form["To"], form["Body"], **form)
        if form.get("StatusCallback") and taken.delivery is not Delivery.SILENT:
            self.waiting += 1
            self.later(self._tell_all(taken))
        return _json({**self._shown(taken), "status": "queued", "date_sent": None, "error_code": None}, 201, took=True)

    def _what_is_wrong(self, form: Mapping[str, str]) -> int:
        """Give the code of what Twilio would not take, 0 if it takes it."""
        to, text, validity = form.get("To", ""), form.get("Body", ""), form.get("ValidityPeriod", "")
        service = form.get("MessagingServiceSid", "")
        callback = urlsplit(form.get("StatusCallback", "https://none.example"))
        checks = (
            (not to, 21604),
            (not _is_number(to), 21211),
            (not form.get("From") and not service, 21603),
            (bool(service) and service != self.messaging_service_sid, 21703),
            (not service and form.get("From") != self.sender, 21659),
            (not text, 21602),
            (len(text) > _TEXT_LENGTH_MAX, 21617),
            (bool(validity) and not (validity.isdecimal() and int(validity) in _VALIDITY_S), 21624),
            (callback.scheme not in {"http", "https"} or not callback.hostname, 21609),
            (to in self.stopped, 21610),
            (0 < self.queue_max <= self.waiting, 21611),
        )
        return next((code for wrong, code in checks if wrong), 0)

    async def _tell_all(self, taken: Taken) -> None:
        self.waiting -= 1
        await self.tell_status(taken, "sent")
        if taken.delivery is Delivery.FAILED:
            await self.tell_status(taken, "undelivered", "30003")
        else:
            await self.tell_status(taken, "delivered")

    def _shown(self, taken: Taken) -> dict[str, Any]:
        """Show a message as the REST API does; it has arrived, or not, once its receipt is due."""
        due = self.clock() - taken.at >= dt.timedelta(seconds=self.faults.receipt_delay_s)
        failed = taken.delivery is Delivery.FAILED
        created = email.utils.format_datetime(taken.at)
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": taken.text,
            "date_created": created,
            "date_sent": created if due else None,
            "date_updated": created,
            "direction": "outbound-api",
            "error_code": 30003 if due and failed else None,
            "error_message": None,
            "from": taken.fields.get("From"),
            "messaging_service_sid": taken.fields.get("MessagingServiceSid"),
            "num_media": "0",
            "num_segments": str(measure(taken.text).parts),
            "price": None,
            "price_unit": "USD",
            "sid": taken.ref,
            "status": ("undelivered" if failed else "delivered") if due else "queued",
            "subresource_uris": {"media": f"{_API}{self.account_sid}/Messages/{taken.ref}/Media.json"},
            "to": taken.to,
            "uri": f"{_API}{self.account_sid}/Messages/{taken.ref}.json",
        }

    def _list(self, asked: Asked) -> Answered:
        """List messages, the newest first, in pages."""
        wanted = asked.parameters
        size = int(wanted.get("PageSize", "50")) if wanted.get("PageSize", "50").isdecimal() else 50
        size = min(max(size, _PAGE_SIZES[0]), _PAGE_SIZES[-1])
        page = int(wanted.get("Page", "0")) if wanted.get("Page", "0").isdecimal() else 0
        every = [one for one in map(self._shown, reversed(self.taken)) if _is_wanted(one, wanted)]
        query = [(name, value) for name, value in parse_qsl(asked.query) if name not in {"Page", "PageToken"}]

        def uri(number: int) -> str:
            return f"{asked.path}?" + urlencode([*query, ("Page", number), ("PageToken", f"PA{number}")])

        last = (page + 1) * size >= len(every)
        return _json(
            {
                "messages": every[page * size : (page + 1) * size],
                "first_page_uri": uri(0),
                "next_page_uri": None if last else uri(page + 1),
                "previous_page_uri": uri(page - 1) if page else None,
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": min((page + 1) * size, len(every)) - 1,
                "uri": uri(page),
            }
        )


def _is_wanted(shown: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    if any(wanted.get(name) not in {None, shown[name.lower()]} for name in ("To", "From")):
        return False
    days = {name: wanted[name][:10] for name in ("DateSent", "DateSent<", "DateSent>") if name in wanted}
    if not days:
        return True
    if shown["date_sent"] is None:
        return False
    day = email.utils.parsedate_to_datetime(shown["date_sent"]).date().isoformat()
    return days.get("DateSent", day) == day and days.get("DateSent>", day) <= day <= days.get("DateSent<", day)


def _json(content: Mapping[str, Any], status: int = 200, *, took: bool = False) -> Answered:
    return Answered(status, msgspec.json.encode(content), took=took)


def _error(code: int) -> Answered:
    status, message = _ERRORS.get(code, (400, "Bad Request"))
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more_info, "status": status}
    headers = (("retry-after", "1"),) if status == _HTTP_TOO_MANY else ()
    return Answered(status, msgspec.json.encode(body), headers=headers)
