"""How a shop presents itself to its customers: its name, a phone to call, a website, a colour."""

import re
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from orderbell.store.postgres import Store

COLOR: Final = "#0f6e63"
"""The colour of who chose none."""

NAME_LENGTH_MAX: Final = 40
PHONE_LENGTH_MAX: Final = 30
WEBSITE_LENGTH_MAX: Final = 200
CONTRAST_MIN: Final = 4.5
"""White words on the colour must be readable (WCAG 2.2, 1.4.3)."""

_FIND: Final = "SELECT name, phone, website, color FROM brand WHERE tenant = $1"
_SET: Final = """
INSERT INTO brand (tenant, name, phone, website, color, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant) DO UPDATE SET name = $2, phone = $3, website = $4, color = $5, updated_at = $6
"""
_COLOR: Final = re.compile("#[0-9a-f]{6}")
_PHONE: Final = re.compile(r"\+?[0-9][0-9 ()\-]{2,}")


class Brand(Struct, frozen=True):
    """What customers see of a shop; empty where it has not said."""

    name: str = ""
    phone: str = ""
    website: str = ""
    color: str = COLOR


class Brands:
    """The brands of all tenants; every method raises DatabaseUnavailable when PostgreSQL does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def brand_of(self, tenant: str) -> Brand:
        """The brand of a tenant."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_FIND, tenant)
        return Brand(*row) if row is not None else Brand()

    async def set(self, tenant: str, brand: Brand, at: datetime) -> None:
        """Change the brand of a tenant; it must have passed `wrong_fields`."""
        async with self._store.connection() as connection:
            await connection.execute(_SET, tenant, brand.name, brand.phone, brand.website, brand.color, at)


def wrong_fields(brand: Brand) -> dict[str, str]:
    """What is wrong with a brand, a word for each field, such as too_long or not_a_phone."""
    wrong: dict[str, str] = {}
    lengths = {"name": NAME_LENGTH_MAX, "phone": PHONE_LENGTH_MAX, "website": WEBSITE_LENGTH_MAX}
    for field, length_max in lengths.items():
        text = getattr(brand, field)
        if not text.isprintable():
            wrong[field] = "unprintable"
        elif len(text) > length_max:
            wrong[field] = "too_long"
    if brand.phone and not _PHONE.fullmatch(brand.phone):
        wrong.setdefault("phone", "not_a_phone")
    if brand.website and not _is_website(brand.website):
        wrong.setdefault("website", "not_a_url")
    if not _COLOR.fullmatch(brand.color):
        wrong["color"] = "not_a_color"
    elif _contrast_to_white(brand.color) < CONTRAST_MIN:
        wrong["color"] = "too_light"
    return wrong


def _is_website(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    plain = not set(text) & set(" \"'<>\\`")
    return plain and parts.scheme in {"http", "https"} and "." in host and parts.username is None


def _contrast_to_white(color: str) -> float:
    """The contrast ratio as WCAG 2.2 defines it."""
    red, green, blue = (_linear(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def _linear(value: float) -> float:
    low = value <= 0.04045  # noqa: PLR2004 - from the definition of sRGB
    return value / 12.92 if low else float(((value + 0.055) / 1.055) ** 2.4)
