# SPDX-License-Identifier: GPL-2.0-only
"""From names and checksums to everything a run boots.

    lock file ─ fetch ─┬─ xen source ─┬─ hypervisor (patched, stock)
                       │              ├─ tools ─ guests, controller, nemesis ─ image
                       │              └─ toolstack ─ toolstack image
                       ├─ kernel
                       └─ qemu
Every arrow is a step of the store, keyed by the content of its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from schedlab.build import toolstack
from schedlab.build import xen as xen_recipes
from schedlab.build.guests import guests
from schedlab.build.image import image
from schedlab.build.kernel import kernel
from schedlab.build.layout import Layout
from schedlab.build.qemu import Qemu, qemu
from schedlab.core.command import dry_run
from schedlab.core.store import sha256_file

__all__ = ["Artifacts", "EDITED", "Layout", "Qemu", "artifacts", "edited", "with_toolstack"]

# What the build of the developers' tree is called.
EDITED = "edited"


@dataclass(frozen=True)
class Artifacts:
    """Everything a run boots, and the SHA-256 of each by name (the guests' as guest/<image>).

    ``origin`` says what the hypervisor was made of and with: series, tarball, toolchain.
    """

    xen: Path
    xen_syms: Path
    kernel: Path
    initramfs: Path
    guests: dict[str, Path]
    qemu: Qemu
    hashes: dict[str, str]
    origin: dict[str, str] = field(default_factory=dict)


def artifacts(xen: str = "4.17", variant: str = "patched", config: str = "release") -> Artifacts:
    """Build what is missing.

    xen: the base; variant: "patched" or "stock"; config: hypervisor/config/<config>.config.

    Raises LabError.  Controller and guests are always those of the patched Xen: a stock hypervisor
    answers their extra
    calls with an error.
    """
    layout = Layout.from_environment()
    built = _around(layout, xen, xen_recipes.hypervisor(layout, xen, variant, config), None)
    return replace(built, origin=xen_recipes.origin(layout, xen, variant, config))


def edited(
    layout: Layout, xen: str, found: xen_recipes.Source, config: str = "release"
) -> Artifacts:
    """The same of a source that is no series: the developers' tree as it is (worktree.snapshot)."""
    hypervisor = xen_recipes.hypervisor_of(layout, xen, EDITED, found, config, often=True)
    return _around(layout, xen, hypervisor, found)


def _around(
    layout: Layout, xen: str, hypervisor: Path, found: xen_recipes.Source | None
) -> Artifacts:
    """A hypervisor, and all else that a run boots."""
    pinned_qemu = qemu(layout)
    built = guests(layout, xen, found)
    built_image = image(layout, built / "controller")
    built_kernel = kernel(layout)
    elves = {path.name: path for path in sorted((built / "guests").glob("*")) if path.is_file()}
    files = {
        "xen": hypervisor / "xen",
        "kernel": built_kernel / "vmlinux",
        "initramfs": built_image / "initramfs",
        "qemu": pinned_qemu.argv0,
        **{f"guest/{name}": path for name, path in elves.items()},
    }
    return Artifacts(
        xen=files["xen"],
        xen_syms=hypervisor / "xen-syms",
        kernel=files["kernel"],
        initramfs=files["initramfs"],
        guests=elves,
        qemu=pinned_qemu,
        hashes={name: _hash(path) for name, path in files.items()},
    )


def with_toolstack(built: Artifacts, xen: str = "4.17", initramfs: Path | None = None) -> Artifacts:
    """The same, booting the toolstack's image (or this one): always the patched Xen's toolstack."""
    initramfs = initramfs or toolstack.image(Layout.from_environment(), xen) / "initramfs"
    return replace(
        built,
        initramfs=initramfs,
        hashes={**built.hashes, "initramfs": _hash(initramfs)},
    )


def _hash(path: Path) -> str:
    return "" if dry_run() and not path.exists() else sha256_file(path)
