"""Reading one playbook: YAML of a file or of a draft, what it extends under it, its own words over the shipped ones.

Every fault is told with file, line and remedy. What is read may be hostile: it is bounded in size, in depth and in
what its aliases unfold to, before anything is made of it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
import yaml

from orderbell.core.content import wording_content_problems
from orderbell.core.lint import lint_playbook
from orderbell.core.playbook import Playbook, PlaybookSpec, Problem, compile_playbook
from orderbell.core.wording import WordingSpec
from orderbell.errors import PlaybookInvalid

SHIPPED: Final = Path(__file__).parent
WORDING: Final = "wording"
"""The part of a playbook that holds words of its own, by locale."""

DRAFT: Final = Path("draft")
"""How a draft is called where a file would stand."""

DRAFT_BYTES_MAX: Final = 128 * 1024
_NODES_MAX: Final = 10_000
"""Values in one file: four times those of the longest that ships; more is what aliases unfold to."""

_KEY_MAX: Final = 200
_DEPTH_MAX: Final = 20  # an alias may hold itself
_NESTING_MAX: Final = 200  # brackets that the parser of YAML goes into, one call deeper for each

_NUMBER_MAX: Final = 2**53  # JSON holds no greater whole number exactly
_DIGITS_MAX: Final = 40  # a number of a hundred thousand digits takes seconds to read
_NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_UNREAD: Final = object()

_Path = tuple[str | int, ...]
_Place = tuple[Path, int]
_Spec = TypeVar("_Spec")
_LOADER = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader
_is_name = re.compile(r"[\w-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, where in which file (`DRAFT` for a draft), and how to mend it; `where` is the path in the tree."""

    file: Path
    line: int
    where: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """The fault as a line for people."""
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}:{self.line}: {where}{self.message}" + (f"; {self.remedy}" if self.remedy else "")


class _Unreadable(PlaybookInvalid):
    """A fault that keeps the rest from being read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of reading a playbook: it is None where it does not compile; `wordings` are those it speaks with."""

    playbook: Playbook | None
    wordings: Mapping[str, WordingSpec]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Tree:
    """A YAML file as plain values, and where each of them stands."""

    value: Any
    places: dict[_Path, _Place]


def check_file(path: Path) -> Checked:
    """Read, compile and lint a playbook file."""
    try:
        return _check(_extended(_read(path), path, path.parent, ()), path.parent)
    except _Unreadable as wrong:
        return Checked(None, {}, (wrong.fault,))


def check_draft(text: str, folder: str = "") -> Checked:
    """Read, compile and lint what a person wrote, as if it were a file in `folder` (none: beside those that ship).

    It may extend a file of its own name. Never raises, whatever the text is.
    """
    beside = Path(folder).expanduser() if folder else SHIPPED
    try:
        return _check(_extended(_parse(_short_enough(text), DRAFT), DRAFT, beside, ()), beside)
    except _Unreadable as wrong:
        return Checked(None, {}, (wrong.fault,))


def _short_enough(text: str) -> str:
    size = len(text.encode(errors="replace"))
    if size > DRAFT_BYTES_MAX:
        message = f"{size:,} bytes are too long; {DRAFT_BYTES_MAX:,} are taken"
        raise _Unreadable(Fault(DRAFT, 1, "", message, "extend a playbook, and write down only what is other"))
    return text


def _check(tree: _Tree, folder: Path) -> Checked:
    tree, own = _parted(tree)
    wordings, places = _read_wordings(folder, own)
    spec = _convert(tree, PlaybookSpec)
    playbook, problems = compile_playbook(spec, wordings)
    if playbook is not None:
        problems = [*lint_playbook(playbook), *_content(wordings, playbook)]
    return Checked(playbook, wordings, tuple(_fault(problem, tree, places) for problem in problems))


def _content(wordings: Mapping[str, WordingSpec], playbook: Playbook) -> Iterator[Problem]:
    for locale in playbook.wording:
        for found in wording_content_problems(wordings[locale]):
            yield replace(found, path=(WORDING, locale, *found.path))


def _fault(problem: Problem, tree: _Tree, wording_places: Mapping[str, _Tree]) -> Fault:
    path, source = problem.path, tree
    if path[:1] == (WORDING,) and len(path) > 1 and path[1] in wording_places:
        source, path = wording_places[str(path[1])], path[2:]
    return Fault(*_place(source, path), ".".join(map(str, problem.path)), problem.message, problem.remedy)


def _place(tree: _Tree, path: _Path) -> _Place:
    while path and path not in tree.places:
        path = path[:-1]
    return tree.places[path]


def _extended(tree: _Tree, path: Path, folder: Path, below: tuple[Path, ...]) -> _Tree:
    parent = tree.value.get("extends") if isinstance(tree.value, dict) else None
    if not parent:
        return tree
    name = str(parent)
    beside = folder / f"{name}.yaml"
    known = _is_name(name) is not None
    base = beside if known and beside.exists() and beside != path else SHIPPED / f"{name}.yaml"
    place = _place(tree, ("extends",))
    if base in below:
        message = f"the playbook extends itself over {parent!r}"
        raise _Unreadable(Fault(*place, "", message, "let it extend base in the end"))
    if not known or not base.exists():
        message = f"there is no playbook {parent!r:.80} to extend"
        raise _Unreadable(Fault(*place, "", message, "name base or a file beside this one"))
    return _lay_over(_extended(_read(base), base, folder, (*below, path)), tree)


def _read(path: Path) -> _Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _Unreadable(Fault(path, 1, "", "there is no such file", "check the name")) from None
    except (OSError, UnicodeDecodeError) as wrong:
        message = f"the file cannot be read: {wrong}"
        raise _Unreadable(Fault(path, 1, "", message, "save it as UTF-8 text")) from None
    return _parse(text, path)


def _parse(text: str, file: Path) -> _Tree:
    try:
        node = _compose(text, file)
    except (yaml.YAMLError, RecursionError, ValueError) as wrong:
        mark = getattr(wrong, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        said = getattr(wrong, "problem", None) or (str(wrong).splitlines() or ["it cannot be read"])[0]
        message = f"this is not YAML: {said}"
        raise _Unreadable(Fault(file, line, "", message, "check the indentation and the quotes")) from None
    if node is None:
        remedy = "begin with `name:` and `extends: base`"
        raise _Unreadable(Fault(file, 1, "", "the file is empty", remedy))
    places: dict[_Path, _Place] = {}
    return _Tree(_plain(node, (), file, places), places)


def _compose(text: str, file: Path) -> yaml.Node | None:
    """The nodes of a text; its nesting is counted first, because composing calls itself for each level."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _NESTING_MAX:
            raise _too_deep(file, event.start_mark.line + 1 if event.start_mark is not None else 1)
    return yaml.compose(text, Loader=_LOADER)


def _too_deep(file: Path, line: int) -> _Unreadable:
    return _Unreadable(Fault(file, line, "", "this is nested too deeply", "write it out flat"))


def _plain(node: yaml.Node, path: _Path, file: Path, places: dict[_Path, _Place]) -> object:
    line = node.start_mark.line + 1
    places[path] = (file, line)
    if len(path) > _DEPTH_MAX:
        raise _too_deep(file, line)
    if len(places) > _NODES_MAX:
        message = f"there are more than {_NODES_MAX:,} values by here"
        raise _Unreadable(Fault(file, line, "", message, "use fewer aliases, or write less"))
    if isinstance(node, yaml.MappingNode):
        made: dict[str, object] = {}
        for key, value in node.value:
            # YAML 1.1 reads a bare `on` as true; here every key is the text that stands there
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or len(key.value) > _KEY_MAX:
                raise _Unreadable(Fault(file, line, "", "this is no name", "write a short text before the colon"))
            name = key.value
            if name in made:
                raise _Unreadable(Fault(file, line, "", f"{name!r} stands here twice", "keep one of them"))
            made[name] = _plain(value, (*path, name), file, places)
            places[*path, name] = (file, line)
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), file, places) for index, item in enumerate(node.value)]
    try:
        is_long = node.tag in _NUMBERS and len(node.value) > _DIGITS_MAX
        made_of = _UNREAD if is_long else yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError):
        made_of = _UNREAD  # a tag such as !!bool on a text that is none breaks the reader in many ways
    if made_of is _UNREAD or (isinstance(made_of, int) and abs(made_of) > _NUMBER_MAX):
        message = f"{str(node.value)[:60]!r} cannot be read as {node.tag.rpartition(':')[2]}"
        raise _Unreadable(Fault(file, line, "", message, "put it in quotes to mean a text"))
    return cast("object", made_of)


def _lay_over(under: _Tree, over: _Tree) -> _Tree:
    places = dict(under.places)

    def carry(value: object, path: _Path, source: _Path) -> None:
        places[path] = over.places[source]
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, one in inner:
            carry(one, (*path, name), (*source, name))

    def merge(below: object, above: object, path: _Path, source: _Path) -> object:
        if isinstance(below, dict) and isinstance(above, dict):
            merged = dict(below)
            for name, value in above.items():
                merged[name] = merge(below.get(name), value, (*path, name), (*source, name))
            places[path] = over.places[source]
            return merged
        if path == ("rules",) and isinstance(below, list) and isinstance(above, list):
            for index, item in enumerate(above):
                carry(item, (*path, len(below) + index), (*source, index))
            return below + above
        carry(above, path, source)
        return above

    return _Tree(merge(under.value, over.value, (), ()), places)


def _parted(tree: _Tree) -> tuple[_Tree, dict[str, _Tree]]:
    """A playbook without its own words, and these by locale, as if they stood in wording files."""
    if not isinstance(tree.value, dict) or WORDING not in tree.value:
        return tree, {}
    value = {name: found for name, found in tree.value.items() if name != WORDING}
    own = tree.value[WORDING]
    if own is None:
        return _Tree(value, tree.places), {}
    if not isinstance(own, dict):
        remedy = "write locales below it, such as `zh-CN: {texts: …}`"
        raise _Unreadable(Fault(*_place(tree, (WORDING,)), WORDING, "these are no words by locale", remedy))
    found: dict[str | int, dict[_Path, _Place]] = {}
    for path, place in tree.places.items():
        if path[:1] == (WORDING,) and len(path) > 1:
            found.setdefault(path[1], {})[path[2:]] = place
    parts: dict[str, _Tree] = {}
    for locale, words in own.items():
        places = found[locale]
        if not isinstance(words, dict):
            remedy = "write what a wording file would hold, such as `texts:`"
            raise _Unreadable(Fault(*places[()], f"{WORDING}.{locale}", "these are no words", remedy))
        parts[locale] = _Tree(words, places)
    return _Tree(value, tree.places), parts


def _read_wordings(folder: Path, own: Mapping[str, _Tree]) -> tuple[dict[str, WordingSpec], dict[str, _Tree]]:
    trees = {path.stem: _read(path) for path in sorted((SHIPPED / WORDING).glob("*.yaml"))}
    if folder.resolve() != SHIPPED.resolve():
        for path in sorted((folder / WORDING).glob("*.yaml")):
            _lay_words(trees, path.stem, _read(path))
    for locale, tree in own.items():
        _lay_words(trees, locale, tree)
    return {locale: _convert(tree, WordingSpec) for locale, tree in trees.items()}, trees


def _lay_words(trees: dict[str, _Tree], locale: str, over: _Tree) -> None:
    trees[locale] = _lay_over(trees[locale], over) if locale in trees else over


def _convert(tree: _Tree, kind: type[_Spec]) -> _Spec:
    try:
        return msgspec.convert(tree.value, kind)
    except msgspec.ValidationError as wrong:
        text, _, where = str(wrong).partition(" - at `$")
        path = _exact(tree.value, kind, where.rstrip("`"), str(wrong))
        name = ".".join(map(str, path)) or "the file"
        message, remedy = f"{text[:1].lower()}{text[1:]}", "see the schema (`orderbell playbook schema`)"
        raise _Unreadable(Fault(*_place(tree, path), name, message, remedy)) from None


def _exact(tree: object, kind: type[_Spec], where: str, wrong: str) -> _Path:
    """The path that msgspec means, which writes `[...]` for the key of a mapping: the first one that is wrong."""
    path: list[str | int] = []
    for part in re.findall(r"\[\d+\]|\[\.\.\.\]|[^.\[\]]+", where):
        if part == "[...]":
            keys = list(_mapping_at(tree, path))
            # keys are read one after another, so that a mapping that ends before the wrong one is right
            counts = range(1, len(keys) + 1)
            at = bisect_left(counts, 1, key=lambda n: _is_wrong(_only(tree, path, keys[:n]), kind, wrong))
            path.append(keys[at] if at < len(keys) else "")
        else:
            path.append(int(part[1:-1]) if part.startswith("[") else part)
    return tuple(path)


def _mapping_at(tree: Any, path: Sequence[str | int]) -> dict[str, object]:  # noqa: ANN401 - a tree of YAML
    for step in path:
        tree = tree[step]
    return cast("dict[str, object]", tree)


def _only(tree: Any, path: Sequence[str | int], keys: Sequence[str]) -> object:  # noqa: ANN401 - a tree of YAML
    """The tree with no other keys than these in the mapping at `path`."""
    if not path:
        return {key: tree[key] for key in keys}
    changed = tree.copy()
    changed[path[0]] = _only(tree[path[0]], path[1:], keys)
    return changed


def _is_wrong(value: object, kind: type[_Spec], wrong: str) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as found:
        return str(found) == wrong
    return False
