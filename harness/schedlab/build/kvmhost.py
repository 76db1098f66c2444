# SPDX-License-Identifier: GPL-2.0-only
"""What the emulated host with KVM boots (``lab kvm-host``): Debian's own kernel, and an initramfs
with the modules it needs.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schedlab.build import fetch
from schedlab.build.image import Member, cpio
from schedlab.build.layout import Layout
from schedlab.build.toolstack import BUSYBOX, present
from schedlab.core.command import dry_run, run
from schedlab.core.errors import LabError
from schedlab.core.store import sha256_file

# As they depend on one another.
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay"),
    *("irqbypass", "ccp", "kvm", "kvm-amd"),
)
_FOLDERS = ("bin", "dev", "lower", "machine", "modules", "proc", "sys", "upper")


@dataclass(frozen=True)
class KvmHost:
    """A kernel (bzImage) and its initramfs; ``version`` is the package's."""

    kernel: Path
    initramfs: Path
    version: str


def kvm_host(layout: Layout) -> KvmHost:
    """Fetch and make what is missing.  LabError names a module that the kernel does not have."""
    fetched = fetch.fetch(layout, "host-kernel")
    init = layout.root / "images" / "kvm-host" / "init"
    busybox = present(BUSYBOX, "busybox-static")

    def make(folder: Path) -> None:
        unpacked = folder / "unpacked"
        for package in fetched.files:
            run(["dpkg", "-x", package, unpacked], log=layout.log("host-kernel"))
        if dry_run():
            print(f"# write {folder / 'vmlinuz'} and {folder / 'initramfs'}")
            return
        (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
        shutil.copyfile(kernel, folder / "vmlinuz")
        (folder / "initramfs").write_bytes(cpio(_members(unpacked, init, busybox)))
        shutil.rmtree(unpacked)

    inputs = {
        **{"recipe": "1", "packages": fetched.choice.inputs, "modules": " ".join(MODULES)},
        **{"init": sha256_file(init), "busybox": sha256_file(busybox)},
    }
    title = f"kernel {fetched.choice.version} of the host with KVM"
    entry = layout.store.get("kvm-host", inputs, make, title=title)
    return KvmHost(entry / "vmlinuz", entry / "initramfs", fetched.choice.version)


def _members(unpacked: Path, init: Path, busybox: Path) -> Iterator[Member]:
    yield from (Member(name, stat.S_IFDIR | 0o755) for name in _FOLDERS)
    yield Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield Member("init", stat.S_IFREG | 0o755, init.read_bytes())
    yield Member("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    yield Member("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    order = "".join(f"{name}\n" for name in MODULES)
    yield Member("modules/order", stat.S_IFREG | 0o644, order.encode())
    files = {path.stem: path for path in (unpacked / "lib" / "modules").rglob("*.ko")}
    for name in MODULES:
        if name not in files:
            raise LabError(f"the host's kernel has no module {name}", "see item.host-kernel")
        yield Member(f"modules/{name}.ko", stat.S_IFREG | 0o644, files[name].read_bytes())
