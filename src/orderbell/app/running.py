"""Runs a platform until somebody ends it."""

import asyncio
import gc
import signal
from collections.abc import Callable

from orderbell.app.accounts import first_run_path
from orderbell.app.platform import open_platform
from orderbell.settings import Settings


async def run_platform(settings: Settings, *, web: bool, worker: bool, announce: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; `announce` hears where it can be reached once it can."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with open_platform(settings, web=web, worker=worker) as platform:
        if platform.sandbox_url:
            announce(f"Messages go to the sandbox at {platform.sandbox_url}")
        elif worker and platform.providers:
            names = ", ".join(one.name for one in platform.providers)
            announce(f"Messages go by {names} ({settings.providers_file})")
        # Playbooks and modules live as long as the process: looking through them for garbage again and again would hold
        # up a claim or a request by 0.1 s each time.
        gc.collect()
        gc.freeze()
        announce(f"OrderBell listens on {platform.url}" if platform.url else "OrderBell works")
        path = await first_run_path(platform.store) if platform.url else None
        if path is not None:
            base = settings.public_url.rstrip("/") or platform.url
            announce(f"Nobody has an account yet. Make the owner's here: {base}{path}")
        await ended.wait()
