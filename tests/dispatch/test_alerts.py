"""Alerts to the staff: one message now and then, everything in it or counted in it, nothing lost when robots refuse."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Answer, Outcome, Outgoing, Provider
from orderbell.channels.staff import Kind, Robot, StaffChannel, StaffOptions
from orderbell.core.model import Case
from orderbell.core.turn import CaseLine
from orderbell.dispatch import alerts as module
from orderbell.dispatch.alerts import Alerts
from orderbell.dispatch.digest import (
    BYTES_MAX,
    GROUPS_MAX,
    LINES_MAX,
    OTHER,
    WORDS,
    Alert,
    Gravity,
    Locale,
    bound,
    breaker_closed,
    breaker_opened,
    case_alert,
    channel_down,
    clean,
    compose,
    count_of,
    gather,
    group,
    hold,
    in_order,
    robots_for,
    share_out,
)
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.sandbox.staff import StaffSimulator
from orderbell.serving import serving
from orderbell.store import rows, statements
from orderbell.store.casework import Casework
from orderbell.store.postgres import Store
from tests.database import VAULT

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
ROLES = ("warehouse", "finance", "logistics", "service", "operations")


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at

    def turn(self, seconds: float) -> None:
        """Turn it on."""
        self.at += timedelta(seconds=seconds)


class Robots(Provider):
    """Robots in the test's hand: each answers what stands under its name, `accepted` otherwise."""

    name, carries = "staff", frozenset({"staff"})

    def __init__(self, **answers: Outcome) -> None:
        self.answers, self.got, self.retry_after_s = answers, list[Outgoing](), 0.0
        self.on_send: Callable[[], object] = lambda: None
        self.batches = 0

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Take what is accepted."""
        self.batches += 1
        self.on_send()
        answers = []
        for one in batch:
            outcome = self.answers.get(one.to, Outcome.ACCEPTED)
            if outcome is Outcome.ACCEPTED:
                self.got.append(one)
            answers.append(Answer(one.attempt_id, outcome, detail="so", retry_after_s=self.retry_after_s))
        return answers

    def texts(self, robot: str = "desk") -> list[str]:
        """What a robot was told."""
        return [one.text for one in self.got if one.to == robot]


class Desk:
    """Alerts to robots in the test's hand."""

    def __init__(self, robots: Robots, alerts: Alerts, clock: Clock) -> None:
        self.robots, self.alerts, self.clock = robots, alerts, clock


def desk(
    *,
    locale: Locale = "zh-CN",
    casework: Casework | None = None,
    robots: dict[str, tuple[str, ...]] | None = None,
    **answers: Outcome,
) -> Desk:
    """Alerts to one robot that takes everything, or to those named."""
    clock, channel = Clock(), Robots(**answers)
    made = Alerts(
        channel, {"desk": ()} if robots is None else robots, now=clock, zone=SHANGHAI, locale=locale,
        casework=casework, tenants=lambda: ["acme"], name_of={"parcel_lost": "包裹丢失"}.get,  # type: ignore[arg-type]
    )  # fmt: skip
    return Desk(channel, made, clock)


def alert(
    order_no: str = "A1",
    *,
    kind: str = "case.handle.parcel_lost",
    role: str = "logistics",
    words: str = "包裹丢失",
    after_s: float = 0,
    gravity: Gravity = Gravity.WORK,
    about: str = "",
) -> Alert:
    """An alert at noon."""
    return Alert(kind, role, words, NOON + timedelta(seconds=after_s), order_no, gravity, about)


def counted(text: str) -> int:
    """How many alerts a message accounts for, line by line."""
    lines = text.split("\n")[1:]
    rest = re.fullmatch(r"另有 (\d+) 条|and (\d+) more", lines[-1])
    shown = lines[:-1] if rest else lines
    times = [re.search(r" ×(\d+)", line) for line in shown]
    return sum(int(found[1]) if found else 1 for found in times) + (int(rest[1] or rest[2]) if rest else 0)


def count_in_heading(text: str) -> int:
    """The number of the heading."""
    found = re.search(r"(\d+) (?:条提醒|alerts?)", text)
    assert found
    return int(found[1])


any_alerts = st.lists(
    st.builds(
        alert,
        st.sampled_from(["", "A1", "A2", "A3", "A4", "A5"]),
        kind=st.sampled_from([f"kind{number}" for number in range(40)]),
        role=st.sampled_from(ROLES),
        words=st.text(max_size=120),
        after_s=st.integers(0, 86400),
        gravity=st.sampled_from(Gravity),
    ),
    max_size=200,
)


@given(any_alerts, st.randoms(use_true_random=False), st.sampled_from(["zh-CN", "en"]))
def test_grouping_counts_everything(alerts: list[Alert], dice: object, locale: Locale) -> None:
    """Whatever comes in whatever order, the counts must add up: in the groups, within the bounds, and in the text."""
    groups = [group(one) for one in alerts]
    shuffled = sorted(groups, key=lambda _: dice.random())  # type: ignore[attr-defined]
    gathered, again = gather(groups), gather(shuffled)
    assert {key: one.count for key, one in gathered.items()} == {key: one.count for key, one in again.items()}
    assert count_of(list(gathered.values())) == len(alerts)
    limited = bound(gathered.values(), locale)
    assert count_of(list(limited.values())) == len(alerts)
    assert len(limited) <= GROUPS_MAX + len(ROLES)
    if alerts:
        text = compose(limited.values(), NOON, locale, SHANGHAI)
        assert counted(text) == count_in_heading(text) == len(alerts)
        assert len(text.split("\n")) <= LINES_MAX + 2
        assert len(text.encode()) <= BYTES_MAX + 300, "the smallest robot takes 2,048 bytes"


def test_grouping_of_one_kind() -> None:
    """Alerts of one kind must be one line with their count, the newest orders first and the newest words."""
    alerts = [alert(f"A{n}", after_s=n, words=f"包裹丢失 {n}") for n in range(12)]
    (one,) = gather(map(group, alerts)).values()
    assert (one.count, one.words, one.orders[:2]) == (12, "包裹丢失 11", ("A11", "A10"))
    assert (one.first_at, one.last_at) == (NOON, NOON + timedelta(seconds=11))


def test_message_in_chinese() -> None:
    """A message in Chinese must say how many there are, then the gravest and newest, with time, role and orders."""
    groups = gather(
        map(
            group,
            [
                *(alert(f"A{n}", after_s=60 * n) for n in range(5)),
                alert("B1", kind="case.handle.payout_overdue", role="finance", words="货款逾期未结算", after_s=600),
                alert("", kind="breaker_closed", role="operations", words="服务商 alibaba 已恢复使用", after_s=900,
                      gravity=Gravity.NEWS),
                channel_down("tencent", "余额不足", NOON - timedelta(days=1), "zh-CN"),
            ],
        )
    )  # fmt: skip
    assert compose(groups.values(), NOON, "zh-CN", SHANGHAI).split("\n") == [
        "【叮咚 OrderBell】8 条提醒",
        "🔴 03-01 20:00 [运维] 服务商 tencent 不受理，请检查账号和余额：余额不足",
        "🟡 20:10 [财务] 货款逾期未结算：B1",
        "🟡 20:04 [物流] 包裹丢失 ×5：A4, A3, A2 等",
        "🟢 20:15 [运维] 服务商 alibaba 已恢复使用",
    ]


def test_message_in_english() -> None:
    """The same in English, by the clock of the staff."""
    alerts = [
        alert("A1", words="Parcel lost"),
        alert("A2", words="Parcel lost"),
        breaker_opened("twilio", "30 of 50 failed", NOON, "en"),
        breaker_closed("smpp", NOON, "en"),
        case_alert("call_back", "parcel_lost", "service", "A9", NOON, "Parcel lost", "en"),
    ]
    text = compose([hold(one) for one in gather(map(group, alerts)).values()], NOON, "en", ZoneInfo("UTC"), doubt=True)
    assert text.split("\n") == [
        "[OrderBell 叮咚] 5 alerts, 5 of them held back until now (some may have been told before)",
        "🔴 12:00 [operations] Provider twilio is out of use: 30 of 50 failed",
        "🟡 12:00 [logistics] Parcel lost ×2: A1, A2",
        "🟡 12:00 [service] Call the customer: Parcel lost: A9",
        "🟢 12:00 [operations] Provider smpp is back",
    ]
    single = compose([group(alert())], NOON, "en", ZoneInfo("UTC"))
    assert single.split("\n")[0] == "[OrderBell 叮咚] 1 alert"


def test_message_about_too_much() -> None:
    """Beyond fifteen lines the rest must be counted, and the gravest be among those that are spelt out."""
    alerts = [alert(f"A{n}", kind=f"kind{n % 52}", words=f"事情 {n % 52}", after_s=n) for n in range(104)]
    alerts.append(channel_down("tencent", "arrears", NOON - timedelta(hours=3), "zh-CN"))
    lines = compose(gather(map(group, alerts)).values(), NOON, "zh-CN", SHANGHAI).split("\n")
    assert len(lines) == 1 + 15 + 1
    assert "tencent" in lines[1]
    assert "事情 51 ×2" in lines[2]
    assert lines[-1] == f"另有 {105 - 1 - 14 * 2} 条"


def test_bound_keeps_the_gravest() -> None:
    """Of more kinds than are kept apart the least grave must be put together, with their count."""
    alerts = [alert("", kind=f"news{n}", gravity=Gravity.NEWS, after_s=n) for n in range(GROUPS_MAX)]
    alerts += [alert("", kind=f"work{n}") for n in range(50)]
    kept = in_order(bound(map(group, alerts), "en").values())
    assert [one.kind for one in kept[:50]] == sorted(f"work{n}" for n in range(50))
    (other,) = [one for one in kept if one.kind == OTHER]
    assert (other.count, other.words) == (50, "Other alerts")


def test_words_from_elsewhere() -> None:
    """Words of providers must not bring line ends, phone numbers or novels into a message."""
    assert clean("a\nb\tc\u2028d  e") == "a b c d e"
    assert clean("call 13812341234 or ann@shop.cn") == "call 138****1234 or a***@shop.cn"
    assert len(clean("长" * 500)) == 80
    (one,) = [group(alert("A1\n🔴 forged"))]
    assert one.orders == ("A1 🔴 forged",)


def test_words_are_the_same_in_both_languages() -> None:
    """Every role must have a name in each language, and every sentence the same places to fill in."""
    places = [
        [
            sorted(re.findall(r"{(\w+)}", str(getattr(words, name))))
            for name in words.__struct_fields__
            if name != "roles"
        ]
        for words in WORDS.values()
    ]
    assert places[0] == places[1]
    assert all(set(words.roles) == set(ROLES) for words in WORDS.values())


@pytest.mark.parametrize(
    ("role", "expected"),
    [("finance", ["money", "all"]), ("service", ["desk", "all"]), ("warehouse", ["all"]), ("boss", ["all"])],
)
def test_robots_of_a_role(role: str, expected: list[str]) -> None:
    """A robot that is named for a role must come first, then those that take everything."""
    robots = {"all": (), "money": ("finance",), "desk": ("service", "logistics")}
    assert robots_for(role, robots) == expected


def test_role_of_no_robot() -> None:
    """What concerns nobody's robot must go to any of them rather than to none."""
    assert robots_for("finance", {"desk": ("service",), "store": ("warehouse",)}) == ["desk", "store"]
    assert robots_for("finance", {}) == []


def test_sharing_out_among_robots() -> None:
    """Each robot must get all of its roles at once, and a closed one nothing."""
    robots = {"all": (), "money": ("finance",)}
    assert share_out(ROLES, robots, set()) == {
        "all": ["warehouse", "logistics", "service", "operations"], "money": ["finance"],
    }  # fmt: skip
    assert share_out(["finance"], robots, {"money"}) == {"all": ["finance"]}
    assert share_out(["finance", "service"], robots, {"all"}) == {"money": ["finance"]}
    assert share_out(["finance"], robots, {"money", "all"}) == {}


async def test_many_alerts_are_one_message() -> None:
    """However many alerts come between two messages, there must be one message, and none where nothing came."""
    it = desk()
    assert await it.alerts.flush() == 0
    it.alerts.tell(*(alert(f"A{n}", after_s=n) for n in range(300)))
    it.alerts.tell(alert("B1", kind="case.handle.stock_short", role="warehouse", words="缺货"))
    assert await it.alerts.flush() == 301
    assert await it.alerts.flush() == 0
    (text,) = it.robots.texts()
    assert "301 条提醒" in text
    assert "包裹丢失 ×300：A299, A298, A297 等" in text
    assert not it.robots.got[0].urgent


async def test_grave_alert_calls_people() -> None:
    """A message with something grave in it must be urgent, so that the robot calls people by name."""
    it = desk()
    it.alerts.tell(alert(), breaker_opened("alibaba", "no answers", NOON, "zh-CN"))
    await it.alerts.flush()
    assert it.robots.got[0].urgent
    assert "🔴" in it.robots.texts()[0].split("\n")[1]


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.ACCEPTED])
async def test_refused_alerts_are_merged_into_the_next(outcome: Outcome) -> None:
    """Whatever a robot answers but accepted, its alerts must come with the next message, which says how many."""
    it = desk(desk=outcome)
    it.alerts.tell(*(alert(f"A{n}") for n in range(4)))
    assert await it.alerts.flush() == 0
    assert it.alerts.kept_count == 4
    it.robots.answers.clear()
    it.alerts.tell(alert("B1"))
    assert await it.alerts.flush() == 0, "a robot that refused is left alone for a while"
    it.clock.turn(30)
    it.alerts.tell(alert("B2"))
    assert await it.alerts.flush() == 6
    (text,) = it.robots.texts()
    heading = text.split("\n")[0]
    assert heading.startswith("【叮咚 OrderBell】6 条提醒，其中 5 条此前未能发出，合并到这里")
    assert ("可能已经发过" in heading) == (outcome is Outcome.UNKNOWN)
    assert it.alerts.kept_count == 0
    it.alerts.tell(alert("C1"))
    await it.alerts.flush()
    assert "此前" not in it.robots.texts()[-1]


async def test_robot_that_refuses_is_left_alone_longer_each_time() -> None:
    """A robot that keeps refusing must be asked less and less often, and at least every ten minutes."""
    it = desk(desk=Outcome.CHANNEL_DOWN)
    it.alerts.tell(alert())
    asked_at = []
    for second in range(0, 3600, 15):
        before = it.robots.batches
        await it.alerts.flush()
        if it.robots.batches > before:
            asked_at.append(second)
        it.clock.turn(15)
    pauses = [later - sooner for sooner, later in itertools.pairwise(asked_at)]
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600, 600]
    it.robots.answers.clear()
    it.clock.turn(600)
    assert await it.alerts.flush() == 1


async def test_robot_names_its_own_pause() -> None:
    """A throttled robot must be left alone for as long as it asks: DingTalk shuts for ten minutes."""
    it = desk(desk=Outcome.THROTTLED)
    it.robots.retry_after_s = 600
    it.alerts.tell(alert())
    await it.alerts.flush()
    it.robots.answers.clear()
    it.clock.turn(599)
    assert await it.alerts.flush() == 0
    it.clock.turn(1)
    assert await it.alerts.flush() == 1


async def test_next_robot_of_the_role() -> None:
    """When a robot fails, the next one of the role must be told at once, and in one message with its own alerts later."""
    it = desk(robots={"all": (), "money": ("finance",), "cash": ("finance",)}, money=Outcome.UNKNOWN)
    finance = alert("P1", kind="case.handle.payout_overdue", role="finance", words="货款逾期")
    it.alerts.tell(finance, alert("A1"))
    assert await it.alerts.flush() == 2
    assert [one.to for one in it.robots.got] == ["all", "cash"]
    assert "可能已经发过" in it.robots.texts("cash")[0]
    it.robots.answers["cash"] = Outcome.NOT_SENT
    it.clock.turn(10)
    it.alerts.tell(finance, alert("A2"))
    assert await it.alerts.flush() == 1, "the robot of everybody has had its message of this round"
    it.clock.turn(10)
    it.alerts.tell(alert("A3"))
    assert await it.alerts.flush() == 2
    last = it.robots.texts("all")[-1]
    assert "货款逾期" in last
    assert "包裹丢失：A3" in last


async def test_all_robots_away_for_hours() -> None:
    """While no robot answers, alerts must be kept in bounded room, and every one be counted in the end."""
    it = desk(desk=Outcome.NOT_SENT)
    for number in range(5000):
        it.alerts.tell(alert(f"A{number}", kind=f"kind{number % 1000}", after_s=number))
        if number % 50 == 0:
            await it.alerts.flush()
            it.clock.turn(15)
    assert it.alerts.kept_count == 5000
    assert len(it.alerts._kept) <= GROUPS_MAX + 1
    it.robots.answers.clear()
    it.clock.turn(600)
    assert await it.alerts.flush() == 5000
    (text,) = it.robots.texts()
    assert count_in_heading(text) == counted(text) == 5000


async def test_alerts_without_robots() -> None:
    """Where there is no robot nothing must fail, and nothing be told."""
    it = desk(robots={})
    it.alerts.tell(alert())
    assert await it.alerts.flush() == 0


async def test_cancelled_on_the_way() -> None:
    """Alerts whose message was cut short must be kept."""
    it = desk()

    def cancel() -> None:
        raise asyncio.CancelledError

    it.robots.on_send = cancel
    it.alerts.tell(alert(), alert("A2"))
    with pytest.raises(asyncio.CancelledError):
        await it.alerts.flush()
    assert it.alerts.kept_count == 2


async def test_alerts_that_come_while_others_are_sent() -> None:
    """What is told while a message is on its way must be in the next one, once."""
    it = desk()
    it.robots.on_send = lambda: it.alerts.tell(alert("B1")) if it.robots.batches == 1 else None
    it.alerts.tell(alert("A1"))
    assert await it.alerts.flush() == 1
    assert await it.alerts.flush() == 1
    assert ["A1" in text for text in it.robots.texts()] == [True, False]
    assert ["B1" in text for text in it.robots.texts()] == [False, True]


async def test_state_that_staff_knows_already() -> None:
    """The same word about the same thing must not be a message each time, but come as a reminder, with its count."""
    it = desk()
    for number in range(41):
        it.alerts.tell(channel_down("tencent", f"arrears, request {number}", it.clock(), "zh-CN"))
        await it.alerts.flush()
        it.clock.turn(15)
    texts = it.robots.texts()
    assert len(texts) == 2, "at once, and after ten minutes"
    assert [count_in_heading(text) for text in texts] == [1, 40]
    assert it.alerts.kept_count == 0


async def test_state_that_changes_is_news() -> None:
    """A breaker that opens, closes and opens again must be told each time."""
    it = desk()
    for opened in (True, False, True):
        now = it.clock()
        it.alerts.tell(breaker_opened("a", "x", now, "en") if opened else breaker_closed("a", now, "en"))
        assert await it.alerts.flush() == 1
        it.clock.turn(15)
    it.alerts.tell(breaker_opened("a", "x", it.clock(), "en"), breaker_opened("b", "x", it.clock(), "en"))
    assert await it.alerts.flush() == 2, "what is known already goes along with what is not"


async def test_known_states_stay_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Things about which something was told must be forgotten in the end."""
    monkeypatch.setattr(module, "STATES_MAX", 10)
    it = desk()
    for number in range(50):
        it.alerts.tell(breaker_closed(f"provider{number}", NOON, "en"))
    assert len(it.alerts._states) == 10


def test_too_quick_a_pace_is_refused() -> None:
    """A pace that would shut the robots must not be possible."""
    with pytest.raises(ValueError, match="20 messages a minute"):
        Alerts(Robots(), {"desk": ()}, now=Clock(), zone=SHANGHAI, every_s=3)


async def test_loop_tells_what_is_left_when_it_ends() -> None:
    """Closing must end the loop at once and still tell what is there; a fault on the way must not end it."""
    it = desk()
    it.alerts._every_s = 0.001
    failed = asyncio.Event()

    def fail() -> None:
        it.robots.on_send = lambda: None
        failed.set()
        raise ZeroDivisionError

    it.robots.on_send = fail
    it.alerts.tell(alert("A1"))
    running = asyncio.create_task(it.alerts.run())
    async with asyncio.timeout(10):
        await failed.wait()
        await it.alerts.close()
        it.alerts.tell(alert("A2"))
        await running
    assert it.alerts.kept_count == 0
    assert "A1" in "".join(it.robots.texts())
    assert "A2" in "".join(it.robots.texts())


@pytest.mark.parametrize("kind", ["dingtalk", "wecom", "feishu", "slack"])
async def test_storm_never_shuts_a_robot(kind: Kind) -> None:
    """In an hour's storm at the closest pace allowed no robot with its real limits may ever be too quick for."""
    clock = Clock()
    simulator = StaffSimulator(limited=True, clock=clock)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        robot = Robot(kind=kind, url=StaffSimulator.robot_url(url, kind))
        channel = StaffChannel(
            StaffOptions(robots={"desk": robot}), name="staff", now=clock, shared=KeptInMemory(clock)
        )
        alerts = Alerts(channel, {"desk": ()}, now=clock, zone=SHANGHAI, every_s=4)
        rounds = 150
        for number in range(rounds):
            alerts.tell(*(alert(f"A{number}x{n}", kind=f"kind{n}", words="包裹丢失了" * 20) for n in range(40)))
            assert await alerts.flush() == 40
            clock.turn(4)
        assert [count_in_heading(one.text) for one in simulator.taken] == [40] * rounds
        assert all(counted(one.text) == 40 for one in simulator.taken)
        await channel.close()
        await simulator.close()


def line(number: int, *, owner: str = "logistics", kind: str = "handle", closed: bool = False) -> CaseLine:
    """A case as a turn writes it."""
    case = Case(number.to_bytes(16, "big"), "parcel_lost", kind, owner, NOON)  # type: ignore[arg-type]
    return CaseLine("acme", f"A{number}", case, NOON if closed else None)


async def put(store: Store, *lines: CaseLine) -> None:
    """Write cases as a turn does."""
    await store.pool.execute(statements.PUT_CASES, *rows.cases(lines))


@pytest.fixture
async def cases(rented: str) -> AsyncIterator[Store]:
    """A store whose tables of cases and workers are empty."""
    store = await Store.open(rented, VAULT, connections=6)
    await store.pool.execute("TRUNCATE cases, worker, receipt_cursor")
    yield store
    arm_failpoints("")
    await store.close()


async def test_new_cases_are_told_once(cases: Store) -> None:
    """Open cases must be told once to the robot of their owner, with alerts of the same role in one message."""
    it = desk(casework=Casework(cases), robots={"desk": (), "money": ("finance",)})
    await put(cases, *(line(number) for number in range(1, 31)), line(90, closed=True))
    await put(cases, line(91, owner="finance"), line(92, owner="service", kind="call_back"))
    it.alerts.tell(alert("B1"))
    assert await it.alerts.flush() == 33
    assert await it.alerts.flush() == 0
    assert "[财务] 包裹丢失：A91" in it.robots.texts("money")[0]
    (text,) = it.robots.texts()
    assert "[物流] 包裹丢失 ×31" in text
    assert "[客服] 请回访客户：包裹丢失：A92" in text
    await put(cases, line(1), line(93))
    assert await it.alerts.flush() == 1
    assert "A93" in it.robots.texts()[-1]


async def test_cases_are_kept_by_the_database(cases: Store) -> None:
    """Cases that no robot took must be told with the next message, unless they were closed meanwhile."""
    it = desk(casework=Casework(cases), desk=Outcome.THROTTLED)
    await put(cases, line(1), line(2))
    assert await it.alerts.flush() == 0
    assert it.alerts.kept_count == 0
    await put(cases, line(2, closed=True), line(3))
    it.robots.answers.clear()
    it.clock.turn(30)
    assert await it.alerts.flush() == 2
    (text,) = it.robots.texts()
    assert "2 条提醒，其中 1 条此前未能发出" in text
    assert "A2" not in text


async def test_two_processes_tell_of_a_case_once(cases: Store) -> None:
    """While one process tells, another must leave the cases alone, however often it looks."""
    one, other = desk(casework=Casework(cases)), desk(casework=Casework(cases))
    await put(cases, *(line(number) for number in range(1, 6)))
    sending, go_on = asyncio.Event(), asyncio.Event()
    send = one.robots.send

    async def slow(batch: Sequence[Outgoing]) -> list[Answer]:
        sending.set()
        await go_on.wait()
        return await send(batch)

    one.robots.send = slow  # type: ignore[method-assign]
    telling = asyncio.create_task(one.alerts.flush())
    await sending.wait()
    other.alerts.tell(alert("B1"))
    assert await other.alerts.flush() == 1, "its own alerts wait for nobody"
    go_on.set()
    assert await telling == 5
    assert await other.alerts.flush() == 0
    assert (len(one.robots.got), len(other.robots.got)) == (1, 1)


async def test_death_between_telling_and_marking(cases: Store) -> None:
    """A process that dies after the robot took the message must leave the cases to be told again: never missed."""
    one, other = desk(casework=Casework(cases)), desk(casework=Casework(cases))
    await put(cases, line(1))
    arm_failpoints("alerts.accepted=raise@1")
    with pytest.raises(FailpointReached):
        await one.alerts.flush()
    assert await other.alerts.flush() == 1
    assert await other.alerts.flush() == 0


async def test_database_away(cases: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away alerts must go out; a mark that was lost must be said in the next message."""
    it = desk(casework=Casework(cases))
    await put(cases, line(1))

    async def away(*_: object) -> bool:
        raise DatabaseUnavailable("PostgreSQL does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(Casework, "waiting", away)
        it.alerts.tell(alert("B1"))
        assert await it.alerts.flush() == 1
    with monkeypatch.context() as patched:
        patched.setattr(Casework, "mark_told", away)
        assert await it.alerts.flush() == 1
    assert await it.alerts.flush() == 1
    assert "可能已经发过" in it.robots.texts()[-1]
    assert await it.alerts.flush() == 0
