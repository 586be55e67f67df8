"""What a page shows of a playbook, in the words of who looks: the ladder, the topics, the anomalies."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from orderbell.core.durations import parse_duration
from orderbell.core.playbook import DeadlineSpec, OpensSpec, Playbook, RuleSpec, StageSpec, WaySpec, many
from orderbell.store.activation import Missed
from orderbell.web.rendering import View

_SECONDS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
_COUNT_MIN = 2  # 36 hours are read more easily than a day and a half


class Move(Struct, frozen=True):
    """Something that happens: by what, under which condition (as it is written), and what it does in words."""

    by: str
    when: str
    does: tuple[str, ...]


class Rung(Struct, frozen=True):
    """A stage with what brings an order here, and what silence does; the first one begins."""

    code: str
    says: str
    light: str
    end: bool
    first: bool
    next_update: str
    moves: tuple[Move, ...]
    silences: tuple[Move, ...]


class TopicRow(Struct, frozen=True):
    """A topic: who hears it, how soon, on which channels, and what is other for whom."""

    code: str
    name: str
    to: str
    within: str
    lane: str
    lane_code: str
    category: str
    mandatory: bool
    marketing: bool
    channels: str
    also: str
    tiers: tuple[str, ...]


class AnomalyRow(Struct, frozen=True):
    """An anomaly: who owns it, what it lights, opens and ends by."""

    code: str
    name: str
    light: str
    owner: str
    opened_by: tuple[Move, ...]
    cleared_by: tuple[Move, ...]
    tells: str


def rungs_of(playbook: Playbook, view: View) -> list[Rung]:
    """The ladder from its first stage on, the ways off it last."""
    spec = playbook.spec
    stages = [*spec.stages.items()]
    return [
        _rung(playbook, name, stage, view, first=not place)
        for place, (name, stage) in enumerate(stages)
    ]  # fmt: skip


def moves_at_any_stage(playbook: Playbook, view: View) -> list[Move]:
    """What happens without moving the order on."""
    return [_rule_move(rule, view) for rule in playbook.spec.rules if not rule.stage]


def topics_of(playbook: Playbook, view: View) -> list[TopicRow]:
    """Who hears what, when and where."""
    made = []
    for topic, rule in playbook.notices.items():
        spec = playbook.spec.notices[topic]
        tiers = tuple(_way_words(tier, way, view) for tier, way in spec.tiers.items())
        made.append(
            TopicRow(
                topic, view.called("topics", topic), _listed("roles", sorted(rule.to), view),
                span_words(spec.within, view),
                view.called("lanes", rule.lane), rule.lane, view.called("categories", rule.category), rule.mandatory,
                rule.marketing, " → ".join(view.called("channels", one) for one in rule.channels),
                _listed("channels", rule.also, view), tiers,
            )
        )  # fmt: skip
    return made


def anomalies_of(playbook: Playbook, view: View) -> list[AnomalyRow]:
    """What can be wrong with an order, and whose it is."""
    made = []
    for name, rule in playbook.anomalies.items():
        spec = playbook.spec.anomalies[name]
        if spec is None:  # pragma: no cover - what is switched off is not compiled
            continue
        opened = [_event_move(one, view) for one in spec.opens]
        for code, deadline in playbook.deadlines.items():
            if name in deadline.open:
                opened.append(Move(view.say("playbook.by_deadline", name=code), "", ()))
        wanted = (spec.clears,) if isinstance(spec.clears, str) else spec.clears
        cleared = [_event_move(OpensSpec(one) if isinstance(one, str) else one, view) for one in wanted if one]
        if spec.clears_at:
            stage = said(playbook, spec.clears_at, view)
            cleared.append(Move(view.say("playbook.clears_at", stage=stage), "", ()))
        made.append(
            AnomalyRow(
                name, view.called("anomalies", name), rule.light, view.called("owners", rule.owner), tuple(opened),
                tuple(cleared), _listed("topics", rule.tell, view),
            )
        )  # fmt: skip
    return made


def missed_lines(missed: Missed, view: View) -> list[str]:
    """What is in use and would be gone, in words."""
    kinds = (
        ("stages", missed.stages, ""), ("anomalies", missed.anomalies, "anomalies"),
        ("topics", missed.topics, "topics"),
    )  # fmt: skip
    return [
        view.say(f"playbook.missed_{what}", names=_listed(table, names, view)) for what, names, table in kinds if names
    ]


def said(playbook: Playbook, stage: str, view: View) -> str:
    """What a customer is told of a stage in the viewer's language; its name where nothing is."""
    says = playbook.stages[stage].says
    return says.get(view.locale) or says.get(playbook.locale) or stage


def span_words(written: str, view: View) -> str:
    """A span such as 36h in the viewer's words, in the greatest unit that it is a few of."""
    seconds = round(abs(parse_duration(written).total_seconds()))
    for unit, length in _SECONDS.items():
        if seconds % length == 0 and (seconds >= length * _COUNT_MIN or length in (seconds, 1)):
            count = seconds // length
            return view.say(f"shell.{unit}" if count == 1 else f"shell.{unit}s", count=count)
    raise AssertionError(written)  # pragma: no cover - whole seconds are left


def _rung(playbook: Playbook, name: str, spec: StageSpec, view: View, *, first: bool) -> Rung:
    rules = tuple(_rule_move(rule, view) for rule in playbook.spec.rules if rule.stage == name)
    silences = tuple(
        _silence(found, view)
        for code, deadline in playbook.deadlines.items()
        if name in deadline.stages and (found := playbook.spec.deadlines[code]) is not None
    )
    update = span_words(spec.next_update, view) if spec.next_update else ""
    return Rung(name, said(playbook, name, view), spec.light, spec.end, first, update, rules, silences)


def _rule_move(rule: RuleSpec, view: View) -> Move:
    does = [
        view.say(f"playbook.{key}", what=_listed(table, many(names), view))
        for key, names, table in (
            ("tells", rule.tell, "topics"), ("answers", rule.answer, "topics"), ("withdraws", rule.withdraw, "topics"),
            ("marks", rule.mark, ""),
        )
        if names
    ]  # fmt: skip
    if rule.during:
        does.insert(0, f"{view.say('playbook.if')} {_listed('anomalies', many(rule.during), view)}")
    return Move(_listed("events", many(rule.on), view), rule.when, tuple(does))


def _silence(deadline: DeadlineSpec, view: View) -> Move:
    kind, _, name = deadline.since.partition(":")
    anchor = view.say(f"playbook.anchor_{kind}", name=view.called("anomalies", name))
    key = "before" if deadline.after.startswith("-") else "after" if parse_duration(deadline.after) else "at"
    by = view.say(f"playbook.{key}", anchor=anchor, span=span_words(deadline.after, view))
    does = [
        view.say(f"playbook.{key}", what=_listed(table, many(names), view))
        for key, names, table in (("opens", deadline.open, "anomalies"), ("tells", deadline.tell, "topics"))
        if names
    ]
    tone = deadline.tone
    if tone is not None and tone != "calm":
        does.append(view.say(f"playbook.says_{tone}"))
    return Move(by, deadline.when, tuple(does))


def _event_move(opens: OpensSpec, view: View) -> Move:
    return Move(_listed("events", many(opens.on), view), opens.when, ())


def _way_words(tier: str, way: WaySpec, view: View) -> str:
    parts = []
    if way.channels is not None:
        parts.append(" → ".join(view.called("channels", one) for one in way.channels))
    if way.also:
        parts.append(view.say("playbook.same_time", channels=_listed("channels", way.also, view)))
    if way.tone is not None:
        parts.append(view.say(f"playbook.says_{way.tone}"))
    return view.say("playbook.for_tier", tier=view.say(f"playbook.tier_{tier}"), what="; ".join(parts))


def _listed(table: str, codes: Iterable[str] | Sequence[str], view: View) -> str:
    names = (view.called(table, code) if table else code for code in codes)
    return ("、" if view.language == "zh" else ", ").join(names)
