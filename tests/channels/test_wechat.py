"""WeChat: what goes over the wire, what its codes mean, tokens, permissions and values."""

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.http import NoReply, Reply
from orderbell.channels.protocol import Outcome, Outgoing, Recovery, Scope
from orderbell.channels.wechat import (
    CODES,
    WeChatOptions,
    compare_keys,
    fill_keys,
    read_answer,
    read_templates,
    write_message,
)
from orderbell.channels.wechat_values import DoesNotFit, fit, is_key, length_of
from orderbell.sandbox.simulator import Asked
from orderbell.sandbox.wechat import WeChatSimulator, _require_words
from tests.channels.rigs.wechat import OPENID, STRANGER, TEMPLATE, Kind, WeChatRig, message
from tests.channels.situations import Situation

NOON = datetime(2026, 1, 2, 3, 59, 48, tzinfo=UTC)  # 11:59:48 in Beijing

DOCUMENTED = {
    Outcome.ACCEPTED: [0],
    Outcome.RETRY_LATER: [-1],
    Outcome.THROTTLED: [45011, 45047],
    Outcome.REJECTED_RECIPIENT: [43101, 43107, 43108, 45168, 43004, 43019, 40003, 48002],
    Outcome.REJECTED_CONTENT: [40037, 47001, 47003, 41028, 41029, 41030, 40165, 40166],
    Outcome.CHANNEL_DOWN: [
        45009, 40013, 40125, 40164, 48001, 48004, 50002, 40001, 40014, 42001, 41001, 41002, 41004, 40002,
    ],
}  # fmt: skip


class Clock:
    """A clock that is set by hand."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at


def said(code: int, status: int = 200, **more: object) -> Reply:
    """Answer as WeChat does."""
    return Reply(status, json.dumps({"errcode": code, "errmsg": "words rid: 1", **more}).encode())


@contextlib.asynccontextmanager
async def wechat(kind: Kind = "oa_template") -> AsyncIterator[WeChatRig]:
    """Run WeChat and a channel to it."""
    rig = WeChatRig(kind, "xml")
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def permissions(rig: WeChatRig, to: str = OPENID) -> int:
    """Count the permissions that we believe to have, using them up."""
    count = 0
    while await rig.shared.spend(to, TEMPLATE):
        count += 1
    return count


@pytest.mark.parametrize(("outcome", "code"), [(o, code) for o, codes in DOCUMENTED.items() for code in codes])
def test_code_means_its_outcome(outcome: Outcome, code: int) -> None:
    """Every documented code must have its outcome, and words for people unless it is a success."""
    result = read_answer(said(code), NOON)
    assert (result.outcome, result.code) == (outcome, code)
    assert bool(result.detail) is (code != 0)


def test_codes_are_all_documented() -> None:
    """No code may be mapped without being in the table of the manual above."""
    assert {code for codes in DOCUMENTED.values() for code in codes} == set(CODES)


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b"{}", b'{"msgid":1}', b'{"errcode":null}', b"\xff", b"[" * 90_000]
)
def test_answer_unreadable(body: bytes) -> None:
    """An answer without a code is no success."""
    assert read_answer(Reply(200, body), NOON).outcome is Outcome.UNKNOWN


def test_answer_with_unknown_code() -> None:
    """A code that is in no manual proves nothing."""
    assert read_answer(said(12345), NOON).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (said(-1, 503), Outcome.RETRY_LATER),
        (said(45011, 500), Outcome.THROTTLED),
        (said(0, 502), Outcome.UNKNOWN),
        (said(12345, 502), Outcome.UNKNOWN),
        (Reply(502, b"<html>bad gateway</html>"), Outcome.UNKNOWN),
        (Reply(404, b""), Outcome.CHANNEL_DOWN),
        (NoReply(perhaps_sent=True, detail="cut"), Outcome.UNKNOWN),
        (NoReply(perhaps_sent=False, detail="refused"), Outcome.NOT_SENT),
    ],
)
def test_answer_with_status_of_error(answered: Reply | NoReply, outcome: Outcome) -> None:
    """WeChat's own word counts whatever the status, but success needs the status too."""
    assert read_answer(answered, NOON).outcome is outcome


def test_msgid_keeps_all_digits() -> None:
    """Ids are longer than a double holds; a missing one is no error."""
    assert read_answer(said(0, msgid=1_988_810_812_324_364_291), NOON).ref == "1988810812324364291"
    assert read_answer(said(0), NOON).ref == ""


@pytest.mark.parametrize(
    ("code", "wait_s", "scope"),
    [(45011, 12, Scope.PROVIDER), (45047, 12, Scope.RECIPIENT), (45009, 12 * 3600 + 12, Scope.PROVIDER)],
)
def test_quota_says_when_it_ends(code: int, wait_s: float, scope: Scope) -> None:
    """A minute's quota ends with the minute, a day's at midnight in Beijing."""
    result = read_answer(said(code), NOON)
    assert (result.retry_after_s, result.scope) == (wait_s, scope)


@pytest.mark.parametrize(
    ("key", "words", "fitted"),
    [
        ("thing1", "长" * 20, "长" * 20),
        ("thing1", "长" * 21, "长" * 19 + "…"),
        ("thing1", "😀" * 11, "😀" * 9 + "…"),
        ("thing1", " a\r\n\tb\x00 ", "a b"),
        ("number1", "1,234.50", "1234.50"),
        ("number1", "１２", "12"),
        ("letter1", "A b", "Ab"),
        ("letter1", "x" * 33, "x" * 32),
        ("symbol1", "a!！？b#$%", "!！？#$"),
        ("character_string1", "SF 1234-5678", "SF1234-5678"),
        ("character_string1", "x" * 33, "x" * 29 + "..."),
        ("time1", "15:01", "15:01"),
        ("time1", "2019年10月1日 15:01", "2019年10月1日 15:01"),
        ("time1", "2026-01-02T15:01:02", "2026-01-02 15:01:02"),
        ("time1", "15：01 至 16：30", "15:01~16:30"),
        ("time1", "2026-01-02 09:00 - 11:00", "2026-01-02 09:00~11:00"),
        ("date1", "2019年10月1日", "2019年10月1日"),
        ("date1", "2019/10/01～2019/10/03", "2019/10/01~2019/10/03"),
        ("amount1", "￥1,299.00", "¥1299.00"),
        ("amount1", "CNY 12.5", "12.5"),
        ("amount1", "12.50 元", "12.50元"),
        ("phone_number1", "+86 138 0013 8000", "+8613800138000"),
        ("phone_number1", "138****8000", "138****8000"),
        ("phone_number1", "+86-(0766)-66888866", "+86076666888866"),
        ("car_number1", "粤a·8z888挂", "粤A8Z888挂"),
        ("name1", "张三丰123", "张三丰"),
        ("name1", "张" * 11, "张" * 10),
        ("name1", "Alexandra Constantinopolis", "Alexandra Constantin"),
        ("phrase1", "已发货!", "已发货"),
        ("phrase1", "正在派送途中", "正在派送途"),
        ("const1", "已付款", "已付款"),
        ("const1", "", ""),
        ("keyword1", " as it is ", "as it is"),
    ],
)
def test_value_is_made_to_fit(key: str, words: str, fitted: str) -> None:
    """What can be made to fit without becoming untrue must be, because one bad value loses the message."""
    assert fit(key, words) == fitted


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("thing1", "\n "),
        ("number1", "about 5"),
        ("number1", "-5"),
        ("number1", "1" * 33),
        ("letter1", "中"),
        ("symbol1", "abc"),
        ("character_string1", "订单1"),
        ("time1", "今天下午"),
        ("time1", "25:00"),
        ("time1", "2026-01-02T15:01:02+08:00"),
        ("time1", "1:00~2:00~3:00"),
        ("date1", "15:01"),
        ("date1", "2019年13月1日"),
        ("amount1", "免费"),
        ("amount1", "-12.00"),
        ("amount1", "12345678901"),
        ("phone_number1", "请来电"),
        ("phone_number1", "1" * 18),
        ("car_number1", "粤A8Z888888"),
        ("name1", "12345"),
        ("phrase1", "OK"),
        ("const1", "长" * 21),
        ("thing1", "half a pair \ud83d"),
    ],
)
def test_value_that_cannot_fit(key: str, words: str) -> None:
    """What cannot be made to fit must be refused with the name of its key."""
    with pytest.raises(DoesNotFit, match=key):
        fit(key, words)


def test_value_that_cannot_fit_is_not_told() -> None:
    """The reason must show what the words look like, but no name and no number of a person."""
    with pytest.raises(DoesNotFit, match="字字 00000000000") as refused:
        fit("number1", "张三 13800138000")
    assert "138" not in str(refused.value)


KINDS = (
    "thing", "number", "letter", "symbol", "character_string", "time", "date", "amount", "phone_number", "car_number",
    "name", "phrase", "const",
)  # fmt: skip


@given(st.sampled_from(KINDS), st.one_of(st.text(max_size=60), st.text("0123456789:-~年月日 ¥元.+aA中", max_size=40)))
def test_fitted_value_is_taken_by_the_simulator(kind: str, words: str) -> None:
    """Whatever fits must pass the simulator's rules, which were written apart; fitting twice changes nothing."""
    key = f"{kind}1"
    try:
        fitted = fit(key, words)
    except DoesNotFit:
        return
    assert _require_words({key: {"value": fitted}}, [key]) == {key: fitted}
    assert fit(key, fitted) == fitted
    assert length_of(fitted) <= 64


def test_keys_are_told_from_other_names() -> None:
    """A slot is a key only if it is a kind that we know and a number."""
    assert is_key("thing1")
    assert is_key("character_string12")
    assert not any(is_key(name) for name in ("thing", "order_no", "keyword1", "1", ""))


def test_slots_fill_keys() -> None:
    """Slots go to the keys that are configured, or to the key that they are named like; an empty key drops them."""
    outgoing = Outgoing(
        bytes(16), "wechat", OPENID, "", template_code="T", slots=(("what", "箱子"), ("number2", "3"), ("note", "x"))
    )
    assert fill_keys({"T": {"what": "thing1", "note": ""}}, outgoing) == {"thing1": "箱子", "number2": "3"}
    with pytest.raises(DoesNotFit, match="'note'"):
        fill_keys({"T": {"what": "thing1"}}, outgoing)
    with pytest.raises(DoesNotFit, match="number2"):
        fill_keys({"T": {"what": "thing1", "note": "number2"}}, outgoing)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        (
            "oa_template",
            {"mini_program_appid": "wx1", "page": "pages/order?no={order_no}"},
            {
                "url": "https://shop.example/o",
                "miniprogram": {"appid": "wx1", "pagepath": "pages/order?no=A%2F1"},
                "client_msg_id": "000000000000000000000000000000ff",
            },
        ),
        ("oa_subscribe", {}, {"page": "https://shop.example/o"}),
        (
            "mini_program",
            {"page": "pages/order?no={order_no}", "mini_program_state": "trial", "language": "en_US"},
            {"page": "pages/order?no=A%2F1", "miniprogram_state": "trial", "lang": "en_US"},
        ),
        ("mini_program", {}, {"miniprogram_state": "formal", "lang": "zh_CN"}),
    ],
)
def test_message_on_the_wire(kind: Kind, more: dict[str, str], expected: dict[str, object]) -> None:
    """Each kind has its own form."""
    options = msgspec.convert({"appid": "wx0", "secret": "s", "message_kind": kind, **more}, WeChatOptions)
    outgoing = Outgoing(
        (255).to_bytes(16, "big"), "wechat", OPENID, "", slots=(("thing1", "箱子"),), template_code="T",
        link="https://shop.example/o", order_no="A/1",
    )  # fmt: skip
    written = json.loads(write_message(options, outgoing))
    assert written == {"touser": OPENID, "template_id": "T", "data": {"thing1": {"value": "箱子"}}} | expected


def test_options_refuse_what_is_no_option() -> None:
    """A misspelled option or a key that is none must not be passed over."""
    for wrong in ({"kinds": "x"}, {"message_kind": "sms"}, {"encoding_aes_key": "short"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"appid": "a", "secret": "s", **wrong}, WeChatOptions)


async def test_token_is_fetched_once() -> None:
    """All messages share one token until it is over."""
    async with wechat() as rig:
        await rig.channel.send([message(number) for number in range(1, 31)])
        assert rig.simulator.tokens_given == 1


async def test_token_made_invalid_by_others() -> None:
    """When somebody else has refreshed the token, all messages must go out with a new one, fetched once."""
    async with wechat() as rig:
        await rig.channel.send([message(1)])
        rig.simulator.forget_tokens()
        answers = await rig.channel.send([message(number) for number in range(2, 22)])
        assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
        assert rig.simulator.tokens_given == 2


async def test_token_that_wechat_refuses_but_hands_out() -> None:
    """A token that comes back although it is refused must be made anew by force."""
    async with wechat() as rig:
        await rig.channel.send([message(1)])
        rig.simulator.spoil_token()
        (answer,) = await rig.channel.send([message(2)])
        assert answer.outcome is Outcome.ACCEPTED
        rig.simulator.spoil_token()
        (answer,) = await rig.channel.send([message(3)])
        assert answer.outcome is Outcome.THROTTLED, "forced twice within 30 seconds"


async def test_token_refused_even_when_new() -> None:
    """Refused with a new token as well, the channel is down; it must not ask on and on."""
    async with wechat("mini_program") as rig:
        rig.simulator.fail_with = "40001"
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is Outcome.CHANNEL_DOWN
        assert rig.simulator.tokens_given == 2, "once in the normal way, once by force"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("-1", Outcome.RETRY_LATER),
        ("45011", Outcome.THROTTLED),
        ("45009", Outcome.CHANNEL_DOWN),
        ("40013", Outcome.CHANNEL_DOWN),
        ("40125", Outcome.CHANNEL_DOWN),
        ("40164", Outcome.CHANNEL_DOWN),
        ("40003", Outcome.RETRY_LATER),
        ("99999", Outcome.RETRY_LATER),
    ],
)
@pytest.mark.parametrize("kind", ["oa_template", "oa_subscribe"])
async def test_token_refused(kind: Kind, code: str, outcome: Outcome) -> None:
    """Without a token the message was surely not sent, whatever the code, and nobody's permission is spent."""
    async with wechat(kind) as rig:
        rig.simulator.fail_token_with = code
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is outcome
        assert code in answer.detail
        assert rig.simulator.secret not in answer.detail
        assert await permissions(rig) == 1_000


async def test_token_lives_as_long_as_wechat_says() -> None:
    """The token must be replaced in its last minutes, when WeChat hands out the next one and still takes both."""
    async with wechat() as rig:
        token = await rig.channel._fetch()
        left = (token.good_until - datetime.now(UTC)).total_seconds()
        assert 7200 - 300 < left < 7200
        assert len(token.value) >= 512


@pytest.mark.parametrize("situation", [Situation.GONE, Situation.NEVER_ANSWERS, Situation.CUTS_ANSWER])
async def test_token_stays_out_of_details(situation: Situation) -> None:
    """The token stands in the address of each request, and must not be repeated when that fails."""
    async with wechat() as rig:
        await rig.impatient.send([message(1)])
        await rig.arrange(situation)
        (answer,) = await rig.impatient.send([message(2)])
        assert answer.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
        assert answer.detail
        assert rig.simulator.token[:20] not in answer.detail
        assert "access_token" not in answer.detail


async def test_attempt_sent_again_within_the_window() -> None:
    """WeChat knows the attempt: the same answer, and one message."""
    async with wechat() as rig:
        (first,) = await rig.channel.send([message(1)])
        (again,) = await rig.channel.send([message(1)])
        assert first == again
        assert first.provider_ref
        assert rig.handed_over() == [message(1).attempt_id]


async def test_attempt_sent_again_after_the_window() -> None:
    """Later WeChat makes a second message of it: the window that the channel names must be shorter."""
    async with wechat() as rig:
        assert rig.channel.recovery is Recovery.KEY
        rig.simulator.clock = clock = Clock(NOON)
        window = timedelta(seconds=rig.channel.key_window_s)
        for later, count in ((timedelta(), 1), (window, 1), (timedelta(seconds=601), 2)):
            clock.at = NOON + later
            await rig.channel.send([message(1)])
            assert len(rig.simulator.taken) == count


async def test_other_kinds_have_no_key() -> None:
    """Subscribe messages know no key, so a lost answer stays unknown until a receipt comes."""
    async with wechat("oa_subscribe") as rig:
        assert (rig.channel.recovery, rig.channel.key_window_s) == (Recovery.NONE, 0.0)


@pytest.mark.parametrize("kind", ["oa_subscribe", "mini_program"])
async def test_permission_is_spent(kind: Kind) -> None:
    """An accepted message takes one permission."""
    async with wechat(kind) as rig:
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is Outcome.ACCEPTED
        assert await permissions(rig) == 999


async def test_permission_missing() -> None:
    """Without a permission WeChat must not be asked, and the words must say what to do."""
    async with wechat("mini_program") as rig:
        (answer,) = await rig.channel.send([message(1, to=STRANGER)])
        assert answer.outcome is Outcome.REJECTED_RECIPIENT
        assert "allow" in answer.detail
        assert not rig.simulator._calls_made


@pytest.mark.parametrize(
    ("code", "left"),
    [("-1", 1000), ("45011", 1000), ("45009", 1000), ("47003", 1000), ("40003", 1000), ("40001", 1000), ("43101", 999)],
)
async def test_permission_after_refusal(code: str, left: int) -> None:
    """What was surely not sent gives its permission back, unless WeChat says that there was none."""
    async with wechat("mini_program") as rig:
        rig.simulator.fail_with = code
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is not Outcome.UNKNOWN
        assert await permissions(rig) == left


@pytest.mark.parametrize("situation", [Situation.CUTS_ANSWER, Situation.SERVER_ERROR, Situation.STRANGE_CODE])
async def test_permission_after_doubt(situation: Situation) -> None:
    """What may have been sent must not be paid with the same permission again."""
    async with wechat("mini_program") as rig:
        await rig.arrange(situation)
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is Outcome.UNKNOWN
        assert await permissions(rig) == 999


async def test_permission_for_long() -> None:
    """Templates with a lasting permission and official template messages spend none."""
    async with wechat("mini_program") as rig:
        options = msgspec.structs.replace(rig.channel._options, long_term=frozenset({TEMPLATE}))
        rig.channel._options = options
        rig.simulator.grants[STRANGER, TEMPLATE] = 1
        (answer,) = await rig.channel.send([message(1, to=STRANGER)])
        assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("kind", ["oa_template", "oa_subscribe", "mini_program"])
async def test_person_who_left(kind: Kind) -> None:
    """A follower who left is refused as recipient by template messages only."""
    async with wechat(kind) as rig:
        await rig.simulator.unfollow(OPENID)
        assert [heard.gone for heard in rig._heard] == [(("wechat", OPENID),)]
        (answer,) = await rig.channel.send([message(1)])
        assert answer.outcome is (Outcome.REJECTED_RECIPIENT if kind == "oa_template" else Outcome.ACCEPTED)


async def test_over_long_value_does_not_lose_the_message() -> None:
    """A value of any length must arrive, cut."""
    async with wechat() as rig:
        (answer,) = await rig.channel.send([message(1, what="很长的商品名称" * 9)])
        assert answer.outcome is Outcome.ACCEPTED
        (taken,) = rig.simulator.taken
        assert len(taken.fields["words"]["thing1"]) == 20


async def test_quotas_of_the_simulator() -> None:
    """Calls above the quota must come back with the code and the time of each span."""
    async with wechat() as rig:
        rig.simulator.clock = Clock(NOON)
        rig.simulator.per_minute = 1
        answers = [(await rig.channel.send([message(number)]))[0] for number in (1, 2)]
        assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED, Outcome.THROTTLED]
        rig.simulator.per_day = 1
        (answer,) = await rig.channel.send([message(3)])
        assert answer.outcome is Outcome.CHANNEL_DOWN
        assert answer.retry_after_s > 0


def test_templates_are_read_and_compared() -> None:
    """Templates and keys that are configured, but that the account lacks, must be named."""
    official = b'{"template_list":[{"template_id":"A","title":"t","content":"{{thing1.DATA}}"}]}'
    subscribe = b'{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"A","title":"t","content":"{{thing1.DATA}}"}]}'
    assert read_templates(official) == read_templates(subscribe) == {"A": "{{thing1.DATA}}"}
    assert read_templates(b'{"errcode":48001,"errmsg":"api unauthorized"}') is None
    assert read_templates(b"[]") is None
    findings = compare_keys({"A": {"x": "thing1", "y": "thing2", "z": ""}, "B": {}}, {"A": "{{thing1.DATA}}"})
    assert [finding.fine for finding in findings] == [False, False]
    assert "thing2" in findings[0].words
    assert "'B'" in findings[1].words


async def test_check_names_what_is_missing() -> None:
    """An account without the template, or a channel without callback token, must be told of."""
    async with wechat() as rig:
        rig.simulator.templates = {}
        assert [finding.fine for finding in await rig.channel.check()] == [True, False]
        rig.channel._options = msgspec.structs.replace(rig.channel._options, message_token="", keys={})
        assert [finding.fine for finding in await rig.channel.check()] == [True, False]
        await rig.arrange(Situation.GONE)
        assert [finding.fine for finding in await rig.channel.check()] == [False]


async def ask(simulator: WeChatSimulator, target: str, body: object, method: str = "POST") -> dict[str, Any]:
    """Ask the simulator itself, without a channel."""
    path, _, query = target.partition("?")
    answered = await simulator.answer(Asked(method, path, query, {}, json.dumps(body).encode()))
    return msgspec.json.decode(answered.body, type=dict[str, Any])


TOKEN = "/cgi-bin/stable_token"


async def test_simulator_hands_out_the_same_token_until_its_last_minutes() -> None:
    """The token changes five minutes before its end, and the old one stays good until then."""
    clock = Clock(NOON)
    simulator = WeChatSimulator(templates={}, secret="s", clock=clock)
    want = {"grant_type": "client_credential", "appid": simulator.appid, "secret": "s"}
    given = []
    for passed_s in (0, 6_800, 6_901, 7_199, 7_201):
        clock.at = NOON + timedelta(seconds=passed_s)
        given.append(await ask(simulator, TOKEN, want))
        listed = await ask(simulator, f"/wxaapi/newtmpl/gettemplate?access_token={given[0]['access_token']}", {}, "GET")
        assert listed["errcode"] == (0 if passed_s < 7_200 else 42001)
    tokens = [one["access_token"] for one in given]
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3] == tokens[4]
    assert [one["expires_in"] for one in given[:3]] == [7_200, 400, 7_200]


async def test_simulator_limits_forced_tokens() -> None:
    """A forced token ends the one before at once, not more often than every 30 seconds and 20 times a day."""
    clock = Clock(NOON)
    simulator = WeChatSimulator(templates={}, secret="s", clock=clock)
    want = {"grant_type": "client_credential", "appid": simulator.appid, "secret": "s", "force_refresh": True}
    codes = []
    for number in range(22):
        clock.at = NOON + timedelta(seconds=31 * number)
        codes.append((await ask(simulator, TOKEN, want)).get("errcode", 0))
        if number == 0:
            assert (await ask(simulator, TOKEN, want))["errcode"] == 45011
    assert codes == [0] * 20 + [45009] * 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"touser": "x"}, 40003),
        ({"template_id": "x"}, 40037),
        ({"touser": "oBlacklisted"}, 43019),
        ({"touser": "oStranger"}, 43101),
        ({"page": "pages/none?x=1"}, 41030),
        ({"data": {"thing1": {"value": "长" * 21}}}, 47003),
        ({"data": {"thing1": {"value": ""}}}, 47003),
        ({"data": {}}, 47003),
        ({"data": {"thing1": {"value": "a"}, "thing2": {"value": "a"}}}, 47003),
        ({"data": []}, 47003),
        ({}, 0),
    ],
)
async def test_simulator_checks_messages(change: dict[str, object], code: int) -> None:
    """Each rule that is broken must have WeChat's code; a rejected message is not taken."""
    simulator = WeChatSimulator(templates={"T": ["thing1"]}, secret="s")
    simulator.blacklisted.add("oBlacklisted")
    simulator.grants["oPerson", "T"] = 1
    simulator.pages = frozenset({"pages/order"})
    want = {"grant_type": "client_credential", "appid": simulator.appid, "secret": "s"}
    token = (await ask(simulator, TOKEN, want))["access_token"]
    good = {"touser": "oPerson", "template_id": "T", "page": "pages/order", "data": {"thing1": {"value": "好"}}}
    target = "/cgi-bin/message/subscribe/send"
    said = await ask(simulator, f"{target}?access_token={token}", good | change)
    assert said["errcode"] == code
    assert len(simulator.taken) == (code == 0)
    assert (await ask(simulator, target, good))["errcode"] == 41001
    assert (await ask(simulator, f"{target}?access_token=x", good))["errcode"] == 40001
    assert (await ask(simulator, f"{target}?access_token={token}", good, "GET"))["errcode"] == 43002
    assert (await ask(simulator, f"{target}?access_token={token}", [1]))["errcode"] == 47001
