"""All pages of the console that look at orders, people, messages and cases."""

from litestar.types import ControllerRouterHandler

from orderbell.web.console.cases import cases_routes
from orderbell.web.console.desk import Desk
from orderbell.web.console.live import Feed
from orderbell.web.console.messages import messages_routes
from orderbell.web.console.order import order_routes
from orderbell.web.console.orders import orders_routes
from orderbell.web.console.overview import overview_routes
from orderbell.web.console.people import people_pages


def console_routes(desk: Desk, feed: Feed) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in (`web.signed_in.signed_in`).

    `feed` is to be run by whoever made it.
    """
    return [
        *overview_routes(desk, feed), *orders_routes(desk), *order_routes(desk), *people_pages(desk),
        *messages_routes(desk), *cases_routes(desk),
    ]  # fmt: skip
