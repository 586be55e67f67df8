"""Plans for Ann, and their outcome in a few words."""

from collections.abc import Mapping
from datetime import timedelta

from orderbell.core.events import ChannelName
from orderbell.core.model import Contact, History, Lane, Notice, Outlook, Plan, Reason, Told
from orderbell.core.plan import PATIENCE, plan
from orderbell.core.playbook import Playbook
from tests.core.samples import NOON, contact, playbook

BOOK = playbook()
ALL: tuple[ChannelName, ...] = ("sms", "email", "push", "wechat", "inbox")
NIGHT = "11:00-20:00"  # in UTC, about noon
EVERYWHERE = {"app": "app:1", "wechat": "wx:1", "email": "a@example.com"}


def planned(
    *notices: Notice,
    who: Contact | None = None,
    at_s: float = 0,
    channels: tuple[ChannelName, ...] = ALL,
    book: Playbook = BOOK,
    heard: History | tuple[Told, ...] = (),
    statuses: Mapping[bytes, str] | None = None,
) -> Plan:
    """A plan for Ann, `at_s` seconds after noon."""
    outlook = Outlook(dict.fromkeys(channels, PATIENCE), statuses or {})
    history = heard if isinstance(heard, History) else History(heard)
    person = contact() if who is None else who
    return plan({"small": book}, person, history, notices, NOON + timedelta(seconds=at_s), outlook)


def told(
    *at_s: float, topic: str = "paid", no: str = "A1", lane: Lane = "service", channel: ChannelName = "sms"
) -> tuple[Told, ...]:
    """What Ann has heard, so many seconds after noon."""
    return tuple(Told(NOON + timedelta(seconds=one), no, topic, lane, channel) for one in at_s)


def short(found: Plan) -> list[tuple[str, str, Reason]]:
    """The fates in short."""
    return [(fate.notice.topic, fate.kind, fate.reason) for fate in found.fates]


def sent(found: Plan) -> list[tuple[str, str]]:
    """The messages in short."""
    return [(message.topic, message.channel) for message in found.messages]
