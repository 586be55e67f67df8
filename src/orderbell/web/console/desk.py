"""The desk of the console: all that its pages of orders, people and messages need from the rest of the house."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from orderbell.store.postgres import Store
from orderbell.store.tracking import Correction
from orderbell.store.trail import Trail
from orderbell.web.console.placing import ShelfOf
from orderbell.web.console.stories import Stories
from orderbell.web.live import Live


class Desk(Struct, frozen=True):
    """What the pages work with.

    `page_of` hands out the address of the customer's page of a tenant, an order and a role ('' is the principal's),
    `corrections_of` tells what people wrote there; None where the installation has no such pages. `live` wakes pages
    of orders, by tenant and number; without it they are reloaded by hand. `price_millifen` is what a part of an SMS, or
    another message, costs by provider, in 1/1000 fen; `public_url` where the site is reached, where that is known.
    """

    store: Store
    shelf_of: ShelfOf
    stories: Stories
    trail: Trail
    now: Callable[[], datetime]
    page_of: Callable[[str, str, str], Awaitable[str]] | None = None
    corrections_of: Callable[[str, str], Awaitable[Sequence[Correction]]] | None = None
    live: Live[tuple[str, str]] | None = None
    price_millifen: Mapping[str, int] = {}
    public_url: str = ""
