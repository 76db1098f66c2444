# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML: an entry a case, with its reason; and others' files put into it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schedlab.core.errors import LabError
from schedlab.oracle import Verdict

# What XML 1.0 cannot carry.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd]")


@dataclass(frozen=True)
class Entry:
    """A case: ``group`` and ``name`` say which, ``text`` what it is about and what was seen."""

    group: str
    name: str
    verdict: Verdict
    reason: str
    text: str
    wall_s: float


@dataclass(frozen=True)
class Counts:
    """How many of a file's entries went how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def line(self) -> str:
        """As CI counts it."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def count(entries: Iterable[Entry]) -> Counts:
    """Entries by how they went; errors and crashes have failed."""
    verdicts = [entry.verdict for entry in entries]
    skipped = verdicts.count(Verdict.SKIP)
    passed = verdicts.count(Verdict.PASS)
    return Counts(passed, len(verdicts) - passed - skipped, skipped)


def write(path: Path, suite: str, entries: Iterable[Entry], others: Iterable[Path] = ()) -> Counts:
    """Write the entries, and the suites of other files; what all of them count.

    Raises LabError where another file is not there, or is no JUnit.
    """
    entries = list(entries)
    counts = count(entries)
    root = ET.Element("testsuites")
    for other in others:
        for found in suites(other):
            counts += _counts_of(found, other)
            root.append(found)
    failures = sum(entry.verdict == Verdict.FAIL for entry in entries)
    errors = sum(entry.verdict >= Verdict.ERROR for entry in entries)
    top = ET.SubElement(
        root,
        "testsuite",
        name=suite,
        tests=str(len(entries)),
        failures=str(failures),
        errors=str(errors),
        skipped=str(sum(entry.verdict == Verdict.SKIP for entry in entries)),
        time=f"{sum(entry.wall_s for entry in entries):.3f}",
    )
    for entry in entries:
        case = ET.SubElement(
            top,
            "testcase",
            classname=f"{suite}.{entry.group}",
            name=entry.name,
            time=f"{entry.wall_s:.3f}",
        )
        tag = {Verdict.PASS: "", Verdict.SKIP: "skipped", Verdict.FAIL: "failure"}
        if kind := tag.get(entry.verdict, "error"):
            said = ET.SubElement(case, kind, message=_clean(entry.reason), type=entry.verdict.word)
            said.text = _clean(entry.text)
        else:
            ET.SubElement(case, "system-out").text = _clean(entry.text)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
    temporary.replace(path)
    return counts


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)


def suites(path: Path) -> list[ET.Element]:
    """The suites of a JUnit file; raises LabError."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise LabError(f"{path} is no JUnit file: {error}", "run what was to write it") from error
    return [root] if root.tag == "testsuite" else root.findall("testsuite")


def _counts_of(suite: ET.Element, path: Path) -> Counts:
    try:
        tests, failures, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
    except ValueError as error:
        raise LabError(f"{path}: {error}", "run what was to write it") from error
    bad = failures + errors
    return Counts(tests - bad - skipped, bad, skipped)
