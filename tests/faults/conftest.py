"""The house with one queue, from the tests of dispatch: its messages are what is let die here as well."""

from tests.dispatch.conftest import disarmed, house, rented

__all__ = ["disarmed", "house", "rented"]
