"""Links in SMS: behind the words, where there is room, and never instead of a message."""

from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.templates import Rule, Strikes, check_template
from orderbell.core.playbook import LINK_BASE_MAX, Playbook, PlaybookSpec, compile_playbook
from orderbell.core.segments import one_part
from orderbell.core.wording import LINK_LENGTH, LINK_MASK, WordingProblem, compile_wording
from orderbell.playbooks import load_shelf

RETAIL = load_shelf("").playbooks["retail"]
BASE = "d.cn/l/"


@cache
def linked(base: str = BASE) -> Playbook:
    """The shipped playbook of shops, with links in its SMS."""
    wordings = {locale: words.spec for locale, words in RETAIL.wording.items()}
    made, problems = compile_playbook(msgspec.structs.replace(RETAIL.spec, sms_link=base), wordings)
    assert made is not None, problems
    return made


def said(book: Playbook, locale: str, topic: str, approved: set[str] | None = None, **values: str | int) -> str:
    """An SMS of a topic."""
    known = {"order_no": "A1001", "next": 7200, **values}
    text = book.wording[locale].compose(topic, "sms", "calm", known, timezone="UTC", approved=approved, templated=True)
    assert text is not None
    assert text.segments == 1
    return text.text


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_link_stands_behind_the_words(locale: str) -> None:
    """A playbook with an address must put it behind an SMS, one without must say what it always said."""
    text = said(linked(), locale, "payment_failed")
    assert text.endswith(f" {BASE}{LINK_MASK}")
    assert LINK_MASK not in said(RETAIL, locale, "payment_failed")


def test_fewer_words_make_room_for_the_link() -> None:
    """The fullest text that leaves room must be taken; where none does, the fullest without a link."""
    book = linked()
    assert "请核对账户，或换一种方式" in said(RETAIL, "zh-CN", "payment_failed", reason="insufficient_funds")
    assert said(book, "zh-CN", "payment_failed", reason="insufficient_funds").startswith(
        "【叮咚】订单A1001支付未成功（余额不足），请核对后重新支付。 d.cn/l/"
    )
    both = [said(one, "zh-CN", "payment_failed", reason="card_declined", order_no="A" * 32) for one in (book, RETAIL)]
    assert both[0] == both[1]


@given(
    st.sampled_from(sorted(RETAIL.notices)), st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=32)
)
def test_text_with_link_is_one_part(topic: str, order_no: str) -> None:
    """Whatever is said, the link must fit into the one part of the SMS, and advertising must have none."""
    book, rule = linked(), RETAIL.notices[topic]
    words = book.wording["zh-CN"]
    text = words.compose(topic, "sms", "calm", {"order_no": order_no}, timezone="UTC", marketing=rule.marketing)
    if text is not None and LINK_MASK in text.text:
        assert not rule.marketing
        assert one_part(text.text, gsm=False) == text.units


def test_template_ends_in_a_variable() -> None:
    """A provider must see the domain in the text and nothing but the end of the link as a variable, 20 long."""
    words = linked().wording["zh-CN"]
    templates = [one for one in words.templates("payment_failed", "sms") if "link" in one.names]
    assert templates
    assert all(one.text.endswith(" d.cn/l/{link}") for one in templates)
    assert words.widths["link"] == LINK_LENGTH
    found = {problem.rule: problem.strikes for problem in check_template("alibaba", templates[0], words.widths)}
    assert found[Rule.LINK_IN_VARIABLE] is Strikes.PERHAPS


def test_only_approved_texts_have_links() -> None:
    """Where only the text without its link is approved, that one must go out; its slots must name the link last."""
    book = linked()
    bare = "订单{order_no}支付未成功，请重新支付。"
    assert said(book, "zh-CN", "payment_failed", {bare}) == "【叮咚】订单A1001支付未成功，请重新支付。"
    both = {bare, f"{bare} d.cn/l/{{link}}"}
    text = book.wording["zh-CN"].compose(
        "payment_failed", "sms", "calm", {"order_no": "A1001"}, timezone="UTC", approved=both, templated=True
    )
    assert text is not None
    assert (text.template, text.slots) == (f"{bare} d.cn/l/{{link}}", (("order_no", "A1001"), ("link", LINK_MASK)))


@pytest.mark.parametrize(
    "base",
    [
        "d.cn",
        "http://d.cn/ x/",
        "d.cn/{link}",
        "javascript:x/",
        f"{'d' * (LINK_BASE_MAX - 3)}.cn/",
        "//d.cn/",
        "d.cn/l?c=/",
    ],
)
def test_address_that_is_none(base: str) -> None:
    """What no code can be put behind must be refused by name, with what to write instead."""
    wordings = {locale: words.spec for locale, words in RETAIL.wording.items()}
    book, problems = compile_playbook(msgspec.structs.replace(RETAIL.spec, sms_link=base), wordings)
    assert book is None
    problem = problems[0]
    assert (problem.path, "s.example.com/l/" in problem.remedy) == (("sms_link",), True)


@pytest.mark.parametrize("words", ["{link}", " {link}.", " see", " {link} {link}", " {order_no} {link}"])
def test_words_of_the_link(words: str) -> None:
    """The words around the link must end in it, a blank before it, or phones do not see where it begins."""
    spec = msgspec.structs.replace(RETAIL.wording["en"].spec, link=words)
    with pytest.raises(WordingProblem, match="does not end in a link"):
        compile_wording(spec, "OrderBell")


def test_wording_without_words_for_links() -> None:
    """A wording file that says nothing of links must have none; no text may hold `{link}` elsewhere."""
    spec = msgspec.structs.replace(RETAIL.wording["en"].spec, link="")
    text = compile_wording(spec, "OrderBell", link=BASE).compose(
        "payment_failed", "sms", "calm", {"order_no": "A1"}, timezone=""
    )
    assert text is not None
    assert BASE not in text.text
    texts = {
        **spec.texts,
        "order_cancelled": msgspec.structs.replace(spec.texts["order_cancelled"], sms=("At {link}.",)),
    }
    with pytest.raises(WordingProblem, match="there is no variable 'link'"):
        compile_wording(msgspec.structs.replace(spec, texts=texts), "OrderBell")


def test_field_is_known() -> None:
    """A playbook without an address must be what it was: the field changes no version."""
    assert "sms_link" not in msgspec.to_builtins(RETAIL.spec)
    assert PlaybookSpec.__struct_defaults__
