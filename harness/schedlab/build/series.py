# SPDX-License-Identifier: GPL-2.0-only
"""The series and the tree it stands for: make xen-tree, make patches, make check-patches.

Developers edit commits in build/xen-<base>, a git tree of Xen with the tag `base`;
hypervisor/<base>/*.patch is written
from it.  The form is stable: the same commits give the same bytes, whoever writes them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from schedlab.build import xen
from schedlab.build.layout import Layout
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError


def xen_tree(layout: Layout, base: str) -> Path:
    """Make the developers' tree, with the series applied; one that is there is left as it is."""
    tree = layout.xen_tree(base)
    if tree.exists():
        return tree
    log = layout.log(f"xen-tree-{base}")
    stock = xen.source(layout, base, "stock")
    temporary = tree.parent / f".{tree.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    xen.git("clone", "-q", "--no-hardlinks", stock.repository, temporary, log=log)
    xen.git("remote", "remove", "origin", cwd=temporary, log=log)
    xen.git("checkout", "-q", "-b", "scheddom", cwd=temporary, log=log)
    if not dry_run():
        temporary.rename(tree)
    for patch in xen.patches(layout, base):
        xen.apply(
            patch, tree, log
        )  # one that does not apply leaves the tree at it, to be mended there
    return tree


def export(tree: Path, folder: Path, log: Path) -> list[Path]:
    """Write the commits after `base` as patches."""
    xen.git(
        "format-patch",
        "-q",
        "--zero-commit",
        "--no-numbered",
        "--no-signature",
        "--no-renames",
        "--abbrev=7",
        "-o",
        folder,
        "base..HEAD",
        cwd=tree,
        log=log,
    )
    return sorted(folder.glob("*.patch"))


def refresh(layout: Layout, base: str) -> list[Path]:
    """Write the tree's commits over the series."""
    tree = layout.xen_tree(base)
    log = layout.log(f"patches-{base}")
    _require_clean(tree)
    with tempfile.TemporaryDirectory(dir=layout.build) as folder:
        written = export(tree, Path(folder), log)
        if dry_run():
            return []
        if not written:
            raise LabError(
                f"{tree} has no commits after the tag base", "commit the changes there first"
            )
        series = layout.series(base)
        series.mkdir(exist_ok=True)
        for old in series.glob("*.patch"):
            old.unlink()
        for patch in written:
            shutil.copyfile(patch, series / patch.name)
    return xen.patches(layout, base)


def check(layout: Layout, base: str) -> str:
    """Prove that the series reproduces the tree, and that writing it again gives the same bytes.

    Without a developers' tree the second half stands alone.  Returns what was proven, in one
    sentence.
    """
    log = layout.log(f"check-patches-{base}")
    applied = xen.source(layout, base, "patched")
    if dry_run():
        return ""
    with tempfile.TemporaryDirectory(dir=layout.build) as name:
        folder = Path(name)
        xen.git("clone", "-q", applied.repository, folder / "tree", log=log)
        again = export(folder / "tree", folder / "patches", log)
        committed = xen.patches(layout, base)
        for ours, theirs in zip(committed, again):
            if ours.name != theirs.name or ours.read_bytes() != theirs.read_bytes():
                raise LabError(
                    f"{ours.parent.name}/{ours.name} is not what git writes for its commit "
                    f"({theirs.name})",
                    "`make xen-tree patches` writes the series in its stable form",
                )
    tree = layout.xen_tree(base)
    if not tree.exists():
        return f"{len(committed)} patches apply and are in their stable form"
    _require_clean(tree)
    found = xen.ask_git("rev-parse", "HEAD^{tree}", cwd=tree)
    if found != applied.tree:
        raise LabError(
            f"{tree} is not what the series makes of the base (tree {found[:12]}, series "
            f"{applied.tree[:12]})",
            "`make patches` writes the tree's commits to the series; or remove the tree, and "
            "`make xen-tree` makes it"
            " anew from the series",
        )
    return f"{len(committed)} patches apply, are in their stable form, and reproduce {tree}"


def _require_clean(tree: Path) -> None:
    if not tree.exists():
        raise LabError(f"{tree} is not there", "`make xen-tree` makes it")
    if dry_run():
        return
    changed = xen.ask_git("status", "--porcelain", "--untracked-files=no", cwd=tree)
    if changed or (tree / ".git" / "rebase-apply").exists():
        raise LabError(
            f"{tree} has changes that are not committed:\n{changed}", "commit or drop them there"
        )
