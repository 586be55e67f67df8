"""Template injection: five hundred payloads of eighteen template languages are words, or refused, wherever they stand.

Texts of playbooks know `{name}` and nothing else, so there is no language to inject into. Each payload does a sum, or
names something of the interpreter; wherever it may stand it must come out as it went in, or not at all.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec
import pytest

from orderbell.core.segments import clean
from orderbell.core.wording import TEXT_MAX, VARIABLES, Wording, WordingProblem, WordingSpec, compile_wording
from orderbell.playbooks import check_draft
from orderbell.store.postgres import Store
from tests.core.test_wording import VALUES, made, tree
from tests.guests import buyer, running_pages

_SUM, _RESULT = "7391*7393", "54641663"
"""What any engine that works the sum out would write."""

_EXPRESSIONS: Final = (
    _SUM, f"({_SUM})", f"[{_SUM}][0]", f"0 or {_SUM}", "config", "self", "request", "settings.SECRET_KEY", "''.__class__.__mro__[1].__subclasses__()",
    "cycler.__init__.__globals__.os.popen('id').read()", "lipsum.__globals__['os'].popen('id').read()",
    "joiner.__init__.__globals__", "x|attr('__class__')", "get_flashed_messages.__globals__", "T(java.lang.Runtime).getRuntime().exec('id')",
    "''['constructor']['constructor']('return process')()", "_self.env.registerUndefinedFilterCallback('exec')", "dump(app)",
    "['id']|filter('system')", "system('id')", "File.open('/etc/passwd').read", "'freemarker.template.utility.Execute'?new()('id')",
    "constructor.constructor('alert(1)')()", "order.__class__.__init__.__globals__", "order_no.__class__", "title!r", "title:>999999", "0.__class__",
)  # fmt: skip
_WRAPPERS: Final = {
    "jinja": "{{{{{}}}}}", "jinja statement": "{{% if {} %}}x{{% endif %}}", "jinja comment": "{{# {} #}}{{{{{}}}}}", "mako": "${{{}}}",
    "mako block": "<% {} %>", "erb": "<%= {} %>", "asp": "<%: {} %>", "ruby": "#{{{}}}", "freemarker": "<#assign x={}>${{x}}",
    "freemarker square": "[=({})]", "velocity": "#set($x={})$x", "thymeleaf": "[[${{{}}}]]", "thymeleaf raw": "[(${{{}}})]", "spring": "*{{{}}}",
    "spring preprocessed": "__${{{}}}__::.x", "smarty": "{{{}}}", "smarty php": "{{php}}echo {};{{/php}}", "handlebars": "{{{{#with {}}}}}{{{{this}}}}{{{{/with}}}}",
    "razor": "@({})", "tornado": "{{% raw {} %}}", "angular": "{{{{$on.{}}}}}",
}  # fmt: skip
_ODD: Final = (
    "{0}", "{}", "{!r}", "{order_no!r}", "{order_no.__class__}", "{order_no[0]}", "{order_no:>9999999}", "{0.__class__.__mro__}", "%(order_no)s",
    "%s%s%s%n", "%x", "%1000000s", "${order_no}", "$order_no", "#{order_no}", "{{order_no}}", "{ order_no }", "{order_no", "order_no}", "{Order_no}",
    "{order-no}", "{order_no}}", "{{{order_no}}}", "{\uff4frder_no}", "{order_no\u200b}", "｛order_no｝", "\\{order_no\\}", "&#123;order_no&#125;", "\\x7b\\x7b7*7\\x7d\\x7d",
)  # fmt: skip
CORPUS: Final = tuple(dict.fromkeys((*(
    wrapper.format(expression, expression) for wrapper in _WRAPPERS.values() for expression in _EXPRESSIONS
), *_ODD)))  # fmt: skip
FIELDS: Final = tuple(name for name, variable in VARIABLES.items() if variable.kind == "text")
DECEIVING: Final = (
    *(chr(point) for point in (*range(0x20), *range(0x7F, 0xA0))), "\u061c", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029",
    *(chr(point) for point in (*range(0x202A, 0x202F), *range(0x2060, 0x2070))), "\ufeff", "\u00ad", "\u115f", "\u3164", "\U000e0041", "\ufff9",
)  # fmt: skip


def test_corpus_is_as_large_as_promised() -> None:
    """At least five hundred different payloads, each of which some engine would take for its own."""
    assert len(CORPUS) >= 500
    assert all(set(payload) & set("{}<>$#%@[]\\&") or "｛" in payload for payload in CORPUS)


@cache
def _words() -> Wording:
    return made(
        {
            "x": {
                "sms": ["短"],
                "inbox": "前{title}后",
                "push": "{reason}",
                "email": {"subject": "{title}", "text": "前{title}\n{place}后"},
            }
        }
    )


def _said(channel: Any, **values: str) -> tuple[str, str]:  # noqa: ANN401 - a name of a channel
    text = _words().compose("x", channel, "calm", {**VALUES, **values}, timezone="Asia/Shanghai")
    assert text is not None
    return text.text, text.subject


def test_payloads_as_values_stay_words() -> None:
    """What a shop or customer writes must stand in the message as it was written, in its place and nowhere else."""
    for payload in CORPUS:
        word = clean(payload)
        assert _said("inbox", title=payload)[0] == f"前{word}后"
        assert _said("push", reason=payload)[0] == word
        assert _said("email", title=payload, place=payload) == (f"前{word}\n{word}后", word)
        assert _RESULT not in word


def _filled(payload: str) -> str:
    """What the one thing that texts know makes of a payload."""
    return payload.replace("{order_no}", "123456")


def _refused_or_literal(topics: Mapping[str, Any], **parts: object) -> str:
    try:
        words = made(topics, **parts)  # type: ignore[arg-type]
    except WordingProblem:
        return ""
    text = words.compose("x", "inbox", "calm", VALUES, timezone="Asia/Shanghai")
    assert text is not None
    return text.text


def test_payloads_as_texts_are_refused_or_stay_words() -> None:
    """What a tenant writes as a text must be refused, or be said as it was written; only `{name}` is ever filled."""
    refused = 0
    for payload in CORPUS:
        said = _refused_or_literal({"x": {"inbox": f"前{payload}后"}})
        assert said in {"", f"前{_filled(payload)}后"}, payload
        refused += not said
    assert refused > len(CORPUS) / 2
    assert _refused_or_literal({"x": {"inbox": "前{order_no}后"}}) == "前123456后"


def test_payloads_as_brand_phrases_and_words_are_refused_or_stay_words() -> None:
    """The same for the name of the shop, for phrases, words for codes and default words."""
    texts = {"x": {"inbox": "{brand}：{title}{kind}"}}
    for payload in CORPUS:
        said = _refused_or_literal(texts, brand=payload)
        assert said in {"", f"{clean(payload)}：羊毛围巾腕表"}, payload
        said = _refused_or_literal({"x": {"inbox": "前{piece}后"}}, phrases={"piece": f"{payload}{{title}}"})
        assert said in {"", f"前{_filled(payload)}羊毛围巾后"}, payload
        known = {**tree("zh-CN"), "texts": texts, "playbooks": {}, "kinds": {"腕表": payload}, "lengths": {"kind": 99}}
        try:
            words = compile_wording(msgspec.convert(known, WordingSpec), "叮咚")
        except WordingProblem:
            continue
        text = words.compose("x", "inbox", "calm", VALUES, timezone="Asia/Shanghai")
        assert text is not None
        assert text.text in {f"叮咚：羊毛围巾{payload}", f"叮咚：羊毛围巾{clean(payload)}"}, payload


@pytest.mark.parametrize(
    "payload", ["{{7*7}}", "${7*7}", "<%= 7*7 %>", "#{7*7}", "{order_no.__class__}", "{0}", "{{{title}}}"]
)
def test_payload_in_a_draft_is_a_fault_or_words(payload: str) -> None:
    """Through the door that tenants use: the draft is faulted with the place, or its words are the payload."""
    draft = f"name: retail\nextends: retail\nwording:\n  zh-CN:\n    texts:\n      shipped:\n        inbox: '订单{payload}已发货'\n"
    checked = check_draft(draft)
    if checked.faults:
        assert any("shipped.inbox" in fault.where for fault in checked.faults)
        return
    assert checked.playbook is not None
    text = checked.playbook.wording["zh-CN"].compose("shipped", "inbox", "calm", VALUES, timezone="Asia/Shanghai")
    assert text is not None
    assert text.text == f"订单{payload}已发货"


def _around() -> Iterator[tuple[str, str]]:
    for sign in DECEIVING:
        for text in (f"围{sign}巾", f"{sign}围巾", f"围巾{sign}", sign * 30 + "围巾"):
            yield sign, text


def test_signs_that_deceive_are_taken_out_of_values() -> None:
    """Control characters, marks that turn the direction of writing and invisible ones must reach nobody."""
    for sign, text in _around():
        for channel, name in (("inbox", "title"), ("push", "reason")):
            said, _ = _said(channel, **{name: text})
            assert sign not in said, (channel, ascii(sign))
            assert said.replace(" ", "").strip("前后") == "围巾"
            assert said.isprintable()


def test_signs_that_deceive_are_refused_in_texts() -> None:
    """A tenant's text with one of them must be refused, wherever it stands."""
    for sign, text in _around():
        assert _refused_or_literal({"x": {"inbox": f"前{text}后"}}) == "", ascii(sign)


def test_values_have_an_end() -> None:
    """However long a value is, each channel must cut it, an SMS to its one part."""
    words = made(
        {"x": {"sms": ["前{title}后{place}{reason}{kind}{carrier}"], "inbox": "前{title}后", "push": "{reason}"}}
    )
    for piece in ("长", "{{7*7}}", "😀", "a\u0301", "%s", "👨\u200d👩\u200d👧"):
        values = {**VALUES, **dict.fromkeys(FIELDS, piece * 100_000)}
        for channel, units_max in (("sms", 70), ("inbox", TEXT_MAX + 2), ("push", TEXT_MAX)):
            text = words.compose("x", channel, "calm", values, timezone="Asia/Shanghai")  # type: ignore[arg-type]
            assert text is not None
            assert text.units <= units_max, (channel, piece)


async def test_pages_show_payloads_as_words(store: Store) -> None:
    """The pages are made by a template language: a payload must reach it as a value only."""
    async with running_pages(store) as pages:
        for number, first in enumerate(range(0, len(CORPUS), 40)):
            title = " ".join(CORPUS[first : first + 40])[:190]
            await pages.tell("order.placed", f"T{number}", title=title, people=buyer())
            await pages.tell("parcel.shipped", f"T{number}", carrier=title[:60], tracking_no="SF12345")
            text = (await pages.http.get(await pages.path(f"T{number}"))).text
            assert _RESULT not in text
            assert "Error" not in text
            assert "&lt;" in text or "<" not in title
