"""A playbook as YAML again, the whole of it, and what differs between two of them line by line."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
import yaml
from msgspec import Struct

from orderbell.core.playbook import PlaybookSpec
from orderbell.core.wording import WordingSpec

CONTEXT_LINES = 3
_WIDTH = 110
_COMPARED_MAX = 3_000_000
"""How many pairs of equal lines are looked at, about a second; texts full of the same line would take hours."""

_DUMPER = yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper


class DiffLine(Struct, frozen=True):
    """A line of a difference: taken away, added, or the same on both sides; a gap begins each place.

    `old` and `new` are the numbers of the line on either side, 0 where it is not there. The text of a gap says where
    in the tree the place is, such as `notices › shipped`.
    """

    kind: Literal["gone", "new", "same", "gap"]
    text: str
    old: int = 0
    new: int = 0


def as_yaml(spec: PlaybookSpec, wordings: Mapping[str, WordingSpec]) -> str:
    """All rules and words of a playbook, with what it extends laid under it already."""
    tree = {name: value for name, value in msgspec.to_builtins(spec).items() if name != "extends"}
    tree["wording"] = {locale: msgspec.to_builtins(words) for locale, words in sorted(wordings.items())}
    text: str = yaml.dump(tree, Dumper=_DUMPER, allow_unicode=True, sort_keys=False, width=_WIDTH)
    return text


def difference(old: str, new: str) -> list[DiffLine]:
    """What differs between two texts, with a few lines around each place; empty where nothing does."""
    return list(_lines(old.splitlines(), new.splitlines()))


class _Matcher(difflib.SequenceMatcher[str]):
    """Finds what two lists of lines share, as long as it takes no more than `_COMPARED_MAX`; the rest counts as other.

    Without a bound the time grows with the third power of how often a line stands there.
    """

    def __init__(self, old: list[str], new: list[str]) -> None:
        super().__init__(None, old, new, autojunk=False)
        self._old, self._often, self._left = old, Counter(new), _COMPARED_MAX

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        self._left -= sum(self._often[line] for line in self._old[alo:ahi])
        return super().find_longest_match(alo, ahi, blo, bhi) if self._left >= 0 else difflib.Match(alo, blo, 0)


def _lines(old: list[str], new: list[str]) -> Iterator[DiffLine]:
    matcher = _Matcher(old, new)
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        changed = next(found for found in group if found[0] != "equal")
        yield DiffLine("gap", _where(old, changed[1]) if changed[1] < changed[2] else _where(new, changed[3]))
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                for step in range(old_to - old_from):
                    yield DiffLine("same", old[old_from + step], old_from + step + 1, new_from + step + 1)
                continue
            for place in range(old_from, old_to):
                yield DiffLine("gone", old[place], old=place + 1)
            for place in range(new_from, new_to):
                yield DiffLine("new", new[place], new=place + 1)


def _where(lines: list[str], place: int) -> str:
    """The names above a line of YAML, from its indentation."""
    names: list[str] = []
    depth = _depth(lines[place])
    for line in reversed(lines[:place]):
        if _depth(line) < depth and line.rstrip().endswith(":"):
            depth = _depth(line)
            names.append(line.strip(" -'\":"))
    return " › ".join(reversed(names))


def _depth(line: str) -> float:
    """How deep a line stands; items of a list stand between their name and what is below it."""
    bare = line.lstrip(" ")
    return len(line) - len(bare) + (0.5 if bare.startswith("- ") else 0)
