"""Webhooks out: who hears of changes, and what waits to be told.

Revision: 0007.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    # an address of a shop's own program; the secrets are sealed; `types` are the changes that it wants to hear of
    """CREATE TABLE IF NOT EXISTS hook (
        tenant text NOT NULL, hook_id bytea NOT NULL, url text NOT NULL, label text NOT NULL DEFAULT '',
        types text[] NOT NULL, state text NOT NULL DEFAULT 'on', reason text NOT NULL DEFAULT '',
        secret bytea NOT NULL, old_secret bytea, old_until timestamptz, failing_since timestamptz,
        created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, PRIMARY KEY (tenant, hook_id))""",
    # what changed, written with the change itself, and only for tenants with a hook that wants it; deleted as soon as
    # every hook has its delivery
    """CREATE TABLE IF NOT EXISTS change (
        tenant text NOT NULL, place bigint GENERATED ALWAYS AS IDENTITY, change_id bytea NOT NULL, type text NOT NULL,
        subject text NOT NULL, data text NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (tenant, place))
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)""",
    """CREATE TABLE IF NOT EXISTS hook_delivery (
        tenant text NOT NULL, hook_id bytea NOT NULL, delivery_id bytea NOT NULL,
        place bigint GENERATED ALWAYS AS IDENTITY, type text NOT NULL, subject text NOT NULL, data text NOT NULL,
        at timestamptz NOT NULL, due_at timestamptz NOT NULL, state text NOT NULL DEFAULT 'waiting',
        tries integer NOT NULL DEFAULT 0, tried_at timestamptz, status integer NOT NULL DEFAULT 0,
        detail text NOT NULL DEFAULT '', PRIMARY KEY (tenant, hook_id, delivery_id))
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)""",
    """CREATE INDEX IF NOT EXISTS hook_delivery_waiting ON hook_delivery (tenant, hook_id, due_at, place)
        WHERE state = 'waiting'""",
    "CREATE INDEX IF NOT EXISTS hook_delivery_place ON hook_delivery (tenant, hook_id, place)",
    "CREATE INDEX IF NOT EXISTS hook_delivery_over ON hook_delivery (tried_at) WHERE state <> 'waiting'",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """What a shop has not heard yet is not thrown away."""
    raise NotImplementedError
