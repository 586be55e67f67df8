"""Requests that another site makes a browser send: every route that may change something refuses every form of them.

Nothing here lists routes: they are walked as `tests/web/test_rights.py` finds them. What only the holder of a secret
in the path can send (customers' pages) may pass where an old browser says nothing of where it comes from; never where
a browser says that it comes from elsewhere.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import httpx
import msgspec

from orderbell.store.postgres import Store
from tests.guests import running_pages
from tests.web.front_site import Browser
from tests.web.test_rights import SAFE, Door, Rig, running_rig

FOREIGN: Final[tuple[Mapping[str, str], ...]] = (
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "cross-site", "origin": "null"},
    {"sec-fetch-site": "same-site", "origin": "https://other.localhost"},
    {"origin": "https://evil.example"},
    {"origin": "https://evil.example", "referer": "http://127.0.0.1/console"},
)
"""What browsers say of themselves when another site sends; the last two are those without Fetch Metadata."""

SIMPLE: Final = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "")
"""The kinds of content that a form of any site may send without being asked first (Fetch standard, 2.2.2)."""

FORGED: Final = (
    *((headers, SIMPLE[0]) for headers in FOREIGN),
    *((FOREIGN[0], media_type) for media_type in SIMPLE[1:]),
)
"""Every such browser with a usual form, and every simple kind of content from the usual browser."""

OVERRIDES: Final = {"x-http-method-override": "POST", "x-method-override": "DELETE", "x-http-method": "PUT"}


def _body(media_type: str, values: Mapping[str, str]) -> bytes:
    if media_type.startswith("multipart"):
        part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        return ("".join(part.format(name, value) for name, value in values.items()) + "--x--\r\n").encode()
    if media_type == "text/plain":
        return msgspec.json.encode(values)  # `<form enctype="text/plain">` can be made to write JSON
    return urlencode(values).encode()


async def _send(rig: Rig, door: Door, browser: Browser, headers: Mapping[str, str], content: bytes) -> int:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    sent = {**headers, "cookie": cookie, "accept": "text/html"}
    async with rig.front.http.stream(door.method, door.url(rig.ids), headers=sent, content=content) as answer:
        status: int = answer.status_code
        return status


async def test_no_foreign_form_is_taken(store: Store) -> None:
    """Every unsafe route, in every simple kind of content, must refuse what comes from elsewhere, and change nothing."""
    async with running_rig(store) as rig:
        owner = await rig.front.signed_in("owner")
        before = [await rig.snapshot(tenant) for tenant in ("acme", "other")]
        wrong, tried = [], 0
        for door in rig.doors:
            if door.method in SAFE:
                continue
            for headers, media_type in FORGED:
                sent = {**headers, "content-type": media_type} if media_type else dict(headers)
                status = await _send(rig, door, owner, sent, _body(media_type, rig.ids))
                tried += 1
                # a program's route knows no cookie; those who ask for neither key nor session are told no as well
                allowed = {401, 403, 404, 415} if door.keyed or door.public else {403}
                if status not in allowed:
                    wrong.append((str(door), headers, media_type, status))
        assert wrong[:20] == []
        assert tried > 400
        assert await rig.front.sessions.find(owner.token) is not None
        assert [await rig.snapshot(tenant) for tenant in ("acme", "other")] == before


async def test_unsafe_routes_for_people_refuse_by_themselves(store: Store) -> None:
    """Every unsafe route for people must answer 403 to a foreign form, but those whose address holds a secret."""
    by_token = {"/t/{token:str}/choice", "/t/{token:str}/address", "/t/{token:str}/wishes", "/u/{token:str}"}
    async with running_rig(store) as rig:
        owner = await rig.front.signed_in("owner")
        other = {}
        for door in rig.doors:
            if door.method in SAFE or door.keyed:
                continue
            headers = {"sec-fetch-site": "cross-site", "content-type": SIMPLE[0]}
            status = await _send(rig, door, owner, headers, _body(SIMPLE[0], rig.ids))
            if status != 403:
                other[door.path] = status
        assert set(other) <= by_token, other


async def test_looking_is_never_changing(store: Store) -> None:
    """GET and HEAD of every route, of those that only take forms too, must change nothing, whatever the headers say."""
    async with running_rig(store) as rig:
        owner = await rig.front.signed_in("owner", "other")
        before = await rig.snapshot("other")
        changed = []
        for path in sorted({door.path for door in rig.doors}):
            door = next(one for one in rig.doors if one.path == path)
            for method in ("GET", "HEAD"):
                look = Door(path, method, door.right, door.public, door.parameters, door.asked)
                url = httpx.URL(look.url(rig.ids)).copy_merge_params({"_method": "POST", "method": "DELETE"})
                headers = {"cookie": f"__Host-orderbell={owner.token}", "accept": "text/html", **OVERRIDES}
                async with rig.front.http.stream(method, url, headers=headers):
                    pass
            after = await rig.snapshot("other")
            changed += [path] if after != before else []
            before = after
        assert changed == []
        assert await rig.front.sessions.find(owner.token) is not None


async def test_forms_of_customers_pages_from_elsewhere(store: Store) -> None:
    """Even with the right token a form of another site must be refused, where the browser says where it comes from."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        form = {"ask": "stock", "option": "refund", "version": str(await pages.version()), "days": "0", "price": "0"}
        before = await pages.contents()
        for headers in FOREIGN:
            for tail in ("choice", "address", "wishes"):
                async with httpx.AsyncClient(base_url=pages.url, trust_env=False, headers=dict(headers)) as http:
                    assert (await http.post(f"{path}/{tail}", data=form)).status_code == 403, (headers, tail)
        assert await pages.contents() == before
        assert (await pages.http.post(f"{path}/choice", data=form)).status_code == 303
