"""Fixtures that all tests share: the database server is started once, for whoever asks first.

Laws are tried on the same examples every time and have no deadline, so that a busy machine and chance fail nothing.
`pytest --hypothesis-profile=random` looks for new ones.
"""

import asyncio

import structlog
import uvicorn.server
from hypothesis import HealthCheck, settings

from tests.database import blank_database, database, database_server, store

__all__ = ["blank_database", "database", "database_server", "store"]

_slow = [HealthCheck.too_slow]
settings.register_profile("steady", deadline=None, suppress_health_check=_slow, derandomize=True, database=None)
settings.register_profile("random", deadline=None, suppress_health_check=_slow)
settings.load_profile("steady")

# Where a test has logs shown to people, tracebacks stay plain: pictures of them take seconds, in which transactions end.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


class _Brisk:
    """What uvicorn sees of asyncio: it looks a hundred times a second whether it is to stop, instead of ten times."""

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


vars(uvicorn.server)["asyncio"] = _Brisk()  # 0.15 s of every server
