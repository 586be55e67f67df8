"""Templates at providers: which texts need one, what their rules say of them, what to hand in, and what came of it."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct

from orderbell.app.clock import system_clock
from orderbell.app.database import open_database, open_store
from orderbell.app.providers import ProviderSpec, read_providers
from orderbell.channels.templates import (
    TEMPLATE_KINDS,
    Problem,
    State,
    Strikes,
    TemplateKind,
    check_count,
    check_keys,
    check_sign,
    check_template,
    hand_in,
    read_state,
    shared_keys,
    template_kind,
    translate,
)
from orderbell.core.events import ChannelName
from orderbell.core.playbook import NoticeRule
from orderbell.core.turn import Shelf
from orderbell.core.wording import Template
from orderbell.errors import OrderBellError, SettingsInvalid
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.templates import Binding, Templates, digest_of

DIGEST_LENGTH_MIN = 6
"""So many characters of a digest are enough, if no other text's begins with them."""

SHOWN_DIGEST = 8
"""So many characters of a digest are shown."""

STATES = ("draft", *get_args(State))
"""All that a template can be."""

_is_hex = re.compile(r"[0-9a-fA-F]+").fullmatch

Row = dict[str, Any]
"""What to hand in for a text or topic, and what is known of it: what `Desk.export` makes."""


class TemplatesWrong(OrderBellError):
    """What was asked for cannot be done with the templates of a provider."""


@dataclass
class Wanted:
    """A text that a provider must approve before it can be sent.

    `topics` and `locales` are where it is said. `needed` is the last of a ladder: without it something goes unsaid,
    without others it is only said in fewer words. `widths` are the greatest lengths of variables.
    """

    template: Template
    topics: set[str] = field(default_factory=set)
    locales: set[str] = field(default_factory=set)
    needed: bool = False
    widths: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """By what the text is known in files and on the command line."""
        return digest_of(self.template.text).hex()


class Provider(Struct, frozen=True):
    """A provider of templates, as its file says: `sign` is the name that we send under, where it has one."""

    name: str
    kind: TemplateKind
    sign: str
    variable_max: int | None
    keys: Mapping[str, Mapping[str, str]]

    @property
    def channel(self) -> ChannelName:
        """What it carries."""
        return "wechat" if self.kind == "wechat" else "sms"


class Synced(Struct, frozen=True):
    """What has changed: texts that are new, that are gone, and those that are gone but stand at the provider."""

    new: int
    kept: int
    dropped: int
    orphaned: tuple[str, ...]


class Complaint(Struct, frozen=True):
    """A problem, and all the texts that have it; none where it is not about texts."""

    problem: Problem
    texts: tuple[str, ...] = ()


class Listed(Struct, frozen=True):
    """What is known of a provider's templates and signatures; `gone` are the texts that no playbook has any more."""

    bindings: tuple[Binding, ...]
    gone: frozenset[str]
    signatures: tuple[tuple[str, str, str], ...]

    def in_state(self, state: str) -> tuple[Binding, ...]:
        """The templates that are in a state; all, where it is empty."""
        return tuple(one for one in self.bindings if state in ("", one.state))


class Bound(Struct, frozen=True):
    """What a binding did: the texts that have the code now, and those that cannot fill the template, each with why."""

    texts: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def find_provider(settings: Settings, name: str) -> Provider:
    """A provider by its name in the file of providers.

    Raises:
        SettingsInvalid: There is no file of providers, or it is wrong.
        TemplatesWrong: There is no such provider, or it takes any text.
    """
    if not settings.providers_file:
        raise SettingsInvalid("no providers are configured: set ORDERBELL_PROVIDERS_FILE to the file that names them")
    specs = {spec.name: spec for spec in read_providers(Path(settings.providers_file))}
    if name not in specs:
        raise TemplatesWrong(f"there is no provider {name!r}; {settings.providers_file} names: {', '.join(specs)}")
    return provider_of(specs[name])


def provider_of(spec: ProviderSpec) -> Provider:
    """What is to be known of a provider of templates; TemplatesWrong for one that takes any text."""
    kind = template_kind(spec.kind)
    if kind is None:
        kinds = ", ".join(TEMPLATE_KINDS)
        raise TemplatesWrong(f"{spec.name} ({spec.kind}) sends any text and approves none; only {kinds} need templates")
    options = spec.options
    limit = getattr(options, "variable_max", None)
    return Provider(spec.name, kind, getattr(options, "sign", ""), limit, getattr(options, "keys", {}))


def wanted_texts(shelf: Shelf, channel: ChannelName) -> dict[str, Wanted]:
    """Every text that the playbooks may send on a channel."""
    found: dict[str, Wanted] = {}
    for playbook in shelf.playbooks.values():
        for rule in playbook.notices.values():
            if channel not in _channels_of(rule):
                continue
            for locale, wording in playbook.wording.items():
                texts = list(wording.templates(rule.topic, channel, marketing=rule.marketing))
                last: dict[str, int] = {}
                for template in texts:
                    last[template.tone] = max(last.get(template.tone, 0), template.variant)
                for template in texts:
                    one = found.setdefault(template.text, Wanted(template))
                    one.topics.add(template.topic)
                    one.locales.add(locale)
                    one.needed |= template.variant == last[template.tone] and "link" not in template.names
                    one.widths = _widest(one.widths, wording.widths)
    return found


def _channels_of(rule: NoticeRule) -> set[ChannelName]:
    ways = [way for tier in rule.ways.values() for way in (*tier.channels, *tier.also)]
    return {*rule.channels, *rule.also, *ways}


def _widest(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {name: max(width, one.get(name, 0)) for name, width in other.items()}


def check(settings: Settings, name: str, locale: str = "") -> list[Complaint]:
    """All that the provider would find fault with, the gravest first; asks neither it nor the database.

    With a `locale` only its texts count; TemplatesWrong where no playbook has words in it.
    """
    provider = find_provider(settings, name)
    wanted = wanted_texts(load_shelf(settings.playbooks_dir), provider.channel)
    if locale:
        _check_locale(wanted, locale)
        wanted = {text: one for text, one in wanted.items() if locale in one.locales}
    found: dict[Problem, list[str]] = defaultdict(list)
    for text, one in wanted.items():
        for problem in check_template(provider.kind, one.template, one.widths, provider.variable_max):
            found[problem].append(text)
    if provider.kind == "wechat":
        topics = len({topic for one in wanted.values() for topic in one.topics})
        whole = [check_count(provider.kind, topics, topics)]
    else:
        needed = sum(one.needed for one in wanted.values())
        whole = [check_sign(provider.sign), check_count(provider.kind, len(wanted), needed)]
    complaints = [Complaint(problem, tuple(texts)) for problem, texts in found.items()]
    gravity = list(Strikes)
    complaints.sort(key=lambda one: (gravity.index(one.problem.strikes), -len(one.texts)))
    return [*(Complaint(problem) for problem in whole if problem is not None), *complaints]


def _check_locale(wanted: Mapping[str, Wanted], locale: str) -> None:
    known = sorted({found for one in wanted.values() for found in one.locales})
    if locale not in known:
        raise TemplatesWrong(f"no playbook has words in {locale!r}; known: {', '.join(known)}")


class Desk:
    """The templates of one provider: what the playbooks say, and what stands in the database.

    Every method raises DatabaseUnavailable where PostgreSQL does not answer.
    """

    def __init__(self, provider: Provider, shelf: Shelf, templates: Templates) -> None:
        self.provider = provider
        self.wanted = wanted_texts(shelf, provider.channel)
        self._templates = templates

    async def sync(self) -> Synced:
        """Draft every text that is not known yet, and forget those that are gone and were never handed in."""
        provider, known = self.provider.name, {one.text: one for one in await self._templates.of(self.provider.name)}
        drafts = [
            Binding(provider, text, one.template.names, one.template.marketing)
            for text, one in self.wanted.items()
            if text not in known
        ]
        await self._templates.draft(drafts, system_clock())
        gone = [one for text, one in known.items() if text not in self.wanted]
        dropped = [one.text for one in gone if not one.code]
        await self._templates.forget(provider, dropped)
        sign = self.provider.sign
        if sign and sign not in {name for name, _, _ in await self._templates.signatures(provider)}:
            await self._templates.review_signature(provider, sign, "draft", "", system_clock())
        return Synced(
            len(drafts),
            len(known) - len(gone),
            len(dropped),
            tuple(dict.fromkeys(one.code for one in gone if one.code)),
        )

    async def listing(self) -> Listed:
        """What is known of each text and signature."""
        bindings = await self._templates.of(self.provider.name)
        gone = frozenset(one.text for one in bindings if one.text not in self.wanted)
        return Listed(tuple(bindings), gone, tuple(await self._templates.signatures(self.provider.name)))

    async def export(self, *, every: bool = False, needed: bool = False, locale: str = "") -> list[Row]:
        """What to hand in, a row for each text or, for WeChat, for each topic.

        `content` is the text in the form of the provider, `examples` what its variables may hold, `request` the
        parameters of an API call, for WeChat the `keys` for the file of providers.

        Without `every`, only what has not been handed in yet or was rejected.

        Raises:
            TemplatesWrong: There are texts that have not been drafted, or no playbook has words in the locale.
        """
        if locale:
            _check_locale(self.wanted, locale)
        known = {one.text: one for one in await self._templates.of(self.provider.name)}
        self._check_drafted(self.wanted.keys() - known.keys())
        chosen = {
            text: known[text]
            for text, one in self.wanted.items()
            if (one.needed or not needed) and locale in ("", *one.locales)
        }
        if self.provider.kind == "wechat":
            return list(self._topic_rows(chosen, every=every))
        return [
            self._row(self.wanted[text], binding)
            for text, binding in chosen.items()
            if every or not binding.code or binding.state == "rejected"
        ]

    async def bind(self, code: str, which: str, state: State) -> Bound:
        """Put down the provider's code of a text, given by its words in either form, or by the begin of its digest."""
        known = await self._templates.of(self.provider.name)
        bound = self._resolve_text(known, code, which)
        return await self._keep(bound, code, state)

    async def bind_topic(self, code: str, topic: str, state: State) -> Bound:
        """Put down the id of the WeChat template that all texts of a topic fill, as far as they can."""
        return await self._keep(self._resolve_topic(code, topic), code, state)

    async def take(self, rows: Sequence[tuple[int, Mapping[str, str]]]) -> tuple[int, int]:
        """Put down what came back from the console; how many texts were bound, and how many rows had no code.

        Rows come with their line. Either all are taken, or none.

        Raises:
            TemplatesWrong: Says line by line what is wrong.
        """
        known = await self._templates.of(self.provider.name)
        taken: list[tuple[Bound, str, State, str]] = []
        problems: list[str] = []
        skipped = 0
        for line, row in rows:
            code = row.get("code", "").strip()
            if not code:
                skipped += 1
                continue
            try:
                taken.append((self._resolve_row(known, code, row), code, self._state(row), row.get("reason", "")))
            except TemplatesWrong as problem:
                problems.append(f"line {line}: {problem}")
        problems += _clashes(taken) if self.provider.kind != "wechat" else []
        if problems:
            raise TemplatesWrong("nothing was taken:\n" + "\n".join(problems))
        for bound, code, state, reason in taken:
            await self._keep(bound, code, state, reason)
        return sum(len(bound.texts) for bound, *_ in taken), skipped

    async def _keep(self, bound: Bound, code: str, state: State, reason: str = "") -> Bound:
        name, now = self.provider.name, system_clock()
        known = {one.text: one for one in await self._templates.of(name)}
        self._check_drafted(set(bound.texts) - known.keys())
        for text in bound.texts:
            # What the provider has decided already may have come before we were told the code, or told it again.
            if state != "in_review" or known[text].code != code or known[text].state == "draft":
                await self._templates.bind(name, text, code, state, now)
        if reason:
            await self._templates.review(name, code, state, reason, now)
        return bound

    def _check_drafted(self, missing: Collection[str]) -> None:
        if missing:
            name = self.provider.name
            raise TemplatesWrong(
                f"{name} has no draft of {counted(len(missing), 'text')}; run `orderbell templates sync {name}` first"
            )

    def _row(self, one: Wanted, binding: Binding) -> Row:
        handed = hand_in(self.provider.kind, one.template, one.digest, self.provider.sign)
        return {
            "provider": self.provider.name, "digest": one.digest, "topic": " ".join(sorted(one.topics)),
            "needed": one.needed, "name": handed.name, "type": handed.type_name, "content": handed.content,
            "examples": dict(handed.examples), "remark": handed.remark, "code": binding.code, "state": binding.state,
            "reason": binding.reason, "request": handed.request,
        }  # fmt: skip

    def _topic_rows(self, chosen: Mapping[str, Binding], *, every: bool) -> Iterator[Row]:
        by_topic: dict[str, list[Binding]] = defaultdict(list)
        for text, binding in chosen.items():
            for topic in self.wanted[text].topics:
                by_topic[topic].append(binding)
        for topic, bindings in by_topic.items():
            free = [one for one in bindings if not one.code or one.state == "rejected"]
            if not every and not free:
                continue
            keys = shared_keys([one.names for one in bindings])
            first = min(free or bindings, key=lambda one: "zh-CN" not in self.wanted[one.text].locales)
            yield {
                "provider": self.provider.name, "digest": "", "topic": topic, "needed": True, "name": topic,
                "type": "marketing" if first.marketing else "notice", "content": translate("wechat", "", keys),
                "examples": {}, "remark": first.text, "code": first.code, "state": first.state, "reason": first.reason,
                "request": {"keys": keys},
            }  # fmt: skip

    def _resolve_row(self, known: Sequence[Binding], code: str, row: Mapping[str, str]) -> Bound:
        if not row.get("digest", "").strip() and self.provider.kind == "wechat":
            return self._resolve_topic(code, row.get("topic", "").strip())
        return self._resolve_text(known, code, row.get("digest", "").strip())

    def _resolve_text(self, known: Sequence[Binding], code: str, which: str) -> Bound:
        kind, name = self.provider.kind, self.provider.name
        found = [one for one in known if which in (one.text, translate(kind, one.text))]
        if not found and _is_hex(which) and len(which) < DIGEST_LENGTH_MIN:
            words = f"{which!r} is too short: give at least {DIGEST_LENGTH_MIN} characters of a digest"
            raise TemplatesWrong(f"{words}; `orderbell templates list {name}` shows {SHOWN_DIGEST} of each")
        if not found and len(which) >= DIGEST_LENGTH_MIN:
            found = [one for one in known if digest_of(one.text).hex().startswith(which.lower())]
        if len(found) != 1:
            what = f"{len(found)} texts are" if found else "there is no text"
            remedy = f"`orderbell templates list {name}` shows them all, `… sync {name}` takes in new ones"
            raise TemplatesWrong(f"{what} {which!r} at {name}; {remedy}")
        others = [one for one in known if one.code == code and one.text != found[0].text]
        if others and kind != "wechat":
            raise TemplatesWrong(
                f"{code} is already the template of another text: {others[0].text!r};"
                " check the code, each text has its own"
            )
        return self._fitting(code, [(found[0].text, found[0].names)])

    def _resolve_topic(self, code: str, topic: str) -> Bound:
        if self.provider.kind != "wechat":
            raise TemplatesWrong(
                f"a template of {self.provider.name} is one text; --topic is for WeChat, give a digest"
            )
        texts = [(text, one.template.names) for text, one in self.wanted.items() if topic in one.topics]
        if not texts:
            topics = sorted({topic for one in self.wanted.values() for topic in one.topics})
            raise TemplatesWrong(f"no playbook tells {topic!r} by WeChat; known: {', '.join(topics)}")
        return self._fitting(code, texts)

    def _fitting(self, code: str, texts: Sequence[tuple[str, tuple[str, ...]]]) -> Bound:
        """Of WeChat's texts only those that can fill the template: another one would be refused with every message."""
        if self.provider.kind != "wechat":
            return Bound(tuple(text for text, _ in texts))
        keys = self.provider.keys.get(code)
        if keys is None:
            shown = ", ".join(f'{name} = "{key}"' for name, key in shared_keys([names for _, names in texts]).items())
            raise TemplatesWrong(
                f"{self.provider.name} has no keys for {code}; write them into the file of providers, named as in the"
                f' template, such as\n[provider.keys]\n"{code}" = {{ {shown} }}'
            )
        problems = [(text, check_keys(names, keys)) for text, names in texts]
        left_out = tuple((text, f"{wrong.message}; {wrong.remedy}") for text, wrong in problems if wrong is not None)
        if len(left_out) == len(texts):
            raise TemplatesWrong(f"no text can fill {code} with its keys: {left_out[0][1]}")
        return Bound(tuple(text for text, wrong in problems if wrong is None), left_out)

    def _state(self, row: Mapping[str, str]) -> State:
        words = row.get("state", "")
        state = read_state(self.provider.kind, "" if words == "draft" else words)
        if state is None:
            raise TemplatesWrong(f"{words!r} is no state; write in_review, approved or rejected")
        return state


def _clashes(taken: Iterable[tuple[Bound, str, State, str]]) -> list[str]:
    texts: dict[str, set[str]] = defaultdict(set)
    for bound, code, *_ in taken:
        texts[code].update(bound.texts)
    return [f"{code} stands at {len(found)} texts; each has its own" for code, found in texts.items() if len(found) > 1]


@asynccontextmanager
async def open_desk(settings: Settings, name: str) -> AsyncIterator[Desk]:
    """The templates of a provider, for as long as the block lasts; raises as `find_provider` does."""
    provider = find_provider(settings, name)
    shelf = load_shelf(settings.playbooks_dir)
    async with open_database(settings) as dsn, open_store(dsn, settings, 1) as store:
        yield Desk(provider, shelf, Templates(store))


async def import_rows(settings: Settings, rows: Mapping[str, Sequence[tuple[int, Mapping[str, str]]]]) -> list[str]:
    """Put down what came back from consoles, by provider; says in words what was done for each.

    Raises:
        TemplatesWrong: Says line by line what is wrong; of that provider nothing is taken.
    """
    done = []
    for name, found in rows.items():
        async with open_desk(settings, name) as desk:
            taken, skipped = await desk.take(found)
        left = f", {counted(skipped, 'row')} without a code left alone" if skipped else ""
        done.append(f"{name}: {counted(taken, 'text')} bound{left}")
    return done


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 text, 2 texts."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
