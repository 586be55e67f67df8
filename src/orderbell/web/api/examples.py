"""Answers as examples, for the API's description; a test holds them against the schema."""

from typing import Any, Final

ORDERS: Final[dict[str, Any]] = {"items": [], "next": ""}
ORDER: Final[dict[str, Any]] = {}
TIMELINE: Final[dict[str, Any]] = {"items": [], "next": ""}
NOTICES: Final[dict[str, Any]] = {"items": [], "next": ""}
MESSAGES: Final[dict[str, Any]] = {"items": [], "next": ""}
MESSAGE: Final[dict[str, Any]] = {}
CASES: Final[dict[str, Any]] = {"items": [{}], "next": ""}
