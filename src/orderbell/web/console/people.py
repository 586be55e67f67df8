"""People: who somebody is to the shop, what they wish, what they heard, what they did not hear, and why.

Addresses are masked, always. A change of wishes goes the same way as one over the API (`orderbell.web.api.people`): the
same checks, a record of consent, and a line in the trail.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.model import Contact
from orderbell.core.turn import Shelf
from orderbell.core.wishes import (
    CHANNELS,
    Change,
    Refusal,
    categories_of,
    check_change,
    is_stale,
    read_change,
    region_of,
)
from orderbell.store.dossier import Archive
from orderbell.store.looking import Looking
from orderbell.store.people import People
from orderbell.store.written import Writings
from orderbell.web.api.people import CONSENTS_SHOWN, contact_view
from orderbell.web.console.desk import Desk
from orderbell.web.console.placing import is_more, nothing_here, person_url, piece, show
from orderbell.web.console.stories import SHOWS, items_of
from orderbell.web.console.voices import voices_of
from orderbell.web.forms import Form, read_form
from orderbell.web.person_desk import change_person
from orderbell.web.rendering import LOCALES, View, view_of
from orderbell.web.rights import Visitor

ROWS: Final = 50
ORDERS_SHOWN: Final = 20
NOTICES_SHOWN: Final = 50
ID_LENGTH_MAX: Final = 200
FREQUENCIES: Final = ("calm", "normal", "all")
SOURCE: Final = "console"
"""What records of consent name as their source."""


class Mute(Struct, frozen=True):
    """Something that a person can turn off: its code, its words, whether it is off."""

    code: str
    words: str
    is_off: bool


def people_pages(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    @get("/console/people", opt={"right": "people:read"})
    async def find_people(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        looking, text = Looking(desk.store, visitor.tenant), view.query.get("q", "")
        try:
            found = await looking.people(text, view.query.get("after", ""), ROWS)
        except ValueError:  # a cursor that nobody here has made: the list begins anew
            found = await looking.people(text, "", ROWS)
        values = {"found": found, "next_url": view.link(after=found.next) if found.next else ""}
        if is_more(request):
            return piece("people_rows.html", view, **values)
        return show("people.html", view, **values, text=text.strip())

    @get("/console/people/{contact:str}", opt={"right": "people:read"})
    async def show_person(
        request: Request[Any, Any, Any], visitor: NamedDependency[Visitor], contact: FromPath[str]
    ) -> Response[str]:
        return await _page(desk, view_of(request, visitor), visitor, contact)

    @get("/console/person", opt={"right": "people:read"})
    async def show_person_by_query(
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        id: FromQuery[str] = "",
    ) -> Response[str]:
        return await _page(desk, view_of(request, visitor), visitor, id)

    @post("/console/person/wishes", opt={"right": "people:write"}, status_code=303)
    async def change_wishes(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        form = await read_form(request)
        view, name = view_of(request, visitor), form.raw("id")
        people, shelf = People(desk.store, visitor.tenant), await desk.shelf_of(visitor.tenant)
        contact = await _find(people, name)
        change = _read(form, contact)
        refusal = change if isinstance(change, Refusal) else check_change(change, contact, shelf, people.index_key)
        if isinstance(change, Refusal) or refusal is not None:
            return await _page(desk, view, visitor, name, refusal, form)
        await change_person(
            people, desk.trail, contact, change,
            actor=visitor.actor, at=desk.now(), region=region_of(shelf), source=SOURCE,
        )  # fmt: skip
        where = person_url(name) + ("&" if "?" in person_url(name) else "?") + "saved=1"
        return Response("", status_code=303, headers={"Location": where, "Cache-Control": "no-store"})

    return [find_people, show_person, show_person_by_query, change_wishes]


async def _find(people: People, name: str) -> Contact:
    found = await people.find(name) if 0 < len(name) <= ID_LENGTH_MAX else None
    if found is None:
        raise nothing_here("unknown_contact", "there is nobody of this id")
    return found


async def _page(
    desk: Desk, view: View, visitor: Visitor, name: str, refusal: Refusal | None = None, form: Form | None = None
) -> Response[str]:
    people, shelf = People(desk.store, visitor.tenant), await desk.shelf_of(visitor.tenant)
    contact = await _find(people, name)
    dossier = await Archive(desk.store, visitor.tenant).of_contact(name, "", NOTICES_SHOWN)
    if dossier is None:
        raise nothing_here("unknown_contact", "there is nobody of this id")
    orders = await Looking(desk.store, visitor.tenant).orders_of(name, "", ORDERS_SHOWN)
    stale = is_stale(contact, shelf, desk.now())
    known = contact_view(contact, await people.consents(name, CONSENTS_SHOWN), "stale" if stale else "unverified")
    asked = view.query.get("show", "")
    chosen = asked if asked in SHOWS else "all"
    story = desk.stories.contact(dossier, shelf, view.locale)
    items = items_of(story, dossier.posted, view, chosen)
    if chosen in ("all", "wrote"):
        held = [line.order for line in orders.items]
        written = await Writings(desk.store, visitor.tenant).of_orders(order.no for order in held)
        items = sorted(
            [*items, *voices_of(name, written, held, shelf, view)], key=lambda one: one.line.at, reverse=True
        )
    shown = _filled(form) if form is not None else _wishes(contact)
    return show(
        "person.html", view, status=422 if refusal is not None else 200, person=known, wishes=shown,
        mutes=list(_mutes(shown["mute"], shelf, view)), frequencies=FREQUENCIES, locales=list(LOCALES.values()),
        refusal=refusal, wrong=_wrong(refusal, view), orders=orders.items, chosen=chosen, shows=SHOWS,
        items=items, saved=view.query.get("saved") == "1",
        here=person_url(name),
    )  # fmt: skip


def _wishes(contact: Contact) -> Mapping[str, Any]:
    return {
        "mute": contact.mute, "frequency": contact.frequency, "quiet": contact.quiet, "marketing": contact.marketing,
        "locale": contact.locale,
    }  # fmt: skip


def _filled(form: Form) -> Mapping[str, Any]:
    names = ("frequency", "quiet", "marketing", "locale")
    return {"mute": tuple(form.many("mute"))} | {name: form.text(name) for name in names}


def _read(form: Form, contact: Contact) -> Change | Refusal:
    """The form as the merge patch that it stands for: what stays as it is, is not named."""
    filled, known = _filled(form), _wishes(contact)
    tree: dict[str, object] = {name: value for name, value in filled.items() if value != known[name]}
    if "mute" in tree:
        tree["mute"] = list(filled["mute"])
    if "marketing" in tree:
        tree["marketing"] = {"yes": True, "no": False}.get(str(filled["marketing"]), "")
    return read_change(tree)


def _mutes(off: Sequence[str], shelf: Shelf, view: View) -> Sequence[Mute]:
    """All that can be turned off: whole categories, of those that orders need single channels; and what else is."""
    codes: list[str] = []
    for category, is_mandatory in categories_of(shelf).items():
        codes += [f"{category}:{channel}" for channel in CHANNELS if channel != "inbox"] if is_mandatory else [category]
    codes += [code for code in off if code not in codes]
    return [Mute(code, _mute_words(code, view), code in off) for code in codes]


def _mute_words(code: str, view: View) -> str:
    category, _, channel = code.partition(":")
    words = view.called("categories", category)
    if not channel:
        return words
    return view.say("people.mute_channel", category=words, channel=view.called("channels", channel))


def _wrong(refusal: Refusal | None, view: View) -> Mapping[str, str]:
    if refusal is None:
        return {}
    known = ("quiet", "mute", "frequency", "marketing", "locale")
    field = refusal.field if refusal.field in known else "other"
    words = view.say(f"people.wrong_{field}")
    return {field: words if view.language == "zh" or field != "other" else refusal.detail}
