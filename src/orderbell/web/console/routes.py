"""All pages of the console that look at orders, people, messages and cases."""

from litestar.types import ControllerRouterHandler

from orderbell.web.console.desk import Desk
from orderbell.web.console.order import order_routes


def console_routes(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in (`web.signed_in.signed_in`)."""
    return [*order_routes(desk)]
