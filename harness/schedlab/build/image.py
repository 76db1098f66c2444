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
from schedlab.core.command import dry_run, query
from schedlab.core.errors import LabError
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


def libraries(program: Path) -> list[Path]:
    """The shared libraries of a program, the loader among them, where the machine has them."""
    found = []
    for line in query(["ldd", program]).splitlines():
        words = line.replace("=>", " ").split()
        paths = [word for word in words if word.startswith("/")]
        if paths:
            found.append(Path(paths[-1]))
        elif not line.strip().startswith("linux-vdso"):
            raise LabError(f"{program.name} needs {line.strip()}", "`make setup` installs it")
    return found


def with_program(layout: Layout, controller: Path, program: Path) -> Path:
    """The archive with /<program> and its shared libraries, too; the entry has initramfs."""
    if dry_run() and not program.exists():
        return layout.store.path("image", {"controller": "CONTROLLER", "program": program.name})
    files = [program, *libraries(program)]

    def make(folder: Path) -> None:
        if dry_run():
            print(f"# write {folder / 'initramfs'} with {', '.join(map(str, files))}")
            return
        inside = {str(path).lstrip("/"): path.read_bytes() for path in files[1:]}
        inside[program.name] = program.read_bytes()
        folders = {str(parent) for name in inside for parent in Path(name).parents} - {"."}
        more = [
            *(Member(name, stat.S_IFDIR | 0o755) for name in folders),
            *(Member(name, stat.S_IFREG | 0o755, data) for name, data in inside.items()),
        ]
        whole = cpio([*members(controller.read_bytes()), *more])
        (folder / "initramfs").write_bytes(whole)

    inputs = {"recipe": "1", "controller": sha256_file(controller)}
    inputs |= {str(path) if k else path.name: sha256_file(path) for k, path in enumerate(files)}
    return layout.store.get("image", inputs, make, title=f"image with {program.name}")


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
