"""The named statements of the turn. Each takes arrays and does its work on a whole batch in one round trip.

Every transaction goes through its tables in one order (keys, orders, contacts, then the rows it writes) and
through the rows of a table in the order of their keys, so two turns never wait for each other in a circle.
`COLLATE "C"` makes that order the same in every database and cheap to compare.
"""

# One round trip. The settings make the plans of the statements below a matter of the statement, not of
# statistics: each joins an array to a table by its primary key, and a plan made while the table was empty must
# still be right when it has a million rows.
BEGIN = """
BEGIN;
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
SET LOCAL jit = off
"""

TAKE_KEYS = """
INSERT INTO event_key (tenant, source, event_id, body_hash, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[])
    AS k (tenant, source, event_id, body_hash, received_at)
ORDER BY tenant COLLATE "C", source COLLATE "C", event_id COLLATE "C"
ON CONFLICT DO NOTHING
"""

# Asked only when some keys were there already; `fresh` marks those that this very transaction put in.
KNOWN_KEYS = """
SELECT k.place::int AS place, e.body_hash, e.xmin = pg_current_xact_id()::xid AS fresh
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant, source, event_id, place)
JOIN event_key e USING (tenant, source, event_id)
"""

LOCK_ORDERS = """
SELECT o.state
FROM unnest($1::text[], $2::text[]) AS k (tenant, order_no)
JOIN orders o USING (tenant, order_no)
ORDER BY o.tenant COLLATE "C", o.order_no COLLATE "C"
FOR UPDATE OF o
"""

# Never waits: an order that a turn holds is left for the next look.
LOCK_FREE_ORDERS = LOCK_ORDERS + " SKIP LOCKED"

LOCK_CONTACTS = """
SELECT c.body
FROM unnest($1::text[], $2::text[]) AS k (tenant, contact)
JOIN contact c USING (tenant, contact)
ORDER BY c.tenant COLLATE "C", c.contact COLLATE "C"
FOR UPDATE OF c
"""

# Fewer rows than given: another transaction has made one of these orders in the meantime.
ADD_ORDERS = """
INSERT INTO orders (tenant, order_no, version, playbook, stage, light, opened_at, updated_at, state)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[],
                     $7::timestamptz[], $8::timestamptz[], $9::bytea[])
    AS n (tenant, order_no, version, playbook, stage, light, opened_at, updated_at, state)
ORDER BY tenant COLLATE "C", order_no COLLATE "C"
ON CONFLICT DO NOTHING
"""

ADD_CONTACTS = """
INSERT INTO contact (tenant, contact, body, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[])
    AS n (tenant, contact, body, updated_at)
ORDER BY tenant COLLATE "C", contact COLLATE "C"
ON CONFLICT DO NOTHING
"""

CHANGE_CONTACTS = """
UPDATE contact c SET body = n.body, updated_at = n.updated_at
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[]) AS n (tenant, contact, body, updated_at)
WHERE c.tenant = n.tenant AND c.contact = n.contact
"""

# What nearly every turn writes, in one round trip. All rows belong to orders that this transaction holds, so
# it does not matter which table comes first. No indexed column of `orders` changes: the update stays HOT.
WRITE = """
WITH lines AS (
    INSERT INTO journal (tenant, order_no, version, at, type, source, event_id, verdict, stage,
                         event, decision, detail)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                         $8::text[], $9::text[], $10::bytea[], $11::bytea[], $12::text[])
), changed AS (
    UPDATE orders o SET version = n.version, stage = n.stage, light = n.light, updated_at = n.updated_at,
                        state = n.state
    FROM unnest($13::text[], $14::text[], $15::int[], $16::text[], $17::text[], $18::timestamptz[], $19::bytea[])
        AS n (tenant, order_no, version, stage, light, updated_at, state)
    WHERE o.tenant = n.tenant AND o.order_no = n.order_no
), armed AS (
    INSERT INTO timer (tenant, order_no, due_at)
    SELECT * FROM unnest($20::text[], $21::text[], $22::timestamptz[])
    ON CONFLICT (tenant, order_no) DO UPDATE SET due_at = excluded.due_at
), cleared AS (
    DELETE FROM timer t USING unnest($23::text[], $24::text[]) AS n (tenant, order_no)
    WHERE t.tenant = n.tenant AND t.order_no = n.order_no
)
INSERT INTO queue (tenant, contact, notice_id, lane, due_at, body)
SELECT * FROM unnest($25::text[], $26::text[], $27::bytea[], $28::smallint[], $29::timestamptz[], $30::bytea[])
ON CONFLICT DO NOTHING
"""

PUT_ANOMALIES = """
INSERT INTO anomaly (tenant, order_no, name, opened_at, closed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
ON CONFLICT (tenant, order_no, name, opened_at) DO UPDATE SET closed_at = excluded.closed_at
"""

PUT_CASES = """
INSERT INTO cases (tenant, case_id, order_no, anomaly, kind, owner, state, opened_at, closed_at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::timestamptz[], $9::timestamptz[])
ON CONFLICT (tenant, case_id) DO UPDATE SET owner = excluded.owner, state = excluded.state,
                                            closed_at = excluded.closed_at
"""

# A plain SELECT: put into an UPDATE, a LIMIT can take more rows than it says.
CLAIM_TIMERS = """
SELECT tenant, order_no, due_at FROM timer
WHERE due_at <= $1 AND tenant = ANY ($2::text[])
ORDER BY due_at LIMIT $3
FOR UPDATE SKIP LOCKED
"""

# Timers whose order is gone altogether, of those that were claimed but not found.
DROP_LOST_TIMERS = """
DELETE FROM timer t USING unnest($1::text[], $2::text[]) AS k (tenant, order_no)
WHERE t.tenant = k.tenant AND t.order_no = k.order_no
    AND NOT EXISTS (SELECT FROM orders o WHERE o.tenant = k.tenant AND o.order_no = k.order_no)
"""

NEXT_DUE = "SELECT due_at FROM timer ORDER BY due_at LIMIT 1"

JOURNAL_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'journal'::regclass
"""
