"""The console's page of a draft: write, check, see what changes, and only then activate."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.playbook import Playbook
from orderbell.playbooks import DRAFT, DRAFT_BYTES_MAX, Checked, Fault
from orderbell.playbooks.writing import DiffLine
from orderbell.store.activation import Draft, DraftChanged, version_of
from orderbell.store.trail import Trail
from orderbell.web.console.playbook import changes_between, nothing_here, playbook_list, versions_page
from orderbell.web.console.playbook_parts import missed_lines
from orderbell.web.console.trials import Trials, trial_shown
from orderbell.web.faults_said import WHOLE, said
from orderbell.web.forms import read_form
from orderbell.web.playbook_desk import PlaybookDesk, Refusal, source_of
from orderbell.web.rendering import View, hall_of, page, view_of
from orderbell.web.rights import Visitor

WRITE: Final = {"right": "playbooks:write"}
READ: Final = {"right": "playbooks:read"}
CHANGED_TEXTS_MAX: Final = 60
FAULTS_MAX: Final = 100
FORM_BYTES_MAX: Final = 4 * DRAFT_BYTES_MAX
"""A form spells most signs out with three bytes for one."""

_is_new_name = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}").fullmatch


class FaultLine(Struct, frozen=True):
    """A fault as the page shows it; `file` is empty for the draft itself, `text` is the line that it is about."""

    line: int
    where: str
    message: str
    remedy: str
    file: str
    text: str


class Looked(Struct, frozen=True):
    """What came of looking at a draft: its faults, else what changes when it is activated."""

    checked: Checked
    faults: list[FaultLine]
    changes: list[DiffLine]
    texts: list[Any]
    text_count: int

    @property
    def playbook(self) -> Playbook | None:
        """The draft, where it has no fault at all."""
        return None if self.faults else self.checked.playbook


def drafting_pages(desk: PlaybookDesk, trials: Trials, trail: Trail) -> list[ControllerRouterHandler]:
    """Make the pages; they need somebody who is signed in (`web.signed_in`)."""
    return [
        _begin(desk),
        _show(desk, trials),
        _save(desk, trials, trail),
        _drop(desk, trials, trail),
        _activate(desk, trials),
    ]


def _begin(desk: PlaybookDesk) -> ControllerRouterHandler:
    @post("/console/playbook", opt=WRITE, status_code=200)
    async def begin_playbook(visitor: NamedDependency[Visitor], request: Request[Any, Any, Any]) -> Response[Any]:
        name = (await read_form(request)).text("name")
        if not _is_new_name(name):
            return await playbook_list(desk, visitor, request, status=422, wrong=name[:80] or "?")
        return _go(f"/console/playbook/{name}/draft")

    return begin_playbook


def _show(desk: PlaybookDesk, trials: Trials) -> ControllerRouterHandler:
    @get("/console/playbook/{name:str}/draft", opt=READ)
    async def show_draft(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[str]:
        view = view_of(request, visitor)
        _check_name(desk, visitor, name)
        draft = await desk.of(visitor.tenant).draft(name)
        return await _page(desk, trials, visitor, view, name, draft)

    return show_draft


def _save(desk: PlaybookDesk, trials: Trials, trail: Trail) -> ControllerRouterHandler:
    @post("/console/playbook/{name:str}/draft", opt=WRITE, status_code=200)
    async def save_draft(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[Any]:
        _check_name(desk, visitor, name)
        form, view = await read_form(request, FORM_BYTES_MAX), view_of(request, visitor)
        kept, body = desk.of(visitor.tenant), _as_typed(form.raw("body"))
        if len(body.encode(errors="replace")) > DRAFT_BYTES_MAX:
            found = await kept.draft(name)
            note = view.say("playbook.draft_too_long")
            return await _page(desk, trials, visitor, view, name, found, status=413, note=note)
        old = desk.shelf(visitor.tenant).playbooks.get(name)
        known, seen = await kept.draft(name), _moment(form.raw("seen"))
        base = known.base_version if known is not None else old.version if old is not None else ""
        draft = Draft(name, body, base, hall_of(request).now(), visitor.actor)
        try:
            async with trail.together():
                await kept.put_draft(draft, seen)
                await trail.write(visitor.tenant, visitor.actor, "playbook.draft", name, {"bytes": len(body.encode())})
        except DraftChanged:
            note, theirs = view.say("playbook.draft_clash"), await kept.draft(name)
            return await _page(desk, trials, visitor, view, name, draft, status=409, note=note, theirs=theirs)
        return _go(f"/console/playbook/{name}/draft")

    return save_draft


def _drop(desk: PlaybookDesk, trials: Trials, trail: Trail) -> ControllerRouterHandler:
    @post("/console/playbook/{name:str}/draft/drop", opt=WRITE, status_code=200)
    async def drop_draft(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[Any]:
        _check_name(desk, visitor, name)
        kept, seen = desk.of(visitor.tenant), _moment((await read_form(request)).raw("seen"))
        async with trail.together():
            if dropped := await kept.drop_draft(name, seen):
                await trail.write(visitor.tenant, visitor.actor, "playbook.draft_dropped", name)
        if not dropped and (theirs := await kept.draft(name)) is not None:  # somebody saved another one meanwhile
            view = view_of(request, visitor)
            return await _answer(desk, trials, visitor, view, name, theirs, view.say("playbook.draft_clash"))
        return _go("/console/playbook")

    return drop_draft


def _activate(desk: PlaybookDesk, trials: Trials) -> ControllerRouterHandler:
    @post("/console/playbook/{name:str}/activate", opt=WRITE, status_code=200)
    async def activate(
        visitor: NamedDependency[Visitor], request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[Any]:
        _check_name(desk, visitor, name)
        form, view = await read_form(request), view_of(request, visitor)
        expected, version = form.raw("expected"), form.raw("version")
        draft = None if version else await desk.of(visitor.tenant).draft(name)
        change = {"expected": expected, "actor": visitor.actor}
        if not form.raw("sure"):
            note = view.say("playbook.activate_unsure")
            return await _answer(desk, trials, visitor, view, name, draft, note, status=422)
        if version:
            done = await desk.activate_again(visitor.tenant, name, version, **change)
        elif draft is None or _stamp(draft) != form.raw("seen"):
            note = view.say("playbook.draft_clash")
            return await _answer(desk, trials, visitor, view, name, draft, note, status=409)
        else:
            done = await desk.activate(visitor.tenant, name, draft.body, **change)
        if isinstance(done, Refusal):
            note = view.say(f"playbook.no_{done.why}", detail=done.detail[:80])
            lines = missed_lines(done.missed, view)
            lines += [view.say("playbook.missed_remedy")] if lines else []
            return await _answer(desk, trials, visitor, view, name, draft, note, lines=lines)
        if draft is not None:
            await desk.of(visitor.tenant).drop_draft(name, draft.updated_at)  # a newer one is somebody's work
        note = view.say("playbook.activated", version=done.version) if done else view.say("playbook.activated_already")
        return await versions_page(desk, visitor, view, name, note=note)

    return activate


async def _answer(
    desk: PlaybookDesk, trials: Trials, visitor: Visitor, view: View, name: str, draft: Draft | None, note: str,
    *, lines: list[str] | None = None, status: int = 409,
) -> Response[str]:  # fmt: skip
    """Say why nothing was activated, on the page that was asked from."""
    if draft is not None or name not in desk.shelf(visitor.tenant).playbooks:
        return await _page(desk, trials, visitor, view, name, draft, status=status, note=note, lines=lines or [])
    return await versions_page(
        desk, visitor, view, name, status=status, note=note, lines=tuple(lines or ()), kind="bad"
    )


async def _page(
    desk: PlaybookDesk, trials: Trials, visitor: Visitor, view: View, name: str, draft: Draft | None, *,
    status: int = 200, note: str = "", lines: list[str] | None = None, theirs: Draft | None = None,
) -> Response[str]:  # fmt: skip
    tenant = visitor.tenant
    counts = desk.shelf(tenant).playbooks.get(name)
    body = draft.body if draft is not None else await _beginning(desk, tenant, name, view)
    looked = await look(desk, tenant, name, body, view) if draft is not None else None
    trial = await trial_shown(trials, tenant, name, looked.playbook if looked is not None else None, view)
    saved = theirs or draft
    return page(
        "playbook_draft.html", view, status=status, called=name, version=counts.version if counts else "",
        source=source_of(desk, tenant, name) if counts else "", playbook=counts,
        is_default=desk.shelf(tenant).default == name, draft=draft, body=body, theirs=theirs, looked=looked,
        seen=_stamp(saved) if saved is not None else "", note=note, note_lines=lines or [], trial=trial,
        line_numbers="\n".join(str(number + 1) for number in range(body.count("\n") + 1)),
        stale=bool(draft is not None and counts is not None and draft.base_version != counts.version),
    )  # fmt: skip


async def look(desk: PlaybookDesk, tenant: str, name: str, body: str, view: View) -> Looked:
    """Check a draft, and find what it changes."""
    checked = await desk.check(body)
    faults = [_fault_line(fault, body.splitlines(), view) for fault in checked.faults[:FAULTS_MAX]]
    if checked.playbook is not None and checked.playbook.name != name:
        message = view.say("playbook.no_other_name", detail=checked.playbook.name[:80])
        faults.append(FaultLine(1, "name", message, f"name: {name}", "", ""))
    counts = desk.shelf(tenant).playbooks.get(name)
    if checked.playbook is None or faults or counts is None:
        return Looked(checked, faults, [], [], 0)
    now = view.now
    changes = await asyncio.to_thread(
        changes_between, version_of(counts, "", now), version_of(checked.playbook, body, now)
    )
    new = await desk.texts(checked.playbook)
    old = {_text_key(text) for text in await desk.texts(counts)}
    texts = [text for text in new if _text_key(text) not in old and not text.newcomer]
    return Looked(checked, faults, changes, texts[:CHANGED_TEXTS_MAX], len(texts))


def _text_key(text: Any) -> tuple[str, ...]:  # noqa: ANN401 - a preview of insight
    return (text.topic, text.locale, text.channel, text.tone, text.sample.text, text.sample.subject, text.worst.text)


def _fault_line(fault: Fault, lines: list[str], view: View) -> FaultLine:
    own = fault.file == DRAFT
    text = lines[fault.line - 1].strip()[:160] if own and 0 < fault.line <= len(lines) else ""
    message, remedy = said(fault.message, view.locale), said(fault.remedy, view.locale)
    where = said(fault.where, view.locale) if fault.where == WHOLE else fault.where
    return FaultLine(fault.line, where, message, remedy, "" if own else fault.file.name, text)


async def _beginning(desk: PlaybookDesk, tenant: str, name: str, view: View) -> str:
    """Where a new draft begins: with what a person wrote for the version that counts, else laid over the files."""
    counts = desk.shelf(tenant).playbooks.get(name)
    kept = await desk.of(tenant).version(name, counts.version) if counts is not None else None
    if kept is not None and kept.source:
        return kept.source
    base = name if name in desk.files(tenant).playbooks else desk.shelf(tenant).default
    return "\n".join((
        view.say("playbook.begin_1", base=base), f"name: {name}", f"extends: {base}", "",
        view.say("playbook.begin_2"), "# notices:", "#   shipped: {within: 5m}", "# wording:", "#   zh-CN:",
        "#     texts:", "#       shipped:", "#         sms: [您的订单{order_no}已发出。]", "",
    ))  # fmt: skip


def _check_name(desk: PlaybookDesk, visitor: Visitor, name: str) -> None:
    if name not in desk.shelf(visitor.tenant).playbooks and not _is_new_name(name):
        raise nothing_here()


def _as_typed(body: str) -> str:
    """The text of a form: browsers send CR LF, and the database keeps no NUL."""
    return body.replace("\r\n", "\n").replace("\0", "\ufffd")


def _stamp(draft: Draft) -> str:
    return draft.updated_at.isoformat()


def _moment(stamp: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(stamp)
        return at.astimezone(UTC) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _go(path: str) -> Response[None]:
    return Response(None, status_code=303, headers={"Location": quote(path), "Cache-Control": "no-store"})
