"""The console's pages of playbooks: which count, what they say, and which counted before.

Writing and activating are in `drafting.py`, trying a draft on past orders in `trials.py`.
"""

import asyncio
from typing import Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.playbook import Playbook
from orderbell.core.wording import TONES
from orderbell.playbooks.writing import DiffLine, as_yaml, difference
from orderbell.store.activation import Activation, Version
from orderbell.web.console.playbook_parts import anomalies_of, moves_at_any_stage, rungs_of, topics_of
from orderbell.web.playbook_desk import PlaybookDesk, TextsUnknown, source_of
from orderbell.web.rendering import View, page, view_of
from orderbell.web.rights import Visitor

READ: Final = {"right": "playbooks:read"}
DIFF_LINES_MAX: Final = 2000
CHANNELS: Final = ("sms", "email", "push", "wechat", "inbox")


class Shown(Struct, frozen=True):
    """A playbook in the list; `activation` is its last one here, `broken` an activated version that is not followed."""

    name: str
    version: str
    source: str
    default: bool
    stages: int
    topics: int
    anomalies: int
    has_draft: bool
    activation: Activation | None
    broken: str = ""


class Line(Struct, frozen=True):
    """A version in the list of versions."""

    activation: Activation
    counts: bool


def playbook_pages(desk: PlaybookDesk) -> list[ControllerRouterHandler]:
    """Make the pages; they need somebody who is signed in (`web.signed_in`)."""
    return [_list(desk), _rules(desk), _texts(desk), _versions(desk), _difference(desk)]


def _list(desk: PlaybookDesk) -> ControllerRouterHandler:
    @get("/console/playbook", opt=READ)
    async def list_playbooks(visitor: NamedDependency[Visitor], request: Request[Any, Any, Any]) -> Response[str]:
        return await playbook_list(desk, visitor, request)

    return list_playbooks


async def playbook_list(
    desk: PlaybookDesk, visitor: Visitor, request: Request[Any, Any, Any], *, status: int = 200, wrong: str = ""
) -> Response[str]:
    """The page of all playbooks; `wrong` is a name that cannot be used for a new one."""
    tenant = visitor.tenant
    shelf, kept = desk.shelf(tenant), desk.of(tenant)
    drafts, latest = await kept.drafts(), await kept.latest()
    shown = []
    for name, found in shelf.playbooks.items():
        last = latest.get(name)
        stored = last.version if last is not None and not last.follows else ""
        shown.append(
            Shown(
                name, found.version, source_of(desk, tenant, name), name == shelf.default, len(found.stages),
                len(found.notices), len(found.anomalies), name in drafts, last,
                stored if stored not in ("", found.version) else "",
            )
        )  # fmt: skip
    new = [draft for name, draft in drafts.items() if name not in shelf.playbooks]
    return page("playbooks.html", view_of(request, visitor), status=status, shown=shown, new=new, wrong=wrong)


def _rules(desk: PlaybookDesk) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}", opt=READ)
    async def show_rules(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[str]:
        found, view = counting(desk, visitor, name), view_of(request, visitor)
        rungs = rungs_of(found, view)
        return page(
            "playbook.html", view, **heading(desk, visitor, found), rungs=[one for one in rungs if not one.end],
            ends=[one for one in rungs if one.end], others=moves_at_any_stage(found, view),
            topics=topics_of(found, view), anomalies=anomalies_of(found, view),
        )  # fmt: skip

    return show_rules


def _texts(desk: PlaybookDesk) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/texts", opt=READ)
    async def show_texts(
        visitor: NamedDependency[Visitor],
        request: Request[Any, Any, Any],
        name: FromPath[str],
        topic: FromQuery[str] = "",
        locale: FromQuery[str] = "",
        channel: FromQuery[str] = "sms",
        tone: FromQuery[str] = "",
    ) -> Response[str]:
        found, view = counting(desk, visitor, name), view_of(request, visitor)
        locale = locale if locale in found.wording else view.locale if view.locale in found.wording else found.locale
        channel = channel if channel in CHANNELS else CHANNELS[0]
        topic, tone = topic if topic in found.notices else "", tone if tone in TONES else ""
        try:
            texts = await desk.texts(found, topic=topic, locale=locale, channel=channel, tone=tone)
        except TextsUnknown:  # pragma: no cover - only known names are asked for
            texts = []
        return page(
            "playbook_texts.html", view, **heading(desk, visitor, found), groups=by_topic(texts), topic=topic,
            locale=locale, channel=channel, tone=tone, channels=CHANNELS, tones=TONES,
        )  # fmt: skip

    return show_texts


def _versions(desk: PlaybookDesk) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/versions", opt=READ)
    async def show_versions(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[str]:
        return await versions_page(desk, visitor, view_of(request, visitor), name)

    return show_versions


async def versions_page(
    desk: PlaybookDesk, visitor: Visitor, view: View, name: str, *, status: int = 200, note: str = "",
    lines: tuple[str, ...] = (), kind: str = "good",
) -> Response[str]:  # fmt: skip
    """The page of versions, perhaps with what came of an activation."""
    found = counting(desk, visitor, name)
    history = await desk.of(visitor.tenant).history(name)
    latest = history[0].number if history else 0
    filed = desk.files(visitor.tenant).playbooks.get(name)
    versions = [Line(one, one.version == found.version and one.number == latest) for one in history]
    return page(
        "playbook_versions.html", view, status=status, **heading(desk, visitor, found), versions=versions,
        filed=filed.version if filed is not None else "", note=note, note_lines=lines, note_kind=kind,
    )  # fmt: skip


def _difference(desk: PlaybookDesk) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/diff", opt=READ)
    async def show_difference(
        visitor: NamedDependency[Visitor],
        request: Request[Any, Any, Any],
        name: FromPath[str],
        old: FromQuery[str] = "",
        new: FromQuery[str] = "",
    ) -> Response[str]:
        found = counting(desk, visitor, name)
        sides = [await desk.version(visitor.tenant, name, one or found.version) for one in (old, new)]
        if sides[0] is None or sides[1] is None:
            raise nothing_here()
        lines = await asyncio.to_thread(changes_between, sides[0], sides[1])
        return page(
            "playbook_diff.html", view_of(request, visitor), **heading(desk, visitor, found), old=sides[0].version,
            new=sides[1].version, lines=lines,
        )  # fmt: skip

    return show_difference


def changes_between(old: Version, new: Version) -> list[DiffLine]:
    """What differs between two versions, rules and words, line by line."""
    return difference(as_yaml(old.spec, old.wordings), as_yaml(new.spec, new.wordings))[:DIFF_LINES_MAX]


def by_topic(texts: Any) -> list[tuple[str, list[Any]]]:  # noqa: ANN401 - a preview of insight
    """Texts under their topics, in the order of the file."""
    groups: dict[str, list[Any]] = {}
    for text in texts:
        groups.setdefault(text.topic, []).append(text)
    return list(groups.items())


def heading(desk: PlaybookDesk, visitor: Visitor, found: Playbook) -> dict[str, Any]:
    """What stands on top of each page of a playbook."""
    return {
        "playbook": found,
        "called": found.name,
        "version": found.version,
        "source": source_of(desk, visitor.tenant, found.name),
        "is_default": desk.shelf(visitor.tenant).default == found.name,
    }


def counting(desk: PlaybookDesk, visitor: Visitor, name: str) -> Playbook:
    """The playbook that counts by a name; 404 where the tenant has none."""
    found = desk.shelf(visitor.tenant).playbooks.get(name)
    if found is None:
        raise nothing_here()
    return found


def nothing_here() -> HTTPException:
    """The same answer for what is not there and for what is another tenant's."""
    return HTTPException(detail="there is no such playbook here", status_code=404)
