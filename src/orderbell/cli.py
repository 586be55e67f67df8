"""The command line: `--help` says what each command does; errors say what to do next and show no traceback."""

import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from orderbell import __version__
from orderbell.errors import OrderBellError

R = TypeVar("R")
AS_JSON = typer.Option("--json", help="Print JSON on standard output instead of tables.")
PLAYBOOK = typer.Option("--playbook", help="A playbook file; default: the ones that ship.", exists=True, dir_okay=False)
LOCALE = typer.Option("--locale", help="Only this locale: zh-CN, en.")
PROVIDER = typer.Argument(help="Its name in the file of providers.")
NAME = typer.Argument(help="The name of the account.")
TENANT = typer.Option("--tenant", help="The shop that it is about; a new one is added.")
ROLE = typer.Option("--role", help="owner, operator, agent or viewer.")
HOURS = typer.Option("--hours", min=1, max=720, help="How long the link is good for.")
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
templates = typer.Typer(
    name="templates", help="Texts that providers must approve: docs/templates.md.", no_args_is_help=True
)
sandboxes = typer.Typer(
    name="sandbox",
    help="Run the sandbox provider: accepts SMS, mail, push and WeChat messages and shows them on a page.",
)
accounts = typer.Typer(name="account", help="Accounts of people who use the console.", no_args_is_help=True)
sending = typer.Typer(name="dispatch", help="Sending: how it stands, halt it, let it go on.", no_args_is_help=True)
app.add_typer(playbooks)
app.add_typer(keys)
app.add_typer(accounts)
app.add_typer(templates)
app.add_typer(sandboxes)
app.add_typer(sending)
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
    against: Annotated[str, typer.Option(help="Compare with this playbook: one that ships, or a file.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write the comparison as one HTML page.", dir_okay=False)] = None,
    lang: Annotated[str, typer.Option(help="Of the page: zh or en; default: the playbook's.")] = "",
    limit: Annotated[int | None, LIMIT] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Decide past orders in memory: what would have been told, when, and at what cost. Needs no database.

    With --against: who would be told more or less, sooner or later, where, and at what cost than by another playbook.
    """
    from orderbell.app import history, terminal

    if lang not in ("", "zh", "en"):
        raise typer.BadParameter("write zh or en", param_hint="--lang")
    if html is not None and not against:
        raise typer.BadParameter("a page shows a comparison: add --against retail", param_hint="--html")
    if against:
        before, after = history.contenders(playbook, against)
        comparison = history.compare_backtests(history_dir, before, after, limit, err)
        if html is not None:
            history.write_page(html, comparison, lang)
        if as_json:
            _print_json(comparison)
        else:
            terminal.show_comparison(out, comparison)
        if html is not None:
            err.print(f"The page is {html}", highlight=False, markup=False, soft_wrap=True)
        return
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

    tenant, summary = run(
        history.replay(kind, folder, _shelf(playbook), limit=limit, settings=_settings(), console=err)
    )
    if as_json:
        _print_json(summary)
    else:
        terminal.show_summary(out, summary, title=f"Replay of {folder.name}")
        out.print(f"The orders stay in the database under the tenant [bold]{tenant}[/].", highlight=False)


@app.command()
def up() -> None:
    """Run everything in one process: the way in (web), timers and dispatch (worker). Ends with Ctrl-C or SIGTERM."""
    _run_platform(web=True, worker=True)


@app.command()
def web() -> None:
    """Run only the way in: the HTTP API. Any number of these may share one database."""
    _run_platform(web=True, worker=False)


@app.command()
def worker() -> None:
    """Run only timers and dispatch. Any number of these may share one database."""
    _run_platform(web=False, worker=True)


@sandboxes.callback(invoke_without_command=True)
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8471,
    ledger: Annotated[Path, typer.Option(help="Where accepted messages are written.")] = Path("sandbox.jsonl"),
) -> None:
    """Run the sandbox provider: accepts SMS, mail, push and WeChat messages and shows them on a page."""
    from orderbell.sandbox.server import serve

    if context.invoked_subcommand is not None:
        return

    def announce(url: str) -> None:
        sys.stdout.write(f"The sandbox listens on {url}\n")
        sys.stdout.flush()

    run(serve("127.0.0.1", port, ledger, announce=announce))


@sandboxes.command("providers")
def sandbox_providers(
    folder: Annotated[Path, typer.Option(help="Where providers.toml is written.", file_okay=False)] = Path("rehearsal"),
    port_from: Annotated[int, typer.Option(min=0, max=65000, help="The first of 14 ports; 0: any free ones.")] = 8480,
    public_url: Annotated[
        str, typer.Option("--public-url", help="Where OrderBell hears callbacks.", metavar="URL")
    ] = "http://127.0.0.1:8470",
) -> None:
    """Run every provider simulated on this machine, and write the file that lets OrderBell send through them."""
    from orderbell.app.rehearsal import rehearse

    run(rehearse(folder.resolve(), out, port_from=port_from, public_url=public_url))


@app.command()
def migrate() -> None:
    """Bring the database up to date and say where it is."""
    from orderbell.app.database import open_database
    from orderbell.observe import mask

    async def work() -> str:
        async with open_database(_settings()) as dsn:
            return dsn

    out.print(f"The database is up to date: {mask(run(work()))}", highlight=False, markup=False)


@sending.command("status")
def dispatch_status(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Say whether messages are sent, and what waits."""
    from orderbell.app import sending as subject

    _show_sending(run(subject.look(_settings())), as_json=as_json)


@sending.command("halt")
def dispatch_halt(
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Stop sending on every worker; nothing is lost, everything waits."""
    from orderbell.app import sending as subject

    _show_sending(run(subject.halt(_settings(), reason)), as_json=as_json)


@sending.command("resume")
def dispatch_resume(
    anyway: Annotated[bool, typer.Option("--anyway", help="Even if a provider could not be asked.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Let sending go on; after a restore from a backup, first ask the providers what had been sent.

    It needs the settings of `orderbell up`, above all its file of providers.
    """
    from rich.progress import Progress

    from orderbell.app import sending as subject
    from orderbell.dispatch.reconciling import Reconciled

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("Asking the providers", total=None)
        progress = lambda done, whole: bar.update(task, completed=done, total=whole)  # noqa: E731 - one line
        found = run(subject.resume(_settings(), anyway=anyway, progress=progress))
    if as_json:
        _print_json(found or Reconciled())
    elif found is not None:
        out.print(
            f"Sent before the restore: {found.sent}; never sent: {found.not_sent}; "
            f"cannot be known: {found.unknowable}; not asked: {found.unasked}"
        )
    if found is not None and found.unasked and not anyway:
        err.print(
            f"[red]{found.unasked} messages could not be asked about: their provider does not answer, or is not in the "
            "file of providers.[/] Sending stays halted. Run this again later, or with --anyway to leave them unsent."
        )
        raise typer.Exit(1)
    if not as_json:
        out.print("Sending goes on.")


def _show_sending(state: Any, *, as_json: bool) -> None:  # noqa: ANN401 - State, imported late
    if as_json:
        _print_json(state)
        return
    from orderbell.app.sending import why_halted

    say = partial(out.print, highlight=False, soft_wrap=True)
    backlog = state.backlog
    if state.halted:
        say(f"[red]Halted[/] since {state.since:%Y-%m-%d %H:%M} UTC: {escape(why_halted(state.reason))}")
        say("`orderbell dispatch resume` lets it go on.")
    else:
        say("[green]Sending.[/]")
    say(
        f"Notices due {backlog.due}, pending {backlog.pending}; messages waiting {backlog.queued}, "
        f"in doubt {backlog.unknown}; requests under way {backlog.requests}"
    )
    for one in state.providers:
        until = f" until {one.retry_at:%H:%M:%S} UTC" if one.retry_at is not None else ""
        paused = f"[red]paused{until}[/] ({escape(one.reason or 'failing')})"
        trouble = f"; last trouble: {escape(one.detail)}" if one.detail else ""
        say(f"  {one.provider}: {'[green]well[/]' if one.state == 'closed' else paused}{trouble}")
    if not state.providers:
        say("No worker is sending now: start one with `orderbell up` or `orderbell worker`.")


@playbooks.command("schema")
def playbook_schema() -> None:
    """Print the JSON Schema of playbook files, for editors."""
    from orderbell.core.playbook import PlaybookSpec

    _print_json(msgspec.json.schema(PlaybookSpec))


@keys.command("new")
def key_new(
    tenant: Annotated[str, typer.Argument(help="Whose key; a new tenant is added.")],
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make an API key. It is shown once; only its hash is kept."""
    from orderbell.app import access

    key = run(access.new_key(_settings(), tenant, label))
    out.print(f"The key of {tenant}, shown only now: [bold]{key}[/]", highlight=False, soft_wrap=True)


@keys.command("list")
def key_list(tenant: Annotated[str, typer.Argument(help="Whose keys.")]) -> None:
    """List the keys of a tenant: fingerprint, label, when made and revoked."""
    from orderbell.app import access

    for key in run(access.keys_of(_settings(), tenant)):
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
        out.print(f"{key.fingerprint}  {key.created_at:%Y-%m-%d %H:%M}  {state}  {key.label}", highlight=False)


@keys.command("revoke")
def key_revoke(
    tenant: Annotated[str, typer.Argument(help="Whose key.")],
    fingerprint: Annotated[str, typer.Argument(help="As `orderbell key list` shows it.")],
) -> None:
    """Revoke a key; within five seconds nobody can use it any more."""
    from orderbell.app import access

    if not run(access.revoke(_settings(), tenant, fingerprint)):
        err.print(
            f"{tenant} has no valid key {fingerprint}; `orderbell key list {tenant}` shows them.", highlight=False
        )
        raise typer.Exit(1)
    out.print("Revoked.")


@accounts.command("add")
def account_add(
    name: Annotated[str, NAME],
    tenant: Annotated[str, TENANT],
    role: Annotated[str, ROLE] = "viewer",
    hours: Annotated[int, HOURS] = 72,
) -> None:
    """Let somebody work for a shop; for a new account, print the link by which they come in the first time."""
    link = _with_clerk(lambda clerk: clerk.add(name, tenant, _role(role), timedelta(hours=hours)))
    out.print(f"{name} is {role} of {tenant}.", highlight=False, markup=False)
    if link:
        _show_link(link, hours)


@accounts.command("list")
def account_list(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List all accounts: their roles, and how they sign in."""
    from orderbell.app.accounts import shown

    rows = [shown(account) for account in _with_clerk(lambda clerk: clerk.list())]
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        out.print(f"{row.name}  {', '.join(row.roles) or 'no shop'}  {row.state}", highlight=False, markup=False)
    if not rows:
        out.print("Nobody has an account yet. `orderbell up` prints a link to make the owner's.")


@accounts.command("role")
def account_role(
    name: Annotated[str, NAME],
    role: Annotated[str, typer.Argument(help="owner, operator, agent or viewer.")],
    tenant: Annotated[str, typer.Option("--tenant", help="In which shop.")],
) -> None:
    """Change somebody's role in a shop, from now on."""
    _with_clerk(lambda clerk: clerk.set_role(name, tenant, _role(role)))
    out.print(f"{name} is {role} of {tenant}.", highlight=False, markup=False)


@accounts.command("disable")
def account_disable(
    name: Annotated[str, NAME], undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False
) -> None:
    """End an account everywhere, at once."""
    _with_clerk(lambda clerk: clerk.set_disabled(name, disabled=not undo))
    out.print(f"{name} can {'sign in again' if undo else 'no longer sign in'}.", highlight=False, markup=False)


@accounts.command("link")
def account_link(name: Annotated[str, NAME], hours: Annotated[int, HOURS] = 1) -> None:
    """Print a link that signs somebody in once, without a password."""
    _show_link(_with_clerk(lambda clerk: clerk.link(name, timedelta(hours=hours))), hours)


@accounts.command("reset")
def account_reset(name: Annotated[str, NAME], hours: Annotated[int, HOURS] = 1) -> None:
    """Take somebody's password, second step and sessions away, and print a link to begin anew."""
    _show_link(_with_clerk(lambda clerk: clerk.link(name, timedelta(hours=hours), reset=True)), hours)


def _with_clerk(work: Callable[[Any], Coroutine[Any, Any, R]]) -> R:
    from orderbell.app.accounts import open_clerk

    async def done() -> R:
        async with open_clerk(_settings()) as clerk:
            return await work(clerk)

    return run(done())


def _role(text: str) -> Any:  # noqa: ANN401 - Role, imported late
    from orderbell.store.accounts import ROLE_NAMES

    if text not in ROLE_NAMES:
        raise typer.BadParameter(f"write {', '.join(ROLE_NAMES[:-1])} or {ROLE_NAMES[-1]}")
    return text


def _show_link(link: str, hours: int) -> None:
    out.print(f"It works once, within {hours} h: [bold]{escape(link)}[/]", highlight=False, soft_wrap=True)


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


@playbooks.command("preview")
def playbook_preview(
    which: Annotated[str, typer.Argument(help="A playbook that ships, or a file.", metavar="[NAME|FILE]")] = "retail",
    topic: Annotated[str, typer.Option(help="Only this topic.")] = "",
    locale: Annotated[str, typer.Option(help="Only this locale: zh-CN, en.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel; default: all with words of their own.")] = "",
    tone: Annotated[str, typer.Option(help="Only this tone, or what stands in for it: calm, sorry, amends.")] = "",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show every text as people will read it, and how long it can get. Exit code 1 if the playbook has problems."""
    from orderbell.app.preview import find_playbook, show_previews
    from orderbell.insight.preview import preview

    playbook, problems = find_playbook(which)
    previews = preview(playbook, topic=topic, locale=locale, channel=channel, tone=tone)
    if as_json:
        _print_json(previews)
    else:
        show_previews(out, playbook, previews, every=bool(channel))
    for problem in problems:
        err.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


@templates.command("sync")
def templates_sync(provider: Annotated[str, PROVIDER]) -> None:
    """Draft every text of all playbooks for a provider, and say how many are new and gone."""
    from orderbell.app.template_sheets import show_synced
    from orderbell.app.templates import Synced, open_desk

    async def work() -> Synced:
        async with open_desk(_settings(), provider) as desk:
            return await desk.sync()

    show_synced(out, provider, run(work()))


@templates.command("check")
def templates_check(
    provider: Annotated[str, PROVIDER],
    locale: Annotated[str, LOCALE] = "",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Check every text by the provider's rules; asks nobody. Exit code 1 if a template will be refused."""
    from orderbell.app.template_sheets import show_complaints
    from orderbell.app.templates import check

    complaints = check(_settings(), provider, locale)
    if as_json:
        _print_json(complaints)
    else:
        show_complaints(out, provider, complaints)
    if any(complaint.problem.strikes == "review" for complaint in complaints):
        raise typer.Exit(1)


@templates.command("export")
def templates_export(
    provider: Annotated[str, PROVIDER],
    form: Annotated[str, typer.Option("--format", help="csv, for people; json, with the API's parameters.")] = "csv",
    every: Annotated[bool, typer.Option("--all", help="Also what has been handed in.")] = False,
    needed: Annotated[bool, typer.Option("--needed", help="Only the last text of each ladder.")] = False,
    locale: Annotated[str, LOCALE] = "",
) -> None:
    """Print what to hand in at the provider's console or API, on standard output."""
    from orderbell.app.template_sheets import write_csv
    from orderbell.app.templates import Row, open_desk

    if form not in ("csv", "json"):
        raise typer.BadParameter("write csv or json", param_hint="--format")

    async def work() -> list[Row]:
        async with open_desk(_settings(), provider) as desk:
            return await desk.export(every=every, needed=needed, locale=locale)

    rows = run(work())
    if form == "json":
        _print_json(rows)
    else:
        sys.stdout.write(write_csv(rows))


@templates.command("list")
def templates_list(
    provider: Annotated[str, PROVIDER],
    state: Annotated[str, typer.Option(help="Only these: draft, in_review, approved, rejected.")] = "",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """List the templates and signatures of a provider: state, code and reason."""
    from orderbell.app.template_sheets import show_listed
    from orderbell.app.templates import STATES, Listed, open_desk

    if state not in ("", *STATES):
        raise typer.BadParameter(f"write {', '.join(STATES[:-1])} or {STATES[-1]}", param_hint="--state")

    async def work() -> Listed:
        async with open_desk(_settings(), provider) as desk:
            return await desk.listing()

    listed = run(work())
    if as_json:
        _print_json(msgspec.structs.replace(listed, bindings=listed.in_state(state)))
    else:
        show_listed(out, listed, state)


@templates.command("bind")
def templates_bind(
    provider: Annotated[str, PROVIDER],
    code: Annotated[str, typer.Argument(help="By what the provider knows the template: SMS_154950909.")],
    which: Annotated[
        str, typer.Argument(help="The text, or 6 characters or more of its digest.", metavar="[TEXT|DIGEST]")
    ] = "",
    topic: Annotated[str, typer.Option(help="WeChat: all texts of a topic that can fill the template.")] = "",
    approved: Annotated[bool, typer.Option("--approved", help="It is approved already.")] = False,
) -> None:
    """Put down by which code a provider knows a text; it is used from when it is approved."""
    from orderbell.app.templates import Bound, open_desk

    if bool(which) == bool(topic):
        raise typer.BadParameter("give a text or digest, or --topic", param_hint="TEXT|DIGEST")

    async def work() -> Bound:
        async with open_desk(_settings(), provider) as desk:
            state: Any = "approved" if approved else "in_review"
            return await (desk.bind_topic(code, topic, state) if topic else desk.bind(code, which, state))

    bound = run(work())
    for text, reason in bound.left_out:
        err.print(f"Left out: {text}\n  {reason}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"{code}: {len(bound.texts)} bound", highlight=False, markup=False)


@templates.command("import")
def templates_import(
    file: Annotated[Path, typer.Argument(help="CSV with digest, code and state.", exists=True, dir_okay=False)],
    provider: Annotated[str, typer.Option(help="Whose templates, where the file has no column for it.")] = "",
) -> None:
    """Take codes and states from a file, such as an exported one that was filled in: all rows, or none."""
    from orderbell.app.template_sheets import read_csv
    from orderbell.app.templates import import_rows

    for words in run(import_rows(_settings(), read_csv(file, provider))):
        out.print(words, highlight=False, markup=False)


@app.command()
def explain(
    order: Annotated[str, typer.Argument(help="The number of the order.")],
    tenant: Annotated[str, typer.Option(help="Whose order; may be left out where there is one tenant only.")] = "",
    person: Annotated[str, typer.Option(help="Only what this person was told: a role, a contact, a phone.")] = "",
    topic: Annotated[str, typer.Option(help="Only this topic; or why it was never told.")] = "",
    lang: Annotated[str, typer.Option(help="zh-CN or en; default: the terminal's language.")] = "",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Say what happened to an order, who was told what, who was not, and why."""
    from orderbell.app import explaining
    from orderbell.insight.words import locale_of

    if lang and not locale_of(lang, otherwise=""):
        raise typer.BadParameter("write zh-CN or en", param_hint="--lang")
    language = lang or explaining.language_of_terminal()
    story = run(explaining.explain(_settings(), order, tenant=tenant, person=person, topic=topic, language=language))
    if as_json:
        _print_json(story)
    else:
        explaining.show_story(out, story, language)


def _run_platform(*, web: bool, worker: bool) -> None:
    from orderbell.app.running import run_platform
    from orderbell.observe import set_up_logging

    settings = _settings()
    set_up_logging(settings.log_level, settings.log_format)

    def announce(words: str) -> None:
        sys.stdout.write(words + "\n")
        sys.stdout.flush()

    run(run_platform(settings, web=web, worker=worker, announce=announce))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so many; without it, with Ctrl-C.")] = None,
    speed: Annotated[float, typer.Option(min=1, max=100_000, help="How many seconds pass for the shop in one.")] = 1800,
    seed: Annotated[int, typer.Option(help="Another seed, other orders.")] = 1,
    orders_per_minute: Annotated[float, typer.Option(min=0.1, max=6000, help="How many orders come in.")] = 30,
) -> None:
    """Start everything with a simulated shop, and watch who is told what, where and why. Touches no installation."""
    from orderbell.app.demo import DemoOptions, run_demo

    options = DemoOptions(seconds=seconds, speed=speed, seed=seed, orders_per_minute=orders_per_minute)
    run(run_demo(options, _settings(), out))


@app.command()
def doctor(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Say what is wrong with this installation and how to mend it. Exit code 1 if anything is."""
    from orderbell.app.doctor import examine, show_findings

    findings = run(examine())
    if as_json:
        _print_json(findings)
    else:
        show_findings(out, findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which benchmarks; none: all but the longest.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small and few runs: does it work at all?")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Interleaved runs of each.")] = None,
    history_dir: Annotated[
        Path | None, typer.Option("--history", help="The folder of the Olist orders.", exists=True, file_okay=False)
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Measure this machine, on a database of the benchmarks' own. Works in a checkout of the repository only."""
    import subprocess

    here = (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents)
    root = next((folder for folder in here if (folder / "bench" / "run.py").is_file()), None)
    if root is None:
        err.print(
            "The benchmarks are not installed with the package; they live in the repository. Clone it, and run"
            " `make bench` in its folder.",
            markup=False, highlight=False,
        )  # fmt: skip
        raise typer.Exit(1)
    options = [*(["--quick"] if quick else []), *(["--json"] if as_json else [])]
    options += ["--rounds", str(rounds)] if rounds else []
    options += ["--history", str(history_dir.resolve())] if history_dir else []
    command = [sys.executable, "-m", "bench.run", *(names or []), *options]
    raise typer.Exit(subprocess.run(command, cwd=root, check=False).returncode)  # noqa: S603 - our own program


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
