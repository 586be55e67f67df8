"""Outreach: what people heard, what they agreed to, what they were promised, and how long receipts take.

Revision: 0002.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # a contact's body is sealed from now on; phone_key finds a person by phone without the database knowing any
    "ALTER TABLE contact ADD COLUMN IF NOT EXISTS history bytea",
    "ALTER TABLE contact ADD COLUMN IF NOT EXISTS phone_key bytea",
    "CREATE INDEX IF NOT EXISTS contact_phone ON contact (tenant, phone_key) WHERE phone_key IS NOT NULL",
    # why somebody was told, or not: their notices, the newest first
    "CREATE INDEX IF NOT EXISTS notice_contact ON notice (tenant, contact, planned_at)",
    # proof of consents and opt-outs, append-only
    """CREATE TABLE IF NOT EXISTS consent (
        tenant text NOT NULL, contact text NOT NULL, scope text NOT NULL, given boolean NOT NULL,
        at timestamptz NOT NULL, source text NOT NULL, words text NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS consent_contact ON consent (tenant, contact, at)",
    # what messages promised to make up for a trouble, for the shop to hand out; who reads on by (xact, place), and no
    # further than the oldest transaction under way, misses none that commits late
    """CREATE TABLE IF NOT EXISTS amends (
        tenant text NOT NULL, amends_id bytea NOT NULL, order_no text NOT NULL, contact text NOT NULL,
        kind text NOT NULL, value_fen bigint NOT NULL, topic text NOT NULL, promised_at timestamptz NOT NULL,
        valid_until timestamptz NOT NULL, place bigint GENERATED ALWAYS AS IDENTITY,
        xact xid8 NOT NULL DEFAULT pg_current_xact_id(), PRIMARY KEY (tenant, amends_id))""",
    "CREATE INDEX IF NOT EXISTS amends_place ON amends (tenant, xact, place)",
    # how long the receipts of a channel take
    """CREATE TABLE IF NOT EXISTS pace (
        channel text PRIMARY KEY, delay_p95_s float8 NOT NULL, receipts bigint NOT NULL)""",
    # one row sealed with the installation's secret: another secret is found out before it does harm
    """CREATE TABLE IF NOT EXISTS vault (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), witness bytea NOT NULL)""",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """What people agreed to is not thrown away."""
    raise NotImplementedError
