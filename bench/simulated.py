"""The two simulated providers of SMS as a process of their own: `python -m bench.simulated SITE` prints where."""

import asyncio
import signal
import sys

import uvloop

from bench.providers import SIGN, approved, callback_url, templates_of
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox import alibaba, tencent
from orderbell.serving import serving


async def serve(site: str) -> None:
    """Serve both until SIGTERM."""
    _, of_ali, of_tencent = approved(templates_of(shipped_shelf()))
    ali = alibaba.AlibabaSimulator(templates=of_ali, callback_url=callback_url(site, "ali"))
    other = tencent.TencentSimulator(
        templates=of_tencent, signs={SIGN: tencent.Sign()}, callback_url=callback_url(site, "tencent")
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with serving(ali, stopping=ali.end_waiting) as first, serving(other, stopping=other.end_waiting) as second:
        sys.stdout.write(f"Providers at {first},{second}\n")
        sys.stdout.flush()
        await ended.wait()
        await ali.close()
        await other.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
