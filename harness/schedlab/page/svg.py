# SPDX-License-Identifier: GPL-2.0-only
"""Charts as SVG: the same data give the same bytes, and a page can restyle them.

Shapes carry classes, no colours of their own: ``STYLE`` is once in a page (which may darken it),
and inside each file that stands alone.  Lengths are px at the natural size; text is 12 px there, so
a chart is made narrow and several stand side by side, rather than one that shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE = (Path(__file__).parent / "plot.css").read_text(encoding="utf-8")
COLOURS = 8


def number(value: float) -> str:
    """A coordinate: two digits behind the point at most."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def label(value: float) -> str:
    """A figure on an axis."""
    if value == 0:
        return "0"
    if abs(value) >= 1_000_000 or abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Linear:
    """From low to high; both are widened to whole ticks."""

    low: float
    high: float
    wanted: int = 5

    @property
    def step(self) -> float:
        """Between two ticks: 1, 2, 2.5 or 5 times a power of ten."""
        span = (self.high - self.low) or abs(self.high) or 1.0
        rough = span / self.wanted
        power = 10.0 ** math.floor(math.log10(rough))
        return next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * 0.999)

    @property
    def ends(self) -> tuple[float, float]:
        """The axis's own."""
        low = math.floor(self.low / self.step + 1e-9) * self.step
        high = math.ceil(self.high / self.step - 1e-9) * self.step
        return low, high if high > low else low + self.step

    def at(self, value: float) -> float:
        """Where, from 0 to 1."""
        low, high = self.ends
        return (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Values and their text."""
        low, high = self.ends
        count = round((high - low) / self.step)
        return [
            (low + k * self.step, label(round(low + k * self.step, 10))) for k in range(count + 1)
        ]


@dataclass(frozen=True)
class Exact:
    """From low to high as they are, as a stretch of time."""

    low: float
    high: float
    wanted: int = 6

    def at(self, value: float) -> float:
        """Where, from 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Those of Linear that are inside."""
        inside = Linear(self.low, self.high, self.wanted).ticks()
        slack = (self.high - self.low) * 1e-9
        return [(v, text) for v, text in inside if self.low - slack <= v <= self.high + slack]


@dataclass(frozen=True)
class Log:
    """Decades, and 2 and 5 between where there are few.  What is not above 0 is at the low end."""

    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """Exponents of ten."""
        low = math.floor(math.log10(self.low) + 1e-9)
        high = math.ceil(math.log10(self.high) - 1e-9)
        return float(low), float(max(high, low + 1))

    def at(self, value: float) -> float:
        """Where, from 0 to 1."""
        low, high = self.ends
        return 0.0 if value <= 0 else max(0.0, (math.log10(value) - low) / (high - low))

    def ticks(self) -> list[tuple[float, str]]:
        """Values and their text."""
        low, high = self.ends
        parts = (1, 2, 5) if high - low <= 2 else (1,)
        found = [k * 10.0**e for e in range(int(low), int(high) + 1) for k in parts]
        return [(v, label(v)) for v in found if v <= 10**high * 1.001]


@dataclass(frozen=True)
class Names:
    """Places by name, evenly."""

    names: tuple[str, ...]

    def at(self, value: float) -> float:
        """Where the place of that number is, from 0 to 1."""
        return (value + 0.5) / len(self.names)

    def ticks(self) -> list[tuple[float, str]]:
        """Numbers and names."""
        return list(enumerate(self.names))


Scale = Linear | Exact | Log | Names


@dataclass
class Chart:
    """Axes, and what is drawn between them.  Coordinates are the data's.

    ``left``: pixels beside the y axis; 0: what its ticks and its name need.
    """

    title: str
    x: Scale
    y: Scale
    x_label: str = ""
    y_label: str = ""
    width: int = 420
    height: int = 270
    left: int = 0
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        widest = max((len(text) for _, text in self.y.ticks()), default=0)
        self.left = self.left or max(54, 26 + 7 * widest)

    @property
    def _rows(self) -> list[list[tuple[int, str, str]]]:
        """The legend, in lines that fit."""
        rows: list[list[tuple[int, str, str]]] = []
        used = 0.0
        for entry in self.legend:
            wide = 30 + 7 * len(entry[1])
            if not rows or used + wide > self.width - self.left - 8:
                rows.append([])
                used = 0.0
            rows[-1].append(entry)
            used += wide
        return rows

    @property
    def top(self) -> float:
        """Below title and legend."""
        return 30 + 17 * len(self._rows)

    @property
    def bottom(self) -> float:
        """Above the axis's text."""
        return self.height - (42 if self.x_label else 26)

    def px(self, value: float) -> float:
        """From left."""
        return self.left + self.x.at(value) * (self.width - self.left - 14)

    def py(self, value: float) -> float:
        """From top; never outside of the frame."""
        part = min(1.0, max(0.0, self.y.at(value)))
        return self.bottom - part * (self.bottom - self.top)

    def name(self, colour: int, text: str, how: str = "fill") -> None:
        """A line of the legend, once.  Call it before anything is drawn: it takes room."""
        if (colour, text, how) not in self.legend:
            self.legend.append((colour, text, how))

    def line(
        self, points: Iterable[tuple[float, float]], colour: int, *, dash: bool = False
    ) -> None:
        """Through the points."""
        where = " ".join(f"{number(self.px(x))},{number(self.py(y))}" for x, y in points)
        kind = "line dash" if dash else "line"
        self.parts.append(f'<polyline class="{kind} c{colour % COLOURS}" points="{where}"/>')

    def dots(
        self, points: Iterable[tuple[float, float, str]], colour: int, radius: float = 3
    ) -> None:
        """At each point, with what a pointer over it says."""
        for x, y, says in points:
            place = f'cx="{number(self.px(x))}" cy="{number(self.py(y))}"'
            self.parts.append(
                f'<circle class="dot c{colour % COLOURS}" {place} r="{number(radius)}">'
                f"<title>{escape(says)}</title></circle>"
            )

    def band(self, points: Sequence[tuple[float, float, float]]) -> None:
        """Between low and high at each x: what is allowed."""
        there = [f"{number(self.px(x))},{number(self.py(high))}" for x, _, high in points]
        back = [f"{number(self.px(x))},{number(self.py(low))}" for x, low, _ in reversed(points)]
        self.parts.append(f'<polygon class="band" points="{" ".join([*there, *back])}"/>')

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        classes: str,
        says: str = "",
        text: str = "",
    ) -> None:
        """A rectangle; ``text`` in it where there is room."""
        left, right = self.px(x[0]), self.px(x[1])
        low, high = self.py(y[0]), self.py(y[1])
        title = f"<title>{escape(says)}</title>" if says else ""
        self.parts.append(
            f'<rect class="{classes}" x="{number(left)}" y="{number(high)}" '
            f'width="{number(max(right - left, 0.3))}" height="{number(max(low - high, 0.3))}">'
            f"{title}</rect>"
        )
        if text and right - left > 6.5 * len(text) and low - high > 13:
            self.parts.append(
                f'<text class="on" x="{number((left + right) / 2)}" '
                f'y="{number((low + high) / 2 + 4)}" text-anchor="middle">{escape(text)}</text>'
            )

    def across(self, y: float, says: str = "") -> None:
        """A line from side to side, as of a cap."""
        at = number(self.py(y))
        self.parts.append(
            f'<line class="rule" stroke-dasharray="2 3" x1="{self.left}" x2="{self.width - 14}" '
            f'y1="{at}" y2="{at}"><title>{escape(says)}</title></line>'
        )
        if says:
            self.parts.append(
                f'<text class="muted" x="{self.width - 17}" y="{number(self.py(y) - 4)}" '
                f'text-anchor="end">{escape(says)}</text>'
            )

    def rule(self, y: float) -> None:
        """A thin line from side to side."""
        at = number(self.py(y))
        self.parts.append(
            f'<line class="axis" stroke-dasharray="2 3" x1="{self.left}" '
            f'x2="{self.width - 14}" y1="{at}" y2="{at}"/>'
        )

    def event(self, x: float, text: str) -> None:
        """A line from top to bottom, with a word."""
        at = number(self.px(x))
        self.parts.append(
            f'<line class="rule" x1="{at}" x2="{at}" y1="{number(self.top - 4)}" '
            f'y2="{number(self.bottom)}"/><text x="{number(self.px(x) + 4)}" '
            f'y="{number(self.top + 2)}" font-weight="600">{escape(text)}</text>'
        )

    def upright(self, x: float) -> None:
        """A line from top to bottom, as between phases."""
        at = number(self.px(x))
        self.parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{number(self.top)}" '
            f'y2="{number(self.bottom)}"/>'
        )

    def cut(self, x: float, y: float, text: str) -> None:
        """Where something goes on above the axis's end."""
        self.parts.append(
            f'<text class="on" x="{number(self.px(x))}" y="{number(self.py(y) + 13)}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )

    def note(self, x: float, y_px: float, text: str, anchor: str = "middle") -> None:
        """Small text at a data x and a px height."""
        self.parts.append(
            f'<text class="muted" x="{number(self.px(x))}" y="{number(y_px)}" '
            f'text-anchor="{anchor}" font-size="11">{escape(text)}</text>'
        )

    def _axes(self) -> list[str]:
        out = []
        last = -math.inf
        for value, text in self.x.ticks():
            at = self.px(value)
            if at - last < 6.4 * len(text) + 6:
                continue
            last = at
            out.append(
                f'<text class="muted" x="{number(at)}" y="{number(self.bottom + 16)}" '
                f'text-anchor="middle">{escape(text)}</text>'
            )
        for value, text in self.y.ticks():
            at = self.py(value)
            if not isinstance(self.y, Names):
                out.append(
                    f'<line class="grid" x1="{self.left}" x2="{self.width - 14}" '
                    f'y1="{number(at)}" y2="{number(at)}"/>'
                )
            out.append(
                f'<text class="muted" x="{self.left - 6}" y="{number(at + 4)}" '
                f'text-anchor="end">{escape(text)}</text>'
            )
        return out

    def _words(self) -> list[str]:
        out = [f'<text class="title" x="8" y="18">{escape(self.title)}</text>']
        for k, row in enumerate(self._rows):
            x, y = float(self.left), 36 + 17 * k
            for colour, text, how in row:
                classes = how if how in ("band", "hatch", "shade") else f"fill c{colour}"
                mark = (
                    f'<rect class="{classes}" x="{number(x)}" y="{y - 7}" '
                    f'width="14" height="9" rx="1"/>'
                )
                if how not in ("band", "hatch", "shade", "fill"):
                    mark = (
                        f'<line class="line {how} c{colour}" x1="{number(x)}" '
                        f'x2="{number(x + 16)}" y1="{y - 3}" y2="{y - 3}"/>'
                    )
                out.append(mark)
                out.append(f'<text x="{number(x + 20)}" y="{y + 1}">{escape(text)}</text>')
                x += 30 + 7 * len(text)
        if self.x_label:
            middle = (self.left + self.width - 14) / 2
            out.append(
                f'<text class="muted" x="{number(middle)}" y="{self.height - 6}" '
                f'text-anchor="middle">{escape(self.x_label)}</text>'
            )
        if self.y_label:
            middle = (self.top + self.bottom) / 2
            out.append(
                f'<text class="muted" text-anchor="middle" '
                f'transform="translate(12 {number(middle)}) rotate(-90)">'
                f"{escape(self.y_label)}</text>"
            )
        return out

    def render(self) -> str:
        """For a page that has STYLE."""
        frame = (
            f'<line class="axis" x1="{self.left}" x2="{self.width - 14}" '
            f'y1="{number(self.bottom)}" y2="{number(self.bottom)}"/>'
        )
        inside = "\n".join([*self._axes(), *self.parts, frame, *self._words()])
        size = f'width="{self.width}" height="{self.height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" '
            f'viewBox="0 0 {self.width} {self.height}" {size}>\n'
            f"<title>{escape(self.title)}</title>\n"
            f'<rect class="paper" {size}/>\n{inside}\n</svg>'
        )


def standalone(drawn: str) -> str:
    """A file of its own: the style goes along."""
    head, _, rest = drawn.partition(">\n")
    return f"{head}>\n<style>\n{STYLE}</style>\n{rest}\n"
