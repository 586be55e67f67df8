"""`/v1/notices` and `/v1/messages`: what people were to be told, and what went out to them on which way.

A notice is what one person should know; a message carries one or several notices on a channel. Addresses are masked;
texts are as the person saw them.
"""

from typing import Annotated, Literal, get_args

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import ChannelName
from orderbell.store.lines import (
    AttemptLine,
    MessageFilter,
    MessageLine,
    MessageState,
    NoticeFilter,
    NoticeLine,
)  # fmt: skip
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.orders import LookingOf
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

AnyChannel = Literal["", "sms", "email", "push", "wechat", "inbox"]
assert set(get_args(AnyChannel)) == {"", *get_args(ChannelName)}  # noqa: S101 - a parameter needs the plain list

Order = Annotated[str, text_parameter("The order that they are about.")]
Person = Annotated[str, text_parameter("The id of the contact that they are for.")]
Topic = Annotated[str, text_parameter("What they are about, such as `shipped`.")]


class NoticePage(ListPage, frozen=True):
    """Notices; `next` is empty on the last page. `looked_back_to` is as in a page of orders."""

    items: list[NoticeLine]


class MessagePage(ListPage, frozen=True):
    """Messages; `next` is empty on the last page. `looked_back_to` is as in a page of orders."""

    items: list[MessageLine]


class MessageView(Struct, frozen=True):
    """A message, the tries that ended without acceptance, the ids of its notices, and the provider's name for it."""

    message: MessageLine
    attempts: list[AttemptLine]
    notices: list[str]
    provider_ref: str
    marketing: bool


def message_routes(looking_of: LookingOf) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""

    @get(
        "/v1/notices", summary="List notices", tags=["messages"],
        opt={"right": "messages:read", "example": examples.NOTICES},
    )  # fmt: skip
    async def list_notices(
        tenant: NamedDependency[str],
        order_no: Order = "",
        contact: Person = "",
        topic: Topic = "",
        fate: FromQuery[Literal["", "waiting", "sent", "merged", "dropped", "done"]] = "",
        after: After = "",
        limit: Limit = LIMIT_USUAL,
    ) -> NoticePage:
        """What people were to be told, and what became of it, the newest first; those that wait, soonest due first."""
        with read_cursor():
            page = await looking_of(tenant).notices(NoticeFilter(order_no, contact, topic, fate), after, limit)
        return NoticePage.of(page)

    @get(
        "/v1/messages", summary="List messages", tags=["messages"],
        opt={"right": "messages:read", "example": examples.MESSAGES},
    )  # fmt: skip
    async def list_messages(
        tenant: NamedDependency[str],
        *,
        at_state: Annotated[MessageState, QueryParameter(name="state", description="What came of them.")] = "",
        channel: FromQuery[AnyChannel] = "",
        topic: Topic = "",
        provider: Annotated[str, text_parameter("The provider that carried them last.")] = "",
        order_no: Order = "",
        contact: Person = "",
        created_from: Annotated[str | None, moment_parameter("created_from", "The news arose then or later.")] = None,
        created_until: Annotated[str | None, moment_parameter("created_until", "The news arose before.")] = None,
        after: After = "",
        limit: Limit = LIMIT_USUAL,
    ) -> MessagePage:
        """Messages as the person saw them, by the news that they tell: what arose last comes first."""
        find = MessageFilter(
            at_state, channel, topic, provider, order_no, contact, read_moment(created_from, "created_from"),
            read_moment(created_until, "created_until"),
        )  # fmt: skip
        with read_cursor():
            page = await looking_of(tenant).messages(find, after, limit)
        return MessagePage.of(page)

    @get(
        "/v1/messages/{message:str}", summary="Show a message", tags=["messages"],
        opt={"right": "messages:read", "example": examples.MESSAGE},
    )  # fmt: skip
    async def show_message(
        tenant: NamedDependency[str],
        message: Annotated[str, PathParameter(description="Its id, 32 hexadecimal digits.", max_length=64)],
    ) -> MessageView:
        """A message with every try to send it."""
        found = await looking_of(tenant).message(message)
        if found is None:
            say_no(404, "unknown_message", "No such message", "there is no message of this id")
        return MessageView(found.line, found.attempts, found.notices, found.provider_ref, found.marketing)

    return [list_notices, list_messages, show_message]
