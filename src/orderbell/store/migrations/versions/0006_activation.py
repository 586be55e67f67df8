"""Activation: each tenant's own playbooks, drafts of them, and which version counts.

Revision: 0006.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    # a version is all that decides and speaks: `body` its rules, `wording` its words by locale, both JSON after what it
    # extends was laid under them; `source` is the YAML that a person wrote. One without wording was only noted down.
    "ALTER TABLE playbook ADD COLUMN IF NOT EXISTS wording text",
    "ALTER TABLE playbook ADD COLUMN IF NOT EXISTS source text NOT NULL DEFAULT ''",
    # which version of a name counts for a tenant; without a row, or with an empty version, that of the files
    """CREATE TABLE IF NOT EXISTS active (
        tenant text NOT NULL, name text NOT NULL, version text NOT NULL, number integer NOT NULL,
        PRIMARY KEY (tenant, name))""",
    # what counted since when, and by whose doing; append-only. `version` is the one that took effect, `follows` says
    # that it came from the files
    """CREATE TABLE IF NOT EXISTS activation (
        tenant text NOT NULL, name text NOT NULL, number integer NOT NULL, version text NOT NULL,
        follows boolean NOT NULL, activated_at timestamptz NOT NULL, actor text NOT NULL,
        PRIMARY KEY (tenant, name, number))""",
    # what a person writes and nobody follows yet; one for each name
    """CREATE TABLE IF NOT EXISTS draft (
        tenant text NOT NULL, name text NOT NULL, body text NOT NULL, base_version text NOT NULL,
        updated_at timestamptz NOT NULL, actor text NOT NULL, PRIMARY KEY (tenant, name))""",
    # a draft tried on past orders by one of the processes, which says how far it is; anybody may ask it to stop
    """CREATE TABLE IF NOT EXISTS trial (
        tenant text NOT NULL, trial_id uuid NOT NULL, name text NOT NULL, version text NOT NULL, against text NOT NULL,
        days integer NOT NULL, state text NOT NULL DEFAULT 'running', done integer NOT NULL DEFAULT 0,
        total integer NOT NULL DEFAULT 0, detail text NOT NULL DEFAULT '', stop boolean NOT NULL DEFAULT false,
        started_at timestamptz NOT NULL, seen_at timestamptz NOT NULL, actor text NOT NULL, result bytea,
        PRIMARY KEY (tenant, trial_id)) WITH (fillfactor = 70)""",
    # one at a time for each tenant: the machine has orders to watch meanwhile
    "CREATE UNIQUE INDEX IF NOT EXISTS trial_running ON trial (tenant) WHERE state = 'running'",
)


def upgrade() -> None:
    """Create what is not there yet."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nothing is thrown away."""
    raise NotImplementedError
