# SPDX-License-Identifier: GPL-2.0-only
"""The hypervisor with the series as another revision of this repository had it.

Guests, controller, tools and kernel stay today's: the hypervisor alone is what differs.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from schedlab.build import Artifacts
from schedlab.build import xen as xen_recipes
from schedlab.build.layout import Layout
from schedlab.core.command import query
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive, sha256_file


def commit_of(layout: Layout, revision: str) -> str:
    """The commit's id.  LabError where there is none of that name."""
    try:
        found = query(
            ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd=layout.root
        )
    except LabError as error:
        raise LabError(
            f"no revision {revision} in this repository", "git log -- hypervisor shows them"
        ) from error
    return found.strip()


def series(layout: Layout, xen: str, commit: str) -> Layout:
    """The layout with that commit's hypervisor/<base>; taken out of git once."""
    root = layout.trees / "series" / commit
    made = root / "hypervisor" / xen
    if not made.is_dir():
        with exclusive(layout.trees / "series.lock", f"the series of {commit[:12]}"):
            # It only looks, so under DRY=1 it is done, too.
            layout.trees.mkdir(parents=True, exist_ok=True)
            archive = layout.trees / f"series-{commit}-{xen}.tar"
            unpacked = layout.trees / f".series-{commit}-{xen}"
            shutil.rmtree(unpacked, ignore_errors=True)
            try:
                what = f"hypervisor/{xen}"
                query(["git", "archive", "-o", archive, commit, what], cwd=layout.root)
                unpacked.mkdir()
                query(["tar", "-xf", archive, "-C", unpacked])
                made.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(made, ignore_errors=True)
                (unpacked / what).rename(made)
            except LabError as error:
                raise LabError(
                    f"revision {commit[:12]} has no hypervisor/{xen}", "name a later one"
                ) from error
            finally:
                archive.unlink(missing_ok=True)
                shutil.rmtree(unpacked, ignore_errors=True)
    return replace(layout, series_root=root)


def hypervisor(
    layout: Layout, xen: str, variant: str, config: str, revision: str, built: Artifacts
) -> Artifacts:
    """``built``, with the hypervisor of a revision.  Raises LabError."""
    old = series(layout, xen, commit_of(layout, revision))
    entry: Path = xen_recipes.hypervisor(old, xen, variant, config)
    known = (entry / "xen").exists()
    hashes = {**built.hashes, "xen": sha256_file(entry / "xen") if known else ""}
    return replace(built, xen=entry / "xen", xen_syms=entry / "xen-syms", hashes=hashes)
