"""The limits of size and naming that keep the house readable."""

import ast
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from tests.house.tree import ROOT, Source, code_folders, sources

FUNCTION_LINES_MAX = 70
FUNCTION_LINES_P95_MAX = 35
FILE_LINES_MAX = 800
DOCUMENTED_SHARE_MIN = 0.95
# Names under which anything could be put.
EMPTY_NAMES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
# What ties a file to one machine or one package index. Put together from halves, so that this file
# itself can be searched.
FOREIGN = re.compile(
    "|".join(
        first + second
        for first, second in (
            (r"(?<![\w.~/-])/wo", r"rk/"),
            ("/tm", r"p/ob\b"),
            ("/opt/py", "pi"),
            ("/opt/", "wheels"),
            ("pypi", r"\.org"),
            ("pythonhosted", r"\.org"),
            ("registry", r"\.npmjs"),
            ("--find", "-links"),
            ("--(extra-)?index", "-url"),
        )
    )
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documentable = ast.Module | ast.ClassDef | Function


def _docstring_lines(node: Function) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def _function_lengths() -> list[tuple[int, str]]:
    """Lines of every function from `def` to its end, docstring and decorators apart, the shortest first."""
    lengths = []
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
                lengths.append((lines, f"{source.path}:{node.lineno} {node.name}"))
    return sorted(lengths)


def test_no_function_is_longer_than_seventy_lines() -> None:
    """A function fits on a screen."""
    assert [found for found in _function_lengths() if found[0] > FUNCTION_LINES_MAX] == []


def test_nearly_all_functions_are_short() -> None:
    """Nineteen functions of twenty have at most thirty-five lines."""
    lengths = _function_lengths()
    if not lengths:
        pytest.skip("there are no functions yet")
    p95 = lengths[math.ceil(len(lengths) * 0.95) - 1][0]
    longest = [found for found in lengths if found[0] > FUNCTION_LINES_P95_MAX]
    assert p95 <= FUNCTION_LINES_P95_MAX, f"p95 is {p95} lines; too long: {longest}"


def test_no_file_is_longer_than_eight_hundred_lines() -> None:
    """A file holds one subject."""
    files = [source for name in code_folders() for source in sources(ROOT / name)]
    lengths = {source.path: source.text.count("\n") for source in files}
    assert {path: count for path, count in lengths.items() if count > FILE_LINES_MAX} == {}


def test_rooms_have_telling_names() -> None:
    """No module or folder has a name under which anything could be put."""
    wrong = [
        source.path
        for source in sources()
        if EMPTY_NAMES.intersection(PurePosixPath(source.path).with_suffix("").parts)
    ]
    assert wrong == []


def _public(source: Source) -> Iterator[tuple[str, Documentable]]:
    """The module, its public functions and classes, and the public methods of those classes."""
    yield source.path, source.tree
    for node in _public_definitions(source.tree):
        yield f"{source.path}:{node.lineno} {node.name}", node
        for method in _public_definitions(node) if isinstance(node, ast.ClassDef) else ():
            yield f"{source.path}:{method.lineno} {node.name}.{method.name}", method


def _public_definitions(owner: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    for node in owner.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[0] != "_":
            yield node


def test_public_things_are_documented() -> None:
    """At least ninety-five of a hundred public modules, classes and functions say what they are for."""
    public = [found for source in sources() for found in _public(source)]
    silent = [where for where, node in public if ast.get_docstring(node) is None]
    share = 1 - len(silent) / len(public)
    assert share >= DOCUMENTED_SHARE_MIN, f"{share:.1%} documented; silent: {silent}"


def test_files_name_no_machine_and_no_index() -> None:
    """Nothing that git would keep names a folder of one machine or a package index."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git cannot list the files here: {error}")
    wrong = []
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            wrong += [f"{name}: {found.group()}" for found in FOREIGN.finditer(text)]
    assert wrong == []
