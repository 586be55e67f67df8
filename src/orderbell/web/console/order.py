"""One order: how it stands, who is in it, and one time line of all that happened, was said or left unsaid, and why.

Another tenant's order is answered like one that does not exist. Looking changes nothing: the customer's page is opened
by a form.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import is_order_no
from orderbell.core.model import Contact, Order
from orderbell.core.phones import mask_email, mask_phone
from orderbell.core.playbook import Playbook
from orderbell.core.story import Line
from orderbell.core.wording import WordingSpec
from orderbell.store.dossier import Archive, Dossier
from orderbell.store.written import Writings
from orderbell.web.console.desk import Desk
from orderbell.web.console.placing import nothing_here, show
from orderbell.web.console.stories import SHOWS, items_of
from orderbell.web.console.voices import with_voices
from orderbell.web.forms import read_form
from orderbell.web.rendering import View, view_of
from orderbell.web.rights import Visitor
from orderbell.web.standing import standing_of


class Person(Struct, frozen=True):
    """Somebody in an order; the address is masked."""

    role: str
    contact: str
    address: str
    tier: str


class Trouble(Struct, frozen=True):
    """Something that is wrong with an order, or was; `owner` is a code, empty where the playbook no longer says."""

    name: str
    opened_at: datetime
    closed_at: datetime | None
    owner: str


def order_routes(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    async def shown(request: Request[Any, Any, Any], visitor: Visitor, order_no: str) -> Response[str]:
        view = view_of(request, visitor)
        dossier = await _find(desk, visitor.tenant, order_no)
        return await _page(desk, view, visitor, dossier)

    @get("/console/orders/{order_no:str}", opt={"right": "orders:read"})
    async def show_order(
        request: Request[Any, Any, Any], visitor: NamedDependency[Visitor], order_no: FromPath[str]
    ) -> Response[str]:
        return await shown(request, visitor, order_no)

    @get("/console/order", opt={"right": "orders:read"})
    async def show_order_by_query(
        request: Request[Any, Any, Any], visitor: NamedDependency[Visitor], no: FromQuery[str] = ""
    ) -> Response[str]:
        return await shown(request, visitor, no)

    @get("/console/order/live", opt={"right": "orders:read", "by_itself": True})
    async def watch_order(
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        no: FromQuery[str] = "",
        seen: FromQuery[int] = 0,
    ) -> Stream:
        if desk.live is None or not is_order_no(no):
            raise nothing_here("not_live", "there is nothing to be told of here")
        return await desk.live.respond(request, [(visitor.tenant, no)], seen)

    return [show_order, show_order_by_query, watch_order, *_customer_page_route(desk)]


def _customer_page_route(desk: Desk) -> list[ControllerRouterHandler]:
    """The way to the customer's page, which hands out a link and therefore changes something."""

    @post("/console/order/page", opt={"right": "links:write"}, status_code=303)
    async def open_customer_page(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        form = await read_form(request)
        order_no = form.raw("no")
        async with desk.trail.together():
            where = await desk.page_of(visitor.tenant, order_no, "") if desk.page_of and is_order_no(order_no) else ""
            if not where:
                raise nothing_here("unknown_order", "there is no order of this number")
            await desk.trail.write(visitor.tenant, visitor.actor, "link.make", order_no)
        return Response("", status_code=303, headers={"Location": where, "Cache-Control": "no-store"})

    return [open_customer_page]


async def _find(desk: Desk, tenant: str, order_no: str) -> Dossier:
    found = await Archive(desk.store, tenant).of_order(order_no) if is_order_no(order_no) else None
    if found is None:
        raise nothing_here("unknown_order", "there is no order of this number")
    return found


async def _page(desk: Desk, view: View, visitor: Visitor, dossier: Dossier) -> Response[str]:
    (order,) = dossier.orders.values()
    shelf = await desk.shelf_of(visitor.tenant)
    playbook = shelf.find(order.playbook)
    story = desk.stories.order(dossier, shelf, view.locale)
    asked = view.query.get("show", "")
    chosen = asked if asked in SHOWS else "all"
    words = _words(playbook, view.locale)
    items = items_of(story, dossier.posted, view, chosen)
    written = await Writings(desk.store, visitor.tenant).of_orders([order.no])
    return show(
        "order.html", view, order=order, playbook=playbook, chosen=chosen, shows=SHOWS,
        standing=standing_of(order, playbook, view.locale, dossier.steps),
        people=list(_people(order, dossier)), troubles=_troubles(order, playbook, story.lines),
        items=with_voices(items, written, order, shelf, view), has_page=desk.page_of is not None,
        is_live=desk.live is not None, corrections=await _corrections(desk, view, visitor, order),
        reasons=words.reasons if words is not None else {}, carriers=words.carriers if words is not None else {},
        listed=lambda table, codes: ", ".join(view.called(table, code) for code in codes),
    )  # fmt: skip


def _words(playbook: Playbook | None, locale: str) -> WordingSpec | None:
    """The words that customers of the order read, where its playbook speaks the language: they name codes as well."""
    wording = playbook.wording.get(locale) if playbook is not None else None
    return wording.spec if wording is not None else None


async def _corrections(desk: Desk, view: View, visitor: Visitor, order: Order) -> Iterable[Any]:
    """What people wrote into the form for addresses: theirs, so for those who may see people."""
    if desk.corrections_of is None or not view.may("people:read"):
        return []
    return await desk.corrections_of(visitor.tenant, order.no)


def _people(order: Order, dossier: Dossier) -> Iterable[Person]:
    for party in order.parties:
        contact = dossier.contacts.get(party.contact)
        yield Person(party.role, party.contact, address_of(contact) if contact is not None else "", party.tier)


def address_of(contact: Contact) -> str:
    """The address by which people of the shop know somebody, masked."""
    if contact.phone:
        return mask_phone(contact.phone)
    return mask_email(contact.email) if contact.email else ""


def _troubles(order: Order, playbook: Playbook | None, lines: Iterable[Line]) -> list[Trouble]:
    """What is wrong now, the newest first, then what was, as far as the journal tells."""
    rules = playbook.anomalies if playbook is not None else {}

    def owner(name: str) -> str:
        return rules[name].owner if name in rules else ""

    now = [Trouble(one.name, one.opened_at, None, owner(one.name)) for one in order.anomalies]
    began: dict[str, datetime] = {}
    over: list[Trouble] = []
    for line in lines:
        if line.kind == "anomaly" and line.ended and line.name in began:
            over.append(Trouble(line.name, began.pop(line.name), line.at, owner(line.name)))
        elif line.kind == "anomaly":
            began[line.name] = line.at
    return [*sorted(now, key=lambda one: one.opened_at, reverse=True), *reversed(over)]
