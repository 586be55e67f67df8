"""The house of the tests of dispatch, and the database fixtures under it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orderbell.observe import arm_failpoints
from orderbell.store.postgres import Store
from tests.database import VAULT, DatabaseServer
from tests.dispatch.rig import House
from tests.sandbox_server import RunningSandbox, running_sandbox


@pytest.fixture(scope="session")
def rented(database_server: DatabaseServer) -> Iterator[str]:
    """The address of a database for all houses, one after the other: most of these tests take less than a copy."""
    name = database_server.create(database_server.template)
    yield database_server.dsn_for(name)
    database_server.drop(name)


@pytest.fixture
async def house(rented: str) -> AsyncIterator[House]:
    """A house whose tables are empty."""
    store = await Store.open(rented, VAULT, connections=12)
    opened = House(store)
    await opened.clear()
    yield opened
    await store.close()


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[RunningSandbox]:
    """A sandbox provider."""
    async with running_sandbox(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """Leave no failpoint armed."""
    yield
    arm_failpoints("")
