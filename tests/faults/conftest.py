"""The database fixtures, for the tests of this folder."""

from tests.database import blank_database, database, database_server, store

__all__ = ["blank_database", "database", "database_server", "store"]
