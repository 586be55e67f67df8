"""API: answers that are given once.

Revision: 0009.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS: tuple[str, ...] = (
    # keys and requests are keyed hashes, answers are sealed; no status: the first request is still under way
    """CREATE TABLE IF NOT EXISTS idempotency (
        tenant text NOT NULL, key_hash bytea NOT NULL, route text NOT NULL, body_hash bytea NOT NULL,
        status smallint, answer bytea, made_at timestamptz NOT NULL, PRIMARY KEY (tenant, key_hash))""",
    "CREATE INDEX IF NOT EXISTS idempotency_made ON idempotency (made_at)",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
