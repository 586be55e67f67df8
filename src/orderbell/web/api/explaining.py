"""The API's answer to "why did I get this, or not?": an order, or one person over all their orders, as a story.

What is not there and what is another tenant's are the same 404. Words come in the language of `lang`, else of
`Accept-Language`: Chinese or English.
"""

from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, Protocol

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import FIELD_MAX
from orderbell.store.pages import LIMIT_MAX
from orderbell.web.access import say_no
from orderbell.web.api import examples

Person = Annotated[
    str, QueryParameter(description="A role, contact, phone or mail address: only their notices.", max_length=FIELD_MAX)
]
Topic = Annotated[str, QueryParameter(description="Notices of this topic only.", max_length=FIELD_MAX)]
Language = Annotated[
    str,
    QueryParameter(description="zh-CN or en; else what `Accept-Language` asks for.", max_length=FIELD_MAX),
]


class Explains(Protocol):
    """Who knows the stories; None where the tenant has no such order or contact."""

    async def order(self, tenant: str, order_no: str, language: str, person: str, topic: str) -> Struct | None:
        """Explain an order, or what one of its people was told of a topic."""
        ...

    async def contact(self, tenant: str, contact: str, language: str, topic: str, limit: int) -> Struct | None:
        """Explain the last notices of a person."""
        ...


def explain_routes(explains: Explains, story: type[Struct]) -> Sequence[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`). `story` is what `explains` gives, for the description."""
    responses = {200: ResponseSpec(story, generate_examples=False, description="What happened, with sentences")}

    @get(
        "/v1/orders/{order_no:str}/explain", summary="Who was told what about an order, who was not, and why",
        tags=["explain"], responses=responses,
        opt={"right": "orders:read", "example": examples.STORY},
    )  # fmt: skip
    async def show_order_story(
        tenant: NamedDependency[str],
        request: Request[Any, Any, Any],
        *,
        order_no: Annotated[str, PathParameter(description="The order number.", min_length=1)],
        person: Person = "",
        topic: Topic = "",
        lang: Language = "",
    ) -> Response[bytes]:
        """A story in sentences: every event, every anomaly, and every notice with what became of it and why."""
        found = await explains.order(tenant, order_no, lang or _language(request), person, topic)
        return _answer(found or _nothing("unknown_order", "No such order", "there is no order of this number"))

    @get(
        "/v1/contacts/{contact:str}/explain", summary="What a person was told of late, what not, and why",
        tags=["explain"], responses=responses,
        opt={"right": "people:read", "example": examples.STORY},
    )  # fmt: skip
    async def show_contact_story(
        tenant: NamedDependency[str],
        request: Request[Any, Any, Any],
        *,
        contact: Annotated[str, PathParameter(description="The id of the person.", min_length=1)],
        topic: Topic = "",
        lang: Language = "",
        limit: Annotated[int, QueryParameter(description="How many notices at most.", ge=1, le=LIMIT_MAX)] = 50,
    ) -> Response[bytes]:
        """What somebody was told of late over all their orders, what not, and why."""
        found = await explains.contact(tenant, contact, lang or _language(request), topic, limit)
        return _answer(found or _nothing("unknown_contact", "No such person", "there is nobody of this id"))

    return [show_order_story, show_contact_story]


def _language(request: Request[Any, Any, Any]) -> str:
    return request.headers.get("accept-language", "")


def _answer(found: Struct) -> Response[bytes]:
    return Response(msgspec.json.encode(found), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


def _nothing(reason: str, title: str, detail: str) -> NoReturn:
    say_no(404, reason, title, detail)
