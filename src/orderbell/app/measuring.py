"""What `/metrics` tells of a platform: the figures of its parts, and a listener of its own where there is no site."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

from orderbell.app.clock import Clock
from orderbell.dispatch.routes import Routes
from orderbell.engine import Intake
from orderbell.serving import serving
from orderbell.settings import Settings
from orderbell.store.gauges import Gauges, pool_connections
from orderbell.store.postgres import Store
from orderbell.web.metrics import Gauged, Metrics, metrics_routes
from orderbell.web.site import Ready, create_site

_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class Measured(Protocol):
    """What runs, and can be looked at: `intake` and `routes` are None until they run."""

    store: Store
    intake: Intake | None
    routes: Routes | None


def metrics_of(platform: Measured, now: Clock) -> Metrics:
    """The figures of a platform; what is not running yet when somebody asks is left out."""
    gauges = Gauges(platform.store)

    async def look() -> Gauged:
        return await gauges.read(now())

    return Metrics(look, partial(_here, platform))


def metrics_listener(metrics: Metrics, settings: Settings, ready: Ready) -> AbstractAsyncContextManager[str]:
    """Serve `/metrics` and the health checks at the port that the settings name; gives the address, raises OSError."""
    site = create_site(metrics_routes(metrics, settings.metrics_token), ready)
    return serving(site, host=settings.metrics_host, port=settings.metrics_port)


def _here(platform: Measured) -> Gauged:
    found: Gauged = {"database_connections": pool_connections(platform.store)}
    if platform.intake is not None:
        found = {**found, "intake_waiting": {(): float(platform.intake.pending)}}
    if platform.routes is not None:
        health = platform.routes.health
        found = {
            **found,
            "provider_state": {(name, one.reason): _STATES[one.state] for name, one in health.items()},
            "requests_in_flight": {(name,): float(count) for name, count in platform.routes.in_flight.items()},
        }
    return found
