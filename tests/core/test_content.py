"""The content check: what carriers refuse is found however it is spelt, and honest news of orders passes."""

from collections.abc import Callable, Iterator
from typing import get_args

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from orderbell.core import content
from orderbell.core.content import RULES, Rule, content_problems, texts_of, wording_content_problems
from orderbell.core.events import ChannelName
from orderbell.core.wording import TONES, VARIABLES, WordingSpec, compile_wording
from orderbell.playbooks import SHIPPED, SHIPPED_NAMES

LOCALES = ("zh-CN", "en")
SAMPLES: dict[str, str | int] = {
    "code": "20260302001",
    "text": "腕表",
    "money": 15_200,
    "date": 1_772_409_600,
    "span": 7_200,
}
# What may stand between letters without being seen as one.
SEPARATORS = [
    " ", "　", "\u00a0", "\u200b", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u3164", "\u0301", "\ud800",
    ".", "·", "★", "/", "-", "_", "*", "｜", "、", "丶", "😀", "\n",
]  # fmt: skip

HONEST = """
【小店】您的订单20260302001已付款，我们马上开始处理，谢谢！
【小店】您的订单20260302001已由顺丰发出，单号SF1234567890123，预计3月5日送达，请保持电话畅通。
【小店】您的订单20260302001正在派送，快递员电话13800138000，请保持电话畅通。
【小店】您的快递已到达菜鸟驿站，取件码3-2-1024，请于今晚20点前取件。
【菜鸟驿站】您的包裹已到小区东门快递柜，取件码88661234，逾期将收取保管费。
【小店】退款152元已原路退回，请查收。谢谢您的耐心！
【小店】验证码482913，5分钟内有效，请勿告诉他人。
【小店】您的登录验证码为1024，如非本人操作请忽略。
【小店】您购买的卡密已发放，请到订单页查看，谢谢！
【小店】订单支付未成功（银行卡异常），请核对账户后再次支付。
【小店】订单支付未成功（余额不足），请换一种方式支付。
【小店】提现成功！1,520元已到您的账户，请查收。
【小店】抱歉让您久等，送您一张券，下单即可使用。
【小店】送您一张20元优惠券，本月内有效。拒收请回复R
【小店】您有一张优惠券即将到期，请尽快使用。回T退订
【小店】好久不见！送您一张满100减20元的优惠券：https://shop.example/c 拒收请回复R
【小店】尊敬的客户，您的订单已发货，如有疑问请致电400-888-6666，或点击 https://shop.example/o/1 查看。
【小店】尊敬的会员，您的订单20260302001有部分商品缺货，可换货或退款，请登录APP选择。
【小店】尊敬的用户，您的电子发票已开具，请点击 https://shop.example/f/1 下载。
【小店】您的增值税专用发票已寄出，单号SF1234567890123，请注意查收。
【小店】因航班延误，您的包裹可能晚1-2天送达，敬请谅解。
【小店】因天气原因，快递停滞，给您带来不便，敬请谅解。客服电话400-888-6666。
【小店】您的招商银行卡支付未成功，请登录APP重新支付。
【小店】您用工商银行信用卡支付的订单已过期，如仍需要请重新下单。
【小店】您寄售的腕表已通过鉴定，编号#A1024，马上准备上架。
【小店】您寄售的手表因机械故障未通过审核，我们会联系您安排退回。
【小店】您寄售的18K彩金项链已售出，5,200元！请登录APP确认收款账户。
【小店】到期货物将安排退回，请补充开户行和收款人姓名。
【小店】本地产品已从新建仓库发出，整体彩色包装，请当面验货。
【小店】请在线下注册门店出示取货码，凭线下卡券核销。
【小店】您的一次性服务订单已完成，谢谢您的信任！
【小店】您的特色情侣手链已发出，订单20260302001。
【小店】商场外取件柜已开放，取件码1024。
【小店】您的牙刷手柄已补发，原订单无需退回。
【小店】补偿金额20元已退到您的账户，请查收。
【小店】如需开票，请在订单页填写抬头和税号。
【小店】请添加收货地址，否则无法发货。
【小店】更加微小的划痕也会如实告诉您，谢谢您的信任。
【小店】请用微信支付尾款120元，订单保留24小时。
【小店】运费已加，微信支付或支付宝均可付款。
【小店】关注订单页，可随时查看物流进展。
【小店】请第一时间当面验货，有破损请拒收。
【小店】您的话费充值100元已到账，订单20260302001。
【小店】QQ会员已充值到账，请查收。
【小店】价格待您确认：同意请回复Y，延期请回复“延期3天”。
【小店】您对订单的反馈已收到，专人正在处理，2小时内答复您。
【小店】會員您好，您的訂單已送達，感謝您的支持！
【小店】您的訂單已發出，預計三日內送達，請保持電話暢通。
【小店】赵喆先生，您的订单已签收，谢谢！
ご注文の商品を発送しました。お届けまで今しばらくお待ちください。
Shop: Your order 20260302001 is on its way with SF Express, tracking number SF1234567890123.
Shop: Your verification code is 482913. It is valid for 5 minutes.
Shop: We received your payment of CNY 152 for order A-1024 and are getting to work. More news within 2 h.
Shop: Your refund of CNY 152.00 has been paid back the way you paid. Thank you for your patience!
Shop: Sorry, order A-1024 was cancelled (out of stock). The refund arrives in 1-3 working days, and a coupon is yours.
Shop: Your parcel can be collected at Lucas in Oslo. Please pick it up soon.
Shop: Your watch is on sale now. We tell you at once when somebody makes an offer. Good luck!
Shop: Congratulations, your ring was sold for CNY 5,200! Please confirm your account in the app.
Shop: Dear customer, your parcel is at the desk. Call 0755-88886666 or see https://shop.example/o/1.
Shop: It has been a while: here is a coupon of CNY 20 for your next order. Reply TD to opt out.
Shop: Free delivery is included with order A-1024.
Shop: You may exchange it or have a refund. Reply 1 or 2. Reply STOP to opt out.
Shop: Your key for order A-1024 is on the order page. Happy gaming!
Магазин: ваш заказ 1024 отправлен, спасибо!
Κατάστημα: η παραγγελία σας 1024 στάλθηκε.
""".strip().splitlines()

REFUSED: list[tuple[str, str, Rule]] = [
    ("今晚开百家乐，欢迎试手", "百家乐", "gambling"),
    ("Our CASINO is open", "casino", "gambling"),
    ("本店另有裸聊", "裸聊", "pornography"),
    ("凭订单可办贷款", "贷款", "loan"),
    ("Ask us for a loan.", "loan", "loan"),
    ("可代开各种票", "代开", "false_papers"),
    ("本店另售高仿手表", "高仿", "counterfeit"),
    ("A replica for half of it", "replica", "counterfeit"),
    ("随单附送牛股一支", "牛股", "investment"),
    ("诚邀您兼职好评", "兼职", "job_bait"),
    ("恭喜您中奖了", "中奖", "fraud"),
    ("请汇款，建行卡号6222000000000000001", "建行卡号6222000000000000001", "fraud"),
    ("本店同时售楼", "售楼", "blocked_trade"),
    ("有事请加微信", "加微信", "contact_bait"),
    ("售后请联系QQ", "联系qq", "contact_bait"),
    ("加V：shop8864", "加v", "contact_bait"),
    ("订单详情见 t.cn/A6abc", "t.cn", "hidden_link"),
    ("See https://93.184.216.34/o", "https://93.184.216.34", "hidden_link"),
    ("国家级工艺，值得收藏", "国家级", "superlative"),
    ("百分百满意", "百分百", "guarantee"),
    ("订单已发货，請儘快查點", "請儘點", "disguised"),
    ("优一惠一就一在一今天", "一惠一就一在一", "disguised"),
    ("价值ooo元", "ooo", "disguised"),
    ("尊敬的会员，全场低至3折，点击领券", "percentage off, 尊敬, 会员, 全场, 低至, 点击, 领券", "spam_like"),
    ("FREE prize!!! Click here: https://shop.example", "link, shouting, free, prize, click here", "spam_like"),
]


@pytest.mark.parametrize("text", HONEST)
def test_content_of_honest_news_passes(text: str) -> None:
    """News of orders, codes, refunds and an honest promotion are no spam, in whatever language."""
    assert content_problems(text) == []


@pytest.mark.parametrize(
    "word", ["退款", "付款", "快递", "验证码", "卡密", "订单", "优惠券", "送您一张券", "提现", "银行卡异常", "余额不足"]
)
def test_content_of_ordinary_words_passes(word: str) -> None:
    """What every order talks about is never refused."""
    assert content_problems(word) == []


@pytest.mark.parametrize(("text", "word", "rule"), REFUSED)
def test_content_is_refused(text: str, word: str, rule: Rule) -> None:
    """The word found is told, by which rule, and what to write instead."""
    [problem] = content_problems(text)
    assert (problem.word, problem.rule) == (word, rule)
    assert problem.message == f"{word!r} {RULES[rule][0]}"
    assert problem.remedy == RULES[rule][1]


def test_every_rule_has_an_example() -> None:
    """No rule goes untested."""
    assert {rule for _, _, rule in REFUSED} == set(get_args(Rule)) == RULES.keys()


def test_content_with_several_faults_names_them_all() -> None:
    """All that is wrong is told at once, each word once."""
    found = [(problem.word, problem.rule) for problem in content_problems("代开发票，办贷款，代开，加微信")]
    assert found == [("代开", "false_papers"), ("贷款", "loan"), ("加微信", "contact_bait")]


def test_order_may_be_polite_but_not_shrill() -> None:
    """What speaks of an order may have more traits, yet not any number of them."""
    polite = "尊敬的会员，点击 https://shop.example 查看"
    assert [problem.rule for problem in content_problems(polite)] == ["spam_like"]
    assert content_problems(polite + "订单") == []
    assert [problem.rule for problem in content_problems(polite + "订单，抢购特价")] == ["spam_like"]


def test_traits_of_one_kind_count_up_to_their_cap() -> None:
    """Any number of ways to say hurry is one trait."""
    assert content_problems("立即赶快赶紧火速，逾期作废，先到先得，仅剩今晚") == []


@pytest.mark.parametrize(
    "text", ["代　开", "代.开", "代\u200b开", "代 丶 开", "貸款", "贷＊款", "ＣＡＳＩＮＯ", "𝐜𝐚𝐬𝐢𝐧𝐨", "ⓒⓐⓢⓘⓝⓞ", "🅒🅐🅢🅘🅝🅞", "саѕіnо",
             "c a s i n o", "cás1n0", "加徽信", "加薇❤信", "➕威信", "加Ｖ信", "加ⓥ❶❷❸", "扣扣群", "百家樂"]
)  # fmt: skip
def test_disguise_hides_nothing(text: str) -> None:
    """Other shapes of letters, marks between them and characters that sound alike do not help."""
    assert content_problems(f"您好，{text}")


@pytest.mark.parametrize(
    "text",
    ["Lucas in Oslo", "floan", "loaner car", "参加微信活动", "加购后用微信", "加video", "附加VAT", "我们一一核对"],
)
def test_words_that_only_hold_a_refused_one_pass(text: str) -> None:
    """A word in Latin letters counts by itself only, and a chat only where people are called into it."""
    assert content_problems(text) == []


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800\udfff\u202e\u200f😀👨‍👩‍👧🇨🇳")
@example("c" * 3 + " " * 3 + "\ufdfa")
def test_content_check_takes_any_text(text: str) -> None:
    """No text makes it fail, and what it says is one of its rules."""
    assert all(problem.word and problem.rule in RULES for problem in content_problems(text))


@given(
    st.sampled_from([*content._RULE_OF.items(), *content._LATIN_KINDS.values()]).filter(
        lambda found: found[1] in RULES
    ),
    st.lists(st.sampled_from(SEPARATORS), max_size=3).map("".join),
    st.sampled_from(
        [str, str.upper, lambda word: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word)]
    ),
    st.sampled_from(["", "您好，", "Hello, "]),
)
def test_forbidden_word_is_found_however_it_is_spread(
    kind: tuple[str, str], between: str, shape: Callable[[str], str], before: str
) -> None:
    """Blanks, marks and what is invisible between its letters, capitals and full width never hide a word."""
    word, rule = kind
    text = before + between.join(shape(word)) + between
    assert rule in {problem.rule for problem in content_problems(text)}


@pytest.mark.parametrize(
    "piece", ["a b ", "1", "加我", "送1", "回a", "一二", "c a s i n ", "0o", "。", "\u200b", "卡号"]
)
def test_content_check_of_a_very_long_text_ends(piece: str) -> None:
    """The time is linear, so a text of any length is checked."""
    content_problems(piece * 50_000)


def spec_of(locale: str, **changes: object) -> WordingSpec:
    """A shipped wording file with changes."""
    tree = yaml.safe_load((SHIPPED / "wording" / f"{locale}.yaml").read_text(encoding="utf-8"))
    return msgspec.convert(tree | changes, WordingSpec)


def rendered(locale: str, playbook: str) -> Iterator[str]:
    """Every text of a locale as people get it: all topics, channels and tones, with values and without."""
    wording = compile_wording(spec_of(locale), "小店", (playbook,))
    known = {name: SAMPLES[variable.kind] for name, variable in VARIABLES.items()}
    for topic in sorted(wording.topics):
        for channel in get_args(ChannelName):
            for tone in TONES:
                for values in (known, {"order_no": "A-1024"}):
                    text = wording.compose(topic, channel, tone, values, timezone="Asia/Shanghai", marketing=True)
                    if text is not None:
                        yield f"{text.subject} {text.text}"


@pytest.mark.parametrize("playbook", SHIPPED_NAMES)
@pytest.mark.parametrize("locale", LOCALES)
def test_shipped_texts_pass_as_people_get_them(locale: str, playbook: str) -> None:
    """No text that ships is refused, whatever its channel and tone."""
    texts = set(rendered(locale, playbook))
    assert len(texts) > 200
    assert [(text, problem) for text in sorted(texts) for problem in content_problems(text)] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_shipped_wording_passes(locale: str) -> None:
    """No word of a shipped file is refused."""
    assert wording_content_problems(spec_of(locale)) == []


def test_texts_of_a_wording_have_the_paths_of_the_file() -> None:
    """Every place where words can stand is read; phrases are written out, and variables are an 8."""
    spec = spec_of(
        "en",
        phrases={"because": " ({reason})"},
        texts={
            "paid": {"sms": ["Paid{because}, {brand}."], "push": {"calm": "P", "sorry": "S"}, "email": {"subject": "U", "text": "E"}},
            "late": {"sms": {"calm": ["C"], "amends": ["A", "B"]}, "wechat": "W", "inbox": "I"},
        },
        playbooks={"own": {"paid": {"sms": ["O {order_no}"]}}},
        defaults={"title": "item"}, reasons={"out": "R"}, carriers={"SF": "K"}, kinds={"腕表": "watch"},
    )  # fmt: skip
    found = dict(texts_of(spec))
    assert found[("texts", "paid", "sms", 0)] == "Paid (8), ."
    assert found[("playbooks", "own", "paid", "sms", 0)] == "O 8"
    assert found[("texts", "late", "sms", "amends", 1)] == "B"
    assert {
        ("signature",), ("subject",), ("opt_out",), ("phrases", "because"), ("defaults", "title"), ("reasons", "out"),
        ("carriers", "SF"), ("kinds", "腕表"), ("texts", "paid", "push", "sorry"), ("texts", "paid", "email", "subject"),
        ("texts", "paid", "email", "text"), ("texts", "late", "wechat"), ("texts", "late", "inbox"),
    } <= found.keys()  # fmt: skip
    assert not {path[0] for path in found} & {"locale", "date", "months", "spans", "lengths"}


def test_wording_with_refused_words_is_told_by_path() -> None:
    """Each text is named by its path; what a phrase holds is told once, at the phrase."""
    spec = spec_of(
        "zh-CN",
        phrases={"bait": "，{reason}请加微信"},
        texts={"paid": {"sms": ["订单{order_no}已付款{bait}", "可代开发票{bait}"]}},
        playbooks={"own": {"paid": {"sms": ["今日中奖"]}}},
    )
    found = [(problem.path, problem.message.split(" ")[0]) for problem in wording_content_problems(spec)]
    assert sorted(found, key=str) == [
        (("phrases", "bait"), "'加微信'"),
        (("playbooks", "own", "paid", "sms", 0), "'中奖'"),
        (("texts", "paid", "sms", 1), "'代开'"),
    ]
