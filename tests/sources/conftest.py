"""Fixtures for tests of the ways in."""

from tests.database import database, database_server, store

__all__ = ["database", "database_server", "store"]
