"""The sandbox must refuse what a real provider refuses."""

import pytest

from orderbell.sandbox.ledger import Incoming
from orderbell.sandbox.rules import refusal, sms_fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("长" * 70, True),
        ("长" * 71, False),
        ("a" * 69 + "长", True),
        ("a" * 70 + "长", False),
        ("📦" * 35, True),
        ("📦" * 35 + "长", False),
        ("a" * 160, True),
        ("a" * 161, False),
        ("€" * 80, True),
        ("€" * 80 + "a", False),
        ("ç" * 70, True),
        ("ç" * 71, False),
        ("`" * 71, False),
    ],
)
def test_sms_length(text: str, fits: bool) -> None:
    """One segment is 160 septets of GSM-7, with two for the extension, or 70 UTF-16 units."""
    assert sms_fits(text) is fits


@pytest.mark.parametrize(
    ("channel", "to", "text", "code"),
    [
        ("sms", "+8613800138000", "hi", None),
        ("sms", "13800138000", "hi", None),
        ("sms", "+0123456789", "hi", "bad_recipient"),
        ("sms", "+861380013800012345", "hi", "bad_recipient"),
        ("sms", "a@b.cn", "hi", "bad_recipient"),
        ("sms", "+8613800138000\n", "hi", "bad_recipient"),
        ("sms", "+8613800138000", "", "bad_content"),
        ("sms", "+8613800138000", "长" * 71, "bad_content"),
        ("email", "a@b.cn", "长" * 71, None),
        ("email", "a@b@c", "hi", "bad_recipient"),
        ("email", "a b@c", "hi", "bad_recipient"),
        ("email", "@b.cn", "hi", "bad_recipient"),
        ("push", "token", "hi", None),
        ("wechat", "openid", "hi", None),
        ("inbox", " ", "hi", "bad_recipient"),
        ("push", "token", " \n", "bad_content"),
        ("email", "a@b.cn", "x" * 100_001, "bad_content"),
        ("pigeon", "loft", "hi", "bad_channel"),
    ],
)
def test_refusal(channel: str, to: str, text: str, code: str | None) -> None:
    """Addresses and texts must be checked by the rules of their channel."""
    refused = refusal(Incoming(attempt_id="", channel=channel, to=to, text=text))
    assert (refused and refused[0]) == code
