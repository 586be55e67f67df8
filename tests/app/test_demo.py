"""The demo as a newcomer runs it: one command, real messages, a summary, and nothing left behind."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len
from rich.console import Console

from orderbell.app.demo import demo_home, free_port
from orderbell.app.feed import Counters, Line, Screen, plain, shown, told_line
from orderbell.core.events import ChannelName
from orderbell.core.model import Message

ENDS_WITHIN_S = 60
AT = datetime(2026, 3, 2, 6, 5, tzinfo=UTC)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder that the user of root's server can reach, in a path short enough for its socket."""
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def demo(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `orderbell demo` without a terminal."""
    command = [sys.executable, "-m", "orderbell", "demo", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERBELL_")}
    environment |= {"ORDERBELL_PORT": "0", "ORDERBELL_SANDBOX_PORT": "0", "ORDERBELL_DATA_DIR": str(data_dir)}
    environment["PYTHONUNBUFFERED"] = "1"
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def left_of(process: subprocess.Popen[str], data_dir: Path) -> list[str]:
    """What a demo left: processes of its group or in its folder, and files."""
    left = [str(path) for path in (data_dir / "demo").iterdir()]
    for other in psutil.process_iter(["pid", "cwd", "cmdline"]):
        folder = other.info["cwd"] or ""
        if folder.startswith(str(data_dir)):
            left.append(" ".join(other.info["cmdline"] or ()))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 0)
        left.append("a process of its group")
    return left


def test_demo_ends_by_itself_with_a_summary(data_dir: Path) -> None:
    """After its seconds it ends with exit code 0: messages were told and explained, and nothing runs on."""
    process = demo(data_dir, "--seconds", "5", "--orders-per-minute", "120")
    output, errors = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, errors) == (0, "")
    summary = output.partition("Demo summary")[2]
    found = re.search(r"([\d,]+) orders, ([\d,]+) events and ([\d,]+) messages", summary)
    assert found is not None, output
    orders, events, messages = (int(number.replace(",", "")) for number in found.groups())
    assert orders > 3
    assert events > orders
    assert messages > 3
    assert "refused" not in summary
    assert len(re.findall(r" ✉ ", output)) == messages
    assert re.search(r"✉ sms    buyer     138\*\*\*\*\d{4}   D10001 \w+ ← (payment\.succeeded|key\.issued)", output)
    assert re.search(r"● anomaly R\d+ payment_failed: opened, red", output)
    assert "http://127.0.0.1:" in output.partition("✉")[0]
    assert not re.search(r"1380000\d{4}", output), "phones are masked"
    assert CONTROL.search(output) is None
    assert left_of(process, data_dir) == []


def test_demo_interrupted_ends_with_the_same_summary(data_dir: Path) -> None:
    """Ctrl-C is a normal end: summary, exit code 0, no traceback, nothing left."""
    process = demo(data_dir)
    assert process.stdout is not None
    for line in process.stdout:
        if "✉" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
    output, errors = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, errors) == (0, "")
    assert "Demo summary" in output
    assert left_of(process, data_dir) == []


def test_taken_port_is_replaced_and_said() -> None:
    """A port that somebody has is no reason to fail: another is taken, and the user hears of it."""
    console = Console(file=io.StringIO(), width=80)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert free_port("127.0.0.1", port, console, "API") == 0
    assert f"Port {port} is in use" in console.file.getvalue()  # type: ignore[attr-defined]
    assert free_port("127.0.0.1", port, console, "API") == port


def test_folder_of_a_dead_demo_is_cleared_and_of_a_living_one_kept(tmp_path: Path) -> None:
    """What a killed demo left goes with the next one; what runs is left alone."""
    living = demo_home(tmp_path)
    dead = tmp_path / "run-dead"
    dead.mkdir()
    (dead / "sandbox.jsonl").touch()
    other = demo_home(tmp_path)
    assert living.folder.exists()
    assert not dead.exists()
    other.remove()
    living.remove()
    assert list(tmp_path.iterdir()) == []


def message(to: str = "+8613800000042", channel: ChannelName = "sms") -> Message:
    """A long message in Chinese, whose characters are two columns wide."""
    return Message(
        b"m", "demo", "c", channel, to, "payment_failed", "transaction", "critical", "R10001", "您的订单支付未成功" * 12,
        "", (), AT, AT, AT, "sorry", "payment.failed",
    )  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    """However narrow the terminal and wide the characters, a line stays one line."""
    for text in shown(told_line(message(), "consignor"), width):
        assert cell_len(text.plain) <= width
    assert shown(told_line(message(), "consignor"), width)[-1].plain.strip().startswith("您的订单")


def test_plain_line_is_whole() -> None:
    """Without a terminal nothing is cut: who, where, why and every word."""
    line = plain(told_line(message(), "buyer"))
    assert line.startswith("Mon 14:05 ✉ sms    buyer     138****0042   R10001 payment_failed (sorry) ← payment.failed")
    assert line.endswith("您的订单支付未成功" * 12)


@pytest.mark.parametrize(
    ("to", "channel", "expected"),
    [("ann@example.com", "email", "a***@example.com"), ("app-0042", "push", "app****42")],
)
def test_addresses_are_masked(to: str, channel: ChannelName, expected: str) -> None:
    """The feed shows enough to tell people apart, and no more."""
    line = plain(told_line(message(to, channel), "buyer"))
    assert expected in line
    assert to not in line


@pytest.mark.parametrize("width", [80, 120])
def test_panel_fits_the_terminal(width: int) -> None:
    """The figures stand in a panel of whole lines, wide characters and large numbers included."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=24, force_terminal=True, color_system=None)
    counters = Counters(123_456, 0, 98_765, 0, {"red": 1_234, "yellow": 23_456, "green": 345_678}, 1_234, 1_234)
    places = ("API       http://127.0.0.1:8470", "Messages  http://127.0.0.1:8471")
    with Screen(console, "OrderBell 叮咚", places, counters, lambda: AT) as screen:
        screen.show([Line(AT, "●", "red", "anomaly R1 parcel_lost: opened, red")], 0.0)
        console.print(screen._panel())
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in stream.getvalue().splitlines()]
    assert max(cell_len(line) for line in lines) <= width
    assert any("370,368 orders" in line and line.rstrip().endswith("│") for line in lines)
