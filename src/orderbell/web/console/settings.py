"""Settings of a shop: who works for it, which programs may come in, and how it presents itself.

Another tenant's people and keys are answered as those that do not exist.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from orderbell.errors import AccountRefused
from orderbell.store.accounts import ROLE_NAMES, Member, Role
from orderbell.store.brand import Brand, Brands, wrong_fields
from orderbell.store.keys import SCOPES, end_key, list_keys, make_key
from orderbell.store.postgres import Store
from orderbell.web.access import say_no
from orderbell.web.account.door import Door, go_to
from orderbell.web.forms import read_form
from orderbell.web.rendering import page, view_of
from orderbell.web.rights import Visitor

USERS: Final = "/console/settings/users"
KEYS: Final = "/console/settings/keys"
BRAND: Final = "/console/settings/brand"
LINK_LASTS: Final = timedelta(days=3)
LABEL_LENGTH_MAX: Final = 60
ACCOUNT_MAX: Final = 2**63 - 1
"""The greatest number that a table can hold."""

_USERS_WRITE: Final = {"right": "users:write"}
_KEYS_WRITE: Final = {"right": "keys:write"}
_SETTINGS_WRITE: Final = {"right": "settings:write"}

Ask = Request[Any, Any, Any]
Me = NamedDependency[Visitor]


def settings_routes(door: Door, brands: Brands, store: Store) -> Sequence[ControllerRouterHandler]:
    """Make the routes; they go under `signed_in`."""
    return [*_list_routes(door), *_member_routes(door), *_key_routes(door, store), *_brand_routes(door, brands)]


def _list_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    async def show(request: Ask, visitor: Visitor, status: int = 200, **values: Any) -> Response[Any]:  # noqa: ANN401 - values of a template
        filled = {"members": await door.accounts.members(visitor.tenant), "wrong": "", "who": "", "link": ""}
        filled["roles"] = ROLE_NAMES
        return page("settings_users.html", view_of(request, visitor), status=status, **(filled | values))

    @get(USERS, opt=_USERS_WRITE)
    async def show_users(request: Ask, visitor: Me) -> Response[Any]:
        return await show(request, visitor)

    @post(USERS, opt=_USERS_WRITE, status_code=200)
    async def invite(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        name, role = form.text("name"), _role(form.text("role"))
        try:
            async with door.trail.together():
                account = await door.accounts.add(visitor.tenant, name, role, door.now())
                await door.trail.write(visitor.tenant, visitor.actor, "user.invite", name, {"role": role})
        except AccountRefused as refused:
            return await show(request, visitor, 422, wrong=f"signin.{refused.reason}", who=name)
        return await show(request, visitor, link=await _link(door, request, account), who=name)

    return [show_users, invite]


def _member_routes(door: Door) -> Sequence[ControllerRouterHandler]:
    async def show(request: Ask, visitor: Visitor, member: Member, status: int = 200, **values: str) -> Response[Any]:
        sessions = await door.sessions.list(member.account, visitor.tenant)
        filled: dict[str, Any] = {"member": member, "sessions": sessions, "roles": ROLE_NAMES, "wrong": "", "link": ""}
        return page("settings_user.html", view_of(request, visitor), status=status, **(filled | values))

    async def member_of(visitor: Visitor, account: int) -> Member:
        found = await door.accounts.member(visitor.tenant, account) if account <= ACCOUNT_MAX else None
        return found or _nobody()

    @get(f"{USERS}/{{account:int}}", opt=_USERS_WRITE)
    async def show_user(request: Ask, visitor: Me, account: FromPath[int]) -> Response[Any]:
        return await show(request, visitor, await member_of(visitor, account))

    @post(f"{USERS}/{{account:int}}/role", opt=_USERS_WRITE)
    async def set_role(request: Ask, visitor: Me, account: FromPath[int]) -> Response[Any]:
        member = await member_of(visitor, account)
        role = _role((await read_form(request)).text("role"))
        try:
            async with door.trail.together():
                await door.accounts.set_role(visitor.tenant, account, role)
                detail = {"role": role, "before": member.role}
                await door.trail.write(visitor.tenant, visitor.actor, "user.role", member.name, detail)
        except AccountRefused as refused:
            return await show(request, visitor, member, 422, wrong=f"settings.{refused.reason}")
        return go_to(f"{USERS}/{account}")

    @post([f"{USERS}/{{account:int}}/disable", f"{USERS}/{{account:int}}/enable"], opt=_USERS_WRITE)
    async def set_disabled(request: Ask, visitor: Me, account: FromPath[int]) -> Response[Any]:
        member = await member_of(visitor, account)
        disable = request.scope["path"].endswith("/disable")
        try:
            async with door.trail.together():
                await door.accounts.set_member_disabled(visitor.tenant, account, door.now() if disable else None)
                action = "user.disable" if disable else "user.enable"
                await door.trail.write(visitor.tenant, visitor.actor, action, member.name)
        except AccountRefused as refused:
            return await show(request, visitor, member, 422, wrong=f"settings.{refused.reason}")
        return go_to(f"{USERS}/{account}")

    @post(f"{USERS}/{{account:int}}/link", opt=_USERS_WRITE, status_code=200)
    async def make_link(request: Ask, visitor: Me, account: FromPath[int]) -> Response[Any]:
        member = await member_of(visitor, account)
        if not member.only_here or member.disabled_at is not None:
            # whoever works for other shops as well would be let into those, too
            return await show(request, visitor, member, 422, wrong="settings.no_link")
        async with door.trail.together():
            await door.trail.write(visitor.tenant, visitor.actor, "user.link", member.name)
            link = await _link(door, request, account)
        return await show(request, visitor, member, link=link)

    @post(f"{USERS}/{{account:int}}/sessions/{{session:str}}/end", opt=_USERS_WRITE)
    async def end_session(visitor: Me, account: FromPath[int], session: FromPath[str]) -> Response[Any]:
        member = await member_of(visitor, account)
        async with door.trail.together():
            if not await door.sessions.end_named(account, session, visitor.tenant):
                say_no(404, "unknown_session", "No such session", "there is no session of this name")
            await door.trail.write(visitor.tenant, visitor.actor, "session.end", member.name, {"session": session})
        return go_to(f"{USERS}/{account}")

    return [show_user, set_role, set_disabled, make_link, end_session]


def _key_routes(door: Door, store: Store) -> Sequence[ControllerRouterHandler]:
    async def show(request: Ask, visitor: Visitor, status: int = 200, **values: str) -> Response[Any]:
        keys = await list_keys(store, visitor.tenant)
        filled: dict[str, Any] = {"keys": keys, "scopes": SCOPES, "key": "", "wrong": "", "label": ""}
        return page("settings_keys.html", view_of(request, visitor), status=status, **(filled | values))

    @get(KEYS, opt=_KEYS_WRITE)
    async def show_keys(request: Ask, visitor: Me) -> Response[Any]:
        return await show(request, visitor)

    @post(KEYS, opt=_KEYS_WRITE, status_code=200)
    async def add_key(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        label, scopes = form.text("label"), sorted(set(form.many("scope")))
        if not scopes or not set(scopes) <= set(SCOPES):
            return await show(request, visitor, 422, wrong="settings.no_scope", label=label)
        if len(label) > LABEL_LENGTH_MAX or not label.isprintable():
            return await show(request, visitor, 422, wrong="settings.bad_label")
        key = await make_key(store, door.trail, visitor.tenant, visitor.actor, label, scopes)
        return await show(request, visitor, key=key)

    @post(f"{KEYS}/{{fingerprint:str}}/revoke", opt=_KEYS_WRITE)
    async def revoke(visitor: Me, fingerprint: FromPath[str]) -> Response[Any]:
        is_name = fingerprint.isalnum()
        if not is_name or not await end_key(store, door.trail, visitor.tenant, visitor.actor, fingerprint):
            say_no(404, "unknown_key", "No such key", "there is no valid key of this fingerprint")
        return go_to(KEYS)

    return [show_keys, add_key, revoke]


def _brand_routes(door: Door, brands: Brands) -> Sequence[ControllerRouterHandler]:
    def show(request: Ask, visitor: Visitor, brand: Brand, wrong: dict[str, str], status: int = 200) -> Response[Any]:
        done = not wrong and request.query_params.get("done", "") == "saved"
        view = view_of(request, visitor)
        return page("settings_brand.html", view, status=status, brand=brand, wrong=wrong, done=done)

    @get(BRAND, opt=_SETTINGS_WRITE)
    async def show_brand(request: Ask, visitor: Me) -> Response[Any]:
        return show(request, visitor, await brands.brand_of(visitor.tenant), {})

    @post(BRAND, opt=_SETTINGS_WRITE)
    async def change_brand(request: Ask, visitor: Me) -> Response[Any]:
        form = await read_form(request)
        brand = Brand(form.text("name"), form.text("phone"), form.text("website"), form.text("color").lower())
        wrong = wrong_fields(brand)
        if wrong:
            return show(request, visitor, brand, wrong, 422)
        async with door.trail.together():
            await brands.set(visitor.tenant, brand, door.now())
            await door.trail.write(visitor.tenant, visitor.actor, "brand.change", brand.name, {"color": brand.color})
        return go_to(f"{BRAND}?done=saved")

    return [show_brand, change_brand]


def _role(text: str) -> Role:
    known = next((role for role in ROLE_NAMES if role == text), None)
    return known or say_no(
        422, "wrong_value", "The request is refused", f"role: write one of {', '.join(ROLE_NAMES)}", "role"
    )


async def _link(door: Door, request: Ask, account: int) -> str:
    """A link that signs somebody in once, for somebody to hand on."""
    base = door.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
    return f"{base}/enter/{await door.sessions.make_ticket(account, LINK_LASTS)}"


def _nobody() -> NoReturn:
    say_no(404, "unknown_user", "No such person", "nobody of this number works here")
