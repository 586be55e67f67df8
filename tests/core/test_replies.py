"""The grammar of replies by SMS."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core import replies
from orderbell.core.replies import (
    AMBIGUOUS_WORDS,
    CHARS_MAX,
    COMPLAINT_WORDS,
    NO_WORDS,
    OPT_IN_WORDS,
    OPT_OUT_WORDS,
    OPTION_WORDS,
    STATUS_WORDS,
    TEXT_UNITS_MAX,
    THANKS_SIGNS,
    THANKS_WORDS,
    YES_WORDS,
    read_reply,
)
from orderbell.core.segments import clean, utf16_units

ANY_WORD = st.sampled_from(sorted(word for word in replies._KNOWN if word))
NASTY = st.sampled_from(
    [
        *"\x00\ud800\udfff\u200b\u202e\u2066\ufeff\ufe0f\u20e3\u0301ﷺ①Ｙ！？?。 \u3000\n👍😡",
        "TD",
        "退订",
        "延期3天",
        "骗",
        "scam",
    ]
)
TEXTS = st.lists(
    st.one_of(NASTY, ANY_WORD, st.text(st.characters(codec=None), max_size=4)), max_size=12
).map("".join)  # fmt: skip


def widen(text: str) -> str:
    """The text in full-width letters, digits and blanks."""
    return "".join(
        chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else "\u3000" if sign == " " else sign for sign in text
    )


def space(text: str, blank: str) -> str:
    """The text with blanks around it and wherever they do not part two digits."""
    inside = "".join(
        left if left.isdigit() and right.isdigit() else left + blank for left, right in pairwise(text + "x")
    )
    return blank + inside + blank


@pytest.mark.parametrize(
    "text",
    [
        "TD", "td", " T D ", "ＴＤ", "T", "R", "r.", "QX", "0000", "【TD】", "“退订”", "退订。", "退 订", "退订！！！", "\u200b退\u202e订",
        "td退订", "回复TD退订", "回复 td 退订", "回T", "回td退订", "拒收请回复R", "回复N", "Reply TD to opt out.", "Reply TD", "'STOP'",
        "stop", "StopAll", "stop all", "STOP ALL!", "unsubscribe", "END", "quit", "Revoke", "opt-out", "optout", "please stop",
        "取消订阅", "不要再发", "不要再发了", "拒收", "退定", "退訂", "我要退订", "请退订", "退订😡", "😡TD", "TD?", "-TD-", "T\x00D",
        "N", "退", "取消", "cancel", "ｃａｎｃｅｌ",
    ],
)  # fmt: skip
def test_opt_out_is_read_in_any_dress(text: str) -> None:
    """Opt-out words of carriers are understood in any width, case and punctuation (S0-30)."""
    assert read_reply(text).kind == "opt_out"


@pytest.mark.parametrize(
    "text",
    [
        "不要退订", "我不退订", "别退订", "TD-LTE phone broken", "TD-LTE", "tdd", "stopping", "don't stop", "nonstop", "how do I stop this",
        "回退", "退订了吗", "退订失败", "T恤", "R U there", "the end", "end of story", "请取消", "我要取消", "00000", "000", "0 0 0 0", "Y/N", "N/A",
        "stop please", "退订短信怎么发",
    ],
)  # fmt: skip
def test_opt_out_needs_the_whole_reply(text: str) -> None:
    """A word inside a sentence stops nothing."""
    assert read_reply(text).kind == "other"


@pytest.mark.parametrize(
    ("text", "kind", "declines", "option"),
    [
        ("N", "opt_out", True, ""),
        ("Ｎ。", "opt_out", True, ""),
        ("回复N", "opt_out", True, ""),
        ("N?", "opt_out", False, ""),
        ("TD", "opt_out", False, ""),
        ("取消", "opt_out", True, "cancel"),
        ("CANCEL", "opt_out", True, "cancel"),
        ("退", "opt_out", False, "refund"),
        ("no", "no", True, ""),
        ("不同意", "no", True, ""),
        ("不", "no", True, ""),
        ("否！", "no", True, ""),
        ("不用了，谢谢", "no", True, ""),
        ("No thanks", "no", True, ""),
        ("no 🙏", "other", False, ""),
        ("Y", "yes", False, ""),
        ("ｙ", "yes", False, ""),
        ("回Y", "yes", False, ""),
        ("回复Y", "yes", False, ""),
        ("Yes.", "yes", False, ""),
        ("是", "yes", False, ""),
        ("同意", "yes", False, ""),
        ("确认！", "yes", False, ""),
        ("好", "yes", False, ""),
    ],
)
def test_answers_say_whether_they_agree(text: str, kind: str, declines: bool, option: str) -> None:
    """Yes and no are told apart, and an ambiguous opt-out says what else it means."""
    reply = read_reply(text)
    assert (reply.kind, reply.declines, reply.option) == (kind, declines, option)


@pytest.mark.parametrize(
    "text",
    ["好的", "好的。", "OK", "ok👌", "收到", "👍", "嗯", "行", "Y?", "Y🤔", "好吧", "是吗", "请确认", "yes but later"],
)
def test_a_price_is_not_confirmed_by_courtesy_or_in_doubt(text: str) -> None:
    """Only a plain yes agrees to something that costs money (S3-29)."""
    assert read_reply(text).kind in {"thanks", "other"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1), ("２", 2), ("③", 3), ("一", 1), ("选1", 1), ("选 1", 1), ("1.", 1), ("1、", 1), ("1号", 1), ("option 1", 1), ("回复1", 1),
        ("回1", 1), ("(1)", 1), ("⑴", 1), ("⒈", 1), ("1️⃣", 1), ("㊀", 1), ("第二个", 2), ("我选择3", 3), ("方案二", 2), ("Two", 2), ("9", 9),
        ("1，谢谢", 1), ("1 please", 1),
        ("0", 0), ("10", 0), ("1 2", 0), ("12", 0), ("-1", 0), ("+1", 0), ("1?", 0), ("1.5", 0), ("$1", 0), ("1%", 0), ("十", 0),
    ],
)  # fmt: skip
def test_choice_is_a_number_from_one_to_nine(text: str, number: int) -> None:
    """Offered ways out are chosen by number in any script; anything near to it is read by a person."""
    reply = read_reply(text)
    assert (reply.kind, reply.number) == ("choice" if number else "other", number)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("等补货", "wait"), ("等", "wait"), ("I will wait", "wait"), ("换货", "exchange"), ("换货吧", "exchange"), ("Exchange please", "exchange"),
        ("退款", "refund"), ("我要退款", "refund"), ("我想退款，谢谢", "refund"), ("选退款", "refund"), ("申请退款", "refund"), ("I want a refund", "refund"),
        ("回复退款", "refund"), ("補發", "resend"), ("请补发", "resend"), ("resend", "resend"), ("取消订单", "cancel"), ("cancel my order", "cancel"),
        ("不要退款", ""), ("退款?", ""), ("退款到账了没有", ""), ("等等", ""), ("no refund", ""),
    ],
)  # fmt: skip
def test_option_is_chosen_in_words(text: str, option: str) -> None:
    """The ways out of S2-14 are understood in words, with a closed set of openings and endings."""
    reply = read_reply(text)
    assert (reply.kind, reply.option, reply.number) == ("choice" if option else "other", option, 0)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("延期3天", 3), ("延期３天", 3), ("延期三天", 3), ("延3天", 3), ("再延期 3 天", 3), ("延期一周", 7), ("“延期3天”", 3), ("延期两周", 14), ("延期2个星期", 14),
        ("请延期十天", 10), ("延期十五天", 15), ("延期二十天", 20), ("延期一百天", 100), ("延期一百零五天", 105), ("延期一百一十天", 110), ("延期两百天", 200),
        ("延期二百二十二日", 222), ("延期三百六十五天", 365), ("延期两百一十天吧", 210), ("延期3天，谢谢", 3), ("我要续期7天", 7), ("延期52周", 364), ("延期03天", 3),
        ("extend 3 days", 3), ("Extend 1 week", 7), ("extend by 3 days", 3), ("extend it for a week please", 7), ("extend ten days", 10), ("extend 3d", 3),
        ("'extend 3 days'", 3), ("reply extend 3 days", 3),
        ("延期0天", 0), ("延期366天", 0), ("延期53周", 0), ("延期1000天", 0), ("延期1.5天", 0), ("延期1-3天", 0), ("延期1 0天", 0), ("延期一个月", 0), ("延期", 0),
        ("延期十十天", 0), ("延期三百六十六天", 0), ("不延期3天", 0), ("延期3天?", 0), ("延期-3天", 0), ("3天", 0), ("extend 0 days", 0), ("延期零天谢谢", 0),
    ],
)  # fmt: skip
def test_extension_is_counted_in_days(text: str, days: int) -> None:
    """A consignment is extended by 1 to 365 days, and by nothing that is not exact (S3-29)."""
    reply = read_reply(text)
    assert (reply.kind, reply.number) == ("extend" if days else "other", days)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("查询", "status"), ("查", "status"), ("状态", "status"), ("物流", "status"), ("到哪了", "status"), ("到哪里了？？", "status"), ("请查询", "status"),
        ("Status", "status"), ("where is my order?", "status"), ("WHERE", "status"), ("track my order please", "status"), ("查快递，谢谢", "status"),
        ("订阅", "opt_in"), ("恢复订阅", "opt_in"), ("START", "opt_in"), ("unstop", "opt_in"), ("subscribe", "opt_in"), ("取消退订", "opt_in"),
        ("谢谢", "thanks"), ("谢谢！", "thanks"), ("好的，谢谢您", "thanks"), ("好的。谢谢", "thanks"), ("收到谢谢", "thanks"), ("知道了", "thanks"), ("Thank you", "thanks"),
        ("ok thanks", "thanks"), ("thx", "thanks"), ("👍", "thanks"), ("👍🏽👍🏽", "thanks"), ("❤️", "thanks"), ("谢谢🙏", "thanks"), ("3Q", "thanks"),
        ("投诉", "complaint"), ("我要投诉你们！", "complaint"), ("投 诉", "complaint"), ("你们就是骗子", "complaint"), ("打12315", "complaint"), ("ＳＣＡＭ", "complaint"),
        ("This is a scam!!", "complaint"), ("这是scam", "complaint"), ("scammers", "complaint"), ("I will call my lawyer", "complaint"), ("给差评", "complaint"),
        ("", "other"), ("   ", "other"), ("。。。", "other"), ("\x00", "other"), ("\ud800", "other"), ("😡", "other"), ("你好", "other"), ("😡👍", "other"),
        ("order 912315004", "other"), ("my camera", "other"), ("this camera", "other"), ("什么时候可以给我打电话", "other"), ("谢谢你把我的东西弄丢了", "other"),
    ],
)  # fmt: skip
def test_reply_has_a_kind(text: str, kind: str) -> None:
    """Questions, consent, courtesies and complaints are told apart; the rest is left to a person."""
    assert read_reply(text).kind == kind


def test_text_is_kept_readable() -> None:
    """The words are kept as written, but for what hides or breaks them."""
    assert read_reply(" My  iPhone，\u202e坏了！\x00\ud800 ").text == "My iPhone，坏了！"


def test_text_is_cut_for_keeping_but_not_for_meaning() -> None:
    """At most 200 units are kept, while a complaint further on is still heard."""
    reply = read_reply("等" * 500 + "投诉")
    assert (reply.kind, utf16_units(reply.text)) == ("complaint", TEXT_UNITS_MAX)


@pytest.mark.parametrize(
    "text",
    [
        "TD" + " " * CHARS_MAX + "LTE", "TD" + "\u200b" * CHARS_MAX + "LTE", "TD" + "!" * CHARS_MAX + "x", "x" * 10_000, "\u200b" * 10_000 + "TD",
        "a" + "\u0301\u0327" * 5_000, "ﷺ" * 10_000, "\ud800" * 10_000, "吧" * 10_000, "回复" * 5_000, "1" * 10_000, "." * 10_000 + "x",
    ],
)  # fmt: skip
def test_long_reply_has_no_exact_form(text: str) -> None:
    """What was cut off could have changed the meaning, so a long reply is never taken for a short one."""
    assert read_reply(text).kind == "other"


def test_long_blanks_around_do_not_count() -> None:
    """Blanks at the ends say nothing, however many they are."""
    assert read_reply(" " * 10_000 + "TD" + "\n" * 10_000).kind == "opt_out"


def test_no_form_has_two_meanings() -> None:
    """The lists of words contradict each other nowhere, with any opening; the dictionary would hide it."""
    meanings: dict[str, set[object]] = {}
    for form, meaning in replies._forms():
        meanings.setdefault(form, set()).add(meaning)
    assert {form: found for form, found in meanings.items() if len(found) > 1} == {}


def test_every_form_is_read_as_listed() -> None:
    """Every form is in the normal form that a reply is brought into, so none is out of reach."""
    assert [form for form, meaning in replies._forms() if read_reply(form).kind != meaning.kind] == []
    assert max(map(len, replies._KNOWN)) <= replies._FORM_CHARS_MAX


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (OPT_OUT_WORDS, "opt_out"),
        (OPT_IN_WORDS, "opt_in"),
        (YES_WORDS, "yes"),
        (NO_WORDS, "no"),
        (frozenset[str]().union(*OPTION_WORDS.values()), "choice"),
        (STATUS_WORDS, "status"),
        (THANKS_WORDS | THANKS_SIGNS, "thanks"),
        (COMPLAINT_WORDS, "complaint"),
    ],
)
def test_listed_words_mean_what_the_list_says(words: frozenset[str], kind: str) -> None:
    """The public lists can be printed in the documentation as they are."""
    assert {word for word in words if read_reply(word).kind != kind} == set()
    assert words >= AMBIGUOUS_WORDS or not words & AMBIGUOUS_WORDS


@given(text=TEXTS)
def test_reading_never_fails(text: str) -> None:
    """Any text gives a reply whose words are clean, short and fit for JSON, and whose number is in range."""
    reply = read_reply(text)
    assert utf16_units(reply.text) <= TEXT_UNITS_MAX
    assert msgspec.json.decode(msgspec.json.encode(reply), type=replies.Reply) == reply
    assert reply.number in range({"choice": 10, "extend": 366}.get(reply.kind, 1))
    assert reply.declines or reply.kind != "no"


@given(text=TEXTS)
def test_reading_again_gives_the_same(text: str) -> None:
    """The words kept of a reply mean what the reply meant, unless they had to be cut."""
    reply = read_reply(text)
    if utf16_units(clean(text)) <= TEXT_UNITS_MAX:
        assert read_reply(reply.text) == reply


@given(
    word=st.sampled_from(sorted(OPT_OUT_WORDS)),
    blank=st.sampled_from(["", " ", "\u3000", "\u200b", "\t ", "\u202f"]),
    is_wide=st.booleans(),
    is_upper=st.booleans(),
    edges=st.tuples(*[st.text("。！!.,，~～【】\"'“”‘’《》()（）…、；：", max_size=3)] * 2),
)
def test_opt_out_in_any_variant(word: str, blank: str, is_wide: bool, is_upper: bool, edges: tuple[str, str]) -> None:
    """Every opt-out word counts in full width, capitals, with blanks, quotes and punctuation around."""
    variant = space(word, blank)
    variant = variant.upper() if is_upper else variant
    variant = widen(variant) if is_wide else variant
    assert read_reply(edges[0] + variant + edges[1]).kind == "opt_out"


@given(
    word=st.sampled_from(sorted(OPT_OUT_WORDS)),
    letter=st.one_of(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz不别了吧吗的谢要选订"),
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
    ),
    is_front=st.booleans(),
)
def test_opt_out_with_a_letter_more_is_none(word: str, letter: str, is_front: bool) -> None:
    """One letter more makes another word, but for the openings 请 and 回 and where it gives a listed word."""
    longer = letter + word if is_front else word + letter
    is_opening = is_front and (letter == "请" or (letter == "回" and word[0].isascii()))
    is_listed = longer.replace(" ", "") in {listed.replace(" ", "") for listed in OPT_OUT_WORDS}
    if not is_opening and not is_listed:
        assert read_reply(longer).kind != "opt_out"
