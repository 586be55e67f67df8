"""Fixtures that all tests share: the database server is started once, for whoever asks first.

Laws are tried on the same examples every time and have no deadline, so that a busy machine and chance fail nothing.
`pytest --hypothesis-profile=random` looks for new ones.
"""

import structlog
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
