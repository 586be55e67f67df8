"""Webhooks over the API and in the console: what may be made, what is refused, and what nobody else sees."""

import base64
import contextlib
import html
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orderbell.app.webhooks import Examiner
from orderbell.channels.guarded import GuardedClient
from orderbell.serving import serving
from orderbell.store.accounts import Role
from orderbell.store.hooks import HOOKS_MAX, Hooks, Outbox, watch
from orderbell.store.keys import KeyRing, create_key
from orderbell.store.postgres import Store
from orderbell.store.trail import Trail
from orderbell.web.access import keyed
from orderbell.web.api.hooks import hook_routes
from orderbell.web.console.webhooks import webhook_pages
from orderbell.web.hook_desk import HookDesk
from orderbell.web.rendering import Hall
from orderbell.web.signed_in import COOKIE, signed_in
from orderbell.web.site import create_site
from tests.web.console_site import visitor_of

URL = "https://shop.example/hook?token=canary"
PUBLIC = "93.184.216.34"

# Addresses that lead inside, in their usual disguises; `rebind.example` resolves to this machine.
HOSTILE = [
    "http://shop.example/hook", "https://127.0.0.1/", "https://localhost/", "https://2130706433/", "https://0x7f.1/",
    "https://0177.0.0.1/", "https://127.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fd00:ec2::254]/",
    "https://169.254.169.254/latest/meta-data/", "https://100.100.100.200/", "https://10.0.0.5/", "https://192.168.1.1/",
    "https://[64:ff9b::a00:5]/", "https://0.0.0.0/", "https://rebind.example/", "https://user:pw@shop.example/",
    "https://shop.example:22/", "https://shop.example:8470/", "ftp://shop.example/", "file:///etc/passwd", "javascript:1",
    "https://", "//shop.example/", "https://shop.example\r\nHost: x/", "https://gone.example/", "", " ", "x" * 3000,
    "https://sh\u00f6p.example/", "https://①②⑦.⓪.⓪.①/", "gopher://127.0.0.1:6379/_", "https://[::]/",
]  # fmt: skip


def resolve(host: str, _port: int) -> list[str]:
    """The names of these tests."""
    known = {"shop.example": PUBLIC, "rebind.example": "127.0.0.1", "localhost": "127.0.0.1"}
    if host not in known:
        raise OSError("no such name")
    return [known[host]]


def as_visitor(role: Role, tenant: str = "acme") -> dict[str, str]:
    """Headers of a browser in which somebody of this role is signed in."""
    return {"cookie": f"{COOKIE}={role}.{tenant}", "sec-fetch-site": "same-origin"}


@dataclass
class Desk:
    """A site with webhooks; `http` has the key of `acme`, `other` that of another tenant, `reader` may only read."""

    store: Store
    http: httpx.AsyncClient
    other: httpx.AsyncClient
    reader: httpx.AsyncClient
    browser: httpx.AsyncClient

    async def made(self, **wanted: object) -> dict[str, Any]:
        """Make a webhook, and give the answer."""
        response = await self.http.post("/v1/hooks", json={"url": URL, **wanted})
        assert response.status_code == 201, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def actions(self) -> list[str]:
        """What stands in the trail of `acme`."""
        rows = await self.store.pool.fetch("SELECT action, detail FROM trail WHERE tenant = 'acme' ORDER BY place")
        assert "canary" not in str(rows), "an address may hold a secret"
        assert "whsec" not in str(rows)
        return [row["action"] for row in rows]


@contextlib.asynccontextmanager
async def desk(store: Store) -> AsyncIterator[Desk]:
    """Open the site on a database."""
    ring = KeyRing(store.pool)
    keys = [
        await create_key(store, "acme"), await create_key(store, "other"),
        await create_key(store, "acme", "", ["hooks:read"]),
    ]  # fmt: skip

    def now() -> datetime:
        return datetime.now(UTC)

    async def ready() -> Sequence[str]:
        return []

    client = GuardedClient(resolve=resolve)
    made = HookDesk(partial(Hooks, store), Examiner(client), Trail(store), now)
    routes = [keyed(hook_routes(made), ring.caller_of), signed_in(webhook_pages(made), visitor_of)]
    hall = Hall(now=now, zone_of=lambda _: "Asia/Shanghai", names=lambda _: {})
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(create_site(routes, ready, hall)))
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=20)
            )
            for key in keys
        ]
        browser = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=20))
        stack.push_async_callback(client.close)
        yield Desk(store, clients[0], clients[1], clients[2], browser)


async def test_webhook_is_made_changed_and_removed(store: Store) -> None:
    """A webhook must be what was asked for, its secret be shown once, and every change stand in the trail."""
    async with desk(store) as site:
        answer = await site.made(types=["case.opened", "order.changed", "case.opened"], label="ERP")
        hook, secret = answer["hook"], answer["secret"]
        assert (hook["url"], hook["types"], hook["label"]) == (URL, ["case.opened", "order.changed"], "ERP")
        assert (hook["state"], hook["waiting"]) == ("on", 0)
        assert secret.startswith("whsec_")
        shown = await site.http.get(f"/v1/hooks/{hook['id']}")
        assert shown.json() == hook
        assert secret not in (await site.http.get("/v1/hooks")).text
        assert secret.encode() not in await store.pool.fetchval("SELECT secret FROM hook")
        changed = await site.http.patch(f"/v1/hooks/{hook['id']}", json={"on": False, "label": ""})
        assert (changed.json()["state"], changed.json()["label"], changed.json()["url"]) == ("off", "", URL)
        assert store.watched == {}
        turned = await site.http.post(f"/v1/hooks/{hook['id']}/rotate", json={"overlap_s": 60})
        assert turned.json()["secret"] not in {secret, ""}
        assert turned.json()["hook"]["old_secret_until"] is not None
        assert (await site.http.delete(f"/v1/hooks/{hook['id']}")).status_code == 204
        assert (await site.http.get("/v1/hooks")).json() == {"hooks": []}
        assert await site.actions() == ["hook.make", "hook.change", "hook.rotate", "hook.remove"]


async def test_ping_and_retry_are_told_to_the_worker(store: Store) -> None:
    """A test and a repetition must be due at once, and be refused while the webhook is off."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        sent = await site.http.post(f"/v1/hooks/{name}/ping")
        assert sent.status_code == 202
        (listed,) = (await site.http.get(f"/v1/hooks/{name}/deliveries")).json()["deliveries"]
        assert (listed["id"], listed["type"], listed["state"]) == (sent.json()["delivery"], "ping", "waiting")
        assert await Outbox(store).due_hooks(datetime.now(UTC)) == [("acme", bytes.fromhex(name))]
        await store.pool.execute("UPDATE hook_delivery SET state = 'failed', tries = 10, detail = 'HTTP 500'")
        again = await site.http.post(f"/v1/hooks/{name}/deliveries/{listed['id']}/retry")
        assert again.json() == {"delivery": listed["id"]}
        (listed,) = (await site.http.get(f"/v1/hooks/{name}/deliveries")).json()["deliveries"]
        assert (listed["state"], listed["tries"]) == ("waiting", 0)
        await site.http.patch(f"/v1/hooks/{name}", json={"on": False})
        for path in ("ping", f"deliveries/{listed['id']}/retry"):
            refused = await site.http.post(f"/v1/hooks/{name}/{path}")
            assert (refused.status_code, refused.json()["reason"]) == (409, "hook_off")


async def test_hostile_address_is_refused(store: Store) -> None:
    """An address that leads inside, or is none, must be refused when it is saved, by every way in."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        for url in HOSTILE:
            for response in (
                await site.http.post("/v1/hooks", json={"url": url}),
                await site.http.patch(f"/v1/hooks/{name}", json={"url": url}),
            ):
                assert (response.status_code, response.json()["field"]) == (422, "url"), (url, response.text)
            form = {"url": url, "type": "order.changed"}
            for path in ("", f"/{name}"):
                here = f"/console/settings/webhooks{path}"
                page = await site.browser.post(here, data=form, headers=as_visitor("owner"))
                assert page.status_code == 422, url
        assert [one.url for one in await Hooks(store, "acme").every()] == [URL]


async def test_wrong_values_are_refused(store: Store) -> None:
    """Types, labels, overlaps and fields that make no sense must be refused, and name the field."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        for method, path, body in [
            ("POST", "", {"url": URL, "types": ["order.exploded"]}), ("POST", "", {"url": URL, "label": "x" * 61}),
            ("POST", "", {"url": URL, "label": "a\nb"}), ("POST", "", {"url": URL, "surprise": 1}), ("POST", "", {}),
            ("POST", "", {"url": 5}), ("PATCH", f"/{name}", {"types": []}), ("PATCH", f"/{name}", {"on": "yes"}),
            ("POST", f"/{name}/rotate", {"overlap_s": -1}), ("POST", f"/{name}/rotate", {"overlap_s": 10**9}),
        ]:  # fmt: skip
            response = await site.http.request(method, f"/v1/hooks{path}", json=body)
            assert response.status_code in {400, 422}, (path, body)
        (hook,) = await Hooks(store, "acme").every()
        assert (hook.label, hook.old_until, len(hook.types)) == ("", None, 4)


async def test_there_are_not_too_many(store: Store) -> None:
    """A tenant must not have more webhooks than may be; those of others do not count."""
    async with desk(store) as site:
        for _ in range(HOOKS_MAX):
            await site.made()
        refused = await site.http.post("/v1/hooks", json={"url": URL})
        assert (refused.status_code, refused.json()["reason"]) == (409, "too_many")
        assert (await site.other.post("/v1/hooks", json={"url": URL})).status_code == 201


async def test_foreign_webhook_is_answered_as_none(store: Store) -> None:
    """Another tenant's webhook must be the same 404 as one that does not exist, on every route, and stay as it is."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        await site.http.post(f"/v1/hooks/{name}/ping")
        (listed,) = (await site.http.get(f"/v1/hooks/{name}/deliveries")).json()["deliveries"]
        before = await store.pool.fetch("SELECT * FROM hook, hook_delivery")
        paths = [
            ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/ping"), ("GET", "/deliveries"),
            ("POST", f"/deliveries/{listed['id']}/retry"),
        ]  # fmt: skip
        for method, path in paths:
            body: dict[str, Any] = {"json": {}} if method in {"PATCH", "POST"} else {}
            foreign = await site.other.request(method, f"/v1/hooks/{name}{path}", **body)
            for unknown in ("0" * 32, "nonsense", "%00" * 32, "é" * 32):
                nobody = await site.http.request(method, f"/v1/hooks/{unknown}{path}", **body)
                assert (foreign.status_code, foreign.json()) == (404, nobody.json())
        for path in ("", "/on", "/off", "/rotate", "/ping", "/remove", f"/deliveries/{listed['id']}/retry"):
            page = await site.browser.post(
                f"/console/settings/webhooks/{name}{path}", data={"url": URL}, headers=as_visitor("owner", "other")
            )
            assert page.status_code == 404, path
        assert await store.pool.fetch("SELECT * FROM hook, hook_delivery") == before
        assert (await site.other.get("/v1/hooks")).json() == {"hooks": []}


async def test_key_needs_the_scope(store: Store) -> None:
    """A key that may read must change nothing, and no key must see nothing."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        assert (await site.reader.get(f"/v1/hooks/{name}")).status_code == 200
        for method, path in [("POST", ""), ("PATCH", f"/{name}"), ("DELETE", f"/{name}"), ("POST", f"/{name}/rotate")]:
            refused = await site.reader.request(method, f"/v1/hooks{path}", json={"url": URL})
            assert (refused.status_code, refused.json()["reason"]) == (403, "missing_scope")
        assert (await site.browser.get("/v1/hooks")).status_code == 401


async def test_console_shows_and_does_it_all(store: Store) -> None:
    """The pages must make, show, change, turn off and remove a webhook, and show its secret once."""
    async with desk(store) as site:
        here, owner = "/console/settings/webhooks", as_visitor("operator")
        assert "还没有推送地址" in (await site.browser.get(here, headers=owner)).text
        form = {"url": URL, "label": "<b>仓库</b>", "type": ["order.changed", "case.opened"]}
        made = await site.browser.post(here, data=form, headers=owner)
        assert made.status_code == 200
        assert "whsec_" in made.text
        assert "<b>仓库" not in made.text
        assert made.headers["cache-control"] == "no-store"
        (hook,) = await Hooks(store, "acme").every()
        name = hook.id.hex()
        assert hook.types == ("order.changed", "case.opened")
        for path, data in [("ping", {}), ("off", {}), ("on", {}), ("", {"url": URL, "type": "case.closed"})]:
            done = await site.browser.post(f"{here}/{name}{f'/{path}' if path else ''}", data=data, headers=owner)
            assert (done.status_code, done.headers["location"]) == (303, f"{here}/{name}")
        await store.pool.execute("UPDATE hook SET failing_since = now()")
        await store.pool.execute("UPDATE hook_delivery SET tries = 1, status = 500, detail = '<script>HTTP 500'")
        for language, words in (("zh", "正在重试"), ("en", "trying again")):
            shown = await site.browser.get(f"{here}/{name}?lang={language}", headers=owner)
            assert words in shown.text
            assert "whsec_" not in shown.text
            assert "<script>HTTP" not in shown.text
            assert (await site.browser.get(f"{here}?lang={language}", headers=owner)).status_code == 200
        turned = await site.browser.post(f"{here}/{name}/rotate", data={"leaked": "yes"}, headers=owner)
        assert "whsec_" in turned.text
        (hook,) = await Hooks(store, "acme").every()
        assert hook.types == ("case.closed",)
        assert hook.old_until is not None
        assert hook.old_until <= datetime.now(UTC)
        assert (await site.browser.post(f"{here}/{name}/remove", headers=owner)).headers["location"] == here
        assert await Hooks(store, "acme").every() == []


async def test_how_to_verify_works_as_it_is_shown(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the page must take what we sign and refuse what we do not, beside the names of the headers."""
    async with desk(store) as site:
        here, owner = "/console/settings/webhooks", as_visitor("operator")
        pages = [(await site.browser.get(f"{here}?lang={language}", headers=owner)).text for language in ("zh", "en")]
    for page, title in zip(pages, ("怎样验证签名", "How to verify the signature"), strict=True):
        assert title in page
        for header in ("webhook-id", "webhook-timestamp", "webhook-signature"):
            assert f"<code>{header}</code>" in page
    code = re.search(r'<pre class="code"[^>]*>(.*?)</pre>', pages[1], re.DOTALL)
    assert code is not None
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    example: dict[str, Any] = {}
    exec(html.unescape(code[1]).replace("whsec_…", secret), example)  # noqa: S102 - what people are told to run
    now, body = datetime.now(UTC), b'{"type": "ping", "data": {}}'
    headers = {"webhook-id": "m1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign("m1", now, body.decode())
    assert example["receive"](body, headers) == 204
    assert capsys.readouterr().out == "ping {}\n"
    with pytest.raises(WebhookVerificationError):
        example["receive"](b"{}", headers)


async def test_viewer_neither_sees_nor_changes_webhooks(store: Store) -> None:
    """Addresses of webhooks may hold secrets: who may only look must get neither page nor form."""
    async with desk(store) as site:
        name = (await site.made())["hook"]["id"]
        here, viewer = "/console/settings/webhooks", as_visitor("viewer")
        for path in (here, f"{here}/{name}"):
            shown = await site.browser.get(path, headers=viewer)
            assert shown.status_code == 403
            assert "canary" not in shown.text
        for path in ("", f"/{name}", f"/{name}/rotate", f"/{name}/remove", f"/{name}/ping"):
            assert (await site.browser.post(here + path, headers=viewer)).status_code == 403
        assert len(await Hooks(store, "acme").every()) == 1


async def test_watch_finds_what_another_process_made(store: Store) -> None:
    """Another process must know who listens to what after its next look."""
    async with desk(store) as site:
        await site.made(types=["case.opened"])
        store.watched = {}
        await watch(store)
        assert store.watched == {"case.opened": frozenset({"acme"})}
        assert msgspec.json.encode(sorted(store.watched)) == b'["case.opened"]'
