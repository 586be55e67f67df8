"""The nouns: what they say of themselves, and that they come back from storage as they went in."""

from datetime import timedelta

import msgspec
import pytest

from orderbell.core.events import ChannelName
from orderbell.core.model import (
    Anomaly,
    Contact,
    EndpointState,
    History,
    Told,
    Try,
    decode_contact,
    decode_history,
    decode_notice,
    decode_order,
    derive_id,
    encode_state,
)
from tests.core.samples import NOON, contact, notice, order


@pytest.mark.parametrize(
    ("channel", "address"),
    [("sms", "+86138"), ("email", "a@b"), ("push", "app:1"), ("wechat", "wx:1"), ("inbox", "ann")],
)
def test_contact_endpoint_of_channel(channel: ChannelName, address: str) -> None:
    """Each channel has its own address; everybody has an inbox."""
    person = Contact("acme", "ann", "+86138", "a@b", "app:1", "wx:1")
    assert person.endpoint(channel) == address
    assert person.key == ("acme", "ann")


@pytest.mark.parametrize(
    ("state", "address"),
    [("verified", "+86138"), ("bounced", "+86138"), ("blocked", ""), ("landline", ""), ("invalid", "")],
)
def test_contact_endpoint_that_is_dead(state: EndpointState, address: str) -> None:
    """An address that will never work is none; the other channels and the inbox stay."""
    person = Contact("acme", "ann", "+86138", app="app:1", states={"sms": state})
    assert (person.endpoint("sms"), person.endpoint("push"), person.endpoint("inbox")) == (address, "app:1", "ann")


def test_order_says_its_anomalies_and_next_timer() -> None:
    """An open anomaly is found by name, and the first timer is the next."""
    found = Anomaly("short", NOON, "stock.short")
    one = order(anomalies=(found,), timers={"b": NOON + timedelta(1), "a": NOON})
    assert (one.anomaly("short"), one.anomaly("late")) == (found, None)
    assert (one.next_due_at, order().next_due_at) == (NOON, None)


def test_state_comes_back_from_storage() -> None:
    """Order, notice and contact survive their encoding, and two equal values have equal bytes."""
    whole = order(anomalies=(Anomaly("late", NOON, "x", NOON),), marks={"m": NOON}, fired={"x": NOON}, promised_by=NOON)
    assert decode_order(encode_state(whole)) == whole
    assert decode_notice(encode_state(notice("paid"))) == notice("paid")
    assert decode_contact(encode_state(contact(mute=("may",)))) == contact(mute=("may",))
    tried = notice("paid", tried=(Try("sms", b"1" * 16, NOON),), withdraws=("late",), version=7)
    assert decode_notice(encode_state(tried)) == tried
    person = contact(states={"sms": "blocked"}, checked_at=NOON, order_count=3)
    assert decode_contact(encode_state(person)) == person
    history = History((Told(NOON, "A1", "paid", "service", "sms"),), NOON)
    assert decode_history(encode_state(history)) == history
    assert encode_state(whole) == encode_state(msgspec.structs.replace(whole))


def test_id_depends_on_inputs_alone() -> None:
    """Equal inputs give equal ids, ids of later moments sort later, and parts do not run into each other."""
    assert derive_id(NOON, "a", 1) == derive_id(NOON, "a", 1)
    assert len(derive_id(NOON, "a")) == 16
    assert derive_id(NOON, "z") < derive_id(NOON + timedelta(seconds=1), "a")
    assert derive_id(NOON, "a", "bc") != derive_id(NOON, "ab", "c")
