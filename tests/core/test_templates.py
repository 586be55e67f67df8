"""The texts as providers approve them: unfilled, with every phrase in and out, and what went into them."""

from datetime import timedelta

import msgspec

from orderbell.core.events import ChannelName
from orderbell.core.model import Contact, History, Outlook, Plan, Reason
from orderbell.core.plan import PATIENCE, plan
from orderbell.core.playbook import Playbook
from tests.core.samples import NOON, contact, notice, playbook

BOOK = playbook({"texts": {"paid": {"sms": ["Order {order_no}: paid.{until_next}", "Paid: {order_no}."]}}})
FULL = "Order {order_no}: paid. More within {next}."
BARE = "Order {order_no}: paid."
SHORT = "Paid: {order_no}."


def planned(
    approved: set[str] | None = None,
    channel: ChannelName = "sms",
    who: Contact | None = None,
    topic: str = "paid",
    book: Playbook = BOOK,
    **values: str | int,
) -> Plan:
    """The plan of one notice; `approved` are the templates of the channel, None where none are needed."""
    told = notice(topic, values={"order_no": "A1", **values})
    needed = {} if approved is None else {channel: approved}
    outlook = Outlook({channel: PATIENCE}, templated=frozenset({channel}), approved=needed)
    return plan({"small": book}, who or contact(), History(), [told], NOON, outlook)


def test_templates_of_a_topic() -> None:
    """Every rung of the ladder is there with and without each of its phrases, variables in the order of the text."""
    found = [(one.text, one.names) for one in BOOK.wording["en"].templates("paid", "sms")]
    explained = [
        ("Order {order_no}: paid. More within {next}. We pack it next.", ("order_no", "next")),
        ("Order {order_no}: paid. We pack it next.", ("order_no",)),
    ]
    assert found[:3] == [(FULL, ("order_no", "next")), (BARE, ("order_no",)), (SHORT, ("order_no",))]
    assert set(explained) <= set(found[3:])


def test_template_of_marketing_ends_with_the_way_out() -> None:
    """The opt-out line is part of what the provider approves; signatures are not."""
    [first, *_] = BOOK.wording["en"].templates("offer", "sms", marketing=True)
    assert first.text.endswith(" Reply R to stop.")
    assert first.marketing
    assert not first.text.startswith("[")


def test_message_brings_its_template() -> None:
    """A message says which template it fills, and with what."""
    [message] = planned(next=7200).messages
    assert (message.template, message.slots) == (FULL, (("order_no", "A1"), ("next", "2 h")))
    assert message.text.endswith("] Order A1: paid. More within 2 h.")
    [bare] = planned().messages
    assert (bare.template, bare.slots) == (BARE, (("order_no", "A1"),))


def test_message_to_a_newcomer_brings_the_explained_template() -> None:
    """What is explained is a template of its own."""
    [message] = planned(who=contact(tier="new")).messages
    assert message.template == BARE + " We pack it next."


def test_words_that_lack_a_value_fill_no_slot_with_nothing() -> None:
    """No provider takes an empty word."""
    book = playbook({"texts": {"paid": {"sms": ["Order {order_no}, {carrier}."]}}})
    [message] = planned(book=book).messages
    assert dict(message.slots)["carrier"] == "-"


def test_only_approved_texts_are_written() -> None:
    """What no provider has approved is passed over for the next text of the ladder."""
    assert [one.template for one in planned({FULL, SHORT}, next=7200).messages] == [FULL]
    assert [one.template for one in planned({FULL, SHORT}).messages] == [SHORT]


def test_nothing_is_sent_on_an_unapproved_template() -> None:
    """Without an approved text there is no message, and the fate says why."""
    found = planned(set())
    assert (found.messages, [fate.reason for fate in found.fates]) == ((), [Reason.NO_TEMPLATE])


def test_inbox_alone_says_why() -> None:
    """Where an SMS was wanted and only the inbox was possible, the fate says what is missing: a text or a provider."""
    told = notice("paid", values={"order_no": "A1"})
    patience: dict[ChannelName, timedelta] = {"sms": PATIENCE, "inbox": PATIENCE}
    for outlook, reason in (
        (Outlook(patience, approved={"sms": set[str]()}), Reason.NO_TEMPLATE),
        (Outlook({"inbox": PATIENCE}), Reason.NO_PROVIDER),
        (Outlook(patience, reaches=lambda channel, _: channel == "inbox"), Reason.NO_PROVIDER),
    ):
        found = plan({"small": BOOK}, contact(), History(), [told], NOON, outlook)
        assert [message.channel for message in found.messages] == ["inbox"]
        assert [(fate.kind, fate.reason) for fate in found.fates] == [("sent", reason)]
    nobody = plan({"small": BOOK}, contact(phone=""), History(), [told], NOON, Outlook({"inbox": PATIENCE}))
    assert [fate.reason for fate in nobody.fates] == [Reason.SENT]


def test_inbox_beside_a_message_is_no_shortcoming() -> None:
    """What was told on another channel, and put into the inbox besides, lacks nothing."""
    book = playbook(notices={"paid": {"channels": ["sms", "push"], "also": ["inbox"]}})
    told = notice("paid", values={"order_no": "A1"})
    outlook = Outlook({"push": PATIENCE, "inbox": PATIENCE})
    found = plan({"small": book}, contact(app="token"), History(), [told], NOON, outlook)
    assert [message.channel for message in found.messages] == ["push", "inbox"]
    assert [fate.reason for fate in found.fates] == [Reason.SENT]


def test_notice_that_nobody_carries() -> None:
    """Without an inbox for it, a notice whose only channel has no provider is dropped, and says so."""
    book = playbook(notices={"shipped": {"channels": ["sms"]}})
    told = notice("shipped", values={"order_no": "A1"})
    found = plan({"small": book}, contact(), History(), [told], NOON, Outlook({"inbox": PATIENCE}))
    assert [(fate.kind, fate.reason) for fate in found.fates] == [("dropped", Reason.NO_PROVIDER)]


def test_topic_without_words_stays_without_words() -> None:
    """Where there are no words at all, approval is not what is missing."""
    lonely = playbook({"texts": {"paid": {"sms": ..., "email": {"subject": "Paid", "text": "Paid."}}}})
    found = planned(set(), book=lonely)
    assert [fate.reason for fate in found.fates] == [Reason.NO_WORDING]


def test_long_channels_have_templates_too() -> None:
    """WeChat sends approved templates as well, without the limit of an SMS."""
    person = contact(wechat="openid", phone="")
    [message] = planned({BARE}, "wechat", person).messages
    assert (message.template, message.text) == (BARE, "Order A1: paid.")
    assert planned(set(), "wechat", person).messages == ()


def test_acceptance_must_do_where_nobody_confirms() -> None:
    """On a channel without receipts a message that was accepted is not told again; one that was refused is."""
    person = contact(app="token")
    book = playbook(notices={"paid": {"channels": ["push", "sms"]}})
    patience: dict[ChannelName, timedelta] = {"push": PATIENCE, "sms": PATIENCE, "inbox": PATIENCE}
    told = notice("paid", values={"order_no": "A1"})
    first = plan({"small": book}, person, History(), [told], NOON, Outlook(patience))
    [waiting] = [fate.notice for fate in first.fates]
    [message] = first.messages
    for status, reason, sent in (("accepted", Reason.RECEIPT_CAME, []), ("rejected", Reason.FELL_BACK, ["sms"])):
        outlook = Outlook(patience, {message.id: status}, silent=frozenset({"push"}))
        after = plan({"small": book}, person, first.history, [waiting], NOON + PATIENCE, outlook)
        assert ([fate.reason for fate in after.fates], [one.channel for one in after.messages]) == ([reason], sent)


def test_templates_survive_the_database() -> None:
    """Template and slots are part of the message that is kept."""
    [message] = planned(next=60).messages
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message)) == message


def test_address_that_nobody_goes_to_is_told_otherwise() -> None:
    """A phone in a country that no provider serves is as good as none: the next channel tells it."""
    person = contact(phone="+447911123456", app="token")
    book = playbook(notices={"paid": {"channels": ["sms", "push"]}})
    patience: dict[ChannelName, timedelta] = {"push": PATIENCE, "sms": PATIENCE, "inbox": PATIENCE}
    outlook = Outlook(patience, reaches=lambda channel, address: channel != "sms" or address.startswith("+86"))
    told = notice("paid", values={"order_no": "A1"})
    found = plan({"small": book}, person, History(), [told], NOON, outlook)
    assert [message.channel for message in found.messages] == ["push"]
