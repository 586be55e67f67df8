"""Compiling a playbook: what it comes to, and every name that does not exist refused with its remedy."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.core.model import Anomaly, Parcel
from orderbell.core.playbook import (
    PlaybookSpec,
    anchor_of,
    compile_playbook,
    content_version,
    many,
    oldest_open_parcel,
)
from orderbell.core.wording import WordingSpec
from tests.core.samples import NOON, SPEC, WORDING, compiled, contact, order, playbook, problems


def test_playbook_compiles() -> None:
    """Names become tables: ends stand above all rungs, deadlines stand at their stages."""
    book = playbook()
    assert book.first_stage.name == "placed"
    assert [stage.rank for stage in book.stages.values()] == [0, 1, 2, 3, 5]
    assert [deadline.name for deadline in book.deadlines_at["placed"]] == [
        "unpaid",
        "near",
        "passed",
        "price_due",
        "short_long",
    ]
    assert book.deadlines_at["delivered"] == ()
    assert book.deadlines["near"].is_warning
    assert book.roles == {"buyer", "giver"}
    assert book.clears["payment.succeeded"] == (("overdue", None),)
    assert [(name, when is None) for name, when in book.clears["choice.made"]] == [("short", False)]
    assert book.notices["late"].mandatory
    assert book.notices["late"].variables == ("next", "order_no")


def test_entries_are_switched_off_by_null() -> None:
    """An anomaly or deadline that is `null` is not there."""
    book = playbook(anomalies={"overdue": None}, deadlines={"unpaid": None}, asks={"price": None}, caps={"storm": None})
    assert ("overdue" in book.anomalies, "unpaid" in book.deadlines) == (False, False)
    assert ([ask.name for ask in book.asks], [cap.name for cap in book.caps]) == (
        ["stock", "expiry"],
        ["urgent", "order", "ads"],
    )


def test_questions_caps_and_tiers_compile() -> None:
    """A question stands in all open stages unless it says which; a cap without lanes counts all of them."""
    book = playbook()
    price, stock, expiry = book.asks
    assert (price.yes, price.no, price.stages) == ("agree", "decline", frozenset({"placed", "paid", "shipped"}))
    assert (stock.choices, expiry.extend_days_max, expiry.stages) == (
        ("wait", "refund"),
        30,
        frozenset({"placed", "paid"}),
    )
    storm, *_, ads = book.caps
    assert (storm.per, storm.most, storm.within, storm.lanes, storm.then) == (
        "topic",
        2,
        timedelta(hours=1),
        frozenset(),
        "inbox",
    )
    assert (ads.lanes, ads.then) == (frozenset({"marketing"}), "delay")
    assert [(tier, rule.test(contact(order_count=3))) for tier, rule in book.tiers] == [("vip", True)]
    assert book.review is not None
    assert (book.review.topic, book.review.every) == ("review", timedelta(days=180))
    assert (book.amends.kind, book.amends.value_fen, book.amends.valid_for) == ("coupon", 1000, timedelta(days=30))
    assert playbook(review=None).review is None


def test_topics_have_a_way_for_every_tier() -> None:
    """What a tier does not say stays; a topic knows whether its words offer amends, and who refers to it."""
    book = playbook()
    late = book.notices["late"]
    assert {tier: (way.channels, way.also, way.tone) for tier, way in late.ways.items()} == {
        "new": (late.channels, ("push",), "amends"),
        "regular": (late.channels, ("push",), None),
        "vip": (("wechat", "sms"), ("email",), None),
    }
    assert (late.amends, book.notices["paid"].amends) == (True, False)
    assert (book.notices["restored"].after, book.after) == (frozenset({"late"}), frozenset({"late"}))
    assert (book.notices["offer"].marketing, book.notices["review"].fallback) == (True, False)


@pytest.mark.parametrize(
    ("changes", "path", "message", "remedy"),
    [
        ({"stages": {"placed": {"next_update": "soon"}}}, "stages.placed.next_update", "'soon' is no span of time", "write a number and a unit"),
        ({"stages": {"placed": {"next_update": "-5m"}}}, "stages.placed.next_update", "'-5m' lies in the past", "only the `after`"),
        ({"notices": {"paid": {"wait": "-5m"}}}, "notices.paid.wait", "'-5m' lies in the past", "only the `after`"),
        ({"notices": {"paid": {"valid_for": "9999d"}}}, "notices.paid.valid_for", "'9999d' is more than ten years", "write a number"),
        ({"notices": {"paid": {"category": "x"}}}, "notices.paid.category", "there is no category 'x'", "use one of: must, may, ads"),
        ({"notices": {"paid": {"covers": "x"}}}, "notices.paid.covers", "there is no notice 'x'", "use one of: paid,"),
        ({"rules": [{"on": "no.such"}]}, "rules.0.on", "there is no event type 'no.such'", "use one of: order.placed,"),
        ({"rules": [{"on": "item.sold", "stage": "x"}]}, "rules.0.stage", "there is no stage 'x'", "use one of: placed,"),
        ({"rules": [{"on": "item.sold", "tell": "x"}]}, "rules.0.tell", "there is no notice 'x'", "use one of: paid,"),
        ({"rules": [{"on": "item.sold", "when": "event.x == 1"}]}, "rules.0.when", "event has no attribute `x` (column 1)", "known: "),
        ({"rules": [{"on": "no.such", "when": "event.x == 1"}]}, "rules.0.on", "there is no event type 'no.such'", "use one of"),
        ({"deadlines": {"near": {"after": "1y"}}}, "deadlines.near.after", "'1y' is no span of time", "write a number"),
        ({"deadlines": {"near": {"since": "lunch"}}}, "deadlines.near.since", "there is no moment 'lunch'", "use one of: stage, opened"),
        ({"deadlines": {"near": {"since": "mark:x"}}}, "deadlines.near.since", "there is no mark 'x'", "use one of: price_open"),
        ({"deadlines": {"near": {"since": "anomaly:x"}}}, "deadlines.near.since", "there is no anomaly 'x'", "use one of: overdue,"),
        ({"deadlines": {"near": {"since": "mark:"}}}, "deadlines.near.since", "there is no moment 'mark:'", "use one of: stage"),
        ({"deadlines": {"near": {"in": "x"}}}, "deadlines.near.in", "there is no stage 'x'", "use one of: placed,"),
        ({"deadlines": {"near": {"open": "x"}}}, "deadlines.near.open", "there is no anomaly 'x'", "use one of: overdue,"),
        ({"deadlines": {"near": {"when": "order.stage =="}}}, "deadlines.near.when", "(column", ""),
        ({"anomalies": {"short": {"clears_at": "x"}}}, "anomalies.short.clears_at", "there is no stage 'x'", "use one of: placed,"),
        ({"anomalies": {"short": {"clears": "x"}}}, "anomalies.short.clears.0", "there is no event type 'x'", "use one of: order.placed,"),
        ({"anomalies": {"short": {"tell": "x"}}}, "anomalies.short.tell", "there is no notice 'x'", "use one of: paid,"),
        ({"anomalies": {"short": {"opens": [{"on": "x"}]}}}, "anomalies.short.opens.0.on", "there is no event type 'x'", "use one of"),
        ({"anomalies": {"short": {"call_back": "event.reason == 'x'"}}}, "anomalies.short.call_back", "(column 1)", ""),
        ({"anomalies": {"short": {"clears": [{"on": "item.sold", "when": "event.x"}]}}}, "anomalies.short.clears.0.when", "no attribute `x`", ""),
        ({"rules": [{"on": "item.sold", "answer": "x"}]}, "rules.0.answer", "there is no notice 'x'", "use one of: paid,"),
        ({"notices": {"paid": {"after": "x"}}}, "notices.paid.after", "there is no notice 'x'", "use one of: paid,"),
        ({"asks": {"price": {"while": "lunch"}}}, "asks.price.while", "there is no moment 'lunch'", "use one of: stage"),
        ({"asks": {"price": {"while": "mark:x"}}}, "asks.price.while", "there is no mark 'x'", "use one of: price_open"),
        ({"asks": {"price": {"in": "x"}}}, "asks.price.in", "there is no stage 'x'", "use one of: placed,"),
        ({"asks": {"price": {"yes": "", "no": ""}}}, "asks.price", "no reply answers this question", "add yes, no, choices"),
        ({"asks": {"stock": {"choices": ["a", "b", "c", "d"]}}}, "asks.stock.choices", "4 choices", "offer 3 at most"),
        ({"caps": {"storm": {"most": 0}}}, "caps.storm.most", "0 tellings cannot be counted", "write 1 to 100"),
        ({"caps": {"storm": {"most": 101}}}, "caps.storm.most", "101 tellings cannot be counted", "write 1 to 100"),
        ({"caps": {"storm": {"within": "15d"}}}, "caps.storm.within", "longer than what is remembered", "write 14d at most"),
        ({"caps": {"storm": {"within": "soon"}}}, "caps.storm.within", "'soon' is no span of time", "write a number"),
        ({"caps": {"storm": {"lanes": "fast"}}}, "caps.storm.lanes", "there is no lane 'fast'", "use one of: critical,"),
        ({"tiers": {"vip": "contact.phone == '1'"}}, "tiers.vip", "no attribute `phone`", "known: "),
        ({"tiers": {"vip": "order.amount_fen > 1"}}, "tiers.vip", "(column 1)", ""),
        ({"review": {"tell": "x"}}, "review.tell", "there is no notice 'x'", "use one of: paid,"),
        ({"review": {"every": "often"}}, "review.every", "'often' is no span of time", "write a number"),
        ({"amends": {"value_fen": -1}}, "amends.value_fen", "amends of less than nothing", "write fen"),
        ({"amends": {"valid_for": "ever"}}, "amends.valid_for", "'ever' is no span of time", "write a number"),
        ({"locale": "fr"}, "locale", "no wording for the locale fr", "add its wording file"),
        ({"brand": {"fr": "X"}}, "brand", "no brand for the locale en", "add brand: {en: …}"),
    ],
)  # fmt: skip
def test_playbook_when_something_does_not_exist(changes: dict[str, Any], path: str, message: str, remedy: str) -> None:
    """Every wrong word is named by its place, with what to write instead."""
    found = [problem for problem in problems(**changes) if problem[0] == path]
    assert any(message in said and remedy in help_ for _, said, help_ in found), found


def test_playbook_when_there_is_no_stage() -> None:
    """A ladder needs a rung, and all that is wrong is said at once."""
    spec = msgspec.convert(SPEC | {"stages": {}}, PlaybookSpec)
    made, found = compile_playbook(spec, {"en": msgspec.convert(WORDING, WordingSpec)})
    assert made is None
    assert ("stages",) in {problem.path for problem in found}
    assert len(found) > 3


def test_playbook_when_its_wording_is_wrong() -> None:
    """A fault in the words is reported where it stands in the wording."""
    made, found = compiled({"texts": {"paid": {"sms": ["{nonsense}"]}}})
    assert made is None
    assert found[0].path == ("wording", "en", "texts", "paid", "sms", 0)


def test_condition_of_several_event_types() -> None:
    """A rule for several types may ask for what all of them have."""
    rule = {"on": ["order.cancelled", "risk.flagged"], "when": 'event.reason == "x"'}
    assert len(playbook(rules=[*SPEC["rules"], rule]).rules["risk.flagged"]) == 1
    refused = problems(rules=[{"on": ["order.cancelled", "risk.flagged"], "when": 'event.by == "buyer"'}])
    assert "rules.0.when" in {path for path, _, _ in refused}


def test_version_is_that_of_the_content() -> None:
    """The version changes with the rules and with the words, and with nothing else."""
    spec, words = msgspec.convert(SPEC, PlaybookSpec), {"en": msgspec.convert(WORDING, WordingSpec)}
    assert content_version(spec, words) == playbook().version
    assert playbook().version != playbook(note="x").version
    assert playbook().version != playbook({"signature": "[{brand}]"}).version


def test_one_name_or_several() -> None:
    """A single name is a list of one."""
    assert (many("a"), many(("a", "b")), many(())) == (("a",), ("a", "b"), ())


@pytest.mark.parametrize(
    ("since", "hours"),
    [("stage", 1), ("opened", 0), ("promise", 2), ("until", 3), ("parcel", 4), ("mark:m", 5), ("anomaly:a", 6), ("mark:x", None), ("anomaly:x", None)],
)  # fmt: skip
def test_anchor_of_a_deadline(since: str, hours: int | None) -> None:
    """Each word for a moment finds it in the order, None where there is none."""

    def at(count: int) -> datetime:
        return NOON + timedelta(hours=count)

    whole = order(
        stage_at=at(1), promised_by=at(2), until=at(3), marks={"m": at(5)}, anomalies=(Anomaly("a", at(6), "x"),),
        parcels=(Parcel("1", "", "delivered", at(0)), Parcel("2", "", "in_transit", at(4)), Parcel("3", "", "", at(9))),
    )  # fmt: skip
    anchor = anchor_of(since)
    assert anchor is not None
    assert anchor(whole) == (None if hours is None else at(hours))


def test_parcels_when_none_is_under_way() -> None:
    """An order without a parcel on the road has no silence to measure."""
    assert oldest_open_parcel(order()) is None
    assert oldest_open_parcel(order(parcels=(Parcel("1", "", "returned", NOON),))) is None
