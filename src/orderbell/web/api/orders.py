"""`/v1/orders`: orders as they stand, and what happened to each.

Times are UTC, amounts are in 1/100 yuan, addresses are masked. Sentences are those that customers read, by language.
An order of another tenant is answered as one that does not exist.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final, Literal, NoReturn

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, PathParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import ORDER_NO_MAX, Tier
from orderbell.core.model import CaseKind, CaseState, Contact, Light, Order, Owner, Payment
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.core.wishes import ENDPOINTS
from orderbell.store.lines import OrderFilter, OrderLine
from orderbell.store.looking import Looking
from orderbell.store.timeline import Timeline
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.effects import Step, step_of
from orderbell.web.api.paging import (
    LIMIT_USUAL,
    After,
    Limit,
    ListPage,
    moment_parameter,
    read_cursor,
    read_moment,
    text_parameter,
)
from orderbell.web.api.people import masked
from orderbell.web.standing import sentence_of, standing_of

_LOCALES: Final = ("zh-CN", "en")

_TEXT: Final = (
    "An order number or how one begins, or at least the last four digits of the phone of somebody in the order."
)

LookingOf = Callable[[str], Looking]
"""Lists and searches of a tenant."""

TimelineOf = Callable[[str], Timeline]
"""The orders of a tenant, one at a time."""

ShelfOf = Callable[[str], Awaitable[Shelf]]
"""The playbooks of a tenant."""

OrderNo = Annotated[
    str, PathParameter(description="The order number, as the shop tells it.", max_length=ORDER_NO_MAX, min_length=1)
]


class OrderSummary(Struct, frozen=True):
    """An order in a list. `says` is the customer's sentence by language, `anomalies` names what is wrong now."""

    order_no: str
    title: str
    playbook: str
    stage: str
    says: dict[str, str]
    light: Light
    payment: Payment
    amount_fen: int
    anomalies: list[str]
    open_cases: int
    opened_at: datetime
    updated_at: datetime
    promised_by: datetime | None


class OrderPage(ListPage, frozen=True):
    """Orders; `next` is empty on the last page.

    Where a rare thing is looked for among many orders, a page may hold few or none and yet not be the last: then
    `looked_back_to` says how far the search has come.
    """

    items: list[OrderSummary]


class StageView(Struct, frozen=True):
    """Where an order stands, since when, and the customer's sentence by language."""

    name: str
    at: datetime
    says: dict[str, str]


class ParcelView(Struct, frozen=True):
    """A parcel; `at` is the carrier's time of the last word, `moves` counts its scans on the way."""

    tracking_no: str
    carrier: str
    phase: str
    at: datetime
    moves: int


class AnomalyView(Struct, frozen=True):
    """Something that is wrong with an order now, and which event or deadline brought it."""

    name: str
    opened_at: datetime
    cause: str


class OpenCaseView(Struct, frozen=True):
    """Work for the staff that an order waits for."""

    id: str
    anomaly: str
    kind: CaseKind
    owner: Owner
    state: CaseState
    opened_at: datetime


class PartyView(Struct, frozen=True):
    """Somebody in an order: their role, the id of their contact, and their addresses by channel, masked."""

    role: str
    contact: str
    tier: Tier
    addresses: dict[str, str]


class DeadlineView(Struct, frozen=True):
    """A deadline that runs: whether somebody is told when it passes, and which anomalies it would open."""

    name: str
    due_at: datetime
    tells: bool
    opens: list[str]


class OrderView(Struct, frozen=True):
    """An order with all that is known of it.

    `version` counts what was decided. `next_update_by` is when the customer hears more at the latest, null where
    nothing more is to come. `price_fen` is the last price proposed, offered or reached, `sum_fen` the last money that
    moved. `marks` are the playbook's notes on the order, and since when.
    """

    order_no: str
    version: int
    title: str
    category: str
    playbook: str
    stage: StageView
    light: Light
    payment: Payment
    payment_at: datetime | None
    amount_fen: int
    price_fen: int
    sum_fen: int
    tier: Tier
    key: Literal["", "issued", "failed", "revealed", "redeemed"]
    opened_at: datetime
    updated_at: datetime
    promised_by: datetime | None
    until: datetime | None
    next_update_by: datetime | None
    reason: str
    parcels: list[ParcelView]
    anomalies: list[AnomalyView]
    cases: list[OpenCaseView]
    parties: list[PartyView]
    deadlines: list[DeadlineView]
    marks: dict[str, datetime]


class StepPage(Struct, frozen=True):
    """What happened to an order, the oldest first; `next` is empty on the last page."""

    items: list[Step]
    next: str


def order_routes(looking_of: LookingOf, timeline_of: TimelineOf, shelf_of: ShelfOf) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""

    @get("/v1/orders", summary="List orders", tags=["orders"], opt={"right": "orders:read", "example": examples.ORDERS})
    async def list_orders(
        tenant: NamedDependency[str],
        *,
        text: Annotated[str, text_parameter(_TEXT)] = "",
        stage: Annotated[str, text_parameter("The stage where they stand.")] = "",
        light: FromQuery[Literal["", "red", "yellow", "green"]] = "",
        anomaly: Annotated[str, text_parameter("The name of an anomaly that is open.")] = "",
        playbook: Annotated[str, text_parameter("The playbook that they follow.")] = "",
        opened_from: Annotated[str | None, moment_parameter("opened_from", "Opened then or later.")] = None,
        opened_until: Annotated[str | None, moment_parameter("opened_until", "Opened before.")] = None,
        after: After = "",
        limit: Limit = LIMIT_USUAL,
    ) -> OrderPage:
        """The newest first; with `text` the best match, with `anomaly` or red light the newest trouble first."""
        find = OrderFilter(
            text, stage, light, anomaly, playbook, read_moment(opened_from, "opened_from"),
            read_moment(opened_until, "opened_until"),
        )  # fmt: skip
        with read_cursor():
            page = await looking_of(tenant).orders(find, after, limit)
        shelf = await shelf_of(tenant)
        return OrderPage([_summary(line, shelf) for line in page.items], page.next, page.looked_back_to)

    @get(
        "/v1/orders/{order_no:str}", summary="Show an order", tags=["orders"],
        opt={"right": "orders:read", "example": examples.ORDER},
    )  # fmt: skip
    async def show_order(tenant: NamedDependency[str], order_no: OrderNo) -> OrderView:
        """All that is known of an order: stage, light, money, parcels, people, what is wrong, what comes next."""
        order, contacts = await timeline_of(tenant).order(order_no) or no_order()
        return _view(order, (await shelf_of(tenant)).find(order.playbook), contacts)

    @get(
        "/v1/orders/{order_no:str}/timeline", summary="List what happened to an order", tags=["orders"],
        opt={"right": "orders:read", "example": examples.TIMELINE},
    )  # fmt: skip
    async def list_steps(
        tenant: NamedDependency[str], order_no: OrderNo, after: After = "", limit: Limit = LIMIT_USUAL
    ) -> StepPage:
        """Every event and every deadline that passed, with what was decided on it and why, the oldest first."""
        with read_cursor():
            page = await timeline_of(tenant).lines(order_no, after, limit)
        if page is None:
            no_order()
        return StepPage([step_of(line) for line in page.items], page.next)

    return [list_orders, show_order, list_steps]


def no_order() -> NoReturn:
    """The answer where there is no such order, or it is another tenant's."""
    say_no(404, "unknown_order", "No such order", "there is no order of this number")


def _summary(line: OrderLine, shelf: Shelf) -> OrderSummary:
    order = line.order
    return OrderSummary(
        order.no, order.title, order.playbook, order.stage, _says(order, shelf.find(order.playbook)), line.light,
        order.payment, order.amount_fen, [one.name for one in order.anomalies], len(order.cases), order.opened_at,
        order.updated_at, order.promised_by,
    )  # fmt: skip


def _says(order: Order, playbook: Playbook | None) -> dict[str, str]:
    if playbook is None or order.stage not in playbook.stages:
        return {}
    return {locale: sentence_of(order, playbook, locale) for locale in _LOCALES}


def _view(order: Order, playbook: Playbook | None, contacts: dict[str, Contact]) -> OrderView:
    standing = standing_of(order, playbook, _LOCALES[0])
    return OrderView(
        order_no=order.no, version=order.version, title=order.title, category=order.category, playbook=order.playbook,
        stage=StageView(order.stage, order.stage_at, _says(order, playbook)), light=standing.light,
        payment=order.payment, payment_at=order.payment_at, amount_fen=order.amount_fen, price_fen=order.price_fen,
        sum_fen=order.sum_fen, tier=order.tier, key=order.key, opened_at=order.opened_at, updated_at=order.updated_at,
        promised_by=order.promised_by, until=order.until, next_update_by=standing.next_by, reason=order.reason,
        parcels=[ParcelView(one.tracking_no, one.carrier, one.phase, one.at, one.moves) for one in order.parcels],
        anomalies=[AnomalyView(one.name, one.opened_at, one.cause) for one in order.anomalies],
        cases=[
            OpenCaseView(one.id.hex(), one.anomaly, one.kind, one.owner, one.state, one.opened_at)
            for one in order.cases
        ],
        parties=[
            PartyView(one.role, one.contact, one.tier, _addresses(contacts.get(one.contact))) for one in order.parties
        ],
        deadlines=[DeadlineView(one.name, one.due_at, one.tells, list(one.opens)) for one in standing.waits],
        marks=order.marks,
    )  # fmt: skip


def _addresses(contact: Contact | None) -> dict[str, str]:
    """The addresses of a contact as they may be shown; none of one that was forgotten."""
    if contact is None:
        return {}
    known = {channel: (field, getattr(contact, field)) for field, channel in ENDPOINTS.items()}
    return {channel: masked(field, address) for channel, (field, address) in known.items() if address}
