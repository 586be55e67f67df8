"""Texts in the form of each provider, and the rules that it has for them."""

import re

import pytest

from orderbell.channels.alibaba import VARIABLE_LENGTH_MAX as ALIBABA_LENGTH_MAX
from orderbell.channels.templates import (
    VARIABLE_LENGTH_MAX,
    WAY_OUT,
    Rule,
    Strikes,
    TemplateKind,
    check_count,
    check_keys,
    check_sign,
    check_template,
    hand_in,
    read_state,
    shared_keys,
    sms_type,
    suit_keys,
    template_kind,
    translate,
)
from orderbell.channels.wechat_values import fit, is_key
from orderbell.core.wording import VARIABLES, Template

WIDTHS = {name: min(variable.max_count or 6, 30) for name, variable in VARIABLES.items()}
SMS: tuple[TemplateKind, ...] = ("alibaba", "tencent")


def template(text: str, *, marketing: bool = False) -> Template:
    """A text with its variables."""
    return Template(text, tuple(re.findall(r"\{([a-z_]+)\}", text)), "paid", "calm", 0, marketing)


def broken(kind: TemplateKind, text: str, *, marketing: bool = False) -> dict[Rule, Strikes]:
    """The rules that a text breaks, and when that shows; every remedy must say something."""
    problems = check_template(kind, template(text, marketing=marketing), WIDTHS, 35)
    assert all(problem.message and problem.remedy for problem in problems)
    return {problem.rule: problem.strikes for problem in problems}


def test_text_in_the_form_of_each_provider() -> None:
    """Alibaba wants names, Tencent a number for every place, WeChat keys alone."""
    text = "订单{order_no}已付{sum}元，{order_no}。"
    assert translate("alibaba", text) == "订单${order_no}已付${sum}元，${order_no}。"
    assert translate("tencent", text) == "订单{1}已付{2}元，{3}。"
    assert translate("wechat", text) == "订单号：{{character_string1.DATA}}\n付款金额：{{amount2.DATA}}"
    assert translate("wechat", text, {"order_no": "thing4", "sum": ""}) == "订单号：{{thing4.DATA}}"
    assert [translate(kind, "好。") for kind in SMS] == ["好。", "好。"]


@pytest.mark.parametrize("kind", SMS)
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("订单{order_no}{carrier}已发货", Rule.ADJACENT),
        ("订单{order_no} {carrier}已发货", Rule.ADJACENT),
        ("{order_no}：{state}。", Rule.ONLY_VARIABLES),
        ("【叮咚】订单{order_no}已付款", Rule.FORBIDDEN_CHARACTER),
        ("订单{order_no}已付款¥{sum}", Rule.FORBIDDEN_CHARACTER),
        ("★订单{order_no}已付款", Rule.FORBIDDEN_CHARACTER),
        ("请看 https://shop.cn/{order_no}", Rule.LINK_IN_VARIABLE),
        ("请看 www.{place}.cn", Rule.LINK_IN_VARIABLE),
        ("请看 {place}.cn 或来电", Rule.LINK_IN_VARIABLE),
        ("请看 shop.cn/o/{order_no}", Rule.LINK_IN_VARIABLE),
        ("订单{order_no}的验证码", Rule.OTP_WORDS),
        ("订单{order_no}，" + WAY_OUT, Rule.WAY_OUT_IN_NOTICE),
        ("订" * 501, Rule.TOO_LONG),
    ],
)
def test_text_that_would_be_refused(kind: TemplateKind, text: str, rule: Rule) -> None:
    """Each rule must be found in a text that breaks it, and nothing else."""
    assert broken(kind, text) == {rule: Strikes.REVIEW}


@pytest.mark.parametrize("kind", SMS)
@pytest.mark.parametrize(
    "text",
    [
        "订单{order_no}已付款{sum}元，谢谢！",
        "详情见 https://shop.cn/help，订单{order_no}。",
        "Order {order_no}. We pack it next, {next}.",
        "订单{order_no}，{carrier}已发货",
        "好" * 500,
    ],
)
def test_text_that_keeps_the_rules(kind: TemplateKind, text: str) -> None:
    """Whole links, words between variables and 500 characters are allowed."""
    assert broken(kind, text) == {}


def test_marketing_must_let_people_out() -> None:
    """Marketing ends with the words that carriers ask for; with variables it is doubtful."""
    assert broken("alibaba", "新品上市，" + WAY_OUT, marketing=True) == {}
    assert broken("tencent", "New things. Reply TD to opt out.", marketing=True) == {Rule.NO_WAY_OUT: Strikes.REVIEW}
    doubtful = {Rule.MARKETING_VARIABLE: Strikes.PERHAPS}
    assert broken("alibaba", "您的{kind}可优先上架。" + WAY_OUT, marketing=True) == doubtful


def test_notice_that_sells_is_doubtful() -> None:
    """A coupon in a notice may be taken for marketing; in marketing it is at home."""
    assert broken("alibaba", "抱歉，订单{order_no}晚到，送您一张券") == {Rule.SELLING_WORDS: Strikes.PERHAPS}
    assert broken("alibaba", "全场优惠，" + WAY_OUT, marketing=True) == {}


def test_type_under_which_a_text_is_handed_in() -> None:
    """Words for one-time passwords make a text one, whatever it was meant for; marketing stays marketing."""
    assert sms_type(template("订单{order_no}已付款")) == "notice"
    assert sms_type(template("您的动态码{order_no}")) == "otp"
    assert sms_type(template("新品" + WAY_OUT, marketing=True)) == "marketing"


def test_longest_value_must_fit() -> None:
    """Values that may be longer than the provider allows are a problem of single messages; 0 allows any length."""
    text = template("订单{order_no}：{title}，{title}")
    widths = {"order_no": 36, "title": 12}

    def found(kind: TemplateKind, most: int | None = None) -> list[str]:
        problems = check_template(kind, text, widths, most)
        assert {problem.strikes for problem in problems} <= {Strikes.SENDING}
        return [problem.message for problem in problems]

    assert found("alibaba") == ["{order_no} can be 36 characters long, 35 are allowed"]
    assert len(found("tencent")) == 2
    assert found("tencent", 12) == ["{order_no} can be 36 characters long, 12 are allowed"]
    assert found("tencent", 0) == []
    assert VARIABLE_LENGTH_MAX["alibaba"] == ALIBABA_LENGTH_MAX


def test_wechat_needs_a_variable() -> None:
    """WeChat shows no words of ours, so that a text without a variable would say nothing."""
    assert broken("wechat", "请核对您的联系方式") == {Rule.NO_VARIABLE: Strikes.REVIEW}
    assert broken("wechat", "{order_no}{carrier}★") == {Rule.VARIABLE_TOO_LONG: Strikes.SENDING}
    assert broken("wechat", "{title}") == {}


def test_suggested_keys_are_keys_and_take_our_values() -> None:
    """Every variable gets a key of a kind that WeChat has and that takes such values."""
    keys = suit_keys(VARIABLES)
    assert len(set(keys.values())) == len(VARIABLES)
    assert all(map(is_key, keys.values()))
    shown = {"order_no": "A-1", "sum": "1,280.50", "promised": "3月8日", "next": "2小时内", "title": "杯子" * 20}
    assert all(fit(keys[name], value) for name, value in shown.items())


def test_one_template_for_several_texts() -> None:
    """Only what all texts say gets a key, so that each of them can fill the template."""
    texts = [("sum", "order_no", "next"), ("order_no", "next"), ("order_no",)]
    keys = shared_keys(texts)
    assert keys == {"sum": "", "order_no": "character_string1", "next": ""}
    assert [check_keys(text, keys) for text in texts] == [None, None, None]


def test_text_that_cannot_fill_a_template() -> None:
    """A variable without a key and a key without a variable must both be told with a remedy."""
    keys = {"order_no": "character_string1", "sum": "amount2"}
    homeless, empty = check_keys(("order_no", "sum", "next"), keys), check_keys(("order_no",), keys)
    assert homeless is not None
    assert (homeless.message, homeless.rule) == ("next has no key of the template", Rule.KEYS)
    assert 'next = "…"' in homeless.remedy
    assert empty is not None
    assert empty.message == "nothing would fill amount2 (sum)"
    assert check_keys(("order_no", "sum"), keys) is None


@pytest.mark.parametrize(
    ("sign", "fine"), [("叮咚", True), ("OrderBell", True), ("叮", False), ("【叮咚】", False), ("", False)]
)
def test_signature(sign: str, fine: bool) -> None:
    """A signature has 2 to 12 letters and no brackets."""
    problem = check_sign(sign)
    assert (problem is None) == fine
    assert check_sign("叮" * 13) is not None


def test_more_templates_than_an_account_may_have() -> None:
    """Where the least number fits, that is the way to begin."""
    assert check_count("tencent", 200, 90) is None
    assert check_count("alibaba", 900, 900) is None
    problem, hopeless = check_count("tencent", 252, 94), check_count("wechat", 51, 51)
    assert problem is not None
    assert "94" in problem.remedy
    assert hopeless is not None
    assert "--needed" not in hopeless.remedy


def test_what_is_handed_in_at_alibaba() -> None:
    """Name, type, text, example and the attribute of each variable, as `CreateSmsTemplate` takes them."""
    text = template("订单{order_no}已发货，预计{promised}送达。")
    handed = hand_in("alibaba", text, "0123456789abcdef", "叮咚")
    assert (handed.name, handed.type, handed.type_name) == ("paid-01234567", "notice", "短信通知")
    assert handed.examples == (("order_no", "A1001"), ("promised", "3月8日"))
    assert "示例：订单A1001已发货，预计3月8日送达。" in handed.remark
    assert handed.request == {
        "TemplateName": handed.name, "TemplateContent": handed.content, "Remark": handed.remark, "TemplateType": 1,
        "RelatedSignName": "叮咚", "TemplateRule": '{"order_no":"others","promised":"time"}',
    }  # fmt: skip
    assert "TemplateRule" not in hand_in("alibaba", template("好"), "01234567").request


def test_what_is_handed_in_at_tencent() -> None:
    """Marketing is type 1, and examples go by place, as `AddSmsTemplate` and its reviewers want it."""
    handed = hand_in("tencent", template("新品{title}，" + WAY_OUT, marketing=True), "0123456789abcdef")
    assert handed.content == "新品{1}，" + WAY_OUT
    assert handed.examples == (("{1}", "陶瓷马克杯"),)
    assert (handed.request["SmsType"], handed.request["International"]) == (1, 0)
    assert hand_in("tencent", template("Your {title}."), "0123456789").examples == (("{1}", "ceramic mug"),)


def test_name_of_a_template_is_short_and_its_own() -> None:
    """Names have at most 30 characters and end with the digest."""
    long = Template("好", (), "a_topic_with_a_name_beyond_all_measure", "calm", 0, marketing=False)
    name = hand_in("alibaba", long, "0123456789abcdef").name
    assert len(name) == 30
    assert name.endswith("-01234567")


@pytest.mark.parametrize(
    ("kind", "words", "state"),
    [
        ("alibaba", "1", "approved"),
        ("alibaba", "0", "in_review"),
        ("alibaba", " Approving ", "in_review"),
        ("alibaba", "AUDIT_STATE_NOT_PASS", "rejected"),
        ("alibaba", "审核通过", "approved"),
        ("tencent", "0", "approved"),
        ("tencent", "1", "in_review"),
        ("tencent", "2", "in_review"),
        ("tencent", "-1", "rejected"),
        ("wechat", "1", None),
        ("wechat", "approved", "approved"),
        ("tencent", "", "in_review"),
        ("tencent", "fine", None),
    ],
)
def test_state_as_consoles_say_it(kind: TemplateKind, words: str, state: str | None) -> None:
    """The same number means another thing at each provider; what is unknown is never approved."""
    assert read_state(kind, words) == state


def test_kinds_of_providers() -> None:
    """Only those three approve templates."""
    assert template_kind("tencent") == "tencent"
    assert template_kind("twilio") is None
