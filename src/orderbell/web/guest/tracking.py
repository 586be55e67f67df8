"""The customer's page: how an order stands, what is done about it, and what the customer may choose and wish.

`/t/{token}` and what lies below it. A GET never changes anything, not even who has read what: scanners of mail and
previews of chats open every address. What a person chooses takes two steps, a page that says what will happen and a
form that does it, and becomes an event by the same door as every other. All of it works without scripts.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from orderbell.core.events import Answer, Event, Status, parse_event
from orderbell.core.model import Contact, derive_id
from orderbell.core.segments import clean
from orderbell.core.wishes import Refusal, apply_change, categories_of, check_change, read_change, region_of
from orderbell.observe import count
from orderbell.store.tracking import PAGE_SOURCE
from orderbell.web.forms import Form, read_form
from orderbell.web.guest.desk import (
    FORM_BYTES_MAX,
    HEADERS,
    Guest,
    GuestDesk,
    NotHere,
    TooOften,
    refuse_forged,
    served,
)  # fmt: skip
from orderbell.web.guest.journey import Journey, Option, Question, journey_of, question_of, wants_address
from orderbell.web.rendering import fragment

ADDRESS_MIN: Final = 8
ADDRESS_MAX: Final = 300
FORMS_MAX: Final = 30
"""So many forms may be sent from one page in an hour."""

QUIET: Final = ("", "22:00-08:00", "21:00-09:00", "20:00-10:00")
"""The hours that are offered; others that somebody has asked for stay."""

FREQUENCIES: Final = ("calm", "normal", "all")
_WISHES_SOURCE: Final = "customer page"
_HOUR: Final = timedelta(hours=1)
_PUBLIC: Final = {"public": "who knows the address of a customer's page may see it"}
_ANSWERED: Final = frozenset({Status.ACCEPTED, Status.DUPLICATE})

_Work: TypeAlias = Callable[[Request[Any, Any, Any], str], Awaitable[Response[Any]]]
"""What is done for whoever has the address with this token."""


def tracking_routes(desk: GuestDesk) -> list[ControllerRouterHandler]:
    """Make the routes of the customer's page."""
    pages = _Pages(desk)
    return [
        _page("", pages.show), _page("/part", pages.show_part), _page("/live", pages.follow),
        _page("/choice", pages.ask_choice), _form("/choice", pages.take_choice),
        _page("/address", pages.ask_address), _form("/address", pages.take_address),
        _page("/wishes", pages.ask_wishes), _form("/wishes", pages.take_wishes),
    ]  # fmt: skip


def _page(below: str, work: _Work) -> ControllerRouterHandler:
    @get(f"/t/{{token:str}}{below}", include_in_schema=False, opt=_PUBLIC)
    async def show(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[Any]:
        return await served(request, partial(work, request, token))

    return show


def _form(below: str, work: _Work) -> ControllerRouterHandler:
    @post(
        f"/t/{{token:str}}{below}", include_in_schema=False, opt=_PUBLIC, status_code=303,
        request_max_body_size=FORM_BYTES_MAX,
    )  # fmt: skip
    async def take(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[Any]:
        return await served(request, partial(work, request, token))

    return take


class _Pages:
    """What the routes do."""

    def __init__(self, desk: GuestDesk) -> None:
        self.desk = desk

    async def show(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """The whole page."""
        guest = await self.desk.guest(request, token)
        return guest.answer("track.html", journey=await self.journey(guest))

    async def show_part(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """The part of the page that changes."""
        guest = await self.desk.guest(request, token)
        journey = await self.journey(guest)
        return fragment("track_part.html", guest.view, headers=HEADERS, guest=guest, brand=guest.brand, journey=journey)

    async def follow(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """Tell a page of changes."""
        guest = await self.desk.guest(request, token)
        order = guest.page.order
        seen = request.query_params.get("v", "")
        version = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < len("1000000000") else None
        return await self.desk.live.respond(request, [(order.tenant, order.no)], version)

    async def ask_choice(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """Say what a choice means, before it is made."""
        guest = await self.desk.guest(request, token)
        question, option = _asked(guest, request.query_params)
        if question is None or option is None:
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.late"))
        return guest.answer("track_sure.html", question=question, option=option, version=guest.page.order.version)

    async def take_choice(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """Make a choice: an event of the order, one and the same however often the button was pressed."""
        refuse_forged(request, self.desk.public_url)
        guest = await self.desk.guest(request, token)
        form = await read_form(request, FORM_BYTES_MAX)
        order, version = guest.page.order, form.raw("version")
        if not _is_count(version) or not 0 < int(version) <= order.version:
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.changed"))
        event_id = f"{order.no}/{form.raw('ask')}/{int(version)}"
        question, option = _asked(guest, {name: form.raw(name) for name in ("ask", "option", "days")})
        if question is None or option is None:
            if event_id.isprintable() and await self.desk.tracking.was_heard(order.tenant, event_id):
                return Redirect(guest.path, status_code=303, headers=dict(HEADERS))  # pressed twice
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.late"))
        if str(question.price_fen) != (form.raw("price") or "0"):
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.changed"))
        await self.take_turn(guest)
        data = {"option": option.option, "days": option.days} if option.days else {"option": option.option}
        await self.submit(guest, "choice.made", event_id, data)
        count("tracking.chosen")
        return Redirect(guest.path, status_code=303, headers=dict(HEADERS))

    async def ask_address(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """The form for another address."""
        guest = await self.desk.guest(request, token)
        if not wants_address(guest.page, guest.playbook):
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.late"))
        return guest.answer("track_address.html", text="", wrong="")

    async def take_address(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """Keep another address, sealed, and have the staff hear of it.

        Events are journalled in clear and live as long as the journal, so the address is not in one: the event is
        a `reply.received` that says that there is a correction, which opens a case; the text stands in `correction`,
        sealed, until it is old. The shop puts the order right and says so with `address.changed`.
        """
        refuse_forged(request, self.desk.public_url)
        guest = await self.desk.guest(request, token)
        if not wants_address(guest.page, guest.playbook):
            return guest.answer("track_note.html", status=409, words=guest.view.say("track.late"))
        text = clean((await read_form(request, FORM_BYTES_MAX)).raw("address")).strip()
        if not ADDRESS_MIN <= len(text) <= ADDRESS_MAX:
            wrong = guest.view.say("track.address_wrong", min=ADDRESS_MIN, max=ADDRESS_MAX)
            return guest.answer("track_address.html", status=422, text=text[: ADDRESS_MAX * 2], wrong=wrong)
        await self.take_turn(guest)
        order = guest.page.order
        contact = guest.page.contact.id if guest.page.contact is not None else ""
        since = order.anomaly("address_bad")
        at = since.opened_at if since is not None else order.updated_at
        name = derive_id(at, order.tenant, order.no, contact, text)
        await self.desk.tracking.correct(order, name, contact, text, self.desk.now())
        said = f"地址更正 {name.hex()[-8:]} / address correction, see the order's corrections"
        data = {"text": said, "from": guest.playbook.principal}
        await self.submit(guest, "reply.received", f"{order.no}/address/{name.hex()}", data)
        count("tracking.address")
        return Redirect(guest.path, status_code=303, headers=dict(HEADERS))

    async def ask_wishes(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """The form for how somebody wants to hear from the shop."""
        guest = await self.desk.guest(request, token)
        contact = await self.contact_of(guest)
        return _wishes_page(guest, contact, saved=request.query_params.get("saved", "") == "1")

    async def take_wishes(self, request: Request[Any, Any, Any], token: str) -> Response[Any]:
        """Change how somebody wants to hear from the shop."""
        refuse_forged(request, self.desk.public_url)
        guest = await self.desk.guest(request, token)
        contact = await self.contact_of(guest)
        form = await read_form(request, FORM_BYTES_MAX)
        change = read_change(_wishes_of(form, contact, guest))
        if isinstance(change, Refusal) or check_change(change, contact, guest.shelf) is not None:
            return _wishes_page(guest, contact, status=422, wrong=guest.view.say("track.wishes_wrong"))
        await self.take_turn(guest)
        at, region = self.desk.now(), region_of(guest.shelf)
        people = self.desk.people_of(guest.page.order.tenant)
        words = guest.view.say("track.marketing_off") if change.says.marketing is False else ""
        await people.change(contact.id, lambda old: apply_change(old, change, at, region), at, _WISHES_SOURCE, words)
        count("tracking.wishes")
        return Redirect(f"{guest.path}/wishes?saved=1", status_code=303, headers=dict(HEADERS))

    async def journey(self, guest: Guest) -> Journey:
        """What the page says."""
        order, contact = guest.page.order, guest.page.contact
        steps = await self.desk.tracking.steps(order.tenant, order.no, contact.id if contact is not None else "")
        return journey_of(guest.page, steps, guest.playbook, guest.brand.name, guest.view)

    async def contact_of(self, guest: Guest) -> Contact:
        """The person whose wishes a page shows: its own, else the principal.

        Raises:
            NotHere: Nobody is named in the order.
        """
        if guest.page.contact is not None:
            return guest.page.contact
        order = guest.page.order
        name = next((party.contact for party in order.parties if party.role == guest.playbook.principal), "")
        found = await self.desk.people_of(order.tenant).find(name) if name else None
        if found is None:
            raise NotHere
        return found

    async def take_turn(self, guest: Guest) -> None:
        """Count a form that was sent.

        Raises:
            TooOften: More came from this page within the hour than anybody means.
        """
        wait_s = await self.desk.throttle.take("tracking", guest.token, FORMS_MAX, _HOUR)
        if wait_s:
            raise TooOften(timedelta(seconds=wait_s))

    async def submit(self, guest: Guest, kind: str, event_id: str, data: Mapping[str, object]) -> None:
        """Have an event decided; it counts when this returns."""
        order = guest.page.order
        wire = {"id": event_id, "source": PAGE_SOURCE, "type": kind, "subject": order.no, "data": data}
        event = parse_event(msgspec.json.encode(wire), order.tenant, self.desk.now())
        if not isinstance(event, Event):
            _refuse(event)
        (answer,) = await self.desk.submit([event])
        if answer.status not in _ANSWERED and answer.reason != "altered_duplicate":
            _refuse(answer)


def _asked(guest: Guest, fields: Mapping[str, Any]) -> tuple[Question | None, Option | None]:
    """The question that is open now and the option of it that was picked; None where that is not so any more."""
    question = question_of(guest.page, guest.playbook, guest.view)
    if question is None or question.ask != fields.get("ask", ""):
        return None, None
    days = fields.get("days", "") or "0"
    return question, question.find(fields.get("option", ""), int(days) if _is_count(days) else -1)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len("2147483647")


def _refuse(answer: Answer) -> NoReturn:
    extra = {"reason": answer.reason, "title": "Not taken"}
    raise HTTPException(detail=answer.detail, status_code=422, extra=extra)


def _mutable(guest: Guest) -> list[str]:
    """The categories that a person may turn off here; advertising is a matter of consent, and stands by itself."""
    marketing = {
        name for one in guest.shelf.playbooks.values() for name, spec in one.spec.categories.items() if spec.marketing
    }
    told = {rule.category for rule in guest.playbook.notices.values()}
    must = categories_of(guest.shelf)
    return [name for name in must if name in told and not must[name] and name not in marketing]


def _wishes_page(
    guest: Guest, contact: Contact, *, status: int = 200, saved: bool = False, wrong: str = ""
) -> Response[str]:
    view = guest.view
    quiet = [*QUIET, *({contact.quiet} - set(QUIET))]
    categories = [(name, view.find(f"track.category_{name}") or name) for name in _mutable(guest)]
    return guest.answer(
        "track_wishes.html", status=status, saved=saved, wrong=wrong, contact=contact, quiet=quiet,
        frequencies=FREQUENCIES, categories=categories,
    )  # fmt: skip


def _wishes_of(form: Form, contact: Contact, guest: Guest) -> dict[str, object]:
    """The change that a form asks for. Channels that were turned off one by one stay so."""
    offered = _mutable(guest)
    wanted = set(form.many("category"))
    kept = [word for word in contact.mute if word not in offered]
    change: dict[str, object] = {
        "frequency": form.raw("frequency") or contact.frequency,
        "mute": [*kept, *(name for name in offered if name not in wanted)],
        "quiet": form.raw("quiet"),
    }
    if form.raw("marketing") == "off":
        change["marketing"] = False
    return change
