"""What is wrong with a playbook, in Chinese: a catalogue of the sentences of its checks.

Checks speak English, to the command line and the API. The console looks each of their sentences up in `faults.yaml`,
and says those that stand there in Chinese; another one stays as it is.

::

    in_chinese("nothing leads to the stage 'lost'")  # 没有规则会走到阶段「lost」

Whatever stands in a sentence may be hostile. It is compared from left to right without a step back, so that the time
grows with its length alone, and it is filled in as it is: who shows it escapes it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any, Final

import yaml

LENGTH_MAX: Final = 2000
"""A longer sentence stays as it is."""

SENTENCES: Final = ("sentences", "forms", "yaml", "python")
"""The parts of the catalogue that hold sentences: those of the code, and those of the readers that it asks."""

WHOLE: Final = "the file"
"""Where a fault is that has no place of its own; any other place is a path of keys, and stays as it is."""

FILE: Final = Path(__file__).with_name("faults.yaml")
_DEPTH_MAX: Final = 3  # a condition says what its reader said, at a column
_SENTENCE: Final = "sentence"
_has_quotes = re.compile("""(['"]).*""", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for a value: its name, and whether the value stands in the quotes that Python puts around texts."""

    name: str
    quoted: bool = False

    @property
    def choice(self) -> str:
        """Under which name its words stand in `choices`, if they do."""
        return self.name.partition("_")[0]


Parts = tuple[tuple[str, Hole | None], ...]
"""A template: each piece of text with the hole behind it; the last one may have none."""


@dataclass(frozen=True, slots=True)
class _Template:
    literals: tuple[str, ...]  # one more than holes
    holes: tuple[Hole, ...]
    chinese: Parts

    @property
    def is_around(self) -> bool:
        """Whether it says more behind another sentence, which takes as much as it can then."""
        return not self.literals[0] and self.holes[0].name == _SENTENCE

    def values_in(self, sentence: str) -> dict[str, str] | None:
        """What stands in the holes if the sentence is one of this template; in each as little as can be."""
        first, *middle, last = self.literals
        at, end = len(first), len(sentence) - len(last)
        if at > end or not sentence.startswith(first) or not sentence.endswith(last):
            return None
        inner = sentence[at:end]
        values = _before(inner, middle) if self.is_around else _between(inner, middle)
        if values is None:
            return None
        return {
            hole.name: _unquoted(value) if hole.quoted else value
            for hole, value in zip(self.holes, values, strict=True)
        }


def _between(text: str, literals: Sequence[str]) -> list[str] | None:
    values: list[str] = []
    for literal in literals:
        value, found, text = text.partition(literal)
        if not found:
            return None
        values.append(value)
    return [*values, text]


def _before(text: str, literals: Sequence[str]) -> list[str] | None:
    """As `_between`, from behind."""
    values: list[str] = []
    for literal in reversed(literals):
        text, found, value = text.rpartition(literal)
        if not found:
            return None
        values.insert(0, value)
    return [text, *values]


@dataclass(frozen=True, slots=True)
class _Catalogue:
    whole: Mapping[str, str]  # sentences without a hole
    templates: tuple[_Template, ...]  # those around another sentence first, then those with the most text of their own
    lists: Mapping[str, Mapping[str, str]]


def said(sentence: str, locale: str) -> str:
    """A sentence of the checks in the language of who looks."""
    return in_chinese(sentence) if locale == "zh-CN" else sentence


def in_chinese(sentence: str) -> str:
    """A sentence of the checks in Chinese; one that the catalogue does not have, or far too long, as it is."""
    return _said(sentence, 1) if len(sentence) <= LENGTH_MAX else sentence


def parts_of(template: str) -> Parts:
    """Read a template; braces that are meant are doubled."""
    return tuple(
        (text, Hole(name, conversion == "r") if name is not None else None)
        for text, name, _, conversion in Formatter().parse(template)
    )


@lru_cache(maxsize=1024)
def _said(sentence: str, depth: int) -> str:
    catalogue = _catalogue()
    if sentence in catalogue.whole:
        return catalogue.whole[sentence]
    for template in catalogue.templates:
        values = template.values_in(sentence)
        if values is not None:
            return "".join(_filled(template, values, depth))
    return sentence


def _filled(template: _Template, values: Mapping[str, str], depth: int) -> Iterator[str]:
    lists = _catalogue().lists
    for text, hole in template.chinese:
        yield text
        if hole is None:
            continue
        value = values[hole.name]
        if hole.name in lists:
            value = "、".join(lists[hole.name].get(one, one) for one in value.split(", "))
        elif hole.name == _SENTENCE and depth < _DEPTH_MAX:
            value = _said(value, depth + 1)
        yield value


def _unquoted(value: str) -> str:
    """A text without the quotes of Python; the second one may have been cut off."""
    return value[1:].removesuffix(value[0]) if _has_quotes(value) else value


@lru_cache(maxsize=1)
def _catalogue() -> _Catalogue:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    made = [
        template
        for part in SENTENCES
        for english, chinese in read[part].items()
        for template in _templates(english, chinese, read["choices"])
    ]
    whole = {one.literals[0]: "".join(text for text, _ in one.chinese) for one in made if not one.holes}
    templates = [template for template in made if template.holes]
    templates.sort(key=lambda one: (not one.is_around, -sum(map(len, one.literals))))
    return _Catalogue(whole, tuple(templates), read["lists"])


def _templates(english: str, chinese: str, choices: Mapping[str, Mapping[str, str]]) -> Iterator[_Template]:
    """One template for each way to fill its holes of `choices`, whose words are text like any other then."""
    parts, chinese_parts = parts_of(english), parts_of(chinese)
    chosen = [hole for _, hole in parts if hole is not None and hole.choice in choices]
    for pairs in product(*(choices[hole.choice].items() for hole in chosen)):
        words = {hole.name: pair for hole, pair in zip(chosen, pairs, strict=True)}
        literals, holes = [""], []
        for text, hole in parts:
            literals[-1] += text
            if hole is not None and hole.name in words:
                literals[-1] += words[hole.name][0]
            elif hole is not None:
                holes.append(hole)
                literals.append("")
        filled = tuple(
            (text + words[hole.name][1], None) if hole is not None and hole.name in words else (text, hole)
            for text, hole in chinese_parts
        )
        yield _Template(tuple(literals), tuple(holes), filled)
