"""The scenarios that come beside the repository hold on both hosts."""

from datetime import datetime
from pathlib import Path

import pytest

from orderbell.app.history import simulate
from orderbell.app.virtual import VirtualHost
from orderbell.channels.protocol import Channel
from orderbell.core.turn import Shelf
from orderbell.insight.scenarios import TENANT, Host, Scenario, read_scenarios, run_scenario
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.faults import Faults
from orderbell.store.postgres import Store
from tests.sandbox_server import RunningSandbox

FOLDER = Path(__file__).parents[2].parent / "shared" / "scenarios"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
needs_scenarios = pytest.mark.skipif(not FOLDER.exists(), reason="the scenarios are not beside the repository")


def _scenarios() -> list[Scenario]:
    return [scenario for name in FILES for scenario in read_scenarios(FOLDER / name)] if FOLDER.exists() else []


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The playbooks that ship."""
    return shipped_shelf()


@needs_scenarios
@pytest.mark.parametrize("name", FILES)
async def test_scenarios_hold_in_memory(name: str, shelf: Shelf) -> None:
    """Every expectation of every scenario holds on the in-memory host."""
    reports = await simulate([FOLDER / name], shelf)
    assert reports
    assert not {report.scenario.id: report.failures for report in reports if report.failures}


@needs_scenarios
@pytest.mark.parametrize("scenario", _scenarios(), ids=lambda scenario: f"{scenario.id} {scenario.says[:30]}")
async def test_scenario_holds_on_postgres(
    scenario: Scenario, shelf: Shelf, store: Store, channel: Channel, sandbox: RunningSandbox
) -> None:
    """Every expectation holds on PostgreSQL, with the dispatcher and a provider, under a virtual clock."""
    hosts: list[VirtualHost] = []

    async def open_host(scenario: Scenario, start: datetime) -> Host:
        for silent in scenario.without_receipts:
            await sandbox.set_faults(Faults(lose_receipts=1, only_channel=silent))
        hosts.append(VirtualHost(store, {TENANT: shelf}, [channel], start=start))
        return hosts[0]

    try:
        report = await run_scenario(scenario, shelf, open_host)
    finally:
        for host in hosts:
            await host.close()
    assert not report.failures
