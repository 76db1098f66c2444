# SPDX-License-Identifier: GPL-2.0-only
"""python -m schedlab.build STEP: build one step and all it needs, and print where it is."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from schedlab.build import artifacts, fetch, series, toolstack, xen
from schedlab.build.guests import guests
from schedlab.build.image import image
from schedlab.build.kernel import kernel
from schedlab.build.layout import Layout
from schedlab.build.qemu import qemu
from schedlab.core.command import interrupt_on_sigterm, run
from schedlab.core.errors import LabError


def main() -> int:
    """Exit status: 0 done, 2 could not run, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="schedlab.build", description=__doc__)
    parser.add_argument(
        "--xen", default=os.environ.get("XEN") or "4.17", help="base (default: %(default)s)"
    )
    parser.add_argument("--variant", default="patched", choices=xen.VARIANTS)
    parser.add_argument("--config", default="release", help="hypervisor/config/<CONFIG>.config")
    layout = Layout.from_environment()

    def everything() -> object:
        artifacts(options.xen, "stock")
        return artifacts(options.xen, "patched", options.config).initramfs.parents[3]

    steps: dict[str, Callable[[], object]] = {
        "setup": lambda: run([layout.root / "harness" / "setup"]),
        "fetch-xen": lambda: fetch.fetch(layout, xen.item_name(options.xen)).folder,
        "fetch-kernel": lambda: fetch.fetch(layout, "kernel").folder,
        "qemu": lambda: qemu(layout).argv0,
        "xen-source": lambda: xen.source_tree(layout, options.xen, options.variant),
        "xen": lambda: xen.hypervisor(layout, options.xen, options.variant, options.config) / "xen",
        "tools": lambda: xen.tools(layout, options.xen),
        "kernel": lambda: kernel(layout) / "vmlinux",
        "guests": lambda: guests(layout, options.xen),
        "image": lambda: image(layout, guests(layout, options.xen) / "controller") / "initramfs",
        "toolstack": lambda: toolstack.image(layout, options.xen) / "initramfs",
        "all": everything,
        "xen-tree": lambda: series.xen_tree(layout, options.xen),
        "patches": lambda: "\n".join(map(str, series.refresh(layout, options.xen))),
        "check-patches": lambda: series.check(layout, options.xen),
    }
    parser.add_argument(
        "steps", metavar="STEP", nargs="+", choices=list(steps), help=", ".join(steps)
    )
    options = parser.parse_args()
    interrupt_on_sigterm()
    try:
        for step in options.steps:
            made = steps[step]()
            if made and step != "setup":
                print(made)
    except LabError as error:
        print(error.render(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
