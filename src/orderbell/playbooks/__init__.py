"""The playbooks that ship (YAML beside this file), and how any playbook is read: file, line and remedy for every fault.

A playbook file may extend a shipped one or a file beside it: mappings are laid over each other key by key, the
rules are joined, and a `null` switches an inherited entry off. Wording files (`wording/LOCALE.yaml`) are laid over
the shipped ones in the same way.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import yaml

from orderbell.core.content import wording_content_problems
from orderbell.core.lint import lint_playbook
from orderbell.core.playbook import Playbook, PlaybookSpec, Problem, compile_playbook
from orderbell.core.turn import Shelf
from orderbell.core.wording import WordingSpec
from orderbell.errors import PlaybookInvalid

SHIPPED = Path(__file__).parent
SHIPPED_NAMES = ("retail", "digital", "consignment")
_DEPTH_MAX = 20  # an alias may hold itself
_Path = tuple[str | int, ...]
_Place = tuple[Path, int]
_Spec = TypeVar("_Spec")


@dataclass(frozen=True, slots=True)
class _Tree:
    """A YAML file as plain values, and where each of them stands."""

    value: Any
    places: dict[_Path, _Place]


def shipped_shelf(default: str = "retail") -> Shelf:
    """The three playbooks that ship, checked."""
    return Shelf({name: load_playbook(SHIPPED / f"{name}.yaml") for name in SHIPPED_NAMES}, default)


def load_shelf(folder: str, default: str = "retail") -> Shelf:
    """The playbooks that ship and those of a folder, checked; one of the same name takes the place of the shipped one.

    An empty `folder` is none. PlaybookInvalid where it is not there, or as `load_playbook`.
    """
    shelf = shipped_shelf(default)
    if not folder:
        return shelf
    files = sorted(Path(folder).expanduser().glob("*.yaml"))
    if not files:
        raise PlaybookInvalid(f"{folder}: there is no folder of this name with playbooks (*.yaml); check playbooks_dir")
    own = [load_playbook(file) for file in files]
    return Shelf(shelf.playbooks | {playbook.name: playbook for playbook in own}, default)


def load_playbook(path: Path) -> Playbook:
    """Read, compile and lint a playbook file.

    PlaybookInvalid lists every problem, one a line: `file:line: what is wrong; what to do`.
    """
    playbook, problems = check_playbook(path)
    if playbook is None or problems:
        raise PlaybookInvalid("\n".join(problems))
    return playbook


def check_playbook(path: Path) -> tuple[Playbook | None, list[str]]:
    """The compiled playbook, if it compiles, and all that is wrong with it, as lines for people."""
    try:
        tree = _read_extended(path, ())
        wordings, places = _read_wordings(path.parent)
    except PlaybookInvalid as wrong:
        return None, [str(wrong)]
    spec = _convert(tree, PlaybookSpec)
    if isinstance(spec, str):
        return None, [spec]
    playbook, problems = compile_playbook(spec, wordings)
    if playbook is not None:
        problems = [*lint_playbook(playbook), *_content(wordings, playbook)]
    return playbook, [_line(problem, tree, places) for problem in problems]


def _content(wordings: Mapping[str, WordingSpec], playbook: Playbook) -> Iterator[Problem]:
    for locale in playbook.wording:
        for found in wording_content_problems(wordings[locale]):
            yield replace(found, path=("wording", locale, *found.path))


def _line(problem: Problem, tree: _Tree, wording_places: Mapping[str, _Tree]) -> str:
    path, source = problem.path, tree
    if path[:1] == ("wording",) and len(path) > 1 and path[1] in wording_places:
        source, path = wording_places[str(path[1])], path[2:]
    file, line = _place(source, path)
    what = ".".join(map(str, problem.path))
    return f"{file}:{line}: {what}: {problem.message}" + (f"; {problem.remedy}" if problem.remedy else "")


def _place(tree: _Tree, path: _Path) -> _Place:
    while path and path not in tree.places:
        path = path[:-1]
    return tree.places[path]


def _read_extended(path: Path, below: tuple[Path, ...]) -> _Tree:
    tree = _read(path)
    parent = tree.value.get("extends") if isinstance(tree.value, dict) else None
    if not parent:
        return tree
    beside = path.parent / f"{parent}.yaml"
    base = beside if beside.exists() and beside != path else SHIPPED / f"{parent}.yaml"
    place = "{}:{}".format(*_place(tree, ("extends",)))
    if base in below:
        raise PlaybookInvalid(f"{place}: the playbook extends itself over {parent!r}; let it extend base in the end")
    if not re.fullmatch(r"[\w-]{1,64}", str(parent)) or not base.exists():
        raise PlaybookInvalid(
            f"{place}: there is no playbook {parent!r} to extend; name base or a file beside this one"
        )
    under = _read_extended(base, (*below, path))
    return _lay_over(under, tree)


def _read(path: Path) -> _Tree:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader)
    except FileNotFoundError:
        raise PlaybookInvalid(f"{path}:1: there is no such file; check the name") from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise PlaybookInvalid(f"{path}:1: the file cannot be read: {wrong}; save it as UTF-8 text") from None
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        said = getattr(wrong, "problem", None) or str(wrong).splitlines()[0]
        raise PlaybookInvalid(
            f"{path}:{line}: this is not YAML: {said}; check the indentation and the quotes"
        ) from None
    places: dict[_Path, _Place] = {}
    if node is None:
        raise PlaybookInvalid(f"{path}:1: the file is empty; begin with `name:` and `extends: base`")
    return _Tree(_plain(node, (), path, places), places)


def _plain(node: yaml.Node, path: _Path, file: Path, places: dict[_Path, _Place]) -> object:
    places[path] = (file, node.start_mark.line + 1)
    if len(path) > _DEPTH_MAX:
        raise PlaybookInvalid(f"{file}:{node.start_mark.line + 1}: this is nested too deeply; write it out flat")
    if isinstance(node, yaml.MappingNode):
        made: dict[str, object] = {}
        for key, value in node.value:
            # YAML 1.1 reads a bare `on` as true; here every key is the text that stands there
            name = str(key.value)
            if name in made:
                raise PlaybookInvalid(f"{file}:{key.start_mark.line + 1}: {name!r} stands here twice; keep one of them")
            made[name] = _plain(value, (*path, name), file, places)
            places[*path, name] = (file, key.start_mark.line + 1)
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), file, places) for index, item in enumerate(node.value)]
    try:
        return cast("object", yaml.SafeLoader("").construct_object(node))
    except (yaml.YAMLError, ValueError):
        said = f"{str(node.value)[:60]!r} cannot be read as {node.tag.rpartition(':')[2]}"
        raise PlaybookInvalid(f"{file}:{node.start_mark.line + 1}: {said}; put it in quotes to mean a text") from None


def _lay_over(under: _Tree, over: _Tree) -> _Tree:
    places = dict(under.places)

    def merge(below: object, above: object, path: _Path, source: _Path) -> object:
        if isinstance(below, dict) and isinstance(above, dict):
            merged = dict(below)
            for name, value in above.items():
                merged[name] = merge(below.get(name), value, (*path, name), (*source, name))
            places[path] = over.places[source]
            return merged
        if path == ("rules",) and isinstance(below, list) and isinstance(above, list):
            for index, item in enumerate(above):
                merge(None, item, (*path, len(below) + index), (*source, index))
            return below + above
        for found, place in over.places.items():
            if found[: len(source)] == source:
                places[*path, *found[len(source) :]] = place
        return above

    return _Tree(merge(under.value, over.value, (), ()), places)


def _read_wordings(folder: Path) -> tuple[dict[str, WordingSpec], dict[str, _Tree]]:
    trees = {path.stem: _read(path) for path in sorted((SHIPPED / "wording").glob("*.yaml"))}
    if folder.resolve() != SHIPPED.resolve():
        for path in sorted((folder / "wording").glob("*.yaml")):
            own = _read(path)
            trees[path.stem] = _lay_over(trees[path.stem], own) if path.stem in trees else own
    specs: dict[str, WordingSpec] = {}
    for locale, tree in trees.items():
        spec = _convert(tree, WordingSpec)
        if isinstance(spec, str):
            raise PlaybookInvalid(spec)
        specs[locale] = spec
    return specs, trees


def _convert(tree: _Tree, kind: type[_Spec]) -> _Spec | str:
    try:
        return msgspec.convert(tree.value, kind)
    except msgspec.ValidationError as wrong:
        text, _, where = str(wrong).partition(" - at `$")
        path = _exact(tree.value, kind, where.rstrip("`"), str(wrong))
        file, line = _place(tree, path)
        name = ".".join(map(str, path)) or "the file"
        return f"{file}:{line}: {name}: {text[:1].lower()}{text[1:]}; see the schema (`orderbell playbook schema`)"


def _exact(tree: object, kind: type[_Spec], where: str, wrong: str) -> _Path:
    """The path that msgspec means, which writes `[...]` for the key of a mapping: the one that is wrong alone."""
    path: list[str | int] = []
    for part in re.findall(r"\[\d+\]|\[\.\.\.\]|[^.\[\]]+", where):
        if part == "[...]":
            keys = _mapping_at(tree, path)
            path.append(next((key for key in keys if _is_wrong(_alone(tree, path, key), kind, wrong)), ""))
        else:
            path.append(int(part[1:-1]) if part.startswith("[") else part)
    return tuple(path)


def _mapping_at(tree: Any, path: Sequence[str | int]) -> dict[str, object]:  # noqa: ANN401 - a tree of YAML
    for step in path:
        tree = tree[step]
    return cast("dict[str, object]", tree)


def _alone(tree: Any, path: Sequence[str | int], key: str) -> object:  # noqa: ANN401 - a tree of YAML
    """The tree with no other key than this one in the mapping at `path`."""
    if not path:
        return {key: tree[key]}
    changed = tree.copy()
    changed[path[0]] = _alone(tree[path[0]], path[1:], key)
    return changed


def _is_wrong(value: object, kind: type[_Spec], wrong: str) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as found:
        return str(found) == wrong
    return False
