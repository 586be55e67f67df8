"""The console's trials: a draft on past orders, begun, watched, stopped and read before anybody activates it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.playbook import Playbook
from orderbell.store.trials import LOST_AFTER, Trial
from orderbell.web.console.playbook import nothing_here
from orderbell.web.forms import read_form
from orderbell.web.playbook_desk import PlaybookDesk
from orderbell.web.rendering import View, fragment, view_of
from orderbell.web.rights import Visitor

READ: Final = {"right": "playbooks:read"}
WRITE: Final = {"right": "playbooks:write"}
DAYS: Final = (7, 30, 90)
TOPICS_SHOWN: Final = 12

Begun = Literal["begun", "busy", "faults"]


class Findings(Struct, frozen=True):
    """What a trial found, in the viewer's words; series are names with both values.

    `cards` are title, before, after, difference, what that means, and `up`, `down` or nothing.
    """

    order_count: int
    event_count: int
    is_cut: bool
    is_same: bool
    summary: str
    cards: Sequence[tuple[str, str, str, str, str, str]]
    kinds: Sequence[tuple[str, str, str]]
    topics: Sequence[tuple[str, int, int]]
    channels: Sequence[tuple[str, int, int]]
    hours: Sequence[tuple[str, int, int]]
    examples: Sequence[Any]


class Trials(Protocol):
    """Who tries drafts on past orders. What reads the database raises DatabaseUnavailable."""

    async def begin(self, tenant: str, name: str, body: str, *, days: int, actor: str) -> Begun:
        """Try a draft on the orders of the last days; `busy` where the tenant has one running."""
        ...

    async def latest(self, tenant: str, name: str) -> Trial | None:
        """The last trial of a playbook."""
        ...

    async def stop(self, tenant: str, name: str) -> None:
        """Stop what runs for a playbook."""
        ...

    def findings(self, trial: Trial, locale: str) -> Findings | None:
        """What a trial that is done found; None where there was nothing to compare."""
        ...

    def report(self, trial: Trial, locale: str) -> str:
        """All that it found, as one HTML page that stands by itself."""
        ...


class Shown(Struct, frozen=True):
    """A trial as the page shows it; `fits` where it is of the very text that is shown."""

    trial: Trial
    state: str
    fits: bool
    findings: Findings | None
    topics: dict[str, Any]
    channels: dict[str, Any]
    hours: dict[str, Any]


def trial_pages(desk: PlaybookDesk, trials: Trials) -> list[ControllerRouterHandler]:
    """Make the pages; they need somebody who is signed in (`web.signed_in`)."""
    return [_begin(desk, trials), _watch(desk, trials), _stop(trials), _report(trials)]


def _begin(desk: PlaybookDesk, trials: Trials) -> ControllerRouterHandler:
    @post("/console/playbook/{name:str}/trial", opt=WRITE, status_code=200)
    async def begin_trial(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[None]:
        given = (await read_form(request)).raw("days")
        days = int(given) if given in map(str, DAYS) else DAYS[0]
        draft = await desk.of(visitor.tenant).draft(name) if "\0" not in name else None
        if draft is None:
            raise nothing_here()
        begun = await trials.begin(visitor.tenant, name, draft.body, days=days, actor=visitor.actor)
        return _back(name, "?busy=1" if begun == "busy" else "")

    return begin_trial


def _watch(desk: PlaybookDesk, trials: Trials) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/trial", opt={**READ, "by_itself": True})
    async def watch_trial(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[Any]:
        if request.headers.get("hx-request") != "true":
            return _back(name)
        draft = await desk.of(visitor.tenant).draft(name) if "\0" not in name else None
        if draft is None:
            raise nothing_here()
        view = view_of(request, visitor)
        checked = await desk.check(draft.body)
        shown = await trial_shown(trials, visitor.tenant, name, checked.playbook, view)
        return fragment("playbook_trial.html", view, trial=shown, called=name)

    return watch_trial


def _stop(trials: Trials) -> ControllerRouterHandler:
    @post("/console/playbook/{name:str}/trial/stop", opt=WRITE, status_code=200)
    async def stop_trial(visitor: NamedDependency[Visitor], name: FromPath[str]) -> Response[None]:
        if "\0" not in name:
            await trials.stop(visitor.tenant, name)
        return _back(name)

    return stop_trial


def _report(trials: Trials) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/trial/report", opt=READ)
    async def download_report(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[str]:
        trial = await trials.latest(visitor.tenant, name) if "\0" not in name else None
        if trial is None or not trial.result:
            raise nothing_here()
        # Handed over as a file: its own styles are not let in on this site, and it is to be passed on anyway.
        headers = {
            "Content-Disposition": f'attachment; filename="orderbell-{trial.version}.html"',
            "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        }  # fmt: skip
        text = trials.report(trial, view_of(request, visitor).locale)
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return download_report


async def trial_shown(trials: Trials, tenant: str, name: str, draft: Playbook | None, view: View) -> Shown | None:
    """The last trial of a playbook; None where nothing was tried yet."""
    trial = await trials.latest(tenant, name)
    if trial is None:
        return None
    found = trials.findings(trial, view.locale) if trial.state == "done" and trial.result else None
    topics = sorted(found.topics, key=lambda one: -abs(one[2] - one[1]))[:TOPICS_SHOWN] if found else []
    return Shown(
        trial, _state(trial, view.now), draft is not None and draft.version == trial.version, found,
        _bars(topics, view, across=True), _bars(found.channels if found else [], view, across=True),
        _bars(found.hours if found else [], view, across=False),
    )  # fmt: skip


def _state(trial: Trial, now: datetime) -> str:
    if trial.state == "running" and now - trial.seen_at > LOST_AFTER:
        return "lost"
    return trial.detail if trial.state == "failed" and trial.detail in ("lost", "too_long") else trial.state


def _bars(series: Sequence[tuple[str, int, int]], view: View, *, across: bool) -> dict[str, Any]:
    """An ECharts option: both values beside each other."""
    before, after = view.say("playbook.trial_before"), view.say("playbook.trial_after")
    ordered = list(reversed(series)) if across else list(series)
    names: dict[str, Any] = {"type": "category", "data": [one[0] for one in ordered]}
    values: dict[str, Any] = {"type": "value", "minInterval": 1}
    return {
        "tooltip": {"trigger": "axis"}, "legend": {"top": 0}, "color": ["#9aa8b3", "#0f6e63"],
        "grid": {"left": 8, "right": 16, "top": 32, "bottom": 8, "containLabel": True},
        "xAxis": values if across else names, "yAxis": names if across else values,
        "series": [
            {"name": before, "type": "bar", "data": [one[1] for one in ordered]},
            {"name": after, "type": "bar", "data": [one[2] for one in ordered]},
        ],
    }  # fmt: skip


def _back(name: str, query: str = "") -> Response[None]:
    where = f"/console/playbook/{quote(name)}/draft{query}#trial"
    return Response(None, status_code=303, headers={"Location": where, "Cache-Control": "no-store"})
