"""The console's page of providers: who carries messages, how well, how fast, at what price.

Providers, their health and their figures are those of the whole installation; one that serves other tenants only is not
shown. Nothing of a provider's keys comes this far.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.store.ledger import Ledger, Tally
from orderbell.store.postgres import Store
from orderbell.store.standings import Standings, WorkerStanding
from orderbell.web.rendering import hall_of, page, view_of
from orderbell.web.rights import Visitor

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
STATES: Final = ("open", "half_open", "closed")
"""The worst first: what one worker leaves out is shown, whatever the others find."""


class Carrier(Struct, frozen=True):
    """A provider as it was set up: prices in 1/1000 fen, 0 where none was given; limits in messages a second."""

    name: str
    kind: str
    channels: tuple[str, ...]
    price_millifen: int = 0
    per_second: float = 0.0
    weight: float = 1.0
    tenants: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()


class Row(Struct, frozen=True):
    """A provider on the page; `hour` and `day` are None where it took nothing in that time."""

    carrier: Carrier
    state: str
    workers: Sequence[WorkerStanding]
    hour: Tally | None
    day: Tally | None
    templates: Mapping[str, int]


class Halt(Struct, frozen=True):
    """That sending stands still, why and since when."""

    reason: str
    since: datetime | None


def provider_pages(store: Store, carriers: Sequence[Carrier]) -> list[ControllerRouterHandler]:
    """Make the page; it needs somebody who is signed in (`web.signed_in`)."""
    ledger, standings = Ledger(store), Standings(store)

    @get("/console/providers", opt={"right": "providers:read"})
    async def show_providers(visitor: NamedDependency[Visitor], request: Request[Any, Any, Any]) -> Response[str]:
        now = hall_of(request).now()
        workers, templates, (halted, reason, since), hour, day = await asyncio.gather(
            standings.by_provider(), standings.templates(), ledger.halted(), _tallies(ledger, now, HOUR),
            _tallies(ledger, now, DAY),
        )  # fmt: skip
        rows = [
            Row(
                one, worst(workers.get(one.name, [])), workers.get(one.name, []), hour.get(one.name),
                day.get(one.name), templates.get(one.name, {}),
            )
            for one in carriers
            if not one.tenants or visitor.tenant in one.tenants
        ]  # fmt: skip
        halt = Halt(reason, since) if halted else None
        only_sandbox = all(one.kind == "sandbox" for one in carriers)
        return page("providers.html", view_of(request, visitor), rows=rows, halt=halt, only_sandbox=only_sandbox)

    return [show_providers]


def worst(workers: Sequence[WorkerStanding]) -> str:
    """The state of the breaker that is worst off; `unknown` where no worker has said."""
    found = {one.state for one in workers}
    return next((state for state in STATES if state in found), "unknown")


async def _tallies(ledger: Ledger, now: datetime, since: timedelta) -> dict[str, Tally]:
    return {tally.provider: tally for tally in await ledger.tallies(now, since, timedelta())}
