"""The named statements of looking: lists and searches of one tenant.

Conditions are put together from the fixed pieces below by what is asked for (`Ask`). A filter without an index of its
own looks through the newest rows, a bounded number for a page (`{steps}`); the rest is left for the next page.
"""

from typing import Final

# The plans must follow what is asked for and not the mean of all questions, and no list is worth reading a whole table.
BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = off;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL statement_timeout = '5s'
"""

OF_ORDER: Final = {
    "stage": "o.stage = {}",
    "light": "o.light = {}",
    "playbook": "o.playbook = {}",
    "opened_from": "o.opened_at >= {}",
    "opened_until": "o.opened_at < {}",
    "anomaly": """EXISTS (SELECT FROM anomaly x WHERE x.tenant = o.tenant AND x.order_no = o.order_no AND x.name = {}
        AND x.closed_at IS NULL)""",
}  # fmt: skip

NEWEST_ORDERS: Final = """
SELECT o.opened_at, o.order_no, '' AS name, o.light, o.state FROM (
    SELECT * FROM orders o WHERE o.tenant = $1 AND (o.opened_at, o.order_no) < ($2, $3) AND {window}
    ORDER BY o.opened_at DESC, o.order_no DESC LIMIT {steps}
) o WHERE {wanted} ORDER BY o.opened_at DESC, o.order_no DESC LIMIT {limit}
"""
LAST_OF_NEWEST: Final = """
SELECT o.opened_at, o.order_no, '' AS name FROM orders o
WHERE o.tenant = $1 AND (o.opened_at, o.order_no) < ($2, $3) AND {window}
ORDER BY o.opened_at DESC, o.order_no DESC OFFSET {steps} - 1 LIMIT 1
"""

TROUBLED_ORDERS: Final = """
SELECT a.opened_at, a.order_no, a.name, o.light, o.state FROM (
    SELECT a.* FROM anomaly a
    WHERE a.tenant = $1 AND a.closed_at IS NULL AND (a.opened_at, a.order_no, a.name) < ($2, $3, $4) AND {named}
    ORDER BY a.opened_at DESC, a.order_no DESC, a.name DESC LIMIT {steps}
) a JOIN orders o ON o.tenant = $1 AND o.order_no = a.order_no
WHERE {wanted} ORDER BY a.opened_at DESC, a.order_no DESC, a.name DESC LIMIT {limit}
"""
LAST_OF_TROUBLED: Final = """
SELECT a.opened_at, a.order_no, a.name FROM anomaly a
WHERE a.tenant = $1 AND a.closed_at IS NULL AND (a.opened_at, a.order_no, a.name) < ($2, $3, $4) AND {named}
ORDER BY a.opened_at DESC, a.order_no DESC, a.name DESC OFFSET {steps} - 1 LIMIT 1
"""

ORDER_OF_NUMBER: Final = """
SELECT o.opened_at, o.order_no, '' AS name, o.light, o.state FROM orders o
WHERE o.tenant = $1 AND o.order_no = {text} AND {wanted}
"""
ORDERS_OF_PEOPLE: Final = """
SELECT o.opened_at, o.order_no, '' AS name, o.light, o.state FROM (
    SELECT DISTINCT p.order_no FROM (
        SELECT p.order_no FROM party p WHERE p.tenant = $1 AND p.contact = ANY ({contacts}::text[]) LIMIT {steps}
    ) p
) p JOIN orders o ON o.tenant = $1 AND o.order_no = p.order_no
WHERE (o.opened_at, o.order_no) < ($2, $3) AND o.order_no <> {text} AND {wanted}
ORDER BY o.opened_at DESC, o.order_no DESC LIMIT {limit}
"""
ORDERS_BY_NUMBER: Final = """
SELECT o.opened_at, o.order_no, '' AS name, o.light, o.state FROM (
    SELECT * FROM orders o WHERE o.tenant = $1 AND o.order_no LIKE {prefix} AND o.order_no > $2
    ORDER BY o.order_no LIMIT {steps}
) o WHERE {wanted} AND o.order_no <> {text} AND NOT EXISTS (
    SELECT FROM party p WHERE p.tenant = $1 AND p.contact = ANY ({contacts}::text[]) AND p.order_no = o.order_no
) ORDER BY o.order_no LIMIT {limit}
"""
LAST_BY_NUMBER: Final = """
SELECT o.opened_at, o.order_no, '' AS name FROM orders o
WHERE o.tenant = $1 AND o.order_no LIKE {prefix} AND o.order_no > $2 ORDER BY o.order_no OFFSET {steps} - 1 LIMIT 1
"""

PEOPLE_BY_PHONE: Final = "SELECT contact, body, updated_at FROM contact WHERE tenant = $1 AND phone_key = $2 LIMIT $3"
PEOPLE_BY_MAIL: Final = "SELECT contact, body, updated_at FROM contact WHERE tenant = $1 AND mail_key = $2 LIMIT $3"
PEOPLE_BY_TAIL: Final = """
SELECT contact, body, updated_at FROM contact WHERE tenant = $1 AND phone_tail = $2 AND phone_tail <> '' LIMIT $3
"""
PEOPLE_BY_ID: Final = """
SELECT contact, body, updated_at FROM contact WHERE tenant = $1 AND contact LIKE $2 AND contact > $3
ORDER BY contact LIMIT $4
"""

OF_MESSAGE: Final = {
    "status": "m.status = {}",
    "channel": "m.channel = {}",
    "topic": "m.topic = {}",
    "provider": "m.provider = {}",
    "order_no": "m.order_no = {}",
    "contact": "m.contact = {}",
    "from_id": "m.message_id >= {}",
    "until_id": "m.message_id < {}",
}  # fmt: skip
_MESSAGE: Final = """m.message_id, m.body, m.status, m.provider, m.attempt_no, m.detail, m.sending_at, m.settled_at,
    m.due_at, m.provider_ref"""
NEWEST_MESSAGES: Final = f"""
SELECT {_MESSAGE} FROM (
    SELECT * FROM message m WHERE m.tenant = $1 AND m.message_id < $2 AND {{window}}
    ORDER BY m.message_id DESC LIMIT {{steps}}
) m WHERE {{wanted}} ORDER BY m.message_id DESC LIMIT {{limit}}
"""
LAST_OF_MESSAGES: Final = """
SELECT m.message_id FROM message m WHERE m.tenant = $1 AND m.message_id < $2 AND {window}
ORDER BY m.message_id DESC OFFSET {steps} - 1 LIMIT 1
"""
MESSAGES_OF_ORDER: Final = f"""
SELECT {_MESSAGE} FROM message m WHERE m.tenant = $1 AND m.message_id < $2 AND {{wanted}}
ORDER BY m.message_id DESC LIMIT {{limit}}
"""
MESSAGES_OF_CONTACT: Final = f"""
SELECT {_MESSAGE} FROM (
    SELECT p.order_no FROM party p WHERE p.tenant = $1 AND p.contact = {{contact}} LIMIT {{steps}}
) p JOIN message m ON m.tenant = $1 AND m.order_no = p.order_no
WHERE m.message_id < $2 AND {{wanted}} ORDER BY m.message_id DESC LIMIT {{limit}}
"""
# The few that wait for another try, out of all tenants'; `WAITING_COUNT` tells when they are many.
WAITING_COUNT: Final = """
SELECT count(*) FROM (SELECT FROM message WHERE lane = ANY ('{0,1,2}') AND due_at IS NOT NULL LIMIT $1) m
"""
MESSAGES_WAITING: Final = f"""
SELECT {_MESSAGE} FROM message m
WHERE m.lane = ANY ('{{{{0,1,2}}}}') AND m.due_at IS NOT NULL AND m.tenant = $1 AND m.message_id < $2 AND {{wanted}}
ORDER BY m.message_id DESC LIMIT {{limit}}
"""
# Which messages are in doubt was put down when they were counted (`pulse.Rollup`); those that are no more are left out.
IN_DOUBT: Final = """
FROM pulse s CROSS JOIN LATERAL unnest(s.doubtful) AS d (message_id)
JOIN message m ON m.tenant = $1 AND m.message_id = d.message_id AND m.status = 'unknown'
WHERE s.tenant = $1 AND s.unknown > 0
"""
MESSAGES_IN_DOUBT: Final = f"""
SELECT {_MESSAGE} {IN_DOUBT} AND m.message_id < $2 AND {{wanted}} ORDER BY m.message_id DESC LIMIT {{limit}}
"""
OLDEST_IN_DOUBT: Final = f"SELECT {_MESSAGE} {IN_DOUBT} ORDER BY m.message_id LIMIT $2"
MESSAGE: Final = f"SELECT {_MESSAGE} FROM message m WHERE m.tenant = $1 AND m.message_id = $2"
ATTEMPTS: Final = """
SELECT attempt_id, attempt_no, provider, outcome, detail, started_at, ended_at FROM attempt
WHERE tenant = $1 AND message_id = $2 ORDER BY attempt_no, ended_at
"""

OF_NOTICE: Final = {
    "order_no": "n.order_no = {}",
    "contact": "n.contact = {}",
    "topic": "n.topic = {}",
    "fate": "n.fate = {}",
}  # fmt: skip
_NOTICE: Final = "n.notice_id, n.fate, n.reason, n.into_id, n.planned_at, n.body"
NEWEST_NOTICES: Final = f"""
SELECT {_NOTICE} FROM (
    SELECT * FROM notice n WHERE n.tenant = $1 AND n.notice_id < $2 ORDER BY n.notice_id DESC LIMIT {{steps}}
) n WHERE {{wanted}} ORDER BY n.notice_id DESC LIMIT {{limit}}
"""
LAST_OF_NOTICES: Final = """
SELECT notice_id FROM notice WHERE tenant = $1 AND notice_id < $2 ORDER BY notice_id DESC OFFSET {steps} - 1 LIMIT 1
"""
NOTICES_OF: Final = f"""
SELECT {_NOTICE} FROM notice n WHERE n.tenant = $1 AND n.notice_id < $2 AND {{wanted}}
ORDER BY n.notice_id DESC LIMIT {{limit}}
"""
NOTICES_WAITING: Final = """
SELECT q.notice_id, q.body FROM queue q
WHERE q.tenant = $1 AND q.lane = ANY ('{{0,1,2}}') AND {wanted} ORDER BY q.due_at LIMIT {steps}
"""
NAMED_ORDERS: Final = "SELECT state FROM orders WHERE tenant = $1 AND order_no = ANY ($2::text[])"
CONTACTS_OF_ORDER: Final = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"

OF_CASE: Final = {
    "state": "c.state = {}",
    "owner": "c.owner = {}",
    "kind": "c.kind = {}",
    "order_no": "c.order_no = {}",
}  # fmt: skip
_CASE: Final = """c.case_id, c.order_no, c.anomaly, c.kind, c.owner, c.state, c.opened_at, c.closed_at,
    c.staff_told_at"""
NEWEST_CASES: Final = f"""
SELECT {_CASE} FROM (
    SELECT * FROM cases c WHERE c.tenant = $1 AND c.case_id < $2 ORDER BY c.case_id DESC LIMIT {{steps}}
) c WHERE {{wanted}} ORDER BY c.case_id DESC LIMIT {{limit}}
"""
LAST_OF_CASES: Final = """
SELECT case_id FROM cases WHERE tenant = $1 AND case_id < $2 ORDER BY case_id DESC OFFSET {steps} - 1 LIMIT 1
"""
CASES_OF: Final = f"""
SELECT {_CASE} FROM cases c WHERE c.tenant = $1 AND c.case_id < $2 AND {{wanted}}
ORDER BY c.case_id DESC LIMIT {{limit}}
"""
CASE: Final = f"SELECT {_CASE} FROM cases c WHERE c.tenant = $1 AND c.case_id = $2"

VERSIONS: Final = """
SELECT o.tenant, o.order_no, o.version FROM unnest($1::text[], $2::text[]) AS k (tenant, order_no)
JOIN orders o USING (tenant, order_no)
"""


class Ask:
    """The values of a statement, and the conditions that are put together for it."""

    def __init__(self, *values: object) -> None:
        self.values: list[object] = list(values)

    def put(self, value: object) -> str:
        """Take a value; returns its place in the statement, such as `$4`."""
        self.values.append(value)
        return f"${len(self.values)}"

    def all_of(self, pieces: dict[str, str], wanted: dict[str, object]) -> str:
        """The condition that everything wanted holds; empty values ask for nothing."""
        made = [pieces[name].format(self.put(value)) for name, value in wanted.items() if value not in ("", None)]
        return " AND ".join(made) or "true"
