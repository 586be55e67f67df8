"""What a reply means to an order: which question it answers, and what becomes of one that answers none."""

from datetime import timedelta
from typing import Any

import pytest

from orderbell.core.asks import interpret
from orderbell.core.events import Event
from orderbell.core.model import Anomaly, Order
from orderbell.core.playbook import Playbook
from tests.core.samples import NOON, event, order, playbook

BOOK = playbook()
PRICE = order("paid", marks={"price_open": NOON})
SHORT = order("paid", anomalies=(Anomaly("short", NOON, "stock.short"),))
UNTIL = order("paid", until=NOON + timedelta(days=3))
CALM = order("paid")


def read(text: str, about: Order | None, book: Playbook = BOOK, **data: Any) -> Event:  # noqa: ANN401 - fields of any event
    """The event that a reply stands for."""
    return interpret(book, about, event("reply.received", 60, text=text, **data))


def meant(text: str, about: Order | None, book: Playbook = BOOK) -> tuple[str, str, int]:
    """Type, option or meaning, and days of that event."""
    found = read(text, about, book)
    option = getattr(found.data, "option", "") or getattr(found.data, "meaning", "")
    return found.type, option, getattr(found.data, "days", 0)


@pytest.mark.parametrize(
    ("text", "about", "option", "days"),
    [
        ("Y", PRICE, "agree", 0),
        ("回复Y", PRICE, "agree", 0),
        ("确认", PRICE, "agree", 0),
        ("N", PRICE, "decline", 0),
        ("取消", PRICE, "decline", 0),
        ("不同意", PRICE, "decline", 0),
        ("1", SHORT, "wait", 0),
        ("②", SHORT, "refund", 0),
        ("等补货", SHORT, "wait", 0),
        ("我要退款", SHORT, "refund", 0),
        ("退", SHORT, "refund", 0),
        ("延期三天", UNTIL, "extend", 3),
        ("extend 1 week", UNTIL, "extend", 7),
        ("延期30天", UNTIL, "extend", 30),
    ],
)
def test_reply_answers_the_open_question(text: str, about: Order, option: str, days: int) -> None:
    """Yes, no, a number, a word or a span of days answers the question that offers it."""
    assert meant(text, about) == ("choice.made", option, days)


@pytest.mark.parametrize(
    ("text", "about", "meaning"),
    [
        ("Y", CALM, "yes"),
        ("Y", SHORT, "yes"),
        ("N", SHORT, "no"),
        ("N", CALM, "no"),
        ("取消", CALM, "other"),
        ("3", SHORT, "choice"),
        ("换货", SHORT, "choice"),
        ("1", PRICE, "choice"),
        ("延期31天", UNTIL, "extend"),
        ("延期3天", SHORT, "extend"),
        ("TD", PRICE, "opt_out"),
        ("好的", PRICE, "thanks"),
        ("查询", PRICE, "status"),
        ("星期几能到", PRICE, "other"),
        ("Y", None, "yes"),
    ],
)
def test_reply_that_answers_nothing_keeps_its_type(text: str, about: Order | None, meaning: str) -> None:
    """Without a question that takes the answer a reply stays a reply, and says how it was read."""
    assert meant(text, about) == ("reply.received", meaning, 0)


def test_reply_with_a_complaint_becomes_one() -> None:
    """An angry reply is a complaint with its words, whatever was asked; its people and its id stay."""
    found = read("骗子，我要投诉你们", PRICE, people={"buyer": {"id": "ann"}})
    assert (found.type, getattr(found.data, "text", "")) == ("complaint.opened", "骗子，我要投诉你们")
    assert (found.id, found.people is not None) == ("reply.received@60", True)


def test_reply_keeps_who_sent_it() -> None:
    """What stays a reply still says from whom it is."""
    found = read("查询", CALM, sender="family")
    assert (getattr(found.data, "sender", ""), getattr(found.data, "meaning", "")) == ("family", "status")


def test_two_open_questions() -> None:
    """The newest question that takes the answer counts; an answer only the older one takes goes to that one."""
    later = NOON + timedelta(minutes=5)
    extra = playbook(asks={"refund": {"while": "anomaly:short", "yes": "refund"}})
    newest_stock = order("paid", marks={"price_open": NOON}, anomalies=(Anomaly("short", later, "stock.short"),))
    newest_price = order("paid", marks={"price_open": later}, anomalies=(Anomaly("short", NOON, "stock.short"),))
    assert meant("Y", newest_stock, extra) == ("choice.made", "refund", 0)
    assert meant("Y", newest_price, extra) == ("choice.made", "agree", 0)
    assert meant("N", newest_stock, extra) == ("choice.made", "decline", 0)


def test_question_is_open_only_in_its_stages() -> None:
    """A question of another stage, or of an order that has ended, takes no answer."""
    assert meant("延期3天", order("shipped", until=NOON)) == ("reply.received", "extend", 0)
    assert meant("Y", order("cancelled", marks={"price_open": NOON})) == ("reply.received", "yes", 0)
