"""Rights: the whole site is walked, every route for every role, with another tenant's ids: nothing may leak or change.

Nothing here lists routes. A route names what it needs in its `opt`, and its parameters are filled in by their names
from `_ids_of`; a new name there must be given a value of another tenant, or be said to name nobody's secret.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpx
import msgspec
from litestar import Litestar
from litestar.routes import ASGIRoute, HTTPRoute

from orderbell.core.events import Event, Status, parse_event
from orderbell.dispatch import Dispatcher
from orderbell.playbooks import load_shelf
from orderbell.store.accounts import ROLE_NAMES, Role
from orderbell.store.activation import Activations, Draft
from orderbell.store.brand import Brand, Brands
from orderbell.store.hooks import Hooks
from orderbell.store.keys import SCOPES, KeyRing, create_key, fingerprint_of
from orderbell.store.ledger import Ledger
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.tracking import Tracking
from orderbell.web.rights import RIGHTS, ROLES, Visitor
from tests.dispatch.rig import Scripted
from tests.web.front_site import PASSWORD, Browser, RunningFront, running_front

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CANARY: Final = "Canary"
"""Stands in everything that the other tenant wrote."""

NEW_PASSWORD: Final = "a staple of another kind"

PHONE: Final = "+8613877775252"
TELLTALES: Final = (CANARY, "138****5252")  # the phone itself is sent as a parameter, and shown again

NOBODYS: Final = {
    "name": "retail",  # every tenant has a playbook of this name
    "version": "0" * 12,
    "file_path": "console.css",
    "path": "nothing",
    "ticket": "x" * 43,
    "provider": "nobody",
    "kind": "receipt",
}
"""Parameters whose values belong to no tenant: what they lead to must still be one's own."""

OWNED: Final = frozenset({"order_no", "contact", "account", "hook", "message", "message_id", "case"})
"""Parameters whose values lead their owner to something."""


@dataclass(frozen=True)
class Door:
    """One method of one route, and what it says that it needs."""

    path: str
    method: str
    right: str
    public: str
    parameters: tuple[str, ...]
    asked: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def keyed(self) -> bool:
        """Whether it is for programs."""
        return self.path.startswith("/v1/")

    @property
    def names_something(self) -> bool:
        """Whether the path names something of one tenant."""
        return any(name not in NOBODYS for name in self.parameters)

    def url(self, ids: Mapping[str, str]) -> str:
        """The address with these ids filled in, in the path and, where a parameter has such a name, in the query."""
        unknown = [name for name in self.parameters if name not in ids]
        assert not unknown, f"{self}: test_rights.py has no id of another tenant for {unknown}; add one to _ids_of"
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: ids[found[1]], self.path)
        query = {name: ids[name] for name in self.asked if name in ids and name not in NOBODYS}
        return str(httpx.URL(path, params=query)) if query else path


def _doors(app: Litestar) -> list[Door]:
    """Every method of every route, but those that Litestar adds to tell which methods there are."""
    doors = []
    for route in app.routes:
        handlers = [route.route_handler] if isinstance(route, ASGIRoute) else getattr(route, "route_handlers", [])
        for handler in handlers:
            methods = {"POST"} if isinstance(route, ASGIRoute) else set(getattr(handler, "http_methods", {"GET"}))
            opt, names = handler.opt, tuple(route.path_parameters)
            asked = tuple(handler.parsed_fn_signature.parameters) if isinstance(route, HTTPRoute) else ()
            doors += [
                Door(route.path, str(getattr(method, "value", method)), opt.get("right", ""), opt.get("public", ""),
                     names, tuple(name for name in asked if name not in names))
                for method in sorted(methods - {"OPTIONS"})
            ]  # fmt: skip
    return doors


@dataclass
class Rig:
    """The site with two tenants, of whom one has written down a lot."""

    front: RunningFront
    ids: dict[str, str]
    doors: list[Door]

    async def ask(self, door: Door, browser: Browser, key: str = "") -> tuple[int, str, str]:
        """Go through a door: status, text and where it leads on. A stream is looked at until it waits."""
        headers = dict(browser.headers)
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        headers["accept"] = "application/json" if door.keyed else "text/html"
        if key:
            headers["authorization"] = f"Bearer {key}"
        content = None
        if door.method not in SAFE:
            media_type = "application/json" if door.keyed else "application/x-www-form-urlencoded"
            headers["content-type"] = "application/merge-patch+json" if door.method == "PATCH" else media_type
            content = msgspec.json.encode(self.ids) if door.keyed else urlencode(self.ids).encode()
        url = door.url(self.ids)
        async with self.front.http.stream(door.method, url, headers=headers, content=content) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return answer.status_code, "", ""
            text = (await answer.aread()).decode("utf-8", "replace")
        return answer.status_code, text, answer.headers.get("location", "")

    async def snapshot(self, tenant: str) -> dict[str, str]:
        """A digest of each table's rows of a tenant."""
        tables = await self.front.store.pool.fetch(
            "SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_name)"
            " WHERE c.column_name = 'tenant' AND c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        )
        digests = {}
        for (table,) in tables:
            digests[table] = await self.front.store.pool.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t WHERE tenant = $1",
                tenant,
            )
        return digests


@asynccontextmanager
async def running_rig(store: Store) -> AsyncIterator[Rig]:
    """Run the whole site with an order, people, messages and more of the tenant `other`."""
    async with running_front(store) as front:
        ids = await _ids_of(front)
        yield Rig(front, ids, _doors(front.app))


async def _ids_of(front: RunningFront) -> dict[str, str]:
    """Values of the tenant `other` for every parameter by its name."""
    store, now, tenant = front.store, front.clock(), "other"
    shelf = load_shelf("")
    shelves = {tenant: shelf}
    people = {"buyer": {"id": "their-person", "phone": PHONE}}
    for number, (kind, data) in enumerate(
        [("order.placed", {"people": people, "items": [{"name": CANARY, "count": 1}]}), ("payment.failed", {})]
    ):
        wire = {"id": f"e{number}", "source": CANARY, "type": kind, "subject": "THEIRS-1", "data": data}
        event = parse_event(msgspec.json.encode(wire), tenant, now)
        assert isinstance(event, Event), event
        (answer,) = await store.turn(shelves, [event])
        assert answer.status is Status.ACCEPTED, answer
    dispatcher = Dispatcher(Ledger(store), shelves, [Scripted()], now=front.clock)
    for _ in range(4):
        front.clock.turn(60)
        await dispatcher.step()
    account = await front.person(f"{CANARY}-owner", "owner", tenant)
    token = await front.sessions.open(account, label=CANARY)
    assert token is not None
    signed = await front.sessions.find(token)
    assert signed is not None
    hook = await Hooks(store, tenant).add("https://hooks.example/their", ["order.changed"], CANARY, now)
    assert hook is not None
    key = await create_key(store, tenant, CANARY)
    await Brands(store).set(tenant, Brand(CANARY), now)
    await front.trail.write(tenant, f"user:{CANARY}", "thing.change", CANARY)
    await Activations(store, tenant).put_draft(Draft("retail", f"# {CANARY}\n", "", now, f"user:{CANARY}"), None)
    page = await Tracking(store).token_for(tenant, "THEIRS-1", now)
    message = await store.pool.fetchval("SELECT message_id FROM message WHERE tenant = $1", tenant)
    case = await store.pool.fetchval("SELECT case_id FROM cases WHERE tenant = $1", tenant)
    (contact,) = await People(store, tenant).find_by_phone(PHONE)
    return {
        **NOBODYS,
        "order_no": "THEIRS-1",
        "contact": contact.id,
        "message": message.hex(),
        "message_id": message.hex(),
        "case": (case or bytes(16)).hex(),
        "account": str(account),
        "session": signed.session,
        "fingerprint": fingerprint_of(key),
        "hook": hook[0].id.hex(),
        "delivery": bytes(16).hex(),
        "person": contact.id,
        "phone": PHONE,
        "token": page[::-1],
        "code": "nothing",
    }


def _leaks(text: str) -> list[str]:
    return [telltale for telltale in TELLTALES if telltale in text]


async def test_every_route_says_what_it_needs(store: Store) -> None:
    """Every route must name a right that exists, or why it needs none; never both; and `/v1` routes a key's scope."""
    async with running_front(store) as front:
        doors = _doors(front.app)
    silent = [str(door) for door in doors if bool(door.right) == bool(door.public)]
    assert silent == []
    assert {door.right for door in doors if door.right} <= set(RIGHTS)
    beyond_keys = [str(door) for door in doors if door.keyed and door.right and door.right not in SCOPES]
    assert beyond_keys == []
    inside = [str(door) for door in doors if door.path.startswith("/console") and door.public]
    assert inside == []
    assert len(doors) > 40


async def test_nobody_gets_in_without_signing_in(store: Store) -> None:
    """Without a session, or a key, every route that needs a right must send away, and read nothing of the request."""
    async with running_rig(store) as rig:
        wrong = []
        for door in rig.doors:
            status, text, location = await rig.ask(door, rig.front.browser())
            if door.right and not door.keyed and (status, location.partition("?")[0]) != (303, "/sign-in"):
                wrong.append((str(door), status, location))
            if door.right and door.keyed and status != 401:
                wrong.append((str(door), status, text))
            if _leaks(text):
                wrong.append((str(door), status, text))
        assert wrong == []


async def test_no_role_reaches_another_tenant(store: Store) -> None:
    """No role may learn or change anything of another tenant, whatever ids it names; and without the right gets 403."""
    async with running_rig(store) as rig:
        before, wrong = await rig.snapshot("other"), []
        for role in ROLE_NAMES:
            for door in rig.doors:
                browser = await _fresh(rig, role)
                status, text, _ = await rig.ask(door, browser)
                allowed = door.public or door.right in ROLES[role]
                if not door.keyed and not allowed and status != 403:
                    wrong.append((role, str(door), status, "has no right"))
                if not door.keyed and allowed and door.names_something and door.right and status not in {403, 404}:
                    wrong.append((role, str(door), status, "another tenant's id"))
                if status >= 500 or _leaks(text):
                    wrong.append((role, str(door), status, text[:2000]))
        assert wrong == []
        assert await rig.snapshot("other") == before


async def _fresh(rig: Rig, role: Role) -> Browser:
    """A browser of somebody of a role; the same person until something ended the session."""
    browsers: dict[str, Browser] = rig.__dict__.setdefault("browsers", {})
    kept = browsers.get(role)
    if kept is None or await rig.front.sessions.find(kept.token) is None:
        kept = browsers[role] = await rig.front.signed_in(role)
    return kept


async def test_no_key_reaches_another_tenant(store: Store) -> None:
    """A key must reach nothing of another tenant, and without the scope of a route get 403 `missing_scope`."""
    async with running_rig(store) as rig:
        before, wrong = await rig.snapshot("other"), []
        whole = await create_key(store, "acme")
        for door in (door for door in rig.doors if door.keyed):
            status, text, _ = await rig.ask(door, Browser(rig.front.http, headers={}), whole)
            if status >= 500 or _leaks(text):
                wrong.append((str(door), status, text[:2000]))
            if door.right and door.names_something and not 400 <= status < 500:
                wrong.append((str(door), status, "another tenant's id"))
            if door.right:
                other = await create_key(store, "acme", "", set(SCOPES) - {door.right})
                status, text, _ = await rig.ask(door, Browser(rig.front.http, headers={}), other)
                if status != 403 or "missing_scope" not in text:
                    wrong.append((str(door), status, "has no scope"))
        assert wrong == []
        assert await rig.snapshot("other") == before


async def test_ids_lead_to_their_own_tenant(store: Store) -> None:
    """The other tenant itself must get its own things under these ids: the walk above must not look in vain."""
    async with running_rig(store) as rig:
        browser = rig.front.browser()
        account = await rig.front.person("their-own", "owner", "other")
        browser.cookies["__Host-orderbell"] = await rig.front.sessions.open(account) or ""
        key = await create_key(store, "other")
        lost = []
        for door in rig.doors:
            if (
                door.method == "GET"
                and door.right
                and set(door.parameters) & {"order_no", "contact", "account", "hook"}
            ):
                status, _, _ = await rig.ask(door, browser, key)
                if status != 200:
                    lost.append((str(door), status))
        assert lost == []


async def test_other_sites_change_nothing(store: Store) -> None:
    """Whatever another site makes a browser send, with the owner's cookies, must be refused and change nothing."""
    async with running_rig(store) as rig:
        owner = await rig.front.signed_in("owner")
        before, wrong = [await rig.snapshot(tenant) for tenant in ("acme", "other")], []
        for door in rig.doors:
            if door.method in SAFE:
                continue
            for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {}):
                browser = Browser(rig.front.http, dict(owner.cookies), dict(headers))
                status, text, _ = await rig.ask(door, browser)
                if not 400 <= status < 500:
                    wrong.append((str(door), headers, status, text[:200]))
                if not door.keyed and door.right and status != 403:
                    wrong.append((str(door), headers, status, "not for being foreign"))
        assert wrong == []
        assert [await rig.snapshot(tenant) for tenant in ("acme", "other")] == before


async def test_looking_changes_nothing(store: Store) -> None:
    """No GET and no HEAD may change anything of the tenant for whom it is made (sessions apart)."""
    async with running_rig(store) as rig:
        account = await rig.front.person("their-own", "owner", "other")
        browser = rig.front.browser()
        browser.cookies["__Host-orderbell"] = await rig.front.sessions.open(account) or ""
        key, before = await create_key(store, "other"), await rig.snapshot("other")
        for door in rig.doors:
            if door.method in SAFE:
                await rig.ask(door, browser, key)
                assert await rig.snapshot("other") == before, str(door)


async def test_nothing_changes_without_its_line_in_the_trail(store: Store) -> None:
    """Whatever cannot be written into the trail must not be done either."""
    async with running_rig(store) as rig:
        account = await rig.front.person("their-own", "owner", "other")
        browser = rig.front.browser()
        browser.cookies["__Host-orderbell"] = await rig.front.sessions.open(account) or ""
        key = await create_key(store, "other")
        rig.ids |= {
            "no": "THEIRS-1", "id": rig.ids["contact"], "role": "agent", "label": "till", "scope": "orders:read",
            "url": "https://hooks.example/new", "current": PASSWORD, "password": NEW_PASSWORD, "again": NEW_PASSWORD,
            "language": "en", "body": "extends: retail\n", "color": "#123456",
        }  # fmt: skip
        await store.pool.execute("ALTER TABLE trail ADD CONSTRAINT full_up CHECK (false) NOT VALID")
        before, refused = await rig.snapshot("other"), []
        for door in (door for door in rig.doors if door.method not in SAFE):
            status, _, _ = await rig.ask(door, browser, key)
            if status >= 500:
                refused.append(str(door))
                assert await rig.snapshot("other") == before, str(door)
            before = await rig.snapshot("other")
        assert len(refused) >= 20, refused


def test_roles_grow() -> None:
    """Each role must have all that the one below has, the owner everything, and a viewer nothing of people."""
    owner, operator, agent, viewer = (ROLES[role] for role in ROLE_NAMES)
    assert set(owner) == set(RIGHTS)
    assert viewer < agent < operator < owner
    assert not any(right.startswith(("people:", "trail:", "users:", "keys:")) for right in viewer)
    assert not any(right.startswith(("trail:", "users:", "keys:")) for right in operator)
    assert {right for right in viewer if right.endswith(":write")} == {"account:write"}
    assert set(SCOPES) == set(RIGHTS) - {"users:write", "keys:write", "trail:read", "account:write"}
    someone = Visitor(account=1, name="ann", tenant="acme", role="viewer", tenants=("acme",), locale="")
    assert (someone.may("orders:read"), someone.may("people:read"), someone.actor) == (True, False, "user:ann")


async def test_keys_of_before_keep_what_they_could(store: Store) -> None:
    """A key that was made before there were scopes must have all of them."""
    key = await create_key(store, "acme")
    await store.pool.execute("UPDATE api_key SET scopes = DEFAULT")
    caller = await KeyRing(store.pool).caller_of(key)
    assert caller is not None
    assert caller.scopes == set(SCOPES)
    assert caller.actor == f"key:{fingerprint_of(key)}"
