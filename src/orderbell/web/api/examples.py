"""Requests and answers as examples, for the API's description; a test holds them against the schema."""

from typing import Any, Final

Json = dict[str, Any]

_AT, _LATER = "2026-03-02T12:00:08Z", "2026-03-03T12:00:04Z"
_ORDER_NO, _CONTACT = "2026030212345", "ann"
_SAYS: Final = {"zh-CN": "暂时缺货，等您选择", "en": "Out of stock, the choice is yours"}
_NOTICE_ID, _MESSAGE_ID = "019cae6b854077f9282bb4e2beba2b2c", "019cae6b89285a2e736df491d1377868"
_CASE: Final[Json] = {
    "id": "019cae6b854022328b185100a6294c94", "order_no": _ORDER_NO, "anomaly": "stock_short", "kind": "handle",
    "owner": "warehouse", "state": "open", "opened_at": _AT, "closed_at": None, "staff_told_at": _AT,
}  # fmt: skip
_MESSAGE: Final[Json] = {
    "id": _MESSAGE_ID, "order_no": _ORDER_NO, "contact": _CONTACT, "channel": "sms", "to": "+86 138****8000",
    "topic": "stock_short", "category": "transaction", "lane": "critical", "tone": "sorry", "cause": "stock.short",
    "subject": "", "text": "【叮咚】抱歉，您的订单2026030212345暂时缺货。回复1等待，2换货，3退款。",
    "status": "delivered", "provider": "alibaba", "attempt_no": 2, "detail": "", "created_at": _AT, "told_at": _AT,
    "valid_until": _LATER, "sending_at": _AT, "settled_at": _AT, "due_at": None,
}  # fmt: skip

ORDERS: Final[Json] = {
    "items": [
        {
            "order_no": _ORDER_NO, "title": "红茶礼盒", "playbook": "retail", "stage": "paid", "says": _SAYS,
            "light": "red", "payment": "paid", "amount_fen": 12900, "anomalies": ["stock_short"], "open_cases": 1,
            "opened_at": "2026-03-02T12:00:03Z", "updated_at": _AT, "promised_by": None,
        }
    ],
    "next": "lADPAAZMCVPSu0CiQTOg", "looked_back_to": None,
}  # fmt: skip
ORDER: Final[Json] = {
    "order_no": _ORDER_NO, "version": 3, "title": "红茶礼盒", "category": "", "playbook": "retail",
    "stage": {"name": "paid", "at": "2026-03-02T12:00:04Z", "says": _SAYS}, "light": "red", "payment": "paid",
    "payment_at": "2026-03-02T12:00:04Z", "amount_fen": 12900, "price_fen": 0, "sum_fen": 0, "tier": "vip", "key": "",
    "opened_at": "2026-03-02T12:00:03Z", "updated_at": _AT, "promised_by": None, "until": None,
    "next_update_by": _LATER, "reason": "",
    "parcels": [{"tracking_no": "SF100", "carrier": "SF", "phase": "in_transit", "at": _AT, "moves": 2}],
    "anomalies": [{"name": "stock_short", "opened_at": _AT, "cause": "stock.short"}],
    "cases": [
        {"id": _CASE["id"], "anomaly": "stock_short", "kind": "handle", "owner": "warehouse", "state": "open",
         "opened_at": _AT}
    ],
    "parties": [{"role": "buyer", "contact": _CONTACT, "tier": "vip", "addresses": {"sms": "+86 138****8000"}}],
    "deadlines": [
        {"name": "handover_overdue", "due_at": "2026-03-07T12:00:04Z", "tells": False, "opens": ["stage_overdue"]}
    ],
    "marks": {},
}  # fmt: skip
TIMELINE: Final[Json] = {
    "items": [
        {
            "at": _AT, "type": "stock.short", "source": "my-shop", "event_id": "9f1c-3", "data": {},
            "verdict": "applied", "version": 3, "stage": "paid",
            "effects": [
                {"kind": "open_anomaly", "reason": "event_says_so", "name": "stock_short"},
                {"kind": "open_case", "reason": "anomaly_opened", "name": "stock_short", "id": _CASE["id"]},
                {"kind": "send_notice", "reason": "anomaly_opened", "name": "stock_short", "id": _NOTICE_ID,
                 "contact": _CONTACT, "role": "buyer", "due_at": _AT},
            ],
        }
    ],
    "next": "",
}  # fmt: skip
NOTICES: Final[Json] = {
    "items": [
        {
            "id": _NOTICE_ID, "order_no": _ORDER_NO, "contact": _CONTACT, "role": "buyer", "topic": "stock_short",
            "playbook": "retail", "fate": "sent", "reason": "sent", "tone": "sorry", "cause": "stock.short", "into": "",
            "created_at": _AT, "due_at": _AT, "tell_by": "2026-03-02T12:05:08Z", "planned_at": _AT,
        }
    ],
    "next": "", "looked_back_to": None,
}  # fmt: skip
MESSAGES: Final[Json] = {"items": [_MESSAGE], "next": "", "looked_back_to": None}
MESSAGE: Final[Json] = {
    "message": _MESSAGE,
    "attempts": [
        {"id": "019cae6b8928aa2e736df491d1377868", "attempt_no": 1, "provider": "tencent", "outcome": "unavailable",
         "detail": "503", "started_at": _AT, "ended_at": _AT}
    ],
    "notices": [_NOTICE_ID], "provider_ref": "900619746936498440^0", "marketing": False,
}  # fmt: skip
CASES: Final[Json] = {"items": [_CASE], "next": "", "looked_back_to": None}
CASE: Final[Json] = _CASE

_CONSENT: Final[Json] = {
    "scope": "marketing", "given": False, "at": _AT, "source": "reply mo-1", "words": "TD",
}  # fmt: skip
CONTACT: Final[Json] = {
    "id": _CONTACT, "endpoints": {"sms": {"address": "+86 138****8000", "state": "verified"}}, "tier": "vip",
    "tier_from": "shop", "locale": "zh-CN", "timezone": "Asia/Shanghai", "quiet": "22:00-08:00", "mute": ["browse"],
    "frequency": "normal", "marketing": "no", "order_count": 3, "spent_fen": 38700, "checked_at": _AT, "warnings": {},
    "consents": [_CONSENT],
}  # fmt: skip
CONTACTS: Final[Json] = {"contacts": [CONTACT]}
CONSENTS: Final[Json] = {"consents": [_CONSENT]}
CHANGE: Final[Json] = {"mute": ["browse", "transaction:sms"], "quiet": "22:00-08:00", "marketing": False}
AMENDS: Final[Json] = {
    "amends": [
        {
            "id": "019cae6b8928bb2e736df491d1377868", "order_no": _ORDER_NO, "contact": _CONTACT, "kind": "coupon",
            "value_fen": 1000, "topic": "parcel_late", "promised_at": _AT, "valid_until": "2026-04-01T12:00:08Z",
        }
    ],
    "next": "812-4",
}  # fmt: skip
STORY: Final[Json] = {
    "order_no": _ORDER_NO, "contact": "", "title": ["订单2026030212345，已付款，暂时缺货"],
    "zone": "Asia/Shanghai",
    "lines": [
        {
            "at": _AT, "kind": "notice", "name": "stock_short", "what": "缺货通知",
            "text": "20:00 缺货通知已短信发给买家138****8000", "contact": _CONTACT, "role": "buyer", "fate": "sent",
            "reason": "sent",
        }
    ],
    "answer": "",
}  # fmt: skip
FIGURES: Final[Json] = {
    "at": _AT, "counted_at": "2026-03-02T12:00:01Z", "census_at": "2026-03-02T11:59:52Z", "red": 1, "yellow": 3,
    "green": 20, "orders": 24, "stages": {"retail": {"paid": 3, "shipped": 1, "delivered": 20}},
    "anomalies": {"stock_short": 1}, "cases": {"warehouse": 1}, "events": 12, "events_per_minute": [0] * 57 + [4, 6, 2],
    "events_per_hour": [0] * 23 + [12],
    "messages": {"delivered": {"sms": 8, "email": 1}, "accepted": {"sms": 1}},
    "critical": {"count": 2, "share": 1.0, "median_minutes": 0.1, "p95_minutes": 0.2},
    "all": {"count": 10, "share": 0.9, "median_minutes": 1.1, "p95_minutes": 4.2}, "cost_fen": 45.0, "opt_outs": 0,
    "unknown": 0,
}  # fmt: skip
PAGE_LINK: Final[Json] = {"url": "https://bell.example/t/ROL3ron3zfMESDDfCyXOtC"}
CORRECTIONS: Final[Json] = {
    "corrections": [
        {"id": "019cae6b8928dd2e736df491d1377868", "contact": _CONTACT, "text": "请送到南门传达室", "made_at": _AT}
    ]
}  # fmt: skip
LINK_RATES: Final[Json] = {
    "since": "2026-01-31T12:00:08Z",
    "rates": [{"topic": "shipped", "channel": "email", "sent": 120, "clicked": 54, "opened": 61}],
}  # fmt: skip

_VERSION, _OLD = "b4b8c845cb52", "0f3cb68ab8de"
_YAML: Final = "name: retail\nextends: base\nprincipal: buyer\nstages:\n  placed: {next_update: 30m}\n"
PLAYBOOKS: Final[Json] = {
    "playbooks": [
        {"name": "retail", "version": _VERSION, "source": "shipped", "default": True, "stage_count": 10,
         "topic_count": 28}
    ]
}  # fmt: skip
PLAYBOOK: Final[Json] = {
    "name": "retail", "version": _VERSION, "source": "own", "default": True,
    "spec": {"name": "retail", "principal": "buyer", "stages": {"placed": {"next_update": "30m"}}}, "yaml": _YAML,
}  # fmt: skip
VERSIONS: Final[Json] = {
    "current": _VERSION,
    "versions": [
        {"number": 2, "version": _VERSION, "follows": False, "activated_at": _AT, "actor": "user:lin"},
    ],
}  # fmt: skip
VERSION: Final[Json] = {"name": "retail", "version": _VERSION, "source": _YAML, "yaml": _YAML}
DIFF: Final[Json] = {
    "old": _OLD, "new": _VERSION,
    "diff": "--- 0f3cb68ab8de\n+++ b4b8c845cb52\n@@ -5 +5 @@\n-    next_update: 30m\n+    next_update: 1h\n",
}  # fmt: skip
TEXTS: Final[Json] = {
    "texts": [
        {
            "topic": "shipped", "locale": "en", "channel": "sms", "tone": "calm", "newcomer": False, "variant": 1,
            "variant_count": 3, "last": False, "chosen": True, "own": True,
            "sample": {
                "text": "OrderBell: Order 20261111-0087 is on its way with SF Express, expected on 14 Nov.",
                "subject": "", "units": 81, "units_max": 160, "parts": 1, "alphabet": "GSM-7",
            },
            "worst": {
                "text": "OrderBell: Order [~][~][~][~] is on its way with Transcontinent.., expected on 28 Jan.",
                "subject": "", "units": 146, "units_max": 160, "parts": 1, "alphabet": "GSM-7",
            },
            "slots": [{"name": "order_no", "kind": "code", "units_max": 36}], "opt_out": "",
            "about": {
                "to": ["buyer"], "category": "progress", "mandatory": False, "marketing": False, "lane": "service",
                "within": "10m", "wait": "1m", "valid_for": "1d", "level": "normal",
                "channels": ["push", "wechat", "sms", "inbox"], "also": [], "fallback": True,
                "covers": ["payment_received"], "after": [], "tiers": {},
            },
        }
    ]
}  # fmt: skip
DRAFT: Final[Json] = {"text": _YAML}
LINTED: Final[Json] = {
    "ok": False, "name": "", "version": "",
    "problems": [
        {"line": 39, "where": "deadlines.payment_unpaid.in", "message": "there is no stage 'placd'",
         "remedy": "use one of: placed, paid", "file": ""}
    ],
}  # fmt: skip
ACTIVATE: Final[Json] = {"text": _YAML, "expected_version": _OLD}
ACTIVATED: Final[Json] = {"name": "retail", "version": _VERSION, "changed": True, "number": 3}
