"""Sign-in: accounts, sessions, rights, and the trail of changes.

Revision: 0004.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# what a key made before scopes could do; the list of this step must not grow with later ones
SCOPES = (
    "events:write,orders:read,people:read,people:write,messages:read,cases:read,playbooks:read,playbooks:write,"
    "providers:read,hooks:read,hooks:write,metrics:read,settings:write,links:write"
)

STATEMENTS: tuple[str, ...] = (
    f"ALTER TABLE api_key ADD COLUMN IF NOT EXISTS scopes text[] NOT NULL DEFAULT '{{{SCOPES}}}'",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
