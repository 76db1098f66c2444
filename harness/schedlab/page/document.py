# SPDX-License-Identifier: GPL-2.0-only
"""A page: blocks in order, to HTML that needs nothing else, and to Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from schedlab.page import svg

Cell = str | int | float | None


@dataclass(frozen=True)
class Heading:
    """Begins a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` in backticks."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Figures that are the answer: (figure, what it is, verdict's word or empty)."""

    facts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A chart; ``name`` is its file's, ``wide``: it takes the page's width."""

    name: str
    drawn: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are shown with ``digits`` behind the point, and sort as numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    digits: int = 3
    folded: bool = False


@dataclass(frozen=True)
class Listing:
    """Names and values, as of a context; values may be long."""

    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Links:
    """Other pages: (name, relative address or empty, what, how)."""

    entries: tuple[tuple[str, str, str, str], ...]


Block = Heading | Text | Facts | Figure | Table | Listing | Links


@dataclass
class Document:
    """A title, a sentence, and blocks.

    ``processor``: where time is real and the processor is none, what it is (``lab kvm-host``).
    """

    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)
    processor: str | None = None

    def __post_init__(self) -> None:
        if self.processor:
            said = f"The processor is {self.processor}: times of this page say nothing of hardware."
            self.add(Text(said))

    def add(self, *blocks: Block) -> None:
        """At the end."""
        self.blocks += blocks


_PAGE_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

_SORT = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")


def html(document: Document) -> str:
    """One file; it fetches nothing."""
    body: list[str] = []
    run: list[Figure] = []

    def flush() -> None:
        if run:
            body.append(f'<div class="figures">{"".join(map(_figure, run))}</div>')
            run.clear()

    for block in document.blocks:
        if isinstance(block, Figure) and not block.wide:
            run.append(block)
            continue
        flush()
        body.append(_html(block))
    flush()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n"
        f"<style>\n{svg.STYLE}{_PAGE_STYLE}</style></head>\n"
        f"<body><main>\n<h1>{escape(document.title)}</h1>\n"
        f'<p class="lead">{_inline(document.lead)}</p>\n'
        + "\n".join(body)
        + f"\n</main>\n<script>\n{_SORT}</script></body></html>\n"
    )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))


def _figure(block: Figure) -> str:
    caption = f"<figcaption>{_inline(block.caption)}</figcaption>" if block.caption else ""
    wide = ' class="wide"' if block.wide else ""
    return f"<figure{wide}>{block.drawn}{caption}</figure>"


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Facts):
        cards = (
            f'<div class="fact {escape(kind)}"><b>{escape(figure)}</b>'
            f"<span>{_inline(what)}</span></div>"
            for figure, what, kind in block.facts
        )
        return f'<div class="facts">{"".join(cards)}</div>'
    if isinstance(block, Figure):
        return _figure(block)
    if isinstance(block, Table):
        table = _table(block)
        if block.folded:
            return f"<details><summary>{_inline(block.caption)}</summary>{table}</details>"
        return table
    if isinstance(block, Links):
        return _links(block)
    entries = "".join(
        f"<dt>{escape(name)}</dt>"
        f'<dd class="{"mono" if len(value) > 40 else ""}">{escape(value)}</dd>'
        for name, value in block.entries
    )
    return f"<dl>{entries}</dl>"


def _links(block: Links) -> str:
    rows = []
    for name, address, what, how in block.entries:
        text = escape(name)
        if address:
            text = f'<a href="{escape(address)}">{text}</a>'
        cells = "".join(f"<td>{part}</td>" for part in (text, escape(what), escape(how)))
        rows.append(f"<tr>{cells}</tr>")
    return (
        '<div class="scroll"><table><thead><tr><th>run</th><th>what</th><th>result</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _numeric(table: Table) -> list[bool]:
    return [
        any(isinstance(row[k], (int, float)) for row in table.rows)
        for k in range(len(table.columns))
    ]


def shown(cell: Cell, digits: int) -> str:
    """As it stands in a table."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.{digits}f}"
    return str(cell)


# Columns whose words are coloured.
_JUDGED = frozenset({"verdict", "status"})
_KINDS = frozenset({"pass", "fail", "error", "crash", "better", "worse"})


def _table(table: Table) -> str:
    numeric = _numeric(table)
    head = "".join(
        f'<th{" class=n" if n else ""}>{escape(c)}</th>' for c, n in zip(table.columns, numeric)
    )
    rows = []
    for row in table.rows:
        cells = []
        for cell, n, column in zip(row, numeric, table.columns):
            kind = "n" if n else ""
            if column in _JUDGED and isinstance(cell, str) and cell in _KINDS:
                kind = cell
            value = f' data-v="{cell!r}"' if isinstance(cell, (int, float)) else ""
            attribute = f' class="{kind}"' if kind else ""
            cells.append(f"<td{attribute}{value}>{escape(shown(cell, table.digits))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = ""
    if table.caption and not table.folded:
        caption = f"<caption>{_inline(table.caption)}</caption>"
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


# A table in Markdown is for reading; the whole is in the page and in the JSON.
_MARKDOWN_ROWS = 40


def markdown(document: Document) -> str:
    """For pasting; charts are links to their files."""
    out = [f"# {document.title}", document.lead]
    for block in document.blocks:
        if isinstance(block, Heading):
            out.append(f"## {block.text}")
        elif isinstance(block, Text):
            out.append(block.text)
        elif isinstance(block, Facts):
            out.append("\n".join(f"- **{figure}** {what}" for figure, what, _ in block.facts))
        elif isinstance(block, Figure):
            out.append(f"![{block.caption or block.name}](plots/{block.name}.svg)")
        elif isinstance(block, Table):
            out.append(_markdown_table(block))
        elif isinstance(block, Links):
            out.append("\n".join(f"- [{n}]({a}): {w}, {h}" for n, a, w, h in block.entries))
        else:
            out.append("\n".join(f"- {name}: `{value}`" for name, value in block.entries))
    return "\n\n".join(part for part in out if part) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [f"{table.caption}\n"] if table.caption else []
    lines.append(line(table.columns))
    lines.append(line("---:" if n else "---" for n in _numeric(table)))
    kept = table.rows[:_MARKDOWN_ROWS]
    lines += [line(shown(cell, table.digits) for cell in row) for row in kept]
    if len(kept) < len(table.rows):
        lines.append(f"\n… {len(table.rows) - len(kept)} rows more in the page.")
    return "\n".join(lines)


def write(document: Document, folder: Path) -> None:
    """``report.html``, ``report.md`` and ``plots/*.svg``."""
    figures: Sequence[Figure] = [b for b in document.blocks if isinstance(b, Figure)]
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names), f"two figures of one name among {names}"
    (folder / "report.html").write_text(html(document), encoding="utf-8")
    (folder / "report.md").write_text(markdown(document), encoding="utf-8")
    if figures:
        (folder / "plots").mkdir(exist_ok=True)
    for figure in figures:
        path = folder / "plots" / f"{figure.name}.svg"
        path.write_text(svg.standalone(figure.drawn), encoding="utf-8")
