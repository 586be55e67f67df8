"""Changes that people make about themselves: what is taken, what is refused in which words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.core.events import Person
from orderbell.core.model import Contact
from orderbell.core.turn import Shelf, contact_id
from orderbell.core.wishes import (
    CHANNELS,
    FIELDS,
    Change,
    Refusal,
    apply_change,
    categories_of,
    changed_fields,
    check_change,
    is_stale,
    read_change,
    region_of,
)
from tests.core.samples import playbook

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
KEY = bytes(32)
ANN = Contact("acme", "ann", "+8613800138000", "ann@example.com", states={"sms": "verified"})


def shelf() -> Shelf:
    """The playbooks of a tenant."""
    return Shelf({"sample": playbook()}, "sample")


def change(**tree: object) -> Change:
    """A change that makes sense."""
    made = read_change(tree)
    assert isinstance(made, Change), made
    return made


def refusal(**tree: object) -> Refusal:
    """Why a change is refused, for whatever reason."""
    made = read_change(tree)
    found = made if isinstance(made, Refusal) else check_change(made, ANN, shelf(), KEY)
    assert found is not None
    return found


def test_change_lays_itself_over() -> None:
    """What is named must change, what is not must stay, and what is null or empty must be as if never said."""
    new = apply_change(ANN, change(quiet="23:00-07:00", mute=["may", "may"], frequency="calm"), NOON)
    assert new == msgspec.structs.replace(ANN, quiet="23:00-07:00", mute=("may",), frequency="calm")
    blank = apply_change(new, change(quiet="", mute=None, frequency=None), NOON)
    assert blank == ANN
    assert apply_change(ANN, change(), NOON) is ANN


def test_fields_that_differ_are_named() -> None:
    """What changed must be named without its values, those of consent and addresses among them."""
    new = apply_change(ANN, change(quiet="23:00-07:00", marketing=True, email="ann@example.org"), NOON)
    assert sorted(changed_fields(ANN, new)) == ["email", "marketing", "quiet"]
    assert changed_fields(ANN, ANN) == []


def test_addresses_grow_stale() -> None:
    """After the span of the playbook's review they want looking over; without one, or without a playbook, never."""
    known = msgspec.structs.replace(ANN, checked_at=NOON)
    reviewed = Shelf({"sample": playbook(review={"every": "30d", "tell": "paid"})}, "sample")
    assert is_stale(known, reviewed, NOON + timedelta(days=30))
    assert not is_stale(known, reviewed, NOON + timedelta(days=29))
    assert not is_stale(ANN, reviewed, NOON + timedelta(days=30))
    assert not is_stale(known, Shelf({}), NOON + timedelta(days=30))


def test_consent_is_given_and_taken_back() -> None:
    """A word on marketing changes it and says when; the same word again changes nothing."""
    agreed = apply_change(Contact("acme", "ann"), change(marketing=True), NOON)
    assert (agreed.marketing, agreed.marketing_at) == ("yes", NOON)
    later = NOON + timedelta(days=1)
    assert apply_change(agreed, change(marketing=True), later) == agreed
    assert apply_change(agreed, change(marketing=False), later).marketing == "no"


def test_endpoints_are_replaced_and_taken_away() -> None:
    """A new address must begin without a state, a lost one must take its state along, and both are looked over."""
    other = apply_change(ANN, change(phone="139 0013 9000"), NOON)
    assert (other.phone, other.states, other.checked_at) == ("+8613900139000", {}, NOON)
    gone = apply_change(ANN, change(phone=None), NOON)
    assert (gone.phone, gone.states, gone.email, gone.checked_at) == ("", {}, ANN.email, NOON)
    assert apply_change(ANN, change(phone="010-62345678"), NOON).states == {"sms": "landline"}
    assert apply_change(ANN, change(phone="030 901820"), NOON, "DE").phone == "+4930901820"


def test_tier_is_set_and_given_back() -> None:
    """A tier that is set must hold against the rules, and null must give it back to them."""
    vip = apply_change(ANN, change(tier="vip"), NOON)
    assert (vip.tier, vip.tier_set) == ("vip", True)
    back = apply_change(vip, change(tier=None), NOON)
    assert (back.tier, back.tier_set) == ("vip", False)


@pytest.mark.parametrize(
    ("tree", "field", "words"),
    [
        ({"id": "x"}, "id", "never changes"),
        ({"nick": None}, "nick", "known: phone"),
        ({"marketing": None}, "marketing", "true or false"),
        ({"quiet": "24:00-08:00"}, "quiet", "22:00-08:00"),
        ({"quiet": 7}, "quiet", "Expected `str`"),
        ({"timezone": "Mars"}, "timezone", "no time zone"),
        ({"locale": "zh_CN"}, "locale", "no language"),
        ({"phone": "call me"}, "phone", "cannot be read"),
        ({"mute": ["may"] * 101}, "mute", "at most 100"),
        ({"mute": ["nonsense"]}, "mute", "no category 'nonsense'; known: "),
        ({"mute": ["must:pigeon"]}, "mute", f"known: {', '.join(CHANNELS)}"),
        ({"mute": ["must"]}, "mute", "cannot be turned off"),
    ],
)
def test_refusals_name_field_and_remedy(tree: dict[str, object], field: str, words: str) -> None:
    """A refusal must name the field and say what would do."""
    found = refusal(**tree)
    assert found.field == field
    assert words in found.detail


def test_channel_of_a_mandatory_category_may_be_muted() -> None:
    """One channel of what an order cannot do without can be turned off."""
    assert check_change(change(mute=["must:sms", "must:inbox"]), ANN, shelf(), KEY) is None


def test_person_known_by_an_address_keeps_it() -> None:
    """An id that stands for a phone or a mail address must not be given another one; the same one is none."""
    phone = msgspec.structs.replace(ANN, id=contact_id("", "", Person(phone=ANN.phone), KEY))
    mail = msgspec.structs.replace(ANN, phone="", id=contact_id("", "", Person(email=ANN.email), KEY))
    blank = Contact("acme", "bob")
    cases: list[tuple[Contact, dict[str, Any], str]] = [
        (phone, {"phone": "+8613900139000"}, "phone"), (phone, {"phone": None}, "phone"),
        (mail, {"email": "x@example.com"}, "email"), (phone, {"phone": "138 0013 8000", "email": "x@example.com"}, ""),
        (mail, {"email": "ANN@example.com", "phone": "+8613900139000"}, ""), (ANN, {"phone": "+8613900139000"}, ""),
        (blank, {"phone": "+8613900139000", "email": "x@example.com"}, ""),
    ]  # fmt: skip
    for contact, wanted, field in cases:
        found = check_change(change(**wanted), contact, shelf(), KEY)
        assert (found.field if found is not None else "") == field


def test_categories_of_all_playbooks() -> None:
    """A category must be mandatory for a tenant as soon as one of the playbooks says so."""
    lenient = playbook(categories={"must": {"mandatory": False}})
    assert not categories_of(Shelf({"lenient": lenient}))["must"]
    both = Shelf({"strict": playbook(), "lenient": lenient})
    assert categories_of(both)["must"]
    assert (region_of(shelf()), region_of(Shelf({}))) == ("CN", "CN")
    assert "id" not in FIELDS
