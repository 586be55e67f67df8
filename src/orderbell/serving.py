"""Serves an ASGI application over HTTP, inside somebody's event loop or as a process of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 64 * 1024
"""What a request may send beside its body: address, headers, trailers. Who sends more is answered 400 and cut off."""

# Longer than clients keep idle connections, so that they close them and not the server: a connection closed
# just as a request comes in looks like a lost answer.
_KEEP_ALIVE_S: Final = 75
_SHUTDOWN_S: Final = 2
_BACKLOG: Final = 2_048
_HEADER_BYTES: Final = 32  # of an empty header, so that a hundred thousand of them cost something


class _Server(uvicorn.Server):
    """A server inside somebody else's process: says when it listens, and leaves the signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to all that is no body: by itself it keeps whatever comes."""

    _head_bytes = 0
    _unread_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_BYTES_MAX:  # the parser still waits for the end of one name or value
            self.transport.close()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._take(len(name) + len(value) + _HEADER_BYTES)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread_bytes = 0
        super().on_message_complete()

    def _take(self, count: int) -> None:
        self._head_bytes, self._unread_bytes = self._head_bytes + count, 0
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("too long a head")  # the parser gives up, and uvicorn answers 400


def _configure(app: Any) -> uvicorn.Config:  # noqa: ANN401 - an ASGI application, for which every library has its own type
    return uvicorn.Config(
        app,
        http=_HttpProtocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,  # nobody needs to know what serves them
        proxy_headers=False,  # what they say is believed only as far as the setting trusted_hops reaches
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Take a port (0 is any free one) and listen on it; a `shared` one may be listened on by other processes too.

    Raises:
        OSError: the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay (40 ms an answer) off only for sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """The address under which a listener is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - see above
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    shared: bool = False,
    stopping: Callable[[], None] = lambda: None,
) -> AsyncIterator[str]:
    """Serve inside this event loop for as long as the block lasts; gives the address.

    A `shared` port may be listened on by several processes of one user, all of which must say so: the system spreads
    the connections over them. `stopping` is called before the server waits for the requests under way.

    Raises:
        OSError: the port is taken or not allowed.
    """
    listener = bind(host, port, shared=shared)
    server = _Server(_configure(app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield url_of(listener)
    finally:
        ready.cancel()
        stopping()
        server.should_exit = True
        await task


async def serve_alone(app: Any, listener: socket.socket) -> None:  # noqa: ANN401 - see above
    """Serve until SIGINT or SIGTERM."""
    await uvicorn.Server(_configure(app)).serve(sockets=[listener])
