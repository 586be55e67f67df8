"""The words: what they say, that they always fit, and that values never become texts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.events import ChannelName
from orderbell.core.forms import FEN_MAX
from orderbell.core.model import Order, Tone
from orderbell.core.segments import is_gsm, measure
from orderbell.core.wording import (
    TONES,
    VARIABLES,
    Text,
    Wording,
    WordingProblem,
    WordingSpec,
    compile_wording,
    longest,
    sms_problems,
)
from tests.core.values import ANY_VALUES, INJECTIONS
from tests.house.tree import PACKAGE

BRANDS = {"zh-CN": "叮咚", "en": "OrderBell"}
SIGNATURES = {"zh-CN": "【叮咚】", "en": "OrderBell: "}
LINEAGES = ((), ("base", "retail"), ("base", "digital"), ("base", "consignment"))
CHANNELS: tuple[ChannelName, ...] = get_args(ChannelName)
AT = 1_772_956_800  # 2026-03-08T16:00+08:00
VALUES: dict[str, str | int] = {
    "order_no": "123456", "tracking_no": "YT7788990011", "title": "羊毛围巾", "kind": "腕表", "reason": "余额不足",
    "parcel_reason": "carrier.weather", "carrier": "YTO", "place": "杭州", "amount": 19900, "price": 9800000,
    "sum": 9950, "promised": AT, "until": AT, "next": 7200,
}  # fmt: skip


@cache
def tree(locale: str) -> Mapping[str, Any]:
    """The shipped file as YAML gives it."""
    found: Mapping[str, Any] = yaml.safe_load((PACKAGE / "playbooks" / "wording" / f"{locale}.yaml").read_text("utf-8"))
    return found


@cache
def shipped(locale: str = "zh-CN", lineage: tuple[str, ...] = ()) -> Wording:
    """The shipped words of a locale."""
    return compile_wording(msgspec.convert(tree(locale), WordingSpec), BRANDS[locale], lineage)


def made(topics: Mapping[str, Any], locale: str = "zh-CN", brand: str = "", **parts: object) -> Wording:
    """The shipped file with other texts."""
    spec = msgspec.convert({**tree(locale), "texts": topics, "playbooks": {}, **parts}, WordingSpec)
    return compile_wording(spec, brand or BRANDS[locale])


def say(words: Wording, topic: str, channel: ChannelName = "sms", /, **values: str | int | None) -> Text:
    """A calm text with the usual values, some of them others, and without those that are None."""
    known = {name: value for name, value in {**VALUES, **values}.items() if value is not None}
    text = words.compose(topic, channel, "calm", known, timezone="Asia/Shanghai")
    assert text is not None
    return text


GOLDEN: dict[tuple[str, str, Tone], str] = {
    ("zh-CN", "payment_failed", "calm"): (
        "您的订单123456支付未成功（余额不足）。请核对账户，或换一种方式再次支付，谢谢！"
    ),
    ("zh-CN", "payment_received", "calm"): (
        "已收到您订单123456的付款99.50元，谢谢！我们马上开始处理，2小时内告诉您进展。"
    ),
    ("zh-CN", "stage_overdue", "sorry"): (
        "抱歉，您的订单123456让您久等了，比预计慢了。已转专人加急处理，2小时内告诉您进展。"
    ),
    ("zh-CN", "stage_overdue", "amends"): (
        "非常抱歉，您的订单123456让您久等了。专人正在加急，送您一张券致歉；不想再等也可以退款。"
    ),
    ("zh-CN", "sold", "calm"): (
        "您寄售的腕表（编号#123456）已售出，98,000元！请登录APP确认收款账户，买家验货后1-3个工作日打款。"
    ),
    ("zh-CN", "item_extended", "calm"): "您寄售的腕表（编号#123456）已为您延期至3月8日，谢谢您的信任！",
    ("en", "delivered", "calm"): (
        "Your order 123456 has been delivered. Thank you! If anything is wrong, please tell us."
    ),
    ("en", "sold", "calm"): (
        "Sold for CNY 98,000: your consigned watch (#123456). "
        "Confirm your account; we pay 1-3 working days after the buyer's check."
    ),
    ("en", "stage_overdue", "sorry"): (
        "We are sorry for the wait: your order 123456 takes longer than planned. "
        "Somebody is on it with priority. More news within 2 h."
    ),
}  # fmt: skip


@pytest.mark.parametrize(("locale", "topic", "tone"), GOLDEN)
def test_shipped_texts_read_as_written(locale: str, topic: str, tone: Tone) -> None:
    """A handful of texts, word for word, behind the signature."""
    found = shipped(locale).compose(topic, "sms", tone, VALUES, timezone="Asia/Shanghai")
    assert found is not None
    text = SIGNATURES[locale] + GOLDEN[locale, topic, tone]
    assert found == Text(text, "", tone, 0, measure(text).units, 1)


@pytest.mark.parametrize("lineage", LINEAGES)
@pytest.mark.parametrize("locale", BRANDS)
def test_shipped_sms_are_proved_to_fit(locale: str, lineage: tuple[str, ...]) -> None:
    """No shipped SMS can exceed one part or lack what it speaks of, whatever the values (S0-17)."""
    words = shipped(locale, lineage)
    assert sms_problems(words, sorted(words.topics)) == []
    assert all(
        say(words, topic, channel).text for topic in words.topics for channel in CHANNELS if words.has(topic, channel)
    )


@pytest.mark.parametrize("playbook", ["base", "retail", "digital", "consignment"])
@pytest.mark.parametrize("locale", BRANDS)
def test_every_notice_of_the_shipped_playbooks_has_words(locale: str, playbook: str) -> None:
    """Each topic that a playbook tells can be told."""
    text = (PACKAGE / "playbooks" / f"{playbook}.yaml").read_text("utf-8")
    assert set(yaml.safe_load(text)["notices"]) - shipped(locale).topics == set()


@pytest.mark.parametrize("locale", BRANDS)
def test_every_shipped_text_can_be_sent(locale: str) -> None:
    """With short values each SMS text of each ladder fits, so none was written for nothing."""
    numbers = {"amount": 100, "price": 100, "sum": 100, "promised": AT, "until": AT, "next": 7200}
    short: dict[str, str | int | None] = {**dict.fromkeys(VARIABLES, "1"), **numbers}
    texts = [(*at, "texts") for at in tree(locale)["texts"].items()] + [
        (*at, "playbooks") for texts in tree(locale)["playbooks"].values() for at in texts.items()
    ]
    for topic, spec, where in texts:
        sms = spec.get("sms", [])
        ladders = sms if isinstance(sms, dict) else {"calm": sms}
        for source in [source for ladder in ladders.values() for source in ladder]:
            assert say(made({topic: {"sms": [source]}}, locale), topic, **short).segments == 1, (where, source)


KEPT = {
    "payment_failed": ["支付"], "order_cancelled": ["退款", "1-3个工作日"], "stock_short": ["退款", "换"],
    "address_bad": ["地址"], "price_proposed": ["Y"], "item_expiring": ["延期"], "key_issued": ["收", "卡密", "发放"],
}  # fmt: skip


@pytest.mark.parametrize("topic", KEPT)
def test_shortest_text_keeps_number_cause_and_remedy(topic: str) -> None:
    """With the longest order number and names there still is the number, what happened and what to do (S0-18)."""
    number = "M" * 36
    text = say(shipped(), topic, order_no=number, title="长" * 99, reason="因" * 99, kind="类" * 99, sum=FEN_MAX - 1)
    assert text.units <= 70
    assert [word for word in [number, *KEPT[topic]] if word not in text.text] == []


def test_stock_shortage_with_a_long_title_keeps_number_and_refund() -> None:
    """The title is cut, not the order number (S0-17)."""
    title = "秋冬加厚保暖超长款连帽白鸭绒羽绒服男女同款情侣装防风防水户外登山滑雪服限量联名版"
    text = say(shipped(), "stock_short", order_no="202603020000123456789", title=title)
    assert text.text.startswith("【叮咚】抱歉，订单202603020000123456789的秋冬加厚保暖超长款连帽…缺货")
    assert [word for word in ("1等货", "2换货", "3退款") if word not in text.text] == []


def test_calm_payment_texts_neither_apologise_nor_offer() -> None:
    """Nothing went wrong, so nothing is made good (S1-33)."""
    assert not set("歉券") & set(say(shipped(), "payment_received").text)


def test_sold_item_is_never_named_by_its_title() -> None:
    """Whoever reads the phone over a shoulder learns the kind and the number only (S3-31)."""
    told = [topic for topic in shipped().topics if "寄售" in say(shipped(), topic, "inbox").text]
    assert [topic for topic in told if "title" in shipped().variables(topic)] == []
    assert "sold" in told


def test_unknown_values_leave_no_gap() -> None:
    """Phrases vanish, texts about something unknown are passed over, and kinds and titles have a general word."""
    bare: dict[str, str | int | None] = {**dict.fromkeys(VALUES), "order_no": "77"}
    assert say(shipped(), "payment_failed", **bare).text == (
        "【叮咚】您的订单77支付未成功。请核对账户，或换一种方式再次支付，谢谢！"
    )
    assert "您的订单77中的商品暂时缺货" in say(shipped(), "stock_short", **bare).text
    stalled = say(shipped(), "parcel_stalled", **bare)
    assert (stalled.variant, stalled.text) == (3, "【叮咚】抱歉，订单77的快递停滞，可能晚1-2天，已在催。")
    assert say(shipped(), "sold", **bare).text == "【叮咚】寄售#77已售，请确认账户。"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("carrier.weather", "（天气原因）"),
        ("carrier.never_heard_of", ""),
        ("insufficient_funds", "（余额不足）"),
        ("卡坏了", "（卡坏了）"),
        ("", ""),
        ("一二三四五六七八九十十一", "（一二三四五六七八九…）"),
    ],
)
def test_reasons_become_words(reason: str, shown: str) -> None:
    """Known codes are written out, unknown ones left out, and what a person wrote is taken as it is."""
    assert f"支付未成功{shown}。" in say(shipped(), "payment_failed", reason=reason).text


@pytest.mark.parametrize(
    ("fen", "short", "exact"),
    [
        (1520000, "15,200", "15,200.00"),
        (19950, "199.50", "199.50"),
        (5, "0.05", "0.05"),
        (FEN_MAX, "10,000,000,000", "10,000,000,000.00"),
        (FEN_MAX + 1, "", ""),
        (-1, "", ""),
    ],
)
def test_money_is_grouped_and_exact_in_mail(fen: int, short: str, exact: str) -> None:
    """An SMS shows the amount that stands out, a mail that of the receipt; what cannot be is not shown."""
    words = made({"x": {"sms": ["={sum}=", "=="]}})
    assert say(words, "x", sum=fen).text == f"【叮咚】={short}="
    assert say(words, "x", "email", sum=fen).text == f"={exact}="


@pytest.mark.parametrize(
    ("seconds", "timezone", "day"),
    [
        (AT, "Asia/Shanghai", "3月8日"),
        (AT + 8 * 3600, "Asia/Shanghai", "3月9日"),
        (AT + 8 * 3600, "America/New_York", "3月8日"),
        (AT, "Nowhere/At_All", "3月8日"),
        (AT, "../../etc/passwd", "3月8日"),
        (10**18, "Asia/Shanghai", ""),
        (-1, "Asia/Shanghai", ""),
        (253_402_214_400, "Pacific/Kiritimati", "12月31日"),
    ],
)
def test_dates_are_those_of_the_readers_zone(seconds: int, timezone: str, day: str) -> None:
    """The same instant is another day elsewhere; a zone that does not exist is UTC."""
    words = made({"x": {"sms": ["={until}=", "=="]}})
    text = words.compose("x", "sms", "calm", {"until": seconds}, timezone=timezone)
    assert text is not None
    assert text.text == f"【叮咚】={day}="


@pytest.mark.parametrize(
    ("seconds", "chinese", "english"),
    [
        (7200, "2小时内", "within 2 h"),
        (1800, "30分钟内", "within 30 minutes"),
        (30, "1分钟内", "within 1 minute"),
        (86400, "1天内", "within 1 day"),
        (172800, "2天内", "within 2 days"),
        (100_000, "28小时内", "within 28 h"),
        (5400, "90分钟内", "within 90 minutes"),
        (300_000, "4天内", "within 4 days"),
        (999 * 86400, "999天内", "within 999 days"),
        (1000 * 86400, "", ""),
        (0, "", ""),
    ],
)
def test_spans_promise_no_less_than_they_hold(seconds: int, chinese: str, english: str) -> None:
    """The time until the next word is rounded up, in the unit that people would use (S1-30)."""
    for locale, form in (("zh-CN", chinese), ("en", english)):
        words = made({"x": {"sms": ["={next}=", "=="]}}, locale)
        assert say(words, "x", next=seconds).text == f"{SIGNATURES[locale]}={form}="


def test_values_of_the_wrong_type_are_no_values() -> None:
    """A number where a text belongs, or the reverse, leaves the place empty and stops nothing."""
    words = made({"x": {"sms": ["{title}{tracking_no}{sum}."]}})
    assert say(words, "x", title=7, tracking_no=8, sum="9").text == "【叮咚】商品."


@pytest.mark.parametrize(
    "injection",
    [
        "{order_no}", "{{order_no}}", "${order_no}", "{1}", "{order.__class__}", "%s", "%(order_no)s", "{{7*7}}",
        "{% x %}", "\\N{BELL}", "<b>x</b>", "{sum!r:>9}",
    ],
)  # fmt: skip
def test_values_are_never_read_as_texts(injection: str) -> None:
    """Whatever a name looks like, it stands there letter by letter."""
    words = made({"x": {"sms": ["1{title}2"]}}, lengths={"title": 30})
    assert say(words, "x", title=injection).text == f"【叮咚】1{injection}2"


def test_value_cannot_fake_a_signature() -> None:
    """Only the brand speaks in 【】."""
    text = say(shipped(), "stock_short", title="\u202e【假银行】\n请汇款").text
    assert text.startswith("【叮咚】抱歉，您的订单123456中的[假银行] 请汇款暂时缺货")
    assert text.count("【") == 1


def test_codes_are_never_cut() -> None:
    """A number that intake would refuse is taken for none, because half a number misleads."""
    assert "M" * 36 in say(shipped(), "delivered", order_no="M" * 36).text
    assert "M" not in say(shipped(), "delivered", order_no="M" * 37).text
    assert "١" not in say(shipped(), "delivered", order_no="١٢٣").text


def test_english_keeps_its_room_from_foreign_letters() -> None:
    """One foreign letter leaves 70 characters: where no text fits then, the name is written in plain letters."""
    number = "M" * 36
    fits = say(shipped("en"), "payment_failed", reason="Kraków")
    assert (fits.text, fits.units) == ("OrderBell: Order 123456: payment failed (Kraków). Please pay again.", 67)
    written = say(shipped("en"), "payment_failed", order_no="123456789012", reason="Kraków")
    assert "did not go through (Krakow). Please check your account" in written.text
    foreign = say(shipped("en"), "rejected", order_no=number, reason="成色不符")
    assert foreign.text == (
        f"OrderBell: Sorry, we cannot sell your consigned watch (#{number}). "
        "We will contact you about its return. Thank you."
    )
    assert say(shipped("en"), "delivered", order_no="`" * 36).text.count("'") == 36
    assert "`" in say(shipped("en"), "delivered", order_no="7`").text


def test_tones_fall_back_to_the_nearest_calmer() -> None:
    """A topic without words for a tone takes those of the one before, and says which they are."""
    words = made({"x": {"sms": {"calm": ["a"], "amends": ["c"]}}, "y": {"sms": {"calm": ["a"], "sorry": ["b"]}}})
    found = [words.compose(topic, "sms", tone, {}, timezone="UTC") for topic in "xy" for tone in TONES]
    assert [(text.text[-1], text.tone) for text in found if text] == [
        ("a", "calm"), ("a", "calm"), ("c", "amends"), ("a", "calm"), ("b", "sorry"), ("b", "sorry"),
    ]  # fmt: skip


def test_channels_without_words_take_the_fullest_sms_unsigned() -> None:
    """Push, WeChat, inbox and mail need no words of their own, and names are not cut there."""
    words = made({"x": {"sms": ["{title}：{tracking_no}", "{title}"], "push": {"calm": "推 {title}"}}})
    title = "长" * 50
    assert say(words, "x", "push", title=title) == Text(f"推 {title}", "", "calm", 0, 52, 0)
    assert say(words, "x", "inbox", title=title).text == f"{title}：YT7788990011"
    assert say(words, "x", "wechat", title=title, tracking_no=None) == Text(title, "", "calm", 1, 50, 0)
    assert say(words, "x", "email").subject == "订单123456的新消息"


def test_topic_for_the_inbox_has_no_sms() -> None:
    """Words that were never meant for an SMS are no SMS; what has no words at all is None."""
    words = made(
        {"x": {"inbox": "有人看了{kind}"}, "m": {"email": {"subject": "s {order_no}", "text": "a\n\nb{sum}\n"}}}
    )
    assert words.compose("x", "sms", "calm", VALUES, timezone="UTC") is None
    assert say(words, "x", "push").text == "有人看了腕表"
    assert words.compose("m", "push", "calm", VALUES, timezone="UTC") is None
    assert words.compose("nothing", "sms", "calm", VALUES, timezone="UTC") is None
    assert say(words, "m", "email") == Text("a\n\nb99.50", "s 123456", "calm", 0, 9, 0)
    assert words.variables("m") == {"order_no", "sum"}
    assert words.variables("nothing") == set()
    assert [channel for channel in CHANNELS if words.has("x", channel)] == ["email", "push", "wechat", "inbox"]
    assert not words.has("nothing", "sms")


def test_mail_of_a_cancellation_explains_the_refund() -> None:
    """Number, cause, exact amount and time of the refund are there (S0-24)."""
    mail = say(shipped(), "order_cancelled", "email", reason="缺货")
    assert mail.subject == "订单123456已取消，退款说明"
    assert all(word in mail.text for word in ("123456", "缺货", "199.00", "1-3个工作日", "\n\n叮咚"))


def test_playbook_may_have_its_own_words() -> None:
    """A consignor's cancelled item is not refunded, so consignment says it otherwise."""
    assert "退款" in say(shipped("zh-CN", ("base", "retail")), "order_cancelled").text
    own = shipped("zh-CN", ("base", "consignment"))
    assert "退回" in say(own, "order_cancelled").text
    assert "kind" in own.variables("order_cancelled")


def test_marketing_ends_with_the_way_out() -> None:
    """The opt-out line is part of the SMS and of its proof (S0-30)."""
    words = made({"x": {"sms": ["中" * 66, "短"]}})
    text = words.compose("x", "sms", "calm", {}, timezone="UTC", marketing=True)
    assert text is not None
    assert text.text == "【叮咚】短拒收请回复R"
    assert [found.units for found in longest(words, ["x"], ["x"])] == [76, 11]
    assert [found.units for found in longest(words, ["x"])] == [70, 5]


def test_proof_names_topic_tone_length_and_remedy() -> None:
    """A text that could be too long is refused with all that is needed to mend it."""
    words = made({"x": {"sms": {"calm": ["短"], "sorry": ["字" * 70, "{order_no}的{title}" + "字" * 18]}}})
    (problem,) = sms_problems(words, ["x"])
    assert problem.path == ("texts", "x", "sms", "sorry", 1)
    assert problem.message == "the last SMS of x (sorry) can have 71 characters, 70 fit"
    assert problem.remedy == "shorten this text by 1, or add a shorter one after it"
    text = words.compose("x", "sms", "sorry", {"order_no": "M" * 36, "title": "长" * 99}, timezone="UTC")
    assert text is not None
    assert (text.units, text.segments) == (71, 2)


def test_proof_demands_a_text_that_needs_nothing_uncertain() -> None:
    """The last text must not speak of what may be unknown."""
    (problem,) = sms_problems(made({"x": {"sms": ["{title}{sum}到{place}"]}}), ["x"])
    assert "needs place, sum, which may be unknown" in str(problem)


def test_proof_counts_plain_english_in_septets() -> None:
    """Codes may take two septets a character; where default words or months are foreign, 70 is the limit."""
    texts = {"x": {"sms": ["Order {order_no} of {title}, {until}, {next}, " + "a" * 30]}}
    (found,) = longest(made(texts, "en"), ["x"])
    assert (found.units, found.units_max) == (11 + 16 + 30 + 72 + 24 + 6 + 18, 160)
    (found,) = longest(made(texts, "en", defaults={"title": "商品"}), ["x"])
    assert found.units_max == 70
    (found,) = longest(made(texts, "en", brand="叮咚"), ["x"])
    assert found.units_max == 70


@given(st.sampled_from(sorted(BRANDS)), st.sampled_from(LINEAGES), st.sampled_from(TONES), ANY_VALUES, st.booleans())
def test_any_values_make_one_signed_sms(
    locale: str,
    lineage: tuple[str, ...],
    tone: Tone,
    values: dict[str, str | int],
    newcomer: bool,
) -> None:
    """Every shipped SMS has one part and begins with the signature, whatever the values."""
    words = shipped(locale, lineage)
    for topic in words.topics:
        text = words.compose(topic, "sms", tone, values, timezone="Asia/Shanghai", newcomer=newcomer)
        if not words.has(topic, "sms"):
            assert text is None
            continue
        assert text is not None
        assert text.text.startswith(SIGNATURES[locale])
        size = measure(text.text)
        assert (size.parts, text.segments, text.units) == (1, 1, size.units)
        assert size.units <= (160 if is_gsm(text.text) else 70)
        assert text.text.count("【") == (locale == "zh-CN")
        assert "\n" not in text.text


@given(ANY_VALUES, st.sampled_from(CHANNELS))
def test_any_values_make_a_text_for_every_channel(values: dict[str, str | int], channel: ChannelName) -> None:
    """No value stops a message, to newcomers neither."""
    for topic in shipped().topics:
        for newcomer in (False, True):
            found = shipped().compose(topic, channel, "calm", values, timezone="UTC", newcomer=newcomer)
            assert (found is not None) is shipped().has(topic, channel)


def test_variables_read_an_order() -> None:
    """Raw values come from the order at decision time; what it does not know has none."""
    at = datetime.fromtimestamp(AT, UTC)
    bare = Order("t", "77", "retail", 1, "placed", at, at, at)
    assert {name: found.value(bare) for name, found in VARIABLES.items()} == {
        **dict.fromkeys(VARIABLES),
        "order_no": "77",
        "state": "placed",
    }
    full = msgspec.structs.replace(
        bare, amount_fen=1, price_fen=2, sum_fen=3, title="a", category="b", carrier="c", tracking_no="d", place="e",
        reason="carrier.weather", promised_by=at, until=at,
    )  # fmt: skip
    assert {name: found.value(full) for name, found in VARIABLES.items()} == {
        "order_no": "77", "tracking_no": "d", "title": "a", "kind": "b", "reason": "carrier.weather",
        "parcel_reason": "carrier.weather", "carrier": "c", "place": "e", "amount": 1, "price": 2, "sum": 3,
        "promised": AT, "until": AT, "next": None, "state": "placed", "choice": None, "link": None,
    }  # fmt: skip
    other = msgspec.structs.replace(full, reason="余额不足")
    assert VARIABLES["parcel_reason"].value(other) is None


@pytest.mark.parametrize(
    ("parts", "path", "words"),
    [
        ({"texts": {"x": {"sms": ["{order_number}"]}}}, "texts.x.sms.0", "there is no variable 'order_number'"),
        ({"texts": {"x": {"sms": ["{order_n}"]}}}, "texts.x.sms.0", "did you mean {order_no}?"),
        ({"texts": {"x": {"sms": ["{zzzzzz}"]}}}, "texts.x.sms.0", "use one of: order_no, tracking_no"),
        ({"texts": {"x": {"sms": ["{order.__class__}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["{sum:>9}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["{sum!r}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["{{order_no}}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["${order_no}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["{}"]}}}, "texts.x.sms.0", "only {name} is known"),
        ({"texts": {"x": {"sms": ["a\nb"]}}}, "texts.x.sms.0", "a line break"),
        ({"texts": {"x": {"sms": ["【别人】a"]}}}, "texts.x.sms.0", "the signature is put in front by itself"),
        ({"texts": {"x": {"email": {"subject": "a\nb", "text": "c"}}}}, "texts.x.email.text.subject", "a line break"),
        ({"texts": {"x": {"email": {"subject": "a", "text": "c\u202e"}}}}, "texts.x.email.text.0", "invisible"),
        ({"texts": {"x": {"sms": {"sorry": ["a"]}}}}, "texts.x.sms", "there is no calm text"),
        ({"texts": {"x": {"sms": {"calm": []}}}}, "texts.x.sms.calm", "a ladder without a text"),
        ({"texts": {"x": {"sms": ["a"] * 13}}}, "texts.x.sms", "write at most 12"),
        ({"texts": {"x": {"sms": {"calm": ["a"], "sorry": ["a"] * 13}}}}, "texts.x.sms.sorry", "a ladder of 13 texts"),
        ({"texts": {"x": {}}}, "texts.x", "a topic without a text"),
        ({"playbooks": {"p": {"x": {"sms": ["{no}"]}}}}, "playbooks.p.x.sms.0", "there is no variable 'no'"),
        ({"phrases": {"title": "{title}"}}, "phrases.title", "the name of a variable"),
        ({"phrases": {"brand": "{title}"}}, "phrases.brand", "the name of a variable"),
        ({"phrases": {"p": "always"}}, "phrases.p", "a phrase needs variables"),
        ({"phrases": {"p": "{q}", "q": "{title}"}}, "phrases.p", "a phrase needs variables"),
        ({"date": "{day}"}, "date", "a date needs its month and its day"),
        ({"months": ["Jan"]}, "months", "1 months"),
        ({"spans": {"minutes": "soon", "hours": "{count}", "days": "{count}"}}, "spans.minutes", "number is missing"),
        ({"spans": {"minutes": "{count}", "hours": ["1", "x"], "days": "{count}"}}, "spans.hours", "number is missing"),
        ({"signature": "【{order_no}】"}, "signature", "a signature has no values"),
        ({"lengths": {"order_no": 9}}, "lengths.order_no", "is no text"),
        ({"lengths": {"colour": 9}}, "lengths.colour", "is no text"),
        ({"defaults": {"sum": "0"}}, "defaults.sum", "is no text"),
        ({"defaults": {"kind": "一二三四五六七"}}, "defaults.kind", "is 7 long"),
        ({"choices": {"a": "一二三四五六七八九十"}}, "choices.a", "raise its entry under lengths (now 6)"),
        ({"texts": {"x": {"sms": ["a"], "explain": "{no}"}}}, "texts.x.explain", "there is no variable 'no'"),
        ({"texts": {"x": {"sms": ["a"], "explain": "a\nb"}}}, "texts.x.explain", "a line break"),
        ({"reasons": {"a.b": "一二三四五六七八九十一"}}, "reasons.a.b", "raise its entry under lengths (now 10)"),
    ],
)
def test_broken_file_is_refused_with_path_and_remedy(parts: dict[str, Any], path: str, words: str) -> None:
    """Each mistake names its place, what is wrong and how to mend it."""
    others = {name: part for name, part in parts.items() if name != "texts"}
    with pytest.raises(WordingProblem) as caught:
        made(parts.get("texts", {"x": {"sms": ["a"]}}), "zh-CN", "", **others)
    assert ".".join(map(str, caught.value.path)) == path
    assert words in str(caught.value)


def test_percent_signs_and_brands_stand_as_written() -> None:
    """Neither a text nor a brand is a format, and a brand cannot bring brackets of its own."""
    words = made({"x": {"sms": ["100%s {order_no} %d{brand}"]}}, brand="叮%s【咚】")
    assert say(words, "x").text == "【叮%s[咚]】100%s 123456 %d叮%s[咚]"


STATES = {"placed": "等付款", "anomaly.short": "缺货"}


def stated(state: str | None, topics: Mapping[str, Any] | None = None) -> str:
    """What is said of a state."""
    spec = msgspec.convert(
        {**tree("zh-CN"), "texts": topics or {"x": {"sms": ["={state}="]}}, "playbooks": {}}, WordingSpec
    )
    return say(compile_wording(spec, "叮咚", (), STATES), "x", state=state).text


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("placed", "等付款"),
        ("anomaly.short", "缺货"),
        ("lost", ""),
        ("anomaly.lost", ""),
        ("{order_no}", ""),
        (None, ""),
    ],
)
def test_states_are_said_in_the_words_of_the_playbook(state: str | None, shown: str) -> None:
    """A stage or anomaly with words says them; a code without words says the general word, never itself."""
    default = tree("zh-CN")["defaults"]["state"]
    assert stated(state) == f"【叮咚】={shown or default}="


def test_state_with_words_too_long_is_refused() -> None:
    """The words of a playbook have their greatest length like all others."""
    spec = msgspec.convert({**tree("zh-CN"), "texts": {"x": {"sms": ["a"]}}, "playbooks": {}}, WordingSpec)
    with pytest.raises(WordingProblem) as caught:
        compile_wording(spec, "叮咚", (), {"placed": "长" * 99})
    assert caught.value.path == ("states", "placed")


def test_choices_are_said_in_words() -> None:
    """An option has words, or nothing is said of it."""
    words = made({"x": {"sms": ["={choice}="]}}, defaults={"choice": "所选"})
    assert say(words, "x", choice="refund").text == f"【叮咚】={tree('zh-CN')['choices']['refund']}="
    assert say(words, "x", choice="free_money").text == "【叮咚】=所选="


def test_newcomers_read_the_explanation_on_every_channel() -> None:
    """What a topic explains stands behind each of its texts for those who are new, in an SMS where it fits."""
    texts = {
        "sms": {"calm": ["长文{title}", "短"], "sorry": ["歉"]}, "push": {"calm": "推", "sorry": "歉推"}, "inbox": "箱",
        "email": {"subject": "题", "text": "信"}, "explain": "（说明）",
    }  # fmt: skip
    words = made({"x": texts, "y": {"sms": ["无"]}, "z": {"inbox": "箱", "explain": "（说明）"}})

    def heard(channel: ChannelName, tone: Tone = "calm", topic: str = "x", title: str = "茶") -> str:
        text = words.compose(topic, channel, tone, {"title": title}, timezone="UTC", newcomer=True)
        assert text is not None
        return text.text

    assert (heard("sms"), heard("sms", "sorry")) == ("【叮咚】长文茶（说明）", "【叮咚】歉（说明）")
    assert (heard("push"), heard("push", "amends"), heard("inbox"), heard("email")) == (
        "推（说明）", "歉推（说明）", "箱（说明）", "信（说明）",
    )  # fmt: skip
    assert heard("wechat") == "长文茶（说明）"
    assert (heard("sms", topic="y"), heard("push", topic="z")) == ("【叮咚】无", "箱（说明）")
    assert say(words, "x", "push").text == "推"
    full = made({"x": {"sms": ["字" * 66], "explain": "（说明）"}})
    text = full.compose("x", "sms", "calm", {}, timezone="UTC", newcomer=True)
    assert text is not None
    assert (text.text, text.segments) == ("【叮咚】" + "字" * 66, 1)


def test_tones_of_a_topic() -> None:
    """A topic has a tone where one of its channels has words for it."""
    words = made(
        {"x": {"sms": {"calm": ["a"], "amends": ["c"]}}, "y": {"sms": ["a"], "push": {"calm": "a", "sorry": "b"}}}
    )
    assert [words.has_tone("x", tone) for tone in TONES] == [True, False, True]
    assert [words.has_tone("y", tone) for tone in TONES] == [True, True, False]
    assert not words.has_tone("nothing", "calm")


def test_widths_of_variables() -> None:
    """Whoever asks how long a variable can get must hear what a filled text keeps to."""
    words = made({"x": {"sms": ["{title}"]}})
    assert words.widths["title"] == VARIABLES["title"].max_count
    filled = say(words, "x", title="字" * 500).text.removeprefix("【叮咚】")
    assert len(filled) <= words.widths["title"]


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("name", ["title", "carrier", "place", "reason", "kind", "choice", "state"])
def test_value_alters_no_other_part_of_a_text(name: str, injection: str) -> None:
    """What stands before and behind a value is what stands there with any other; the value keeps to its room."""
    words = made({"x": {"sms": [f"前{{order_no}}中{{{name}}}后{{sum}}尾"]}})
    text = say(words, "x", **{name: injection})
    assert text.text.startswith("【叮咚】前123456中")
    assert text.text.endswith("后99.50尾")
    inner = text.text.removeprefix("【叮咚】前123456中").removesuffix("后99.50尾")
    assert len(inner.encode("utf-16-le")) // 2 <= VARIABLES[name].max_count
    assert (text.segments, text.text.count("【"), text.text.count("\u202e")) == (1, 1, 0)


@given(
    st.sampled_from(["title", "carrier", "place", "reason"]),
    st.integers(0, 30),
    st.sampled_from(["😀", "👨\u200d👩\u200d👧", "🇨🇳", "👋🏽", "é"]),
)
def test_emoji_at_the_limit_are_never_torn(name: str, before: int, emoji: str) -> None:
    """A surrogate pair or a joined emoji at the edge stands whole or not at all."""
    words = made({"x": {"sms": [f"{{{name}}}"]}})
    text = say(words, "x", **{name: "字" * before + emoji + "尾" * 30}).text
    assert text.encode("utf-8")
    shown = text.removeprefix("【叮咚】").rstrip("…").lstrip("字").rstrip("尾")
    assert shown in ("", emoji, "快递"), "or the default word, where not even the emoji has room"
