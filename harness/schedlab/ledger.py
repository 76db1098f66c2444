# SPDX-License-Identifier: GPL-2.0-only
"""The golden ledger: the exact results of the smoke tier, as accepted, and what made them.

The schedule of a case is a function of its builds, to the nanosecond.  So where the tools that made
the builds are those of the ledger (``[made_with]``: compilers, Xen's tarball, QEMU, dom0's kernel),
a result that differs is a change of the subject (``[subject]``: the series, the guests, the
controller), which somebody has to accept: ``make bless``.  Elsewhere a result may differ for no
reason that matters; then the ledger does not judge, and the run says so.

A case has a line a phase and a domain: the ns of CPU time in each of the phase's windows; and one
a group, by the group's own account.  Whole numbers, nothing rounded.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedlab.core.errors import LabError
from schedlab.qemu import Artifacts
from schedlab.run import Case

FILE = "golden.toml"
_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-only
#
# The exact results of the smoke tier, as they were accepted: ns of CPU time in each window of a
# phase, by domain, and by group.  Written by `make bless`; why is in harness/schedlab/ledger.py.
"""
# Phase and line to windows.
Lines = Mapping[str, list[int]]


@dataclass(frozen=True)
class Ledger:
    """``cases`` by "scenario/cell"."""

    made_with: Mapping[str, str]
    subject: Mapping[str, str]
    cases: Mapping[str, Lines] = field(default_factory=dict)


def lines_of(case: Case) -> dict[str, list[int]]:
    """What the ledger has of a case."""
    found: dict[str, list[int]] = {}
    for phase in case.scenario.phases:
        edges = [case.records.samples[label] for label in phase.labels]
        for name in edges[0].domains:
            used = [edge.domains[name].cpu_ns if name in edge.domains else None for edge in edges]
            found[f"{phase.name} {name}"] = [
                two - one for one, two in zip(used, used[1:]) if one is not None and two is not None
            ]
        for master in sorted({group.master for edge in edges for group in edge.groups}):
            by = [{g.master: g.usage_ns for g in edge.groups}.get(master) for edge in edges]
            found[f"{phase.name} group of {master}"] = [
                two - one for one, two in zip(by, by[1:]) if one is not None and two is not None
            ]
    return {line: windows for line, windows in found.items() if windows}


def blank(artifacts: Artifacts) -> Ledger:
    """A ledger without cases, of these builds."""
    hashes, origin = artifacts.hashes, dict(artifacts.origin)
    subject = {name: value for name, value in hashes.items() if name not in ("qemu", "kernel")}
    for name in ("series", "configuration"):
        subject[name] = origin.pop(name, "")
    made_with = {**origin, "qemu": hashes["qemu"], "kernel": hashes["kernel"]}
    return Ledger(made_with, subject)


def write(ledger: Ledger) -> str:
    """The file's text: sorted, a line a phase and domain."""
    out = [_HEAD]
    for title, pairs in (("made_with", ledger.made_with), ("subject", ledger.subject)):
        out.append(f"[{title}]")
        out += [f"{_key(name)} = {_text(pairs[name])}" for name in sorted(pairs)]
        out.append("")
    for case in sorted(ledger.cases):
        out.append(f"[case.{_key(case)}]")
        out += [f"{_key(line)} = {windows}" for line, windows in ledger.cases[case].items()]
        out.append("")
    return "\n".join(out)


def read(path: Path) -> Ledger:
    """LabError says what is wrong with the file."""
    try:
        raw = tomllib.loads(path.read_text())
        return Ledger(_texts(raw["made_with"]), _texts(raw["subject"]), _cases(raw.get("case", {})))
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"{path} is no ledger: {type(error).__name__}: {error}", "make bless writes it anew"
        ) from error


def foreign(known: Ledger, now: Ledger) -> str:
    """Why the known ledger does not judge these builds; "" if it does."""
    names = sorted({*known.made_with, *now.made_with})
    other = [name for name in names if known.made_with.get(name) != now.made_with.get(name)]
    return f"other {', '.join(other)} than it was blessed with" if other else ""


def changed(known: Ledger, now: Ledger) -> str:
    """What of the subject is not as it was, in words."""
    names = sorted({*known.subject, *now.subject})
    other = [name for name in names if known.subject.get(name) != now.subject.get(name)]
    if not other:
        return "though all builds are the same: that is the lab's fault"
    return f"with other builds of: {', '.join(other)}"


def difference(known: Lines | None, now: Lines) -> list[str]:
    """The lines that differ, as a diff shows them; none where all are the same."""
    if known is None:
        return ["+ not in the ledger yet"]
    before = [f"{line} = {windows}" for line, windows in known.items()]
    after = [f"{line} = {windows}" for line, windows in now.items()]
    delta = difflib.ndiff(before, after)
    return [line for line in delta if line.startswith(("- ", "+ "))]


def diff(path: Path, text: str) -> str:
    """What writing the text would change, as a unified diff."""
    before = path.read_text().splitlines() if path.exists() else []
    found: Iterable[str] = difflib.unified_diff(
        before, text.splitlines(), path.name, "as it is now", lineterm="", n=1
    )
    return "\n".join(found)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _texts(raw: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in raw.items()}


def _cases(raw: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    return {
        case: {line: [int(n) for n in windows] for line, windows in lines.items()}
        for case, lines in raw.items()
    }
