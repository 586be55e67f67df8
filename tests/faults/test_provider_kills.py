"""Workers that send through two real wires are killed again and again; each message must be with one provider, once.

PostgreSQL, the workers and the process that hears the receipts are processes of their own; the simulators of Alibaba
Cloud and Tencent Cloud live in the test, which nobody kills, and remember what they took. One worker dies at each
failpoint in turn, by its own hand; the other one is killed from outside while a request is under way.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from bench.outage import TOPIC, put
from bench.providers import SIGN, TOKEN, approved, callback_url, templates_of
from orderbell.app.clock import system_clock
from orderbell.app.database import open_store
from orderbell.core.turn import Shelf
from orderbell.observe import FAILPOINTS
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.alibaba import AlibabaSimulator
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.tencent import Sign, TencentSimulator
from orderbell.serving import serving
from orderbell.settings import Settings
from orderbell.store import embedded
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from orderbell.store.templates import Binding, Templates
from orderbell.store.tenants import add_tenant
from tests.faults.rig import LEFT_BEHIND, SECRET, SENDERS, START_S, TENANT, Process, _process, free_port

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed here: no SIGKILL")

SEED = int(os.environ.get("ORDERBELL_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
MESSAGES_MIN = 600
PER_S = 40
PLACES = (
    "dispatch.lease_committed", "dispatch.before_send", "http.answer_unread", "dispatch.after_send",
    "dispatch.before_settle", "ledger.settle_written", "dispatch.after_settle",
)  # fmt: skip
KILLS_FROM_OUTSIDE = 6
"""Most of them come while the bytes are written and the answer is not there: the simulators take their time."""

FAULTS = Faults(slow_ms=150, seed=SEED)
PAUSE_S = (0.2, 1.0)
KILLED_WITHIN_S = 120.0
DRAINED_WITHIN_S = 60.0
LOOK_EVERY_S = 0.02

FILE = """
[[provider]]
name = "ali"
kind = "alibaba"
callback_token = "{token}"
access_key_id = "LTAI-sandbox"
access_key_secret = "sandbox"
ref_key = "a key of sixteen or more"
sign = "{sign}"
url = "{ali}"
lookup_after_s = 2.0

[[provider]]
name = "tencent"
kind = "tencent"
callback_token = "{token}"
secret_id = "AKIDEXAMPLE"
secret_key = "SECRETEXAMPLE"
sdk_app_id = "1400006666"
sign = "{sign}"
url = "{tencent}"
variable_max = 0
lookup_after_s = 2.0
absent_after_s = 3.0
"""
WAITING = """SELECT (SELECT count(*) FROM queue WHERE due_at <= now()) AS notices,
    (SELECT count(*) FROM message WHERE channel = 'sms' AND status <> 'delivered') AS messages,
    (SELECT count(*) FROM flight) AS flights"""
STATUSES = "SELECT status, count(*) FROM message WHERE channel = 'sms' GROUP BY status"


@dataclass
class Scene:
    """What runs, and what has been done to it."""

    store: Store
    shelf: Shelf
    ali: AlibabaSimulator
    tencent: TencentSimulator
    worker: Process
    victim: Process
    web: Process
    phones: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(f"provider kills {SEED}"))
    began_s: float = field(default_factory=time.monotonic)

    @property
    def kills(self) -> int:
        """How many workers have died by SIGKILL."""
        return self.worker.exits[-signal.SIGKILL] + self.victim.exits[-signal.SIGKILL]

    def handed_over(self) -> Counter[str]:
        """How often each phone got a message, from whomever; everybody has one order and one phone."""
        return Counter(f"+86{one.to.removeprefix('+86')}" for one in (*self.ali.taken, *self.tencent.taken))

    def note(self, words: str) -> None:
        """Put down what was done."""
        self.log.append(f"{time.monotonic() - self.began_s:6.1f} s  {words}, {len(self.phones)} messages put in")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that any user may enter: the server does not run as root."""
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Scene]:
    """Start everything and end it."""
    shelf = shipped_shelf()
    codes, of_ali, of_tencent = approved(templates_of(shelf, [TOPIC]))
    ali = AlibabaSimulator(templates=of_ali, signs={SIGN})
    tencent = TencentSimulator(templates=of_tencent, signs={SIGN: Sign()})
    port = free_port()
    ali.callback_url, tencent.callback_url = (callback_url(f"http://127.0.0.1:{port}", n) for n in ("ali", "tencent"))
    ali.faults = tencent.faults = FAULTS
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(one, stopping=one.end_waiting)) for one in (ali, tencent)]
        stack.push_async_callback(ali.close)
        stack.push_async_callback(tencent.close)
        file = folder / "providers.toml"
        file.write_text(FILE.format(token=TOKEN, sign=SIGN, ali=urls[0], tencent=urls[1]), "utf-8")
        server = await asyncio.to_thread(embedded.start, folder / "pg")
        stack.push_async_callback(asyncio.to_thread, server.close)
        await migrate(server.dsn)
        store = await stack.enter_async_context(open_store(server.dsn, Settings(secret_key=SECRET.hex()), 4))
        await add_tenant(store.pool, TENANT, shelf)
        await _bind(store, shelf, codes)
        settings = {
            "DATABASE_URL": server.dsn, "DATA_DIR": str(folder), "PROVIDERS_FILE": str(file), "LOG_FORMAT": "json",
            "SECRET_KEY": SECRET.hex(), "PORT": str(port),
        }  # fmt: skip
        web, worker, victim = (
            _process(folder, "web" if name == "web" else "worker", name, (), settings)
            for name in ("web", "worker0", "worker1")
        )
        for process in (web, victim, worker):
            if process is worker:
                process.environment[FAILPOINTS] = f"{PLACES[0]}=kill@2"
            process.start()
            stack.push_async_callback(process.stop)
        try:
            yield Scene(store, shelf, ali, tencent, worker, victim, web)
        except BaseException:
            for process in (web, worker, victim):
                _say(f"--- {process.name}", process.log.read_text(errors="replace")[-2000:])
            raise


async def _bind(store: Store, shelf: Shelf, codes: dict[str, dict[str, str]]) -> None:
    templates, now = Templates(store), system_clock()
    for one in templates_of(shelf, [TOPIC]):
        for provider, known in codes.items():
            await templates.draft([Binding(provider, one.text, tuple(one.names), one.marketing)], now)
            assert await templates.bind(provider, one.text, known[one.text], "approved", now)


async def _flow(scene: Scene, killing: list[asyncio.Task[None]]) -> None:
    """Put messages in as long as somebody is to be killed, and at least so many."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while len(scene.phones) < MESSAGES_MIN or not all(task.done() for task in killing):
        number = len(scene.phones)
        await asyncio.sleep(max(0.0, began_s + number / PER_S - loop.time()))
        await put(scene.store, scene.shelf, number, system_clock(), f"138{number:08}", TENANT)
        scene.phones.append(f"+86138{number:08}")


async def _die_at_each_place(scene: Scene) -> None:
    """Arm each start of one worker with another failpoint."""
    worker = scene.worker
    for number, place in enumerate(PLACES, 1):
        await _until(lambda begun=number: worker.starts >= begun)
        if number < len(PLACES):
            worker.environment[FAILPOINTS] = f"{PLACES[number]}=kill@{scene.dice.randint(1, 4)}"
        else:
            del worker.environment[FAILPOINTS]
        await _until(lambda died=number: worker.exits.total() >= died)
        scene.note(f"{worker.name} died at {place}")


async def _kill_from_outside(scene: Scene) -> None:
    """Kill the other worker, whenever it has a request under way."""
    for number in range(1, KILLS_FROM_OUTSIDE + 1):
        await asyncio.sleep(scene.dice.uniform(*PAUSE_S))
        await _sends(scene, scene.victim)
        scene.victim.send(signal.SIGKILL)
        await _until(lambda died=number: scene.victim.exits.total() >= died)
        scene.note(f"{scene.victim.name} killed")


async def _until(is_so: Callable[..., bool]) -> None:
    while True:
        if is_so():
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _sends(scene: Scene, process: Process) -> None:
    while True:
        names = {row[0].rpartition(":")[2] for row in await scene.store.pool.fetch(SENDERS)}
        if str(process.pid) in names:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _drain(scene: Scene) -> None:
    """Wait until nothing waits, and every receipt is there."""
    scene.ali.faults = scene.tencent.faults = Faults()
    ends_at_s = time.monotonic() + DRAINED_WITHIN_S
    while True:
        row = await scene.store.pool.fetchrow(WAITING)
        assert row is not None
        if not any(row.values()):
            return
        assert time.monotonic() < ends_at_s, f"not drained: {dict(row)}, {await scene.store.pool.fetch(STATUSES)}"
        await asyncio.sleep(10 * LOOK_EVERY_S)


async def test_killed_workers_hand_over_each_message_once(folder: Path) -> None:
    """Whatever a worker dies of, the providers together must have each message exactly once, and none besides."""
    _say(f"\nORDERBELL_FAULT_SEED={SEED}")
    async with staged(folder) as scene:
        async with asyncio.timeout(START_S + KILLED_WITHIN_S):
            killing = [asyncio.create_task(_die_at_each_place(scene)), asyncio.create_task(_kill_from_outside(scene))]
            await _flow(scene, killing)
            await asyncio.gather(*killing)
        await _drain(scene)
        handed = scene.handed_over()
        statuses = {row["status"]: row["count"] for row in await scene.store.pool.fetch(STATUSES)}
        left = _doubts(scene)
        late = await scene.store.pool.fetchval("SELECT count(*) FROM attempt WHERE outcome LIKE '%\\_late'")
        twice = {phone for phone, times in handed.items() if times > 1}
        missing = set(scene.phones) - handed.keys()
        scene.note("drained")
        _say(
            *scene.log,
            f"messages {len(scene.phones)}, kills {scene.kills}, in doubt after a death {left}, lost {len(missing)}, "
            f"twice {len(twice)}, statuses {statuses}, by Alibaba {len(scene.ali.taken)}",
        )
        assert scene.kills == len(PLACES) + KILLS_FROM_OUTSIDE
        assert (missing, twice, handed.keys() - set(scene.phones)) == (set(), set(), set())
        assert (statuses, late) == ({"delivered": len(scene.phones)}, 0)
        assert left > 0, "nobody died in the middle of anything"


def _doubts(scene: Scene) -> int:
    """How many messages of the dead the living had to find out about."""
    lines = (line for process in (scene.worker, scene.victim) for line in process.log.read_bytes().splitlines())
    return sum(msgspec.json.decode(line)["messages"] for line in lines if LEFT_BEHIND in line)


def _say(*lines: str) -> None:
    """Tell whoever reads along, or reads of a failure."""
    sys.stdout.write("\n".join(lines) + "\n")
