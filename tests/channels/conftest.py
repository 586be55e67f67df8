"""Gives every rig in turn."""

import importlib
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.channels.situations import Rig

NAMES = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent / "rigs")]))


@pytest.fixture(params=NAMES)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Give each provider in turn."""
    module = importlib.import_module(f"tests.channels.rigs.{request.param}")
    async with module.rig(tmp_path) as made:
        yield made
