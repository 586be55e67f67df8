"""The house is fully typed."""

from tests.house.tree import code_folders, run_tool


def test_mypy_strict_finds_nothing() -> None:
    """Package, tests and benchmarks pass mypy --strict."""
    run_tool("-m", "mypy", "--no-error-summary", *code_folders())
