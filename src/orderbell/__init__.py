"""OrderBell tells people what is happening with their order, and gets what went wrong put right."""

__all__ = ["__version__"]

__version__ = "0.1.0"
