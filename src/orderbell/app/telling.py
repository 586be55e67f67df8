"""Stories for the console: what `orderbell.insight.explain` says, in the form that its pages are made of."""

from msgspec.structs import replace

from orderbell.core.calendar import zone_of
from orderbell.core.story import Line
from orderbell.core.turn import Shelf
from orderbell.insight.explain import Explanation, explain_contact, explain_order
from orderbell.insight.words import Words, capital, read_words
from orderbell.store.dossier import Dossier
from orderbell.web.console.stories import Story


class StoryTeller:
    """Tells the stories of orders and people (`orderbell.web.console.stories.Stories`)."""

    def order(self, dossier: Dossier, shelf: Shelf, locale: str) -> Story:
        """Tell of an order."""
        words = read_words(locale)
        return _story(explain_order(dossier, shelf, words), words)

    def contact(self, dossier: Dossier, shelf: Shelf, locale: str) -> Story:
        """Tell of the last notices of a person."""
        words = read_words(locale)
        return _story(explain_contact(dossier, shelf, words), words)


def _story(told: Explanation, words: Words) -> Story:
    return Story(tuple(_without_time(line, told.zone, words) for line in told.lines), told.answer)


def _without_time(line: Line, zone: str, words: Words) -> Line:
    said = line.happened or line.text
    if line.kind != "notice":
        said = capital(said.removeprefix(words.time(line.at, zone_of(zone))).lstrip(": "))
    return replace(line, happened=said)
