"""Switches traces on for as long as a platform runs, where the settings want them."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from orderbell.errors import SettingsInvalid
from orderbell.observe import traces
from orderbell.settings import Settings

CLOSE_WITHIN_S = 5.0
"""How long the last spans may take on their way; a collector that is away must not keep a process from ending."""


@asynccontextmanager
async def open_traces(settings: Settings, role: str) -> AsyncIterator[None]:
    """Trace until the block ends, if `traces_url` is set.

    Raises:
        SettingsInvalid: The address is none, or OpenTelemetry is not installed.
    """
    if not settings.traces_url:
        yield
        return
    tracer = _open(settings, role)
    traces.switch_on(tracer)
    try:
        yield
    finally:
        traces.switch_on(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await asyncio.to_thread(tracer.close)


def _open(settings: Settings, role: str) -> traces.Tracer:
    address = urlsplit(settings.traces_url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        words = "the setting traces_url (ORDERBELL_TRACES_URL) is no address such as http://127.0.0.1:4318/v1/traces"
        raise SettingsInvalid(words)
    try:
        spans = importlib.import_module("orderbell.observe.spans")
    except ImportError as problem:
        words = "traces_url is set, but OpenTelemetry is not installed: pip install 'orderbell[traces]'"
        raise SettingsInvalid(words) from problem
    tracer: traces.Tracer = spans.Spans.to(settings.traces_url, settings.traces_share, role)
    return tracer
