"""Small charts as inline SVG, drawn for paper and for screens of any width, without a script.

Widths are percents and heights pixels, so that letters keep their size on a narrow screen. Colours are classes of
the page: `old`, `new`, and one for each channel. Whatever comes from outside is escaped.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

ROW_HEIGHT = 46
COLUMNS_HEIGHT = 180
LINES_HEIGHT = 180
_TICKS = 4


class Pair(NamedTuple):
    """A figure before and after, with its label, and words for whoever points at it."""

    label: str
    before: float
    after: float
    hint: str = ""


def bars(pairs: Sequence[Pair], title: str) -> Markup:
    """Two bars for each label, one under the other; the figures stand at the right."""
    most = max((max(pair.before, pair.after) for pair in pairs), default=0) or 1
    parts: list[Markup] = []
    for index, pair in enumerate(pairs):
        top = index * ROW_HEIGHT
        parts += [
            _text(0, top + 14, pair.label, "start"),
            _text(100, top + 14, pair.hint, "end", "soft"),
            _bar(0, top + 21, 100 * pair.before / most, 8, "old"),
            _bar(0, top + 31, 100 * pair.after / most, 8, "new"),
        ]
    return _svg(parts, len(pairs) * ROW_HEIGHT, title)


def shares(rows: Sequence[tuple[str, Sequence[Pair]]], title: str) -> Markup:
    """A bar of 100 percent for each row, cut by channel; `before` of a pair is its count, its label the class."""
    parts: list[Markup] = []
    for index, (label, pairs) in enumerate(rows):
        top = index * 58
        whole = sum(pair.before for pair in pairs) or 1
        parts.append(_text(0, top + 14, label, "start"))
        left = 0.0
        for pair in pairs:
            width = 100 * pair.before / whole
            parts.append(_bar(left, top + 22, width, 24, f"cut c-{pair.label}", pair.hint))
            left += width
    return _svg(parts, len(rows) * 58, title)


def strips(
    rows: Sequence[tuple[str, Sequence[Pair]]], ticks: Sequence[str], shaded: Iterable[int], title: str
) -> Markup:
    """A row of cells for each label, the darker the more; `shaded` columns get a bar under them."""
    most = max((pair.before for _, pairs in rows for pair in pairs), default=0) or 1
    parts: list[Markup] = []
    width = 100 / (len(ticks) or 1)
    for index, (label, pairs) in enumerate(rows):
        top = index * 56
        parts.append(_text(0, top + 14, label, "start"))
        for column, pair in enumerate(pairs):
            strength = 0.07 + 0.93 * math.sqrt(pair.before / most) if pair.before else 0.0
            cell = Markup(
                '<rect x="{}%" y="{}" width="{}%" height="26" class="ground cut"/>'
                '<rect x="{}%" y="{}" width="{}%" height="26" class="{} cut" fill-opacity="{}"><title>{}</title></rect>'
            )
            x, w = _number(column * width), _number(width)
            side = "old-strong" if index == 0 else "new"
            parts.append(cell.format(x, top + 21, w, x, top + 21, w, side, _number(strength), pair.hint))
    bottom = len(rows) * 56
    parts += [_bar(column * width, bottom - 3, width, 4, "night cut") for column in shaded]
    parts += [
        _text((column + 0.5) * width, bottom + 18, tick, "middle", "soft") for column, tick in enumerate(ticks) if tick
    ]
    return _svg(parts, bottom + 26, title)


def columns(pairs: Sequence[Pair], title: str) -> Markup:
    """Two columns for each label, side by side, over a grid."""
    top, grid = _grid(max((max(pair.before, pair.after) for pair in pairs), default=0), COLUMNS_HEIGHT, "{:,.0f}")
    parts = list(grid)
    width = 100 / (len(pairs) or 1)
    for index, pair in enumerate(pairs):
        for value, shift, side in ((pair.before, 0.14, "old"), (pair.after, 0.5, "new")):
            height = COLUMNS_HEIGHT * value / top
            left = (index + shift) * width
            parts.append(_bar(left, 16 + COLUMNS_HEIGHT - height, 0.34 * width, height, side, pair.hint))
        parts.append(_text((index + 0.5) * width, COLUMNS_HEIGHT + 34, pair.label, "middle", "soft"))
    return _svg(parts, COLUMNS_HEIGHT + 42, title)


def lines(pairs: Sequence[Pair], title: str, money: str = "¥{:,.0f}") -> Markup:
    """Two lines over time; the first, middle and last label stand below."""
    top, grid = _grid(max((max(pair.before, pair.after) for pair in pairs), default=0), LINES_HEIGHT, money)
    parts = list(grid)
    last = max(len(pairs) - 1, 1)
    drawn = [Markup('<svg x="0" y="16" width="100%" height="{}" viewBox="0 0 100 100" preserveAspectRatio="none">')]
    drawn[0] = drawn[0].format(LINES_HEIGHT)
    for side in ("before", "after"):
        values = [getattr(pair, side) for pair in pairs]
        path = " ".join(
            f"{_number(100 * i / last)},{_number(100 - 100 * value / top)}" for i, value in enumerate(values)
        )
        drawn.append(
            Markup('<polyline class="line {}" points="{}"/>').format("old" if side == "before" else "new", path)
        )
    parts += [*drawn, Markup("</svg>")]
    for index, anchor in ((0, "start"), (last // 2, "middle"), (last, "end")):
        if index < len(pairs) and (anchor != "middle" or len(pairs) > 2):  # noqa: PLR2004 - a middle needs two ends
            parts.append(_text(100 * index / last, LINES_HEIGHT + 34, pairs[index].label, anchor, "soft"))
    return _svg(parts, LINES_HEIGHT + 42, title)


def _grid(most: float, height: int, form: str) -> tuple[float, list[Markup]]:
    """The value at the top, and lines at round values below it, with their words."""
    step = _round_step(most / _TICKS)
    top = step * max(1, math.ceil(most / step - 1e-9))
    parts: list[Markup] = []
    for index in range(round(top / step) + 1):
        y = 16 + height - height * index * step / top
        parts.append(
            Markup('<line x1="0" x2="100%" y1="{0}" y2="{0}" class="{1}"/>').format(
                _number(y), "axis" if not index else "grid"
            )
        )
        if index:
            parts.append(_text(0, y - 4, form.format(index * step), "start", "soft tick"))
    return top, parts


def _round_step(least: float) -> float:
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _svg(parts: Iterable[Markup], height: int, title: str) -> Markup:
    body = Markup("").join(parts)
    head = Markup('<svg role="img" width="100%" height="{}" aria-label="{}">').format(height, title)
    return head + body + Markup("</svg>")


def _bar(x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> Markup:
    said = Markup("<title>{}</title>").format(hint) if hint else Markup("")
    return Markup('<rect x="{}%" y="{}" width="{}%" height="{}" class="{}">{}</rect>').format(
        _number(x), _number(y), _number(width), _number(height), kind, said
    )


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text x="{}%" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        _number(x), _number(y), anchor, kind, escape(words)
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
