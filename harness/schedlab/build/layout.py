# SPDX-License-Identifier: GPL-2.0-only
"""Where things are, and what the environment (local.mk, through Make) overrides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from schedlab.core.store import Store


@dataclass(frozen=True)
class Layout:
    """The repository and the folder everything is made in.

    NEMESIS_BUILD: the build folder.  NEMESIS_LOCK: the lock file.  NEMESIS_DOWNLOADS: a folder that
    is looked into for a
    file before apt is asked.  NEMESIS_JOBS: make's -j.  CCACHE_DIR: the compiler cache.
    """

    root: Path
    build: Path
    lock_file: Path
    downloads: Path | None
    jobs: int
    # Where hypervisor/ is, when it is not this repository's own: of another revision.
    series_root: Path | None = None

    @staticmethod
    def from_environment() -> Layout:
        root = Path(__file__).resolve().parents[3]
        downloads = os.environ.get("NEMESIS_DOWNLOADS")
        return Layout(
            root=root,
            build=Path(os.environ.get("NEMESIS_BUILD") or root / "build").resolve(),
            lock_file=Path(
                os.environ.get("NEMESIS_LOCK") or root / "harness" / "lock.toml"
            ).resolve(),
            downloads=Path(downloads).resolve() if downloads else None,
            jobs=int(os.environ.get("NEMESIS_JOBS") or len(os.sched_getaffinity(0))),
        )

    @property
    def store(self) -> Store:
        return Store(self.build / "store")

    @property
    def trees(self) -> Path:
        """Folders that builds are done in: kept for incremental builds, never results."""
        return self.build / "trees"

    def log(self, step: str) -> Path:
        return self.build / "logs" / f"{step}.log"

    def series(self, xen: str) -> Path:
        """The folder of a base's patches."""
        return (self.series_root or self.root) / "hypervisor" / xen

    def xen_tree(self, xen: str) -> Path:
        """The git tree in which developers edit Xen (make xen-tree)."""
        return self.build / f"xen-{xen}"
