"""Everything that people and programs reach over HTTP, put together: which routes there are, and what each is given."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
from litestar.types import ControllerRouterHandler

from orderbell.app.activation import Desk, Following
from orderbell.app.clock import Clock
from orderbell.app.explaining import Explainer
from orderbell.app.hearing import Submit
from orderbell.app.providers import ProviderSpec
from orderbell.core.turn import Shelf
from orderbell.engine import IntakeBusy
from orderbell.insight.explain import Explanation
from orderbell.insight.words import read_words
from orderbell.settings import Settings
from orderbell.sources.events import events_route
from orderbell.sources.replies import replies_route
from orderbell.sources.unsubscribe import unsubscribe_route
from orderbell.store.keys import KeyRing
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.web.access import keyed
from orderbell.web.explaining import explain_routes
from orderbell.web.people import people_routes
from orderbell.web.rendering import Hall, Names

FALLBACK_ZONE = "Asia/Shanghai"


@dataclass(frozen=True)
class Front:
    """What routes are made from.

    `following` knows the playbooks that count as tenants come and activate; `shelf_of` finds those of a tenant who was
    added a moment ago as well. `submit` brings events in, as the API does.
    """

    settings: Settings
    store: Store
    following: Following
    shelf_of: Callable[[str], Awaitable[Shelf]]
    submit: Submit
    now: Clock
    providers: Sequence[ProviderSpec] = ()

    @property
    def shelves(self) -> Mapping[str, Shelf]:
        """The playbooks that count for each tenant: the platform's own mapping, which changes."""
        return self.following.shelves

    def people_of(self, tenant: str) -> People:
        """The contacts of a tenant."""
        return People(self.store, tenant)

    def zone_of(self, tenant: str) -> str:
        """The time zone of a tenant: that of its default playbook."""
        shelf = self.shelves.get(tenant)
        playbook = shelf.find("") if shelf is not None else None
        return playbook.timezone if playbook is not None else FALLBACK_ZONE

    def hall(self) -> Hall:
        """What pages need besides their own routes."""
        secure = self.settings.public_url.startswith("https://")
        return Hall(now=self.now, zone_of=self.zone_of, names=names_of, secure=secure)


@cache
def names_of(locale: str) -> Names:
    """What codes are called in a language, as explanations call them."""
    tables = msgspec.structs.asdict(read_words(locale))
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def front_routes(front: Front) -> list[ControllerRouterHandler]:
    """All routes but those that providers call back."""
    ring = KeyRing(front.store.pool)
    return [
        events_route(front.submit, ring.tenant_of, front.now, busy=IntakeBusy),
        unsubscribe_route(front.people_of, front.store.vault.index_key, front.now),
        keyed(_api(front), ring.caller_of),
        *_public(front),
        *_console(front),
    ]


def _api(front: Front) -> list[ControllerRouterHandler]:
    """Routes for programs: each needs a key with the scope that it names."""
    people_of, shelf_of = front.people_of, front.shelf_of
    return [
        *people_routes(people_of, shelf_of, front.now),
        replies_route(people_of, shelf_of, front.submit, front.now, busy=IntakeBusy),
        *explain_routes(Explainer(front.store, shelf_of), Explanation),
    ]


def _public(front: Front) -> list[ControllerRouterHandler]:
    """Pages that need no sign-in: signing in, the customer's page, look-up, short links, the API's description."""
    return []


def _console(front: Front) -> list[ControllerRouterHandler]:
    """Pages for people who are signed in."""
    return []
