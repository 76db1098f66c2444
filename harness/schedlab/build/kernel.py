# SPDX-License-Identifier: GPL-2.0-only
"""dom0's kernel: Debian's linux-source with images/dom0-kernel.config over tinyconfig, as a
stripped ELF.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from schedlab.build import fetch
from schedlab.build.kconfig import check_fragment
from schedlab.build.layout import Layout
from schedlab.build.toolchain import compiler, compiler_environment, toolchain
from schedlab.core.command import dry_run, run
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive, sha256_file

_NEEDED_BYTES = 3 << 30  # unpacked source and objects


def kernel(layout: Layout) -> Path:
    """Build the kernel; the entry has vmlinux and config."""
    fragment = layout.root / "images" / "dom0-kernel.config"
    fetched = fetch.fetch(layout, "kernel")
    log = layout.log("kernel")
    inputs = {
        "recipe": "1",
        "source": fetched.choice.inputs,
        "config": sha256_file(fragment),
        "toolchain": toolchain(),
    }

    def make(folder: Path) -> None:
        with exclusive(layout.trees / "lock", "a build"):
            work = layout.trees / "kernel"
            try:
                compile_kernel(layout, fetched.files[0], fragment, work, log)
                run(["strip", "-s", "-o", folder / "vmlinux", work / "obj" / "vmlinux"], log=log)
                run(["cp", work / "obj" / ".config", folder / "config"])
            finally:
                run(["rm", "-rf", work])

    return layout.store.get(
        "kernel", inputs, make, title=f"dom0 kernel {fetched.choice.version} (minutes)"
    )


def compile_kernel(layout: Layout, package: Path, fragment: Path, work: Path, log: Path) -> None:
    """Unpack, configure and build in a fresh folder, 2.5 GB of it."""
    run(["rm", "-rf", work])
    run(["mkdir", "-p", work / "source", work / "obj"])
    if not dry_run() and shutil.disk_usage(work).free < _NEEDED_BYTES:
        raise LabError(
            f"less than {_NEEDED_BYTES >> 30} GiB are free below {layout.build}, which the "
            "kernel's build needs",
            "free some, or let BUILD in local.mk point to a larger disk",
        )
    run(["dpkg", "-x", package, work / "deb"], log=log)
    tarball = next(
        (work / "deb").glob("usr/src/linux-source-*.tar.xz"),
        work / "deb/usr/src/linux-source.tar.xz",
    )
    run(["tar", "-xf", tarball, "-C", work / "source", "--strip-components=1"], log=log)
    environment = {
        **compiler_environment(layout),
        "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
        "KBUILD_BUILD_USER": "nemesis",
        "KBUILD_BUILD_HOST": "lab",
        "KBUILD_BUILD_VERSION": "1",
        "LOCALVERSION": "",
    }
    make: list[str | Path] = [
        "make",
        "-C",
        work / "source",
        f"O={work / 'obj'}",
        f"-j{layout.jobs}",
    ]
    make += [f"CC={compiler()}", f"KCFLAGS=-ffile-prefix-map={work}/="]
    run([*make, "tinyconfig"], env=environment, log=log, label="kernel tinyconfig")
    config = work / "obj" / ".config"
    run(["sh", "-c", 'cat "$1" >> "$2"', "sh", fragment, config], log=log)
    run([*make, "olddefconfig"], env=environment, log=log, label="kernel olddefconfig")
    if not dry_run():
        check_fragment(fragment, config)
    run([*make, "vmlinux"], env=environment, log=log, label="building dom0's kernel")
