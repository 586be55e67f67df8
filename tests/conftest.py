"""Fixtures that all tests share: the database server is started once, for whoever asks first."""

from tests.database import blank_database, database, database_server, store

__all__ = ["blank_database", "database", "database_server", "store"]
