"""Explanations: every reason has its words, and the stories of real orders read as they should."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter
from typing import get_args

import msgspec
import pytest

from orderbell.channels.protocol import Outcome
from orderbell.core.events import DATA_TYPES, ChannelName, Frequency, Phase
from orderbell.core.model import (
    Consent,
    Contact,
    EndpointState,
    Lane,
    Light,
    Message,
    Notice,
    Owner,
    Reason,
    Try,
    derive_id,
)  # fmt: skip
from orderbell.core.turn import Shelf
from orderbell.insight.explain import Explanation, explain_contact, explain_order, quoted, to_text
from orderbell.insight.reasons import VALUES, Teller, shown, values_of
from orderbell.insight.words import LOCALES, Words, locale_of, read_words
from orderbell.store.dossier import Detail, Dossier, Posted, Settled, Step
from orderbell.store.ledger import Status
from tests.dispatch.rig import shelves as tiny
from tests.insight.cases import PHONE, START, TENANT, Case, changed, shelf

GOLDEN = Path(__file__).parent / "explained.txt"
ZH, EN = (read_words(locale) for locale in LOCALES)
BOTH = pytest.mark.parametrize("words", [ZH, EN], ids=LOCALES)
MORNING = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)  # 09:00 in Shanghai
EVENING = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
CLEAR = re.compile(r"1[3-9]\d{9}")


def told_at_night() -> Dossier:
    """A parcel that left at night, for somebody who sleeps."""
    case = Case(quiet="22:00-08:00", start=EVENING).happens("payment.succeeded", amount_fen=19900)
    return (
        case.later(minutes=131).happens("parcel.shipped", carrier="SF", tracking_no="SF1234567").later(days=1).dossier()
    )


def told_again_on_wechat() -> Dossier:
    """A payment that failed, and an SMS without a receipt."""
    case = Case(wechat="wx", without_receipts=frozenset({"sms"}))
    return case.later(minutes=12).happens("payment.failed", reason="余额不足").later(hours=1).dossier()


def told_together() -> Dossier:
    """A key that was issued right after the payment."""
    case = Case("digital").later(minutes=4).happens("payment.succeeded", amount_fen=19900)
    return case.later(seconds=20).happens("key.issued").later(hours=1).dossier()


def not_wanted() -> Dossier:
    """A buyer without interest in progress."""
    case = Case(mute=["progress"]).happens("payment.succeeded", amount_fen=19900).later(hours=5)
    return case.happens("parcel.shipped", carrier="SF").later(hours=1).dossier()


def taken_back() -> Dossier:
    """A payment that came while the reminder waited for the end of a nap."""
    case = Case(quiet="12:00-14:00", start=MORNING).later(hours=3, minutes=10).happens("payment.expired")
    return case.later(minutes=40).happens("payment.succeeded", amount_fen=19900).later(hours=3).dossier()


CASES: dict[str, Callable[[], Dossier]] = {
    "night": told_at_night, "fallback": told_again_on_wechat, "merged": told_together, "muted": not_wanted,
    "withdrawn": taken_back,
}  # fmt: skip


def golden() -> str:
    """All five stories in both languages."""
    stories = [
        f"== {name} {words.locale}\n{to_text(explain_order(make(), shelf(), words), words)}\n"
        for name, make in CASES.items()
        for words in (ZH, EN)
    ]
    return "\n".join(stories)


def test_stories_read_as_they_should() -> None:
    """Five different cases read, word for word, as people found them good (issue 3, item 7)."""
    assert golden() == GOLDEN.read_text(encoding="utf-8")


@BOTH
def test_words_are_complete(words: Words) -> None:
    """Every code that the product can record has words, and so has whatever the shipped playbooks name."""
    book = shelf().playbooks.values()
    for table, wanted in (
        (words.reasons, set(Reason)),
        (words.outcomes, set(Outcome)),
        (words.statuses, set(get_args(Status))),
        (words.channels, set(get_args(ChannelName))),
        (words.addresses, set(get_args(ChannelName))),
        (words.events, set(DATA_TYPES)),
        (words.phases, set(get_args(Phase))),
        (words.frequencies, set(get_args(Frequency))),
        (words.lanes, set(get_args(Lane))),
        (words.lights, set(get_args(Light))),
        (words.owners, set(get_args(Owner))),
        (words.endpoint_states, {"", *get_args(EndpointState)}),
        (words.fates, {"sent", "held", "merged", "dropped", "done"}),
        (words.topics, {topic for playbook in book for topic in playbook.notices}),
        (words.anomalies, {name for playbook in book for name in playbook.anomalies}),
        (words.deadlines, {name for playbook in book for name in playbook.deadlines}),
        (words.roles, {role for playbook in book for role in playbook.roles}),
        (words.categories, {name for playbook in book for name in playbook.spec.categories}),
        (words.amends, {playbook.amends.kind for playbook in book}),
    ):
        assert wanted <= set(table), sorted(wanted - set(table))
        assert all(table[name] for name in wanted)


def test_both_languages_say_the_same() -> None:
    """No table of one language has a key that the other lacks, and their sentences want the same values."""
    for name, table in msgspec.to_builtins(ZH).items():
        other = msgspec.to_builtins(EN)[name]
        if isinstance(table, dict):
            assert set(table) == set(other), name
    for one, other in ((ZH.sentences, EN.sentences), (ZH.statuses, EN.statuses)):
        for name, template in one.items():
            assert wanted_by(template) == wanted_by(other[name]), name


@BOTH
def test_sentences_name_only_what_is_known(words: Words) -> None:
    """A sentence about a notice wants no value that nobody can give."""
    for template in (*words.reasons.values(), *words.remedies.values()):
        assert wanted_by(template) <= set(VALUES), template
    waits = [words.sentences[name] for name in words.sentences if name.startswith("waits") or name == "limited"]
    assert all(wanted_by(template) <= set(VALUES) for template in waits)


def wanted_by(template: str) -> set[str]:
    """The values that a template wants."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def notice(topic: str = "shipped", **changes: object) -> Notice:
    """A notice for the buyer of the order of these tests."""
    made = Notice(
        derive_id(START, topic), TENANT, "ann", "A1001", "buyer", "retail", topic, START, START,
        START + timedelta(minutes=10), START + timedelta(hours=24), cause="parcel.shipped",
    )  # fmt: skip
    return changed(made, **changes)  # type: ignore[no-any-return]


def message(of: Notice, channel: ChannelName = "sms", after_s: float = 0) -> Message:
    """A message for a notice."""
    at = of.created_at + timedelta(seconds=after_s)
    return Message(
        derive_id(at, of.id.hex(), channel), TENANT, "ann", channel, PHONE, of.topic, "progress", "service", "A1001",
        "请致电13812345678", "", (of.id,), of.created_at, at, of.valid_until,
    )  # fmt: skip


def story(
    *settled: Settled,
    posted: tuple[Posted, ...] = (),
    waiting: tuple[Notice, ...] = (),
    contact: Contact | None = None,
    consents: tuple[Consent, ...] = (),
    words: Words = EN,
    books: Shelf | None = None,
) -> Explanation:
    """The story of an order about which only this is on record."""
    order = next(iter(Case().dossier().orders.values()))
    person = contact or Contact(TENANT, "ann", PHONE)
    order = changed(order, parties=(changed(order.parties[0], contact="ann"),))
    facts = Dossier({"A1001": order}, {"ann": person}, (), settled, waiting, posted, consents)
    return explain_order(facts, books or shelf(), words, person="buyer")


@BOTH
@pytest.mark.parametrize("topic", ["shipped", "nonsense"])
@pytest.mark.parametrize("fate", ["sent", "merged", "dropped"])
@pytest.mark.parametrize("reason", Reason)
def test_every_fate_and_reason_has_a_sentence(reason: Reason, fate: str, topic: str, words: Words) -> None:
    """Whatever stands on record, known to the playbook or not, becomes a sentence without gaps or phones."""
    one = notice(topic)
    posted = (
        Posted(message(one), "accepted"),
        Posted(message(one, "wechat", 180), "failed", 2, outcome="rejected_content"),
    )
    made = story(Settled(one, fate, reason, START), posted=posted if fate == "sent" else (), words=words)
    (line,) = made.lines
    assert (line.fate, line.reason) == (fate, reason)
    assert "138****8000" in line.text
    assert not re.search(r"[{}]|\.\.|。。|None", line.text), line.text
    assert not CLEAR.search(msgspec.json.encode(made).decode())
    if reason not in (Reason.SENT, Reason.FELL_BACK):
        assert line.why or line.happened


@BOTH
@pytest.mark.parametrize("held", ["", "nonsense", *Reason])
def test_what_waits_says_until_when(held: str, words: Words) -> None:
    """A notice in the queue says what it waits for, and when it goes out."""
    made = story(waiting=(notice(held=held, due_at=START + timedelta(hours=1)),), words=words)
    (line,) = made.lines
    assert (line.fate, line.until) == ("held", START + timedelta(hours=1))
    assert "11:00" in line.text


def test_every_value_can_be_given() -> None:
    """Each value that a sentence may name is a text, also where nothing is known of it."""
    one = notice("nonsense")
    teller = Teller(Dossier({}, {}), Shelf({}), EN, "UTC")
    for settled in (None, Settled(one, "dropped", "out_of_date", START, b"gone")):
        values = values_of(teller, one, settled)
        assert len(values) == len(VALUES)
        assert all(isinstance(values[name], str) for name in values)


def test_what_waits_for_a_receipt_says_what_went_out() -> None:
    """A notice that has gone out on one channel tells that, and when the next one is tried."""
    case = Case(wechat="w", without_receipts=frozenset({"sms"})).happens("payment.failed").later(minutes=1)
    text = to_text(explain_order(case.dossier(), shelf(), EN), EN)
    assert (
        "It went out by SMS at 10:00; so far no receipt. The next channel is tried at 10:03 where no receipt has come by then."
        in text
    )
    night = notice(held="quiet_hours", due_at=START + timedelta(hours=9), tried=(Try("sms", b"", START),))
    line = story(waiting=(night,), posted=(Posted(message(night), "accepted"),)).lines[0]
    assert "so far no receipt. Not sent yet" not in line.text
    assert "The next channel is tried at 19:00 where no receipt has come" in line.text


def test_wait_for_a_cap_is_told() -> None:
    """What a full cap delayed says so, when it waits and when it has gone out."""
    one = notice(held="capped", cap="person", due_at=START + timedelta(hours=2))
    late = changed(message(one), told_at=START + timedelta(hours=2))
    line = story(Settled(one, "sent", "sent", late.told_at), posted=(Posted(late, "delivered"),)).lines[0]
    assert (
        "They had heard enough of late (one person is disturbed at most 20 times within 1 day), so it waited."
        in line.why
    )
    assert "It went out by SMS at 12:00" in line.happened


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        ("queued", "", "It is to go out by SMS and stands in the queue."),
        ("sending", "", "It is just going out by SMS (10:00)."),
        ("accepted", "", "It went out by SMS at 10:00; so far no receipt."),
        ("failed", "not_sent", "did not arrive (the provider could not be reached)."),
        ("rejected", "rejected_recipient", "was refused (the provider says that nothing can be sent to this address)."),
        ("unknown", "", "nobody knows how it ended"),
    ],
)
def test_status_of_a_message_is_told(status: str, outcome: str, said: str) -> None:
    """What came of a message is told in words, with the provider's reason where there is one."""
    one = notice()
    made = story(Settled(one, "sent", "sent", START), posted=(Posted(message(one), status, outcome=outcome),))
    assert said in made.lines[0].happened


def test_next_channel_after_a_refusal_says_so() -> None:
    """A second channel is explained by what came of the first: no receipt, or no success."""
    one = notice(tried=(Try("sms", b"", START),))
    posted = (Posted(message(one), "rejected"), Posted(message(one, "wechat", 180), "delivered"))
    text = story(Settled(one, "sent", "fell_back", START), posted=posted).lines[0].text
    assert "The SMS did not get through, so WeChat was tried. It went out by WeChat at 10:03" in text


def test_reasons_of_silence_are_exact() -> None:
    """A dropped notice names the wish, and how it could be changed; without an address, what is missing."""
    gone = Settled(notice(), "dropped", "no_endpoint", START)
    nobody = Contact(TENANT, "ann", mute=("progress:push",), states={"sms": "landline"})
    assert (
        "no way to reach them (they do not want news of this kind by app notification, no WeChat account is known,"
        in (story(gone, contact=nobody).lines[0].text)
    )
    calm = Settled(notice("parcel_moved"), "dropped", "too_detailed", START)
    assert "对方改选（frequency 设为 all）就能收到" in story(calm, words=ZH).lines[0].text
    unheard = Settled(notice("stock_restored"), "dropped", "never_heard", START)
    assert "they had never heard of “it is out of stock”" in story(unheard).lines[0].text
    old = Settled(notice(), "dropped", "out_of_date", START + timedelta(days=2))
    assert "after 10:00 the next day nobody would want to read it" in story(old).lines[0].text


def test_consent_is_told_with_its_words() -> None:
    """Advertising that was not sent names the opt-out: when, and in which words."""
    case = Case("consignment", tier="vip").later(minutes=5).happens("reply.received", text="退订").later(days=4)
    lines = explain_order(case.dossier(), shelf(), ZH).lines
    assert "不再接收营销消息（回复「退订」）" in next(line.text for line in lines if line.kind == "consent")
    assert "对方 11月22日 10:05 回复「退订」退订了" in next(line.text for line in lines if line.name == "fast_lane")
    never = Case("consignment", tier="vip").later(days=4).dossier()
    assert "they never agreed to any" in to_text(explain_order(never, shelf(), EN), EN)
    refused = Consent(TENANT, "ann", "marketing", given=False, at=START, source="event shop")
    line = story(Settled(notice(), "dropped", "no_consent", START), consents=(refused,)).lines[0]
    stranger = changed(case.dossier(), consents=(changed(refused, contact="bob", at=START + timedelta(days=1)),))
    assert all(line.kind != "consent" for line in explain_order(stranger, shelf(), EN).lines)
    assert "they said no on 22 Nov 10:00" in line.why


def test_message_that_waits_for_another_try() -> None:
    """What is still in the queue says why the last try failed and how many there were; without a try it says neither."""
    one = notice("shipped")
    tried = Posted(message(one), "queued", 3, START, START, START, "retry_later")
    line = story(Settled(one, "sent", "sent", START), posted=(tried,)).lines[0].text
    assert "stands in the queue (the provider asked us to try later). 3 tries so far." in line
    again = story(Settled(one, "sent", "sent", START), posted=(changed(tried, outcome=""),)).lines[0].text
    assert "stands in the queue." in again
    assert "tries" not in again


def test_full_cap_is_named() -> None:
    """What went to the inbox alone says which limit was reached, and where it stands."""
    one = notice("shipped", id=b"1" * 16, cap="storm")
    posted = (Posted(message(one, "inbox"), "delivered"),)
    line = story(Settled(one, "sent", "capped", START), posted=posted).lines[0]
    assert "the same thing is told at most 3 times within 1 hour" in line.why
    assert "caps.storm" in line.why
    line = story(Settled(changed(one, cap="everything"), "sent", "capped", START), posted=posted).lines[0]
    assert "too many messages within two weeks" in line.why


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "no_template",
            "It could not go by SMS: no provider has approved a text of it yet. `orderbell templates list`",
        ),
        ("no_provider", "It could not go by SMS: no provider carries it to that address. `orderbell doctor`"),
    ],
)
def test_inbox_alone_for_want_of_a_provider(reason: str, said: str) -> None:
    """Whoever finds a message in the inbox alone must read which channel was wanted, and what is missing there."""
    one = notice("shipped")
    posted = (Posted(message(one, "inbox"), "delivered"),)
    assert said in story(Settled(one, "sent", reason, START), posted=posted).lines[0].why
    assert said in story(Settled(one, "dropped", reason, START)).lines[0].why


def test_mandatory_news_that_are_late_say_why_they_only_lie_in_the_inbox() -> None:
    """News that may not be dropped and came too late are explained."""
    one = notice("payment_received", valid_until=START - timedelta(hours=1))
    line = story(Settled(one, "sent", "sent", START), posted=(Posted(message(one, "inbox"), "delivered"),)).lines[0]
    assert "never left out, so it only lies in the inbox" in line.text


def test_hours_of_another_zone_are_marked() -> None:
    """Quiet hours are those of the person's own clock, and say so where it is another one than the story's."""
    case = Case(quiet="09:00-12:00", timezone="Asia/Tokyo", wechat="w").later(minutes=1).happens("refund.succeeded")
    dossier = case.later(hours=4).dossier()
    text = to_text(explain_order(dossier, shelf(), EN), EN)
    assert "It was their quiet time (09:00-12:00, Asia/Tokyo time), so it waited. It went out by SMS at 11:00" in text


def test_advertising_waits_for_its_hours() -> None:
    """The rule that held advertising is told, also where a wait for a receipt came after it."""
    for wechat in ("", "w"):
        case = Case("consignment", tier="vip", marketing=True, wechat=wechat).later(days=3)
        text = to_text(explain_order(case.dossier(), shelf(), EN), EN)
        assert "Advertising goes out at certain hours only (09:00-20:00), so it waited." in text


def test_receipts_that_came_or_were_not_needed() -> None:
    """Why there was no second channel: the receipt came, or what it was about was over."""
    text = to_text(explain_order(Case(wechat="w").happens("payment.failed").later(hours=1).dossier(), shelf(), EN), EN)
    assert "The receipt came, so no other channel was needed." in text
    case = Case(wechat="w", without_receipts=frozenset({"sms"})).happens("payment.failed").later(minutes=1)
    paid = case.happens("payment.succeeded").later(hours=1).dossier()
    assert "The next channel was not needed any more: the payment came." in to_text(
        explain_order(paid, shelf(), EN), EN
    )
    into = Settled(notice("delivered"), "sent", "sent", START)
    stopped = Settled(notice(), "sent", "fallback_stopped", START, into.notice.id)
    assert "the news “the parcel has arrived” said it too" in story(into, stopped).lines[1].text


def test_review_says_since_when() -> None:
    """A question for contact data says how old they are."""
    case = Case(wechat="w").later(days=200).happens("refund.succeeded", amount_fen=1).later(hours=1)
    text = to_text(explain_order(case.dossier(), shelf(), EN), EN)
    assert "because their data were last checked 200 days ago" in text


def test_why_not_says_what_would_have_told_it() -> None:
    """Without any notice of a topic: what would bring it about, whether that happened, and who hears it at all."""
    dossier = Case().happens("payment.succeeded", amount_fen=1).later(minutes=10).dossier()

    def ask(**asked: str) -> str:
        return explain_order(dossier, shelf(), EN, **asked).answer

    assert "once one of these has happened: the parcel was handed to the courier; " in ask(
        person="buyer", topic="shipped"
    )
    assert "None of them has happened yet." in ask(person="buyer", topic="shipped")
    assert "(the anomaly “the parcel is late”)" in ask(topic="parcel_late")
    assert ask(topic="nonsense").startswith("The rules “retail” know no notice called nonsense.")
    assert (
        ask(person="13900000000")
        == "This order has nobody called “139****0000”. Its people: the buyer (+86 138****8000)."
    )
    assert ask(person="138 0013 8000") == ""
    assert ask(person="buyer", topic="payment_received") == ""
    assert "Nothing in the rules would lead to it" not in ask(topic="contact_review")
    assert "the courier reported the parcel (where the rules' conditions are met) (the anomaly" in ask(
        topic="parcel_lost"
    )
    assert "the goods ran out (the anomaly “out of stock”)" in ask(topic="stock_short")
    moved = Case().happens("parcel.scanned", phase="in_transit").later(minutes=5).dossier()
    answer = explain_order(moved, shelf(), EN, topic="out_for_delivery").answer
    assert "This did happen on 22 Nov 10:00: the courier reported the parcel. But the conditions" in answer


def test_silence_of_the_facts_is_kept() -> None:
    """A wait that nothing explains is not explained, and a timer that did nothing is left out."""
    one = notice()
    posted = (Posted(message(one, after_s=7200), "delivered"),)
    assert story(Settled(one, "sent", "sent", START), posted=posted).lines[0].why == ""
    dossier = Case().dossier()
    idle = Step(START, "timer.due", Detail(name="payment_unpaid"), "timer_gone", "placed", ())
    assert len(explain_order(changed(dossier, steps=(idle,)), shelf(), EN).lines) == 0


def test_urgent_news_on_several_channels() -> None:
    """What goes out on two channels at once says why."""
    case = Case(app="app", mute=[]).happens("payment.failed").later(hours=1)
    text = to_text(explain_order(case.dossier(), shelf(), ZH), ZH)
    assert "这件事紧急，几个渠道同时发。10:00 用短信发出，10:00:03 送达。10:00 用App推送发出" in text


def test_person_without_any_address() -> None:
    """Somebody without an address, or no longer on record, is told as such."""
    dossier = Case().happens("refund.succeeded").dossier()
    text = to_text(explain_order(changed(dossier, contacts={}), shelf(), EN), EN)
    assert "People: the buyer (no address known)." in text


def test_why_not_when_nothing_leads_to_it() -> None:
    """A topic that no rule tells says so."""
    dossier = Case().dossier()
    order = changed(next(iter(dossier.orders.values())), playbook="tiny")
    answer = explain_order(changed(dossier, orders={"A1001": order}), tiny()[TENANT], EN, topic="moved").answer
    assert answer.endswith("Nothing in the rules would lead to it.")


def test_why_not_for_somebody_else() -> None:
    """A topic that is for another role says so; somebody who was never told anything hears that."""
    case = Case("consignment")
    case.happens("item.approved", people={"buyer": {"email": "bob@example.com"}, "partner": {"wechat": "w"}})
    dossier = case.dossier()
    answer = explain_order(dossier, shelf(), EN, person="BOB@example.com", topic="sold").answer
    assert answer == "“the item is sold” is told to the consignor only, not to the buyer (b***@example.com)."
    partner = explain_order(dossier, shelf(), EN, person="partner", topic="sold").answer
    assert partner.startswith("There was never any reason to tell the recipient “partner” (WeChat account)")
    silent = explain_order(dossier, shelf(), ZH, person="买家").answer
    assert silent == "还没有任何要告诉买家（b***@example.com）的事。"


def test_trouble_is_told_from_beginning_to_end() -> None:
    """Anomaly, case, call-back, amends and their end are lines of the story, each with its reason."""
    case = (
        Case(tier="vip").happens("payment.succeeded", amount_fen=19900).later(hours=1).happens("stock.short", sku="a")
    )
    case.later(hours=1).happens("case.resolved", case="stock_short").later(minutes=1).happens("stock.short", sku="b")
    case.later(minutes=1).happens("case.resolved", case="stock_short")
    case.later(minutes=1).happens("order.placed").happens("payment.failed").later(days=6)
    lines = explain_order(case.dossier(), shelf(), EN).lines
    texts = [line.text for line in lines]
    assert "22 Nov 11:00: something is wrong: out of stock. The news that came in says so." in texts
    assert "22 Nov 11:00: given to the warehouse: out of stock. Such a thing needs a person." in texts
    assert "22 Nov 11:00: customer service is to call the customer: out of stock. It is an important order." in texts
    assert "22 Nov 12:00: right again: out of stock. The staff says that it is put right." in texts
    assert "22 Nov 12:00: that work is done. The staff says that it is put right." in texts
    assert any(line.kind == "event" and line.name == "timer.due" for line in lines)
    new = Case(tier="new").happens("stock.short", sku="a").later(minutes=5).dossier()
    (amends,) = [line.text for line in explain_order(new, shelf(), EN).lines if line.kind == "amends"]
    assert amends.startswith(
        "22 Nov 10:00: the buyer (+86 138****8000) was promised a coupon worth 10 yuan, valid until 22 Dec"
    )


def test_order_whose_playbook_is_gone_is_still_explained() -> None:
    """Without its playbook an order keeps its story, in codes where there are no words."""
    made = story(Settled(notice("shipped"), "dropped", "too_long", START), books=Shelf({}))
    assert made.zone == "UTC"
    assert "longer than one SMS" in made.lines[0].text
    assert made.title[0].startswith("Order A1001 (retail): placed. Red light")
    dossier = Case().dossier()
    assert "know no notice called x. They know: ." in explain_order(dossier, Shelf({}), EN, topic="x").answer


@BOTH
def test_person_is_explained_over_all_orders(words: Words) -> None:
    """A person's story names the order of each notice, and says so where there is none."""
    dossier = not_wanted()
    made = explain_contact(dossier, shelf(), words)
    assert [line.name for line in made.lines] == ["payment_received", "shipped"]
    assert all("A1001" in line.text for line in made.lines)
    assert not CLEAR.search(msgspec.json.encode(made).decode())
    nothing = changed(dossier, settled=(), orders={})
    assert explain_contact(nothing, shelf(), words).answer
    assert explain_contact(nothing, shelf(), words, topic="sold").answer


def test_texts_from_outside_are_harmless() -> None:
    """What people wrote cannot move the terminal, show a number, or reach into a template."""
    assert shown("a\x1b[31mb 13812345678 {who}") == "a [31mb 138****5678 {who}"
    case = Case()
    case.happens("order.confirmed", people={"{at}\x1b[2J": {"phone": "+8613912345678"}}).happens("refund.succeeded")
    text = to_text(explain_order(case.later(hours=1).dossier(), shelf(), EN), EN)
    assert "the recipient “{at} [2J” (+86 139****5678)" in text
    assert not CLEAR.search(text)


def test_long_texts_are_cut_in_plain_text() -> None:
    """Plain text shows the beginning of a mail, and one text once for all channels that had it."""
    one = notice()
    long = changed(message(one, "email"), text="x" * 500)
    same = [
        Posted(changed(message(one), text="y"), "sent"),
        Posted(changed(message(one, "push"), text="y"), "delivered"),
    ]
    line = story(Settled(one, "sent", "sent", START), posted=(Posted(long, "delivered"),)).lines[0]
    assert [len(words) for words in quoted(line, EN)] == [4 + len("e-mail: ") + 160]
    both = changed(line, sent=tuple(changed(line.sent[0], channel=p.message.channel, text="y") for p in same))
    assert list(quoted(both, EN)) == ["    SMS, app notification: y"]


def test_mail_keeps_its_lines() -> None:
    """A mail must have the lines that its reader saw; in plain text it is one line, without what moves a terminal."""
    one = notice()
    mail = changed(message(one, "email"), text="Hello,\n\nyour order\x1b[2J is paid.\n\nAcme")
    line = story(Settled(one, "sent", "sent", START), posted=(Posted(mail, "delivered"),)).lines[0]
    assert line.sent[0].text == "Hello,\n\nyour order [2J is paid.\n\nAcme"
    assert list(quoted(line, EN)) == ["    e-mail: Hello, your order [2J is paid. Acme"]


@pytest.mark.parametrize(
    ("asked", "locale"),
    [
        ("zh", "zh-CN"),
        ("en-GB", "en"),
        ("en_US.UTF-8", "en"),
        ("fr,en;q=0.8,zh;q=0.5", "en"),
        ("", "zh-CN"),
        ("C", "zh-CN"),
    ],
)
def test_language_that_fits_is_chosen(asked: str, locale: str) -> None:
    """A tag, an environment's value or a header finds the language; nothing known finds Chinese."""
    assert locale_of(asked) == locale


def test_times_and_spans_are_short() -> None:
    """A moment is as short as it can be beside another one; a span counts in its greatest unit."""
    zone = explain_order(Case().dossier(), shelf(), EN)
    assert zone.zone == "Asia/Shanghai"
    spans = [timedelta(0), timedelta(seconds=90), timedelta(minutes=90), timedelta(hours=24), timedelta(days=9)]
    assert [EN.span(span) for span in spans] == ["1 second", "90 seconds", "90 minutes", "1 day", "9 days"]
    new_year = Settled(notice(), "dropped", "out_of_date", START)
    later = changed(new_year, notice=notice(valid_until=START + timedelta(days=60)))
    assert "2027年1月21日 10:00 以后" in story(later, words=ZH).lines[0].text
