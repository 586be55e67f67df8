"""Why did somebody hear something, or not? An order or a person as a story that needs no programmer to read it.

Pure: from the facts on record (`orderbell.store.dossier`) and the playbooks to lines in Chinese or English (issue 3,
item 7; S1-29, S3-1). Addresses are masked in all that comes out.
"""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from orderbell.core.decide import light
from orderbell.core.model import (
    CloseAnomaly,
    CloseCase,
    Compensate,
    Contact,
    Effect,
    OpenAnomaly,
    OpenCase,
    Order,
    Reason,
    SendNotice,
    WithdrawNotice,
)  # fmt: skip
from orderbell.core.phones import read_phone
from orderbell.core.playbook import Playbook
from orderbell.core.story import Line
from orderbell.core.turn import Shelf
from orderbell.insight.reasons import Teller, by_time, shown
from orderbell.insight.words import Words, capital, fill
from orderbell.store.dossier import Dossier, Step

QUOTED_MAX = 160
"""The most characters of a text that plain text shows: an SMS in full, the beginning of a mail."""

INDENT = "    "


class Explanation(Struct, frozen=True):
    """The story of an order or a person.

    `title` says how it stands, `zone` whose clock the sentences go by (`at` of a line is UTC), `answer` why what was
    asked for is not among the lines; empty where it is, or nothing was asked.
    """

    order_no: str
    contact: str
    title: tuple[str, ...]
    zone: str
    lines: tuple[Line, ...]
    answer: str = ""


def explain_order(dossier: Dossier, shelf: Shelf, words: Words, *, person: str = "", topic: str = "") -> Explanation:
    """All that happened to an order and who was told what; with `person` or `topic` only those notices.

    Args:
        dossier: Of this one order.
        shelf: The tenant's playbooks.
        words: In which language.
        person: A role, a contact, a phone or a mail address; its notices only.
        topic: Notices of this topic only; where there are none, `answer` says what would bring it about.
    """
    order = next(iter(dossier.orders.values()))
    playbook = shelf.find(order.playbook)
    teller = Teller(dossier, shelf, words, playbook.timezone if playbook is not None else "UTC")
    story = _OrderStory(teller, order, playbook)
    lines = by_time(teller.lines() if person or topic else (*story.lines(), *teller.lines()))
    answer = ""
    if person or topic:
        meant = story.people(person)
        lines = tuple(line for line in lines if line.name == topic or not topic)
        lines = tuple(line for line in lines if not person or (line.contact, line.role) in meant)
        answer = "" if lines else story.answer(person, meant, topic)
    return Explanation(order.no, "", story.title(), teller.zone.key, lines, answer)


def explain_contact(dossier: Dossier, shelf: Shelf, words: Words, *, topic: str = "") -> Explanation:
    """What a person was told of late and what not, over all their orders."""
    contact = next(iter(dossier.contacts.values()))
    playbook = shelf.find("")
    teller = Teller(dossier, shelf, words, contact.timezone or (playbook.timezone if playbook is not None else "UTC"))
    lines = by_time(teller.lines(with_order=True))
    roles = [p.role for order in dossier.orders.values() for p in order.parties if p.contact == contact.id]
    who = teller.person(roles[0] if roles else playbook.principal if playbook is not None else "", contact)
    answer = ""
    if not lines:
        answer = (
            words.say("no_notices_of", who=who, topic=teller.topic(topic))
            if topic
            else words.say("no_notices", who=who)
        )
    title = (capital(words.say("person", who=who)), words.say("zone", zone=teller.zone.key))
    return Explanation("", shown(contact.id), title, teller.zone.key, lines, capital(answer))


def to_text(explanation: Explanation, words: Words) -> str:
    """An explanation as plain text: a line for each thing that happened, under it the words that went out."""
    lines = [text for line in explanation.lines for text in (line.text, *quoted(line, words))]
    return "\n".join((*explanation.title, *lines, *filter(None, [explanation.answer])))


def quoted(line: Line, words: Words) -> Iterator[str]:
    """The words that went out for a notice, once for the channels that had the same."""
    said: dict[str, list[str]] = {}
    for one in line.sent:
        said.setdefault(" ".join(one.text.split()), []).append(words.channels[one.channel])
    for text, channels in said.items():
        short = text if len(text) <= QUOTED_MAX else text[: QUOTED_MAX - 1] + "…"
        yield INDENT + fill(words.words, {"channel": words.listed(channels), "text": short})


class _OrderStory:
    """What happened to one order."""

    def __init__(self, teller: Teller, order: Order, playbook: Playbook | None) -> None:
        self.teller, self.words, self.order, self.playbook = teller, teller.words, order, playbook

    def title(self) -> tuple[str, ...]:
        """How the order stands, who its people are, and whose clock is meant."""
        words, order = self.words, self.order
        shows = words.lights[light(self.playbook, order) if self._is_known() and self.playbook is not None else "red"]
        head = words.say("order", order_no=order.no, playbook=order.playbook, state=self.state(), light=shows)
        people = words.say("people", people=self.everybody()) if order.parties else ""
        return (head, *filter(None, [people]), words.say("zone", zone=self.teller.zone.key))

    def _is_known(self) -> bool:
        return self.playbook is not None and self.order.stage in self.playbook.stages

    def state(self) -> str:
        """The customer's sentence on how the order stands; of the anomaly that has one, else of the stage."""
        order, playbook, locale = self.order, self.playbook, self.words.locale
        if playbook is None or not self._is_known():
            return order.stage
        specs = [playbook.spec.anomalies.get(anomaly.name) for anomaly in order.anomalies]
        said = [spec.says[locale] for spec in specs if spec is not None and locale in spec.says]
        return said[0] if said else playbook.stages[order.stage].says.get(locale, order.stage)

    def everybody(self) -> str:
        """The people of the order."""
        contacts = self.teller.dossier.contacts
        return self.words.semicolon.join(
            self.teller.person(party.role, contacts.get(party.contact)) for party in self.order.parties
        )

    def lines(self) -> Iterator[Line]:
        """Events, anomalies, cases and amends."""
        for step in self.teller.dossier.steps:
            yield from self.event(step)
            for effect in step.effects:
                yield from self.effect(step.at, effect)
        yield from self.consents()

    def event(self, step: Step) -> Iterator[Line]:
        """What happened, and why nobody was told where nobody was; a deadline only where something came of it."""
        words = self.words
        tells = any(isinstance(effect, SendNotice | WithdrawNotice) for effect in step.effects)
        opens = any(isinstance(effect, OpenAnomaly | OpenCase) for effect in step.effects)
        if step.type == "timer.due" and not tells and not opens:
            return
        what = self.teller.deadline(step.data.name) if step.type == "timer.due" else self.teller.event(step.type, step)
        why = ""
        if step.verdict != Reason.APPLIED:
            why = words.reasons.get(step.verdict, step.verdict)
        elif not tells:
            why = words.say("told_nobody")
        yield self._line(
            step.at, "event", step.type, what, words.say("event", at=self.teller.time(step.at), event=what), why
        )

    def _line(
        self, at: datetime, kind: str, name: str, what: str, happened: str, why: str, *, ended: bool = False
    ) -> Line:
        text = self.words.joined(happened, why)
        return Line(at, kind, name, what, text, happened, why, self.order.no, ended=ended)

    def effect(self, at: datetime, effect: Effect) -> Iterator[Line]:
        """What an event brought about; whom it told is told by the notices themselves."""
        words, when = self.words, self.teller.time(at)
        if isinstance(effect, OpenAnomaly | CloseAnomaly):
            what = words.anomalies.get(effect.name, effect.name)
            name = "anomaly_opened" if isinstance(effect, OpenAnomaly) else "anomaly_closed"
            said, ended = words.say(name, at=when, anomaly=what), isinstance(effect, CloseAnomaly)
            yield self._line(at, "anomaly", effect.name, what, said, words.reasons[effect.reason], ended=ended)
        elif isinstance(effect, OpenCase):
            case = effect.case
            what = words.anomalies.get(case.anomaly, case.anomaly)
            name = "call_back_opened" if case.kind == "call_back" else "case_opened"
            said = words.say(name, at=when, owner=words.owners[case.owner], anomaly=what)
            yield self._line(at, "case", case.anomaly, what, said, words.reasons[effect.reason])
        elif isinstance(effect, CloseCase):
            said = words.say("case_closed", at=when)
            yield self._line(at, "case", effect.id.hex(), "", said, words.reasons[effect.reason], ended=True)
        elif isinstance(effect, Compensate):
            yield self.amends(at, effect)

    def consents(self) -> Iterator[Line]:
        """What the people of the order agreed to or opted out of meanwhile."""
        words, contacts = self.words, self.teller.dossier.contacts
        roles = {party.contact: party.role for party in self.order.parties}
        for one in self.teller.dossier.consents:
            if one.at < self.order.opened_at or one.contact not in roles:
                continue
            said = words.say("consent_words", words=shown(one.words)) if one.words else ""
            who = self.teller.person(roles[one.contact], contacts.get(one.contact))
            name = "consent_given" if one.given else "consent_withdrawn"
            text = words.say(name, at=self.teller.time(one.at), who=who, words=said)
            yield self._line(one.at, "consent", one.scope, "", text, "")

    def amends(self, at: datetime, effect: Compensate) -> Line:
        """What was promised to make up for something."""
        words, given = self.words, effect.amends
        kind = words.amends.get(given.kind, given.kind)
        role = next((party.role for party in self.order.parties if party.contact == given.contact), "")
        said = words.say(
            "amends", at=self.teller.time(at), kind=kind, yuan=f"{given.value_fen / 100:g}",
            who=self.teller.person(role, self.teller.dossier.contacts.get(given.contact)),
            until=self.teller.time(given.valid_until, at),
        )  # fmt: skip
        return self._line(at, "amends", given.kind, kind, said, words.reasons[effect.reason])

    def people(self, person: str) -> set[tuple[str, str]]:
        """Contact and role of everybody of the order whom a role, a contact, a phone or a mail address may mean."""
        parties = {(party.contact, party.role) for party in self.order.parties}
        parties |= {(notice.contact, notice.role) for notice in self.teller.notices.values() if notice.role}
        region = self.playbook.spec.region if self.playbook is not None else "CN"
        number = read_phone(person, region).number
        found = set()
        for name, role in parties:
            contact = self.teller.dossier.contacts.get(name) or Contact("", name)
            by_address = (contact.phone and contact.phone == number) or (
                contact.email and contact.email.casefold() == person.casefold()
            )
            if not person or by_address or person in (role, name, self.words.roles.get(role)):
                found.add((shown(name), shown(role)))
        return found

    def answer(self, person: str, meant: set[tuple[str, str]], topic: str) -> str:
        """Why there is no such notice."""
        words, playbook = self.words, self.playbook
        if person and not meant:
            return words.say("no_person", person=shown(person), people=self.everybody())
        who = words.semicolon.join(
            self.teller.person(role, self.teller.dossier.contacts.get(name)) for name, role in sorted(meant)
        )
        if not topic:
            return capital(words.say("no_notices", who=who))
        rule = playbook.notices.get(topic) if playbook is not None else None
        if rule is None or playbook is None:
            known = sorted(playbook.notices) if playbook is not None else []
            topics = words.listed(f"{name}{fill(words.aside, {'text': self.teller.topic(name)})}" for name in known)
            return words.say("no_topic", playbook=self.order.playbook, topic=shown(topic), topics=topics)
        roles = {role for _, role in meant}
        extras = playbook.principal in rule.to
        if roles and not any(role in rule.to or (extras and role not in words.roles) for role in roles):
            to = words.listed(words.role(role) for role in sorted(rule.to))
            return words.say("not_theirs", topic=self.teller.topic(topic), roles=to, who=who)
        never = words.say("never_told", who=who, topic=self.teller.topic(topic))
        return words.joined(never, *_Triggers(self, playbook, topic).sentences())


class _Triggers:
    """What would bring a topic about, and whether any of it has happened to the order."""

    def __init__(self, story: _OrderStory, playbook: Playbook, topic: str) -> None:
        self.story, self.words, self.playbook, self.topic = story, story.words, playbook, topic

    def sentences(self) -> Iterator[str]:
        """What would bring it about, then what of it has happened."""
        found = dict(self.found())
        if not found:
            yield self.words.say("triggers_none")
            return
        yield self.words.say("triggers", triggers=self.words.semicolon.join(dict.fromkeys(found.values())))
        happened = [
            (step.at, trigger) for step in self.story.teller.dossier.steps if (trigger := self.meant(step)) in found
        ]
        for at, trigger in happened[-1:]:
            what = self.story.teller.deadline(trigger[1]) if trigger[0] else self.story.teller.event(trigger[1])
            yield self.words.say("happened", trigger=what, at=self.story.teller.time(at))
        if not happened:
            yield self.words.say("none_happened")

    def meant(self, step: Step) -> tuple[bool, str]:
        """Of what kind of trigger a step was."""
        return (True, step.data.name) if step.type == "timer.due" else (False, step.type)

    def found(self) -> Iterator[tuple[tuple[bool, str], str]]:
        """Each trigger: whether it is a deadline, its name, and its words."""
        playbook, words, teller = self.playbook, self.words, self.story.teller
        for kind, rules in playbook.rules.items():
            telling = [rule for rule in rules if self.topic in (*rule.tell, *rule.answer)]
            if telling:
                said = words.say("on_event", event=teller.event(kind))
                yield (False, kind), said if any(r.when is None for r in telling) else self.conditional(said)
        for kind, opened in playbook.opens.items():
            for anomaly, when in opened:
                if self.topic in anomaly.tell:
                    said = words.say("on_event", event=teller.event(kind))
                    yield (False, kind), self.wrong(said if when is None else self.conditional(said), anomaly.name)
        for deadline in playbook.deadlines.values():
            said = words.say("on_deadline", deadline=teller.deadline(deadline.name))
            if self.topic in deadline.tell:
                yield (True, deadline.name), said
            for name in deadline.open:
                if self.topic in playbook.anomalies[name].tell:
                    yield (True, deadline.name), self.wrong(said, name)
        if playbook.review is not None and playbook.review.topic == self.topic:
            yield (True, ""), words.review

    def conditional(self, trigger: str) -> str:
        return self.words.say("on_condition", trigger=trigger)

    def wrong(self, trigger: str, anomaly: str) -> str:
        return self.words.say("by_anomaly", trigger=trigger, anomaly=self.words.anomalies.get(anomaly, anomaly))
