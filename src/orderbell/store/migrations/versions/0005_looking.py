"""Looking: what the console and the API search by.

Revision: 0005.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    # who has, or once had, a part in which order; never taken back, so that an old phone still finds the order
    """CREATE TABLE IF NOT EXISTS party (
        tenant text NOT NULL, contact text NOT NULL, order_no text NOT NULL,
        PRIMARY KEY (tenant, contact, order_no))""",
    """INSERT INTO party (tenant, contact, order_no)
        SELECT DISTINCT tenant, contact, order_no FROM notice WHERE order_no <> '' ON CONFLICT DO NOTHING""",
    # people by the last four digits of their phone (empty: none), and by their mail address, without the database
    # knowing either; who was known before gets theirs by `pulse.Rollup`
    "ALTER TABLE contact ADD COLUMN IF NOT EXISTS phone_tail bytea",
    "ALTER TABLE contact ADD COLUMN IF NOT EXISTS mail_key bytea",
    "CREATE INDEX IF NOT EXISTS contact_tail ON contact (tenant, phone_tail) WHERE phone_tail <> ''",
    "CREATE INDEX IF NOT EXISTS contact_unfound ON contact (tenant, contact) WHERE phone_tail IS NULL",
    "CREATE INDEX IF NOT EXISTS contact_mail ON contact (tenant, mail_key) WHERE mail_key IS NOT NULL",
    # the newest first; the moment never changes, so updates of orders touch no index
    "CREATE INDEX IF NOT EXISTS orders_opened ON orders (tenant, opened_at, order_no)",
    # numbers are looked up by how they begin: the primary key does that only where texts are sorted by their bytes
    """DO $$ BEGIN
        IF 'a' < 'B' OR (SELECT datcollate NOT IN ('C', 'POSIX') FROM pg_database WHERE datname = current_database())
        THEN CREATE INDEX IF NOT EXISTS orders_number ON orders (tenant, order_no text_pattern_ops);
            CREATE INDEX IF NOT EXISTS contact_name ON contact (tenant, contact text_pattern_ops);
        END IF; END $$""",
    # what is wrong now, the newest first; it counts by name as well as the index that it replaces
    """CREATE INDEX IF NOT EXISTS anomaly_now ON anomaly (tenant, opened_at, order_no, name)
        WHERE closed_at IS NULL""",
    "DROP INDEX IF EXISTS anomaly_open",
    "CREATE INDEX IF NOT EXISTS cases_order ON cases (tenant, order_no)",
    "CREATE INDEX IF NOT EXISTS consent_at ON consent (tenant, at)",
    # lines come by time, so a few bytes for sixteen pages are index enough
    """CREATE INDEX IF NOT EXISTS journal_at ON journal USING brin (at)
        WITH (pages_per_range = 16, autosummarize = on)""",
    # what happened in each five minutes, counted again until nothing of it is open; the tenant without a name says that
    # all others were counted
    """CREATE TABLE IF NOT EXISTS pulse (
        tenant text NOT NULL, slot timestamptz NOT NULL, counted_at timestamptz NOT NULL, open integer NOT NULL,
        unknown integer NOT NULL, doubtful bytea[] NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (tenant, slot)) WITH (fillfactor = 50)""",
    "CREATE INDEX IF NOT EXISTS pulse_unknown ON pulse (tenant, slot) WHERE unknown > 0",
    # all orders of a tenant, counted now and then
    """CREATE TABLE IF NOT EXISTS census (
        tenant text PRIMARY KEY, counted_at timestamptz NOT NULL, took_s float8 NOT NULL, body bytea NOT NULL)""",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
