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
    # people who may sign in; name_key is the name as it is compared; an empty password fits nothing
    """CREATE TABLE IF NOT EXISTS account (
        account bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL, name_key text NOT NULL UNIQUE,
        password text NOT NULL DEFAULT '', two_step bytea, two_step_last bigint NOT NULL DEFAULT 0,
        locale text NOT NULL DEFAULT '', created_at timestamptz NOT NULL, disabled_at timestamptz)""",
    """CREATE TABLE IF NOT EXISTS membership (
        tenant text NOT NULL, account bigint NOT NULL, role text NOT NULL, since timestamptz NOT NULL,
        disabled_at timestamptz, PRIMARY KEY (tenant, account))""",
    "CREATE INDEX IF NOT EXISTS membership_account ON membership (account)",
    # only the SHA-256 of what a browser holds is here: of sessions, of devices that signed in before, of tickets
    """CREATE TABLE IF NOT EXISTS session (
        token_hash bytea PRIMARY KEY, account bigint NOT NULL, tenant text NOT NULL, label text NOT NULL,
        address text NOT NULL, created_at timestamptz NOT NULL, seen_at timestamptz NOT NULL)
        WITH (fillfactor = 70)""",
    "CREATE INDEX IF NOT EXISTS session_account ON session (account)",
    """CREATE TABLE IF NOT EXISTS device (
        account bigint NOT NULL, device_hash bytea NOT NULL, seen_at timestamptz NOT NULL,
        PRIMARY KEY (account, device_hash))""",
    """CREATE TABLE IF NOT EXISTS ticket (
        ticket_hash bytea PRIMARY KEY, account bigint NOT NULL, expires_at timestamptz NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ticket_account ON ticket (account)",
    # one row while nobody has an account: who knows the token may make the first one
    """CREATE TABLE IF NOT EXISTS setup (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), token_hash bytea NOT NULL)""",
    # when something was done of late that may not be done often; the key is a keyed hash
    """CREATE TABLE IF NOT EXISTS throttle (
        scope text NOT NULL, key_hash bytea NOT NULL, hits timestamptz[] NOT NULL, taken boolean NOT NULL,
        until_at timestamptz NOT NULL, PRIMARY KEY (scope, key_hash)) WITH (fillfactor = 50)""",
    # who changed what; `object` names it
    """CREATE TABLE IF NOT EXISTS trail (
        tenant text NOT NULL, place bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, actor text NOT NULL,
        action text NOT NULL, object text NOT NULL, detail text NOT NULL, PRIMARY KEY (tenant, place))""",
    # how a shop presents itself to its customers
    """CREATE TABLE IF NOT EXISTS brand (
        tenant text PRIMARY KEY, name text NOT NULL, phone text NOT NULL, website text NOT NULL, color text NOT NULL,
        updated_at timestamptz NOT NULL)""",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
