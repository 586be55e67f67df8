"""Logs hold no personal data and no false line ends; failpoints fail where and when they are told to."""

from collections.abc import Iterator

import pytest

from orderbell.errors import SettingsInvalid
from orderbell.observe import FailpointReached, arm_failpoints, count, counts, failpoint, mask, redact


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No failpoint outlives its test."""
    yield
    arm_failpoints("")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call 13812341234 now", "call 138****1234 now"),
        ("+8613812341234", "+86138****1234"),
        ("008613812341234 +86 13812341234", "0086138****1234 +86 138****1234"),
        ("138-1234-1234 or 138 1234 1234", "138****1234 or 138****1234"),
        ("+44 and +447911123456", "+44 and +447****56"),
        ("ann.lee@shop.example.cn", "a***@shop.example.cn"),
        ("postgresql://ann:pa55@db/x", "postgresql://ann:***@db/x"),
        ("key ob_abcdefghijkl", "key ob_***"),
        ("order 2026030212000001", "order 2026030212000001"),
    ],
)
def test_mask_hides_what_must_not_be_read(text: str, shown: str) -> None:
    """Phones, mail addresses, passwords and keys are masked, order numbers are not."""
    assert mask(text) == shown


def test_redact_goes_into_values_and_spells_line_ends_out() -> None:
    """A record stays one line, and what is secret by its name is hidden whatever it looks like."""
    record = {"event": "a\nb\x1b[31m", "phone": "1", "people": {"email": "x", "list": ["13812341234"]}, "count": 3}
    shown = redact(None, "info", record)
    assert shown == {
        "event": "a\\nb\\x1b[31m",
        "phone": "***",
        "people": {"email": "***", "list": ["138****1234"]},
        "count": 3,
    }


def test_failpoint_fails_at_the_visit_that_was_armed() -> None:
    """`@3` is the third visit alone, `@2+` the second and all later ones."""
    arm_failpoints("here=raise@3, there=raise@2+")
    outcomes = []
    for name in ("here", "there"):
        for _ in range(4):
            try:
                failpoint(name)
                outcomes.append(False)
            except FailpointReached:
                outcomes.append(True)
    assert outcomes == [False, False, True, False, False, True, True, True]


def test_failpoint_by_chance_follows_its_seed() -> None:
    """The same seed fails at the same visits, another one elsewhere."""

    def visits(seed: int) -> list[bool]:
        arm_failpoints("here=raise@30%", seed)
        found = []
        for _ in range(60):
            try:
                failpoint("here")
                found.append(False)
            except FailpointReached:
                found.append(True)
        return found

    assert visits(1) == visits(1) != visits(2)


def test_failpoint_with_a_wrong_form_is_refused() -> None:
    """A misspelt arm is no silent success."""
    with pytest.raises(SettingsInvalid, match="here=explode"):
        arm_failpoints("here=explode")


def test_counts_add_up() -> None:
    """What is counted can be read."""
    before = counts().get("test.things", 0)
    count("test.things")
    count("test.things", 2)
    assert counts()["test.things"] == before + 3
