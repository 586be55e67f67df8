"""Callback addresses stand open to the world: whatever arrives there, a channel hears it or refuses it."""

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Callback, CallbackRefused, Channel, Heard
from orderbell.channels.registry import KINDS, make_channel, options_type
from tests.kinds import every_kind

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WORDS = """
MessageSid MessageStatus Body From To attempt SmsSid signature msg_signature timestamp nonce echostr encrypt_type
phone_number send_time report_time success err_code out_id biz_id content sign_name template_code template_status
sign_status mobile nationcode report_status sid user_receive_time extend sign bodySHA256 ErrorCode event Event
MsgType FromUserName CreateTime MsgID Status List SubscribeMsgPopupEvent TemplateId Encrypt ToUserName type reason
"""
NAMES = WORDS.split()
METHODS = ("GET", "POST")
KINDS_OF_CALLS = ("", "receipts", "replies", "reviews", "events")


def now() -> datetime:
    """Tell the time."""
    return NOON


def channel_of(kind: str) -> Channel:
    """A channel of a kind, with all that it can verify."""
    text = f"[[provider]]\n{every_kind()[kind]}\n"
    options = msgspec.convert(tomllib.loads(text)["provider"][0], options_type(kind))
    return make_channel(kind, options, name=kind, now=now, shared=KeptInMemory(now))


def hear(channel: Channel, callback: Callback) -> Heard | None:
    """What is heard, None where it is refused; nothing else may come of it."""
    try:
        return channel.hear(callback)
    except CallbackRefused as problem:
        refused = problem
    assert 400 <= refused.status < 500
    return None


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["2026-03-02 12:00:00", "DELIVRD", "0", "-1", "9" * 400, "\0", "+8613800138000"])
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
pairs = st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20), max_size=6)


def _xml(tree: dict[str, str]) -> bytes:
    return f"<xml>{''.join(f'<{name}>{text}</{name}>' for name, text in tree.items())}</xml>".encode()


bodies = st.one_of(
    st.binary(max_size=200),
    trees.map(lambda tree: json.dumps(tree).encode()),
    trees.map(lambda tree: json.dumps([tree]).encode()),
    pairs.map(lambda form: urlencode(form).encode()),
    pairs.map(_xml),
)
callbacks = st.builds(
    Callback,
    method=st.sampled_from(METHODS),
    url=st.sampled_from(["https://bell.example/v1/callbacks/p/t", "https://bell.example/v1/callbacks/p/t/receipts?bodySHA256=x"]) | st.text(max_size=20),
    headers=st.dictionaries(
        st.sampled_from(["x-twilio-signature", "content-type", "authorization", "x-twilio-idempotency-token"]),
        st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/xml; charset=\xff"]) | st.text(max_size=20),
    ),
    query=pairs,
    body=bodies,
    kind=st.sampled_from(KINDS_OF_CALLS),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_is_heard_or_refused(kind: str) -> None:
    """Nothing that anybody sends may end in anything but words of the provider or a refusal."""
    channel = channel_of(kind)

    @settings(max_examples=120, deadline=None)
    @given(callbacks)
    def check(callback: Callback) -> None:
        heard = hear(channel, callback)
        if heard is not None:
            assert all(receipt.at.utcoffset() is not None for receipt in heard.receipts)
            assert all(message.at.utcoffset() is not None for message in heard.inbound)
            assert 200 <= heard.status < 500

    check()


DEEP: dict[str, Callable[[], bytes]] = {
    "lists": lambda: b"[" * 500_000,
    "closed lists": lambda: b"[" * 400_000 + b"]" * 400_000,
    "objects": lambda: b'{"data":' * 100_000 + b"1" + b"}" * 100_000,
    "objects in a list": lambda: b'[{"send_time":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]",
    "elements": lambda: b"<xml>" * 150_000 + b"</xml>" * 10,
    "entities": lambda: b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><xml><Event>&b;</Event></xml>',
    "a foreign entity": lambda: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Event>&a;</Event></xml>',
    "a long number": lambda: b'[{"success":true,"report_time":' + b"9" * 900_000 + b"}]",
    "many pairs": lambda: b"&".join(b"a%d=1" % number for number in range(100_000)),
    "many elements": lambda: b"[" + b",".join([b"{}"] * 300_000) + b"]",
    "zero bytes": lambda: bytes(1_048_576),
    "half characters": lambda: b'[{"content":"\\ud83d"}]',
    "nothing": bytes,
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("kind", KINDS)
def test_bodies_that_break_readers(kind: str, name: str) -> None:
    """Depth, length and numbers beyond all reason must be refused, or heard, and never kill."""
    channel, body = channel_of(kind), DEEP[name]()
    assert len(body) <= 1_048_576 or name in ("lists", "closed lists", "objects", "many elements", "objects in a list")
    for method in METHODS:
        for call in KINDS_OF_CALLS:
            for content_type in ("application/json", "application/x-www-form-urlencoded", "text/xml"):
                headers = {"content-type": content_type, "x-twilio-signature": "x"}
                hear(channel, Callback(method, "https://bell.example/x", headers, {}, body, call))
