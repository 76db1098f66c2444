# SPDX-License-Identifier: GPL-2.0-only
"""The compilers, as inputs of what they compile."""

from __future__ import annotations

import functools
import os
import shutil

from schedlab.build.layout import Layout
from schedlab.core.command import query

# 2026-01-01 00:00:00 UTC: the date of everything that is built.
EPOCH = 1767225600


@functools.cache
def toolchain() -> str:
    """Compiler and binutils, by the first lines of what they say about themselves."""
    return "; ".join(query([tool, "--version"]).splitlines()[0] for tool in ("gcc", "g++", "ld"))


def has_ccache() -> bool:
    """Whether compilers are called through ccache."""
    return shutil.which("ccache") is not None


def compiler() -> str:
    """CC for make."""
    return "ccache gcc" if has_ccache() else "gcc"


def compiler_environment(layout: Layout) -> dict[str, str]:
    """Where ccache keeps things: in the build folder unless CCACHE_DIR says otherwise."""
    return {
        "CCACHE_DIR": os.environ.get("CCACHE_DIR") or str(layout.build / "ccache"),
        "CCACHE_MAXSIZE": "3G",
    }
