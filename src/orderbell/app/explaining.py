"""Explanations: the facts of the database told by `orderbell.insight.explain`, for the API and the command line."""

import os
from collections.abc import Awaitable, Callable, Mapping

from rich.console import Console
from rich.text import Text

from orderbell.app.database import open_database, open_store
from orderbell.core.turn import Shelf
from orderbell.errors import OrderBellError
from orderbell.insight.explain import Explanation, explain_contact, explain_order, quoted
from orderbell.insight.words import locale_of, read_words
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.dossier import Archive
from orderbell.store.postgres import Store
from orderbell.store.tenants import read_shelves

STYLES = {"event": "cyan", "anomaly": "red", "sent": "green", "held": "yellow", "dropped": "magenta"}


class Explainer:
    """Explains orders and people of any tenant; `language` is a tag or an `Accept-Language` header."""

    def __init__(self, store: Store, shelf_of: Callable[[str], Awaitable[Shelf]]) -> None:
        self._store, self._shelf_of = store, shelf_of

    async def order(
        self, tenant: str, order_no: str, language: str = "", person: str = "", topic: str = ""
    ) -> Explanation | None:
        """Explain an order, or what one of its people was told of a topic; None where the tenant has no such order."""
        dossier = await Archive(self._store, tenant).of_order(order_no)
        if dossier is None:
            return None
        words = read_words(locale_of(language))
        return explain_order(dossier, await self._shelf_of(tenant), words, person=person, topic=topic)

    async def contact(
        self, tenant: str, contact: str, language: str = "", topic: str = "", limit: int = 50
    ) -> Explanation | None:
        """Explain the last notices of a person, over all orders; None where the tenant knows nobody of this id."""
        dossier = await Archive(self._store, tenant).of_contact(contact, topic, limit)
        if dossier is None:
            return None
        words = read_words(locale_of(language))
        return explain_contact(dossier, await self._shelf_of(tenant), words, topic=topic)


async def explain(
    settings: Settings, order_no: str, *, tenant: str = "", person: str = "", topic: str = "", language: str = ""
) -> Explanation:
    """Explain an order from the command line.

    Raises:
        OrderBellError: There is no such order, no such tenant, or several tenants and none is named.
    """
    shelf = load_shelf(settings.playbooks_dir)
    async with open_database(settings) as dsn, open_store(dsn, settings, 1) as store:
        shelves = await read_shelves(store.pool, shelf.playbooks)
        tenant = tenant or _only(shelves)
        if tenant not in shelves:
            raise OrderBellError(f"there is no tenant {tenant!r}; {_known(shelves)}")

        async def shelf_of(tenant: str) -> Shelf:
            return shelves[tenant]

        made = await Explainer(store, shelf_of).order(tenant, order_no, language, person, topic)
    if made is None:
        raise OrderBellError(f"the tenant {tenant!r} has no order {order_no!r}; check the number and --tenant")
    return made


def show_story(console: Console, story: Explanation, language: str) -> None:
    """Print a story: what went wrong and what was not sent stands out, the words that went out stand back."""
    for title in story.title:
        console.print(Text(title, "bold" if title is story.title[0] else ""), soft_wrap=True)
    for line in story.lines:
        console.print(Text(line.text, STYLES.get(line.fate or line.kind, "")), soft_wrap=True)
        for words in quoted(line, read_words(locale_of(language))):
            console.print(Text(words, "dim"), soft_wrap=True)
    if story.answer:
        console.print(Text(story.answer, "bold"), soft_wrap=True)


def language_of_terminal() -> str:
    """The language that the user's environment asks for."""
    return os.environ.get("LC_ALL") or os.environ.get("LANG", "")


def _only(shelves: Mapping[str, Shelf]) -> str:
    if len(shelves) != 1:
        raise OrderBellError(f"name a tenant with --tenant; {_known(shelves)}")
    return next(iter(shelves))


def _known(shelves: Mapping[str, Shelf]) -> str:
    return f"known: {', '.join(sorted(shelves))}" if shelves else "there is none yet: `orderbell key new NAME` adds one"
