# SPDX-License-Identifier: GPL-2.0-only
"""Pages: charts that are well-formed and deterministic, HTML that needs nothing else, Markdown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from schedlab import oracle, records, report, run, scenario
from schedlab.page import compare_page, document, plots, run_page, svg
from schedlab.page.document import Document, Facts, Figure, Listing, Table, Text
from schedlab.page.svg import Chart, Exact, Linear, Log, Names
from schedlab.qemu import STATUS_ENDED, Outcome
from tests import synthetic
from tests.test_run import SMALL


def result() -> dict[str, Any]:
    """What an ideal run of a small scenario leaves, through JSON."""
    what = scenario.parse(SMALL, Path("small.toml"))
    outcome = Outcome(STATUS_ENDED, wall_s=1.5)
    cases = []
    for dims in what.matrix():
        made = synthetic.records(json.loads(what.as_json(dims)))
        found = records.parse(synthetic.lines(made).splitlines())
        judged = oracle.judge(what, dims, found, outcome)
        case = run.Case(what, dims, "patched", Path("."), "qemu", {}, outcome, found, judged)
        cases.append((case, None))
    context = {"description": "two share", "time": "virtual"}
    made_result = report.result(cases, context, oracle.Verdict.PASS)
    copy: dict[str, Any] = json.loads(json.dumps(made_result))
    return copy


def test_real_time_is_not_called_virtual() -> None:
    """A page of real time: no word of virtual time, how often it ran, and on what."""
    found = result()
    assert "virtual" in document.html(run_page.page(found))
    found["context"] |= {"time": "real", "runs": 12}
    real = document.html(run_page.page(found))
    assert "virtual" not in real and "runs of each case, in real time" in real
    assert "say nothing of hardware" not in real
    found["context"]["processor"] = "made of paper"
    assert "The processor is made of paper" in document.html(run_page.page(found))


def test_scales() -> None:
    """Ticks are round, ends hold the data, logarithms take what is not above 0."""
    scale = Linear(0, 13)
    assert [v for v, _ in scale.ticks()] == [0, 5, 10, 15]
    assert scale.at(15) == 1 and scale.at(0) == 0
    assert [text for _, text in Linear(-0.3, 0.3).ticks()] == [
        *("-0.4", "-0.2", "0", "0.2", "0.4"),
    ]
    assert Log(3, 700).ends == (0, 3) and Log(3, 700).at(0) == 0
    assert [v for v, _ in Exact(0, 23, 7).ticks()] == [0, 5, 10, 15, 20]
    assert Names(("a", "b")).at(1) == 0.75
    assert Linear(5, 5).ends == (5, 6) or Linear(5, 5).ends[1] > 5


def test_room_for_ticks() -> None:
    """What the y axis says does not run into its name, which is 12 pixels from the left."""
    assert Chart("", Linear(0, 1), Linear(0, 10)).left == 54
    widest = len("100,000")
    assert Chart("", Linear(0, 1), Log(1000, 100_000)).left >= 6 + 7 * widest + 12
    assert Chart("", Linear(0, 1), Linear(0, 10), left=130).left == 130


def test_chart_is_well_formed() -> None:
    """XML, text escaped, nothing outside of the frame, and legend in it."""
    chart = Chart("<a> & b", Linear(0, 10), Linear(0, 10), "x", "y")
    chart.name(0, "one & two")
    chart.line([(0, 0), (10, 100)], 0)
    chart.dots([(5, 5, "says <this>")], 1)
    chart.band([(0, 1, 2), (10, 1, 2)])
    chart.box((0, 1), (0, 1), "fill c0", "box", "t")
    chart.across(3, "cap")
    drawn = chart.render()
    ElementTree.fromstring(drawn)
    ElementTree.fromstring(svg.standalone(drawn))
    assert "&lt;a&gt; &amp; b" in drawn and "one &amp; two" in drawn
    assert "<style>" in svg.standalone(drawn) and "<style>" not in drawn
    heights = [float(y) for y in re.findall(r",([-0-9.]+)[ \"]", drawn)]
    assert min(heights) >= chart.top - 0.01


def test_share_over_time() -> None:
    """Each window of each domain is a box of its height; the cap is a line."""
    case = result()["cases"][0]
    found = plots.windows(case)
    assert [(phase, {n: round(s, 6) for n, s in got.items()}) for _, _, got, phase in found] == [
        ("alone", {"dom0": 0, "master": 10, "second": 0}),
        ("joined", {"dom0": 0, "master": 5, "second": 5}),
        ("joined", {"dom0": 0, "master": 5, "second": 5}),
    ]
    drawn = plots.share_over_time(case).render()
    assert "joined: second 5.000 %" in drawn and "alone: second" not in drawn
    assert "cap 10 %" in drawn and "dom0" not in drawn


def test_errors_have_their_band() -> None:
    """A dot a judged stretch, on the tolerance of the check."""
    cases = result()["cases"]
    chart = plots.errors(cases, "credit2", "pcpus")
    assert chart is not None
    drawn = chart.render()
    checks = [c for case in cases for c in case["checks"] if c["clause"] == "E1.cap"]
    shown = [c for c in checks if "usage_ns" not in c["where"]]
    assert shown and drawn.count("<circle") == len(shown)
    assert drawn.count('class="band" points') == 2
    assert plots.errors(cases, "credit", "pcpus") is None
    assert plots.errors(cases, "credit2", "cap") is None


def test_run_page_is_one_file(tmp_path: Path) -> None:
    """The same result gives the same bytes; nothing is fetched; every figure has its file."""
    page = run_page.page(result())
    document.write(page, tmp_path)
    once = (tmp_path / "report.html").read_bytes()
    document.write(run_page.page(result()), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == once
    text = once.decode()
    assert not re.search(r"<link|<img|src=|@import|url\(|href=", text)
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    figures = [b for b in page.blocks if isinstance(b, Figure)]
    assert {p.stem for p in (tmp_path / "plots").iterdir()} == {f.name for f in figures}
    assert len(figures) >= 4
    markdown = (tmp_path / "report.md").read_text()
    assert all(f"plots/{f.name}.svg" in markdown for f in figures)
    assert "checks passed" in text and "small: pass" in text


def test_a_failure_is_said_first() -> None:
    """A case that is not a pass is named, with its reason, before any chart."""
    bad = result()
    bad["cases"][1].update(verdict="crash", reason="Panic on CPU 0", rows=[], series=[], checks=[])
    page = document.html(run_page.page({**bad, "verdict": "crash"}))
    assert page.index("Panic on CPU 0") < page.index("What happened")


def test_tables_sort_by_value() -> None:
    """Numbers carry their value, whatever is shown; text is escaped."""
    rows = (("<a>", 1.23456, "pass"), ("pass", None, "fail"), ("c", 2, "-"))
    table = Table(("n", "v", "verdict"), rows, "c", digits=1)
    page = document.html(Document("t", "l", [table, Facts((("1", "`x`", "pass"),))]))
    assert 'data-v="1.23456">1.2<' in page and "&lt;a&gt;" in page
    assert page.count('<td class="pass">pass') == 1 and "<td>pass" in page
    assert "<code>x</code>" in page
    assert document.markdown(Document("t", "l", [table])).count("\n| ") == 5
    many = Table(("n",), tuple((k,) for k in range(100)))
    assert "60 rows more" in document.markdown(Document("t", "l", [many]))


def test_two_figures_of_one_name(tmp_path: Path) -> None:
    """One would silently replace the other."""
    figure = Figure("a", Chart("t", Linear(0, 1), Linear(0, 1)).render())
    with pytest.raises(AssertionError, match="two figures"):
        document.write(Document("t", "l", [figure, figure]), tmp_path)


def test_compare_page() -> None:
    """What is worse comes before the charts; every row is in the table."""
    key = {"scenario": "s", "dims": {"scheduler": "credit"}, "phase": "p", "domains": ["m"]}
    rows = [
        {
            **key,
            **{"metric": "worst", "a": [1.0], "b": [9.0], "status": "worse"},
            **{"difference": 8.0, "relative": 8.0, "p": None},
        },
        {
            **key,
            **{"metric": "error", "a": [1.0], "b": [], "status": "only in A"},
            **{"difference": None, "relative": None, "p": None},
        },
    ]
    found = {
        **{"a": {"text": "stock"}, "b": {"text": "patched"}, "rows": rows, "metrics": {}},
        **{"regressions": 2, "counts": {"worse": 1, "only in A": 1}},
        "context": {"time": "virtual"},
    }
    page = compare_page.page(found)
    text = document.html(page)
    assert text.index("What got better, and what worse") < text.index("Side by side")
    tables = [b for b in page.blocks if isinstance(b, Table)]
    assert [len(t.rows) for t in tables] == [1, 2, 0]
    assert any(isinstance(b, Figure) and b.name == "compare-worst" for b in page.blocks)
    assert any(isinstance(b, Listing) for b in page.blocks)
    assert not any(isinstance(b, Text) for b in page.blocks)
