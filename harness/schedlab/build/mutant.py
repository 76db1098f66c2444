# SPDX-License-Identifier: GPL-2.0-only
"""Breakages of the series: the hypervisor, or the toolstack, built from a patched source with a few
lines replaced.

One work tree is kept for all of them, so each compiles what it touches, and is put back afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schedlab.build import Artifacts
from schedlab.build import toolstack as toolstack_recipes
from schedlab.build import xen as xen_recipes
from schedlab.build.layout import Layout
from schedlab.build.toolchain import compiler, toolchain
from schedlab.core.command import dry_run, run
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive, sha256_file


@dataclass(frozen=True)
class Edit:
    """``old`` in a file of the Xen tree becomes ``new``; it is there once."""

    file: str
    old: str
    new: str


def check(tree: Path, edits: Sequence[Edit], who: str) -> None:
    """LabError where an edit's text is not there exactly once: the series has moved on."""
    for edit in edits:
        path = tree / edit.file
        count = path.read_text().count(edit.old) if path.is_file() else 0
        if count != 1:
            first = edit.old.strip().splitlines()[0] if edit.old.strip() else ""
            raise LabError(
                f"mutant {who}: the text that begins with {first!r} is {count} times in "
                f"{edit.file}",
                "the series has moved on: bring the mutant after it",
            )


def apply(tree: Path, edits: Sequence[Edit]) -> None:
    """Replace; check() has been there before."""
    for edit in edits:
        path = tree / edit.file
        path.write_text(path.read_text().replace(edit.old, edit.new))


def with_nops(layout: Layout, xen: str, count: int) -> Path:
    """Stock Xen whose schedule() executes so many instructions more, and does nothing else.  Raises
    LabError.
    """
    place = "    SCHED_STAT_CRANK(sched_run);\n"
    edit = Edit(
        "xen/common/sched/core.c",
        place,
        f'    asm volatile ( ".rept {count}; nop; .endr" );\n{place}',
    )
    return hypervisor(layout, xen, "release", [edit], f"nops-{count}", variant="stock")


def hypervisor(
    layout: Layout,
    xen: str,
    config: str,
    edits: Sequence[Edit],
    who: str,
    *,
    variant: str = "patched",
) -> Path:
    """The entry has xen, xen-syms, and scheddom-share.h of the mutated source.  Raises LabError."""
    found = xen_recipes.source(layout, xen, variant)
    parts = xen_recipes.fragments(layout, config)
    inputs = {
        "tree": found.tree,
        "edits": json.dumps([[edit.file, edit.old, edit.new] for edit in edits]),
        "config": xen_recipes.config_inputs(parts),
        "toolchain": toolchain(),
        "format": "1",
    }
    words = [
        "xen",
        xen,
        "mutant",
        *([] if variant == "patched" else [variant]),
        *([] if config == "release" else [config]),
    ]
    tree = layout.trees / "-".join(words)
    log = layout.log(f"mutant-{who}")

    def make(folder: Path) -> None:
        tree_lock = exclusive(layout.trees / f"{tree.name}.lock", f"a build of {tree.name}")
        with exclusive(layout.trees / "lock", "a build"), tree_lock:
            # check_out() undoes the edits of the one before.
            xen_recipes.check_out(found, tree, log)
            if not dry_run():
                check(tree, edits, who)
                apply(tree, edits)
            xen_recipes.compile_hypervisor(layout, found, tree, parts, log, keep_edits=True)
            headers = (tree / "xen/common/sched").glob("scheddom-share.h")
            run(["cp", tree / "xen" / "xen", tree / "xen" / "xen-syms", *headers, folder])

    return layout.store.get("mutant", inputs, make)


def toolstack(layout: Layout, xen: str, edits: Sequence[Edit], who: str) -> Path:
    """The toolstack with edits below tools/; the entry has root/.  Raises LabError.

    The parts that are edited are made again, and no other: an edit may change what a function
    does, not what another part includes.
    """
    whole = toolstack_recipes.toolstack(layout, xen)
    if not edits:
        return whole
    inputs = {
        "toolstack": whole.name,
        "edits": json.dumps([[edit.file, edit.old, edit.new] for edit in edits]),
        "format": "1",
    }
    parts = sorted({toolstack_recipes.part_of(edit.file) for edit in edits})

    def make(folder: Path) -> None:
        with exclusive(layout.trees / "lock", "a build"):
            tree = toolstack_recipes.kept_tree(layout, xen)
            if not dry_run():
                check(tree, edits, who)
                apply(tree, edits)
            run(["cp", "-a", whole / "root", folder])
            toolstack_recipes.install(layout, tree, folder / "root", parts)

    return layout.store.get("mutant", inputs, make)


def boots(built: Artifacts, entry: Path) -> Artifacts:
    """The same, with the entry's hypervisor."""
    hashes = {**built.hashes, "xen": sha256_file(entry / "xen")}
    return replace(built, xen=entry / "xen", xen_syms=entry / "xen-syms", hashes=hashes)


def unit_tests(layout: Layout, entry: Path, folder: Path) -> Path:
    """Compile the tests of the series' arithmetic against an entry's header; the program."""
    program = folder / "share_out_test"
    source = layout.root / "hypervisor" / "tests" / "share_out_test.cpp"
    words: list[str | Path] = [*compiler().replace("gcc", "g++").split(), "-std=c++20", "-O1"]
    words += ["-isystem", entry, source, "-o", program, "-lgtest", "-lgtest_main", "-pthread"]
    run(words, log=layout.log("mutant-unit"))
    return program
