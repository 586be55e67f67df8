"""What a process does beside its work, again and again: looking whether something is new, throwing old things away."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count

log = structlog.get_logger()


async def repeat(work: Callable[[], Awaitable[object]], every_s: float, name: str) -> None:
    """Do some work every so often until cancelled, the first time after a pause.

    A database that is away is waited for. Whatever else goes wrong is logged under `name` and tried again: a process
    must not go on for weeks without it because it failed once.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            await work()
        except DatabaseUnavailable:
            count("repeat.waits")
        except Exception:
            log.exception("work beside failed", name=name)
            count("repeat.failed")
