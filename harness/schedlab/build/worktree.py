# SPDX-License-Identifier: GPL-2.0-only
"""The developers' tree of Xen as it is now, edits and new files included, as a source to build.

The tree is only read.  What is in it becomes a commit in the repository of the work tree that the
edited hypervisor is built in, so that the same content gives the same key as a series would.
"""

from __future__ import annotations

from pathlib import Path

from schedlab.build import EDITED, xen
from schedlab.build.layout import Layout
from schedlab.core.command import dry_run, query
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive


def snapshot(layout: Layout, base: str, tree: Path | None = None) -> xen.Source:
    """The content now of a tree (build/xen-<base>).  Raises LabError where there is none."""
    tree = tree or layout.xen_tree(base)
    if dry_run():
        return xen.Source(tree.with_suffix(".snapshot"), "COMMIT", "TREE", base)
    if not (tree / ".git").exists():
        raise LabError(f"{tree} is not there", "`make xen-tree` makes it")
    kept = xen.work_tree(layout, base, EDITED)
    log = layout.log(f"xen-{base}-{EDITED}-snapshot")
    with exclusive(layout.trees / f"{kept.name}-snapshot.lock", ""):
        if not (kept / ".git").is_dir():
            xen.git("init", "-q", "-b", "work", kept, log=log)
            xen.git("config", "gc.auto", "0", cwd=kept, log=log)
        _index_at_head(tree, kept, log)
        _look("add", "-A", ".", tree=tree, kept=kept)
        found = _look("write-tree", tree=tree, kept=kept)
        commit = xen.ask_git("commit-tree", found, "-m", "edited", cwd=kept)
        xen.git("update-ref", "refs/heads/main", commit, cwd=kept)
    return xen.Source(kept / ".git", commit, found, base)


def changed(layout: Layout, base: str, before: str, after: str) -> list[str]:
    """The files in which two snapshots, by their trees, differ."""
    kept = xen.work_tree(layout, base, EDITED)
    return xen.ask_git("diff", "--name-only", before, after, cwd=kept).splitlines()


def _index_at_head(tree: Path, kept: Path, log: Path) -> None:
    """Know what the tree's commit has, files that its .gitignore names too."""
    seen = kept / ".git" / "snapshot-head"
    head = xen.ask_git("rev-parse", "HEAD", cwd=tree)
    if seen.is_file() and seen.read_text() == head:
        return
    xen.git("fetch", "-q", tree, "HEAD", cwd=kept, log=log)
    _look("read-tree", "--reset", head, tree=tree, kept=kept)
    seen.write_text(head)


def _look(*words: str, tree: Path, kept: Path) -> str:
    """git on the developers' files, with the repository and an index of the work tree."""
    where = {
        "GIT_DIR": str(kept / ".git"),
        "GIT_WORK_TREE": str(tree),
        "GIT_INDEX_FILE": str(kept / ".git" / "snapshot-index"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    return query(["git", *words], cwd=tree, env=where).rstrip("\n")
