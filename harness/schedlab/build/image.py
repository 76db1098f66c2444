# SPDX-License-Identifier: GPL-2.0-only
"""dom0's initramfs: a cpio archive (newc), written here so that the same files give the same bytes.

Times are the fixed build date, the order is sorted, the owner is root, inodes are counted.  The
format: Linux,
Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schedlab.build.layout import Layout
from schedlab.build.toolchain import EPOCH
from schedlab.core.command import dry_run
from schedlab.core.store import sha256_file


@dataclass(frozen=True, order=True)
class Member:
    """A file, folder or device of the archive; mode includes the type, device is (major, minor)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(members: Iterable[Member]) -> bytes:
    """The archive, in newc format."""
    out = bytearray()
    for number, member in enumerate([*sorted(members), Member("TRAILER!!!", 0)], start=1):
        name = member.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(member.mode) else 1
        date = EPOCH if member.mode else 0
        fields = (
            number,
            member.mode,
            0,
            0,
            links,
            date,
            len(member.data),
            0,
            0,
            *member.device,
            len(name),
            0,
        )
        out += b"070701" + b"".join(b"%08X" % value for value in fields) + name
        out += bytes(-len(out) % 4) + member.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def members(controller: bytes) -> list[Member]:
    """What dom0 boots with: /init, the console it opens, the places it mounts on."""
    folders = ("dev", "proc", "run", "sys")
    return [
        *(Member(name, stat.S_IFDIR | 0o755) for name in folders),
        Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Member("init", stat.S_IFREG | 0o755, controller),
    ]


def image(layout: Layout, controller: Path) -> Path:
    """Write the archive for a controller; the entry has initramfs."""

    def make(folder: Path) -> None:
        if dry_run():
            print(f"# write {folder / 'initramfs'} with {controller} as /init")
            return
        (folder / "initramfs").write_bytes(cpio(members(controller.read_bytes())))

    known = dry_run() and not controller.exists()
    inputs = {"recipe": "1", "controller": "CONTROLLER" if known else sha256_file(controller)}
    return layout.store.get("image", inputs, make, title="image")
