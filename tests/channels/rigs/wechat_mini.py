"""The rig of a WeChat mini-program: one permission for each message, and events in JSON."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.channels.rigs.wechat import WeChatRig
from tests.channels.situations import Rig


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run WeChat for one test."""
    made = WeChatRig("mini_program", "json")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
