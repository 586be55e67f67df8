"""Work that is done again and again, whatever becomes of it."""

import asyncio

import pytest
import structlog

from orderbell.app.repeating import repeat
from orderbell.errors import DatabaseUnavailable


async def test_work_goes_on_after_whatever_failed() -> None:
    """A database that is away, and a mistake of ours, must cost that time alone; the mistake must be heard of."""
    went_on = asyncio.Event()
    failures: list[Exception] = [DatabaseUnavailable("away"), KeyError("a mistake")]

    async def work() -> None:
        if failures:
            raise failures.pop(0)
        went_on.set()

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(repeat(work, 0, "looking for tenants"))
        await asyncio.wait_for(went_on.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(one["log_level"], one["name"]) for one in logs] == [("error", "looking for tenants")]
