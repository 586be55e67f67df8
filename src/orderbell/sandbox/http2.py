"""Serves an ASGI application over HTTP/2, for providers that speak nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app

from orderbell.sandbox.simulator import Receive, Scope, Send
from orderbell.serving import bind, url_of

_SHUTDOWN_S: Final = 0.2


def _ending(app: Any) -> Any:  # noqa: ANN401 - ASGI applications, for which every library has its own type
    """End every answer that an application leaves open.

    Hypercorn would leave its stream open for ever. Ended before all of its bytes came, the answer is broken, as a
    fault of a simulator wants it.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        open_ = False

        async def watch(event: Any) -> None:  # noqa: ANN401 - as above
            nonlocal open_
            open_ = event["type"] == "http.response.start" or event.get("more_body", False)
            await send(event)

        await app(scope, receive, watch)
        if open_:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return run


@contextlib.asynccontextmanager
async def serving_http2(
    app: Any,  # noqa: ANN401 - as above
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    stopping: Callable[[], None] = lambda: None,
    certificate: tuple[Path, Path] | None = None,
) -> AsyncIterator[str]:
    """Serve inside this event loop for as long as the block lasts; gives the address.

    `stopping` is called before the server waits for the requests under way. `certificate` are the PEM files of the
    certificate and its key; without, there is no TLS (RFC 9113 section 3.3).

    Raises:
        OSError: the port is taken or not allowed.
    """
    listener = bind(host, port)
    config = Config()
    config.accesslog = config.errorlog = None
    config.graceful_timeout = _SHUTDOWN_S
    stop = asyncio.Event()
    if certificate is not None:
        config.certfile, config.keyfile = map(str, certificate)
    secure, plain = ([listener], []) if certificate is not None else ([], [listener])
    sockets = Sockets(secure_sockets=secure, insecure_sockets=plain, quic_sockets=[])
    wrapped = wrap_app(_ending(app), config.wsgi_max_body_size, "asgi")
    task = asyncio.create_task(worker_serve(wrapped, config, sockets=sockets, shutdown_trigger=stop.wait))
    try:
        yield url_of(listener).replace("http:", "https:" if certificate is not None else "http:", 1)
    finally:
        stopping()
        stop.set()
        await task
