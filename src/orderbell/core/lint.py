"""What a playbook must keep before it may decide anything: checks of a compiled playbook as a whole.

`compile_playbook` has refused unknown names by then; here are the promises that need the whole picture, the proof
that no SMS can be too long among them (S0-17).
"""

import difflib
import re
from collections.abc import Iterator
from datetime import timedelta

from phonenumbers import SUPPORTED_REGIONS

from orderbell.core.calendar import is_hours, is_zone
from orderbell.core.condition import Condition
from orderbell.core.decide import PRINCIPALS
from orderbell.core.durations import format_duration
from orderbell.core.events import ChannelName
from orderbell.core.plan import INBOX
from orderbell.core.playbook import NoticeRule, Playbook, Problem
from orderbell.core.wording import sms_problems

CRITICAL_WITHIN = timedelta(minutes=5)
_is_name = re.compile(r"[\w-]{1,64}").fullmatch
_QUOTED = re.compile(r"""["']([^"']+)["']""")


def lint_playbook(playbook: Playbook) -> list[Problem]:
    """Every broken promise of a compiled playbook, in the order of its file."""
    return [
        *_places(playbook),
        *_unreachable_stages(playbook),
        *_anomalies_for_ever(playbook),
        *_anomalies_from_nowhere(playbook),
        *_categories(playbook),
        *_notices(playbook),
        *_asks(playbook),
        *_circles(playbook),
        *_sms(playbook),
    ]


def _places(playbook: Playbook) -> Iterator[Problem]:
    if not _is_name(playbook.name):
        message = f"{playbook.name[:80]!r} is no name of a playbook: events and addresses carry it"
        yield Problem(("name",), message, "write 1 to 64 letters, digits, _ or -")
    if not is_zone(playbook.timezone):
        message = f"there is no time zone {playbook.timezone!r}"
        yield Problem(("timezone",), message, "write such as Asia/Shanghai")
    if playbook.spec.region not in SUPPORTED_REGIONS:
        message = f"there are no phone numbers of a region {playbook.spec.region!r}"
        yield Problem(("region",), message, "write two letters of ISO 3166, such as CN, HK or GB")
    if playbook.spec.quiet and not is_hours(playbook.spec.quiet):
        yield Problem(("quiet",), f"{playbook.spec.quiet!r} are no hours", "write such as 22:00-08:00")
    hours = playbook.spec.marketing.hours
    if not is_hours(hours) or hours[:5] >= hours[6:]:
        message = f"{hours!r} are no hours of one day"
        yield Problem(("marketing", "hours"), message, "write such as 09:00-20:00")


def _unreachable_stages(playbook: Playbook) -> Iterator[Problem]:
    reached = {rule.stage for rules in playbook.rules.values() for rule in rules}
    for name in list(playbook.stages)[1:]:
        if name not in reached:
            yield Problem(("stages", name), f"nothing leads to the stage {name!r}", f"add a rule with `stage: {name}`")
    if playbook.first_stage.end:
        yield Problem(
            ("stages", playbook.first_stage.name), "the first stage is an end", "begin with a stage on the ladder"
        )


def _anomalies_for_ever(playbook: Playbook) -> Iterator[Problem]:
    cleared = {name for names in playbook.clears.values() for name, _ in names}
    by_deadline = {name for deadline in playbook.deadlines.values() for name in deadline.open}
    for name, rule in playbook.anomalies.items():
        if name not in cleared and rule.clears_rank is None and name not in by_deadline:
            remedy = "add `clears: [event types]` or `clears_at: a stage`"
            yield Problem(("anomalies", name), f"nothing ever clears the anomaly {name!r}", remedy)


def _anomalies_from_nowhere(playbook: Playbook) -> Iterator[Problem]:
    opened = {rule.name for rules in playbook.opens.values() for rule, _ in rules}
    opened |= {name for deadline in playbook.deadlines.values() for name in deadline.open}
    for name in playbook.anomalies:
        if name not in opened:
            remedy = "add `opens: [{on: an event type}]`, open it by a deadline, or switch it off with `null`"
            yield Problem(("anomalies", name), f"nothing ever opens the anomaly {name!r}", remedy)


def _categories(playbook: Playbook) -> Iterator[Problem]:
    for name, category in playbook.spec.categories.items():
        if category.mandatory and category.marketing:
            remedy = "a mandatory category cannot be turned off, marketing always can (S0-30): choose one"
            yield Problem(("categories", name), f"the category {name!r} is mandatory and marketing", remedy)


def _notices(playbook: Playbook) -> Iterator[Problem]:
    for topic, rule in playbook.notices.items():
        path = ("notices", topic)
        if rule.wait > rule.within:
            message = f"waits {format_duration(rule.wait)} but promises to tell within {format_duration(rule.within)}"
            yield Problem((*path, "wait"), message, "shorten `wait` or lengthen `within`")
        if rule.valid_for < rule.within:
            remedy = "lengthen `valid_for`: news must not grow old before it has to be told"
            yield Problem((*path, "valid_for"), "is out of date before it has to be told", remedy)
        yield from _company(topic, rule)
        for locale, words in playbook.wording.items():
            for channel in dict.fromkeys(_channels_of(rule)):
                if not words.has(topic, channel):
                    remedy = f"add `{topic}:` with a text for {channel} to the wording of {locale}"
                    yield Problem((*path, "channels"), f"has no wording for {channel} in {locale}", remedy)


def _company(topic: str, rule: NoticeRule) -> Iterator[Problem]:
    """What does not go together in a topic."""
    path = ("notices", topic)
    for role in sorted(rule.to - PRINCIPALS):
        near = difflib.get_close_matches(role, PRINCIPALS, 1, 0.7)
        if near:
            yield Problem((*path, "to"), f"nobody has the role {role!r}", f"did you mean {near[0]}?")
    if rule.lane == "critical" and rule.within > CRITICAL_WITHIN:
        message = f"is critical, yet may take {format_duration(rule.within)}"
        yield Problem((*path, "within"), message, "write 5m at most (S0-15), or choose another lane")
    for channels in sorted({rule.channels, *(way.channels for way in rule.ways.values())}):
        if "inbox" in channels[:-1]:
            remedy = "name it last: it always reaches the person, so nothing after it is ever used"
            yield Problem((*path, "channels"), "has the inbox before other channels", remedy)
    if rule.mandatory and rule.level == "all":
        yield Problem((*path, "level"), "is mandatory, yet few would hear it", "drop `level` or change the category")
    if not rule.channels:
        yield Problem((*path, "channels"), "has no channel", "name at least one channel, or drop the line")
    if (rule.lane == "marketing") != rule.marketing:
        remedy = "a category with `marketing: true` and `lane: marketing` belong together"
        yield Problem((*path, "lane"), f"is of the category {rule.category!r} in the lane {rule.lane!r}", remedy)
    if rule.mandatory and rule.after:
        remedy = "drop `after`, or choose a category that is not mandatory"
        yield Problem((*path, "after"), "is mandatory, yet kept from those who heard nothing before", remedy)
    for tier, way in rule.ways.items():
        if not way.channels:
            yield Problem((*path, "tiers", tier, "channels"), "has no channel", "name at least one, or drop the line")


def _channels_of(rule: NoticeRule) -> Iterator[ChannelName]:
    """Every channel that a notice may go out on: those of all tiers, and the inbox, where mandatory ones end up."""
    yield from (*rule.channels, *rule.also)
    for way in rule.ways.values():
        yield from (*way.channels, *way.also)
    if rule.mandatory:
        yield from INBOX


def _asks(playbook: Playbook) -> Iterator[Problem]:
    heard = {option for rules in playbook.rules.get("choice.made", ()) for option in _options(rules.when)}
    heard |= {option for _, when in playbook.opens.get("choice.made", ()) for option in _options(when)}
    for ask in playbook.asks:
        options = (*filter(None, (ask.yes, ask.no)), *ask.choices, *(("extend",) if ask.extend_days_max else ()))
        for option in options:
            if option not in heard:
                remedy = f"add a rule `{{on: choice.made, when: 'event.option == \"{option}\"', …}}`"
                yield Problem(("asks", ask.name), f"the answer {option!r} leads to nothing", remedy)


def _options(when: Condition | None) -> set[str]:
    """The texts that a condition names: good enough to find an answer that nobody listens for."""
    return set(_QUOTED.findall(when.source)) if when is not None else set()


def _circles(playbook: Playbook) -> Iterator[Problem]:
    for topic, rule in playbook.notices.items():
        seen: set[str] = set()
        todo = list(rule.covers)
        while todo:
            covered = todo.pop()
            if covered == topic:
                message = f"{topic!r} covers itself, over others or not: each would wait for the other"
                yield Problem(("notices", topic, "covers"), message, "let the later news cover the earlier one only")
                break
            if covered not in seen:
                seen.add(covered)
                todo.extend(playbook.notices[covered].covers)


def _sms(playbook: Playbook) -> Iterator[Problem]:
    topics = [topic for topic, rule in playbook.notices.items() if "sms" in _channels_of(rule)]
    marketing = {topic for topic, rule in playbook.notices.items() if rule.marketing}
    for locale, words in playbook.wording.items():
        for wrong in sms_problems(words, topics, marketing):
            yield Problem(("wording", locale, *wrong.path), wrong.message, wrong.remedy)
