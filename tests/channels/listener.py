"""Hears what a simulated provider calls back with, and passes it to the channel as the site does."""

import contextlib
from collections.abc import AsyncIterator, Callable

from orderbell.channels.protocol import Callback, CallbackRefused, Heard
from orderbell.sandbox.simulator import Answered, Asked, Simulator
from orderbell.serving import serving


class _Listener(Simulator):
    def __init__(self, hear: Callable[[Callback], Heard], heard: list[Heard], base: str) -> None:
        super().__init__()
        self._hear, self._heard, self.base = hear, heard, base

    async def answer(self, asked: Asked) -> Answered:
        query = f"?{asked.query}" if asked.query else ""
        kind = asked.path.strip("/").rpartition("/")[2]
        url = f"{self.base}{asked.path}{query}"
        try:
            heard = self._hear(Callback(asked.method, url, asked.headers, asked.parameters, asked.body, kind))
        except CallbackRefused as refused:
            return Answered(refused.status, str(refused).encode(), "text/plain")
        self._heard.append(heard)
        return Answered(heard.status, heard.answer, heard.content_type)


@contextlib.asynccontextmanager
async def listening(hear: Callable[[Callback], Heard]) -> AsyncIterator[tuple[str, list[Heard]]]:
    """Listen for callbacks; gives the address to call (append `/receipts` or the like) and the list of what was heard."""
    heard: list[Heard] = []
    listener = _Listener(hear, heard, "")
    async with serving(listener, stopping=listener.end_waiting) as url:
        listener.base = url
        yield url, heard
        await listener.close()
