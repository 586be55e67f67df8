"""Fixtures of the tests of the application."""

from tests.database import blank_database, database, database_server

__all__ = ["blank_database", "database", "database_server"]
