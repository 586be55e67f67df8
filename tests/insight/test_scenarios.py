"""Scenarios on the in-memory host: those that the product promises, and how the runner tells what failed."""

from datetime import datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orderbell.errors import ScenarioInvalid
from orderbell.insight.scenarios import Host, MemoryScenarioHost, Report, Scenario, read_scenarios, run_scenario
from tests.core.streams import shelf

SHARED = Path(__file__).parents[2].parent / "shared" / "scenarios"
SMALL = Path(__file__).parent / "small.yaml"
FILES = ("anomalies", "rhythm", "truth")


async def open_virtual(scenario: Scenario, _start: datetime) -> Host:
    """A fresh host."""
    return MemoryScenarioHost(shelf(), scenario)


async def reported(scenario: Scenario) -> Report:
    """What a scenario comes to."""
    return await run_scenario(scenario, shelf(), open_virtual)


@lru_cache
def small() -> dict[str, Scenario]:
    """The scenarios beside this file."""
    return {scenario.id: scenario for scenario in read_scenarios(SMALL)}


def promised() -> list[Any]:
    """The scenarios that the product promises, or one that says where they should be."""
    if not SHARED.is_dir():
        reason = "the scenarios of the requirements are not here: put them in ../shared/scenarios"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [
        pytest.param(scenario, id=f"{name}-{number}-{scenario.id}".replace(" ", "+"))
        for name in FILES
        for number, scenario in enumerate(read_scenarios(SHARED / f"{name}.yaml"), 1)
    ]


@pytest.mark.parametrize("scenario", promised())
async def test_scenario_of_the_requirements(scenario: Scenario) -> None:
    """What must happen happens, and what must not does not."""
    report = await reported(scenario)
    assert report.failures == [], scenario.says


async def test_scenario_that_holds() -> None:
    """A scenario that holds has no failures, and a time line of events and messages in order."""
    report = await reported(small()["told"])
    assert report.failures == []
    assert [kind for kind, _ in groupby(kind for _, kind, _ in report.timeline)] == ["event", "message", "event"]
    assert [at for at, _, _ in report.timeline] == sorted(at for at, _, _ in report.timeline)
    told = [text for _, _, text in report.timeline if " to buyer, payment_received: " in text]
    assert (told[0].split()[0], told[-1].split()[0]) == ("push", "sms")
    assert report.timeline[1][2] == "payment.succeeded amount_fen=100"


async def test_scenario_that_fails() -> None:
    """Every line that does not hold is told with its moment and with what was found instead."""
    failures = (await reported(small()["wrong"])).failures
    for words in (
        "0s: there is no such order yet",
        "3m: the event payment.succeeded was refused: id: this id was used before with another body",
        "5m: the light is red, not green",
        "5m: the stage is paid, not packed",
        "5m: the anomaly parcel_lost is not open (open: stock_short)",
        "5m: the anomaly stock_short is open",
        "5m: no open case {'owner': 'finance'} (open: [{'owner': 'warehouse', 'kind': 'handle'}])",
        "1h: 1 messages instead of 5 within 0s..1h to buyer  stock_short: sms stock_short ",
        "1h: no message within 0s..1h to buyer  stock_short: ",
        "1h: no message within 0s..1h to anybody  stock_short",
        "1h: no message within 0s..1h to anybody email",
        "1h: nothing should have been told within 0s..1h to anybody  stock_short, but was: sms stock_short ",
    ):
        assert any(failure.startswith(words) for failure in failures), (words, failures)
    assert any("lacks 'nonsense'" in failure and "has '1001'" in failure for failure in failures)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"playbook": "nonsense"}, "told: there is no playbook 'nonsense'"),
        ({"start": "Monday"}, "told: start: Invalid isoformat string"),
        ({"start": "2026-03-02T10:00"}, "told: start: a zone is missing"),
        ({"events": (("soon", "order.placed"),)}, "told: 'soon' is no span of time; write 30s"),
        ({"events": (("0s",),)}, r"told: event 1: write \[offset, type, data\]"),
        ({"events": ((0, "order.placed"),)}, r"told: event 1: write \[offset, type, data\]"),
        ({"events": (("0s", "no.such"),)}, r"told: event 1 \(no.such\): type: 'no.such' is not a type"),
    ],
)
async def test_scenario_when_it_makes_no_sense(changes: dict[str, Any], said: str) -> None:
    """A scenario that cannot be run says why, by its id."""
    with pytest.raises(ScenarioInvalid, match=said):
        await reported(msgspec.structs.replace(small()["told"], **changes))


async def test_scenario_when_nothing_happens() -> None:
    """A scenario without events or expectations holds."""
    assert (await reported(msgspec.structs.replace(small()["told"], events=(), expect=()))).failures == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- id: [", "this is not YAML"),
        ("id: x", "Expected `array`, got `object`"),
        ("- {id: x}", "missing required field `says`"),
        ("- {id: x, colour: red}", "unknown field `colour`"),
    ],
)
def test_scenario_file_when_broken(tmp_path: Path, text: str, said: str) -> None:
    """A file that follows no form is told by its name."""
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioInvalid, match=said):
        read_scenarios(path)


def test_scenario_file_when_unreadable(tmp_path: Path) -> None:
    """A file that is not there, or no text, is told by its name."""
    with pytest.raises(ScenarioInvalid, match="cannot be read: No such file"):
        read_scenarios(tmp_path / "x.yaml")
    path = tmp_path / "y.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ScenarioInvalid, match="this is not YAML"):
        read_scenarios(path)
