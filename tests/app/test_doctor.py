"""The doctor finds what is wrong, says how to mend it, and keeps secrets to itself."""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console

from orderbell.app import doctor
from orderbell.app.doctor import Finding, examine, hidden, show_findings
from orderbell.app.secret import read_secret
from orderbell.app.sending import RESTORED
from orderbell.app.templates import wanted_texts
from orderbell.channels.alibaba import AlibabaChannel
from orderbell.channels.protocol import Finding as ProviderFinding
from orderbell.channels.staff import StaffChannel
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.server import running
from orderbell.settings import Settings
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.templates import Binding, Templates
from orderbell.store.tenants import add_tenant
from orderbell.store.vault import Vault
from orderbell.store.witness import check_secret
from tests.database import DatabaseServer

FREE_PORTS = {"ORDERBELL_PORT": "0", "ORDERBELL_SANDBOX_PORT": "0"}


async def findings_of(environment: Mapping[str, str]) -> dict[str, Finding]:
    """What the doctor finds, by name."""
    return {finding.name: finding for finding in await examine({**FREE_PORTS, **environment})}


def states_of(findings: Mapping[str, Finding]) -> dict[str, str]:
    """The names of what is not fine, with how bad it is."""
    return {name: finding.state for name, finding in findings.items() if finding.state != "fine"}


def open_to_the_server(folder: Path) -> None:
    """Let the user that root's server runs as reach a folder of the test."""
    for part in (folder, *folder.parents):
        if part == Path(tempfile.gettempdir()):
            break
        part.chmod(0o755)


def entries_of(folder: Path) -> list[Path]:
    """What stands in a folder."""
    return list(folder.iterdir())


async def test_good_installation_has_nothing_wrong(database: str) -> None:
    """A migrated database that can be reached, free ports, playbooks that ship: nothing to mend."""
    findings = await findings_of({"ORDERBELL_DATABASE_URL": database})
    wrong = {name for name, finding in findings.items() if finding.state == "wrong"}
    assert wrong == set()
    assert findings["tables"].says.endswith("the newest")
    assert "PostgreSQL" in findings["database"].says
    assert {"Python", "settings", "encoding", "clocks", "connections", "playbooks"} <= findings.keys()


async def test_bundled_database_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    """Before the first start the bundled server is tried out elsewhere: the data folder stays as it was."""
    open_to_the_server(tmp_path)
    findings = await findings_of({"ORDERBELL_DATA_DIR": str(tmp_path / "data")})
    assert findings["bundled PostgreSQL"].state == "fine", findings["bundled PostgreSQL"]
    assert findings["encoding"].state == "fine"
    assert entries_of(tmp_path) == []


async def test_data_folder_that_is_a_file_is_wrong(tmp_path: Path) -> None:
    """A data folder that cannot be one is named, with the remedy."""
    file = tmp_path / "file"
    file.touch()
    finding = (await findings_of({"ORDERBELL_DATA_DIR": str(file)}))["data folder"]
    assert finding.state == "wrong"
    assert str(file) in finding.says
    assert "ORDERBELL_DATA_DIR" in finding.remedy


async def test_unknown_setting_is_wrong() -> None:
    """A misspelt variable is named with what was meant, and the rest is still looked at."""
    findings = await findings_of({"ORDERBELL_PROT": "80"})
    assert states_of(findings) == {"settings": "wrong"}
    assert "ORDERBELL_PORT" in findings["settings"].says
    assert findings["playbooks"].state == "fine"


async def test_database_out_of_reach_is_wrong_and_its_password_stays_secret() -> None:
    """The address is shown without the password, wherever in it the password stands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"postgresql://bob:hun/te@r2@127.0.0.1:{port}/shop?password=swordfish"
    findings = await findings_of({"ORDERBELL_DATABASE_URL": url})
    assert states_of(findings) == {"database": "wrong"}
    shown = f"{findings['database'].says} {findings['settings'].says}"
    assert not any(secret in shown for secret in ("hun", "te@r2", "swordfish"))
    assert findings["database"].remedy


async def test_database_that_is_not_there_is_wrong(database_server: DatabaseServer) -> None:
    """A server without the database gets the remedy for that."""
    finding = (await findings_of({"ORDERBELL_DATABASE_URL": database_server.dsn_for("no_such_shop")}))["database"]
    assert finding.state == "wrong"
    assert "createdb" in finding.remedy


async def test_database_without_tables_is_doubtful(blank_database: str) -> None:
    """Before the first start there are no tables yet; that is said, and no fault."""
    finding = (await findings_of({"ORDERBELL_DATABASE_URL": blank_database}))["tables"]
    assert (finding.state, "orderbell migrate" in finding.remedy) == ("doubtful", True)


async def test_tables_of_a_newer_version_are_wrong(database: str) -> None:
    """Tables that this version does not know are not touched."""
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    finding = (await findings_of({"ORDERBELL_DATABASE_URL": database}))["tables"]
    assert finding.state == "wrong"
    assert "9999" in finding.says


async def test_account_without_rights_is_wrong(database: str, database_server: DatabaseServer) -> None:
    """An account that may not write the tables, nor make the journal's next month, hears both."""
    role = f"reader_{os.getpid()}"
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN")
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        url = database.replace("//orderbell@", f"//{role}@")
        if url == database:
            pytest.skip("the accounts of this server need passwords")
        findings = await findings_of({"ORDERBELL_DATABASE_URL": url})
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()
    assert findings["rights"].state == "wrong"
    assert f"TO {role}" in findings["rights"].remedy
    assert "orders" in findings["tables"].says


async def test_port_of_another_program_is_wrong_and_our_own_is_fine(tmp_path: Path, database: str) -> None:
    """A port in use is a fault only where somebody else uses it."""
    async with running(tmp_path / "ledger.jsonl") as url:
        port = url.rpartition(":")[2]
        base = {"ORDERBELL_DATABASE_URL": database}
        ours = await findings_of({**base, "ORDERBELL_SANDBOX_PORT": port})
        theirs = await findings_of({**base, "ORDERBELL_PORT": port})
        named = await findings_of({**base, "ORDERBELL_SANDBOX_URL": url})
    assert "OrderBell is running" in ours["port of the sandbox"].says
    assert theirs["port of the API"].state == "wrong"
    assert "ORDERBELL_PORT" in theirs["port of the API"].remedy
    assert named["sandbox"].state == "fine"


async def test_sandbox_out_of_reach_is_wrong(database: str) -> None:
    """A sandbox that the settings name must answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    finding = (await findings_of({"ORDERBELL_DATABASE_URL": database, "ORDERBELL_SANDBOX_URL": url}))["sandbox"]
    assert finding.state == "wrong"
    assert "orderbell sandbox" in finding.remedy


async def test_settings_file_open_to_all_is_doubtful(tmp_path: Path, database: str) -> None:
    """A file with the database's address is for its owner alone."""
    file = tmp_path / "orderbell.toml"
    file.write_text(f'database_url = "{database}"\nhost = "0.0.0.0"\n')
    file.chmod(0o644)
    states = states_of(await findings_of({"ORDERBELL_SETTINGS": str(file)}))
    assert (states["settings file"], states["host"]) == ("doubtful", "doubtful")


async def test_secret_that_is_not_there_yet_is_fine_and_not_made(tmp_path: Path, database: str) -> None:
    """Before the first start the doctor says where the secret will be, and that other machines need it."""
    findings = await findings_of({"ORDERBELL_DATA_DIR": str(tmp_path / "data"), "ORDERBELL_DATABASE_URL": database})
    finding = findings["secret"]
    assert (finding.state, "secret.key (will be made)" in finding.says) == ("fine", True)
    assert "other machines" in finding.says
    assert entries_of(tmp_path) == []


async def test_secret_is_found_and_a_wrong_one_named(tmp_path: Path, database: str) -> None:
    """A file open to others is wrong, and so is a setting of another form; the secret itself is never shown."""
    secret = read_secret(Settings(data_dir=str(tmp_path))).hex()
    environment = {"ORDERBELL_DATA_DIR": str(tmp_path), "ORDERBELL_DATABASE_URL": database}
    good = await findings_of(environment)
    (tmp_path / "secret.key").chmod(0o644)
    bad = await findings_of(environment)
    given = await findings_of({**environment, "ORDERBELL_SECRET_KEY": secret})
    misspelt = await findings_of({**environment, "ORDERBELL_SECRET_KEY": secret[1:]})
    assert [each["secret"].state for each in (good, bad, given, misspelt)] == ["fine", "wrong", "fine", "wrong"]
    assert "chmod 600" in bad["secret"].says
    assert "ORDERBELL_SECRET_KEY" in misspelt["secret"].says
    assert not any(secret[1:] in str(each) for each in (good, bad, given, misspelt))


async def test_secret_of_another_database_is_wrong(tmp_path: Path, store: Store, database: str) -> None:
    """Data that were written with another secret are noticed before the start refuses."""
    await check_secret(store.pool, Vault(bytes(32)))
    environment = {"ORDERBELL_DATABASE_URL": database, "ORDERBELL_DATA_DIR": str(tmp_path)}
    ours = await findings_of({**environment, "ORDERBELL_SECRET_KEY": "00" * 32})
    theirs = await findings_of({**environment, "ORDERBELL_SECRET_KEY": "01" * 32})
    assert "secret of the database" not in ours
    assert theirs["secret of the database"].state == "wrong"
    assert "ORDERBELL_SECRET_KEY" in theirs["secret of the database"].remedy


async def test_settings_file_with_the_secret_is_for_its_owner(tmp_path: Path, database: str) -> None:
    """The secret in a file that others may read is said before the address of the database."""
    file = tmp_path / "orderbell.toml"
    file.write_text(f'secret_key = "{"00" * 32}"\n')
    file.chmod(0o644)
    findings = await findings_of({"ORDERBELL_SETTINGS": str(file), "ORDERBELL_DATABASE_URL": database})
    assert (findings["settings file"].state, "the secret" in findings["settings file"].says) == ("doubtful", True)


@pytest.mark.parametrize(("apart_s", "state"), [(0.0, "fine"), (5.0, "doubtful"), (3600.0, "wrong")])
def test_clocks_apart_are_noticed(apart_s: float, state: str) -> None:
    """A database whose clock differs by seconds is doubtful, by an hour wrong."""
    assert doctor._clocks(apart_s).state == state


def test_clock_before_the_release_is_wrong() -> None:
    """A clock that shows the past cannot be right."""
    assert doctor._clock(datetime(2001, 1, 1, tzinfo=UTC)).state == "wrong"


@pytest.mark.parametrize(("limit", "state"), [(128, "wrong"), (512, "doubtful"), (4096, "fine"), (-1, "fine")])
def test_few_open_files_are_noticed(limit: int, state: str) -> None:
    """Connections are files: with too few allowed, peaks would be turned away."""
    assert doctor._files(limit).state == state


def test_nothing_secret_is_shown() -> None:
    """Passwords are hidden in addresses of every form."""
    assert hidden("postgresql://bob:s3c/r@t@db/shop") == "postgresql://bob:***@db/shop"
    assert hidden("host=db password=s3cret user=bob") == "host=db password=*** user=bob"


def test_findings_are_shown_with_their_remedies() -> None:
    """Every line has its mark, and what is not fine its remedy."""
    stream = io.StringIO()
    findings = [Finding("one", "fine", "well"), Finding("two", "wrong", "broken [x]", "mend it")]
    show_findings(Console(file=stream, width=80), findings)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == ["✓ one  well", "✗ two  broken [x]", "       → mend it", "1 to mend, 0 to think about."]


def test_command_exits_with_one_for_what_is_wrong() -> None:
    """The command line says it in JSON and by its exit code, never with a traceback."""
    environment = {**os.environ, **FREE_PORTS, "ORDERBELL_LOG_LEVEL": "loud"}
    command = [sys.executable, "-m", "orderbell", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["settings"]["state"] == "wrong"
    assert "ORDERBELL_LOG_LEVEL" in findings["settings"]["says"]


async def test_without_providers_everything_goes_to_the_sandbox(blank_database: str) -> None:
    """Whoever has no file of providers must read where messages go."""
    finding = (await findings_of({"ORDERBELL_DATABASE_URL": blank_database}))["providers"]
    assert (finding.state, finding.says) == ("fine", "none: everything goes to the sandbox")


async def test_halted_sending_is_doubtful(store: Store) -> None:
    """Where nothing leaves, nothing is in order: since when, why and what to do about it must be said."""
    going = (await findings_of({"ORDERBELL_DATABASE_URL": store.dsn}))["sending"]
    assert (going.state, going.says) == ("fine", "not halted")
    ledger, at = Ledger(store), datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    await ledger.halt("the provider sends everything twice", at)
    halted = (await findings_of({"ORDERBELL_DATABASE_URL": store.dsn}))["sending"]
    assert halted.state == "doubtful"
    assert "halted since 2026-03-02 09:30 UTC: the provider sends everything twice" in halted.says
    assert "`orderbell dispatch resume`" in halted.remedy
    await ledger.halt(RESTORED, at)
    restored = (await findings_of({"ORDERBELL_DATABASE_URL": store.dsn}))["sending"]
    assert "this database was restored from a backup" in restored.says


PROVIDERS = """
[[provider]]
name = "ali"
kind = "alibaba"
access_key_id = "id"
access_key_secret = "hidden-secret"
sign = "叮咚"
ref_key = "0123456789"
callback_token = "a-token-that-nobody-guesses"
tenants = ["acme", "my-shopp"]

[[provider]]
name = "team"
kind = "staff"
robots.desk = {kind = "slack", url = "https://localhost/hidden-secret", roles = ["servise", "operations"]}
robots.stove = {kind = "slack", url = "https://localhost/hidden-secret", roles = ["warehouse"]}
"""


async def doubts_of(folder: Path, dsn: str, text: str) -> list[Finding]:
    """What the doctor finds doubtful about the providers of a file, none of whom answers."""
    file = folder / "providers.toml"
    file.write_text(text, "utf-8")
    file.chmod(0o600)
    environment = {
        **FREE_PORTS, "ORDERBELL_DATABASE_URL": dsn, "ORDERBELL_PROVIDERS_FILE": str(file),
        "ORDERBELL_PUBLIC_URL": "https://bell.example",
    }  # fmt: skip
    return [one for one in await examine(environment) if one.state == "doubtful" and one.name.startswith("provider ")]


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider is asked anything."""

    async def check(_self: object) -> list[ProviderFinding]:
        return [ProviderFinding(fine=True, words="asked nobody")]

    for kind in (AlibabaChannel, StaffChannel):
        monkeypatch.setattr(kind, "check", check)


@pytest.mark.usefixtures("mute")
async def test_terms_that_nobody_meets_are_doubtful(tmp_path: Path, store: Store) -> None:
    """Tenants that do not exist and roles that nobody has must be named with what was meant."""
    shelf = shipped_shelf()
    for tenant in ("acme", "my-shop"):
        await add_tenant(store.pool, tenant, shelf)
    found = {one.says: one.remedy for one in await doubts_of(tmp_path, store.dsn, PROVIDERS)}
    tenants = found["it is for my-shopp, and there is no such tenant"]
    assert tenants.startswith("did you mean my-shop? known: acme, my-shop; `orderbell key new NAME`")
    roles = found["the robot desk takes the alerts of servise, and no playbook has such a role"]
    assert roles == "did you mean service? known: finance, logistics, operations, service, warehouse"
    assert len(found) == 3  # and the templates


@pytest.mark.usefixtures("mute")
async def test_provider_without_approved_templates_is_doubtful(tmp_path: Path, store: Store) -> None:
    """A provider that can send nothing must not look well; with the first approved text it is said how many there are."""
    text = PROVIDERS.split("[[provider]]\nname", 2)[1].replace('tenants = ["acme", "my-shopp"]', "")
    text = f"[[provider]]\nname{text}"
    wanted = wanted_texts(shipped_shelf(), "sms")
    (doubt,) = await doubts_of(tmp_path, store.dsn, text)
    assert doubt.name == "provider ali"
    assert doubt.says == f"0 of {len(wanted)} texts approved: it can send nothing"
    assert "`orderbell templates sync ali`" in doubt.remedy
    assert "docs/templates.md" in doubt.remedy
    kept, first = Templates(store), next(iter(wanted))
    await kept.draft([Binding("ali", one, (), marketing=False) for one in (first, "gone")], datetime.now(UTC))
    for place, one in enumerate((first, "gone")):
        await kept.bind("ali", one, f"SMS_{place}", "approved", datetime.now(UTC))
    assert await doubts_of(tmp_path, store.dsn, text) == []


@pytest.mark.usefixtures("mute")
async def test_templates_before_the_first_start(tmp_path: Path, blank_database: str) -> None:
    """Without tables nothing is approved, and tenants cannot be there yet."""
    found = await doubts_of(tmp_path, blank_database, PROVIDERS)
    assert [one.says for one in found if one.name == "provider ali"] == [
        f"0 of {len(wanted_texts(shipped_shelf(), 'sms'))} texts approved: it can send nothing"
    ]


@pytest.mark.usefixtures("mute")
@pytest.mark.parametrize("where", ["check", "open"])
async def test_provider_that_cannot_be_looked_at(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One provider that breaks the check must be named, show no secret, and keep nobody else from being checked."""

    async def check(_self: object) -> list[ProviderFinding]:
        raise ValueError("no such thing as https://localhost/hidden-secret")

    def make(*_: object, **__: object) -> object:
        raise ValueError("relative URL without a base")

    if where == "check":
        monkeypatch.setattr(AlibabaChannel, "check", check)
    else:
        monkeypatch.setattr(AlibabaChannel, "__init__", make)
    file = tmp_path / "providers.toml"
    file.write_text(PROVIDERS, "utf-8")
    found = await doctor._providers(Settings(providers_file=str(file)), doctor.Stored())
    (broken,) = [one for one in found if one.state == "wrong"]
    assert broken.name == "provider ali"
    assert ("ValueError at test_doctor.py:" if where == "check" else "relative URL") in broken.says
    assert not any("hidden-secret" in f"{one.says}{one.remedy}" for one in found)
    assert "asked nobody" in [one.says for one in found if one.name == "provider team"]


async def test_playbooks_of_ones_own_are_looked_at(tmp_path: Path, blank_database: str) -> None:
    """A folder that is not there, or holds a faulty playbook, is named with its fault; a good one is listed."""
    settings = {"ORDERBELL_DATABASE_URL": blank_database, "ORDERBELL_PLAYBOOKS_DIR": str(tmp_path)}
    assert "there is no folder" in (await findings_of(settings))["playbooks"].says
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nextends: retail\nruls: []\n")
    assert "ruls" in (await findings_of(settings))["playbooks"].says
    file.write_text("name: mine\nextends: retail\n")
    found = (await findings_of(settings))["playbooks"]
    assert (found.state, "mine" in found.says) == ("fine", True)
