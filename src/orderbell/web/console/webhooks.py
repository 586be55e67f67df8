"""Webhooks in the console: where changes are told, what came of it, and sending something once more."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from orderbell.store.changes import CHANGE_TYPES
from orderbell.store.hooks import HOOKS_MAX, OVERLAP, Delivery, Hook
from orderbell.web.access import say_no
from orderbell.web.account.door import go_to
from orderbell.web.forms import Form, read_form
from orderbell.web.hook_desk import HookDesk, HookRefused, HookUnknown, Wanted, Who
from orderbell.web.rendering import page, view_of
from orderbell.web.rights import Visitor

PAGE: Final = "/console/settings/webhooks"
SHOWN_MAX: Final = 50
LEAK_OVERLAP: Final = timedelta()
"""Where somebody else has read the secret, the old one must stop at once."""

_READ: Final = {"right": "hooks:read"}
_WRITE: Final = {"right": "hooks:write"}

Ask = Request[Any, Any, Any]
Me = NamedDependency[Visitor]


def webhook_pages(desk: HookDesk) -> Sequence[ControllerRouterHandler]:
    """Make the pages; they go under `signed_in`."""
    return [*_list_pages(desk), *_hook_pages(desk), *_doing(desk)]


def _list_pages(desk: HookDesk) -> Sequence[ControllerRouterHandler]:
    async def show(
        request: Ask, visitor: Visitor, status: int = 200, wrong: str = "", form: Form | None = None
    ) -> Response[str]:
        view = view_of(request, visitor)
        filled = form or Form({"type": CHANGE_TYPES})
        return page(
            "settings_webhooks.html", view, status=status, hooks=await desk.every(visitor.tenant), types=CHANGE_TYPES,
            most=HOOKS_MAX, wrong=wrong, url=filled.text("url"), label=filled.text("label"), chosen=filled.many("type"),
        )  # fmt: skip

    @get(PAGE, opt=_READ)
    async def show_webhooks(request: Ask, visitor: Me) -> Response[str]:
        return await show(request, visitor)

    @post(PAGE, opt=_WRITE, status_code=200)
    async def make_webhook(request: Ask, visitor: Me) -> Response[str]:
        form = await read_form(request)
        try:
            hook, secret = await desk.add(_who(visitor), _wanted(form))
        except HookRefused as refused:
            return await show(request, visitor, 422, _words(refused), form)
        return await _show_hook(desk, request, visitor, hook, secret=secret)

    return [show_webhooks, make_webhook]


def _hook_pages(desk: HookDesk) -> Sequence[ControllerRouterHandler]:
    @get(f"{PAGE}/{{hook:str}}", opt=_READ)
    async def show_webhook(request: Ask, visitor: Me, hook: FromPath[str]) -> Response[str]:
        return await _show_hook(desk, request, visitor, await _find(desk, visitor, hook))

    @post(f"{PAGE}/{{hook:str}}", opt=_WRITE, status_code=200)
    async def change_webhook(request: Ask, visitor: Me, hook: FromPath[str]) -> Response[Any]:
        found = await _find(desk, visitor, hook)
        try:
            await desk.change(_who(visitor), hook, _wanted(await read_form(request)))
        except HookUnknown:
            _nothing()
        except HookRefused as refused:
            return await _show_hook(desk, request, visitor, found, 422, wrong=_words(refused))
        return _back(hook)

    @post(f"{PAGE}/{{hook:str}}/rotate", opt=_WRITE, status_code=200)
    async def rotate_secret(request: Ask, visitor: Me, hook: FromPath[str]) -> Response[str]:
        leaked = (await read_form(request)).text("leaked") == "yes"
        try:
            found, secret = await desk.rotate(_who(visitor), hook, LEAK_OVERLAP if leaked else OVERLAP)
        except HookUnknown:
            _nothing()
        return await _show_hook(desk, request, visitor, found, secret=secret)

    return [show_webhook, change_webhook, rotate_secret]


def _doing(desk: HookDesk) -> Sequence[ControllerRouterHandler]:
    async def show_refusal(request: Ask, visitor: Visitor, hook: str, refused: HookRefused) -> Response[Any]:
        found = await _find(desk, visitor, hook)
        return await _show_hook(desk, request, visitor, found, 409, wrong=_words(refused))

    @post([f"{PAGE}/{{hook:str}}/on", f"{PAGE}/{{hook:str}}/off"], opt=_WRITE)
    async def turn(request: Ask, visitor: Me, hook: FromPath[str]) -> Response[Any]:
        try:
            await desk.change(_who(visitor), hook, Wanted(on=request.scope["path"].endswith("/on")))
        except HookUnknown:
            _nothing()
        return _back(hook)

    @post(f"{PAGE}/{{hook:str}}/remove", opt=_WRITE)
    async def remove_webhook(visitor: Me, hook: FromPath[str]) -> Response[Any]:
        try:
            await desk.remove(_who(visitor), hook)
        except HookUnknown:
            _nothing()
        return go_to(PAGE)

    @post(f"{PAGE}/{{hook:str}}/ping", opt=_WRITE)
    async def ping_webhook(request: Ask, visitor: Me, hook: FromPath[str]) -> Response[Any]:
        try:
            await desk.ping(_who(visitor), hook)
        except HookUnknown:
            _nothing()
        except HookRefused as refused:
            return await show_refusal(request, visitor, hook, refused)
        return _back(hook)

    @post(f"{PAGE}/{{hook:str}}/deliveries/{{delivery:str}}/retry", opt=_WRITE)
    async def retry_delivery(request: Ask, visitor: Me, hook: FromPath[str], delivery: FromPath[str]) -> Response[Any]:
        try:
            await desk.retry(_who(visitor), hook, delivery)
        except HookUnknown:
            _nothing()
        except HookRefused as refused:
            return await show_refusal(request, visitor, hook, refused)
        return _back(hook)

    return [turn, remove_webhook, ping_webhook, retry_delivery]


async def _show_hook(
    desk: HookDesk, request: Ask, visitor: Visitor, hook: Hook, status: int = 200, *, secret: str = "", wrong: str = ""
) -> Response[str]:
    found: list[Delivery] = await desk.deliveries(visitor.tenant, hook.id.hex(), SHOWN_MAX)
    view = view_of(request, visitor)
    return page(
        "settings_webhook.html", view, status=status, hook=hook, ref=hook.id.hex(), deliveries=found, secret=secret,
        types=CHANGE_TYPES, wrong=wrong, old_counts=hook.old_until is not None and hook.old_until > view.now,
    )  # fmt: skip


async def _find(desk: HookDesk, visitor: Visitor, name: str) -> Hook:
    try:
        return await desk.find(visitor.tenant, name)
    except HookUnknown:
        _nothing()


def _wanted(form: Form) -> Wanted:
    return Wanted(form.text("url"), list(form.many("type")), form.text("label"))


def _who(visitor: Visitor) -> Who:
    return Who(visitor.tenant, visitor.actor)


def _words(refused: HookRefused) -> str:
    """The key of the words for a refusal."""
    field = f"_{refused.field}" if refused.reason == "wrong_value" else ""
    return f"webhooks.{refused.reason}{field}"


def _back(hook: str) -> Response[Any]:
    return go_to(f"{PAGE}/{hook}")


def _nothing() -> NoReturn:
    say_no(404, "unknown_hook", "No such webhook", "there is no webhook or delivery of this id")
