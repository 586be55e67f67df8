"""OrderBell tells people what is happening with their order, and gets what went wrong put right."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderbell.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


if not TYPE_CHECKING:  # or every name would be right to the type checker

    def __getattr__(name: str) -> object:
        """Load the client when it is asked for: the server has no use for it."""
        if name == "Client":
            from orderbell.client import Client  # noqa: PLC0415 - see above

            return Client
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
