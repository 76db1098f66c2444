# SPDX-License-Identifier: GPL-2.0-only
"""The runs that are there: their pages made again, an index of them, and the README's picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schedlab import report
from schedlab.core.errors import LabError
from schedlab.page import bench_page, compare_page, document, headline_page, run_page, svg
from schedlab.page.document import Document, Heading, Links, Text

INDEX_FILE = "index.html"
# A kind of run is known by its JSON.
PAGES: dict[str, Callable[[Mapping[str, Any]], Document]] = {
    "headline.json": headline_page.page,
    "compare.json": compare_page.page,
    "bench.json": bench_page.page,
    report.RESULT_FILE: run_page.page,
}
PICTURE = "headline.svg"


def data_of(run: Path) -> tuple[str, dict[str, Any]] | None:
    """Which JSON a run has, and what is in it; None where it is no run."""
    for name in PAGES:
        if (run / name).is_file():
            try:
                found: dict[str, Any] = json.loads((run / name).read_text())
            except ValueError as error:
                raise LabError(f"{run / name} is not JSON: {error}", "remove that run") from error
            return name, found
    return None


def render(run: Path) -> Path:
    """Make a run's page again from its JSON, but for pictures of traces.  Raises LabError."""
    found = data_of(run)
    if found is None:
        raise LabError(f"no run in {run}", f"give a folder that has {', '.join(PAGES)}")
    document.write(PAGES[found[0]](found[1]), run)
    return run / "report.html"


def _line(run: Path) -> tuple[str, str] | None:
    """(what it was, how it went)"""
    found = data_of(run)
    if found is None:
        return None
    name, data = found
    if name == report.RESULT_FILE:
        return f"run {data['scenario']}", f"{data['verdict']}, {len(data['cases'])} cases"
    if name == "compare.json":
        counts = ", ".join(f"{n} {status}" for status, n in data["counts"].items())
        return f"{data['a']['text']} against {data['b']['text']}", counts
    if name == "headline.json":
        return "headline comparisons", f"{len(data['rows'])} cases"
    return "benchmarks", f"{len(data['benchmarks'])} figures"


def index(root: Path) -> Path:
    """Write ``index.html``: every run below root, the newest first."""
    folders = root.iterdir() if root.is_dir() else ()
    runs = [path for path in folders if path.is_dir() and not path.name.startswith(".")]
    links = []
    for run in sorted(runs, reverse=True):
        line = _line(run)
        if line is None:
            continue
        what, how = line
        page = f"{run.name}/report.html"
        links.append((run.name, page if (root / page).is_file() else "", what, how))
    whole = Document("Runs", f"{len(links)} runs, the newest first. Times are UTC.")
    whole.add(Heading("What there is"))
    whole.add(Links(tuple(links)) if links else Text("None: `make run` makes one."))
    root.mkdir(parents=True, exist_ok=True)
    path = root / INDEX_FILE
    path.write_text(document.html(whole), encoding="utf-8")
    return path


def picture(folder: Path) -> Path:
    """Draw the README's picture again from the headline.json beside it.  Raises LabError."""
    found = data_of(folder)
    if found is None or found[0] != "headline.json":
        raise LabError(f"no headline.json in {folder}", "`make headline` makes one")
    path = folder / PICTURE
    path.write_text(svg.standalone(headline_page.picture(found[1])), encoding="utf-8")
    return path
