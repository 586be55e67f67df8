"""The pages for customers, put together: their desk, their routes, and what runs beside them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from litestar.types import ControllerRouterHandler

from orderbell.app.clock import Clock
from orderbell.app.hearing import Submit
from orderbell.app.repeating import repeat
from orderbell.core.model import Message
from orderbell.core.turn import Key, Shelf
from orderbell.errors import DatabaseUnavailable
from orderbell.settings import Settings
from orderbell.store.brand import Brands
from orderbell.store.links import Links
from orderbell.store.looking import order_versions
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.throttle import Throttle
from orderbell.store.tracking import Tracking
from orderbell.store.trail import Trail
from orderbell.web.api.link import link_routes
from orderbell.web.guest.desk import GuestDesk
from orderbell.web.guest.look_up import look_up_routes
from orderbell.web.guest.short_links import short_link_routes
from orderbell.web.guest.tracking import tracking_routes
from orderbell.web.guest.unsubscribe import unsubscribe_routes
from orderbell.web.live import Live

FORGET_EVERY_S: Final = 3600.0

log = structlog.get_logger()


class CustomerPages:
    """The pages for customers of one process; `run` keeps those that are open up to date until `close`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf_of: Callable[[str], Awaitable[Shelf]],
        submit: Submit,
        now: Clock,
    ) -> None:
        tracking = Tracking(store)
        self.links = Links(store)
        self.live = Live[Key](partial(order_versions, store), trusted_hops=settings.trusted_hops)
        self.desk = GuestDesk(
            tracking, partial(People, store), shelf_of, Brands(store).brand_of, submit, Throttle(store, now), self.live,
            now, settings.public_url, settings.trusted_hops,
        )  # fmt: skip
        self._trail, self._now, self._key_of = Trail(store, now), now, store.vault.index_key

    def routes(self, tenants: Callable[[], Collection[str]]) -> list[ControllerRouterHandler]:
        """The pages: anybody may ask for them."""
        return [
            *tracking_routes(self.desk), *look_up_routes(self.desk, tenants), *short_link_routes(self.desk, self.links),
            *unsubscribe_routes(self.desk, self._key_of),
        ]  # fmt: skip

    def api(self) -> list[ControllerRouterHandler]:
        """What programs may ask about the pages."""
        return link_routes(self.desk.link_of, self.desk.tracking, self.links, self._trail, self._now)

    async def run(self) -> None:
        """Tell open pages of changes, and drop what is old, until `close`."""
        watching = asyncio.create_task(self.live.run())
        forgetting = asyncio.create_task(
            repeat(lambda: self.desk.tracking.forget(self._now()), FORGET_EVERY_S, "clicks to be forgotten")
        )
        try:
            await watching
        finally:
            forgetting.cancel()
            await asyncio.wait([forgetting])

    async def close(self) -> None:
        """End the streams of open pages."""
        await self.live.close()


async def links_of(
    links: Links, public_url: str, now: Callable[[], datetime], messages: Sequence[Message]
) -> Mapping[bytes, str]:
    """The short links of messages that are about to leave, by message; without them where they cannot be kept.

    That of an SMS is its code alone, as its text says already where it leads. Without a `public_url` only SMS have one.
    """
    if not public_url:
        messages = [one for one in messages if one.channel == "sms"]
    try:
        codes = await links.codes_for(messages, now())
    except DatabaseUnavailable as problem:
        log.warning("messages leave without their links", problem=str(problem))
        return {}
    texts = {one.id for one in messages if one.channel == "sms"}
    return {name: code if name in texts else f"{public_url.rstrip('/')}/l/{code}" for name, code in codes.items()}
