"""The page of a comparison: whole, self-contained, harmless, and right in both languages."""

import re
from html.parser import HTMLParser

import msgspec
import pytest

from orderbell.insight import charts
from orderbell.insight.charts import Pair
from orderbell.insight.comparison import Comparison
from orderbell.insight.page import language_of, render_page, signed
from orderbell.insight.page_words import FIGURES, NAMES, WORDS, name_of
from tests.insight.pasts import ANN, BOB, CAP, compared, paid, past, shipped, three_orders

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks that every tag is closed in turn, and collects the tags and the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def read(page: str) -> Reader:
    """The page as a browser reads it."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def words(page: str) -> str:
    """What a person reads, blanks made one; the styles left out."""
    return " ".join(" ".join(read(re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)).texts).split())


@pytest.fixture(scope="module")
def capped() -> Comparison:
    """Three orders, and a cap that moves two messages of one of them into the inbox."""
    return compared(three_orders(), caps=CAP)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_page_is_whole_and_alone(capped: Comparison, language: str) -> None:
    """Every tag is closed, nothing is loaded, nothing runs, and the language is declared."""
    page = render_page(capped, language_of(language))
    reader = read(page)
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not re.search(r"https?:|//|url\(|@import|\bon[a-z]+=", page.partition("<body>")[0])
    assert all(not set(attrs) & {"src", "href", "action"} for _, attrs in reader.tags)
    assert dict(reader.tags)["html"]["lang"] == ("zh-CN" if language == "zh" else "en")
    policy = [attrs for name, attrs in reader.tags if name == "meta" and attrs.get("http-equiv")]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")


def test_page_says_what_changes(capped: Comparison) -> None:
    """The figures stand with both values, the difference with its sign, and what it means in words."""
    said = words(render_page(capped, "en"))
    assert "1 of 3 orders (33.3 %) change; 0 people would be interrupted more often, 1 less often, 1 as often." in said
    assert "Messages that ring 2 Before 4 −50 % 2 fewer interruptions" in said
    assert "Cost of SMS ¥0.09 Before ¥0.18 −50 % ¥0.09 saved" in said
    assert "People reached 2 Before 2 ±0 no change" in said
    assert "Inbox only at most 1 a person in 1 d (cap few) 0 2 +2" in said
    assert "Other channel 1 (33.3 %)" in said
    assert "No change 2 (66.7 %)" in said
    chinese = words(render_page(capped, "zh"))
    assert "3 笔订单中有 1 笔（33.3 %）会有变化" in chinese
    assert "只放站内信 每人 1天内至多 1 条（上限 few）" in chinese


def test_page_shows_both_time_lines(capped: Comparison) -> None:
    """An example shows every message with its text, and what became of it."""
    said = words(render_page(capped, "en"))
    order = said.partition("Orders as examples")[2]
    assert "Other channel only this order A1 · Scarf Placed 2026-03-02 12:00" in order
    before, _, after = order.partition("After · new")
    assert "03-02 12:02 Paid SMS other channel" in before
    assert "03-02 12:02 Paid Inbox other channel Order A1: paid. payment.succeeded" in after


def test_page_of_charts_has_tables(capped: Comparison) -> None:
    """Every drawing says what it is, and its figures stand in a table of the same panel."""
    page = render_page(capped, "en")
    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 7
    for figure in figures:
        assert re.search(r'<svg role="img" [^>]*aria-label="[^"]+"', figure)
        assert "<details><summary>Table</summary>" in figure
        assert figure.count("<tr>") > 1


def test_page_when_nothing_differs() -> None:
    """The same playbook twice says so in one sentence; both sides keep names of their own."""
    comparison = compared(three_orders())
    notes = [msgspec.structs.replace(note, label="small") for note in (comparison.before, comparison.after)]
    page = render_page(msgspec.structs.replace(comparison, before=notes[0], after=notes[1]), "en")
    said = words(page)
    assert "On these orders the two playbooks do exactly the same." in said
    assert "small Before → small After" in said
    assert "Orders as examples" not in said
    assert "No notice was held, merged or dropped." in said


def test_page_of_nothing() -> None:
    """A past without events still makes a page, without empty charts."""
    page = render_page(compared(past()), "en")
    read(page)
    assert page.count("<figure") == 1  # how often people are told always has its row of zeros


def test_page_escapes_what_comes_from_outside() -> None:
    """Titles, order numbers, labels and texts from outside never become markup."""
    people = {"buyer": {**ANN["buyer"]}}
    number = '"><script>x()</script>'
    history = past(*paid(number, people, EVIL), shipped(number))
    comparison = compared(history, caps=CAP)
    notes = msgspec.structs.replace(comparison.after, label=f"new{EVIL}")
    page = render_page(msgspec.structs.replace(comparison, after=notes), "en")
    reader = read(page)
    assert "script" not in {name for name, _ in reader.tags}
    assert all(not name.startswith("on") for _, attrs in reader.tags for name in attrs)
    assert comparison.examples[0].title == EVIL
    said = words(page)
    assert EVIL in said
    assert number in said


def test_page_has_thousands_separators() -> None:
    """Large figures are grouped, on cards, in charts and in tables."""
    comparison = compared(past(*paid("A1", ANN), *paid("B1", BOB)))
    large = [
        msgspec.structs.replace(found, before=1234567, after=2345678, difference=1111111)
        for found in comparison.figures
    ]
    topics = [
        msgspec.structs.replace(found, before=1234567, after=2345678, difference=1111111) for found in comparison.topics
    ]
    said = words(render_page(msgspec.structs.replace(comparison, figures=tuple(large), topics=tuple(topics)), "en"))
    assert "2,345,678 Before 1,234,567 +90 % 1,111,111 more interruptions" in said
    assert "1,234,567 → 2,345,678" in said
    assert "¥2,345,678.00" in said
    assert "+1,111,111" in said


@pytest.mark.parametrize(("locale", "language"), [("zh-CN", "zh"), ("zh", "zh"), ("en", "en"), ("fr-FR", "en")])
def test_language_of_a_locale(locale: str, language: str) -> None:
    """Chinese playbooks have a Chinese page, all others an English one."""
    assert language_of(locale) == language


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "±0"),
        (0.001, "±0"),
        (1234, "+1,234"),
        (-1234, "−1,234"),
        (-0.5, "−0.5"),
        (1000.0, "+1,000"),
        (100.0, "+100"),
    ],
)
def test_signed_figures(value: float, text: str) -> None:
    """A difference has its sign, and no digits that say nothing."""
    assert signed(value) == text


def test_words_are_whole() -> None:
    """Both languages have the same words with the same places to fill, and every figure has its words."""
    chinese, english = WORDS["zh"], WORDS["en"]
    assert chinese.keys() == english.keys()
    for key, text in chinese.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", english[key])), key
    assert FIGURES["zh"].keys() == FIGURES["en"].keys()
    assert NAMES["en"].keys() <= NAMES["zh"].keys()
    assert name_of("en", "delay_likely") == "Delay likely"
    assert name_of("zh", "my_topic") == "my_topic"


def test_bars_are_as_long_as_their_figures() -> None:
    """The largest figure fills the width, the others their share of it."""
    drawing = charts.bars([Pair("a", 50, 200, "50 → 200"), Pair("b", 0, 100)], "Bars")
    assert re.findall(r'width="([\d.]+)%" height="8"', drawing) == ["25", "100", "0", "50"]


def test_shares_add_up_to_the_whole() -> None:
    """The parts of a row lie side by side and fill it."""
    drawing = charts.shares([("x", [Pair("sms", 3, 0), Pair("inbox", 1, 0)]), ("y", [])], "Shares")
    assert re.findall(r'<rect x="([\d.]+)%" y="22" width="([\d.]+)%"', drawing) == [("0", "75"), ("75", "25")]


def test_lines_rise_to_a_round_value() -> None:
    """The grid ends at a round value at or above the greatest one."""
    drawing = charts.lines([Pair("1", 0, 0), Pair("2", 50, 70), Pair("3", 100, 70)], "Lines")
    assert re.findall(r"¥[\d,]+", drawing) == ["¥50", "¥100"]
    assert 'points="0,100 50,50 100,0"' in drawing
    assert charts.lines([], "Lines").endswith("</svg>")
