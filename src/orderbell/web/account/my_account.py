"""One's own account: password, second step, language, and where one is signed in."""

from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from orderbell.store.accounts import LOCALES
from orderbell.store.sessions import hash_of
from orderbell.web.access import say_no
from orderbell.web.account.door import Door, go_to, session_cookie
from orderbell.web.account.two_step import matching_step, new_secret, qr_of, read_secret, spell_secret
from orderbell.web.forms import read_form
from orderbell.web.rendering import page, view_of
from orderbell.web.rights import Visitor
from orderbell.web.signed_in import COOKIE

HERE: Final = "/console/settings/account"
_OWN: Final = {"right": "account:write"}

Ask = Request[Any, Any, Any]
Me = NamedDependency[Visitor]


def my_account_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    """Make the routes; they go under `signed_in`."""
    return [*_page_routes(door), *_password_routes(door), *_two_step_routes(door)]


async def _show(door: Door, request: Ask, visitor: Visitor, status: int = 200, **values: Any) -> Response[Any]:  # noqa: ANN401 - values of a template
    """Show the page; with what went wrong as `wrong`, keys of words by field."""
    account = await door.accounts.get(visitor.account)
    sessions = await door.sessions.list(visitor.account)
    filled: dict[str, Any] = {"wrong": {}, "account": account, "sessions": sessions, "here": visitor.session}
    filled["done"] = request.query_params.get("done", "")
    return page("settings_account.html", view_of(request, visitor), status=status, **(filled | values))


def _page_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    @get("/console/settings", opt=_OWN)
    async def show_settings() -> Response[Any]:
        return go_to(HERE)

    @get(HERE, opt=_OWN)
    async def show_account(request: Ask, visitor: Me) -> Response[Any]:
        return await _show(door, request, visitor)

    @post(f"{HERE}/language", opt=_OWN)
    async def choose_language(request: Ask, visitor: Me) -> Response[Any]:
        locale = (await read_form(request)).text("locale")
        if locale not in LOCALES:
            say_no(422, "wrong_value", "The request is refused", "locale: write zh-CN, en or nothing", "locale")
        await door.accounts.set_locale(visitor.account, locale)
        return go_to(f"{HERE}?done=language")

    @post(f"{HERE}/sessions/{{session:str}}/end", opt=_OWN)
    async def end_session(visitor: Me, session: FromPath[str]) -> Response[Any]:
        async with door.trail.together():
            if not await door.sessions.end_named(visitor.account, session):
                say_no(404, "unknown_session", "No such session", "there is no session of this name")
            await door.trail.write(visitor.tenant, visitor.actor, "session.end", visitor.name, {"session": session})
        return go_to(f"{HERE}?done=ended")

    return [show_settings, show_account, choose_language, end_session]


def _password_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    @post(f"{HERE}/password", opt=_OWN)
    async def change_password(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        wrong = await _wrong_password(door, visitor, form.raw("current"), "current")
        new = form.raw("password")
        if not wrong and (found := await door.passwords.weakness(new, visitor.name)):
            wrong = {"password": f"signin.password_{found}"}
        if not wrong and new != form.raw("again"):
            wrong = {"again": "settings.not_the_same"}
        if wrong:
            return await _show(door, request, visitor, 422, wrong=wrong)
        hashed = await door.passwords.hash(new)
        async with door.trail.together():
            await door.accounts.set_password(visitor.account, hashed)
            await door.trail.write(visitor.tenant, visitor.actor, "account.password", visitor.name)
        return await _go_on(door, request, visitor, "password")

    return [change_password]


def _two_step_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    async def show(request: Ask, visitor: Visitor, secret: bytes, status: int, wrong: dict[str, str]) -> Response[Any]:
        account = await door.accounts.get(visitor.account)
        picture = qr_of(secret, visitor.name, view_of(request, visitor).say("settings.qr"))
        return page(
            "settings_two_step.html", view_of(request, visitor), status=status, secret=spell_secret(secret),
            qr=picture, wrong=wrong, account=account,
        )  # fmt: skip

    @get(f"{HERE}/two-step", opt=_OWN)
    async def show_two_step(request: Ask, visitor: Me) -> Response[Any]:
        return await show(request, visitor, new_secret(), 200, {})

    @post(f"{HERE}/two-step", opt=_OWN)
    async def turn_on(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        secret = read_secret(form.text("secret"))
        if secret is None:
            return go_to(f"{HERE}/two-step")
        step = matching_step(secret, form.text("code"), door.now())
        wrong = await _wrong_password(door, visitor, form.raw("current"), "current")
        if not wrong and step is None:
            wrong = {"code": "settings.wrong_code"}
        if wrong or step is None:
            return await show(request, visitor, secret, 422, wrong)
        async with door.trail.together():
            await door.accounts.set_two_step(visitor.account, secret, step)
            await door.trail.write(visitor.tenant, visitor.actor, "account.two_step_on", visitor.name)
        return await _go_on(door, request, visitor, "two_step_on")

    @post(f"{HERE}/two-step/off", opt=_OWN)
    async def turn_off(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        wrong = await _wrong_password(door, visitor, form.raw("current"), "off")
        if wrong:
            return await _show(door, request, visitor, 422, wrong=wrong)
        async with door.trail.together():
            await door.accounts.set_two_step(visitor.account, None, keep=hash_of(request.cookies.get(COOKIE, "")))
            await door.trail.write(visitor.tenant, visitor.actor, "account.two_step_off", visitor.name)
        return go_to(f"{HERE}?done=two_step_off")

    return [show_two_step, turn_on, turn_off]


async def _wrong_password(door: Door, visitor: Visitor, password: str, field: str) -> dict[str, str]:
    """What is wrong with the password that somebody names to change their account."""
    answer = await door.confirm(visitor.account, password)
    if answer.retry_after_s:
        return {field: "settings.too_often"}
    return {} if answer.account else {field: "settings.wrong_password"}


async def _go_on(door: Door, request: Ask, visitor: Visitor, done: str) -> Response[Any]:
    """Go on in a new session: those before the change are over."""
    token = await door.let_in(request, visitor.account, done, tenant=visitor.tenant)
    return go_to(f"{HERE}?done={done}", session_cookie(token or ""))
