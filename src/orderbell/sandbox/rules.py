"""What a real provider would refuse: addresses of the wrong shape and texts that are too long."""

import re
from typing import Final

from orderbell.sandbox.ledger import Incoming

CHANNELS: Final = frozenset({"sms", "email", "push", "wechat", "inbox"})

# One segment (3GPP TS 23.038 and 23.040: 140 bytes are 160 septets or 70 UTF-16 units).
_GSM_SEPTETS_MAX: Final = 160
_UTF16_UNITS_MAX: Final = 70
_TEXT_LENGTH_MAX: Final = 100_000

# 3GPP TS 23.038, section 6.2.1: the default alphabet, and its extension, whose characters take two septets.
_GSM_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION: Final = frozenset("\f^{}\\[~]|€")
_GSM_ALL: Final = _GSM_BASIC | _GSM_EXTENSION

# ITU-T E.164: up to 15 digits; the plus may be missing, as it is with domestic numbers.
_matches_phone = re.compile(r"\+?[1-9][0-9]{6,14}").fullmatch
_matches_email = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}").fullmatch


def sms_fits(text: str) -> bool:
    """Tell whether a text is one SMS segment: 160 septets of GSM-7, otherwise 70 UTF-16 units."""
    if len(text) > _GSM_SEPTETS_MAX:
        return False
    if _GSM_ALL.issuperset(text):
        return len(text) + sum(character in _GSM_EXTENSION for character in text) <= _GSM_SEPTETS_MAX
    return len(text) + sum(character > "\uffff" for character in text) <= _UTF16_UNITS_MAX


def refusal(incoming: Incoming) -> tuple[str, str] | None:
    """Say with which code and why a message is refused, or None if it is taken."""
    channel = incoming.channel
    if channel not in CHANNELS:
        return "bad_channel", f"channel must be one of {', '.join(sorted(CHANNELS))}"
    if channel == "sms":
        reachable = _matches_phone(incoming.to) is not None
    elif channel == "email":
        reachable = _matches_email(incoming.to) is not None
    else:
        reachable = bool(incoming.to.strip())
    if not reachable:
        return "bad_recipient", f"not an address of channel {channel}"
    if not incoming.text.strip():
        return "bad_content", "text is empty"
    if channel == "sms" and not sms_fits(incoming.text):
        return "bad_content", "text is longer than one segment: 160 GSM-7 septets, otherwise 70 UTF-16 units"
    if len(incoming.text) > _TEXT_LENGTH_MAX:
        return "bad_content", f"text is longer than {_TEXT_LENGTH_MAX} characters"
    return None
