"""Everything that people and programs reach over HTTP, put together: which routes there are, and what each is given."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

import msgspec
from litestar import Router
from litestar.types import ControllerRouterHandler

from orderbell.app.accounts import open_door
from orderbell.app.activation import Desk, Following
from orderbell.app.carriers import carriers_of
from orderbell.app.clock import Clock, system_clock
from orderbell.app.customer_pages import CustomerPages
from orderbell.app.explaining import Explainer
from orderbell.app.hearing import Submit
from orderbell.app.providers import ProviderSpec
from orderbell.app.telling import StoryTeller
from orderbell.app.trials import Trying
from orderbell.app.webhooks import Examiner, open_client
from orderbell.channels.protocol import Channel
from orderbell.core.turn import Shelf
from orderbell.engine import IntakeBusy
from orderbell.insight.explain import Explanation
from orderbell.insight.preview import Preview
from orderbell.insight.words import read_words
from orderbell.settings import Settings
from orderbell.sources.events import events_route
from orderbell.sources.replies import replies_route
from orderbell.store.brand import Brands
from orderbell.store.hooks import Hooks
from orderbell.store.idempotency import KnownAnswers
from orderbell.store.keys import KeyRing
from orderbell.store.looking import Looking
from orderbell.store.overview import Overview
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.sessions import Sessions
from orderbell.store.timeline import Timeline
from orderbell.store.trail import Trail
from orderbell.web.access import keyed
from orderbell.web.account.door import Door
from orderbell.web.account.my_account import my_account_routes
from orderbell.web.account.signing_in import signing_in_routes, switching_routes
from orderbell.web.api.cases import case_routes
from orderbell.web.api.explaining import explain_routes
from orderbell.web.api.figures import figure_routes
from orderbell.web.api.hooks import hook_routes
from orderbell.web.api.idempotency import once
from orderbell.web.api.limits import Limits, limited
from orderbell.web.api.messages import message_routes
from orderbell.web.api.orders import order_routes
from orderbell.web.api.page import api_page_routes
from orderbell.web.api.people import people_routes
from orderbell.web.api.playbooks import playbook_routes
from orderbell.web.console.desk import Desk as ConsoleDesk
from orderbell.web.console.drafting import drafting_pages
from orderbell.web.console.glossary import glossary_pages
from orderbell.web.console.live import Feed
from orderbell.web.console.playbook import playbook_pages
from orderbell.web.console.providers import provider_pages
from orderbell.web.console.routes import console_routes
from orderbell.web.console.settings import settings_routes
from orderbell.web.console.trail import trail_routes
from orderbell.web.console.trials import trial_pages
from orderbell.web.console.webhooks import webhook_pages
from orderbell.web.hook_desk import HookDesk
from orderbell.web.rendering import Hall, Names
from orderbell.web.signed_in import signed_in

FALLBACK_ZONE = "Asia/Shanghai"


@dataclass(frozen=True)
class Front:
    """What routes are made from.

    `following` knows the playbooks that count as tenants come and activate; `shelf_of` finds those of a tenant who was
    added a moment ago as well. `submit` brings events in, as the API does. `now` is the clock of orders, `wall` that
    of the people who look at them: sessions end by it.
    """

    settings: Settings
    store: Store
    following: Following
    shelf_of: Callable[[str], Awaitable[Shelf]]
    submit: Submit
    now: Clock
    providers: Sequence[ProviderSpec] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)
    wall: Clock = system_clock

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

    @cached_property
    def desk(self) -> Desk:
        """Where playbooks are looked at and activated."""
        return Desk(self.store, self.following, self.settings.playbooks_dir, self.now)

    @cached_property
    def pages(self) -> CustomerPages:
        """The pages for customers, of which a process has one set."""
        return CustomerPages(self.settings, self.store, self.shelf_of, self.submit, self.now)

    @cached_property
    def trying(self) -> Trying:
        """Where drafts of playbooks are tried on past orders."""
        return Trying(self.store, self.desk, self.now)

    @cached_property
    def feed(self) -> Feed:
        """What open overviews are told; to be run, and closed."""
        sessions = Sessions(self.store, self.wall)
        return Feed(partial(Overview, self.store), self.now, still_open=sessions.still_open)

    def console_desk(self) -> ConsoleDesk:
        """What the pages of orders, people and messages work with."""
        guests = self.pages.desk
        return ConsoleDesk(
            self.store, self.shelf_of, StoryTeller(), Trail(self.store, self.now), self.now, guests.link_of,
            guests.tracking.corrections, self.pages.live, self.prices(), self.settings.public_url,
        )  # fmt: skip

    def prices(self) -> dict[str, int]:
        """What a part of an SMS, or another message, costs by provider, in 1/1000 fen."""
        return {name: channel.price_millifen for name, channel in self.channels.items()}

    @cached_property
    def examiner(self) -> Examiner:
        """Who looks at the addresses of webhooks before they are kept."""
        return Examiner(open_client(self.settings))

    @cached_property
    def hook_desk(self) -> HookDesk:
        """Where webhooks are made and looked at, by the API and by the console."""
        return HookDesk(partial(Hooks, self.store), self.examiner, Trail(self.store, self.now), self.now)

    async def close(self) -> None:
        """Stop what runs for the routes, once nobody is served any more."""
        await self.trying.close()
        await self.examiner.close()

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
    door = open_door(front.store, front.settings, front.following.files, front.wall)
    return [
        events_route(front.submit, ring.tenant_of, front.now, busy=IntakeBusy),
        _guarded(front, ring, _api(front)),
        *_public(front, door),
        signed_in(_console(front, door), door.visitor_of, front.settings.public_url),
    ]


def _guarded(front: Front, ring: KeyRing, handlers: list[ControllerRouterHandler]) -> Router:
    """Routes that need a key, which may ask only so often; changes may bring an `Idempotency-Key`."""
    limits = Limits(front.settings.api_requests_per_s, front.settings.api_burst)
    known_of = partial(KnownAnswers, front.store)
    layers = [limited(limits, ring.caller_of), once(known_of, ring.caller_of, front.now)]
    return Router("/", route_handlers=[keyed(handlers, ring.caller_of)], middleware=layers)


def _api(front: Front) -> list[ControllerRouterHandler]:
    """Routes for programs: each needs a key with the scope that it names."""
    people_of, shelf_of = front.people_of, front.shelf_of
    looking_of = partial(Looking, front.store)
    return [
        *people_routes(people_of, shelf_of, Trail(front.store, front.now), front.now),
        replies_route(people_of, shelf_of, front.submit, front.now, busy=IntakeBusy),
        *explain_routes(Explainer(front.store, shelf_of), Explanation),
        *order_routes(looking_of, partial(Timeline, front.store), shelf_of),
        *message_routes(looking_of),
        *case_routes(looking_of),
        *figure_routes(partial(Overview, front.store), shelf_of, front.zone_of, front.prices(), front.now),
        *front.pages.api(),
        *playbook_routes(front.desk, Preview),
        *hook_routes(front.hook_desk),
    ]


def _public(front: Front, door: Door) -> list[ControllerRouterHandler]:
    """Pages that need no sign-in: signing in, the customer's page, look-up, short links, the API's description."""
    return [
        *signing_in_routes(door, Brands(front.store)),
        *front.pages.routes(lambda: list(front.shelves)),
        *api_page_routes(),
    ]


def _console(front: Front, door: Door) -> list[ControllerRouterHandler]:
    """Pages for people who are signed in."""
    return [
        *console_routes(front.console_desk(), front.feed),
        *switching_routes(door),
        *my_account_routes(door),
        *settings_routes(door, Brands(front.store), front.store),
        *trail_routes(door.trail),
        *webhook_pages(front.hook_desk),
        *playbook_pages(front.desk),
        *drafting_pages(front.desk, front.trying, door.trail),
        *trial_pages(front.desk, front.trying),
        *provider_pages(front.store, carriers_of(front.providers, front.channels)),
        *glossary_pages(),
    ]
