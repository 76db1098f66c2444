# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments, and the check that a configuration really has what they ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from schedlab.core.errors import LabError

_LINE = re.compile(r"(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$")


def parse(text: str) -> dict[str, str]:
    """Option → value; an option that is not set has the value n."""
    options = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            options[match[1] or match[3]] = match[2] if match[1] else "n"
    return options


def check_fragment(fragment: Path, config: Path, overridden_by: Sequence[Path] = ()) -> None:
    """LabError names the options of a fragment that Kconfig dropped or changed."""
    asked = parse(fragment.read_text())
    for later in overridden_by:
        asked.update(
            (name, value) for name, value in parse(later.read_text()).items() if name in asked
        )
    got = parse(config.read_text())
    wrong = [
        f"{name}={value} (is {got.get(name, 'n')})"
        for name, value in asked.items()
        if got.get(name, "n") != value
    ]
    if wrong:
        raise LabError(
            f"{fragment.name}: Kconfig did not take {', '.join(wrong)}",
            f"the option is unknown here, or something it depends on is missing: see {config}",
        )
