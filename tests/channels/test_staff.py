"""The robots of the staff: every code, both signatures, the sizes, the waits, and no secret in any word."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.http import NoReply, Reply
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Recovery, Scope
from orderbell.channels.staff import (
    CODES,
    Kind,
    Locale,
    Robot,
    StaffChannel,
    StaffOptions,
    cut,
    judge_robot,
    sign_dingtalk,
    sign_feishu,
    write_body,
)
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.staff import TOKEN, StaffSimulator
from orderbell.serving import serving
from tests.channels.staff_rig import SECRET, channel_to

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KINDS: tuple[Kind, ...] = ("dingtalk", "wecom", "feishu", "slack")
EVERY_CODE = [(kind, code, outcome) for kind in KINDS for code, outcome in CODES[kind].items() if code != "1111"]


class Hand:
    """A clock in the test's hand."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at

    def turn(self, seconds: float) -> None:
        """Turn it on."""
        self.at += timedelta(seconds=seconds)


class Town:
    """A simulator under its address, on a clock that can be turned."""

    def __init__(self, url: str, simulator: StaffSimulator, clock: Hand) -> None:
        self.url, self.simulator, self.clock = url, simulator, clock


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """Run a simulator with signing and limits switched on."""
    clock = Hand()
    simulator = StaffSimulator(secret=SECRET, limited=True, clock=clock)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        yield Town(url, simulator, clock)
        await simulator.close()


def message(text: str = "叮咚：1 条提醒", *, number: int = 1, urgent: bool = False, to: str = "desk") -> Outgoing:
    """Make a message to a robot."""
    return Outgoing(number.to_bytes(16, "big"), "staff", to, text, urgent=urgent)


def said(kind: Kind, code: str, words: str = "") -> bytes:
    """What a robot answers with a code."""
    if kind == "slack":
        return code.encode()
    names = ("code", "msg") if kind == "feishu" else ("errcode", "errmsg")
    return msgspec.json.encode(dict(zip(names, (int(code), words), strict=True)))


def test_signature_of_dingtalk() -> None:
    """The sign of the query must be that of DingTalk's own example code for the same secret and time."""
    assert sign_dingtalk("SECabc", 1767323045000) == "JXvpEYo3PRYbt+2pOfK+jFnksavpFCyxSBJoUrbZt+g="


def test_signature_of_feishu() -> None:
    """The sign of the body must be that of Feishu's own example code: the text is the key, the message is empty."""
    assert sign_feishu("abc", 1767323045) == "Xw5ETLzcgQCA1JBUo6ma7MIQGa/ISZyrPEW/R57DLYc="


@pytest.mark.parametrize(("kind", "code", "outcome"), EVERY_CODE)
def test_code(kind: Kind, code: str, outcome: Outcome) -> None:
    """Every documented code must have its one outcome, and a throttle its wait."""
    verdict = judge_robot(kind, Reply(200, said(kind, code, "words")), NOW)
    assert verdict.outcome is outcome
    assert verdict.detail.startswith(code)
    assert (verdict.retry_after_s > 0) == (outcome is Outcome.THROTTLED)


@pytest.mark.parametrize("kind", KINDS)
async def test_codes_over_the_wire(kind: Kind) -> None:
    """The codes must be found in the answers as they really come, whatever HTTP status and words come with them."""
    simulator = StaffSimulator()
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = channel_to(url, kind, secret="")
        for code, outcome in CODES[kind].items():
            if outcome is not Outcome.THROTTLED:  # or the robot would not be asked about the next
                simulator.fail_with = code
                (answer,) = await channel.send([message()])
                assert answer.outcome is outcome, (code, answer)
        simulator.fail_with, simulator.faults = "", Faults(throttle=1)
        (answer,) = await channel.send([message()])
        assert answer.outcome is Outcome.THROTTLED
        await channel.close()
        await simulator.close()


@pytest.mark.parametrize(
    ("kind", "module", "plugin"),
    [
        ("dingtalk", "dingtalk", "NotifyDingTalk"),
        ("wecom", "wecombot", "NotifyWeComBot"),
        ("feishu", "feishu", "NotifyFeishu"),
    ],
)
async def test_simulator_takes_what_others_send(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, module: str, plugin: str
) -> None:
    """A client that was written for the real robots must get through to the simulator.

    Without signatures: Apprise 2.2 percent-encodes that of DingTalk twice.
    """
    pytest.importorskip("apprise", reason="Apprise, the other client, is not installed")
    other: Any = getattr(importlib.import_module(f"apprise.plugins.{module}"), plugin)
    simulator = StaffSimulator()
    name = "key" if kind == "wecom" else "token"
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        place = StaffSimulator.robot_url(url, kind).replace(TOKEN, f"{{{name}}}")
        monkeypatch.setattr(other, "notify_url", place)
        assert await asyncio.to_thread(other(**{name: TOKEN}).send, body="叮咚：包裹丢失")
        assert [one.text for one in simulator.taken] == ["叮咚：包裹丢失"]
        await simulator.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"OK", b"okay", b"{}", b"[]", b"null", b'{"errcode":"0","code":"0"}', b'{"errcode":false,"code":false}',
        b'{"errcode":0.0,"code":0.0}', b'{"errcode":777,"code":777}', b"\xff\xfe", b"[" * 100_000,
        b'{"errcode":1' + b"0" * 5000 + b"}", b"<html>ok</html>", b'{"punish":"deny"}', b'{"ok":true}',
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_success_that_is_none(kind: Kind, body: bytes) -> None:
    """HTTP 200 with anything but the provider's own word for success must be unknown, never accepted."""
    assert judge_robot(kind, Reply(200, body), NOW).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("kind", KINDS)
def test_word_of_success_under_status_of_failure(kind: Kind) -> None:
    """A status of failure must not become a success by the words under it."""
    body = said(kind, "ok" if kind == "slack" else "0")
    assert judge_robot(kind, Reply(502, body), NOW).outcome is Outcome.UNKNOWN
    assert judge_robot(kind, Reply(404, body), NOW).outcome is Outcome.CHANNEL_DOWN


def test_old_word_of_success_of_feishu() -> None:
    """Feishu's old form of success and of failure must be understood as well as the new one."""
    old = b'{"StatusCode":0,"StatusMessage":"success","Extra":null}'
    assert judge_robot("feishu", Reply(200, old), NOW).outcome is Outcome.ACCEPTED
    failed = b'{"StatusCode":19024,"StatusMessage":"Key Words Not Found"}'
    assert judge_robot("feishu", Reply(200, failed), NOW).outcome is Outcome.REJECTED_CONTENT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_bare_server_error(kind: Kind, status: int) -> None:
    """A server error without the provider's own word must be unknown: something in between may have said it."""
    assert judge_robot(kind, Reply(status, b"<html>Bad Gateway</html>"), NOW).outcome is Outcome.UNKNOWN


def test_no_reply() -> None:
    """Without an answer it must count whether a byte of the request was written."""
    assert judge_robot("wecom", NoReply(perhaps_sent=True, detail="late"), NOW).outcome is Outcome.UNKNOWN
    assert judge_robot("wecom", NoReply(perhaps_sent=False, detail="refused"), NOW).outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("kind", "reply", "wait_s"),
    [
        ("dingtalk", Reply(200, said("dingtalk", "130101")), 600),
        ("dingtalk", Reply(200, said("dingtalk", "660026")), 600),
        ("dingtalk", Reply(200, b'{"status":1111,"wait":5,"source":"x5","punish":"deny","uuid":"x"}'), 300),
        ("dingtalk", Reply(200, b'{"status":1111,"wait":20,"punish":"deny"}'), 1200),
        ("dingtalk", Reply(200, b'{"status":1111,"punish":"deny"}'), 600),
        ("dingtalk", Reply(429, b""), 600),
        ("wecom", Reply(200, said("wecom", "45009")), 60),
        ("feishu", Reply(200, said("feishu", "11232")), 60),
        ("feishu", Reply(200, said("feishu", "9499", "too many request")), 60),
        ("feishu", Reply(400, said("feishu", "99991400"), headers={"x-ogw-ratelimit-reset": "42"}), 42),
        ("feishu", Reply(400, said("feishu", "99991400"), headers={"x-ogw-ratelimit-reset": "soon"}), 60),
        ("slack", Reply(429, b"rate_limited", retry_after_s=7), 7),
        ("slack", Reply(429, b""), 30),
    ],
)
def test_throttle_with_its_wait(kind: Kind, reply: Reply, wait_s: float) -> None:
    """Each way of saying "too quick" must come with how long the robot is to be left alone."""
    verdict = judge_robot(kind, reply, NOW)
    assert (verdict.outcome, verdict.retry_after_s) == (Outcome.THROTTLED, wait_s)


def test_one_code_for_several_things() -> None:
    """DingTalk's 310000 must be a matter of the text for a keyword, and of the robot for signature and address."""
    for words in ("keywords not in content", "description:关键词不匹配;solution:请联系群管理员"):
        verdict = judge_robot("dingtalk", Reply(200, said("dingtalk", "310000", words)), NOW)
        assert verdict.outcome is Outcome.REJECTED_CONTENT
    for words in ("sign not match", "invalid timestamp", "ip 1.2.3.4 not in whitelist"):
        assert judge_robot("dingtalk", Reply(200, said("dingtalk", "310000", words)), NOW).outcome is (
            Outcome.CHANNEL_DOWN
        )


@pytest.mark.parametrize("kind", ["dingtalk", "feishu"])
@pytest.mark.parametrize(("off_min", "words"), [(90, "90 minutes ahead of"), (-120, "120 minutes behind")])
async def test_clock_that_is_off(town: Town, kind: Kind, off_min: int, words: str) -> None:
    """A signature that fails for the clock must say how far the clock is off, and not shut the robot for good."""
    channel = channel_to(town.url, kind, now=lambda: town.clock.at + timedelta(minutes=off_min))
    (answer,) = await channel.send([message()])
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert words in answer.detail
    await channel.close()
    right = channel_to(town.url, kind, now=lambda: town.clock.at + timedelta(minutes=10))
    (answer,) = await right.send([message()])
    assert answer.outcome is Outcome.ACCEPTED, "ten minutes are within the hour that a signature is good for"
    await right.close()


@pytest.mark.parametrize("kind", ["dingtalk", "feishu"])
async def test_wrong_secret(town: Town, kind: Kind) -> None:
    """A wrong secret must be the robot's fault, and no clock be blamed for it."""
    channel = channel_to(town.url, kind, secret="SEC-another-one")
    (answer,) = await channel.send([message()])
    assert answer.outcome is Outcome.CHANNEL_DOWN
    assert "clock" not in answer.detail
    assert "SEC-another-one" not in answer.detail
    await channel.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_wrong_token(town: Town, kind: Kind) -> None:
    """A wrong token must be the robot's fault; another robot of the channel must still work."""
    good = StaffSimulator.robot_url(town.url, kind)
    robots = {
        "bad": Robot(kind=kind, url=good.replace(TOKEN, "stolen-token-1234"), secret=SECRET),
        "good": Robot(kind=kind, url=good, secret=SECRET),
    }
    channel = StaffChannel(StaffOptions(robots=robots), name="staff", now=town.clock, shared=KeptInMemory(town.clock))
    bad, fine = await channel.send([message(to="bad"), message(to="good")])
    assert (bad.outcome, fine.outcome) == (Outcome.CHANNEL_DOWN, Outcome.ACCEPTED)
    assert "stolen" not in bad.detail
    await channel.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_secrets_stay_out_of_words(kind: Kind) -> None:
    """Whatever a provider repeats, and whatever goes wrong on the way, no token or secret may be in the detail."""
    simulator = StaffSimulator()
    secrets = (TOKEN, SECRET, "T0SANDBOX", "B0SANDBOX") if kind == "slack" else (TOKEN, SECRET)
    simulator.fail_with = "no_service" if kind == "slack" else "19001"
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        simulator.fail_words = f"no robot at {StaffSimulator.robot_url(url, kind)} with {SECRET}"
        channel = channel_to(url, kind)
        (answer,) = await channel.send([message()])
        assert not [secret for secret in secrets if secret in answer.detail], answer
        simulator.fail_words = "x" * (180 - len(TOKEN) // 2) + f" {TOKEN} {TOKEN} {TOKEN}"
        (answer,) = await channel.send([message()])
        assert TOKEN[:4] not in answer.detail, "half a token was told"
        await simulator.close()
    (answer,) = await channel.send([message()])
    assert answer.outcome is Outcome.NOT_SENT
    assert not [secret for secret in secrets if secret in answer.detail], answer
    findings = await channel.check()
    assert not [secret for secret in secrets if secret in str(findings)]
    await channel.close()


async def test_dingtalk_shuts_for_ten_minutes(town: Town) -> None:
    """The 21st message of a minute must be throttled for ten minutes, in which the robot is not asked again."""
    channel = channel_to(town.url, "dingtalk", now=town.clock)
    answers = await channel.send([message(number=number) for number in range(1, 21)])
    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    (answer,) = await channel.send([message(number=21)])
    assert (answer.outcome, answer.retry_after_s, answer.scope) == (Outcome.THROTTLED, 600, Scope.RECIPIENT)
    town.clock.turn(420)
    town.simulator.limited = False
    (answer,) = await channel.send([message(number=22)])
    assert (answer.outcome, answer.retry_after_s) == (Outcome.THROTTLED, 180)
    assert len(town.simulator.taken) == 20, "a robot that is shut was asked"
    town.clock.turn(180)
    (answer,) = await channel.send([message(number=23)])
    assert answer.outcome is Outcome.ACCEPTED
    await channel.close()


async def test_whole_address_punished(town: Town) -> None:
    """What DingTalk does to a whole IP address must be a throttle of five minutes."""
    town.simulator.punished = True
    channel = channel_to(town.url, "dingtalk", now=town.clock)
    (answer,) = await channel.send([message()])
    assert (answer.outcome, answer.retry_after_s) == (Outcome.THROTTLED, 300)
    await channel.close()


@pytest.mark.parametrize("kind", ["dingtalk", "feishu"])
async def test_keyword(kind: Kind) -> None:
    """A robot that wants a keyword must refuse the text, not the account."""
    simulator = StaffSimulator(keyword="叮咚")
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = channel_to(url, kind)
        without, having = await channel.send([message("包裹丢失"), message("叮咚：包裹丢失")])
        assert (without.outcome, having.outcome) == (Outcome.REJECTED_CONTENT, Outcome.ACCEPTED)
        await channel.close()
        await simulator.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", ["包裹丢失 A1234567", '"quoted" & <b>\\', "x" * 9000])
async def test_long_text_is_cut_at_whole_lines(town: Town, kind: Kind, line: str) -> None:
    """A text over the robot's size must be taken with its first lines whole and the number of the others."""
    text = "\n".join([f"{number} {line}" for number in range(3000)])
    channel = channel_to(town.url, kind, now=town.clock, mention=("+8613800138000", "all"))
    (answer,) = await channel.send([msgspec.structs.replace(message(text), urgent=True)])
    assert answer.outcome is Outcome.ACCEPTED, answer
    (taken,) = town.simulator.taken
    lines = [one for one in taken.text.split("\n") if "@" not in one and "<at" not in one and "<!" not in one]
    if kind == "slack":
        lines = [one.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for one in lines]
    whole = [one for one in lines if one in text.split("\n")]
    if len(line) < 2000 or kind != "wecom":
        assert whole == text.split("\n")[: len(whole)]
        assert whole
        assert f"（另有 {3000 - len(whole)} 行未显示）" in lines
    else:
        assert lines[0].endswith("…")
        assert lines[1] == "（另有 2999 行未显示）"
    assert len(lines) == len(whole) + 1 or lines[0].endswith("…")
    await channel.close()


@given(
    st.lists(st.text(alphabet="ab字\U0001f514", max_size=30), min_size=1, max_size=30),
    st.integers(min_value=40, max_value=400),
    st.sampled_from(["zh-CN", "en"]),
)
def test_cut_keeps_the_most_that_fits(lines: list[str], room: int, locale: Locale) -> None:
    """A cut text must fit, keep as many whole lines as do, and account for every line."""
    text = "\n".join(lines)

    def fits(wanted: str) -> bool:
        return len(wanted.encode()) <= room

    short = cut(text, fits, locale)
    if fits(text):
        assert short == text
        return
    assert fits(short) or len(lines[0].encode()) > room - 60
    kept = short.split("\n")
    if not kept[0].endswith("…"):
        assert kept[:-1] == lines[: len(kept) - 1]
        assert str(len(lines) - len(kept) + 1) in kept[-1]
        one_more = "\n".join([*lines[: len(kept)], kept[-1]])
        assert len(kept) == len(lines) or not fits(one_more) or len(one_more.encode()) > room - 10


@pytest.mark.parametrize(
    ("kind", "mention", "expected"),
    [
        ("dingtalk", ("+8613800138000", "manager4220", "all"), ["+8613800138000", "manager4220", "all"]),
        ("wecom", ("13800138000", "zhangsan", "all"), ["zhangsan", "@all", "13800138000"]),
        ("feishu", ("ou_123", "all"), ["ou_123", "all"]),
        ("slack", ("U024BE7LH", "all", "here"), ["U024BE7LH", "channel", "here"]),
    ],
)
async def test_mentions_of_urgent_messages(kind: Kind, mention: tuple[str, ...], expected: list[str]) -> None:
    """An urgent message must call whom the robot is to mention, in the provider's form; any other message nobody."""
    simulator = StaffSimulator()
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = channel_to(url, kind, mention=mention)
        await channel.send([message()])
        await channel.send([message(urgent=True)])
        calm, urgent = simulator.taken
        assert (calm.fields["mentions"], urgent.fields["mentions"]) == ([], expected)
        await channel.close()
        await simulator.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_text_that_would_call_everybody(town: Town, kind: Kind) -> None:
    """Words from orders must not be able to call people by name."""
    hostile = '<!channel> <at user_id="all">x</at> <AT user_id="all"></AT> <@U024BE7LH> @all'
    channel = channel_to(town.url, kind, now=town.clock, mention=("all",))
    (answer,) = await channel.send([message(hostile)])
    assert answer.outcome is Outcome.ACCEPTED
    (taken,) = town.simulator.taken
    assert taken.fields["mentions"] == []
    assert kind != "feishu" or "<at" not in taken.text.lower()
    assert kind != "slack" or "<" not in taken.text
    await channel.close()


async def test_subject_and_link_are_told(town: Town) -> None:
    """The title must come first and the page last, once."""
    channel = channel_to(town.url, "wecom", now=town.clock)
    full = msgspec.structs.replace(message("B"), subject="A", link="https://shop.example/c/1")
    same = msgspec.structs.replace(message("see https://shop.example/c/1"), link="https://shop.example/c/1")
    await channel.send([full])
    town.clock.turn(2)
    await channel.send([same])
    assert [one.text for one in town.simulator.taken] == [
        "A\nB\nhttps://shop.example/c/1", "see https://shop.example/c/1",
    ]  # fmt: skip
    await channel.close()


@pytest.mark.parametrize(("kind", "fault"), [("slack", 0.5), ("dingtalk", 0.5)])
async def test_some_of_many_refused(kind: Kind, fault: float) -> None:
    """In a batch each message must have its own answer, in the order of the batch."""
    simulator = StaffSimulator()
    simulator.faults = Faults(error_body=fault, seed=7)
    async with serving(simulator, stopping=simulator.end_waiting) as url:
        channel = channel_to(url, kind, secret="")
        batch = [message(f"n {number}", number=number) for number in range(20)]
        answers = await channel.send(batch)
        taken = {one.text for one in simulator.taken}
        assert 0 < len(taken) < 20
        expected = [Outcome.ACCEPTED if one.text in taken else Outcome.UNKNOWN for one in batch]
        assert [answer.outcome for answer in answers] == expected
        assert [answer.attempt_id for answer in answers] == [one.attempt_id for one in batch]
        await channel.close()
        await simulator.close()


@pytest.mark.parametrize(
    ("kind", "url", "word"),
    [
        ("dingtalk", "https://oapi.dingtalk.com/robot/send", "access_token"),
        ("dingtalk", "http://oapi.dingtalk.com/robot/send?access_token=abcdefgh", "https"),
        ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?kay=abcdefgh", "key="),
        ("feishu", "https://open.feishu.cn/open-apis/bot/v2/hook/", "hook"),
        ("slack", "https://hooks.slack.com/services/T1/B1", "services"),
    ],
)
async def test_check_of_wrong_address(kind: Kind, url: str, word: str) -> None:
    """A check must say what is wrong with an address, without telling it."""
    options = StaffOptions(robots={"desk": Robot(kind=kind, url=url)})
    channel = StaffChannel(options, name="staff", now=lambda: NOW, shared=KeptInMemory(lambda: NOW))
    (finding,) = await channel.check()
    assert not finding.fine
    assert word in finding.words
    assert "abcdefgh" not in finding.words
    await channel.close()


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("dingtalk", "https://oapi.dingtalk.com/robot/send?access_token=abcdefgh"),
        ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abcdefgh"),
        ("feishu", "https://open.larksuite.com/open-apis/bot/v2/hook/abcdefgh"),
        ("slack", "https://hooks.slack.com/services/T1/B1/abcdefgh"),
    ],
)
async def test_check_says_that_nothing_can_be_asked(kind: Kind, url: str) -> None:
    """A check of a robot that looks right must be content, and honest about what it cannot know."""
    options = StaffOptions(robots={"desk": Robot(kind=kind, url=url)})
    channel = StaffChannel(options, name="staff", now=lambda: NOW, shared=KeptInMemory(lambda: NOW))
    (finding,) = await channel.check()
    assert finding.fine
    assert "without posting" in finding.words
    assert channel.recovery is Recovery.NONE
    await channel.close()


@pytest.mark.parametrize("url", ["", "hooks.slack.com/services/T/B/X", "ftp://host/x", "https://", "http://[::1"])
def test_options_with_no_address(url: str) -> None:
    """What is no address must be refused where the options are read."""
    raw = msgspec.json.encode({"robots": {"desk": {"kind": "slack", "url": url}}})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=StaffOptions)


def test_signed_body_is_within_the_size() -> None:
    """The signature must be counted in with the size of the request."""
    robot = Robot(kind="feishu", url="https://open.feishu.cn/open-apis/bot/v2/hook/x", secret="abc")
    body = write_body(robot, "\n".join(["一行"] * 9000), urgent=False, at_s=1767323045)
    assert 19_900 < len(body) <= 20_000
    assert msgspec.json.decode(body)["sign"] == "Xw5ETLzcgQCA1JBUo6ma7MIQGa/ISZyrPEW/R57DLYc="
