"""`/docs`: the API to look at and to try, drawn by Swagger UI from `/schema/openapi.json`, without any other site."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from orderbell.web.rendering import page, view_of


def api_page_routes() -> list[ControllerRouterHandler]:
    """Make the route."""

    @get("/docs", opt={"public": "the API's description"}, include_in_schema=False, sync_to_thread=False)
    def show_api(request: Request[Any, Any, Any]) -> Response[str]:
        return page("docs.html", view_of(request))

    return [show_api]
