"""Whether a request for a short link was a person's: scanners of mail and previews of chats open links within seconds.

No decision may hang on a click; they are counted, to learn which messages are read (S0-25).
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

SOON: Final = timedelta(seconds=2)
"""Nobody has read a message so short a time after it was handed over."""

SOON_IN_MAIL: Final = timedelta(seconds=10)
"""Mail passes scanners on its way, before its reader can open it."""

BURST: Final = timedelta(seconds=2)
"""Two programs that open a message's links within it are a scanner and its twin, not two people."""

# What names itself as a program: crawlers, previews of chats, scanners of mail, and libraries. Browsers inside chats
# (MicroMessenger, DingTalk, QQ) are people's.
_PROGRAM: Final = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|preview|prefetch|monitor|headless|phantom|lighthouse|facebookexternalhit|"
    r"embedly|slack-|slackbot|telegrambot|whatsapp|discord|skypeuri|vkshare|pinterest|imageproxy|mailproxy|"
    r"safelinks|proofpoint|urldefense|mimecast|barracuda|trendmicro|symantec|forcepoint|sophos|zscaler|"
    r"google-read|feedfetcher|apache-http|python|aiohttp|httpx|urllib|curl/|wget/|libwww|go-http|java/|okhttp|"
    r"axios|node-fetch|undici|scrapy|guzzle|postman|ruby|perl|php/",
    re.IGNORECASE,
)


class ClickReason(StrEnum):
    """Why a request counts as a person's, or not."""

    PERSON = "person"
    NOT_GET = "not_get"
    PREFETCH = "prefetch"  # the browser says that nobody has asked for it yet
    PROGRAM = "program"
    TOO_SOON = "too_soon"
    BURST = "burst"
    TRAP = "trap"  # the link that no person sees was opened as well


class Click(Struct, frozen=True):
    """A request for a short link; `purpose` are the headers Sec-Purpose and Purpose, `visitor` tells programs apart."""

    method: str
    agent: str
    purpose: str
    at: datetime
    visitor: bytes = b""
    trap: bool = False


class Seen(Struct, frozen=True):
    """An earlier request for the link of the same message."""

    at: datetime
    visitor: bytes
    reason: str


def judge_click(click: Click, channel: str, handed_over_at: datetime, earlier: Sequence[Seen]) -> ClickReason:
    """Say whether a person clicked; `earlier` are the requests for the same message's link so far, newest first."""
    if click.trap or any(seen.reason == ClickReason.TRAP for seen in earlier):
        return ClickReason.TRAP
    if click.method != "GET":
        return ClickReason.NOT_GET
    if click.purpose:  # "prefetch", "prefetch;prerender", "preview": a navigation brings no such header
        return ClickReason.PREFETCH
    if not click.agent or _PROGRAM.search(click.agent):
        return ClickReason.PROGRAM
    if click.at - handed_over_at < (SOON_IN_MAIL if channel == "email" else SOON):
        return ClickReason.TOO_SOON
    if any(click.at - seen.at < BURST and seen.visitor != click.visitor for seen in earlier):
        return ClickReason.BURST
    return ClickReason.PERSON
