"""The named statements of the turn. Each takes arrays and does its work on a whole batch in one round trip.

Columns of text travel packed into one text: the driver looks at each element of an array several times, so an
array of 500 texts costs it 0.5 ms and the packed text 0.02 ms; PostgreSQL takes them apart as quickly as it
would read an array. The journal goes by COPY (see `rows.JOURNAL`), at less than half the cost of an INSERT.

Every transaction goes through its tables in one order (keys, orders, contacts, then the rows it writes) and
through the rows of a table in the order of their keys, so two turns never wait for each other in a circle.
`COLLATE "C"` makes that order the same in every database and cheap to compare.
"""

SEPARATOR = "\x1f"
"""Between packed texts; no name or number may hold control characters, and `rows.packed` refuses one that does."""


def _texts(parameter: int) -> str:
    return f"string_to_array(${parameter}, E'\\x1f')"


STANDSTILL_S_MAX = 5
"""How long a transaction may do nothing before PostgreSQL ends it: a process that stands still (stopped, swapped out,
its machine frozen) must not keep orders locked. Who was sent away comes back with the turn as a whole."""

# One round trip. The settings make the plans of the statements below a matter of the statement, not of
# statistics: each joins an array to a table by its primary key, and a plan made while the table was empty must
# still be right when it has a million rows. The claims of sending must moreover read their index in order, or a LIMIT
# would first sort everything that is due.
BEGIN = f"""
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = '{STANDSTILL_S_MAX}s';
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
SET LOCAL jit = off
"""

TAKE_KEYS = f"""
INSERT INTO event_key (tenant, source, event_id, body_hash, received_at)
SELECT * FROM unnest({_texts(1)}, {_texts(2)}, {_texts(3)}, $4::bytea[], $5::timestamptz[])
    AS k (tenant, source, event_id, body_hash, received_at)
ORDER BY tenant COLLATE "C", source COLLATE "C", event_id COLLATE "C"
ON CONFLICT DO NOTHING
"""

# Asked only when some keys were there already; `fresh` marks those that this very transaction put in.
KNOWN_KEYS = f"""
SELECT k.place::int AS place, e.body_hash, e.xmin = pg_current_xact_id()::xid AS fresh
FROM unnest({_texts(1)}, {_texts(2)}, {_texts(3)}) WITH ORDINALITY AS k (tenant, source, event_id, place)
JOIN event_key e USING (tenant, source, event_id)
"""

LOCK_ORDERS = f"""
SELECT o.state
FROM unnest({_texts(1)}, {_texts(2)}) AS k (tenant, order_no)
JOIN orders o USING (tenant, order_no)
ORDER BY o.tenant COLLATE "C", o.order_no COLLATE "C"
FOR UPDATE OF o
"""

# Never waits: an order that a turn holds is left for the next look.
LOCK_FREE_ORDERS = LOCK_ORDERS + " SKIP LOCKED"

LOCK_CONTACTS = f"""
SELECT c.tenant, c.contact, c.body
FROM unnest({_texts(1)}, {_texts(2)}) AS k (tenant, contact)
JOIN contact c USING (tenant, contact)
ORDER BY c.tenant COLLATE "C", c.contact COLLATE "C"
FOR UPDATE OF c
"""

# Fewer rows than given: another transaction has made one of these orders in the meantime.
ADD_ORDERS = f"""
INSERT INTO orders (tenant, order_no, version, playbook, stage, light, opened_at, updated_at, state)
SELECT * FROM unnest({_texts(1)}, {_texts(2)}, $3::int[], {_texts(4)}, {_texts(5)}, {_texts(6)},
                     $7::timestamptz[], $8::timestamptz[], $9::bytea[])
    AS n (tenant, order_no, version, playbook, stage, light, opened_at, updated_at, state)
ORDER BY tenant COLLATE "C", order_no COLLATE "C"
ON CONFLICT DO NOTHING
"""

ADD_CONTACTS = f"""
INSERT INTO contact (tenant, contact, body, phone_key, phone_tail, mail_key, updated_at)
SELECT * FROM unnest({_texts(1)}, {_texts(2)}, $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::timestamptz[])
    AS n (tenant, contact, body, phone_key, phone_tail, mail_key, updated_at)
ORDER BY tenant COLLATE "C", contact COLLATE "C"
ON CONFLICT DO NOTHING
"""

CHANGE_CONTACTS = f"""
UPDATE contact c SET body = n.body, phone_key = n.phone_key, phone_tail = n.phone_tail, mail_key = n.mail_key,
    updated_at = n.updated_at
FROM unnest({_texts(1)}, {_texts(2)}, $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::timestamptz[])
    AS n (tenant, contact, body, phone_key, phone_tail, mail_key, updated_at)
WHERE c.tenant = n.tenant AND c.contact = n.contact
"""

# What nearly every turn writes beside the journal, in one round trip. All rows belong to orders that this
# transaction holds, so it does not matter which table comes first. No indexed column of `orders` changes, so
# the update stays HOT.
WRITE = f"""
WITH changed AS (
    UPDATE orders o SET version = n.version, stage = n.stage, light = n.light, updated_at = n.updated_at,
                        state = n.state
    FROM unnest({_texts(1)}, {_texts(2)}, $3::int[], {_texts(4)}, {_texts(5)}, $6::timestamptz[], $7::bytea[])
        AS n (tenant, order_no, version, stage, light, updated_at, state)
    WHERE o.tenant = n.tenant AND o.order_no = n.order_no
), armed AS (
    INSERT INTO timer (tenant, order_no, due_at)
    SELECT * FROM unnest({_texts(8)}, {_texts(9)}, $10::timestamptz[])
    ON CONFLICT (tenant, order_no) DO UPDATE SET due_at = excluded.due_at
), cleared AS (
    DELETE FROM timer t USING unnest({_texts(11)}, {_texts(12)}) AS n (tenant, order_no)
    WHERE t.tenant = n.tenant AND t.order_no = n.order_no
), met AS (
    INSERT INTO party (tenant, contact, order_no)
    SELECT * FROM unnest({_texts(19)}, {_texts(20)}, {_texts(21)})
    ON CONFLICT DO NOTHING
)
INSERT INTO queue (tenant, contact, notice_id, lane, due_at, body)
SELECT * FROM unnest({_texts(13)}, {_texts(14)}, $15::bytea[], $16::smallint[], $17::timestamptz[], $18::bytea[])
ON CONFLICT DO NOTHING
"""

PUT_ANOMALIES = f"""
INSERT INTO anomaly (tenant, order_no, name, opened_at, closed_at)
SELECT * FROM unnest({_texts(1)}, {_texts(2)}, {_texts(3)}, $4::timestamptz[], $5::timestamptz[])
ON CONFLICT (tenant, order_no, name, opened_at) DO UPDATE SET closed_at = excluded.closed_at
"""

PUT_CASES = f"""
INSERT INTO cases (tenant, case_id, order_no, anomaly, kind, owner, state, opened_at, closed_at)
SELECT * FROM unnest({_texts(1)}, $2::bytea[], {_texts(3)}, {_texts(4)}, {_texts(5)}, {_texts(6)}, {_texts(7)},
                     $8::timestamptz[], $9::timestamptz[])
ON CONFLICT (tenant, case_id) DO UPDATE SET owner = excluded.owner, state = excluded.state,
                                            closed_at = excluded.closed_at
"""

# When somebody of an order is another contact from now on: both rows are locked by then.
WAITING_FOR = "SELECT notice_id, lane, due_at, body FROM queue WHERE tenant = $1 AND contact = $2"
HEARD_BY = "SELECT contact, history FROM contact WHERE tenant = $1 AND contact = ANY ($2::text[])"
REMEMBER = "UPDATE contact SET history = $3 WHERE tenant = $1 AND contact = $2"
UNQUEUE = "DELETE FROM queue WHERE tenant = $1 AND contact = $2 AND notice_id = ANY ($3::bytea[])"
REQUEUE = """
INSERT INTO queue (tenant, contact, notice_id, lane, due_at, body)
SELECT $1, $2, * FROM unnest($3::bytea[], $4::smallint[], $5::timestamptz[], $6::bytea[])
ON CONFLICT DO NOTHING
"""

ADD_CONSENTS = f"""
INSERT INTO consent (tenant, contact, scope, given, at, source, words)
SELECT * FROM unnest({_texts(1)}, {_texts(2)}, {_texts(3)}, $4::boolean[], $5::timestamptz[], $6::text[], $7::text[])
"""

ADD_AMENDS = f"""
INSERT INTO amends (tenant, amends_id, order_no, contact, kind, value_fen, topic, promised_at, valid_until)
SELECT * FROM unnest({_texts(1)}, $2::bytea[], {_texts(3)}, {_texts(4)}, {_texts(5)}, $6::bigint[], {_texts(7)},
                     $8::timestamptz[], $9::timestamptz[])
ON CONFLICT DO NOTHING
"""

# A plain SELECT: put into an UPDATE, a LIMIT can take more rows than it says.
CLAIM_TIMERS = """
SELECT tenant, order_no, due_at FROM timer
WHERE due_at <= $1 AND tenant = ANY ($2::text[])
ORDER BY due_at LIMIT $3
FOR UPDATE SKIP LOCKED
"""

# Timers whose order is gone altogether, of those that were claimed but not found.
DROP_LOST_TIMERS = f"""
DELETE FROM timer t USING unnest({_texts(1)}, {_texts(2)}) AS k (tenant, order_no)
WHERE t.tenant = k.tenant AND t.order_no = k.order_no
    AND NOT EXISTS (SELECT FROM orders o WHERE o.tenant = k.tenant AND o.order_no = k.order_no)
"""

NEXT_DUE = "SELECT due_at FROM timer ORDER BY due_at LIMIT 1"

JOURNAL_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'journal'::regclass
"""
