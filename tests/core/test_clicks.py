"""Who followed a link: a person, or a program that opens everything."""

from datetime import timedelta

import pytest

from orderbell.core.clicks import BURST, SOON, SOON_IN_MAIL, Click, ClickReason, Seen, judge_click
from tests.dispatch.rig import NOON

PHONE = "Mozilla/5.0 (Linux; Android 15; V2419A) AppleWebKit/537.36 MicroMessenger/8.0.56 NetType/5G"
LATER = NOON + timedelta(minutes=5)


def judged(
    method: str = "GET", agent: str = PHONE, purpose: str = "", channel: str = "email", **more: object
) -> ClickReason:
    """Judge a request five minutes after the message was handed over."""
    at = more.get("at", LATER)
    earlier = more.get("earlier", ())
    click = Click(method, agent, purpose, at, b"me", bool(more.get("trap")))  # type: ignore[arg-type]
    return judge_click(click, channel, NOON, earlier)  # type: ignore[arg-type]


def test_click_of_a_person() -> None:
    """A browser that asks minutes later must count, WeChat's and DingTalk's own ones too."""
    assert judged() is ClickReason.PERSON
    assert judged(agent="Mozilla/5.0 (iPhone) AppleWebKit/605 DingTalk/7.6") is ClickReason.PERSON


@pytest.mark.parametrize(
    "agent",
    [
        "", "curl/8.9", "python-requests/2.32", "Mozilla/5.0 (compatible; Googlebot/2.1)", "WhatsApp/2.24 A",
        "Slackbot-LinkExpanding 1.0", "TelegramBot (like TwitterBot)", "facebookexternalhit/1.1",
        "Mozilla/5.0 (Windows NT 5.1) GoogleImageProxy", "SkypeUriPreview Preview/0.5", "Go-http-client/2.0",
        "Mozilla/5.0 HeadlessChrome/140", "Barracuda Sentinel", "Mimecast URL Protect",
    ],
)  # fmt: skip
def test_click_of_a_known_program(agent: str) -> None:
    """What names itself as a program must not count."""
    assert judged(agent=agent) is ClickReason.PROGRAM


def test_click_that_is_no_navigation() -> None:
    """HEAD and prefetching must not count: nobody has looked."""
    assert judged(method="HEAD") is ClickReason.NOT_GET
    for purpose in ("prefetch", "prefetch;prerender", "preview"):
        assert judged(purpose=purpose) is ClickReason.PREFETCH


def test_click_sooner_than_anybody_reads() -> None:
    """A mail passes scanners first; other channels are read within seconds."""
    assert judged(at=NOON + SOON_IN_MAIL - timedelta(seconds=1)) is ClickReason.TOO_SOON
    assert judged(at=NOON + SOON_IN_MAIL) is ClickReason.PERSON
    assert judged(channel="push", at=NOON + SOON) is ClickReason.PERSON
    assert judged(channel="push", at=NOON + SOON / 2) is ClickReason.TOO_SOON


def test_clicks_of_two_programs_at_once() -> None:
    """Two visitors within two seconds are a scanner and its twin; an impatient finger taps twice."""
    moment = LATER - BURST / 2
    assert judged(earlier=[Seen(moment, b"other", "person")]) is ClickReason.BURST
    assert judged(earlier=[Seen(moment, b"me", "person")]) is ClickReason.PERSON
    assert judged(earlier=[Seen(LATER - BURST, b"other", "person")]) is ClickReason.PERSON


def test_click_of_who_opens_what_nobody_sees() -> None:
    """Whoever opened the trap opens everything, before and after."""
    assert judged(trap=True) is ClickReason.TRAP
    assert judged(earlier=[Seen(NOON, b"x", ClickReason.TRAP)]) is ClickReason.TRAP
