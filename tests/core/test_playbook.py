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
from tests.core.samples import NOON, SPEC, WORDING, compiled, order, playbook, problems


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
    assert book.clears["payment.succeeded"] == {"overdue"}
    assert book.notices["late"].mandatory
    assert book.notices["late"].variables == ("next", "order_no")


def test_entries_are_switched_off_by_null() -> None:
    """An anomaly or deadline that is `null` is not there."""
    book = playbook(anomalies={"overdue": None}, deadlines={"unpaid": None})
    assert ("overdue" in book.anomalies, "unpaid" in book.deadlines) == (False, False)


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
        ({"anomalies": {"short": {"clears": "x"}}}, "anomalies.short.clears", "there is no event type 'x'", "use one of: order.placed,"),
        ({"anomalies": {"short": {"tell": "x"}}}, "anomalies.short.tell", "there is no notice 'x'", "use one of: paid,"),
        ({"anomalies": {"short": {"opens": [{"on": "x"}]}}}, "anomalies.short.opens.0.on", "there is no event type 'x'", "use one of"),
        ({"anomalies": {"short": {"call_back": "event.reason == 'x'"}}}, "anomalies.short.call_back", "(column 1)", ""),
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
