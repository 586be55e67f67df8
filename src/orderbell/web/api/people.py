"""People over HTTP: what is known of a contact, what they wish, what they agreed to, and what they were promised.

Everything is of the key's tenant: a contact of somebody else is answered as one that does not exist. Addresses leave
masked, always. Times are UTC, amounts are in 1/100 yuan.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NoReturn

import msgspec
from litestar import Request, get, patch
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import FIELD_MAX, Person
from orderbell.core.model import Amends, Consent, Contact
from orderbell.core.phones import mask_email, mask_phone, read_phone
from orderbell.core.turn import Shelf
from orderbell.core.wishes import (
    ENDPOINTS,
    FIELDS,
    Change,
    Refusal,
    check_change,
    is_stale,
    read_change,
    region_of,
)
from orderbell.store.keys import ApiCaller
from orderbell.store.people import People
from orderbell.store.trail import Trail
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.paging import After
from orderbell.web.person_desk import change_person

BODY_BYTES_MAX: Final = 64 * 1024
BODY_WITHIN_S: Final = 30
CONSENTS_SHOWN: Final = 20
CONSENTS_MAX: Final = 1000
AMENDS_MAX: Final = 1000
MEDIA_TYPES: Final = frozenset({"application/json", "application/merge-patch+json"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN_SHOWN, _TOKEN_MIN = 4, 12

ContactId = Annotated[
    str, PathParameter(description="The id of the person: the shop's own, or ours where it gave none.", min_length=1)
]
Phone = Annotated[
    str, QueryParameter(description="A phone as people write it, such as +8613800138000.", max_length=FIELD_MAX)
]

PeopleOf = Callable[[str], People]
"""The contacts of a tenant."""

ShelfOf = Callable[[str], Awaitable[Shelf]]
"""The playbooks of a tenant."""

Now = Callable[[], datetime]
"""The wall clock as aware UTC."""


class EndpointView(Struct, frozen=True):
    """An address, masked; the state is `unverified` until a reply or a provider's word says more.

    `stale`: it has not been looked over for as long as the playbook's `review` says.
    """

    address: str
    state: str


class ConsentView(Struct, frozen=True):
    """What was agreed to, or opted out of, when, by which way, and in which words."""

    scope: str
    given: bool
    at: datetime
    source: str
    words: str


class ContactView(Struct, frozen=True):
    """A contact as the shop may see it.

    `tier_from` is `shop` where an event or this API set it, else `rules`. `marketing` is empty where the person never
    said a word, which means no. `warnings` holds channels whose address can take no message.
    """

    id: str
    endpoints: dict[str, EndpointView]
    tier: str
    tier_from: Literal["shop", "rules"]
    locale: str
    timezone: str
    quiet: str
    mute: tuple[str, ...]
    frequency: str
    marketing: Literal["", "yes", "no"]
    order_count: int
    spent_fen: int
    checked_at: datetime | None
    warnings: dict[str, str]
    consents: list[ConsentView]


class ContactList(Struct, frozen=True):
    """The contacts with one phone, who was heard of last first."""

    contacts: list[ContactView]


class ConsentList(Struct, frozen=True):
    """The records of a contact, the newest first."""

    consents: list[ConsentView]


class AmendsView(Struct, frozen=True):
    """Something a message promised; `value_fen` 0 where the playbook names no value."""

    id: str
    order_no: str
    contact: str
    kind: str
    value_fen: int
    topic: str
    promised_at: datetime
    valid_until: datetime


class AmendsPage(Struct, frozen=True):
    """What was promised, the oldest first; `next` is what to send as `after`, also when nothing is new."""

    amends: list[AmendsView]
    next: str


@dataclass
class _ChangeOperation(Operation):
    """What the OpenAPI document says of the body that the handler reads by itself."""

    def __post_init__(self) -> None:
        content = {media_type: OpenAPIMediaType(Schema()) for media_type in sorted(MEDIA_TYPES)}
        self.request_body = RequestBody(content, required=True)


def _change_schema() -> dict[str, object]:
    """A JSON merge patch of what an event may say of a person: every field may be taken back but the consent."""
    known = msgspec.json.schema(Person)["$defs"]["Person"]["properties"]
    fields = {name: {key: value for key, value in known[name].items() if key != "default"} for name in FIELDS}
    return {
        "type": "object",
        "title": "ContactChange",
        "description": "A JSON merge patch (RFC 7396): what is not named stays, null takes back.",
        "additionalProperties": False,
        "properties": {
            name: schema if name == "marketing" else {"anyOf": [schema, {"type": "null"}]}
            for name, schema in fields.items()
        },
    }


def people_routes(people_of: PeopleOf, shelf_of: ShelfOf, trail: Trail, now: Now) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""

    async def view(people: People, contact: Contact) -> ContactView:
        stale = is_stale(contact, await shelf_of(contact.tenant), now())
        return contact_view(
            contact, await people.consents(contact.id, CONSENTS_SHOWN), "stale" if stale else "unverified"
        )

    @get(
        "/v1/contacts", summary="Find people by phone", tags=["people"],
        opt={"right": "people:read", "example": examples.CONTACTS},
    )  # fmt: skip
    async def find_contacts(tenant: NamedDependency[str], phone: Phone = "") -> ContactList:
        """Everybody with this phone, who was heard of last first."""
        if not phone:
            _refuse("missing_field", "phone", "phone: say whom to look for, such as ?phone=%2B8613800138000")
        people = people_of(tenant)
        number = read_phone(phone, region_of(await shelf_of(tenant))).number
        return ContactList([await view(people, contact) for contact in await people.find_by_phone(number)])

    @get(
        "/v1/contacts/{contact:str}", summary="Show a person", tags=["people"],
        opt={"right": "people:read", "example": examples.CONTACT},
    )  # fmt: skip
    async def show_contact(tenant: NamedDependency[str], contact: ContactId) -> ContactView:
        """A person's addresses (masked), wishes and last consents."""
        people = people_of(tenant)
        return await view(people, await people.find(contact) or _no_contact())

    @patch(
        "/v1/contacts/{contact:str}", summary="Change a person's wishes and addresses", tags=["people"],
        operation_class=_ChangeOperation,
        opt={
            "right": "people:write", "body": _change_schema(), "asks": examples.CHANGE, "example": examples.CONTACT,
        },
    )  # fmt: skip
    async def change_contact(
        tenant: NamedDependency[str],
        caller: NamedDependency[ApiCaller],
        contact: ContactId,
        request: Request[Any, Any, Any],
    ) -> ContactView:
        """A merge patch (RFC 7396): what is not named stays, null takes back."""
        people, shelf = people_of(tenant), await shelf_of(tenant)
        found = await people.find(contact) or _no_contact()
        change = await _read_change(request)
        refusal = check_change(change, found, shelf, people.index_key)
        if refusal is not None:
            _refuse("wrong_value", refusal.field, refusal.detail)
        changed = await change_person(
            people, trail, found, change, actor=caller.actor, at=now(), region=region_of(shelf), source="api"
        )
        return await view(people, changed or _no_contact())

    return [find_contacts, show_contact, change_contact, *_records(people_of)]


def _records(people_of: PeopleOf) -> list[ControllerRouterHandler]:
    @get(
        "/v1/contacts/{contact:str}/consents", summary="List what a person agreed to", tags=["people"],
        opt={"right": "people:read", "example": examples.CONSENTS},
    )  # fmt: skip
    async def list_consents(tenant: NamedDependency[str], contact: ContactId) -> ConsentList:
        """When somebody agreed to advertising or opted out, by which way, in which words; the newest first."""
        people = people_of(tenant)
        found = await people.find(contact) or _no_contact()
        return ConsentList([_consent_view(record) for record in await people.consents(found.id, CONSENTS_MAX)])

    @get(
        "/v1/amends", summary="List what messages promised", tags=["people"],
        opt={"right": "people:read", "example": examples.AMENDS},
    )  # fmt: skip
    async def list_amends(
        tenant: NamedDependency[str],
        after: After = "",
        limit: Annotated[int, QueryParameter(description="How many at most.", ge=1, le=AMENDS_MAX)] = 100,
    ) -> AmendsPage:
        """What the shop has to hand out, the oldest first; ask again with `next` to hear of new ones."""
        found, place = await people_of(tenant).amends(_read_cursor(after), limit)
        return AmendsPage([_amends_view(one) for one in found], "{}-{}".format(*place))

    return [list_consents, list_amends]


def contact_view(contact: Contact, consents: list[Consent], otherwise: str) -> ContactView:
    """A contact with its addresses masked; `otherwise` is the state of one of which nothing is known."""
    endpoints: dict[str, EndpointView] = {}
    for field, channel in ENDPOINTS.items():
        address = getattr(contact, field)
        if address:
            endpoints[channel] = EndpointView(masked(field, address), contact.states.get(channel, otherwise))
    warnings = {channel: one.state for channel, one in endpoints.items() if one.state not in _QUIET}
    return ContactView(
        contact.id, endpoints, contact.tier, "shop" if contact.tier_set else "rules", contact.locale, contact.timezone,
        contact.quiet, contact.mute, contact.frequency, contact.marketing, contact.order_count, contact.spent_fen,
        contact.checked_at, warnings, [_consent_view(record) for record in consents],
    )  # fmt: skip


_QUIET = frozenset({"unverified", "verified"})


def masked(field: str, address: str) -> str:
    """An address as it may be shown; `field` is that of the contact: phone, email, app or wechat."""
    if field == "phone":
        return mask_phone(address)
    if field == "email":
        return mask_email(address)
    return "***" + (address[-_TOKEN_SHOWN:] if len(address) >= _TOKEN_MIN else "")


def _consent_view(record: Consent) -> ConsentView:
    return ConsentView(record.scope, record.given, record.at, record.source, record.words)


def _amends_view(one: Amends) -> AmendsView:
    return AmendsView(
        one.id.hex(), one.order_no, one.contact, one.kind, one.value_fen, one.topic, one.promised_at, one.valid_until
    )


async def _read_change(request: Request[Any, Any, Any]) -> Change:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        detail = f"Content-Type: send one of {', '.join(sorted(MEDIA_TYPES))}"
        say_no(415, "wrong_media_type", "Unsupported media type", detail)
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.body()
    except TimeoutError:
        say_no(408, "too_slow", "Request timeout", f"the body did not arrive within {BODY_WITHIN_S} s")
    if len(body) > BODY_BYTES_MAX:
        say_no(413, "too_large", "Too large", f"a change has at most {BODY_BYTES_MAX:,} bytes")
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        say_no(400, "not_json", "Not JSON", "the request body is not JSON")
    if not isinstance(tree, dict):
        _refuse("wrong_value", "", "a change is a JSON object of the fields that are to change")
    change = read_change(tree)
    if isinstance(change, Refusal):
        _refuse("wrong_value", change.field, change.detail)
    return change


def _read_cursor(after: str) -> tuple[int, int]:
    """Read where a page ended; nothing is the beginning."""
    if not after:
        return 0, 0
    found = _CURSOR.fullmatch(after)
    if found is None:
        _refuse("wrong_value", "after", "after: send the `next` of an earlier answer, or nothing")
    return int(found[1]), int(found[2])


_CURSOR = re.compile("([0-9]{1,18})-([0-9]{1,18})")


def _refuse(reason: str, field: str, detail: str) -> NoReturn:
    say_no(422, reason, "The request is refused", detail, field)


def _no_contact() -> NoReturn:
    say_no(404, "unknown_contact", "No such person", "there is nobody of this id")
