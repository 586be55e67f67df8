"""The console's glossary (S2-41): every word that OrderBell uses, Chinese and English side by side, to be searched."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.web.rendering import Hall, hall_of, page, view_of
from orderbell.web.rights import Visitor

FILE: Final = Path(__file__).parents[1] / "glossary.yaml"
QUERY_MAX: Final = 80
TABLES: Final = (
    ("Events · 事件", "events"),
    ("Anomalies · 订单异常", "anomalies"),
    ("Topics · 主题", "topics"),
    ("Channels · 渠道", "channels"),
)
"""Names that stand in tables of their own, by the title of their section."""

_CODE = re.compile(r"`([^`]+)`")


class Term(Struct, frozen=True):
    """A word; `code` and `meaning` are pieces of text, each with whether it is code."""

    english: str
    chinese: str
    code: tuple[tuple[str, bool], ...]
    meaning: tuple[tuple[str, bool], ...]

    def matches(self, wanted: str) -> bool:
        """Whether a folded word stands anywhere in it."""
        said = " ".join((self.english, self.chinese, *(text for text, _ in self.code + self.meaning)))
        return wanted in said.casefold()


class Section(Struct, frozen=True):
    """Words that belong together."""

    title: str
    terms: Sequence[Term]


def glossary_pages() -> list[ControllerRouterHandler]:
    """Make the page; it needs somebody who is signed in (`web.signed_in`)."""

    @get("/console/glossary", opt={"right": "orders:read"})
    async def show_glossary(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], q: FromQuery[str] = ""
    ) -> Response[str]:
        view, wanted = view_of(request, visitor), q.strip()[:QUERY_MAX]
        sections = found_in(all_sections(hall_of(request)), wanted)
        count = sum(len(section.terms) for section in sections)
        return page("glossary.html", view, sections=sections, wanted=wanted, count=count)

    return [show_glossary]


def found_in(sections: Sequence[Section], wanted: str) -> list[Section]:
    """The words that have a text in them somewhere, under their sections."""
    folded = wanted.casefold()
    kept = (Section(one.title, [term for term in one.terms if term.matches(folded)]) for one in sections)
    return [one for one in kept if one.terms]


def all_sections(hall: Hall) -> list[Section]:
    """Every word, those of the tables last."""
    chinese, english = hall.names("zh-CN"), hall.names("en")
    tables = [
        Section(title, [
            Term(name, chinese[table].get(code, code), ((code, True),), ())
            for code, name in english[table].items()
        ])
        for title, table in TABLES
    ]  # fmt: skip
    return [*read_terms(), *tables]


@lru_cache(maxsize=1)
def read_terms() -> tuple[Section, ...]:
    """The words of the file."""
    tree: dict[str, list[list[str]]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(
        Section(title, tuple(Term(row[0], row[1], _pieces(row[2]), _pieces(row[3])) for row in rows))
        for title, rows in tree.items()
    )


def _pieces(text: str) -> tuple[tuple[str, bool], ...]:
    """A text cut where `code` stands in it."""
    return tuple((piece, bool(place % 2)) for place, piece in enumerate(_CODE.split(text)) if piece)
