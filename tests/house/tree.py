"""Where the house stands, what its files hold, and how its tools are run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "orderbell"


@dataclass(frozen=True)
class Source:
    """One Python file: its path below the root with slashes, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every module that the file imports, wherever in it, as its full dotted name with the line.

        `from a import b` yields `a.b`, because b may be a module: who asks for a prefix finds both.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                home = "." * node.level + (node.module or "")
                yield from ((f"{home}.{alias.name}", node.lineno) for alias in node.names)


@cache
def sources(folder: Path = PACKAGE) -> tuple[Source, ...]:
    """Every Python file below `folder`, parsed, in the order of their paths."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text, str(path))))
    return tuple(found)


def code_folders() -> list[str]:
    """The folders with Python code that are there: `bench` may not be."""
    return [name for name in ("src", "tests", "bench") if (ROOT / name).is_dir()]


def run_tool(*arguments: str) -> None:
    """Run `python ARGUMENTS` in the root; when it fails, the test fails with what was printed."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"python {' '.join(arguments)}\n{done.stdout}{done.stderr}", pytrace=False)
