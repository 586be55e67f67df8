"""The words: texts with `{name}` in them, compiled once, filled in microseconds, proved to fit in one SMS.

A wording file holds all texts of one locale. A topic has a ladder of SMS texts, the fullest first, perhaps one
ladder for each tone; `compose` takes the first that fits into one part with the values at hand. The last of a
ladder must fit for *any* values: `sms_problems` proves it from the greatest length of every variable (S0-17).

Texts know names only: no formats, no attributes, no conditions. What depends on a value being known is a
*phrase*, a piece of text with names of its own, which is left out where one of them has no value. Values are never
read as texts, so nothing that a customer writes can pull another value or fake a signature.
"""

import difflib
import itertools
import re
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from msgspec import Struct, structs

from orderbell.core.events import ORDER_NO_MAX, ChannelName
from orderbell.core.forms import (
    Form,
    SpansSpec,
    date_form,
    longest_spans,
    show_code,
    show_date,
    show_money,
    show_span,
)
from orderbell.core.model import Order, Tone
from orderbell.core.segments import (
    SEPTETS_MAX,
    UNITS_MAX,
    clean,
    cut,
    is_gsm,
    measure,
    one_part,
    plain,
    utf16_units,
)
from orderbell.errors import OrderBellError

Kind = Literal["text", "code", "money", "date", "span"]
Ladder = tuple[str, ...] | dict[Tone, tuple[str, ...]]
Toned = str | dict[Tone, str]

TONES: tuple[Tone, ...] = get_args(Tone)  # each falls back to the one before it
LADDER_MAX = 12  # each text is tried before a message leaves, and proved to fit with the longest values
TEXT_MAX = 200  # outside SMS; intake takes no longer words
LINK_LENGTH = 20  # 119 bits: variables of approved templates are often no longer
LINK_MASK = "*" * LINK_LENGTH  # stands for the code of a link until the message leaves, and for good in what is stored
_LINK = "{link}"
_NAME = re.compile(r"\{([a-z_]+)\}")
_CODED = re.compile(r"[a-z][a-z_]*(\.[a-z_]+)+").fullmatch
_CODED_NAMES = frozenset({"reason", "parcel_reason"})
_CLOSED_NAMES = frozenset({"state", "choice"})  # codes of a playbook: one without words says nothing to people

_CUT_FORMS = ("short", "plain")
_SMS_FORMS: dict[bool, tuple[Form, ...]] = {False: ("short",), True: ("short", "plain")}


@dataclass(frozen=True, slots=True)
class Variable:
    """What a `{name}` in a text stands for.

    `max_count` is the greatest length in an SMS, in UTF-16 units: longer texts are cut, longer codes are taken for
    none. `value` reads the raw value from an order when the message is decided: texts as they are, money in fen,
    dates as whole seconds since 1970, spans in seconds; None where there is none.
    """

    kind: Kind
    max_count: int
    value: Callable[[Order], str | int | None]


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _parcel_reason(order: Order) -> str | None:
    # The last reason of an order may be about something else, such as its payment.
    return order.reason if order.reason.startswith(("carrier.", "customs.", "recipient.")) else None


# The lengths of texts are those of Chinese; a wording file may set others. A date is at most 12月31日, money
# 9,999,999,999.99 and a span is measured from the forms of its locale.
VARIABLES: Mapping[str, Variable] = {
    "order_no": Variable("code", ORDER_NO_MAX, lambda order: order.no),
    "tracking_no": Variable("code", ORDER_NO_MAX, lambda order: order.tracking_no or None),
    "title": Variable("text", 12, lambda order: order.title or None),
    "kind": Variable("text", 6, lambda order: order.category or None),
    "reason": Variable("text", 10, lambda order: order.reason or None),
    "parcel_reason": Variable("text", 10, _parcel_reason),
    "carrier": Variable("text", 8, lambda order: order.carrier or None),
    "place": Variable("text", 8, lambda order: order.place or None),
    "amount": Variable("money", 16, lambda order: order.amount_fen or None),
    "price": Variable("money", 16, lambda order: order.price_fen or None),
    "sum": Variable("money", 16, lambda order: order.sum_fen or None),
    "promised": Variable("date", 6, lambda order: _seconds(order.promised_by)),
    "until": Variable("date", 6, lambda order: _seconds(order.until)),
    "state": Variable("text", 16, lambda order: order.stage),  # or `anomaly.NAME`: the playbook says which
    "choice": Variable("text", 6, lambda _order: None),  # the event says it
    "next": Variable("span", 0, lambda _order: None),  # the stage says when, not the order (S1-30)
    "link": Variable("code", LINK_LENGTH, lambda _order: None),  # stands in no text, but behind it
}


class EmailSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail: its subject, and its text with line breaks."""

    subject: str
    text: Toned


class TopicSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The words for one topic; a channel without its own takes the fullest SMS text, unsigned.

    `explain` is added for newcomers where there is room for it (S3-28).
    """

    sms: Ladder = ()
    push: Toned = ""
    wechat: Toned = ""
    inbox: Toned = ""
    email: EmailSpec | None = None
    explain: str = ""


class WordingSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A wording file. `reasons`, `carriers` and `kinds` put words to codes, `lengths` overrules VARIABLES.

    `playbooks` holds other words for topics of single playbooks. `link` ends in `{link}` and is put behind an SMS where
    the playbook names an address for links and there is room; `opt_out` is put behind every SMS of marketing.
    """

    locale: str
    signature: str
    subject: str
    date: str
    spans: SpansSpec
    texts: dict[str, TopicSpec]
    opt_out: str = ""
    link: str = ""
    months: tuple[str, ...] = ()
    defaults: dict[str, str] = {}
    lengths: dict[str, int] = {}
    phrases: dict[str, str] = {}
    reasons: dict[str, str] = {}
    carriers: dict[str, str] = {}
    kinds: dict[str, str] = {}
    choices: dict[str, str] = {}
    playbooks: dict[str, dict[str, TopicSpec]] = {}


class WordingProblem(OrderBellError, ValueError):
    """What is wrong with a wording file: `path` in its tree, `message`, and `remedy`."""

    def __init__(self, path: tuple[str | int, ...], message: str, remedy: str) -> None:
        super().__init__(path, message, remedy)
        self.path, self.message, self.remedy = path, message, remedy

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.message}; {self.remedy}"


class Text(Struct, frozen=True):
    """A finished text. `tone` is that of the words, `variant` the rung of the ladder, 0 the fullest.

    `units` counts UTF-16 units, or septets in an SMS of GSM characters only; `segments` is 0 outside SMS and above
    1 only where the problems that `sms_problems` found were left unmended. `template` is the text before it was filled,
    with `{name}` for each variable and without signature; `slots` are the names and what was filled in, in that order.
    Both are empty unless they were asked for.
    """

    text: str
    subject: str
    tone: Tone
    variant: int
    units: int
    segments: int
    template: str = ""
    slots: tuple[tuple[str, str], ...] = ()


class Template(Struct, frozen=True):
    """A text as providers approve it: `{name}` for each variable, no signature; `names` in the order of the text.

    The same text may belong to several topics and tones; it is one template all the same.
    """

    text: str
    names: tuple[str, ...]
    topic: str
    tone: Tone
    variant: int
    marketing: bool


@dataclass(frozen=True, slots=True)
class Longest:
    """The proof for one text, the `last` of its ladder or not: the most it can take, and what it may.

    `unsure` are the variables that it cannot do without and that may have no value.
    """

    path: tuple[str | int, ...]
    topic: str
    tone: Tone
    last: bool
    units: int
    units_max: int
    unsure: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Template:
    # `pattern % values`, the quickest way to fill; `names` are of variables and phrases, `needs` of variables alone.
    pattern: str
    names: tuple[str, ...]
    needs: frozenset[str]

    def fill(self, shown: Mapping[str, str]) -> str:
        return self.pattern % tuple([shown[name] for name in self.names])

    @property
    def literal(self) -> str:
        return self.pattern % (("",) * len(self.names))

    def bare(self, phrases: Mapping[str, "_Template"], said: Collection[str]) -> tuple[str, tuple[str, ...]]:
        """The text before it is filled, with the phrases that are `said` written out, and its variables in order."""
        parts: list[str] = []
        names: list[str] = []
        for name in self.names:
            phrase = phrases.get(name)
            if phrase is None:
                parts.append(f"{{{name}}}")
                names.append(name)
            elif name in said:
                parts.append(phrase.pattern % tuple([f"{{{inner}}}" for inner in phrase.names]))
                names += phrase.names
            else:
                parts.append("")
        return self.pattern % tuple(parts), tuple(names)


@dataclass(frozen=True, slots=True)
class _Rungs:
    # The texts of one topic, channel and tone, with all that they show: first the variables, then the phrases.
    # A text about something unknown is passed over (`needs`); the last is taken whatever it lacks.
    tone: Tone
    templates: tuple[_Template, ...]
    needs: tuple[tuple[str, ...], ...]
    names: tuple[tuple[str, Kind], ...]
    phrases: tuple[str, ...]
    path: tuple[str | int, ...]
    subject: _Template | None = None


@dataclass(frozen=True, slots=True)
class _Tail:
    # What is put behind an SMS, whatever it says: how to refuse advertising, or where to read more.
    text: str = ""
    template: str = ""
    names: tuple[str, ...] = ()


_NO_TAIL = _Tail()
_Toned = dict[Tone, _Rungs]
_Topic = tuple[dict[ChannelName, _Toned], dict[ChannelName, _Toned]]  # for everybody, and for newcomers


@dataclass(frozen=True, slots=True)
class _Locale:
    # What every text of a wording shares.
    spec: WordingSpec
    signature: str
    phrases: Mapping[str, _Template]
    widths: Mapping[str, int]
    words: Mapping[str, tuple[Mapping[str, str], int, str]]
    gsm: bool
    ellipsis: str
    tails: Mapping[bool, tuple[_Tail, ...]]  # of marketing, and of all else: what is tried first comes first


class Wording:
    """The compiled texts of one locale under one brand."""

    def __init__(self, shared: _Locale, topics: Mapping[str, _Topic]) -> None:
        self._shared = shared
        self._topics = {topic: found for topic, (found, _) in topics.items()}
        self._explained = {topic: explained for topic, (_, explained) in topics.items() if explained}
        self.locale = shared.spec.locale
        self._bares: dict[tuple[object, ...], tuple[str, tuple[str, ...]]] = {}  # as many as there are templates

    @property
    def widths(self) -> Mapping[str, int]:
        """The most that each variable can take in an SMS, in UTF-16 units."""
        return self._shared.widths

    @property
    def topics(self) -> frozenset[str]:
        """The topics that there are words for."""
        return frozenset(self._topics)

    @property
    def spec(self) -> WordingSpec:
        """What it was compiled from."""
        return self._shared.spec

    def has(self, topic: str, channel: ChannelName) -> bool:
        """Whether there are words for the topic on the channel."""
        return channel in self._topics.get(topic, {})

    def variables(self, topic: str) -> set[str]:
        """The variables that any text of the topic uses, in its phrases and subjects too."""
        found = [*self._topics.get(topic, {}).values(), *self._explained.get(topic, {}).values()]
        return {name for toned in found for rungs in toned.values() for name, _kind in rungs.names}

    def has_tone(self, topic: str, tone: Tone) -> bool:
        """Whether the topic has words of its own for a tone."""
        return any(toned[tone].tone == tone for toned in self._topics.get(topic, {}).values())

    def compose(
        self,
        topic: str,
        channel: ChannelName,
        tone: Tone,
        values: Mapping[str, str | int],
        *,
        timezone: str,
        marketing: bool = False,
        newcomer: bool = False,
        approved: Container[str] | None = None,
        templated: bool = False,
    ) -> Text | None:
        """Write a text; None where the topic has no words for the channel, or none of its templates is `approved`.

        A newcomer is told what the step means, where there is room. A missing tone falls back to the nearest calmer
        one. An unknown zone is taken for UTC. `templated` texts come with their template and slots.
        """
        found = (newcomer and self._explained.get(topic)) or self._topics.get(topic, {})
        toned = found.get(channel)
        if toned is None:
            return None
        rungs = toned[tone]
        if channel == "sms":
            return self._sms(rungs, values, timezone, self._shared.tails[marketing], approved, templated=templated)
        shown = self._show(rungs, values, timezone, "mail" if channel == "email" else "long")
        subject = rungs.subject.fill(shown) if rungs.subject else ""
        for variant, template in enumerate(rungs.templates):
            if all(map(shown.get, rungs.needs[variant])) and self._is_approved(template, shown, _NO_TAIL, approved):
                text = template.fill(shown)
                made = Text(text, subject, rungs.tone, variant, utf16_units(text), 0)
                return self._templated(made, template, shown, _NO_TAIL) if templated else made
        return None

    def _sms(
        self,
        rungs: _Rungs,
        values: Mapping[str, str | int],
        timezone: str,
        tails: tuple[_Tail, ...],
        approved: Container[str] | None,
        *,
        templated: bool,
    ) -> Text | None:
        gsm, signature = self._shared.gsm, self._shared.signature
        text, variant = "", 0
        # Where one foreign letter in a name would more than halve the room, the text is tried without it.
        for form in _SMS_FORMS[gsm]:
            shown = self._show(rungs, values, timezone, form)
            for tail, (variant, template) in itertools.product(tails, enumerate(rungs.templates)):
                if all(map(shown.get, rungs.needs[variant])) and self._is_approved(template, shown, tail, approved):
                    text = f"{signature}{template.fill(shown)}{tail.text}"
                    units = one_part(text, gsm=gsm)
                    if units is not None:
                        made = Text(text, "", rungs.tone, variant, units, 1)
                        return self._templated(made, template, shown, tail) if templated else made
        if not text:
            return None
        size = measure(text, gsm=gsm)
        return Text(text, "", rungs.tone, variant, size.units, size.parts)

    def _is_approved(
        self, template: _Template, shown: Mapping[str, str], tail: _Tail, approved: Container[str] | None
    ) -> bool:
        return approved is None or self._bare(template, shown)[0] + tail.template in approved

    def _templated(self, text: Text, template: _Template, shown: Mapping[str, str], tail: _Tail) -> Text:
        bare, names = self._bare(template, shown)
        slots = [(name, shown[name] or "-") for name in names]  # no provider takes an empty word
        return structs.replace(
            text, template=bare + tail.template, slots=(*slots, *((name, LINK_MASK) for name in tail.names))
        )

    def _bare(self, template: _Template, shown: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
        phrases = self._shared.phrases
        said = tuple([name for name in template.names if name in phrases and shown[name]])
        key = (template.pattern, template.names, said)
        found = self._bares.get(key)
        if found is None:
            found = self._bares[key] = template.bare(phrases, said)
        return found

    def templates(self, topic: str, channel: ChannelName, *, marketing: bool = False) -> Iterator[Template]:
        """Every text of a topic as a provider would have to approve it, with and without each phrase and the link."""
        tails = self._shared.tails[marketing] if channel == "sms" else (_NO_TAIL,)
        for found in (self._topics, self._explained):
            for tone, rungs in found.get(topic, {}).get(channel, {}).items():
                for variant, template in enumerate(rungs.templates if rungs.tone == tone else ()):
                    phrases = [name for name in template.names if name in self._shared.phrases]
                    for count in range(len(phrases), -1, -1):
                        for said in itertools.combinations(phrases, count):
                            bare, names = template.bare(self._shared.phrases, said)
                            for tail in tails:
                                text = bare + tail.template
                                yield Template(text, (*names, *tail.names), topic, tone, variant, marketing)

    def _show(self, rungs: _Rungs, values: Mapping[str, str | int], timezone: str, form: Form) -> dict[str, str]:
        shown, spec = dict[str, str](), self._shared.spec
        for name, kind in rungs.names:
            value = values.get(name)
            if kind == "code":
                shown[name] = show_code(value, form)
            elif kind == "text":
                shown[name] = self._text(name, value, form)
            elif not isinstance(value, int):
                shown[name] = ""
            elif kind == "money":
                shown[name] = show_money(value, form)
            elif kind == "date":
                shown[name] = show_date(spec.date, spec.months, value, timezone)
            else:
                shown[name] = show_span(spec.spans, value)
        for name in rungs.phrases:
            phrase = self._shared.phrases[name]
            shown[name] = phrase.fill(shown) if all(map(shown.get, phrase.names)) else ""
        return shown

    def _text(self, name: str, value: str | int | None, form: Form) -> str:
        vocabulary, units_max, default = self._shared.words[name]
        if not isinstance(value, str):
            return default
        text = clean(value)
        if vocabulary:
            if text in vocabulary:
                text = vocabulary[text]
            elif name in _CLOSED_NAMES or (name in _CODED_NAMES and _CODED(text)):
                return default
        if form == "plain":
            text = plain(text)
        if form not in _CUT_FORMS:
            units_max = TEXT_MAX
        return cut(text, units_max, self._shared.ellipsis) or default

    def word(self, name: str, value: str) -> str:
        """What a text variable shows at full length: the words of a code; where there are none, the usual word."""
        return self._text(name, value, "long")

    def longest(self, topic: str, *, marketing: bool = False) -> Iterator[Longest]:
        """The most that each SMS text of a topic can take, whatever the values.

        Where signature and literals are of the GSM alphabet and 70 UTF-16 units could be exceeded, the septets of
        the plain form are the measure, in which codes may take two for each character.
        """
        tail = self._shared.tails[marketing][-1].text
        for tone, rungs in self._topics.get(topic, {}).get("sms", {}).items():
            if rungs.tone == tone:
                for variant, template in enumerate(rungs.templates):
                    yield self._longest_of(topic, rungs, variant, template, tail)

    def _longest_of(self, topic: str, rungs: _Rungs, variant: int, template: _Template, tail: str) -> Longest:
        shared = self._shared
        literal = f"{shared.signature}{template.literal}{tail}"
        names: list[str] = []
        for name in template.names:
            phrase = shared.phrases.get(name)
            literal += phrase.literal if phrase else ""
            names += phrase.names if phrase else (name,)
        units, units_max = utf16_units(literal) + sum(shared.widths[name] for name in names), UNITS_MAX
        if units > units_max and shared.gsm and is_gsm(literal + _forms(shared.spec, names)):
            widths = [shared.widths[name] * (1 + (VARIABLES[name].kind == "code")) for name in names]
            units, units_max = measure(literal).units + sum(widths), SEPTETS_MAX
        last = variant == len(rungs.templates) - 1
        unsure = template.needs - {"order_no"} - shared.spec.defaults.keys()
        return Longest((*rungs.path, variant), topic, rungs.tone, last, units, units_max, unsure)


def compile_wording(
    spec: WordingSpec,
    brand: str,
    lineage: Sequence[str] = (),
    states: Mapping[str, str] | None = None,
    link: str = "",
) -> Wording:
    """Compile a wording file under a brand; raises WordingProblem for the first thing that is wrong.

    `lineage` names the playbooks whose own words count, the nearest last: what is extended, then what extends.
    `states` are the playbook's words for stages and anomalies, `link` is where its short links begin.
    """
    compiler = _Compiler(spec, brand, states or {}, link)
    topics = {topic: compiler.explained(found, ("texts", topic)) for topic, found in spec.texts.items()}
    own = {
        playbook: {topic: compiler.explained(found, ("playbooks", playbook, topic)) for topic, found in texts.items()}
        for playbook, texts in spec.playbooks.items()
    }
    for playbook in lineage:
        topics.update(own.get(playbook, {}))
    return Wording(compiler.shared, topics)


class _Compiler:
    """Reads the texts of one file; what they share comes first, because they refer to it."""

    def __init__(self, spec: WordingSpec, brand: str, states: Mapping[str, str], link: str) -> None:
        self.spec, self.brand, self.states = spec, clean(brand), states
        self.phrases: dict[str, _Template] = {}
        self.check_forms()
        signature = self.template(spec.signature, ("signature",), bracketed=True)
        if signature.names:
            raise WordingProblem(("signature",), "a signature has no values", "use no name but {brand}")
        gsm = is_gsm(signature.literal)
        self.shared = _Locale(
            spec, signature.literal, self.phrases, self.widths(), self.words(), gsm, ".." if gsm else "…",
            {True: (_Tail(spec.opt_out, spec.opt_out),), False: (*self.linked(link), _NO_TAIL)},
        )  # fmt: skip
        self.phrases.update({name: self.phrase(name, source) for name, source in spec.phrases.items()})

    def check_forms(self) -> None:
        spec = self.spec
        if "{month}" not in spec.date or "{day}" not in spec.date:
            raise WordingProblem(("date",), "a date needs its month and its day", "write such as {month}月{day}日")
        if len(spec.months) not in (0, 12):
            raise WordingProblem(("months",), f"{len(spec.months)} months", "name twelve, or none for numbers")
        for unit in ("minutes", "hours", "days"):
            form = getattr(spec.spans, unit)
            if "{count}" not in (form if isinstance(form, str) else form[1]):
                raise WordingProblem(("spans", unit), "the number is missing", "write {count} where it stands")

    def linked(self, link: str) -> tuple[_Tail, ...]:
        """What a link adds to a text; nothing, where there are no links or no words for them."""
        words = self.spec.link
        if not words:
            return ()
        if words.count("{") != 1 or not words.endswith(f" {_LINK}"):
            raise WordingProblem(("link",), f"{words!r} does not end in a link", f'write such as " {_LINK}"')
        if not link:
            return ()
        begin = words.removesuffix(_LINK) + link
        self.check_literal(begin.strip(), "", ("link",), multiline=False, bracketed=False)
        return (_Tail(begin + LINK_MASK, begin + _LINK, ("link",)),)

    def widths(self) -> dict[str, int]:
        spec = self.spec
        found = {name: variable.max_count for name, variable in VARIABLES.items()}
        for name, length in spec.lengths.items():
            self.check_text_name(name, "lengths", name)
            found[name] = length
        dates = [date_form(spec.date, spec.months, month, 30) for month in range(1, 13)]
        spans = longest_spans(spec.spans)
        most = {"date": max(map(utf16_units, dates)), "span": max(map(utf16_units, spans))}
        return {name: most.get(VARIABLES[name].kind, length) for name, length in found.items()}

    def words(self) -> dict[str, tuple[Mapping[str, str], int, str]]:
        """For each text variable: its words for codes, its greatest length, and its word where there is no value."""
        spec, widths = self.spec, self.widths()
        tables: dict[str, tuple[str, Mapping[str, str]]] = {}
        tables |= {"reason": ("reasons", spec.reasons), "parcel_reason": ("reasons", spec.reasons)}
        tables |= {"carrier": ("carriers", spec.carriers), "kind": ("kinds", spec.kinds)}
        tables |= {"choice": ("choices", spec.choices), "state": ("states", self.states)}
        for name, (section, words) in tables.items():
            for code, word in words.items():
                self.check_word(word, widths[name], section, code)
        for name, word in spec.defaults.items():
            self.check_text_name(name, "defaults", name)
            self.check_word(word, widths[name], "defaults", name)
        texts = [name for name, variable in VARIABLES.items() if variable.kind == "text"]
        return {name: (tables.get(name, ("", {}))[1], widths[name], spec.defaults.get(name, "")) for name in texts}

    @staticmethod
    def check_text_name(name: str, *path: str) -> None:
        if name not in VARIABLES or VARIABLES[name].kind != "text":
            texts = ", ".join(known for known, variable in VARIABLES.items() if variable.kind == "text")
            raise WordingProblem(path, f"{name!r} is no text", f"use one of: {texts}")

    @staticmethod
    def check_word(word: str, units_max: int, *path: str) -> None:
        units = utf16_units(word)
        if units > units_max:
            remedy = f"shorten it, or raise its entry under lengths (now {units_max})"
            raise WordingProblem(path, f"{word!r} is {units} long", remedy)

    def phrase(self, name: str, source: str) -> _Template:
        path = ("phrases", name)
        if name in VARIABLES or name == "brand":
            raise WordingProblem(path, f"{name!r} is the name of a variable", "give the phrase a name of its own")
        template = self.template(source, path)
        if not template.names or not template.needs.issuperset(template.names):
            raise WordingProblem(path, "a phrase needs variables, and no phrase", "write it out")
        return template

    def explained(self, spec: TopicSpec, path: tuple[str | int, ...]) -> _Topic:
        """The texts of one topic, and those for newcomers where it explains itself."""
        for tone, texts in spec.sms.items() if isinstance(spec.sms, dict) else [("", spec.sms)]:
            if len(texts) > LADDER_MAX:
                where = (*path, "sms", tone) if tone else (*path, "sms")
                raise WordingProblem(where, f"a ladder of {len(texts)} texts", f"write at most {LADDER_MAX}")
        found = self.topic(spec, path)
        if not spec.explain:
            return found, {}
        self.template(spec.explain, (*path, "explain"))
        return found, self.topic(_explained(spec), path)

    def topic(self, spec: TopicSpec, path: tuple[str | int, ...]) -> dict[ChannelName, _Toned]:
        """The texts of one topic by channel and tone; tones and channels without their own are filled up."""
        made: dict[ChannelName, _Toned] = {}
        if spec.sms:
            made["sms"] = self.toned(spec.sms, (*path, "sms"))
        own: dict[ChannelName, Toned] = {"inbox": spec.inbox, "push": spec.push, "wechat": spec.wechat}
        for channel, texts in own.items():
            if texts:
                made[channel] = self.toned(_as_ladders(texts), (*path, channel))
        spare = made.get("sms") or made.get("inbox")
        if spec.email:
            made["email"] = self.toned(_as_ladders(spec.email.text), (*path, "email", "text"), spec.email.subject)
        elif spare:
            made["email"] = {tone: self.with_subject(rungs, self.spec.subject) for tone, rungs in spare.items()}
        if spare:
            made |= {channel: spare for channel in own if channel not in made}
        if not made:
            raise WordingProblem(path, "a topic without a text", "write at least one SMS text")
        return made

    def toned(self, ladders: Ladder, path: tuple[str | int, ...], subject: str = "") -> _Toned:
        by_tone: dict[Tone, tuple[str, ...]] = ladders if isinstance(ladders, dict) else {"calm": ladders}
        if "calm" not in by_tone:
            raise WordingProblem(path, "there is no calm text", "every other tone falls back to calm: write that first")
        made: _Toned = {}
        calmer: Tone = "calm"
        for tone in TONES:
            if tone in by_tone:
                calmer = tone
                where = (*path, tone) if isinstance(ladders, dict) else path
                made[tone] = self.with_subject(self.rungs(tone, by_tone[tone], where), subject)
            else:
                made[tone] = made[calmer]
        return made

    def rungs(self, tone: Tone, sources: tuple[str, ...], path: tuple[str | int, ...]) -> _Rungs:
        if not sources:
            raise WordingProblem(path, "a ladder without a text", "write at least one")
        multiline = "email" in path
        templates = tuple(
            self.template(source, (*path, index), multiline=multiline) for index, source in enumerate(sources)
        )
        needs = (*(tuple(sorted(template.needs)) for template in templates[:-1]), ())
        return _Rungs(tone, templates, needs, *self.shown(templates), path)

    def shown(self, templates: Sequence[_Template]) -> tuple[tuple[tuple[str, Kind], ...], tuple[str, ...]]:
        names = {name for template in templates for name in template.names}
        phrases = names & self.phrases.keys()
        names = names - phrases | {inner for name in phrases for inner in self.phrases[name].names}
        return tuple((name, VARIABLES[name].kind) for name in sorted(names)), tuple(sorted(phrases))

    def with_subject(self, rungs: _Rungs, source: str) -> _Rungs:
        if not source:
            return rungs
        subject = self.template(source, (*rungs.path, "subject"))
        names, phrases = self.shown((*rungs.templates, subject))
        return replace(rungs, names=names, phrases=phrases, subject=subject)

    def template(
        self, source: str, path: tuple[str | int, ...], *, multiline: bool = False, bracketed: bool = False
    ) -> _Template:
        pieces = _NAME.split(source.strip() if multiline else source)
        pattern: list[str] = []
        names: list[str] = []
        for literal, name in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
            self.check_literal(literal, name, path, multiline=multiline, bracketed=bracketed)
            pattern.append(literal.replace("%", "%%"))
            if name == "brand":
                pattern.append(self.brand.replace("%", "%%"))
            elif name:
                self.check_name(name, path)
                pattern.append("%s")
                names.append(name)
        return _Template("".join(pattern), tuple(names), frozenset(names) & VARIABLES.keys())

    @staticmethod
    def check_literal(
        literal: str, name: str, path: tuple[str | int, ...], *, multiline: bool, bracketed: bool
    ) -> None:
        if "{" in literal or "}" in literal or (name and literal.endswith("$")):
            found = f"{literal}{{{name}}}" if name else literal
            message = f"{found!r}: only {{name}} is known, without formats, attributes or further signs"
            raise WordingProblem(path, message, "write {order_no} and the like, and no other braces")
        for line in literal.split("\n") if multiline else (literal,):
            seen = line.replace("【", "").replace("】", "") if bracketed else line
            if clean(f"[{seen}]") != f"[{seen}]":
                message = f"{line!r} holds invisible characters, a line break, two blanks or 【】"
                raise WordingProblem(path, message, "remove them; the signature is put in front by itself")

    def check_name(self, name: str, path: tuple[str | int, ...]) -> None:
        known = [*(known for known in VARIABLES if known != "link"), *self.spec.phrases, "brand"]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {{{near[0]}}}?" if near else f"use one of: {', '.join(known)}"
            raise WordingProblem(path, f"there is no variable {name!r}", remedy)


def _explained(spec: TopicSpec) -> TopicSpec:
    """The same words with the explanation behind them; in an SMS where one of them fits so: the ladder below stays."""
    more = spec.explain

    def ladder(texts: tuple[str, ...]) -> tuple[str, ...]:
        return (*(f"{text}{more}" for text in texts), *texts)

    def toned(texts: Toned) -> Toned:
        if isinstance(texts, str):
            return texts and f"{texts}{more}"
        return {tone: f"{text}{more}" for tone, text in texts.items()}

    sms = {tone: ladder(texts) for tone, texts in spec.sms.items()} if isinstance(spec.sms, dict) else ladder(spec.sms)
    email = spec.email and EmailSpec(spec.email.subject, toned(spec.email.text))
    return TopicSpec(sms, toned(spec.push), toned(spec.wechat), toned(spec.inbox), email)


def _as_ladders(texts: Toned) -> Ladder:
    return (texts,) if isinstance(texts, str) else {tone: (text,) for tone, text in texts.items()}


def longest(wording: Wording, topics: Collection[str], marketing: Collection[str] = ()) -> list[Longest]:
    """The most that each SMS text of these topics can take; the opt-out line counts for those in `marketing`."""
    return [found for topic in topics for found in wording.longest(topic, marketing=topic in marketing)]


def _forms(spec: WordingSpec, names: Collection[str]) -> str:
    # What else stands in a text: the letters of dates, spans and default words.
    kinds = {VARIABLES[name].kind for name in names}
    parts = [spec.defaults.get(name, "") for name in names]
    if "date" in kinds:
        parts += [date_form(spec.date, spec.months, month, 30) for month in range(1, 13)]
    if "span" in kinds:
        parts += longest_spans(spec.spans)
    return "".join(parts)


def sms_problems(wording: Wording, topics: Collection[str], marketing: Collection[str] = ()) -> list[WordingProblem]:
    """Why some SMS of these topics could exceed one part, or lack what it speaks of; empty if that cannot be.

    The last text of every ladder must fit for any value and speak of nothing that may be unknown (S0-17).
    """
    problems: list[WordingProblem] = []
    for found in longest(wording, topics, marketing):
        which = f"the last SMS of {found.topic} ({found.tone})"
        over = found.units - found.units_max
        if found.last and over > 0:
            message = f"{which} can have {found.units} characters, {found.units_max} fit"
            remedy = f"shorten this text by {over}, or add a shorter one after it"
            problems.append(WordingProblem(found.path, message, remedy))
        if found.last and found.unsure:
            message = f"{which} needs {', '.join(sorted(found.unsure))}, which may be unknown"
            remedy = "move it into a phrase, or add a text without it"
            problems.append(WordingProblem(found.path, message, remedy))
    return problems
