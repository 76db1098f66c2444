# SPDX-License-Identifier: GPL-2.0-only
"""The one error that means "could not run": it names the culprit, the remedy and the log."""

from __future__ import annotations

from pathlib import Path


class LabError(Exception):
    """Something outside the subject under test went wrong; the front ends print it and exit with 2.

    what: the culprit, in one sentence.  remedy: what the reader can do about it.  log: a file whose
    end tells more.
    """

    def __init__(self, what: str, remedy: str = "", log: Path | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.log = log

    def render(self, tail_lines: int = 15) -> str:
        """The text for people: error, remedy, the log's place and its last lines."""
        lines = [f"lab: error: {self.what}"]
        if self.remedy:
            lines.append(f"remedy: {self.remedy}")
        if self.log is not None:
            lines.append(f"log: {self.log}")
            lines += [f"  | {line}" for line in tail(self.log, tail_lines)]
        return "\n".join(lines)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a text file; none when it cannot be read."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
