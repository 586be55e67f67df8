"""The command line: `--help` says what each command does; errors say what to do next and show no traceback."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console

from orderbell import __version__
from orderbell.errors import OrderBellError

R = TypeVar("R")
AS_JSON = typer.Option("--json", help="Print JSON on standard output instead of tables.")
PLAYBOOK = typer.Option("--playbook", help="A playbook file; default: the ones that ship.", exists=True, dir_okay=False)
LIMIT = typer.Option("--limit", min=1, help="Only the first N orders.")

app = typer.Typer(
    name="orderbell",
    help="OrderBell (叮咚) watches orders, notices what goes wrong, and tells the right people in time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
playbooks = typer.Typer(name="playbook", help="Playbooks: check them, see them.", no_args_is_help=True)
keys = typer.Typer(name="key", help="API keys of tenants.", no_args_is_help=True)
app.add_typer(playbooks)
app.add_typer(keys)
out = Console()
err = Console(stderr=True)


def main() -> None:
    """Run the command line; exit code 1 for failures, 2 for wrong use."""
    try:
        app()
    except OrderBellError as problem:
        err.print("[red]Error:[/] ", end="")
        err.print(str(problem), markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run asynchronous work on the quicker event loop, where there is one."""
    import uvloop

    return uvloop.run(work)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"OrderBell {__version__}", highlight=False)


@app.command()
def simulate(
    files: Annotated[list[Path], typer.Argument(help="Scenario files (YAML).", exists=True, dir_okay=False)],
    playbook: Annotated[Path | None, PLAYBOOK] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Run scenarios in memory; print each time line and what failed. Exit code 1 if anything did."""
    from orderbell.app import history, terminal

    reports = run(history.simulate(files, _shelf(playbook)))
    failed = [report for report in reports if report.failures]
    if as_json:
        _print_json(
            [
                {
                    "id": report.scenario.id,
                    "says": report.scenario.says,
                    "passed": not report.failures,
                    "failures": report.failures,
                    "timeline": [[at.total_seconds(), kind, words] for at, kind, words in report.timeline],
                }
                for report in reports
            ]
        )
    else:
        for report in reports:
            terminal.show_report(out, report, timeline=True)
        out.print(f"{len(reports) - len(failed)} of {len(reports)} scenarios hold.", highlight=False)
    if failed:
        raise typer.Exit(1)


@app.command()
def backtest(
    history_dir: Annotated[
        Path, typer.Option("--history", help="A folder of past orders.", exists=True, file_okay=False)
    ],
    playbook: Annotated[Path | None, PLAYBOOK] = None,
    limit: Annotated[int | None, LIMIT] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Decide past orders in memory: what would have been told, when, and at what cost. Needs no database."""
    from orderbell.app import history, terminal

    summary = history.backtest(history_dir, _shelf(playbook), limit, err)
    if as_json:
        _print_json(summary)
    else:
        terminal.show_summary(out, summary, title=f"Backtest of {history_dir.name}")


@app.command()
def replay(
    kind: Annotated[str, typer.Argument(help="What the folder holds; today: olist.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    playbook: Annotated[Path | None, PLAYBOOK] = None,
    limit: Annotated[int | None, LIMIT] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Replay past orders through PostgreSQL and the sandbox, on a virtual clock, as quickly as it goes."""
    from orderbell.app import history, terminal

    tenant, summary = run(history.replay(kind, folder, _shelf(playbook), limit=limit, settings=_settings(), console=err))
    if as_json:
        _print_json(summary)
    else:
        terminal.show_summary(out, summary, title=f"Replay of {folder.name}")
        out.print(f"The orders stay in the database under the tenant [bold]{tenant}[/].", highlight=False)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8471,
    ledger: Annotated[Path, typer.Option(help="Where accepted messages are written.")] = Path("sandbox.jsonl"),
) -> None:
    """Run the sandbox provider: accepts SMS, mail, push and WeChat messages and shows them on a page."""
    from orderbell.sandbox.server import serve

    def announce(url: str) -> None:
        sys.stdout.write(f"The sandbox listens on {url}\n")
        sys.stdout.flush()

    run(serve("127.0.0.1", port, ledger, announce=announce))


@app.command()
def migrate() -> None:
    """Bring the database up to date and say where it is."""
    from orderbell.app.database import open_database
    from orderbell.observe import mask

    async def work() -> str:
        async with open_database(_settings()) as dsn:
            return dsn

    out.print(f"The database is up to date: {mask(run(work()))}", highlight=False, markup=False)


@playbooks.command("lint")
def playbook_lint(
    files: Annotated[list[Path] | None, typer.Argument(help="Playbook files; none: those that ship.")] = None,
) -> None:
    """Check playbooks: names, promises, and that no SMS can exceed its length. Exit code 1 for problems."""
    from orderbell.playbooks import SHIPPED, SHIPPED_NAMES, check_playbook

    failed = False
    for file in files or [SHIPPED / f"{name}.yaml" for name in SHIPPED_NAMES]:
        playbook, problems = check_playbook(file)
        failed = failed or bool(problems)
        for problem in problems:
            out.print(problem, markup=False, highlight=False, soft_wrap=True)
        if playbook is not None and not problems:
            words = f"{len(playbook.notices)} topics, {len(playbook.anomalies)} anomalies, version {playbook.version}"
            out.print(f"[green]✓[/] {file.name}: {words}", highlight=False)
    if failed:
        raise typer.Exit(1)


def _shelf(playbook: Path | None) -> Any:  # noqa: ANN401 - Shelf, imported late
    from orderbell.core.turn import Shelf
    from orderbell.playbooks import load_playbook, shipped_shelf

    if playbook is None:
        return shipped_shelf()
    own = load_playbook(playbook)
    shipped = shipped_shelf()
    return Shelf({**shipped.playbooks, own.name: own}, own.name)


def _settings() -> Any:  # noqa: ANN401 - Settings, imported late
    from orderbell.settings import read_settings

    return read_settings()
