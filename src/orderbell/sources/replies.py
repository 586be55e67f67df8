"""The way in for answers by SMS: `POST /v1/replies` takes what a person wrote back, or a list of up to 200.

A reply becomes the event `reply.received` of the order that it names, or else of the one that the person was last told
about, and goes the way of all events: decided when it is answered, once per id. Words that end or allow advertising
hold for everybody with that phone, and with no order at all (S0-30).

Answers are those of `POST /v1/events`, item for item. No phone stands in an answer or in the log. A text of more than
4,000 characters is refused, not cut: no SMS is that long, and the provider still has it.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Reference, RequestBody, Schema
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.asks import chosen
from orderbell.core.events import DETAIL_MAX, Answer, Event, Status, parse_event
from orderbell.core.events import Reply as ReplyData
from orderbell.core.model import Contact, Order
from orderbell.core.phones import read_phone
from orderbell.core.replies import Reply as Reading
from orderbell.core.replies import read_reply
from orderbell.core.turn import Shelf
from orderbell.core.wishes import region_of
from orderbell.errors import OrderBellError
from orderbell.observe import count
from orderbell.sources.events import AWAY_RETRY_AFTER_S, BUSY_RETRY_AFTER_S, Now, Submit, counted, turned_away
from orderbell.store.people import People

log = structlog.get_logger()

SOURCE: Final = "sms-replies"
"""The source of the events that replies become."""

BATCH_MAX: Final = 200
TEXT_MAX: Final = 4000
BODY_BYTES_MAX: Final = 1024 * 1024
BODY_WITHIN_S: Final = 30

_FIELD_OF: Final = {"data.text": "text", "subject": "order", "data": "", "data.from": ""}
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_STATUS_OF: Final = {"altered_duplicate": 409, "not_json": 400}


class Reply(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person wrote back: `phone` as the provider spells it, or our id of the `contact`."""

    id: str
    text: str
    phone: str = ""
    contact: str = ""
    order: str = ""
    time: datetime | None = None


@dataclass
class _Operation(Operation):
    """What the OpenAPI document says of the body and the answers."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody({"application/json": OpenAPIMediaType(Schema())}, required=True)
        self.responses = {
            "202": OpenAPIResponse("The reply is accepted.", content=_json(_ANSWER)),
            "200": OpenAPIResponse("The reply is a duplicate; or the answers to a list.", content=_json(_ANY_ANSWER)),
            "409": OpenAPIResponse("A reply of this id came before, with another text."),
            "422": OpenAPIResponse("The reply is refused; `field` names what is wrong."),
        }


def _json(schema: Schema | Reference) -> dict[str, OpenAPIMediaType]:
    return {"application/json": OpenAPIMediaType(schema)}


# the components that the description of `POST /v1/events` brings
_ANSWER: Final = Reference("#/components/schemas/Answer")
_ANY_ANSWER: Final = Schema(any_of=[_ANSWER, Reference("#/components/schemas/Answers")])


def _body_schema() -> dict[str, object]:
    """One reply, or a list."""
    reply = msgspec.json.schema(Reply)["$defs"]["Reply"]
    return {"anyOf": [reply, {"type": "array", "items": reply, "maxItems": BATCH_MAX}]}


_EXAMPLE: Final = {"id": "mo-1", "phone": "+8613800138000", "text": "TD", "time": "2026-03-02T10:00:00+08:00"}
_ANSWERED: Final = {"id": "mo-1", "status": "accepted"}


class _Refused(Exception):
    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.field, self.detail = reason, field, detail

    def answer(self, name: str) -> Answer:
        return Answer(name, Status.REFUSED, self.reason, self.field, self.detail)


def replies_route(
    people_of: Callable[[str], People],
    shelf_of: Callable[[str], Awaitable[Shelf]],
    submit: Submit,
    now: Now,
    *,
    busy: type[Exception],
) -> ControllerRouterHandler:
    """Make the route; it needs a key (`web.access.keyed`), and takes `submit` and `busy` as `events_route` does."""

    @post(
        "/v1/replies", summary="Tell what people answered by SMS", tags=["people"], operation_class=_Operation,
        opt={"right": "events:write", "body": _body_schema(), "asks": _EXAMPLE, "example": _ANSWERED},
    )  # fmt: skip
    async def take_replies(tenant: NamedDependency[str], request: Request[Any, Any, Any]) -> Response[Any]:
        """One reply or a list of up to 200; who wrote is said by `phone` or by `contact`, one of them."""
        body = await _read_body(request)
        items = _split(body)
        door = _Door(people_of(tenant), await shelf_of(tenant), tenant, now())
        try:
            answers = await door.take(items, submit)
        except busy as problem:
            detail = "more events wait than can be taken soon; send the same again later"
            raise turned_away(
                429, "busy", "Too many events", detail, {"Retry-After": str(BUSY_RETRY_AFTER_S)}
            ) from problem
        except OrderBellError as problem:
            log.warning("replies turned away", problem=str(problem), kind=type(problem).__name__)
            detail = "nothing can be confirmed at the moment; send the same with the same ids again later"
            headers = {"Retry-After": str(AWAY_RETRY_AFTER_S)}
            raise turned_away(503, "unavailable", "Unavailable", detail, headers) from problem
        return _answer_list(answers) if body.lstrip()[:1] == b"[" else _answer_one(answers[0])

    return take_replies


async def take_replies_of(
    people: People, shelf: Shelf, tenant: str, received_at: datetime, replies: Sequence[Reply], submit: Submit
) -> list[Answer]:
    """Take replies that did not come as a request of the shop: each is answered in its place.

    Raises:
        OrderBellError: They cannot be kept now.
    """
    door = _Door(people, shelf, tenant, received_at)
    return await door.take([msgspec.Raw(msgspec.json.encode(reply)) for reply in replies], submit)


class _Door:
    """Takes the replies of one request."""

    def __init__(self, people: People, shelf: Shelf, tenant: str, received_at: datetime) -> None:
        self.people, self.tenant, self.received_at = people, tenant, received_at
        self.shelf, self.region = shelf, region_of(shelf)

    async def take(self, items: list[msgspec.Raw], submit: Submit) -> list[Answer]:
        """Answer every item in its place."""
        taken: list[Event | Answer] = []
        for item in items:
            try:
                taken.append(await self.take_one(item))
            except _Refused as refused:
                count("replies.refused")
                taken.append(refused.answer(_id_of(item)))
        events = [one for one in taken if isinstance(one, Event)]
        answers = iter(await submit(events) if events else ())
        return [_renamed(next(answers)) if isinstance(one, Event) else one for one in taken]

    def takes(self, order: Order, said: Reading) -> bool:
        """Whether an order waits for such an answer."""
        playbook = self.shelf.find(order.playbook)
        return playbook is not None and chosen(playbook, order, said) is not None

    async def take_one(self, item: msgspec.Raw) -> Event | Answer:
        """Make an event of a reply; an opt-out is kept here wherever no event will."""
        reply = _read(item)
        event = self.event_of(reply)
        senders = await self.senders_of(reply)
        names = [contact.id for contact in senders]
        said = read_reply(reply.text)
        part = None
        if reply.order:
            part = await self.people.part_in(reply.order, names)
        elif names:
            part = await self.people.last_told(names, lambda order: self.takes(order, said))
        if said.kind in ("opt_out", "opt_in") and names:
            spared = part.contact if part is not None else ""
            given, source = said.kind == "opt_in", f"reply {reply.id}"
            heard = [
                await self.people.hear(name, given, self.received_at, source, said.text)
                for name in names
                if name != spared
            ]
            if part is None:
                return Answer(reply.id, Status.ACCEPTED if any(heard) else Status.DUPLICATE)
        if part is None:
            if reply.order and names:
                raise _Refused("unknown_order", "order", "order: this person has no part in such an order")
            field = "phone" if reply.phone else "contact"
            raise _Refused("unknown_person", field, f"{field}: nobody with this {field} has been told anything")
        data = msgspec.structs.replace(cast("ReplyData", event.data), sender=part.role)
        return msgspec.structs.replace(event, order_no=part.order_no, data=data, body_hash=self.fingerprint(reply))

    def event_of(self, reply: Reply) -> Event:
        """The event, with the order and the role still to be found; checks what all events are checked for."""
        wire: dict[str, object] = {
            "id": reply.id, "source": SOURCE, "type": "reply.received", "subject": reply.order or "?",
            "data": {"text": reply.text.replace("\0", "")},  # what some gateways make of an @
        }  # fmt: skip
        if reply.time is not None:
            wire["time"] = reply.time
        parsed = parse_event(msgspec.json.encode(wire), self.tenant, self.received_at)
        if isinstance(parsed, Answer):
            renamed = _renamed(parsed)
            raise _Refused(renamed.reason, renamed.field, renamed.detail)
        return parsed

    async def senders_of(self, reply: Reply) -> list[Contact]:
        """Everybody who may have written it, the named one first: the shop may know one phone by several ids."""
        number = read_phone(reply.phone, self.region).number if reply.phone else ""
        found: list[Contact] = []
        if reply.contact:
            named = await self.people.find(reply.contact)
            found = [named] if named is not None else []
            number = named.phone if named is not None else ""
        if number:
            found += [one for one in await self.people.find_by_phone(number) if one not in found]
        return found

    def fingerprint(self, reply: Reply) -> bytes:
        """What tells a reply from another one of the same id; the phone goes in as its blind index."""
        phone = self.people.phone_key(read_phone(reply.phone, self.region).number) if reply.phone else b""
        at = reply.time and reply.time.astimezone(UTC)
        body = msgspec.json.encode([reply.text, reply.contact, reply.order, at, phone])
        return hashlib.blake2b(body, digest_size=16).digest()


def _read(item: msgspec.Raw) -> Reply:
    try:
        reply = msgspec.json.decode(item, type=Reply)
    except _NOT_JSON as problem:
        text, found, where = str(problem).rpartition(" - at `$.")
        field = where.rstrip("`") if found else ""
        detail = f"{field}: {text}" if found else f"reply: {where[:DETAIL_MAX]}"
        raise _Refused("wrong_value", field, detail) from None
    if bool(reply.phone) == bool(reply.contact):
        raise _Refused("missing_field", "phone", "phone: say who wrote, by phone or by contact, not both")
    if len(reply.text) > TEXT_MAX:
        detail = f"text: {len(reply.text):,} characters; at most {TEXT_MAX:,} are taken, and no SMS is that long"
        raise _Refused("too_large", "text", detail)
    return reply


def _id_of(item: msgspec.Raw) -> str:
    try:
        tree = msgspec.json.decode(item)
    except _NOT_JSON:
        return ""
    name = tree.get("id") if isinstance(tree, dict) else None
    return name[:200] if isinstance(name, str) else ""


def _renamed(answer: Answer) -> Answer:
    """The answer with the names that a reply has for the fields of an event."""
    field = _FIELD_OF.get(answer.field, answer.field)
    detail = answer.detail
    if detail.startswith(answer.field + ":"):
        detail = f"{field or 'reply'}{detail.removeprefix(answer.field)}"
    return msgspec.structs.replace(answer, field=field, detail=detail)


async def _read_body(request: Request[Any, Any, Any]) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise turned_away(415, "wrong_media_type", "Unsupported media type", "Content-Type: send application/json")
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.body()
    except TimeoutError:
        raise turned_away(
            408, "too_slow", "Request timeout", f"the body did not arrive within {BODY_WITHIN_S} s"
        ) from None
    if len(body) > BODY_BYTES_MAX:
        raise turned_away(413, "too_large", "Too large", f"a request body has at most {BODY_BYTES_MAX:,} bytes")
    return body


def _split(body: bytes) -> list[msgspec.Raw]:
    try:
        whole = msgspec.json.decode(body, type=msgspec.Raw)
    except _NOT_JSON:
        whole = _mended(body)
    items = msgspec.json.decode(whole, type=list[msgspec.Raw]) if bytes(whole).lstrip()[:1] == b"[" else [whole]
    if len(items) > BATCH_MAX:
        detail = f"{len(items):,} replies in one request; send at most {BATCH_MAX:,}"
        raise turned_away(422, "batch_too_long", "Too many replies in one request", detail)
    return items


def _mended(body: bytes) -> msgspec.Raw:
    # Gateways cut texts in the middle of an emoji; half of one is no JSON, but the rest of the text is worth having.
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False, allow_nan=False)
        return msgspec.Raw(text.encode(errors="replace"))
    except (ValueError, RecursionError):
        raise turned_away(400, "not_json", "Not JSON", "the request body is not JSON") from None


def _answer_one(answer: Answer) -> Response[Any]:
    if answer.status is Status.REFUSED:
        extra = {
            "reason": answer.reason, "title": "The reply is refused", "field": answer.field, "id": answer.id,
        }  # fmt: skip
        raise HTTPException(detail=answer.detail, status_code=_STATUS_OF.get(answer.reason, 422), extra=extra)
    return Response(answer, status_code=202 if answer.status is Status.ACCEPTED else 200)


def _answer_list(answers: list[Answer]) -> Response[Any]:
    return Response(counted(answers), status_code=200)
