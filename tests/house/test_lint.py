"""The house passes its own linter and formatter."""

from tests.house.tree import code_folders, run_tool


def test_ruff_finds_nothing() -> None:
    """Every rule of ruff holds except those that pyproject.toml switches off with a reason."""
    run_tool("-m", "ruff", "check", "--quiet", *code_folders())


def test_code_is_formatted() -> None:
    """All code is as `make format` leaves it."""
    run_tool("-m", "ruff", "format", "--check", *code_folders())
