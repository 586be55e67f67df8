"""Spans of requests: an application around the site, only there while traces are switched on."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from orderbell.observe import traces

_GONE = 499
"""The client went away before there was an answer; the status that nginx gives it."""


def traced(app: ASGIApp) -> ASGIApp:
    """An application whose requests are traced."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        tracer = traces.active()
        if scope["type"] == ScopeType.WEBSOCKET or tracer is None:
            await app(scope, receive, send)
            return
        status = _GONE

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracer.request(scope) as answered:
            try:
                await app(scope, receive, watched)
            finally:
                answered(scope.get("path_template") or "none", status)

    return answer
