"""Pages: the customer's page, short links and their clicks.

Revision: 0008.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    # whose page a token opens: of one person in one order, nobody ('') stands for the principal; the token can be made
    # again from these, so only its hash is kept
    """CREATE TABLE IF NOT EXISTS tracking (
        tenant text NOT NULL, token_hash bytea NOT NULL, order_no text NOT NULL, contact text NOT NULL,
        made_at timestamptz NOT NULL, PRIMARY KEY (tenant, token_hash))""",
    # a page is looked up by the token alone
    "CREATE UNIQUE INDEX IF NOT EXISTS tracking_token ON tracking (token_hash)",
    # the short link of a message
    """CREATE TABLE IF NOT EXISTS link (
        tenant text NOT NULL, code_hash bytea NOT NULL, order_no text NOT NULL, contact text NOT NULL,
        message_id bytea NOT NULL, topic text NOT NULL, channel text NOT NULL, made_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, code_hash))""",
    "CREATE UNIQUE INDEX IF NOT EXISTS link_code ON link (code_hash)",
    "CREATE INDEX IF NOT EXISTS link_made ON link (tenant, made_at)",
    # who opened a short link, raw and judged; neither address nor program is kept, `visitor` is a keyed hash of both
    """CREATE TABLE IF NOT EXISTS hit (
        tenant text NOT NULL, code_hash bytea NOT NULL, place bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz NOT NULL, visitor bytea NOT NULL, human boolean NOT NULL, reason text NOT NULL,
        PRIMARY KEY (tenant, code_hash, place))""",
    # what people wrote into the form for addresses, sealed: events never carry it
    """CREATE TABLE IF NOT EXISTS correction (
        tenant text NOT NULL, order_no text NOT NULL, correction_id bytea NOT NULL, contact text NOT NULL,
        body bytea NOT NULL, made_at timestamptz NOT NULL, PRIMARY KEY (tenant, order_no, correction_id))""",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
