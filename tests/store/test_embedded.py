"""The bundled PostgreSQL, as root and as an ordinary user, through the deaths of whoever takes part.

Each story runs in a forked child, which as root becomes the account ``nobody`` for the ordinary half. The
child must not import anything anew: the interpreter may lie below /root, where it can no longer look.
"""

import asyncio
import ctypes
import json
import os
import pwd
import shutil
import signal
import stat
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from orderbell.errors import DatabaseUnavailable
from orderbell.store import embedded

FAST = {"fsync": "off", "shared_buffers": "16MB"}
PR_SET_CHILD_SUBREAPER = 36

Story = Callable[[], object]
Tell = Callable[[Story], Any]


def ask(address: str, *statements: str) -> Any:  # noqa: ANN401 - whatever was asked for
    """Run statements over one connection and return the last one's first value."""

    async def talk() -> Any:  # noqa: ANN401 - whatever was asked for
        connection = await asyncpg.connect(address)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(talk())


def fork(story: Story, *, uid: int | None = None, home: Path | None = None) -> tuple[int, int]:
    """Run a story in a child, as another user if asked; return its process id and the pipe of its answer."""
    answer, reply = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of threads that other tests may have left
        child = os.fork()
    if child:
        os.close(reply)
        return child, answer
    try:
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        if home is not None:
            os.environ["HOME"] = str(home)
            os.environ.pop("XDG_DATA_HOME", None)
        told = {"answer": story()}
    except BaseException:  # noqa: BLE001 - handed to the parent
        told = {"error": traceback.format_exc()}
    os.write(reply, json.dumps(told).encode())
    os._exit(0)


def listen(child: int, answer: int) -> Any:  # noqa: ANN401 - whatever was asked for
    """Wait for a child and return what its story returned; fail as the story failed."""
    with os.fdopen(answer, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    told = json.loads(text)
    if "error" in told:
        pytest.fail(told["error"], pytrace=False)
    return told["answer"]


def reachable_folder() -> Path:
    """Make a temporary folder that any user may pass through; those of pytest are closed.

    In memory where there is enough of it: a cluster has a thousand small files.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it has a random name
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**30 and os.access(memory, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix="orderbell-test-", dir=memory if roomy else None))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="module", autouse=True)
def template() -> Iterator[Path]:
    """A cluster to copy, the programs where every user can execute them, and all the code used once."""
    folder = reachable_folder()
    with embedded.start(folder / "postgres", settings=FAST) as server:
        ask(server.dsn, "SELECT 1")
    cluster = folder / "cluster"
    shutil.copytree(folder / "postgres" / "cluster", cluster)
    for path in (cluster, *cluster.rglob("*")):
        path.chmod(0o755)
    wheel = embedded._installed()
    patch = pytest.MonkeyPatch()
    nobody = pwd.getpwnam("nobody")
    if embedded._closed_to(wheel / "pginstall18/bin/postgres", nobody.pw_uid, nobody.pw_gid) is not None:
        opened = folder / "software"
        next((folder / "postgres").glob("software-*")).rename(opened)
        patch.setattr(embedded, "_installed", lambda: opened / wheel.name)
    yield cluster
    patch.undo()
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for data folders; servers left in it are stopped."""
    path = reachable_folder()
    yield path
    for pid_file in path.rglob("postmaster.pid"):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            process.send_signal(signal.SIGQUIT)
            process.wait(10)
    shutil.rmtree(path)


@pytest.fixture(params=["ordinary", "root"])
def tell(request: pytest.FixtureRequest, folder: Path) -> Tell:
    """Run a story to its end as root or as an ordinary user with a home of mode 700."""
    if request.param == "root":
        if os.geteuid() != 0:
            pytest.skip("only root can try what root does")
        return lambda story: listen(*fork(story))
    return lambda story: tell_ordinary(folder, story)


def tell_ordinary(folder: Path, story: Story) -> Any:  # noqa: ANN401 - whatever was asked for
    """Run a story to its end as an ordinary user, whose home is folder/home."""
    uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    home = folder / "home"
    if not home.exists():
        home.mkdir(mode=0o700)
        if uid is not None:
            os.chown(home, uid, uid)
    return listen(*fork(story, uid=uid, home=home))


def data_dir(folder: Path) -> Path:
    """Return a data folder that the user who asks can make: root beside the home, others in it."""
    return folder / "postgres" if os.geteuid() == 0 else folder / "home" / "postgres"


def seeded(folder: Path, template: Path) -> Path:
    """Return the same data folder with a cluster in it, which is quicker than to have one made."""
    cluster = data_dir(folder) / "cluster"
    shutil.copytree(template, cluster)
    cluster.chmod(0o700)
    (cluster.parent / "start.lock").touch()
    if os.geteuid() == 0:
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, embedded.SERVER_UID, embedded.SERVER_UID)
    return cluster.parent


def refused(*, at: Path) -> str:
    """Start a server that must not start, and return why it did not."""
    try:
        embedded.start(at, settings=FAST).close()
    except DatabaseUnavailable as error:
        return str(error)
    return ""


def test_server_first_start(tell: Tell, folder: Path) -> None:
    """A fresh folder becomes a server that answers by a socket of its user alone, and ends at close."""

    def story() -> list[object]:
        with embedded.start(data_dir(folder)) as server:
            socket_dir = Path(ask(server.dsn, "SHOW unix_socket_directories"))
            facts = [ask(server.dsn, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "timezone")]
            mode = stat.S_IMODE(socket_dir.stat().st_mode)
            named = ask(server.dsn_for("template1"), "SELECT current_database() || ' of ' || current_user")
            encoding = ask(server.dsn, "SELECT lower('ÄÖ') || current_setting('server_encoding')")
        return [*facts, mode, named, encoding, server.running()]

    assert tell(story) == ["on", "on", "UTC", 0o700, "template1 of orderbell", "äöUTF8", False]


def test_server_second_start_attaches(tell: Tell, folder: Path, template: Path) -> None:
    """A second start finds the running server, and the last of the two to close stops it."""

    def story() -> list[object]:
        first = embedded.start(seeded(folder, template), settings=FAST)
        second = embedded.start(data_dir(folder), settings=FAST)
        same = first.pid == second.pid and first.dsn == second.dsn
        first.close()
        first.close()
        while_used = second.running()
        second.close()
        return [same, while_used, second.running()]

    assert tell(story) == [True, True, False]


def test_server_postmaster_killed(tell: Tell, folder: Path, template: Path) -> None:
    """After SIGKILL the same process starts it again: nothing committed is lost, no old query goes on."""

    async def kill_while_busy(server: embedded.Server) -> int:
        busy = await asyncpg.connect(server.dsn)
        backend = int(busy.get_server_pid())
        # Counts in memory, where a backend does not notice that its postmaster is gone. Sent in one message: a prepared
        # statement is active twice, and a driver that dies between the two says something else.
        query = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 10000000000)"))
        watcher = await asyncpg.connect(server.dsn)
        state = "SELECT state FROM pg_stat_activity WHERE pid = $1"
        while await watcher.fetchval(state, backend) != "active":  # noqa: ASYNC110 - the state is the server's
            await asyncio.sleep(0)
        server.kill()
        server.ensure()
        with suppress(asyncpg.PostgresError, OSError):
            await query
        busy.terminate()
        watcher.terminate()
        return backend

    def story() -> list[object]:
        with embedded.start(seeded(folder, template), settings=FAST) as server:
            first = server.pid
            ask(server.dsn, "CREATE TABLE kept AS SELECT generate_series(1, 3)", "SELECT 1")
            backend = asyncio.run(kill_while_busy(server))
            kept = ask(server.dsn, "SELECT count(*) FROM kept")
            return [kept, server.pid == first, embedded._belongs(server._place, backend)]

    assert tell(story) == [3, False, False]


def test_server_postmaster_is_zombie(tell: Tell, folder: Path, template: Path) -> None:
    """A killed postmaster whose parent never waits for it, as in many containers, hinders nothing."""

    def story() -> list[object]:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with embedded.start(seeded(folder, template), settings=FAST) as server:
            dead = server.pid
            server.kill()
            states = [psutil.Process(dead).status(), server.running()]
            server.ensure()
            return [*states, psutil.Process(dead).status(), ask(server.dsn, "SELECT 1")]

    assert tell(story) == [psutil.STATUS_ZOMBIE, False, psutil.STATUS_ZOMBIE, 1]


def test_server_starter_killed(tell: Tell, folder: Path, template: Path) -> None:
    """The server outlives a starter that is killed; the next start attaches, and is then the only user."""

    def starter() -> None:
        embedded.start(data_dir(folder), settings=FAST)
        signal.pause()

    def killed_starter() -> int:
        child, answer = fork(starter)
        server = embedded.start(data_dir(folder), settings=FAST)
        pid = server.pid
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(answer)
        os.kill(os.getpid(), signal.SIGKILL)
        return pid or 0

    def story() -> list[object]:
        seeded(folder, template)
        child, answer = fork(killed_starter)
        os.waitpid(child, 0)
        os.close(answer)
        found = int((data_dir(folder) / "cluster" / "postmaster.pid").read_text().split()[0])
        with embedded.start(data_dir(folder), settings=FAST) as server:
            attached = server.pid == found
        return [attached, server.running()]

    assert tell(story) == [True, False]


def test_server_started_twice_at_once(folder: Path) -> None:
    """Processes that start at the same instant on a fresh folder share one server."""

    def story() -> list[object]:
        waiting, gate = os.pipe()

        def racer() -> int | None:
            os.close(gate)
            os.read(waiting, 1)  # returns at the end of the pipe, for all racers at once
            server = embedded.start(data_dir(folder), settings=FAST)
            ask(server.dsn, "SELECT 1")
            return server.pid

        racers = [fork(racer) for _ in range(3)]
        os.close(gate)
        pids = {listen(*racer) for racer in racers}
        with embedded.start(data_dir(folder)) as server:
            return [len(pids), server.pid in pids]

    assert tell_ordinary(folder, story) == [1, True]


def test_server_long_and_odd_path(folder: Path) -> None:
    """A path too long for a socket, with all that shells and addresses dislike, serves as well as any."""

    def story() -> list[object]:
        odd = data_dir(folder) / ("x" * 90) / 'it\'s $HOME, "叮咚" `id`'
        with embedded.start(odd, settings=FAST) as server:
            socket_dir = Path(ask(server.dsn, "SHOW unix_socket_directories"))
            server.kill()
            server.ensure()
            ask(server.dsn, "SELECT 1")
        found: list[object] = [len(str(socket_dir)) < 100, stat.S_IMODE(socket_dir.stat().st_mode)]
        socket_dir.rmdir()
        return found

    assert tell_ordinary(folder, story) == [True, 0o700]


def test_server_unknown_setting(folder: Path, template: Path) -> None:
    """A server that refuses its settings says so, and starts once they are right."""

    def story() -> list[object]:
        with embedded.start(seeded(folder, template), settings=FAST) as server:
            server.stop("immediate")
            wrong = {"no_such_setting": "1"}
            try:
                embedded.start(data_dir(folder), settings=wrong)
            except DatabaseUnavailable as error:
                message = str(error)
            else:
                message = ""
            server.ensure()
            return ["no_such_setting" in message, "ORDERBELL_DATABASE_URL" in message, server.running()]

    assert tell_ordinary(folder, story) == [True, True, True]


def test_server_half_made_cluster(folder: Path) -> None:
    """A cluster that was being made when everything died is made anew; that of another version is refused."""

    def story() -> list[object]:
        half = data_dir(folder) / "cluster.new"
        half.mkdir(parents=True)
        (half / "PG_VERSION").write_text("18\n")
        (data_dir(folder) / "start.lock").touch()
        with embedded.start(data_dir(folder), settings=FAST) as server:
            answer = ask(server.dsn, "SELECT 1")
        (data_dir(folder) / "cluster" / "PG_VERSION").write_text("16\n")
        message = refused(at=data_dir(folder))
        return [answer, half.exists(), "PostgreSQL 16; this one is 18" in message]

    assert tell_ordinary(folder, story) == [1, False, True]


def test_default_folder_in_closed_home(folder: Path) -> None:
    """An ordinary user whose home has mode 700 gets a server in the data folder of that home."""

    def story() -> list[object]:
        with embedded.start(settings=FAST) as server:
            return [str(server.data_dir), ask(server.dsn, "SELECT 1")]

    assert tell_ordinary(folder, story) == [str(folder / "home/.local/share/orderbell/postgres"), 1]


def test_folder_of_somebody_else(folder: Path) -> None:
    """An ordinary user is told which folder cannot be used and what to do."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder that another user cannot write")
    message = tell_ordinary(folder, lambda: refused(at=folder / "closed" / "postgres"))
    assert f"{folder}/closed" in message
    assert "ORDERBELL_DATABASE_URL" in message


def test_folder_closed_to_server_of_root(folder: Path) -> None:
    """Root is told which folder on the way keeps the server's user out; nothing is opened unasked."""
    if os.geteuid() != 0:
        pytest.skip("only root starts the server as another user")
    home = folder / "closed"
    home.mkdir(mode=0o700)
    (home / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=f"{home} has mode 700. Open it with `chmod o.x {home}`"):
        embedded.start(home / "data" / "postgres")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_programs_closed_to_server_of_root(folder: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment below a home of mode 700 is no hindrance: the programs are copied once."""
    if os.geteuid() != 0:
        pytest.skip("only root starts the server as another user")
    wheel = embedded._installed()
    closed = folder / "closed" / wheel.name
    closed.parent.mkdir(mode=0o700)
    shutil.copytree(wheel / "pginstall18", closed / "pginstall18")
    shutil.copytree(wheel.parent / f"{wheel.name}.libs", closed.parent / f"{wheel.name}.libs")
    monkeypatch.setattr(embedded, "_installed", lambda: closed)
    path = seeded(folder, template)
    for _ in range(2):
        with embedded.start(path, settings=FAST) as server:
            assert ask(server.dsn, "SELECT 1") == 1
    assert len(list(path.glob("software*"))) == 1
    assert stat.S_IMODE(closed.parent.stat().st_mode) == 0o700


def test_root_uses_the_folder_of_a_user(folder: Path) -> None:
    """Root may start a user's server, which stays the user's: both can share and restart it."""
    if os.geteuid() != 0:
        pytest.skip("only root can act for another user")
    path = folder / "home" / "postgres"

    def story() -> list[object]:
        with embedded.start(path, settings=FAST) as server:
            ask(
                server.dsn,
                "CREATE TABLE IF NOT EXISTS visit ()",
                "INSERT INTO visit DEFAULT VALUES",
                "SELECT 1",
            )
            return [ask(server.dsn, "SELECT count(*) FROM visit"), (path / "cluster").stat().st_uid]

    uid = pwd.getpwnam("nobody").pw_uid
    (folder / "home").mkdir(mode=0o700)
    os.chown(folder / "home", uid, uid)
    assert tell_ordinary(folder, story) == [1, uid]
    assert story() == [2, uid]
    assert tell_ordinary(folder, story) == [3, uid]


@pytest.mark.parametrize(
    ("memory_gb", "buffers"), [(0.25, "64MB"), (4, "256MB"), (24, "1024MB")], ids=["small", "usual", "large"]
)
def test_configuration_follows_memory(memory_gb: float, buffers: str) -> None:
    """The server takes a sixteenth of the memory, within bounds, and never trades durability for speed."""
    settings = {name: value for name, value, _ in embedded.configuration(int(memory_gb * 2**30), Path("/run/x"))}
    assert settings["shared_buffers"] == buffers
    assert not settings.keys() & {"fsync", "full_page_writes", "synchronous_commit", "wal_compression"}
