"""Two simulated providers of SMS with everything they need: approved templates, callbacks, and ways to break one."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orderbell.app.clock import system_clock
from orderbell.channels.alibaba import AlibabaChannel, AlibabaOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Channel, Heard
from orderbell.channels.tencent import TencentChannel, TencentOptions
from orderbell.core.turn import Shelf
from orderbell.core.wording import Template
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.routes import Routes, Terms
from orderbell.sandbox import alibaba, tencent
from orderbell.sandbox.simulator import Receive, Scope, Send, Simulator
from orderbell.serving import serving
from orderbell.sources.callbacks import Caller, callbacks_route
from orderbell.store.ledger import Ledger
from orderbell.web.site import create_site

TOKEN = "a-token-that-nobody-can-guess"  # noqa: S105 - of a simulated provider
SIGN = "OrderBell"
TIMEOUT_S = 3.0
LOOKUP_AFTER_S = 2.0

Codes = dict[str, dict[str, str]]


def templates_of(shelf: Shelf, topics: Sequence[str] = ()) -> list[Template]:
    """Every SMS text of a shelf's playbooks, once."""
    found: dict[str, Template] = {}
    for book in shelf.playbooks.values():
        for words in book.wording.values():
            for topic, rule in book.notices.items():
                if not topics or topic in topics:
                    found |= {one.text: one for one in words.templates(topic, "sms", marketing=rule.marketing)}
    return list(found.values())


def approved(templates: Sequence[Template]) -> tuple[Codes, dict[str, alibaba.Template], dict[str, tencent.Template]]:
    """The codes of templates at both providers, and the templates as those know them."""
    codes: Codes = {"ali": {}, "tencent": {}}
    of_ali: dict[str, alibaba.Template] = {}
    of_tencent: dict[str, tencent.Template] = {}
    for number, one in enumerate(templates, 1):
        by_name = one.text
        by_place = one.text
        for place, name in enumerate(one.names, 1):
            by_name = by_name.replace(f"{{{name}}}", f"${{{name}}}")
            by_place = by_place.replace(f"{{{name}}}", f"{{{place}}}", 1)
        codes["ali"][one.text] = f"SMS_{number}"
        codes["tencent"][one.text] = str(1000 + number)
        of_ali[f"SMS_{number}"] = alibaba.Template(by_name)
        of_tencent[str(1000 + number)] = tencent.Template(by_place, "marketing" if one.marketing else "notice", 3)
    return codes, of_ali, of_tencent


class Breakable:
    """A provider whose sending, or everything, can be made to fail with an HTTP 500, with its own words or without.

    `breaks` is empty, `words`, `bare` or `all`.
    """

    def __init__(self, provider: Simulator, words: bytes) -> None:
        self.provider, self.words, self.breaks = provider, words, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        action = dict(scope.get("headers", ())).get(b"x-acs-action") or dict(scope.get("headers", ())).get(
            b"x-tc-action"
        )
        if self.breaks and (self.breaks == "all" or (action or b"").startswith(b"Send")):
            body = self.words if self.breaks == "words" else b""
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self.provider(scope, receive, send)


@dataclass
class Pair:
    """Both providers, running, and the channels to them."""

    ali: alibaba.AlibabaSimulator
    tencent: tencent.TencentSimulator
    breakable: Breakable
    channels: list[Channel]
    codes: Codes

    def routes(self, *, weight: float = 1.0) -> Routes:
        """The ways to both; Alibaba gets `weight` times the traffic of Tencent."""
        terms = {"ali": Terms(weight), "tencent": Terms(1.0)}
        routes = Routes(self.channels, system_clock(), terms)
        routes.set_templates(self.codes)
        return routes

    def taken_at(self) -> dict[str, list[datetime]]:
        """When each phone was sent something, by whichever provider."""
        found: dict[str, list[datetime]] = {}
        for one in [*self.ali.taken, *self.tencent.taken]:
            found.setdefault(one.to.removeprefix("+86"), []).append(one.at)
        return found


@contextlib.asynccontextmanager
async def pair(ledger: Ledger, shelf: Shelf, topics: Sequence[str] = ()) -> AsyncIterator[Pair]:
    """Run both providers inside this event loop, with a site that takes their receipts."""
    codes, of_ali, of_tencent = approved(templates_of(shelf, topics))
    ali = alibaba.AlibabaSimulator(templates=of_ali)
    other = tencent.TencentSimulator(templates=of_tencent, signs={SIGN: tencent.Sign()})
    breakable = Breakable(ali, b'{"Code":"InternalError","Message":"x","RequestId":"x","HostId":"x","Recommend":"x"}')
    async with contextlib.AsyncExitStack() as stack:
        ali_url = await stack.enter_async_context(serving(breakable, stopping=ali.end_waiting))
        other_url = await stack.enter_async_context(serving(other, stopping=other.end_waiting))
        channels = channels_to(ali_url, other_url)
        for channel in channels:
            stack.push_async_callback(channel.close)
        site = await stack.enter_async_context(hearing(ledger, channels))
        ali.callback_url, other.callback_url = callback_url(site, "ali"), callback_url(site, "tencent")
        yield Pair(ali, other, breakable, channels, codes)
        await ali.close()
        await other.close()


def callback_url(site: str, provider: str) -> str:
    """Where a provider brings its receipts."""
    return f"{site}/v1/callbacks/{provider}/{TOKEN}/receipts"


def channels_to(ali_url: str, tencent_url: str) -> list[Channel]:
    """The channels to both."""
    shared = KeptInMemory(system_clock)
    ali = AlibabaOptions(
        access_key_id="LTAI-sandbox", access_key_secret="sandbox", sign=SIGN, ref_key="bench-bench",  # noqa: S106
        url=ali_url, timeout_s=TIMEOUT_S, connect_timeout_s=1.0, lookup_after_s=LOOKUP_AFTER_S, per_second=0,
        per_template_day=1_000_000,
    )  # fmt: skip
    other = TencentOptions(
        secret_id="AKIDEXAMPLE", secret_key="SECRETEXAMPLE", sdk_app_id="1400006666", sign=SIGN, url=tencent_url,  # noqa: S106
        timeout_s=TIMEOUT_S, connect_timeout_s=1.0, variable_max=0, per_second=0, per_template=(),
        lookup_after_s=LOOKUP_AFTER_S,
    )  # fmt: skip
    return [
        AlibabaChannel(ali, name="ali", now=system_clock, shared=shared),
        TencentChannel(other, name="tencent", now=system_clock, shared=shared),
    ]


@contextlib.asynccontextmanager
async def hearing(ledger: Ledger, channels: Sequence[Channel]) -> AsyncIterator[str]:
    """Run a site that takes the callbacks of these channels; gives its address."""
    receiver = Receiver(ledger, system_clock)

    async def keep(provider: str, heard: Heard) -> None:
        await receiver.take(provider, heard.receipts)

    async def nothing_missing() -> Sequence[str]:
        return ()

    callers = {channel.name: Caller(channel, TOKEN) for channel in channels}
    async with serving(create_site([callbacks_route(callers, keep)], nothing_missing)) as url:
        yield url


def dispatcher_to(ledger: Ledger, shelves: dict[str, Shelf], routes: Routes) -> Dispatcher:
    """A dispatcher that keeps the routes' templates."""
    return Dispatcher(ledger, shelves, routes, now=system_clock, patience=timedelta(minutes=3))
