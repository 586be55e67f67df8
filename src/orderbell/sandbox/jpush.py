"""Pretends to be JPush: REST API v3, as far as it is needed to push to single devices.

Source: https://docs.jiguang.cn/jpush/server/push/rest_api_v3_push and `_push_advanced`.
"""

import base64
import datetime as dt
import hmac
import re
import uuid
from typing import Any, Final

import msgspec

from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, utc_now

_CID_GOOD_FOR: Final = dt.timedelta(days=1)
_CIDS_MAX: Final = 10
_CIDS_VIP_MAX: Final = 1_000
_REGISTRATION_IDS_MAX: Final = 1_000
_LIFETIME_S_MAX: Final = 10 * 86_400
_ANDROID_BYTES_MAX: Final = 4_000
_IOS_BYTES_MAX: Final = 2_000
_COLLAPSE_BYTES_MAX: Final = 64
_REGISTRATION_ID: Final = re.compile(r"[0-9A-Za-z]{8,64}")
_MINUTE: Final = dt.timedelta(minutes=1)

ERRORS: Final = {
    1000: (500, "System error"),
    1001: (405, "Only support POST method"),
    1002: (400, "Missing parameter"),
    1003: (400, "Invalid parameter"),
    1004: (401, "Authentication failed"),
    1005: (400, "The length of notification is too long"),
    1007: (400, "Unsupported value"),
    1008: (400, "Invalid app_key"),
    1009: (400, "Unsupported key in audience"),
    1011: (400, "cannot find user by this audience"),
    1012: (400, "Unsupported"),
    1020: (404, "Only support https request"),
    1030: (503, "Server response time out, please try again later"),
    2002: (429, "Request times of the app_key exceed the limit of current time window"),
    2003: (403, "The app_key has been restricted to call the API"),
    2004: (403, "The ip is not in the white list"),
    2005: (403, "The amount of messages is out of range"),
    2006: (403, "Forbidden"),
    2007: (403, "Forbidden"),
}
"""HTTP status and words of each code."""


class _Push(msgspec.Struct):
    platform: str | list[str]
    audience: dict[str, list[str]]
    notification: dict[str, dict[str, Any]]
    options: dict[str, Any] = {}
    cid: str = ""


_decode = msgspec.json.Decoder(_Push).decode


class JpushSimulator(Simulator):
    """JPush on a local port.

    Args:
        app_key: the app that may push.
        master_secret: its secret.
        vip: whether 1,000 cids are given at once instead of 10.
        per_minute: requests that are answered within a minute; 0 is no limit.
        clock: tells the time as aware UTC.

    Attributes:
        gone: registration ids that JPush no longer knows.
        fail_with: a code that every push is refused with.
        fail_cids: whether cids are refused with a bare HTTP 503.
        repeated: how many pushes were recognised by their cid.
    """

    def __init__(
        self,
        app_key: str,
        master_secret: str,
        *,
        vip: bool = False,
        per_minute: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(clock=clock)
        self._authorization = "Basic " + base64.b64encode(f"{app_key}:{master_secret}".encode()).decode()
        self._app_key = app_key
        self._cids_max = _CIDS_VIP_MAX if vip else _CIDS_MAX
        self._per_minute = per_minute
        self._asked_at: list[dt.datetime] = []
        self._cids: dict[str, dt.datetime] = {}
        self._results: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.fail_with = ""
        self.fail_cids = False
        self.repeated = 0

    def refuse_key(self) -> None:
        """From now on, take no request for one of the right app."""
        self._authorization = "Basic of another app"

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as JPush would."""
        if not hmac.compare_digest(asked.headers.get("authorization", "").encode(), self._authorization.encode()):
            return _error(1004)
        if self._is_too_quick():
            return self._throttled()
        match asked.method, asked.path:
            case "GET", "/v3/push/cid":
                return self._give_cids(asked)
            case "POST", "/v3/push" | "/v3/push/validate":
                return self._push(asked)
            case _, "/v3/push" | "/v3/push/validate":
                return _error(1001)
        return Answered(404)

    def _is_too_quick(self) -> bool:
        if not self._per_minute:
            return False
        now = self.clock()
        self._asked_at = [at for at in self._asked_at if now - at < _MINUTE]
        if len(self._asked_at) >= self._per_minute:
            return True
        self._asked_at.append(now)
        return False

    def _throttled(self) -> Answered:
        left_s = 30.0
        if self._asked_at:
            left_s = (self._asked_at[0] + _MINUTE - self.clock()).total_seconds()
        limits = (("limit", self._per_minute or 600), ("remaining", 0), ("reset", max(1, round(left_s))))
        return _error(2002, headers=tuple((f"x-rate-limit-{name}", str(value)) for name, value in limits))

    def _give_cids(self, asked: Asked) -> Answered:
        if self.fail_cids:
            return Answered(503)
        count = asked.parameters.get("count", "1")
        if not count.isdecimal() or not int(count):
            return _error(1003)
        cids = [f"{self._app_key}-{uuid.uuid4()}" for _ in range(min(int(count), self._cids_max))]
        self._cids.update(dict.fromkeys(cids, self.clock()))
        return Answered(body=msgspec.json.encode({"cidlist": cids}))

    def _push(self, asked: Asked) -> Answered:
        if self.fail_with:
            return _error(int(self.fail_with))
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        if self.dice.strikes(self.faults.throttle):
            return self._throttled()
        if self.dice.strikes(self.faults.error_body):
            return Answered(body=b'{"error":{"code":9999,"message":"no manual has this"}}')
        try:
            push = _decode(asked.body)
        except ValueError as error:
            return _error(1002 if "missing required" in str(error) else 1003)
        if push.cid in self._results:
            self.repeated += 1
            return Answered(body=self._results[push.cid], took=True)
        if _has_bad_target(push):
            return _error(1003, "registration_id: ")
        if code := self._find_fault(push):
            return _error(code)
        if asked.path.endswith("/validate"):
            return Answered(body=b'{"sendno":"0","msg_id":"0"}')
        return self._take(push)

    def _take(self, push: _Push) -> Answered:
        ref = str(18_100_000_000_000_000 + len(self.taken))
        (target, *_), android = push.audience["registration_id"], push.notification.get("android", {})
        options = push.options
        self.keep(ref, target, android.get("alert", ""), cid=push.cid, notification=push.notification, options=options)
        body = msgspec.json.encode({"sendno": "0", "msg_id": ref})
        if push.cid:
            self._results[push.cid] = body
        return Answered(body=body, took=True)

    def _find_fault(self, push: _Push) -> int:
        if _has_bad_options(push.options) or self._is_bad_cid(push.cid):
            return 1003
        if set(push.audience) != {"registration_id"}:
            return 1009
        sizes = {name: len(msgspec.json.encode(told)) for name, told in push.notification.items()}
        if sizes.get("android", 0) > _ANDROID_BYTES_MAX or sizes.get("ios", 0) > _IOS_BYTES_MAX:
            return 1005
        return 1011 if self.gone.issuperset(push.audience["registration_id"]) else 0

    def _is_bad_cid(self, cid: str) -> bool:
        given_at = self._cids.get(cid)
        return bool(cid) and (given_at is None or self.clock() - given_at > _CID_GOOD_FOR)


def _has_bad_target(push: _Push) -> bool:
    ids = push.audience.get("registration_id", [])
    return not 0 < len(ids) <= _REGISTRATION_IDS_MAX or not all(map(_REGISTRATION_ID.fullmatch, ids))


def _has_bad_options(options: dict[str, Any]) -> bool:
    lifetime_s = options.get("time_to_live", 0)
    production = options.get("apns_production", True)
    collapse_id = options.get("apns_collapse_id", "")
    if not isinstance(lifetime_s, int) or not 0 <= lifetime_s <= _LIFETIME_S_MAX:
        return True
    return not isinstance(production, bool) or len(collapse_id.encode()) > _COLLAPSE_BYTES_MAX


def _error(code: int, about: str = "", headers: tuple[tuple[str, str], ...] = ()) -> Answered:
    status, message = ERRORS.get(code, (400, "an unknown code"))
    return Answered(status, msgspec.json.encode({"error": {"code": code, "message": about + message}}), headers=headers)
