# SPDX-License-Identifier: GPL-2.0-only
"""Two builds in different folders give the same bytes.

The image is always tried; guests and controller, which the acceptance tests need anyway, with them;
what takes minutes (hypervisor, libraries, kernel, compiled without ccache) in TIER=full.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from pathlib import Path

import pytest

from schedlab.build import fetch, xen
from schedlab.build.guests import compile_guests
from schedlab.build.image import Member, cpio, image, members
from schedlab.build.kernel import compile_kernel, kernel
from schedlab.build.layout import Layout
from schedlab.core.command import run
from schedlab.core.store import sha256_file

FOLDERS = ("one", "another/that is/deeper")


@pytest.fixture
def layout() -> Layout:
    """The real one: what is fetched and built is taken from there."""
    return Layout.from_environment()


@pytest.fixture
def no_ccache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for real, each time."""
    monkeypatch.setenv("CCACHE_DISABLE", "1")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def assert_same(folders: list[Path]) -> None:
    """Names the files that differ."""
    first, second = (digests(folder) for folder in folders)
    assert first, "nothing was built"
    assert [name for name in first | second if first.get(name) != second.get(name)] == []


def read_cpio(archive: bytes) -> list[tuple[str, int, bytes]]:
    """(name, mode, data) of every member of a newc archive."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        data_at = (at + 110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], archive[data_at : data_at + fields[6]]))
        at = (data_at + fields[6] + 3) // 4 * 4


def test_image_has_what_dom0_boots_with() -> None:
    """The archive's members, in order, whatever order they are given in."""
    there = read_cpio(cpio(reversed(members(b"controller"))))
    assert [name for name, _, _ in there] == ["dev", "dev/console", "init", "proc", "run", "sys"]
    assert there[1][1] == stat.S_IFCHR | 0o600
    assert there[2][1:] == (stat.S_IFREG | 0o755, b"controller")
    assert len(cpio([Member("a", stat.S_IFREG, b"odd")])) % 4 == 0


def test_image(tmp_path: Path) -> None:
    """The same controller makes the same image in another folder, at another time."""
    made = []
    for name in FOLDERS:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "controller").write_bytes(b"\x7fELF" + bytes(1001))
        os.utime(folder / "controller", (len(name), len(name)))
        own = Layout(folder, folder / "build", folder / "lock.toml", None, 1)
        made.append(sha256_file(image(own, folder / "controller") / "initramfs"))
    assert made[0] == made[1]


@pytest.mark.acceptance
def test_guests(layout: Layout, tmp_path: Path, no_ccache: None) -> None:
    """Guests and controller, from two clones."""
    tools = xen.tools(layout, "4.17")
    installed = []
    for name in FOLDERS:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir(parents=True)
        shutil.copy(layout.root / "CMakeLists.txt", folder)
        shutil.copytree(layout.root / "guests", folder / "guests")
        own = dataclasses.replace(layout, root=folder)
        compile_guests(own, tools, folder / "b", folder / "installed", folder / "log")
        installed.append(folder / "installed")
    assert_same(installed)


@pytest.mark.slow
def test_hypervisor(layout: Layout, tmp_path: Path, no_ccache: None) -> None:
    """xen and xen-syms, build id and all."""
    source = xen.source(layout, "4.17", "patched")
    parts = xen.fragments(layout, "release")
    built = []
    for name in ("one", "another/deeper"):  # Xen's make cannot do with blanks
        tree = tmp_path / name / "tree"
        xen.compile_hypervisor(layout, source, tree, parts, tmp_path / "log")
        out = tmp_path / name / "out"
        out.mkdir()
        for file in ("xen", "xen-syms"):
            shutil.copy(tree / "xen" / file, out)
        built.append(out)
    assert_same(built)


@pytest.mark.slow
def test_tools(layout: Layout, tmp_path: Path, no_ccache: None) -> None:
    """libxenctrl, libxenguest and below, and their headers."""
    source = xen.source(layout, "4.17", "patched")
    built = []
    for name in ("one", "another/deeper"):
        tree = tmp_path / name / "tree"
        tree.parent.mkdir(parents=True)
        xen.compile_tools(layout, source, tree, tmp_path / "log")
        xen.collect_tools(tree, tmp_path / name / "out")
        built.append(tmp_path / name / "out")
    assert_same(built)


@pytest.mark.slow
def test_kernel(layout: Layout, tmp_path: Path, no_ccache: None) -> None:
    """dom0's kernel, the longest of all: once more elsewhere, against the one in the store."""
    stored = kernel(layout) / "vmlinux"
    package = fetch.fetch(layout, "kernel").files[0]
    fragment = layout.root / "images" / "dom0-kernel.config"
    work = tmp_path / "another" / "deeper"
    compile_kernel(layout, package, fragment, work, tmp_path / "log")
    run(["strip", "-s", "-o", tmp_path / "vmlinux", work / "obj" / "vmlinux"])
    shutil.rmtree(work)
    assert sha256_file(tmp_path / "vmlinux") == sha256_file(stored)
