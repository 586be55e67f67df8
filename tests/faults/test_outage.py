"""One of two providers of SMS fails while messages flow: everybody is told within seconds, and nobody twice."""

import asyncio

from bench.outage import Outcome, outage
from orderbell.store.postgres import Store
from tests.database import VAULT, DatabaseServer

BROKEN_S = 4.0
PER_S = 20
SCENARIOS = (
    "500 with its error code",
    "500 without a word",
    "takes it, never answers",
    "answers after 2.5 s",
    "200 with an error code",
    "gives no receipts",
)


async def test_nobody_is_left_out(database_server: DatabaseServer) -> None:
    """Ten seconds after it was due, every message must have reached a provider, and none of them two.

    All scenarios run at once, each with a database, two providers and a dispatcher of its own.
    """

    async def played(scenario: str, name: str) -> Outcome:
        store = await Store.open(database_server.dsn_for(name), VAULT, connections=4)
        try:
            return await outage(store, scenario, broken_s=BROKEN_S, per_s=PER_S)
        finally:
            await store.close()

    names = [await asyncio.to_thread(database_server.create, database_server.template) for _ in SCENARIOS]
    try:
        found = await asyncio.gather(*map(played, SCENARIOS, names))
    finally:
        for name in names:
            await asyncio.to_thread(database_server.drop, name)
    assert {one.messages for one in found} == {BROKEN_S * PER_S}
    assert [(one.scenario, one.unsent, one.twice) for one in found] == [(name, 0, 0) for name in SCENARIOS], found
