"""Stories for the console: what `orderbell.insight.explain` says, in the form that its pages are made of."""

from orderbell.core.calendar import zone_of
from orderbell.core.turn import Shelf
from orderbell.insight.explain import Explanation, explain_contact, explain_order
from orderbell.insight.reasons import Line
from orderbell.insight.words import Words, capital, read_words
from orderbell.store.dossier import Dossier
from orderbell.web.console import stories


class StoryTeller:
    """Tells the stories of orders and people (`orderbell.web.console.stories.Stories`)."""

    def order(self, dossier: Dossier, shelf: Shelf, locale: str) -> stories.Story:
        """Tell of an order."""
        words = read_words(locale)
        return _story(explain_order(dossier, shelf, words), words)

    def contact(self, dossier: Dossier, shelf: Shelf, locale: str) -> stories.Story:
        """Tell of the last notices of a person."""
        words = read_words(locale)
        return _story(explain_contact(dossier, shelf, words), words)


def _story(told: Explanation, words: Words) -> stories.Story:
    return stories.Story(tuple(_line(line, told.zone, words) for line in told.lines), told.answer)


def _line(line: Line, zone: str, words: Words) -> stories.Line:
    # A page says the time of a line beside it, by the clock of whoever looks.
    said = line.happened or line.text
    if line.kind != "notice":
        said = capital(said.removeprefix(words.time(line.at, zone_of(zone))).lstrip(": "))
    sent = tuple(
        stories.Sending(one.channel, one.status, one.told_at, one.text, one.subject, one.settled_at, one.id)
        for one in line.sent
    )
    return stories.Line(
        line.at, line.kind, line.name, line.what, said, line.why, line.order_no, line.role, line.contact, line.who,
        line.fate, line.reason, line.until, sent, line.cause, line.ended,
    )  # fmt: skip
