"""The doctor: looks an installation over, and says of everything that is wrong how to mend it.

It changes nothing: where a database would first have to be made, one is tried out in a temporary folder.
"""

import asyncio
import difflib
import importlib.metadata
import os
import re
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from orderbell import __version__
from orderbell.app.providers import ProviderSpec, read_providers
from orderbell.app.secret import data_dir_of, read_secret, secret_file_of
from orderbell.app.sending import why_halted
from orderbell.app.templates import counted, provider_of, wanted_texts
from orderbell.channels.http import HttpClient, NoReply
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Channel, ReceiptsBy
from orderbell.channels.staff import StaffOptions
from orderbell.channels.templates import template_kind
from orderbell.core.turn import Shelf
from orderbell.dispatch.digest import OPERATIONS
from orderbell.errors import DatabaseUnavailable, OrderBellError, PlaybookInvalid, SettingsInvalid
from orderbell.observe import mask
from orderbell.playbooks import SHIPPED, SHIPPED_NAMES, check_playbook, load_shelf
from orderbell.serving import bind
from orderbell.settings import FILE, Settings, read_settings
from orderbell.store import embedded
from orderbell.store.examination import DatabaseFacts, Unreachable, examine_database
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.templates import Templates
from orderbell.store.tenants import read_shelves
from orderbell.store.vault import REMEDY, Vault
from orderbell.store.witness import knows_secret
from orderbell.web.account.passwords import breached_in

State = Literal["fine", "doubtful", "wrong"]
MARKS: dict[State, tuple[str, str]] = {"fine": ("✓", "green"), "doubtful": ("!", "yellow"), "wrong": ("✗", "red")}

GIB, MIB = 1 << 30, 1 << 20
DISK_WRONG_BYTES, DISK_DOUBTFUL_BYTES = 200 * MIB, 2 * GIB
MEMORY_DOUBTFUL_BYTES = 512 * MIB
FILES_WRONG, FILES_DOUBTFUL = 256, 1024
POSTGRES_MIN = 140000
CLOCK_DOUBTFUL_S, CLOCK_WRONG_S = 1.0, 60.0
CONNECT_HTTP_TIMEOUT_S, HTTP_TIMEOUT_S = 1, 3
PROVIDER_WITHIN_S = 15
PYTHON_TRIED = (3, 14)
RELEASED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is right shows an earlier moment."""

OWN_SIGNS = {"API": b"alive", "sandbox": b"ok"}
"""What the health check of our own servers answers."""

# Wider than the mask of the logs: here an address may be wrong, with a slash or an @ in its password.
_PASSWORD_IN_URL = re.compile(r"(://[^\s:/@]*):\S*@")
_PASSWORD_IN_QUERY = re.compile(r"(?i)(password=)[^&\s'\"]*")


class Finding(Struct, frozen=True):
    """What was found about one thing; `remedy` says how to mend what is not fine."""

    name: str
    state: State
    says: str
    remedy: str = ""


class Stored(Struct):
    """What a database says of sending, put down for the checks that come after it; None: it could not be asked.

    `halted` is whether, why and since when; `tenants` are those that there are; `approved` the templates that may be
    used, by provider and text.
    """

    halted: tuple[bool, str, datetime | None] | None = None
    tenants: Collection[str] | None = None
    approved: Mapping[str, Mapping[str, str]] | None = None


Check = Callable[[], Awaitable[list[Finding]]]


def fine(name: str, says: str) -> Finding:
    """Nothing to mend."""
    return Finding(name, "fine", hidden(says))


def doubtful(name: str, says: str, remedy: str) -> Finding:
    """It works, but not as it should."""
    return Finding(name, "doubtful", hidden(says), hidden(remedy))


def wrong(name: str, says: str, remedy: str) -> Finding:
    """It does not work like this."""
    return Finding(name, "wrong", hidden(says), hidden(remedy))


def hidden(text: str) -> str:
    """A text without passwords and the like."""
    return mask(_PASSWORD_IN_QUERY.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1:***@", text)))


async def examine(environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Look everything over; never raises, and never shows a secret.

    `environment`: where the settings are looked up; default: that of the process.
    """
    variables = os.environ if environment is None else environment
    findings = [*await _guarded("Python", _python), *await _guarded("system", _system)]
    try:
        settings = read_settings(environment=variables)
    except SettingsInvalid as problem:
        remedy = "correct or remove it; database, ports and sandbox are not looked at until the settings can be read"
        return [
            *findings,
            wrong("settings", str(problem), remedy),
            *await _guarded("playbooks", lambda: _playbooks("")),
        ]
    findings += _settings(settings, variables)
    stored = Stored()
    checks: tuple[tuple[str, Check], ...] = (
        ("secret", lambda: _secret(settings)),
        ("database", lambda: _database(settings, stored)),
        ("ports", lambda: _ports(settings)),
        ("sandbox", lambda: _sandbox(settings)),
        ("sending", lambda: _sending(stored)),
        ("providers", lambda: _providers(settings, stored)),
        ("playbooks", lambda: _playbooks(settings.playbooks_dir)),
        ("passwords", lambda: _passwords(settings)),
    )
    for name, check in checks:
        findings += await _guarded(name, check)
    return findings


async def _guarded(name: str, check: Check) -> list[Finding]:
    try:
        return await check()
    except OrderBellError as problem:
        return [wrong(name, str(problem), "see above")]
    except Exception as problem:  # noqa: BLE001 - a check that fails is a finding, never a traceback
        return [wrong(name, f"could not be looked at: {type(problem).__name__}: {problem}", "please report this")]


async def _sending(stored: Stored) -> list[Finding]:
    """Whether messages leave at all."""
    if stored.halted is None:
        return []
    halted, reason, since = stored.halted
    if not halted:
        return [fine("sending", "not halted")]
    why = why_halted(reason)
    when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
    says = f"halted{when}{f': {why}' if why else ''}; everything waits"
    return [doubtful("sending", says, "`orderbell dispatch resume` lets it go on")]


async def _passwords(settings: Settings) -> list[Finding]:
    """Whether the list of stolen passwords can be read."""
    if breached_in(settings.breached_passwords) is None:
        return [fine("passwords", "common ones are refused; breached_passwords may name a list of stolen ones")]
    return [fine("passwords", f"those in {settings.breached_passwords} are refused")]


async def _providers(settings: Settings, stored: Stored) -> list[Finding]:
    """Whether each provider knows us: credentials, signature, account; nothing is sent."""
    if not settings.providers_file:
        return [fine("providers", "none: everything goes to the sandbox")]
    file = Path(settings.providers_file)
    try:
        specs = read_providers(file)
    except SettingsInvalid as problem:
        return [wrong("providers", str(problem), "see docs/channels.md for what each kind takes")]
    findings = [fine("providers", f"{len(specs)} in {file}: {', '.join(spec.name for spec in specs)}")]
    if os.stat(file).st_mode & 0o044:  # noqa: PTH116 - a look at a local file
        says = f"{file} may be read by other users, and keys may stand in it"
        findings.append(doubtful("providers", says, f"`chmod 600 {file}`"))
    checked = await asyncio.gather(*(_provider(spec, settings) for spec in specs))
    shelf = _shelf(settings, specs)
    for spec, found in zip(specs, checked, strict=True):
        findings += [*found, *_terms(spec, stored), *_roles(spec, shelf), *_approved(spec, shelf, stored)]
    return findings


async def _provider(spec: ProviderSpec, settings: Settings) -> list[Finding]:
    name = f"provider {spec.name}"
    now = partial(datetime.now, UTC)
    try:
        channel = spec.open(now, KeptInMemory(now))
    except SettingsInvalid as problem:
        return [wrong(name, str(problem), f"see docs/channels.md for what {spec.kind} takes")]
    findings: list[Finding] = []
    if channel.receipts_by is ReceiptsBy.CALLBACK:
        findings.append(_callback(name, spec, settings))
    try:
        findings += await _asked(name, channel)
    finally:
        await channel.close()
    return findings or [fine(name, "nothing can be checked without sending")]


async def _asked(name: str, channel: Channel) -> list[Finding]:
    """What a provider says of us; whatever goes wrong there is its own finding and keeps no other one from us."""
    remedy = "as it says; docs/channels.md tells what each field means"
    try:
        async with asyncio.timeout(PROVIDER_WITHIN_S):
            found = await channel.check()
    except TimeoutError:
        return [wrong(name, f"did not answer within {PROVIDER_WITHIN_S} s", "look at the network and its url")]
    except OrderBellError as problem:
        return [wrong(name, str(problem), remedy)]
    except Exception as problem:  # noqa: BLE001 - as `_guarded`
        # Its words may quote an address with a token in it.
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        says = f"could not be looked at: {type(problem).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return [wrong(name, says, "please report this")]
    return [fine(name, one.words) if one.fine else wrong(name, one.words, remedy) for one in found]


def _shelf(settings: Settings, specs: Sequence[ProviderSpec]) -> Shelf | None:
    """The playbooks, where a provider must be compared with them; None where none must, or they cannot be read."""
    if any(template_kind(spec.kind) or spec.kind == "staff" for spec in specs):
        with suppress(PlaybookInvalid):  # said elsewhere
            return load_shelf(settings.playbooks_dir)
    return None


def _terms(spec: ProviderSpec, stored: Stored) -> list[Finding]:
    """The tenants that a provider is for, and that do not exist."""
    if stored.tenants is None:
        return []
    unknown = sorted(spec.terms.tenants - set(stored.tenants))
    remedy = f"{_meant(unknown, stored.tenants)}; `orderbell key new NAME` adds a tenant"
    says = f"it is for {', '.join(unknown)}, and there is no such tenant"
    return [doubtful(f"provider {spec.name}", says, remedy)] if unknown else []


def _roles(spec: ProviderSpec, shelf: Shelf | None) -> list[Finding]:
    """The roles of robots that nobody has: their alerts never come."""
    if shelf is None or not isinstance(spec.options, StaffOptions):
        return []
    rules = [rule for playbook in shelf.playbooks.values() for rule in playbook.anomalies.values()]
    known = {OPERATIONS, *(rule.owner for rule in rules)}
    findings = []
    for robot, options in spec.options.robots.items():
        if unknown := sorted(set(options.roles) - known):
            says = f"the robot {robot} takes the alerts of {', '.join(unknown)}, and no playbook has such a role"
            findings.append(doubtful(f"provider {spec.name}", says, _meant(unknown, known)))
    return findings


def _meant(unknown: Sequence[str], known: Collection[str]) -> str:
    near = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
    listed = f"known: {', '.join(sorted(known)) or 'none yet'}"
    return f"did you mean {', '.join(near)}? {listed}" if near else listed


def _approved(spec: ProviderSpec, shelf: Shelf | None, stored: Stored) -> list[Finding]:
    """How many texts a provider of templates may send."""
    if shelf is None or stored.approved is None or template_kind(spec.kind) is None:
        return []
    name, wanted = f"provider {spec.name}", wanted_texts(shelf, provider_of(spec).channel)
    count = len(wanted.keys() & stored.approved.get(spec.name, {}).keys())
    says = f"{count} of {counted(len(wanted), 'text')} approved"
    if not count:
        remedy = f"`orderbell templates sync {spec.name}`, then as docs/templates.md says"
        return [doubtful(name, f"{says}: it can send nothing", remedy)]
    return [fine(name, says)]


def _callback(name: str, spec: ProviderSpec, settings: Settings) -> Finding:
    path = f"/v1/callbacks/{spec.name}/TOKEN"
    if not spec.callback_token:
        remedy = "set callback_token, and tell the provider the address; until then nobody knows what arrived"
        return doubtful(name, "it brings its receipts, and no address is open for them", remedy)
    if not settings.public_url:
        remedy = "set ORDERBELL_PUBLIC_URL to the address under which providers reach this installation"
        return doubtful(name, f"receipts are taken at {path}, but nobody knows on which host", remedy)
    return fine(name, f"receipts are taken at {settings.public_url.rstrip('/')}{path}")


async def _python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] > PYTHON_TRIED:
        return [doubtful("Python", f"{version} is newer than any that was tried", "use Python 3.11 to 3.14")]
    return [fine("Python", f"{version}, OrderBell {__version__}")]


async def _system() -> list[Finding]:
    return [_clock(datetime.now(UTC)), _time_zones(), _files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), _memory()]


def _clock(now: datetime) -> Finding:
    if now < RELEASED_AT:
        remedy = "set the clock, best by NTP (`timedatectl set-ntp true`)"
        return wrong("clock", f"the system's clock shows {now:%Y-%m-%d %H:%M} UTC, which is past", remedy)
    return fine("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _time_zones() -> Finding:
    try:
        ZoneInfo("Asia/Shanghai")
    except ZoneInfoNotFoundError:
        return wrong("time zones", "there are no time zone data", "install them: `pip install tzdata`")
    return fine("time zones", "known")


def _files(limit: int) -> Finding:
    said = "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} open files are allowed"
    if limit == resource.RLIM_INFINITY or limit >= FILES_DOUBTFUL:
        return fine("open files", said)
    remedy = f"raise the limit: `ulimit -n {FILES_DOUBTFUL * 4}`, or LimitNOFILE= in the unit of systemd"
    return (wrong if limit < FILES_WRONG else doubtful)("open files", f"only {said}", remedy)


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    if available < MEMORY_DOUBTFUL_BYTES:
        return doubtful("memory", f"{available // MIB:,} MB are free", "end other programs, or take a larger machine")
    return fine("memory", f"{available / GIB:.1f} GB are free")


def _settings(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    named = variables.get(FILE)
    said = f"read from {named} and the environment" if named else "read from the environment"
    changed = [name for name, value in settings.shown().items() if value != getattr(Settings(), name)]
    findings = [fine("settings", f"{said}; set: {', '.join(changed) or 'nothing, all defaults'}")]
    if named and (settings.database_url or settings.secret_key) and Path(named).stat().st_mode & 0o044:
        what = "the secret" if settings.secret_key else "the address of the database"
        says = f"{named} may be read by other users, and {what} stands in it"
        findings.append(doubtful("settings file", says, f"`chmod 600 {named}`"))
    if settings.host not in {"127.0.0.1", "::1", "localhost"}:
        says = f"the API listens on {settings.host}, beyond this machine, and does not encrypt"
        findings.append(doubtful("host", says, "put a proxy with TLS in front, or set ORDERBELL_HOST=127.0.0.1"))
    return findings


async def _secret(settings: Settings) -> list[Finding]:
    """Where the secret comes from."""
    file = secret_file_of(settings)
    elsewhere = "; other machines need the same one, in ORDERBELL_SECRET_KEY" if settings.database_url else ""
    try:
        secret = _known_secret(settings)
    except (SettingsInvalid, OSError) as problem:
        remedy = "as it says; where there are data already, only the secret that they were written with opens them"
        return [wrong("secret", str(problem), remedy)]
    if secret is None:
        return [fine("secret", f"{file} (will be made){elsewhere}")]
    if settings.secret_key:
        return [fine("secret", "the one that is set; keep a copy of it with the backups of the database")]
    return [fine("secret", f"{file}, to be backed up with the database{elsewhere}")]


async def _secret_fits(dsn: str, settings: Settings) -> list[Finding]:
    """Whether the database was written with the secret; nothing where it cannot be told."""
    with suppress(SettingsInvalid, OSError):  # said already
        secret = _known_secret(settings)
        if secret is not None and await knows_secret(dsn, Vault(secret)) is False:
            return [wrong("secret of the database", "its data were written with another secret", REMEDY)]
    return []


def _known_secret(settings: Settings) -> bytes | None:
    """The secret, None where it is not there yet: reading it would make it."""
    there = settings.secret_key or secret_file_of(settings).exists()
    return read_secret(settings) if there else None


async def _database(settings: Settings, stored: Stored) -> list[Finding]:
    if settings.database_url:
        return await _look_into(settings.database_url, settings, stored)
    home = data_dir_of(settings) / "postgres"
    folder = data_folder(home)
    if folder.state == "wrong":
        return [folder]
    return [folder, *await _bundled(home, settings, stored)]


def data_folder(home: Path) -> Finding:
    """The folder of the bundled database: there or possible, ours, with room."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    remedy = "name another with ORDERBELL_DATA_DIR, or make it yours (`chown`, `chmod u+rwx`)"
    if not there.is_dir():
        return wrong("data folder", f"{there} is a file", remedy)
    owner = there.stat().st_uid
    if not os.access(there, os.W_OK | os.X_OK):
        return wrong("data folder", f"{there} cannot be written (owner: user id {owner})", remedy)
    free = shutil.disk_usage(there).free
    said = f"{home}{'' if there == home else ' (will be made)'}, owner: user id {owner}, {free / GIB:.1f} GB are free"
    if free < DISK_DOUBTFUL_BYTES:
        rate = wrong if free < DISK_WRONG_BYTES else doubtful
        return rate("data folder", said, "make room, or name another disk with ORDERBELL_DATA_DIR")
    return fine("data folder", said)


async def _bundled(home: Path, settings: Settings, stored: Stored) -> list[Finding]:
    try:
        async with _tried_out(home) as (dsn, made):
            release = importlib.metadata.version(embedded.PACKAGE)
            tried = "" if made else ", tried in a temporary folder: yours is made at the first start"
            starts = fine("bundled PostgreSQL", f"starts ({embedded.PACKAGE} {release}{tried})")
            return [starts, *await _look_into(dsn, settings, stored, made=made)]
    except DatabaseUnavailable as problem:
        # What the embedded server says ends with its own remedy.
        return [wrong("bundled PostgreSQL", str(problem), "as it says; then run `orderbell doctor` again")]


@asynccontextmanager
async def _tried_out(home: Path) -> AsyncIterator[tuple[str, bool]]:
    """A running server: that of the installation if it has one, else one in a folder that goes at the end."""
    if (home / "cluster").exists():
        server = await asyncio.to_thread(embedded.start, home)
        try:
            yield server.dsn, True
        finally:
            await asyncio.to_thread(server.close)
        return
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    with tempfile.TemporaryDirectory(prefix="orderbell-doctor-", dir=there, ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            os.chmod(folder, 0o711)  # noqa: PTH101, S103 - the server has a user of its own
        server = await asyncio.to_thread(embedded.start, Path(folder) / "postgres", settings={"fsync": "off"})
        try:
            yield server.dsn, False
        finally:
            await asyncio.to_thread(server.close)


async def _look_into(dsn: str, settings: Settings, stored: Stored, *, made: bool = True) -> list[Finding]:
    """Ask a database what it is; one that was made to try is not asked about its tables and switches."""
    facts = await examine_database(dsn)
    if isinstance(facts, Unreachable):
        return [wrong("database", f"{dsn} cannot be reached: {facts.says}", facts.remedy)]
    findings = [_version(facts), *_rights(facts), _encoding(facts), _clocks(facts.clock_apart_s)]
    if made:
        findings += [_connections(facts, settings), *_durability(facts), _tables(facts)]
        findings += await _secret_fits(dsn, settings)
    findings += await _guarded("database", lambda: _read_stored(dsn, facts, stored))
    return findings


async def _read_stored(dsn: str, facts: DatabaseFacts, stored: Stored) -> list[Finding]:
    """Put down what the database says of sending, where it has the tables that this version knows."""
    if facts.revision is None and not facts.refused:
        stored.approved = {}
    if facts.revision is None or facts.revision != facts.head or facts.refused:
        return []
    store = await Store.open(dsn, Vault(bytes(32)), connections=1)  # nothing that is sealed is read
    try:
        stored.halted = await Ledger(store).halted()
        stored.tenants = await read_shelves(store.pool, {})
        stored.approved = await Templates(store).approved()
    finally:
        await store.close()
    return []


def _version(facts: DatabaseFacts) -> Finding:
    if facts.version < POSTGRES_MIN:
        remedy = "use PostgreSQL 14 or newer, or unset ORDERBELL_DATABASE_URL for the bundled one"
        return wrong("database", f"PostgreSQL {facts.release} is too old", remedy)
    return fine("database", f"PostgreSQL {facts.release} answers, account {facts.account}")


def _rights(facts: DatabaseFacts) -> list[Finding]:
    if facts.read_only:
        return [wrong("rights", "the database is read-only (a standby?)", "name the primary in ORDERBELL_DATABASE_URL")]
    if facts.may_create:
        return []
    schema, account = facts.schema, facts.account
    says = f"{account} may not make tables in the schema {schema}, and the journal needs a new one every month"
    return [wrong("rights", says, f"as the owner of the database: GRANT CREATE ON SCHEMA {schema} TO {account};")]


def _encoding(facts: DatabaseFacts) -> Finding:
    if facts.encoding != "UTF8":
        remedy = "make a new one: `createdb --encoding=UTF8 --template=template0 NAME`"
        return wrong("encoding", f"the database is {facts.encoding} and cannot hold Chinese text", remedy)
    return fine("encoding", "UTF8")


def _clocks(apart_s: float) -> Finding:
    if apart_s <= CLOCK_DOUBTFUL_S:
        return fine("clocks", "database and system agree")
    remedy = "let both machines set their clocks by NTP (`timedatectl set-ntp true`)"
    rate = wrong if apart_s > CLOCK_WRONG_S else doubtful
    return rate("clocks", f"database and system are {apart_s:.1f} s apart", remedy)


def _connections(facts: DatabaseFacts, settings: Settings) -> Finding:
    most, used, wanted = facts.connections_max, facts.connection_count, settings.database_connections
    said = f"{used} of {most} connections in use; a process of OrderBell takes up to {wanted}"
    if most - used < wanted:
        remedy = "raise max_connections of PostgreSQL, or lower ORDERBELL_DATABASE_CONNECTIONS"
        return doubtful("connections", said, remedy)
    return fine("connections", said)


def _durability(facts: DatabaseFacts) -> list[Finding]:
    if not facts.off:
        return []
    says = f"{' and '.join(facts.off)} off: what was accepted may be lost when the power fails"
    remedy = "; ".join(f"ALTER SYSTEM SET {name} = on" for name in facts.off)
    return [doubtful("durability", says, f"{remedy}; then reload")]


def _tables(facts: DatabaseFacts) -> Finding:
    if facts.refused:
        says = f"the account may not read and write {', '.join(facts.refused)}"
        remedy = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {facts.schema} TO {facts.account};"
        return wrong("tables", says, remedy)
    if not facts.known:
        says = f"at revision {facts.revision}, which this OrderBell does not know"
        return wrong("tables", says, "use the newer OrderBell that made it")
    if facts.revision == facts.head:
        return fine("tables", f"at revision {facts.revision}, the newest")
    says = (
        "there are none yet" if facts.revision is None else f"at revision {facts.revision}, the newest is {facts.head}"
    )
    return doubtful("tables", says, "the next start brings them up to date, or `orderbell migrate` now")


async def _ports(settings: Settings) -> list[Finding]:
    findings = [await _port("API", settings.host, settings.port, "ORDERBELL_PORT")]
    if not settings.sandbox_url:
        findings.append(await _port("sandbox", "127.0.0.1", settings.sandbox_port, "ORDERBELL_SANDBOX_PORT"))
    return findings


async def _port(what: str, host: str, port: int, variable: str) -> Finding:
    name = f"port of the {what}"
    if port == 0:
        return fine(name, "any free one")
    try:
        bind(host, port).close()
    except PermissionError:
        return wrong(name, f"{port} may be used by root only", f"set {variable} to a port above 1023")
    except OSError as problem:
        status, body = await _ask(f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")  # noqa: S104 - compared
        if status and OWN_SIGNS[what] in body:
            return fine(name, f"{port}, where OrderBell is running")
        says = f"{host}:{port} cannot be had: {problem.strerror}"
        return wrong(
            name, says, f"end what uses it (`ss -ltnp 'sport = :{port}'`), or set {variable}; 0 is any free port"
        )
    return fine(name, f"{port} is free")


async def _sandbox(settings: Settings) -> list[Finding]:
    if not settings.sandbox_url:
        return []
    status, body = await _ask(settings.sandbox_url)
    if status and OWN_SIGNS["sandbox"] in body:
        return [fine("sandbox", f"{settings.sandbox_url} answers")]
    said = f"answers like another program (HTTP {status})" if status else f"does not answer: {body.decode()}"
    remedy = "start it (`orderbell sandbox`), correct ORDERBELL_SANDBOX_URL, or unset it for one of our own"
    return [wrong("sandbox", f"{settings.sandbox_url} {said}", remedy)]


async def _ask(url: str) -> tuple[int, bytes]:
    """The health check at an address; status 0 with the reason where nobody answers."""
    try:
        client = HttpClient(url, connect_timeout_s=CONNECT_HTTP_TIMEOUT_S, timeout_s=HTTP_TIMEOUT_S)
    except ValueError as problem:
        return 0, str(problem).encode()
    try:
        reply = await client.request("GET", "/healthz")
    finally:
        await client.close()
    return (0, reply.detail.encode()) if isinstance(reply, NoReply) else (reply.status, reply.body)


async def _playbooks(folder: str) -> list[Finding]:
    problems = [line for name in SHIPPED_NAMES for line in check_playbook(SHIPPED / f"{name}.yaml")[1]]
    if problems:
        return [wrong("playbooks", "; ".join(problems), "install OrderBell again: its own files were changed")]
    try:
        known = load_shelf(folder).playbooks
    except PlaybookInvalid as problem:
        return [wrong("playbooks", str(problem), "mend the file, or correct ORDERBELL_PLAYBOOKS_DIR")]
    return [fine("playbooks", f"{', '.join(known)}: no problems")]


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line for each, with the remedy below where there is something to mend."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, colour = MARKS[finding.state]
        head = Text.assemble((mark, colour), " ", (f"{finding.name:<{width}}", "bold"), "  ", finding.says)
        console.print(head, soft_wrap=True)
        if finding.state != "fine":
            console.print(Text.assemble(" " * (width + 4), ("→ ", colour), finding.remedy), soft_wrap=True)
    counts = {state: sum(finding.state == state for finding in findings) for state in MARKS}
    summary = "Everything is in order." if counts["fine"] == len(findings) else ""
    if counts["wrong"]:
        summary = f"{counts['wrong']} to mend, {counts['doubtful']} to think about."
    elif counts["doubtful"]:
        summary = f"It works; {counts['doubtful']} to think about."
    console.print(summary, highlight=False)
