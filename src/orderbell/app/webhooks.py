"""Webhooks out, put together: which addresses may be called, who tells of what, and whom of the staff it concerns."""

from collections.abc import Callable, Iterable

from orderbell.app.clock import Clock
from orderbell.app.providers import ProviderSpec
from orderbell.channels.guarded import AddressRefused, GuardedClient, Unresolved
from orderbell.channels.staff import StaffOptions
from orderbell.dispatch.alerts import Alerts
from orderbell.dispatch.digest import hook_off
from orderbell.dispatch.hooks import TurnedOff, Webhooks
from orderbell.settings import Settings
from orderbell.store.hooks import Outbox
from orderbell.store.postgres import Store

TIMEOUT_S = 15.0
"""How long a receiver may take to answer, as Standard Webhooks advises."""


def open_client(settings: Settings) -> GuardedClient:
    """How webhooks leave: to public addresses by https, and to hosts of one's own network that the settings name."""
    hosts = [host for host in settings.webhook_hosts.replace(",", " ").split() if host]
    return GuardedClient(allow_hosts=hosts, timeout_s=TIMEOUT_S)


def open_webhooks(store: Store, client: GuardedClient, now: Clock, tell: Callable[[TurnedOff], None]) -> Webhooks:
    """The loop of a worker."""
    return Webhooks(Outbox(store), client, now=now, tell=tell)


def tell_of_hook(off: TurnedOff, alerts: Iterable[Alerts], specs: Iterable[ProviderSpec], now: Clock) -> None:
    """Tell all robots of a webhook that was turned off."""
    for one, spec in zip(alerts, specs, strict=True):
        options = spec.options
        assert isinstance(options, StaffOptions)  # noqa: S101 - as its kind says
        one.tell(hook_off(off.tenant, off.host, off.reason, now(), options.locale))


class Examiner:
    """Says why an address must not be called, before it is kept."""

    def __init__(self, client: GuardedClient) -> None:
        self._client = client

    async def __call__(self, url: str) -> str:
        """Look at an address; "" where it may be called."""
        try:
            await self._client.examine(url)
        except AddressRefused as refused:
            return f"the address {refused}"
        except Unresolved as unresolved:
            return f"{unresolved}"
        return ""

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()
