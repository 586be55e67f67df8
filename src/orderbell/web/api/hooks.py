"""`/v1/hooks`: where OrderBell tells of changes, by webhooks after Standard Webhooks (see docs/webhooks.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, Meta, Struct, UnsetType

from orderbell.store.changes import ChangeType
from orderbell.store.hooks import OVERLAP, Delivery, Hook, HookState
from orderbell.store.keys import ApiCaller
from orderbell.web.access import say_no
from orderbell.web.hook_desk import (
    DELIVERIES_MAX,
    LABEL_LENGTH_MAX,
    OVERLAP_MAX,
    URL_LENGTH_MAX,
    HookDesk,
    HookRefused,
    HookUnknown,
    Wanted,
    Who,
)

HookId = Annotated[str, PathParameter(description="The id of a webhook, 32 hexadecimal digits.", max_length=64)]
DeliveryId = Annotated[str, PathParameter(description="The id of a delivery, 32 hexadecimal digits.", max_length=64)]
Url = Annotated[str, Meta(max_length=URL_LENGTH_MAX, examples=["https://shop.example/orderbell"])]
Label = Annotated[str, Meta(max_length=LABEL_LENGTH_MAX)]

_STATUS: Final = {"too_many": 409, "hook_off": 409}
_NO_STORE: Final = {"Cache-Control": "no-store"}
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "0198f1c2a3b4c5d6e7f8091a2b3c4d5e", "url": "https://shop.example/orderbell", "label": "ERP",
    "types": ["order.changed", "case.opened"], "state": "on", "reason": "", "waiting": 0, "old_secret_until": None,
    "failing_since": None, "created_at": "2026-03-02T12:00:00Z", "updated_at": "2026-03-02T12:00:00Z",
}  # fmt: skip
_SECRET_EXAMPLE: Final = {"hook": _EXAMPLE, "secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
_DELIVERY_EXAMPLE: Final[dict[str, Any]] = {
    "id": "5f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5", "type": "order.changed", "subject": "A1001",
    "data": {"order_no": "A1001", "version": 7, "stage": "shipped"}, "at": "2026-03-02T12:00:00Z", "state": "waiting",
    "tries": 1, "tried_at": "2026-03-02T12:00:01Z", "due_at": "2026-03-02T12:00:06Z", "status": 500,
    "detail": "HTTP 500",
}  # fmt: skip


class NewHook(Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook to make; without `types` it hears of everything."""

    url: Url
    types: list[ChangeType] = []
    label: Label = ""


class HookChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a webhook; what is not named stays. `on` turns it on or off."""

    url: Url | UnsetType = UNSET
    types: Annotated[list[ChangeType], Meta(min_length=1)] | UnsetType = UNSET
    label: Label | UnsetType = UNSET
    on: bool | UnsetType = UNSET


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old secret signs beside the new one, in seconds."""

    overlap_s: Annotated[int, Meta(ge=0, le=int(OVERLAP_MAX.total_seconds()))] = int(OVERLAP.total_seconds())


class HookView(Struct, frozen=True):
    """A webhook.

    `state` is `gone` where the receiver answered 410; `reason` says why it is off where nobody turned it off: `gone`,
    `failing` or `backlog`. `waiting` counts what is yet to be told, up to 1,000.
    """

    id: str
    url: str
    label: str
    types: list[str]
    state: HookState
    reason: str
    waiting: int
    old_secret_until: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class HookList(Struct, frozen=True):
    """The webhooks of a tenant, the oldest first."""

    hooks: list[HookView]


class HookSecret(Struct, frozen=True):
    """A webhook and its secret, which is never shown again."""

    hook: HookView
    secret: str


class DeliveryView(Struct, frozen=True):
    """Something that a webhook heard or is to hear; `webhook-id` is `msg_` and the id.

    `due_at` is when it is tried next, null where it is over; `status` the last HTTP status, 0 where there was none.
    """

    id: str
    type: str
    subject: str
    data: dict[str, Any]
    at: datetime
    state: Literal["waiting", "delivered", "failed"]
    tries: int
    tried_at: datetime | None
    due_at: datetime | None
    status: int
    detail: str


class DeliveryList(Struct, frozen=True):
    """Deliveries of a webhook, the newest first."""

    deliveries: list[DeliveryView]


class Sent(Struct, frozen=True):
    """What is sent as soon as a worker takes it: the id of the delivery."""

    delivery: str


def hook_routes(desk: HookDesk) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""
    return [*_reading(desk), *_changing(desk), *_sending(desk)]


def _reading(desk: HookDesk) -> list[ControllerRouterHandler]:
    @get("/v1/hooks", summary="List webhooks", tags=["hooks"], opt=_opt("hooks:read", {"hooks": [_EXAMPLE]}))
    async def list_hooks(tenant: NamedDependency[str]) -> HookList:
        """All webhooks, the oldest first, without their secrets."""
        return HookList([_view(one) for one in await desk.every(tenant)])

    @get("/v1/hooks/{hook:str}", summary="Show a webhook", tags=["hooks"], opt=_opt("hooks:read", _EXAMPLE))
    async def show_hook(tenant: NamedDependency[str], hook: HookId) -> HookView:
        """A webhook as it stands."""
        with _refusing():
            return _view(await desk.find(tenant, hook))

    @get(
        "/v1/hooks/{hook:str}/deliveries", summary="List what a webhook heard", tags=["hooks"],
        opt=_opt("hooks:read", {"deliveries": [_DELIVERY_EXAMPLE]}),
    )  # fmt: skip
    async def list_deliveries(
        tenant: NamedDependency[str],
        hook: HookId,
        limit: Annotated[int, QueryParameter(description="How many at most.", ge=1, le=DELIVERIES_MAX)] = 50,
    ) -> DeliveryList:
        """What a webhook heard lately or is to hear, the newest first; kept for 7 days."""
        with _refusing():
            return DeliveryList([_delivery_view(one) for one in await desk.deliveries(tenant, hook, limit)])

    return [list_hooks, show_hook, list_deliveries]


def _changing(desk: HookDesk) -> list[ControllerRouterHandler]:
    @post(
        "/v1/hooks", summary="Make a webhook", tags=["hooks"],
        opt=_opt("hooks:write", _SECRET_EXAMPLE, {"url": "https://shop.example/orderbell", "types": ["order.changed"]}),
    )  # fmt: skip
    async def make_hook(caller: NamedDependency[ApiCaller], data: JSONBody[NewHook]) -> Response[HookSecret]:
        """Make a webhook. Its secret is in this answer and nowhere else; changes are told from 2 seconds later on."""
        with _refusing():
            hook, secret = await desk.add(_who(caller), Wanted(data.url, data.types, data.label))
        return Response(HookSecret(_view(hook), secret), status_code=201, headers=_NO_STORE)

    @patch(
        "/v1/hooks/{hook:str}", summary="Change a webhook", tags=["hooks"],
        opt=_opt("hooks:write", _EXAMPLE, {"types": ["case.opened", "case.closed"], "on": True}),
    )  # fmt: skip
    async def change_hook(caller: NamedDependency[ApiCaller], hook: HookId, data: JSONBody[HookChange]) -> HookView:
        """Change what is named. Turned on again it sends what still waits."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(data).items()
            if not isinstance(value, UnsetType)
        }  # fmt: skip
        with _refusing():
            return _view(await desk.change(_who(caller), hook, Wanted(**given)))

    @post(
        "/v1/hooks/{hook:str}/rotate", summary="Give a webhook a new secret", tags=["hooks"], status_code=200,
        opt=_opt("hooks:write", _SECRET_EXAMPLE, {"overlap_s": 86400}),
    )  # fmt: skip
    async def rotate_secret(
        caller: NamedDependency[ApiCaller], hook: HookId, data: JSONBody[Rotation]
    ) -> Response[HookSecret]:
        """Make a new secret. Until the overlap is over everything is signed with both."""
        with _refusing():
            found, secret = await desk.rotate(_who(caller), hook, timedelta(seconds=data.overlap_s))
        return Response(HookSecret(_view(found), secret), headers=_NO_STORE)

    @delete("/v1/hooks/{hook:str}", summary="Remove a webhook", tags=["hooks"], opt=_opt("hooks:write"))
    async def remove_hook(caller: NamedDependency[ApiCaller], hook: HookId) -> None:
        """Remove a webhook with all that waits for it."""
        with _refusing():
            await desk.remove(_who(caller), hook)

    return [make_hook, change_hook, rotate_secret, remove_hook]


def _sending(desk: HookDesk) -> list[ControllerRouterHandler]:
    example = {"delivery": _DELIVERY_EXAMPLE["id"]}

    @post(
        "/v1/hooks/{hook:str}/ping", summary="Try a webhook out", tags=["hooks"], status_code=202,
        opt=_opt("hooks:write", example),
    )  # fmt: skip
    async def ping_hook(caller: NamedDependency[ApiCaller], hook: HookId) -> Sent:
        """Send a webhook of type `ping`; the list of deliveries tells what came of it."""
        with _refusing():
            return Sent((await desk.ping(_who(caller), hook)).hex())

    @post(
        "/v1/hooks/{hook:str}/deliveries/{delivery:str}/retry", summary="Send a delivery once more", tags=["hooks"],
        status_code=202, opt=_opt("hooks:write", example),
    )  # fmt: skip
    async def retry_delivery(caller: NamedDependency[ApiCaller], hook: HookId, delivery: DeliveryId) -> Sent:
        """Send it now with the same id, and by a new schedule where it fails again."""
        with _refusing():
            await desk.retry(_who(caller), hook, delivery)
        return Sent(delivery.lower())

    return [ping_hook, retry_delivery]


def _opt(right: str, example: object = None, asks: object = None) -> dict[str, object]:
    given = {"right": right, "example": example, "asks": asks}
    return {name: value for name, value in given.items() if value is not None}


def _who(caller: ApiCaller) -> Who:
    return Who(caller.tenant, caller.actor)


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell what the desk refuses by problem documents."""
    try:
        yield
    except HookUnknown:
        say_no(404, "unknown_hook", "No such webhook", "there is no webhook or delivery of this id")
    except HookRefused as refused:
        say_no(_STATUS.get(refused.reason, 422), refused.reason, "The request is refused", str(refused), refused.field)


def _view(hook: Hook) -> HookView:
    return HookView(
        hook.id.hex(), hook.url, hook.label, list(hook.types), hook.state, hook.reason, hook.waiting, hook.old_until,
        hook.failing_since, hook.created_at, hook.updated_at,
    )  # fmt: skip


def _delivery_view(one: Delivery) -> DeliveryView:
    due_at = one.due_at if one.state == "waiting" else None
    return DeliveryView(
        one.id.hex(), one.type, one.subject, msgspec.json.decode(one.data), one.at, one.state, one.tries, one.tried_at,
        due_at, one.status, one.detail,
    )  # fmt: skip
