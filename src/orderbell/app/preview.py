"""How the texts of a playbook look in a terminal: each with a meter of its length, the longest case in grey below."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orderbell.core.playbook import Playbook
from orderbell.errors import PlaybookInvalid
from orderbell.insight.preview import About, Filled, Preview, PreviewUnknown
from orderbell.playbooks import SHIPPED, SHIPPED_NAMES, check_playbook

_LONGEST = "longest"
_WIDE = 100  # from so many columns on there is room for a longer meter
_INDENT = 3
# Where a Chinese line may break: not before what closes, not after what opens, and in codes only at a dash.
_PIECE = re.compile(r"[【（“]*(?:[!-~]{4,}?-|[!-~]+|.)[。，、！？：；）”】…]*")


def find_playbook(which: str) -> tuple[Playbook, list[str]]:
    """A shipped playbook by its name, or one in a file, and what lint says of it.

    Raises PreviewUnknown where there is neither, PlaybookInvalid where it does not even compile.
    """
    path = SHIPPED / f"{which}.yaml" if which in SHIPPED_NAMES else Path(which)
    if not path.is_file():
        names = ", ".join(SHIPPED_NAMES)
        raise PreviewUnknown(f"there is no playbook {which!r}; name one that ships ({names}), or a file")
    playbook, problems = check_playbook(path)
    if playbook is None:
        raise PlaybookInvalid("\n".join(problems))
    return playbook, problems


def show_previews(console: Console, playbook: Playbook, previews: Sequence[Preview], *, every: bool) -> None:
    """Print the texts, one block for each topic; unless `every`, no channel that only repeats the SMS."""
    shown = [found for found in previews if every or found.own]
    for topic, of_topic in groupby(shown, lambda found: found.topic):
        found = list(of_topic)
        console.print(_heading(topic, found[0].about, console.width))
        for _, group in groupby(found, lambda one: (one.locale, one.channel, one.newcomer)):
            console.print(_ladder(list(group), console.width))
        console.print()
    counts = f"texts: {len(shown)}, topics: {len({found.topic for found in shown})}"
    console.print(f"[bold]{playbook.name}[/] version {playbook.version}, {counts}", highlight=False)
    console.print(_legend())


def _heading(topic: str, about: About, width: int) -> Group:
    """The topic, who hears it when, where, and for how long it is news."""
    line = Text.assemble(("── ", "dim"), (topic, "bold cyan"), (f" {'─' * max(0, width - cell_len(topic) - 4)}", "dim"))
    told = [f"{' and '.join(about.to)} within {about.within}"]
    told += [f"held {about.wait} for more news"] if about.wait != "0s" else []
    told.append("critical, at any hour" if about.lane == "critical" else f"{about.lane} lane")
    told.append(about.category + (", cannot be turned off" if about.mandatory else ""))
    ways = [_way(about.channels, about.also, fallback=about.fallback)]
    ways += ["only for people who want all news"] if about.level == "all" else []
    ends = [f"old news after {about.valid_for}"]
    for tier, way in about.tiers.items():
        other = _way(way.channels, way.also, fallback=about.fallback) if way.channels != about.channels else ""
        other = other or (_together(way.also) if way.also != about.also else "")
        words = [other] * bool(other) + ([f"{way.tone} or kinder"] if way.tone else [])
        ends.append(f"{tier} customers: {', '.join(words)}")
    ends += [f"only for who heard {' or '.join(about.after)}"] if about.after else []
    return Group(line, *(Padding(Text(" · ".join(facts)), (0, 0, 0, _INDENT)) for facts in (told, ways, ends)))


def _way(channels: Sequence[str], also: Sequence[str], *, fallback: bool) -> str:
    words = (" → " if fallback else " or ").join(one for one in channels if one == channels[0] or one not in also)
    return f"{words}, {_together(also)}" if also else words


def _together(also: Sequence[str]) -> str:
    return f"{' and '.join(also) or 'nothing'} at the same time"


def _ladder(group: list[Preview], width: int) -> Group:
    bar = 16 if width >= _WIDE else 10
    label_width = max(len(_LONGEST), *(cell_len(_label(found).plain) for found in group))
    meter_width = bar + len("▕▏ 160/160")
    text_width = max(20, width - _INDENT - label_width - meter_width - 2)
    table = Table.grid(padding=(0, 1))
    table.add_column(width=label_width, no_wrap=True)
    table.add_column(width=text_width, overflow="fold")
    table.add_column(width=meter_width, no_wrap=True)
    for found in group:
        sample = found.sample
        subject = (_wrapped(f"{sample.subject}\n", text_width), "bold") if sample.subject else ""
        reading = Text.assemble(subject, _wrapped(sample.text.rstrip(), text_width))
        table.add_row(_label(found), reading, _meter(sample, bar, last=found.last))
        if found.channel == "sms":
            meter = _meter(found.worst, bar, last=found.last)
            meter.stylize("dim")
            table.add_row(Text(_LONGEST, "dim"), Text(_wrapped(found.worst.text, text_width), "dim"), meter)
    return Group("", Padding(_title(group), (0, 0, 0, _INDENT)), Padding(table, (0, 0, 0, _INDENT)))


def _title(group: list[Preview]) -> Text:
    """Which texts these are, and what they speak of: each variable with the most that it takes."""
    first = group[0]
    notes = ["newcomers, where it fits"] if first.newcomer else []
    notes += [] if first.own else ["the words of the SMS, unsigned"]
    about = first.about
    used = {*about.channels, *about.also}
    used.update(*((*way.channels, *way.also) for way in about.tiers.values()))
    notes += [] if first.channel in used else ["not a channel of this topic"]
    notes += [f"opt-out line “{first.opt_out.strip()}” counted"] if first.opt_out else []
    slots = dict.fromkeys(slot for found in group for slot in found.slots)
    notes.append("  ".join(f"{{{slot.name}}}" + f" ≤{slot.units_max}" * (first.channel == "sms") for slot in slots))
    return Text.assemble(
        (f"{first.locale} {first.channel}", "bold"), *((f" · {note}", "dim") for note in notes if note)
    )


def _label(found: Preview) -> Text:
    sent, mark = ("●", "green") if found.chosen else (" ", ""), "■" if found.last and found.variant_count > 1 else " "
    return Text.assemble(f"{found.tone} {found.variant + 1}", mark, sent)


def _wrapped(text: str, width: int) -> str:
    """A text with line breaks where Chinese may break; words between blanks are left to the terminal."""
    if cell_len(text) == len(text):
        return text
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _PIECE.findall(paragraph):
            if cell_len(line + piece) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line)
    return "\n".join(lines)


def _meter(filled: Filled, width: int, *, last: bool) -> Text:
    """How full one SMS is: green fits, yellow gives way to the next text, red has none to give way to."""
    if filled.units_max is None:
        return Text(f"{filled.units} characters", "dim")
    full = min(width, -(-filled.units * width // filled.units_max))
    colour = "green" if filled.fits else "red" if last else "yellow"
    edge = "▏" if filled.fits else "▶"
    bar = Text.assemble("▕", ("█" * full + " " * (width - full), colour), (edge, "" if filled.fits else colour))
    return bar.append(f" {filled.units:>3}/{filled.units_max}", "" if filled.fits else colour)


def _legend() -> Text:
    return Text.assemble(
        ("●", "green"), " goes out for these values   ■ last text: must fit whatever the values are\n",
        ("longest", "dim"), ": the most that values can make of it   ▶ too long for one SMS:\n",
        ("yellow", "yellow"), ": the next text goes out   ", ("red", "red"), ": there is no next\n",
        "Of 160: every letter is of GSM-7. Of 70: some may not be (UCS-2).",
    )  # fmt: skip
