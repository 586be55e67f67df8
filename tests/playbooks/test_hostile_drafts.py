"""Drafts that mean harm: whatever is written, reading and comparing them ends soon, with a fault that names a line."""

import time

import pytest

from orderbell.playbooks import check_draft
from orderbell.playbooks.writing import as_yaml, difference

SOON_S = 8.0
"""Far more than a slow machine needs; without bounds all of these take minutes or hours."""

BEGIN = "name: retail\nextends: retail\n"


@pytest.mark.parametrize("value", ['!!int ""', '!!float ""', '!!int "-"', "!!timestamp foo", "!!bool maybe"])
@pytest.mark.parametrize("field", ["name", "stages", "note"])
def test_tag_that_does_not_fit_is_a_fault(value: str, field: str) -> None:
    """A tag on a text that is none of its kind must be a fault with its line, never an exception."""
    checked = check_draft(f"extends: retail\n{field}: {value}\n")
    assert checked.playbook is None
    assert [fault.line for fault in checked.faults] == [2]
    assert "cannot be read as" in checked.faults[0].message


@pytest.mark.parametrize("name", ["''", '"a\\0b"', "a/b", "'<b>'", "'a b'", "a" * 65, '"a\\nb"'])
def test_name_that_no_address_can_hold_is_a_fault(name: str) -> None:
    """The name of a playbook stands in addresses, events and tables; another one must be a fault of its line."""
    faults = check_draft(f"extends: retail\nname: {name}\n").faults
    assert [(fault.line, fault.where) for fault in faults] == [(2, "name")]
    assert check_draft("extends: retail\nname: 零售-2_b\n").faults == ()


def test_thousands_of_languages_are_refused_soon() -> None:
    """Words for thousands of languages must not take longer with each of them."""
    body = BEGIN + "wording:\n" + "".join(f"  l{n}: {{texts: {{}}}}\n" for n in range(4000))
    began = time.perf_counter()
    assert check_draft(body).faults
    assert time.perf_counter() - began < SOON_S


def test_wrong_key_among_thousands_is_found_soon() -> None:
    """The one key of a large mapping that is wrong must be named, without a reading of all for each of them."""
    stages = "".join(f"  s{n}: {{}}\n" for n in range(2500)) + "  odd: 5\n" + "  even: {}\n"
    rules = "rules:\n" + "- {on: payment.succeeded, stage: paid}\n" * 1200
    began = time.perf_counter()
    (fault,) = check_draft(f"{BEGIN}stages:\n{stages}{rules}").faults
    assert time.perf_counter() - began < SOON_S
    assert (fault.where, fault.line) == ("stages.odd", 2504)


def test_versions_full_of_the_same_line_are_compared_soon() -> None:
    """Playbooks that repeat a rule a thousand times must be compared in seconds, and what differs must be shown."""

    def whole(kinds: list[str]) -> str:
        body = BEGIN + "rules:\n" + "".join(f"- {{on: {kind}, stage: paid}}\n" for kind in kinds)
        playbook = check_draft(body).playbook
        assert playbook is not None
        return as_yaml(playbook.spec, {})

    old = whole(["payment.succeeded"] * 1000)
    new = whole(["payment.succeeded", "payment.succeeded", "payment.failed"] * 333)
    began = time.perf_counter()
    found = difference(old, new)
    assert time.perf_counter() - began < SOON_S
    assert any(line.kind == "new" and "payment.failed" in line.text for line in found)
    assert difference(old, old) == []
