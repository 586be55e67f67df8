"""Signing in and out, the first run, one-time links, and the change to another shop.

No GET changes anything: a one-time link shows a button first, because mail programs and messengers open links by
themselves. What changes something is refused unless a page of this site sent it.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler

from orderbell.errors import AccountRefused
from orderbell.store.accounts import clean_name
from orderbell.store.brand import NAME_LENGTH_MAX, Brand, Brands
from orderbell.web.account.door import DEVICE_COOKIE, Door, device_cookie, go_to, keeps_secrets, session_cookie
from orderbell.web.forms import BODY_BYTES_MAX, Form, read_form
from orderbell.web.rendering import page, view_of
from orderbell.web.rights import Visitor
from orderbell.web.same_origin import refuse_foreign
from orderbell.web.signed_in import COOKIE, own_path

HOME: Final = "/console"
MY_ACCOUNT: Final = "/console/settings/account"
_DEFAULT_TENANT: Final = "shop"
_TENANT_LENGTH_MAX: Final = 40

Ask = Request[Any, Any, Any]


def signing_in_routes(door: Door, brands: Brands) -> list[ControllerRouterHandler]:
    """Make the routes that need no session: sign-in, sign-out, first run, one-time links."""

    async def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        refuse_foreign(connection, door.public_url)

    handlers = [*_sign_in_routes(door), *_setup_routes(door, brands), *_ticket_routes(door)]
    return [
        Router(
            "/", route_handlers=handlers, guards=[check], include_in_schema=False, request_max_body_size=BODY_BYTES_MAX
        )
    ]


def switching_routes(door: Door) -> list[ControllerRouterHandler]:
    """Make the route by which somebody who is signed in turns to another shop; it goes under `signed_in`."""

    @post("/console/tenant", opt={"right": "account:write"})
    async def switch_tenant(request: Ask, visitor: NamedDependency[Visitor]) -> Response[Any]:
        wanted = (await read_form(request)).text("tenant")
        if wanted not in visitor.tenants or not await door.sessions.switch(request.cookies.get(COOKIE, ""), wanted):
            return _said(request, "signin.no_such_shop", 404, visitor)
        return go_to(HOME)

    return [switch_tenant]


def _sign_in_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    def form(request: Ask, status: int = 200, **values: Any) -> Response[Any]:  # noqa: ANN401 - values of a template
        insecure = not keeps_secrets(request, door.public_url)
        filled = {"who": "", "wrong": "", "next": own_path(request.query_params.get("next", "")), "insecure": insecure}
        headers = {"Retry-After": str(values["retry_after_s"])} if "retry_after_s" in values else {}
        return page("signin.html", view_of(request), status=status, headers=headers, **(filled | values))

    @get("/sign-in", opt={"public": "nobody is signed in before"})
    async def show_sign_in(request: Ask) -> Response[Any]:
        return form(request)

    @post("/sign-in", opt={"public": "nobody is signed in before"})
    async def sign_in(request: Ask) -> Response[Any]:
        given = await read_form(request)
        name, onwards = given.text("name"), own_path(given.text("next"))
        if not keeps_secrets(request, door.public_url):
            return form(request, 400, who=name, next=onwards)
        device = request.cookies.get(DEVICE_COOKIE, "")
        answer = await door.check(
            name, given.raw("password"), given.text("code"), device=device, address=door.address_of(request)
        )
        if answer.retry_after_s:
            seconds = answer.retry_after_s
            return form(request, 429, who=name, next=onwards, wrong="signin.too_often", retry_after_s=seconds)
        token = await door.let_in(request, answer.account, "password") if answer.account else None
        if token is None:
            return form(request, 401, who=name, next=onwards, wrong="signin.refused")
        cookies = [session_cookie(token)]
        if not answer.known_device:
            cookies.append(device_cookie(await door.sessions.remember_device(answer.account)))
        return go_to(onwards, *cookies)

    @post("/sign-out", opt={"public": "whoever is signed out already is signed out"})
    async def sign_out(request: Ask) -> Response[Any]:
        token = request.cookies.get(COOKIE, "")
        visitor = await door.visitor_of(token) if token else None
        async with door.trail.together():
            if visitor is not None:
                await door.trail.write(visitor.tenant, visitor.actor, "session.end", visitor.name)
            if token:
                await door.sessions.end(token)
        return go_to("/sign-in", session_cookie(""))

    return [show_sign_in, sign_in, sign_out]


def _setup_routes(door: Door, brands: Brands) -> Sequence[ControllerRouterHandler]:
    @get("/setup", opt={"public": "the token of the first run is the secret"})
    async def show_setup(request: Ask, token: FromQuery[str] = "") -> Response[Any]:
        if not await door.sessions.look_at_setup_token(token):
            return _said(request, "signin.setup_over", 404)
        insecure = not keeps_secrets(request, door.public_url)
        return page("setup.html", view_of(request), token=token, who="", shop="", wrong={}, insecure=insecure)

    @post("/setup", opt={"public": "the token of the first run is the secret"})
    async def set_up(request: Ask) -> Response[Any]:
        given = await read_form(request)
        token, shop = given.text("token"), given.text("shop")
        if not await door.sessions.look_at_setup_token(token):
            return _said(request, "signin.setup_over", 404)
        insecure = not keeps_secrets(request, door.public_url)
        wrong = await _wrong_with(door, given)
        if wrong or insecure:
            return page(
                "setup.html", view_of(request), status=422, token=token, who=given.text("name"), shop=shop, wrong=wrong,
                insecure=insecure,
            )  # fmt: skip
        hashed = await door.passwords.hash(given.raw("password"))
        if not await door.sessions.take_setup_token(token):
            return _said(request, "signin.setup_over", 404)
        account = await _make_owner(door, given.text("name"), hashed, shop)
        tenant = (await door.accounts.tenants_of(account))[0]
        await brands.set(tenant, Brand(name=shop), door.now())
        opened = await door.let_in(request, account, "setup", tenant=tenant)
        device = await door.sessions.remember_device(account)
        return go_to(MY_ACCOUNT, session_cookie(opened or ""), device_cookie(device))

    return [show_setup, set_up]


def _ticket_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    @get("/enter/{ticket:str}", opt={"public": "the ticket itself is the secret"})
    async def show_ticket(request: Ask, ticket: FromPath[str]) -> Response[Any]:
        name = await door.sessions.look_at_ticket(ticket)
        if name is None:
            return _said(request, "signin.ticket_over", 404)
        insecure = not keeps_secrets(request, door.public_url)
        return page("enter.html", view_of(request), who=name, insecure=insecure)

    @post("/enter/{ticket:str}", opt={"public": "the ticket itself is the secret"})
    async def use_ticket(request: Ask, ticket: FromPath[str]) -> Response[Any]:
        if not keeps_secrets(request, door.public_url):
            return _said(request, "signin.insecure", 400)
        account = await door.sessions.take_ticket(ticket)
        token = await door.let_in(request, account, "ticket") if account is not None else None
        if account is None or token is None:
            return _said(request, "signin.ticket_over", 404)
        found = await door.accounts.get(account)
        onwards = HOME if found is not None and found.has_password else MY_ACCOUNT
        return go_to(onwards, session_cookie(token), device_cookie(await door.sessions.remember_device(account)))

    return [show_ticket, use_ticket]


def _said(request: Ask, key: str, status: int, visitor: Visitor | None = None) -> Response[Any]:
    view = view_of(request, visitor)
    return page("enter_over.html", view, status=status, words=view.say(key))


async def _wrong_with(door: Door, given: Form) -> dict[str, str]:
    """The keys of the words for what is wrong with the form of the first run, by field."""
    wrong = {}
    try:
        clean_name(given.text("name"))
    except AccountRefused as refused:
        wrong["name"] = f"signin.{refused.reason}"
    if found := await door.passwords.weakness(given.raw("password"), given.text("name"), given.text("shop")):
        wrong["password"] = f"signin.password_{found}"
    shop = given.text("shop")
    if not shop or len(shop) > NAME_LENGTH_MAX or not shop.isprintable():
        wrong["shop"] = "signin.bad_shop"
    return wrong


async def _make_owner(door: Door, name: str, hashed: str, shop: str) -> int:
    """Make the first account, the owner of every tenant that is there, else of one that is named after the shop."""
    tenants = await door.tenants()
    if not tenants:
        tenants = [_tenant_name(shop)]
        await door.open_shop(tenants[0])
    async with door.trail.together():
        account = await door.accounts.add(tenants[0], name, "owner", door.now(), password=hashed)
        for tenant in tenants[1:]:
            await door.accounts.join(tenant, account, "owner", door.now())
        for tenant in tenants:
            await door.trail.write(tenant, f"user:{name}", "account.setup", name, {"role": "owner"})
    return account


def _tenant_name(shop: str) -> str:
    return re.sub("[^a-z0-9]+", "-", shop.lower()).strip("-")[:_TENANT_LENGTH_MAX] or _DEFAULT_TENANT
