"""The named statements of sending, from the queue to the last receipt, and nothing else.

A contact's row is the one lock of its queue: whoever holds it may read, move and delete what waits for that
contact. It is only ever taken with SKIP LOCKED, so nothing here waits for a turn. Messages are fenced by the
id of their live attempt and, where the word is not final, by the worker that made the attempt.

Arrays come sorted by attempt id, so that transactions that settle the same messages take them in one order.
"""

LOOK = """
SELECT EXISTS (SELECT FROM queue WHERE lane = ANY ($2::smallint[]) AND due_at <= $1) AS notices,
    EXISTS (SELECT FROM message WHERE lane = ANY ($2::smallint[]) AND due_at <= $1 AND status = 'queued') AS queued,
    coalesce((SELECT halted FROM halt), false) AS halted
"""

# The contact of a row of the queue, held. It is looked up for each row, whatever the statistics say: in the middle of a
# great import they know of one contact, and a join would go through all of them for each row.
_HELD = """LATERAL (
    SELECT p.body, p.history FROM contact p WHERE p.tenant = q.tenant AND p.contact = q.contact
    FOR NO KEY UPDATE SKIP LOCKED
) AS c"""

# Plain SELECTs: put into an UPDATE, a LIMIT can take more rows than it says. One lane at a time, because only
# PostgreSQL 17 and newer read an index over several lanes in order.
CLAIM_CONTACTS = f"""
SELECT q.tenant, q.contact, c.body, c.history
FROM queue q, {_HELD}
WHERE q.lane = $1 AND q.due_at <= $2 AND q.tenant = ANY ($4::text[])
ORDER BY q.due_at LIMIT $3
"""

# Which tenants have something due in a lane: from one to the next along the index, however many rows each of them has.
TENANTS_DUE = """
WITH RECURSIVE t (tenant) AS (
    (SELECT tenant FROM queue WHERE lane = $1 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT q.tenant FROM queue q WHERE q.lane = $1 AND q.tenant > t.tenant ORDER BY q.tenant LIMIT 1)
    FROM t WHERE t.tenant IS NOT NULL
)
SELECT t.tenant FROM t WHERE t.tenant = ANY ($3::text[])
    AND EXISTS (SELECT FROM queue q WHERE q.lane = $1 AND q.tenant = t.tenant AND q.due_at <= $2)
"""

CLAIM_SHARES = f"""
SELECT found.tenant, found.contact, found.body, found.history
FROM unnest($4::text[]) AS k (tenant), LATERAL (
    SELECT q.tenant, q.contact, c.body, c.history
    FROM queue q, {_HELD}
    WHERE q.lane = $1 AND q.tenant = k.tenant AND q.due_at <= $2
    ORDER BY q.due_at LIMIT $3
) AS found
"""

# Asked only when nothing could be claimed.
STRANGERS = """
SELECT q.tenant, q.contact FROM queue q
WHERE q.lane = ANY ($2::smallint[]) AND q.due_at <= $1 AND q.tenant = ANY ($4::text[])
    AND NOT EXISTS (SELECT FROM contact c WHERE c.tenant = q.tenant AND c.contact = q.contact)
LIMIT $3
"""

# A second statement, because only a snapshot taken after the lock shows what the last holder did.
PENDING = """
SELECT q.tenant, q.contact, q.body
FROM unnest($1::text[], $2::text[]) AS k (tenant, contact) JOIN queue q USING (tenant, contact)
"""

# What came of the messages that went out for notices which wait for a receipt.
STATUSES = """
SELECT m.message_id, m.status
FROM unnest($1::text[], $2::bytea[]) AS k (tenant, message_id) JOIN message m USING (tenant, message_id)
"""

# Beside it, notices and messages are copied into their tables: that takes half the time of arrays.
WRITE_PLAN = """
WITH gone AS (
    DELETE FROM queue q USING unnest($1::text[], $2::text[], $3::bytea[]) AS k (tenant, contact, notice_id)
    WHERE q.tenant = k.tenant AND q.contact = k.contact AND q.notice_id = k.notice_id
), held AS (
    UPDATE queue q SET due_at = h.due_at, body = h.body
    FROM unnest($4::text[], $5::text[], $6::bytea[], $7::timestamptz[], $8::bytea[])
        AS h (tenant, contact, notice_id, due_at, body)
    WHERE q.tenant = h.tenant AND q.contact = h.contact AND q.notice_id = h.notice_id
), heard AS (
    UPDATE contact c SET history = n.history
    FROM unnest($13::text[], $14::text[], $15::bytea[]) AS n (tenant, contact, history)
    WHERE c.tenant = n.tenant AND c.contact = n.contact
)
INSERT INTO flight (flight, worker, provider, attempts)
SELECT f.flight, $12::bigint, f.provider, f.attempts
FROM unnest($9::bytea[], $10::text[], $11::bytea[]) AS f (flight, provider, attempts)
"""

NOTICE_COLUMNS = (
    "tenant", "contact", "notice_id", "order_no", "topic", "fate", "reason", "into_id", "created_at", "planned_at",
    "body",
)  # fmt: skip
MESSAGE_COLUMNS = (
    "tenant", "message_id", "order_no", "contact", "topic", "channel", "lane", "text", "body", "created_at", "told_at",
    "valid_until", "status", "attempt_no", "attempt_id", "provider", "worker", "sending_at", "settled_at", "due_at",
    "provider_ref", "detail",
)  # fmt: skip

# A notice has one fate. Should one be in the queue that has been planned before, nobody is told again.
DROP_PLANNED = """
DELETE FROM queue q USING notice n WHERE q.tenant = n.tenant AND q.notice_id = n.notice_id
    AND q.lane = ANY ($2::smallint[]) AND q.due_at <= $1
"""

# What was told on another channel, or is over, before a provider could take it.
GIVE_UP = """
UPDATE message m SET status = 'failed', due_at = NULL, detail = 'told_elsewhere', settled_at = $3
FROM unnest($1::text[], $2::bytea[]) AS k (tenant, message_id)
WHERE m.tenant = k.tenant AND m.message_id = k.message_id AND m.status = 'queued'
"""

# What waits for another try may go to any provider; what is in doubt is a matter of the one that was tried.
_WAITING = """
SELECT tenant, message_id, body, attempt_id, attempt_no, provider, sending_at, tried, provider_ref, detail, due_at
FROM message WHERE lane = $1 AND due_at <= $2 AND {}
ORDER BY due_at LIMIT $3
FOR UPDATE SKIP LOCKED
"""
CLAIM_QUEUED = _WAITING.format("status = 'queued' AND channel = ANY ($4::text[])")
CLAIM_UNKNOWN = _WAITING.format("status = 'unknown' AND provider = ANY ($4::text[])")
CLAIM_ORPHANS = _WAITING.format("status = 'unknown' AND provider <> ALL ($4::text[])")

MOVE = """
WITH flying AS (
    INSERT INTO flight (flight, worker, provider, attempts)
    SELECT f.flight, $4::bigint, f.provider, f.attempts
    FROM unnest($1::bytea[], $2::text[], $3::bytea[]) AS f (flight, provider, attempts)
)
UPDATE message m SET status = n.status, attempt_id = n.attempt_id, attempt_no = n.attempt_no, due_at = n.due_at,
    detail = n.detail, provider = n.provider, provider_ref = n.ref,
    worker = CASE n.status WHEN 'sending' THEN $4::bigint ELSE m.worker END,
    sending_at = CASE WHEN n.status = 'sending' AND n.attempt_id <> m.attempt_id THEN $5::timestamptz
        ELSE m.sending_at END,
    settled_at = CASE n.status WHEN 'failed' THEN $5 END
FROM unnest($6::text[], $7::bytea[], $8::text[], $9::bytea[], $10::int[], $11::timestamptz[], $12::text[], $13::text[],
            $14::text[])
    AS n (tenant, message_id, status, attempt_id, attempt_no, due_at, detail, provider, ref)
WHERE m.tenant = n.tenant AND m.message_id = n.message_id
"""

# $8 is the worker that made the attempts, NULL for an answer to a look-up. An acceptance is the truth whoever
# brings it; every other word counts only while nobody else has taken the attempt over.
SETTLE = """
WITH landed AS (
    DELETE FROM flight WHERE flight = $10 AND worker = $8
), settled AS (
    UPDATE message m SET status = a.status, due_at = a.due_at, detail = a.detail, settled_at = $9,
        provider_ref = CASE a.provider_ref WHEN '' THEN m.provider_ref ELSE a.provider_ref END,
        tried = CASE a.blames WHEN '' THEN m.tried ELSE ltrim(m.tried || ' ' || a.blames) END
    FROM unnest($1::bytea[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS a (attempt_id, status, due_at, provider_ref, detail, outcome, blames)
    WHERE m.attempt_id = a.attempt_id
        AND CASE WHEN $8::bigint IS NULL THEN m.status = 'unknown'
            WHEN a.status = 'accepted' THEN m.status IN ('sending', 'unknown', 'queued')
            ELSE m.status IN ('sending', 'unknown') AND m.worker = $8 END
    RETURNING m.tenant, m.message_id, m.attempt_id, m.attempt_no, m.provider, m.sending_at, m.provider_ref, a.status,
        a.outcome, a.detail
), tried AS (
    INSERT INTO attempt (tenant, attempt_id, message_id, attempt_no, provider, outcome, detail, started_at, ended_at)
    SELECT tenant, attempt_id, message_id, attempt_no, provider, outcome, detail, sending_at, $9
    FROM settled WHERE outcome <> ''
    ON CONFLICT DO NOTHING
), named AS (
    INSERT INTO handle (provider, ref, attempt_id, at)
    SELECT DISTINCT ON (provider, provider_ref) provider, provider_ref, attempt_id, $9 FROM settled
    WHERE $12 AND provider_ref <> '' AND status IN ('accepted', 'unknown')
    ON CONFLICT (provider, ref) DO UPDATE SET attempt_id = excluded.attempt_id, at = excluded.at
), counted AS (
    INSERT INTO tally AS t (provider, minute, accepted, failed)
    SELECT $11, date_trunc('minute', $9::timestamptz), count(*) FILTER (WHERE status = 'accepted'),
        count(*) FILTER (WHERE outcome <> '' OR status = 'unknown')
    FROM settled HAVING count(*) > 0
    ON CONFLICT (provider, minute) DO UPDATE SET accepted = t.accepted + excluded.accepted,
        failed = t.failed + excluded.failed
)
SELECT count(*) FROM settled
"""

# The attempts of which a provider speaks by its own names.
NAMED = "SELECT ref, attempt_id FROM handle WHERE provider = $1 AND ref = ANY ($2::text[])"

KEEP_WORDS = """
INSERT INTO receipt (provider, ref, delivered, detail, at)
SELECT $1, * FROM unnest($2::text[], $3::boolean[], $4::text[], $5::timestamptz[])
ON CONFLICT DO NOTHING
"""

# Receipts of which it has become known whose they are. The few that wait are looked up among the many handles, never
# the other way round: hence no plain join, and the LIMIT inside.
EARLY = """
SELECT r.provider, h.attempt_id, r.delivered, r.ref, r.detail, r.at
FROM receipt r, LATERAL (SELECT attempt_id FROM handle WHERE provider = r.provider AND ref = r.ref LIMIT 1) AS h
WHERE r.heard_at > now() - $1::interval ORDER BY r.heard_at LIMIT $2
"""
DROP_EARLY = "DELETE FROM receipt WHERE provider = $1 AND ref = ANY ($2::text[])"
FORGET_EARLY = "DELETE FROM receipt WHERE heard_at < now() - $1::interval"

FORGET_HANDLES = """
DELETE FROM handle WHERE ctid = ANY (ARRAY(SELECT ctid FROM handle WHERE at < $1 LIMIT 5000))
"""

FORGET_TALLIES = "DELETE FROM tally WHERE minute < $1"

TALLIES = """
SELECT provider, sum(accepted)::int AS accepted, sum(received)::int AS received,
    coalesce(sum(delay_s) / nullif(sum(received), 0), 0) AS delay_s
FROM tally WHERE minute > $1 AND minute <= $2 GROUP BY provider
"""

PUT_STANDINGS = """
INSERT INTO standing (provider, worker, state, reason, detail, retry_at, at)
SELECT s.provider, $1, s.state, s.reason, s.detail, s.retry_at, $2
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
    AS s (provider, state, reason, detail, retry_at)
ON CONFLICT (provider, worker) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    detail = excluded.detail, retry_at = excluded.retry_at, at = excluded.at
"""

# As the workers see them that send now, the worst first.
STANDINGS = """
SELECT provider, state, reason, detail, retry_at, at FROM standing s
WHERE EXISTS (SELECT FROM worker w WHERE w.worker = s.worker AND w.lease_until > clock_timestamp())
ORDER BY provider, state = 'closed', state = 'half_open', retry_at DESC
"""
FORGET_STANDINGS = "DELETE FROM standing s WHERE NOT EXISTS (SELECT FROM worker w WHERE w.worker = s.worker)"

# Who has been handed messages lately.
USED = "SELECT DISTINCT provider FROM tally"

# Those that send. Who is on duty for something else (`staff: cases`) holds a lease as well, and takes no share.
WORKERS = """
SELECT greatest(count(*), 1) FROM worker WHERE lease_until > clock_timestamp() AND strpos(name, ': ') = 0
"""

# What was restored stays so: `resume` has to ask first, whatever somebody says of it later.
HALT = """
UPDATE halt SET since = CASE WHEN halted THEN since ELSE $2::timestamptz END, halted = true,
    reason = CASE WHEN halted AND (reason = 'restored' OR $1 = '') THEN reason WHEN $1 = '' THEN 'by hand' ELSE $1 END
"""
RESUME = "UPDATE halt SET halted = false, reason = '', since = NULL"
HALTED = "SELECT halted, reason, since FROM halt"

# A cluster that was restored from a base backup goes on with another time line; one that was filled from a dump has
# another identifier, and counts its transactions anew: those of the life before come before all others.
NOTICE_RESTORE = """
WITH cluster AS (
    SELECT (SELECT system_identifier FROM pg_control_system())
        || '/' || (SELECT timeline_id FROM pg_control_checkpoint()) AS name
), known AS (
    SELECT h.cluster <> '' AND h.cluster <> c.name AS restored FROM halt h, cluster c
), put AS (
    UPDATE halt SET cluster = (SELECT name FROM cluster),
        halted = halted OR (SELECT restored FROM known),
        reason = CASE WHEN (SELECT restored FROM known) THEN 'restored' ELSE reason END,
        since = CASE WHEN (SELECT restored FROM known) THEN $1 ELSE since END
), first AS (
    UPDATE amends SET xact = '0'
    WHERE (SELECT restored FROM known) AND xact >= pg_snapshot_xmax(pg_current_snapshot())
)
SELECT restored FROM known
"""

# Before the first message after a restore: each may have gone out in the time that this database does not know.
DOUBT_ALL = """
WITH grounded AS (
    DELETE FROM flight
)
UPDATE message SET status = 'unknown', due_at = NULL, detail = 'restored', settled_at = $1
WHERE status IN ('queued', 'sending') OR (status = 'unknown' AND due_at IS NOT NULL)
"""

RESTORED = """
SELECT tenant, message_id, body, attempt_id, attempt_no, provider, sending_at, tried, provider_ref, detail, due_at
FROM message WHERE status = 'unknown' AND detail = 'restored'
"""

RECONCILE = """
WITH told AS (
    UPDATE message m SET status = n.status, attempt_id = n.attempt_id, attempt_no = n.attempt_no, provider = n.provider,
        provider_ref = n.ref, due_at = n.due_at, detail = n.detail, settled_at = $1
    FROM unnest($2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::int[], $7::text[], $8::text[], $9::timestamptz[],
                $10::text[])
        AS n (tenant, message_id, status, attempt_id, attempt_no, provider, ref, due_at, detail)
    WHERE m.tenant = n.tenant AND m.message_id = n.message_id AND m.status = 'unknown' AND m.detail = 'restored'
    RETURNING m.provider, m.provider_ref, m.attempt_id, m.status
), named AS (
    INSERT INTO handle (provider, ref, attempt_id, at)
    SELECT provider, provider_ref, attempt_id, $1 FROM told WHERE provider_ref <> '' AND status = 'accepted'
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM told
"""

BACKLOG = """
SELECT (SELECT count(*) FROM queue WHERE due_at <= $1) AS due, (SELECT count(*) FROM queue) AS pending,
    (SELECT count(*) FROM message WHERE due_at IS NOT NULL AND status = 'queued') AS queued,
    (SELECT count(*) FROM message WHERE status = 'unknown') AS unknown,
    (SELECT count(*) FROM flight) AS requests
"""

RECEIVE = """
WITH received AS (
    UPDATE message m SET status = r.status, due_at = NULL, detail = r.detail, settled_at = r.at,
        provider_ref = CASE r.provider_ref WHEN '' THEN m.provider_ref ELSE r.provider_ref END
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        AS r (attempt_id, status, provider_ref, detail, at)
    WHERE m.attempt_id = r.attempt_id AND m.provider = $1
        AND (m.status IN ('sending', 'accepted', 'unknown') OR (m.status = 'queued' AND r.status = 'delivered'))
    RETURNING m.channel, m.sending_at, extract(epoch FROM r.at - m.sending_at)::float8 AS delay_s
), counted AS (
    INSERT INTO tally AS t (provider, minute, received, delay_s)
    SELECT $1, date_trunc('minute', sending_at), count(*), sum(greatest(delay_s, 0)) FROM received
    GROUP BY 2 ORDER BY 2
    ON CONFLICT (provider, minute) DO UPDATE SET received = t.received + excluded.received,
        delay_s = t.delay_s + excluded.delay_s
)
SELECT channel, count(*) AS receipts, percentile_disc(0.95) WITHIN GROUP (ORDER BY delay_s) AS delay_p95_s
FROM received GROUP BY channel
"""

# How long receipts take by channel: the weight of what is new falls with what is known, so that a storm of late ones
# moves it and a single one does not.
LEARN_PACE = """
INSERT INTO pace AS p (channel, delay_p95_s, receipts) SELECT * FROM unnest($1::text[], $2::float8[], $3::bigint[])
ON CONFLICT (channel) DO UPDATE SET receipts = least(p.receipts + excluded.receipts, 10000),
    delay_p95_s = (p.delay_p95_s * least(p.receipts, 500) + excluded.delay_p95_s * excluded.receipts)
        / (least(p.receipts, 500) + excluded.receipts)
"""

PACES = "SELECT channel, delay_p95_s, receipts FROM pace"

# The attempt was given up and another one made: whoever is told twice is told so by this row.
MARK_LATE = r"""
UPDATE attempt t SET outcome = l.outcome
FROM unnest($2::bytea[], $3::text[]) AS l (attempt_id, outcome)
WHERE t.attempt_id = l.attempt_id AND t.provider = $1 AND t.outcome NOT LIKE '%\_late'
    AND NOT EXISTS (SELECT FROM message m WHERE m.attempt_id = t.attempt_id)
"""

# Whom a complaint is about, and whom a failed delivery.
RECIPIENTS_OF = """
SELECT attempt_id, tenant, contact, order_no, topic, channel, told_at FROM message
WHERE attempt_id = ANY ($2::bytea[]) AND provider = $1
"""
RECIPIENTS = f"{RECIPIENTS_OF} AND status <> 'failed'"

CURSOR = "SELECT cursor FROM receipt_cursor WHERE provider = $1 AND reader = $2"

# One process reads a provider's receipts; another one takes over when its lease is over.
TAKE_CURSOR = """
INSERT INTO receipt_cursor AS r (provider, cursor, reader) VALUES ($1, '', $2)
ON CONFLICT (provider) DO UPDATE SET reader = excluded.reader
WHERE NOT EXISTS (SELECT FROM worker w WHERE w.worker = r.reader AND w.lease_until > clock_timestamp())
RETURNING r.cursor
"""

MOVE_CURSOR = "UPDATE receipt_cursor SET cursor = $3 WHERE provider = $1 AND cursor = $2"

TAKE_LEASE = "INSERT INTO worker (name, lease_until) VALUES ($1, clock_timestamp() + $2::interval) RETURNING worker"

# A lease that is over stays over: its messages may already have been looked after by somebody else.
RENEW_LEASE = """
UPDATE worker SET lease_until = clock_timestamp() + $2::interval WHERE worker = $1 AND lease_until > clock_timestamp()
"""

GIVE_UP_LEASE = "DELETE FROM worker w WHERE worker = $1 AND NOT EXISTS (SELECT FROM flight f WHERE f.worker = w.worker)"

# $1 is a grace: a renewal that began in time may commit a moment later.
LEFT_BEHIND = """
SELECT f.flight, f.worker, f.provider, f.attempts FROM flight f
WHERE NOT EXISTS (SELECT FROM worker w WHERE w.worker = f.worker AND w.lease_until > clock_timestamp() - $1::interval)
LIMIT $2
FOR UPDATE OF f SKIP LOCKED
"""

DOUBT = """
WITH looked_after AS (
    DELETE FROM flight WHERE flight = ANY ($5::bytea[])
), doubted AS (
    UPDATE message m SET status = 'unknown', due_at = d.due_at, detail = 'lease_over', settled_at = $1
    FROM unnest($2::bytea[], $3::bigint[], $4::timestamptz[]) AS d (attempt_id, worker, due_at)
    WHERE m.attempt_id = d.attempt_id AND m.worker = d.worker AND m.status = 'sending'
    RETURNING m.provider, m.provider_ref, m.attempt_id
), named AS (
    INSERT INTO handle (provider, ref, attempt_id, at)
    SELECT provider, provider_ref, attempt_id, $1 FROM doubted WHERE provider_ref <> ''
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM doubted
"""

FORGET_LEASES = """
DELETE FROM worker w WHERE lease_until < clock_timestamp() - $1::interval
    AND NOT EXISTS (SELECT FROM flight f WHERE f.worker = w.worker)
"""

NEXT_DUE = """
SELECT min(due_at) FROM unnest($1::smallint[]) AS l (lane), LATERAL (
    (SELECT due_at FROM queue q WHERE q.lane = l.lane AND q.tenant = ANY ($2::text[]) ORDER BY due_at LIMIT 1)
    UNION ALL
    (SELECT due_at FROM message m WHERE m.lane = l.lane AND m.due_at IS NOT NULL AND m.status = 'queued'
     ORDER BY due_at LIMIT 1)
) AS first
"""
