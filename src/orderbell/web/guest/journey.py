"""What the customer's page says: an order and its story as plain sentences, for the one person whose page it is.

Nothing of a person stands in it: no name, phone or address, of tracking numbers the tail alone, and of consigned goods
their kind instead of their name (S3-31). Choices are the principal's; whoever else has a part in the order sees how
it stands, and neither questions nor answers.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Struct

from orderbell.core.asks import open_asks
from orderbell.core.decide import light
from orderbell.core.model import Light, Order, Parcel
from orderbell.core.playbook import Ask, Playbook, Stage
from orderbell.store.tracking import Page, Steps
from orderbell.web.rendering import View
from orderbell.web.standing import stage_name

KEPT_OPEN: Final = timedelta(days=30)
"""How long the page works after its order is done."""

CHOSEN_SHOWN: Final = timedelta(days=3)
TAIL_LENGTH: Final = 4
TITLE_LENGTH: Final = 40
EXTENSIONS: Final = (7, 15, 30)
"""The days by which a consignment can be extended with one tap."""

ADDRESS_ANOMALY: Final = "address_bad"
_DONE_PHASES: Final = frozenset({"delivered", "returned", "cancelled"})
_MONEY_BACK: Final = frozenset({"refunding", "refunded"})
_YUAN: Final = 100


class Rung(Struct, frozen=True):
    """A step of the way; `at` is empty where nobody knows it or it is still to come."""

    name: str
    state: Literal["done", "now", "ahead"]
    at: str = ""


class Option(Struct, frozen=True):
    """One way out of a question, and what happens when it is taken."""

    option: str
    words: str
    then: str
    days: int = 0


class Question(Struct, frozen=True):
    """What the order waits for the customer to say; `price_fen` is the price that is asked about, else 0."""

    ask: str
    words: str
    options: tuple[Option, ...]
    price_fen: int = 0

    def find(self, option: str, days: int) -> Option | None:
        """The option of that name and length."""
        return next((one for one in self.options if (one.option, one.days) == (option, days)), None)


class Told(Struct, frozen=True):
    """A line of what happened."""

    when: str
    words: str


class ParcelLine(Struct, frozen=True):
    """A parcel: who carries it, how its number ends, and how far it is."""

    carrier: str
    tail: str
    phase: str


class Journey(Struct, frozen=True, kw_only=True):
    """All that the page shows. Every text is finished, in the language of the page, and not yet escaped."""

    order_no: str
    version: int
    goods: str
    consigned: bool
    headline: str
    light: Light
    light_words: str
    next_words: str
    troubles: tuple[str, ...]
    rungs: tuple[Rung, ...]
    history: tuple[Told, ...]
    parcels: tuple[ParcelLine, ...]
    arrival: str
    arrival_passed: bool
    question: Question | None
    wants_address: bool
    chosen: Option | None
    chosen_when: str
    markup: Mapping[str, Any]


def closed_at(page: Page, playbook: Playbook) -> datetime | None:
    """When the order was done: it stands at a green stage or an end, and nothing is wrong with it (any more)."""
    stage = playbook.stages.get(page.order.stage)
    if stage is None or page.order.anomalies or not (stage.end or stage.light == "green"):
        return None
    return max([page.order.stage_at, *(one.closed_at for one in page.troubles if one.closed_at is not None)])


def is_over(page: Page, playbook: Playbook, now: datetime) -> bool:
    """Whether the page has worked long enough."""
    done_at = closed_at(page, playbook)
    return done_at is not None and now >= done_at + KEPT_OPEN


def is_principal(page: Page, playbook: Playbook) -> bool:
    """Whether the page belongs to the one who may choose: the principal, or nobody by name."""
    if page.contact is None:
        return True
    return any(p.role == playbook.principal and p.contact == page.contact.id for p in page.order.parties)


def journey_of(page: Page, steps: Steps, playbook: Playbook, brand: str, view: View) -> Journey:
    """Tell an order to the person whose page it is."""
    return _Teller(page, steps, playbook, brand, view).tell()


def question_of(page: Page, playbook: Playbook, view: View) -> Question | None:
    """The question that is open, the newest where there are several: three choices at most (S3-30)."""
    if not is_principal(page, playbook):
        return None
    found = (_question(ask, page.order, playbook, view) for ask in open_asks(playbook, page.order))
    return next((question for question in found if question is not None), None)


def wants_address(page: Page, playbook: Playbook) -> bool:
    """Whether the page asks for another address."""
    return page.order.anomaly(ADDRESS_ANOMALY) is not None and is_principal(page, playbook)


def moment(at: datetime, view: View) -> str:
    """A moment by the clock of the page, as people say it."""
    local, today = at.astimezone(view.zone), view.now.astimezone(view.zone)
    days = (local.date() - today.date()).days
    near = {0: "today", 1: "tomorrow", -1: "yesterday"}.get(days)
    return local.strftime(view.say(f"track.time_{near or ('this_year' if local.year == today.year else 'any_year')}"))


def day(at: datetime, view: View) -> str:
    """A day by the clock of the page."""
    local, today = at.astimezone(view.zone), view.now.astimezone(view.zone)
    return local.strftime(view.say("track.day_this_year" if local.year == today.year else "track.day_any_year"))


class _Teller:
    """Tells one order."""

    def __init__(self, page: Page, steps: Steps, playbook: Playbook, brand: str, view: View) -> None:
        self.page, self.order, self.steps = page, page.order, steps
        self.playbook, self.brand, self.view = playbook, brand, view
        self.stage = playbook.stages[page.order.stage]

    def tell(self) -> Journey:
        """Put everything together."""
        order, view = self.order, self.view
        question, address = question_of(self.page, self.playbook, view), wants_address(self.page, self.playbook)
        color = light(self.playbook, order)
        # as the playbook lists them: the gravest that has words of its own leads
        troubles = tuple(dict.fromkeys(self.trouble(one.name) for one in self._by_gravity()))
        wording = self.playbook.wording.get(view.locale) or self.playbook.wording[self.playbook.locale]
        consigned = self.playbook.principal == "consignor"
        goods = wording.word("kind", order.category) if consigned else order.title[:TITLE_LENGTH]
        chosen = self.chosen()
        return Journey(
            order_no=order.no, version=order.version, consigned=consigned,
            goods=view.say("track.your_consigned", kind=goods) if consigned else goods,
            headline=troubles[0] if troubles else self.says(self.stage), light=color,
            light_words=self.light_words(color, question is not None or address), troubles=troubles[1:],
            next_words=self.next_words(question, address), rungs=tuple(self.rungs()), history=tuple(self.history()),
            parcels=tuple(self.parcel_line(parcel) for parcel in order.parcels),
            arrival=day(order.promised_by, view) if order.promised_by and color != "green" else "",
            arrival_passed=order.promised_by is not None and order.promised_by < view.now,
            question=question, wants_address=address, chosen=chosen, markup=self.markup(),
            chosen_when=moment(self.steps.chosen.at, view) if chosen and self.steps.chosen else "",
        )  # fmt: skip

    def _by_gravity(self) -> list[Any]:
        rules = self.playbook.anomalies
        return sorted(
            self.order.anomalies,
            key=lambda one: (one.name not in rules or rules[one.name].light != "red", -one.opened_at.timestamp()),
        )

    def says(self, stage: Stage) -> str:
        """The sentence of a stage."""
        return stage.says.get(self.view.locale) or stage.says.get(self.playbook.locale) or stage.name

    def step(self, stage: Stage) -> str:
        """The name of a stage where the order does not stand: “waiting for payment” is no word for what is done."""
        return stage_name({self.view.locale: self.says(stage)}, self.view.locale, stage.name)

    def trouble(self, name: str) -> str:
        """The sentence of an anomaly: the playbook's, else ours."""
        spec = self.playbook.spec.anomalies.get(name)
        said = (spec.says.get(self.view.locale) or spec.says.get(self.playbook.locale)) if spec is not None else None
        return said or self.view.find(f"track.trouble_{name}") or self.view.say("track.trouble")

    def light_words(self, color: Light, yours: bool) -> str:  # noqa: FBT001 - whether it is the customer's turn
        """The light in words."""
        if yours:
            return self.view.say("track.light_red_yours")
        if color == "yellow" and self.order.anomalies:
            return self.view.say("track.light_yellow_trouble")
        return self.view.say(f"track.light_{color}")

    def next_words(self, question: Question | None, address: bool) -> str:  # noqa: FBT001 - as above
        """What happens next, and by when there is news (S1-30)."""
        view, order = self.view, self.order
        if question is not None and question.ask != "expiry":
            return view.say("track.next_yours")
        if address:
            since = order.anomaly(ADDRESS_ANOMALY)
            sent_at = self.steps.corrected_at
            if sent_at is not None and since is not None and sent_at >= since.opened_at:
                return view.say("track.next_address_sent", time=moment(sent_at, view))
            return view.say("track.next_address")
        if closed_at(self.page, self.playbook) is not None:
            return view.say("track.next_end" if self.stage.end else "track.next_done")
        by = max([order.stage_at, *(one.opened_at for one in order.anomalies)]) + self.stage.next_update
        if self.stage.next_update and by > view.now:
            return view.say("track.next_by", time=moment(by, view))
        return view.say("track.next_soon")

    def rungs(self) -> Iterator[Rung]:
        """The ladder: what was passed, where the order stands, what is to come."""
        order, reached = self.order, dict(self.steps.reached)
        goes_on = not (self.stage.end or order.payment in _MONEY_BACK or order.anomaly("refund_wanted"))
        reached[self.order.stage] = reached.get(self.order.stage, self.order.stage_at)
        for stage in self.playbook.stages.values():
            at = reached.get(stage.name)
            if stage.name == self.order.stage:
                yield Rung(self.says(stage), "now", moment(at or self.order.stage_at, self.view))
            elif at is not None and stage.rank < self.stage.rank:
                yield Rung(self.step(stage), "done", moment(at, self.view))
            elif goes_on and stage.rank > self.stage.rank and not (stage.end or stage.optional):
                yield Rung(self.step(stage), "ahead")

    def history(self) -> list[Told]:
        """All that happened, the newest first."""
        view, stages = self.view, self.playbook.stages
        lines = [(at, self.says(stages[name])) for name, at in self.steps.reached if name in stages]
        for one in self.page.troubles:
            lines.append((one.opened_at, self.trouble(one.name)))
            if one.closed_at is not None:
                lines.append((one.closed_at, view.say("track.solved", trouble=self.trouble(one.name))))
        if self.steps.chosen is not None and is_principal(self.page, self.playbook):
            words = self.option(self.steps.chosen.option, 0).words
            lines.append((self.steps.chosen.at, view.say("track.chosen", option=words)))
        lines.sort(key=lambda line: line[0])  # of one moment, what was said last comes first
        return [Told(moment(at, view), words) for at, words in reversed(lines)]

    def parcel_line(self, parcel: Parcel) -> ParcelLine:
        """A parcel as its receiver may see it."""
        wording = self.playbook.wording.get(self.view.locale) or self.playbook.wording[self.playbook.locale]
        tail = parcel.tracking_no[-TAIL_LENGTH:] if len(parcel.tracking_no) > TAIL_LENGTH else ""
        phase = self.view.called("phases", parcel.phase) if parcel.phase else ""
        return ParcelLine(wording.word("carrier", parcel.carrier), tail, phase)

    def chosen(self) -> Option | None:
        """What was chosen on the page a short time ago."""
        last = self.steps.chosen
        if last is None or self.view.now - last.at > CHOSEN_SHOWN or not is_principal(self.page, self.playbook):
            return None
        return self.option(last.option, last.days)

    def option(self, name: str, days: int) -> Option:
        """An option in words."""
        return _option(name, days, self.order, self.playbook, self.view)

    def markup(self) -> dict[str, Any]:
        """The order as schema.org knows it (https://schema.org/Order), with nothing of a person."""
        order = self.order
        made: dict[str, Any] = {
            "@context": "https://schema.org", "@type": "Order", "orderNumber": order.no,
            "orderStatus": f"https://schema.org/{_status(order, self.stage)}",
            "orderDate": order.opened_at.isoformat(),
            "merchant": {"@type": "Organization", "name": self.brand},
        }  # fmt: skip
        deliveries = [self._delivery(parcel) for parcel in order.parcels]
        if deliveries:
            made["orderDelivery"] = deliveries if len(deliveries) > 1 else deliveries[0]
        return made

    def _delivery(self, parcel: Parcel) -> dict[str, Any]:
        made: dict[str, Any] = {"@type": "ParcelDelivery"}
        if parcel.carrier:
            name = self.parcel_line(parcel).carrier
            made["provider"] = {"@type": "Organization", "name": name}
        if self.order.promised_by is not None:
            made["expectedArrivalUntil"] = self.order.promised_by.isoformat()
        return made


def _question(ask: Ask, order: Order, playbook: Playbook, view: View) -> Question | None:
    price_fen = order.price_fen if ask.yes and order.price_fen else 0
    names = [name for name in (ask.yes, ask.no) if name] or list(ask.choices)
    options = [_option(name, 0, order, playbook, view) for name in names]
    if not options:
        lengths = [days for days in EXTENSIONS if days <= ask.extend_days_max] or [ask.extend_days_max]
        options = [_option("extend", days, order, playbook, view) for days in lengths]
    until = day(order.until, view) if order.until is not None else ""
    values = {"price": _yuan(price_fen), "until": until}
    words = view.find(f"track.ask_{ask.name}", **values) or view.say("track.ask", **values)
    return Question(ask.name, words, tuple(options), price_fen)


def _option(name: str, days: int, order: Order, playbook: Playbook, view: View) -> Option:
    wording = playbook.wording.get(view.locale) or playbook.wording[playbook.locale]
    values = {"days": days, "price": _yuan(order.price_fen)}
    words = view.find(f"track.option_{name}", **values) or wording.word("choice", name)
    then = view.find(f"track.then_{name}", **values) or view.say("track.then", **values)
    return Option(name, words, then, days)


def _yuan(fen: int) -> str:
    return f"¥{fen / _YUAN:,.2f}".removesuffix(".00")


def _status(order: Order, stage: Stage) -> str:
    """The member of https://schema.org/OrderStatus that comes nearest."""
    if stage.name in ("cancelled", "rejected", "withdrawn"):
        return "OrderCancelled"
    if stage.name == "returned" or order.phase == "returned":
        return "OrderReturned"
    if order.anomalies:
        return "OrderProblem"
    if stage.light == "green" or order.phase in _DONE_PHASES:
        return "OrderDelivered"
    if order.phase == "available_for_pickup":
        return "OrderPickupAvailable"
    if order.phase or order.parcels:
        return "OrderInTransit"
    return "OrderPaymentDue" if order.payment in ("none", "failed", "expired") else "OrderProcessing"
