"""Playbooks over HTTP: which of them count, what they say, checking and previewing a text, and activating it.

Activating is compare-and-set (RFC 9110, 13.1.1): who activates names the version that they saw, in `If-Match` or as
`expected_version`, and gets 412 with the current one where somebody was quicker. Texts of up to 128 KiB are taken.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NoReturn

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.playbook import Playbook
from orderbell.playbooks import DRAFT, Checked, Fault
from orderbell.playbooks.writing import as_yaml, difference
from orderbell.store.activation import Activation, Version
from orderbell.store.keys import ApiCaller
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.paging import text_parameter
from orderbell.web.playbook_desk import PlaybookDesk, Refusal, TextsUnknown, source_of

READ: Final = {"right": "playbooks:read"}
WRITE: Final = {"right": "playbooks:write"}
PROBLEMS_MAX: Final = 200
"""Faults that an answer lists; whoever has more reads the first of them."""

Source = Literal["shipped", "file", "own"]
Name = Annotated[str, PathParameter(description="The name of the playbook, such as retail.", min_length=1)]


class PlaybookLine(Struct, frozen=True):
    """A playbook that counts; `source` says whether it ships, stands in a file, or was activated here."""

    name: str
    version: str
    source: Source
    default: bool
    stage_count: int
    topic_count: int


class PlaybookList(Struct, frozen=True):
    """The playbooks of a tenant."""

    playbooks: list[PlaybookLine]


class VersionLine(Struct, frozen=True):
    """What counted since when, and by whose doing; `follows` where it came from the files."""

    number: int
    version: str
    follows: bool
    activated_at: datetime
    actor: str


class VersionList(Struct, frozen=True):
    """What counted of a playbook, the newest first; `current` counts now."""

    current: str
    versions: list[VersionLine]


class PlaybookView(Struct, frozen=True):
    """A playbook as it counts: `spec` are its rules with what it extends laid under, `yaml` all with its words."""

    name: str
    version: str
    source: Source
    default: bool
    spec: dict[str, Any]
    yaml: str


class VersionView(Struct, frozen=True):
    """A version: what a person wrote, empty where it came from the files, and all that came of it."""

    name: str
    version: str
    source: str
    yaml: str


class DiffView(Struct, frozen=True):
    """What differs between two versions, in the manner of `diff -u`; empty where nothing does."""

    old: str
    new: str
    diff: str


class LintRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A playbook as YAML, as it would stand in a file; it may have a part `wording: LOCALE:`."""

    text: str


class PreviewRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A playbook as YAML, and which of its texts to show; empty: all."""

    text: str
    topic: str = ""
    locale: str = ""
    channel: str = ""
    tone: str = ""


class LintProblem(Struct, frozen=True):
    """A fault: `file` is empty for the text itself, else the playbook or wording that it extends."""

    line: int
    where: str
    message: str
    remedy: str
    file: str = ""


class LintView(Struct, frozen=True):
    """What a check found; `version` is the name that the content would have, empty where it does not compile."""

    ok: bool
    name: str
    version: str
    problems: list[LintProblem]


class ActivationRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Either the `text` of a playbook, or the `version` of one that counted before; and what counts still."""

    text: str = ""
    version: str = ""
    expected_version: str | None = None


class ActivationView(Struct, frozen=True):
    """What counts now; `changed` is false where it did so already."""

    name: str
    version: str
    changed: bool
    number: int = 0


def playbook_routes(desk: PlaybookDesk, text: type[Struct]) -> Sequence[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`). `text` is what `desk.texts` lists, for the description."""
    return [*_reading(desk, text), *_looking_back(desk), *_trying(desk, text), _activating(desk)]


def _reading(desk: PlaybookDesk, text: type[Struct]) -> list[ControllerRouterHandler]:
    @get(
        "/v1/playbooks", summary="List the playbooks that count", tags=["playbooks"],
        opt={**READ, "example": examples.PLAYBOOKS},
    )  # fmt: skip
    async def list_playbooks(tenant: NamedDependency[str]) -> PlaybookList:
        """The playbooks that decide what happens now, each with the version that counts."""
        shelf = desk.shelf(tenant)
        return PlaybookList([
            PlaybookLine(
                name, found.version, source_of(desk, tenant, name), name == shelf.default, len(found.stages),
                len(found.notices),
            )
            for name, found in shelf.playbooks.items()
        ])  # fmt: skip

    @get(
        "/v1/playbooks/{name:str}", summary="Show a playbook as it counts", tags=["playbooks"],
        opt={**READ, "example": examples.PLAYBOOK},
    )  # fmt: skip
    async def show_playbook(tenant: NamedDependency[str], name: Name) -> Response[PlaybookView]:
        """Its rules and its words; `ETag` holds the version, for `If-Match` when another is activated."""
        found = _counting(desk, tenant, name)
        wordings = {locale: words.spec for locale, words in found.wording.items()}
        whole = await asyncio.to_thread(as_yaml, found.spec, wordings)
        view = PlaybookView(
            name, found.version, source_of(desk, tenant, name), name == desk.shelf(tenant).default,
            msgspec.to_builtins(found.spec), whole,
        )  # fmt: skip
        return Response(view, headers={"ETag": f'"{found.version}"', "Cache-Control": "no-store"})

    spec = ResponseSpec(_texts_of(text), generate_examples=False, description="Every text with its length")

    @get(
        "/v1/playbooks/{name:str}/texts", summary="Show its texts with their lengths", tags=["playbooks"],
        opt={**READ, "example": examples.TEXTS}, responses={200: spec},
    )  # fmt: skip
    async def list_texts(
        tenant: NamedDependency[str],
        *,
        name: Name,
        topic: Annotated[str, text_parameter("Of this topic only.")] = "",
        locale: Annotated[str, text_parameter("In this language only.")] = "",
        channel: Annotated[str, text_parameter("For this channel only.")] = "",
        tone: Annotated[str, text_parameter("In this tone only: calm, sorry or amends.")] = "",
    ) -> Response[bytes]:
        """Every text filled with sample values and with the longest ones, and how long it gets."""
        found = _counting(desk, tenant, name)
        return await _texts(desk, found, PreviewRequest("", topic, locale, channel, tone))

    return [list_playbooks, show_playbook, list_texts]


def _looking_back(desk: PlaybookDesk) -> list[ControllerRouterHandler]:
    @get(
        "/v1/playbooks/{name:str}/versions", summary="List what counted, and since when", tags=["playbooks"],
        opt={**READ, "example": examples.VERSIONS},
    )  # fmt: skip
    async def list_versions(tenant: NamedDependency[str], name: Name) -> VersionList:
        """Every activation, the newest first, and by whom."""
        found = _counting(desk, tenant, name)
        return VersionList(found.version, [_version_line(one) for one in await desk.of(tenant).history(name)])

    @get(
        "/v1/playbooks/{name:str}/versions/{version:str}", summary="Show a version", tags=["playbooks"],
        opt={**READ, "example": examples.VERSION},
    )  # fmt: skip
    async def show_version(
        tenant: NamedDependency[str], name: Name,
        version: Annotated[str, PathParameter(description="A version that counts or counted.", min_length=1)],
    ) -> VersionView:  # fmt: skip
        """What a person wrote, and all that came of it."""
        found = await _kept(desk, tenant, name, version)
        whole = await asyncio.to_thread(as_yaml, found.spec, found.wordings)
        return VersionView(name, found.version, found.source, whole)

    @get(
        "/v1/playbooks/{name:str}/diff", summary="Compare two versions", tags=["playbooks"],
        opt={**READ, "example": examples.DIFF},
    )  # fmt: skip
    async def compare_versions(
        tenant: NamedDependency[str],
        name: Name,
        old: Annotated[str, text_parameter("A version; else the one that counts.")] = "",
        new: Annotated[str, text_parameter("A version; else the one that counts.")] = "",
    ) -> DiffView:
        """What differs, in the manner of `diff -u`."""
        current = _counting(desk, tenant, name).version
        sides = [await _kept(desk, tenant, name, one or current) for one in (old, new)]
        return DiffView(sides[0].version, sides[1].version, await asyncio.to_thread(_unified, *sides))

    return [list_versions, show_version, compare_versions]


def _trying(desk: PlaybookDesk, text: type[Struct]) -> list[ControllerRouterHandler]:
    @post(
        "/v1/playbooks/lint", summary="Check a playbook", tags=["playbooks"], status_code=200,
        opt={**READ, "asks": examples.DRAFT, "example": examples.LINTED},
    )  # fmt: skip
    async def lint_playbook(data: JSONBody[LintRequest]) -> LintView:
        """Every fault with its line and what to do about it; nothing is kept."""
        checked = await desk.check(data.text)
        found = checked.playbook
        name, version = (found.name, found.version) if found is not None else ("", "")
        problems = [problem_of(fault) for fault in checked.faults[:PROBLEMS_MAX]]
        return LintView(found is not None and not problems, name, version, problems)

    spec = ResponseSpec(_texts_of(text), generate_examples=False, description="Every text with its length")

    @post(
        "/v1/playbooks/preview", summary="Show the texts of a playbook that is not active yet", tags=["playbooks"],
        opt={**READ, "asks": examples.DRAFT, "example": examples.TEXTS}, status_code=200, responses={200: spec},
    )  # fmt: skip
    async def preview_playbook(data: JSONBody[PreviewRequest]) -> Response[bytes]:
        """The texts of a draft, as `texts` shows those that count; nothing is kept."""
        checked = await desk.check(data.text)
        if checked.playbook is None:
            _refuse_faults(checked)
        return await _texts(desk, checked.playbook, data)

    return [lint_playbook, preview_playbook]


def _activating(desk: PlaybookDesk) -> ControllerRouterHandler:
    @post(
        "/v1/playbooks/{name:str}/activate", summary="Let a playbook count from now on", tags=["playbooks"],
        opt={**WRITE, "asks": examples.ACTIVATE, "example": examples.ACTIVATED}, status_code=200,
        responses={412: ResponseSpec(None, description="Somebody was quicker: another version counts by now.")},
    )  # fmt: skip
    async def activate_playbook(
        caller: NamedDependency[ApiCaller],
        name: Name,
        data: JSONBody[ActivationRequest],
        request: Request[Any, Any, Any],
    ) -> Response[ActivationView]:
        """Compare and set: `If-Match` or `expected_version` names the version that you saw; 412 where it is another."""
        if bool(data.text) == bool(data.version):
            say_no(422, "wrong_value", "The request is refused", "text: send either text or version", "text")
        expected = _expected(request, data)
        change = {"expected": expected, "actor": caller.actor}
        if data.text:
            done = await desk.activate(caller.tenant, name, data.text, **change)
        else:
            done = await desk.activate_again(caller.tenant, name, data.version, **change)
        if isinstance(done, Refusal):
            _refuse(done, name)
        version = done.version if done is not None else expected
        view = ActivationView(name, version, done is not None, done.number if done is not None else 0)
        return Response(view, headers={"ETag": f'"{version}"'})

    return activate_playbook


def problem_of(fault: Fault) -> LintProblem:
    """A fault as it is told outside: names of files, never where they stand."""
    file = "" if fault.file == DRAFT else fault.file.name
    if fault.file != DRAFT and fault.file.parent.name == "wording":
        file = f"wording/{file}"
    return LintProblem(fault.line, fault.where, fault.message, fault.remedy, file)


def _texts_of(text: type[Struct]) -> type[Struct]:
    return msgspec.defstruct("PlaybookTexts", [("texts", list[text])], frozen=True)  # type: ignore[valid-type]


async def _texts(desk: PlaybookDesk, playbook: Playbook, wanted: PreviewRequest) -> Response[bytes]:
    try:
        found = await desk.texts(
            playbook, topic=wanted.topic, locale=wanted.locale, channel=wanted.channel, tone=wanted.tone
        )
    except TextsUnknown as problem:
        say_no(422, "wrong_value", "The request is refused", str(problem))
    body = msgspec.json.encode({"texts": found})
    return Response(body, media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


def _counting(desk: PlaybookDesk, tenant: str, name: str) -> Playbook:
    return desk.shelf(tenant).playbooks.get(name) or _unknown("playbook", name)


async def _kept(desk: PlaybookDesk, tenant: str, name: str, version: str) -> Version:
    _counting(desk, tenant, name)
    return await desk.version(tenant, name, version) or _unknown("version", version)


def _unknown(what: str, name: str) -> NoReturn:
    say_no(404, f"unknown_{what}", f"No such {what}", f"there is no {what} {name[:80]!r}; GET /v1/playbooks lists all")


def _version_line(one: Activation) -> VersionLine:
    return VersionLine(one.number, one.version, one.follows, one.activated_at, one.actor)


def _unified(old: Version, new: Version) -> str:
    signs = {"gone": "-", "new": "+", "same": " ", "gap": "@@ "}
    found = difference(as_yaml(old.spec, old.wordings), as_yaml(new.spec, new.wordings))
    return "\n".join(signs[line.kind] + line.text for line in found)


def _expected(request: Request[Any, Any, Any], data: ActivationRequest) -> str:
    """The version that the caller saw; `*` and weak validators name none."""
    given = request.headers.get("if-match", "").strip()
    if given.startswith('"') and given.endswith('"'):
        return given.strip('"')
    if data.expected_version is None:
        detail = 'say which version you saw: If-Match: "the version", or expected_version; for a new name it is empty'
        say_no(428, "no_expected_version", "Which version did you see?", detail, "expected_version")
    return data.expected_version


def _refuse(refusal: Refusal, name: str) -> NoReturn:
    title = "Not activated"
    if refusal.why == "changed":
        current = refusal.detail
        detail = f"{current or 'no version'} counts by now; compare it with yours, and activate again"
        raise HTTPException(
            detail=detail, status_code=412, headers={"ETag": f'"{current}"'},
            extra={"reason": "version_changed", "title": title, "field": "expected_version"},
        )  # fmt: skip
    if refusal.why == "faults":
        _refuse_faults(Checked(None, {}, refusal.faults))
    if refusal.why == "unknown_version":
        _unknown("version", refusal.detail)
    if refusal.why == "other_name":
        detail = f"text: the playbook calls itself {refusal.detail[:80]!r}; write `name: {name}`"
        say_no(422, "other_name", title, detail, "text")
    if refusal.why == "unusable":
        say_no(409, "unusable_version", title, "this release cannot read that version any more; activate its text anew")
    say_no(409, "still_in_use", title, f"{missed_words(refusal)}; keep them, or wait until nothing needs them")


def missed_words(refusal: Refusal) -> str:
    """What is in use and would be gone, as a sentence."""
    missed = refusal.missed
    kinds = (
        ("stages with live orders", missed.stages), ("open anomalies", missed.anomalies),
        ("topics that wait to be told", missed.topics),
    )  # fmt: skip
    return "the playbook lacks " + "; ".join(f"{what}: {', '.join(names)}" for what, names in kinds if names)


def _refuse_faults(checked: Checked) -> NoReturn:
    first = problem_of(checked.faults[0])
    more = f" (and {len(checked.faults) - 1} more; POST /v1/playbooks/lint lists them)" if checked.faults[1:] else ""
    where = f"{first.file or 'text'}:{first.line}"
    say_no(
        422, "invalid_playbook", "The playbook has faults", f"{where}: {first.message}; {first.remedy}{more}", "text"
    )
