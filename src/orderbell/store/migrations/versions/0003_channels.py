"""Channels: several providers for a message, receipts by the provider's own names, templates, tokens, and a halt.

Revision: 0003.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    # the providers that failed a message, separated by blanks: none of them is drawn again while another is left
    "ALTER TABLE message ADD COLUMN IF NOT EXISTS tried text NOT NULL DEFAULT ''",
    # by which name a provider will speak of an attempt; forgotten when no receipt can come any more
    """CREATE TABLE IF NOT EXISTS handle (
        provider text NOT NULL, ref text NOT NULL, attempt_id bytea NOT NULL, at timestamptz NOT NULL,
        PRIMARY KEY (provider, ref))""",
    "CREATE INDEX IF NOT EXISTS handle_at ON handle (at)",
    # receipts that came before the answer which says whose they are; nearly always empty
    """CREATE TABLE IF NOT EXISTS receipt (
        provider text NOT NULL, ref text NOT NULL, delivered boolean NOT NULL, detail text NOT NULL,
        at timestamptz NOT NULL, heard_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (provider, ref, delivered))""",
    "CREATE INDEX IF NOT EXISTS receipt_heard ON receipt (heard_at)",
    # our texts as the providers know them; the digest is that of the text
    """CREATE TABLE IF NOT EXISTS template (
        provider text NOT NULL, digest bytea NOT NULL, text text NOT NULL, names text[] NOT NULL,
        marketing boolean NOT NULL, code text NOT NULL DEFAULT '', state text NOT NULL DEFAULT 'draft',
        reason text NOT NULL DEFAULT '',
        updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (provider, digest))""",
    "CREATE INDEX IF NOT EXISTS template_code ON template (provider, code) WHERE code <> ''",
    # the name under which a provider sends, where it has to approve that too
    """CREATE TABLE IF NOT EXISTS signature (
        provider text NOT NULL, name text NOT NULL, state text NOT NULL, reason text NOT NULL DEFAULT '',
        updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (provider, name))""",
    # by provider and minute of sending: how many messages were taken, and for how many of them a receipt came
    """CREATE TABLE IF NOT EXISTS tally (
        provider text NOT NULL, minute timestamptz NOT NULL, accepted integer NOT NULL DEFAULT 0,
        failed integer NOT NULL DEFAULT 0, received integer NOT NULL DEFAULT 0, delay_s float8 NOT NULL DEFAULT 0,
        PRIMARY KEY (provider, minute)) WITH (fillfactor = 50)""",
    # how each worker finds its providers: breakers, and the last trouble; written now and then, for people to look at
    """CREATE TABLE IF NOT EXISTS standing (
        provider text NOT NULL, worker bigint NOT NULL, state text NOT NULL, reason text NOT NULL, detail text NOT NULL,
        retry_at timestamptz, at timestamptz NOT NULL, PRIMARY KEY (provider, worker)) WITH (fillfactor = 50)""",
    # one access token for all processes, sealed
    """CREATE TABLE IF NOT EXISTS token (
        provider text PRIMARY KEY, value bytea NOT NULL, good_until timestamptz NOT NULL)""",
    # how many messages of a kind somebody still allows; the address is a keyed hash
    """CREATE TABLE IF NOT EXISTS allowance (
        provider text NOT NULL, address_key bytea NOT NULL, scope text NOT NULL, count integer NOT NULL,
        PRIMARY KEY (provider, address_key, scope))""",
    # one row: whether sending is halted, and on which database cluster and time line it last ran
    """CREATE TABLE IF NOT EXISTS halt (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), halted boolean NOT NULL DEFAULT false,
        reason text NOT NULL DEFAULT '', since timestamptz, cluster text NOT NULL DEFAULT '')""",
    "INSERT INTO halt DEFAULT VALUES ON CONFLICT DO NOTHING",
    # cases that no colleague has been told of yet
    "ALTER TABLE cases ADD COLUMN IF NOT EXISTS staff_told_at timestamptz",
    "UPDATE cases SET staff_told_at = now() WHERE closed_at IS NULL AND staff_told_at IS NULL",  # known by now
    """CREATE INDEX IF NOT EXISTS cases_untold ON cases (tenant, opened_at)
        WHERE staff_told_at IS NULL AND closed_at IS NULL""",
    # each tenant with something due gets its share
    "CREATE INDEX IF NOT EXISTS queue_tenant ON queue (lane, tenant, due_at)",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Which receipts are whose is not thrown away."""
    raise NotImplementedError
