"""The spine: events, orders, timers, queue, messages, contacts, and what people look at.

Revision: 0001. `tenant` leads every primary key, so that the tables can be spread by tenant without a change.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Hot tables are vacuumed by rows changed, not by share of the table, and without pauses.
HOT = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,"
    " autovacuum_analyze_scale_factor = 0.05"
)

STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS tenant (
        tenant text PRIMARY KEY, playbook text NOT NULL DEFAULT 'retail',
        created_at timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE IF NOT EXISTS api_key (
        tenant text NOT NULL, key_hash bytea NOT NULL, label text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(), revoked_at timestamptz, PRIMARY KEY (tenant, key_hash))""",
    "CREATE UNIQUE INDEX IF NOT EXISTS api_key_hash ON api_key (key_hash)",
    # the dedupe memory: small rows, kept at least 35 days, longer than any sender tries again
    """CREATE TABLE IF NOT EXISTS event_key (
        tenant text NOT NULL, source text NOT NULL, event_id text NOT NULL, body_hash bytea NOT NULL,
        received_at timestamptz NOT NULL, PRIMARY KEY (tenant, source, event_id))""",
    # append-only, retired by dropping partitions; version 0 marks lines that changed no order; event and decision are
    # JSON in UTF-8 as it was encoded: read them with convert_from(event, 'UTF8')::json
    """CREATE TABLE IF NOT EXISTS journal (
        tenant text NOT NULL, order_no text NOT NULL, version integer NOT NULL, at timestamptz NOT NULL,
        type text NOT NULL, source text NOT NULL, event_id text NOT NULL, verdict text NOT NULL, stage text NOT NULL,
        event bytea NOT NULL, decision bytea NOT NULL, detail text NOT NULL) PARTITION BY RANGE (at)""",
    "CREATE INDEX IF NOT EXISTS journal_order ON journal (tenant, order_no, version)",
    # state is the order itself (msgpack); the other columns are those that people search by
    f"""CREATE TABLE IF NOT EXISTS orders (
        tenant text NOT NULL, order_no text NOT NULL, version integer NOT NULL, playbook text NOT NULL,
        stage text NOT NULL, light text NOT NULL, opened_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
        state bytea NOT NULL, PRIMARY KEY (tenant, order_no)) WITH (fillfactor = 75, {HOT})""",
    # one row per order that waits for something: its earliest deadline; the order's state holds the rest
    f"""CREATE TABLE IF NOT EXISTS timer (
        tenant text NOT NULL, order_no text NOT NULL, due_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, order_no)) WITH (fillfactor = 80, {HOT})""",
    "CREATE INDEX IF NOT EXISTS timer_due ON timer (due_at)",
    # notices that wait for the second stage; deleted when planned
    f"""CREATE TABLE IF NOT EXISTS queue (
        tenant text NOT NULL, contact text NOT NULL, notice_id bytea NOT NULL, lane smallint NOT NULL,
        due_at timestamptz NOT NULL, body bytea NOT NULL, PRIMARY KEY (tenant, contact, notice_id)) WITH ({HOT})""",
    "CREATE INDEX IF NOT EXISTS queue_due ON queue (lane, due_at)",
    # what became of every notice
    """CREATE TABLE IF NOT EXISTS notice (
        tenant text NOT NULL, notice_id bytea NOT NULL, order_no text NOT NULL, contact text NOT NULL,
        topic text NOT NULL, fate text NOT NULL, reason text NOT NULL, into_id bytea, created_at timestamptz NOT NULL,
        planned_at timestamptz NOT NULL, body bytea NOT NULL, PRIMARY KEY (tenant, notice_id))""",
    "CREATE INDEX IF NOT EXISTS notice_order ON notice (tenant, order_no)",
    # the ledger: queued -> sending -> accepted -> delivered | failed, or rejected | unknown
    # a batch answers whole pages at once: each row's next version must fit into its page (96 % HOT; 50 % at 70)
    f"""CREATE TABLE IF NOT EXISTS message (
        tenant text NOT NULL, message_id bytea NOT NULL, order_no text NOT NULL, contact text NOT NULL,
        topic text NOT NULL, channel text NOT NULL, lane smallint NOT NULL, text text NOT NULL,
        body bytea NOT NULL, created_at timestamptz NOT NULL, told_at timestamptz NOT NULL,
        valid_until timestamptz NOT NULL, status text NOT NULL, attempt_no integer NOT NULL, attempt_id bytea NOT NULL,
        provider text NOT NULL, worker bigint NOT NULL, due_at timestamptz, provider_ref text NOT NULL DEFAULT '',
        detail text NOT NULL DEFAULT '', sending_at timestamptz, settled_at timestamptz,
        PRIMARY KEY (tenant, message_id)) WITH (fillfactor = 45, {HOT})""",
    "CREATE INDEX IF NOT EXISTS message_order ON message (tenant, order_no)",
    "CREATE UNIQUE INDEX IF NOT EXISTS message_attempt ON message (attempt_id)",
    "CREATE INDEX IF NOT EXISTS message_waiting ON message (lane, due_at) WHERE due_at IS NOT NULL",
    # tries that ended without acceptance; the live try stands in its message
    """CREATE TABLE IF NOT EXISTS attempt (
        tenant text NOT NULL, attempt_id bytea NOT NULL, message_id bytea NOT NULL, attempt_no integer NOT NULL,
        provider text NOT NULL, outcome text NOT NULL, detail text NOT NULL, started_at timestamptz,
        ended_at timestamptz NOT NULL, PRIMARY KEY (tenant, attempt_id))""",
    # a provider's late word names the attempt alone
    "CREATE INDEX IF NOT EXISTS attempt_key ON attempt (attempt_id)",
    """CREATE TABLE IF NOT EXISTS contact (
        tenant text NOT NULL, contact text NOT NULL, body bytea NOT NULL, updated_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, contact)) WITH (fillfactor = 80)""",
    """CREATE TABLE IF NOT EXISTS anomaly (
        tenant text NOT NULL, order_no text NOT NULL, name text NOT NULL, opened_at timestamptz NOT NULL,
        closed_at timestamptz, PRIMARY KEY (tenant, order_no, name, opened_at))""",
    "CREATE INDEX IF NOT EXISTS anomaly_open ON anomaly (tenant, name) WHERE closed_at IS NULL",
    """CREATE TABLE IF NOT EXISTS cases (
        tenant text NOT NULL, case_id bytea NOT NULL, order_no text NOT NULL, anomaly text NOT NULL, kind text NOT NULL,
        owner text NOT NULL, state text NOT NULL, opened_at timestamptz NOT NULL, closed_at timestamptz,
        PRIMARY KEY (tenant, case_id))""",
    "CREATE INDEX IF NOT EXISTS cases_open ON cases (tenant, owner, opened_at) WHERE closed_at IS NULL",
    """CREATE TABLE IF NOT EXISTS playbook (
        tenant text NOT NULL, name text NOT NULL, version text NOT NULL, body text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant, name, version))""",
    # who sends: a lease that its holder renews; what a dead holder left in `sending` becomes unknown
    """CREATE TABLE IF NOT EXISTS worker (
        worker bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL,
        lease_until timestamptz NOT NULL)""",
    # one row per request under way, with the ids of its attempts in a row: finds what a dead holder left in `sending`
    # without an index on the status of messages, which would keep their updates from being HOT
    f"""CREATE TABLE IF NOT EXISTS flight (
        flight bytea PRIMARY KEY, worker bigint NOT NULL, provider text NOT NULL,
        attempts bytea NOT NULL) WITH ({HOT})""",
    # how far each provider's receipts have been read, and by which holder of a lease
    """CREATE TABLE IF NOT EXISTS receipt_cursor (
        provider text PRIMARY KEY, cursor text NOT NULL, reader bigint NOT NULL DEFAULT 0)""",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """The first step has nothing to go back to."""
    raise NotImplementedError
