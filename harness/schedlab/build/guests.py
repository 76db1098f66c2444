# SPDX-License-Identifier: GPL-2.0-only
"""Guests and controller, by CMake against the patched libxenctrl."""

from __future__ import annotations

from pathlib import Path

from schedlab.build import xen as xen_recipes
from schedlab.build.layout import Layout
from schedlab.build.toolchain import compiler_environment, has_ccache, toolchain
from schedlab.core.command import query, run
from schedlab.core.store import exclusive, sha256_file


def sources(layout: Layout) -> dict[str, str]:
    """Every file CMake may read for guests and controller, with its SHA-256."""
    paths = [layout.root / "CMakeLists.txt"]
    paths += [
        path
        for path in (layout.root / "guests").rglob("*")
        if path.is_file() and path.suffix != ".md"
    ]
    return {str(path.relative_to(layout.root)): sha256_file(path) for path in sorted(paths)}


def guests(layout: Layout, xen: str, found: xen_recipes.Source | None = None) -> Path:
    """Build them against the libraries of a source (the patched one); the entry has controller and
    guests/<image> (ELF files).
    """
    tools = xen_recipes.tools(layout, xen, found)
    log = layout.log(f"guests-{xen}")
    inputs = {
        "recipe": "1",
        "sources": sources(layout),
        "tools": tools.name,
        "toolchain": toolchain(),
        "cmake": query(["cmake", "--version"]).splitlines()[0],
    }

    def make(folder: Path) -> None:
        with exclusive(layout.trees / "lock", "a build"):
            compile_guests(layout, tools, layout.trees / f"guests-{xen}", folder, log)

    return layout.store.get("guests", inputs, make, title="guests and controller")


def configured_elsewhere(work: Path) -> bool:
    """Whether a build folder was moved, with its checkout say: CMake refuses such a cache."""
    try:
        cache = (work / "CMakeCache.txt").read_text()
    except FileNotFoundError:
        return False
    return f"CMAKE_CACHEFILE_DIR:INTERNAL={work}\n" not in cache


def compile_guests(layout: Layout, tools: Path, work: Path, install: Path, log: Path) -> None:
    """Configure, build and install to a folder; the work folder is kept for the next time."""
    environment = compiler_environment(layout)
    configure: list[str | Path] = ["cmake", "-G", "Ninja", "-S", layout.root, "-B", work]
    configure += [
        f"-DXEN_TOOLS_PREFIX={tools}",
        "-DNEMESIS_HOST_TESTS=OFF",
        "-DCMAKE_BUILD_TYPE=Release",
    ]
    configure += [f"-DCMAKE_CXX_COMPILER_LAUNCHER={'ccache' if has_ccache() else ''}"]
    if configured_elsewhere(work):
        configure.append("--fresh")
    run(configure, env=environment, log=log, label="cmake")
    run(
        ["cmake", "--build", work, f"-j{layout.jobs}"],
        env=environment,
        log=log,
        label="building guests",
    )
    run(
        ["cmake", "--install", work, "--prefix", install],
        env=environment,
        log=log,
        label="cmake --install",
    )
