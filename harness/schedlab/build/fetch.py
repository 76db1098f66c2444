# SPDX-License-Identifier: GPL-2.0-only
"""Locked items, fetched once: the first choice that can be had."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from schedlab.build import apt
from schedlab.build.layout import Layout
from schedlab.build.lock import Choice, Item, load
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError


@dataclass(frozen=True)
class Fetched:
    """A choice and the store's folder with its files."""

    choice: Choice
    folder: Path

    @property
    def files(self) -> list[Path]:
        return [self.folder / file.name for file in self.choice.files]


def fetch(layout: Layout, name: str) -> Fetched:
    """Fetch an item of the lock file, unless one of its choices is in the store already."""
    items = load(layout.lock_file)
    if name not in items:
        raise LabError(
            f"{layout.lock_file} has no item.{name}", f"it has {', '.join(sorted(items))}"
        )
    return fetch_item(layout, items[name])


def fetch_item(layout: Layout, item: Item) -> Fetched:
    """Take what is stored, else what DOWNLOADS has, else what the archive offers; choices in order
    each time.
    """
    step = f"fetch-{item.name}"
    for choice in item.choices:
        entry = layout.store.find(step, _inputs(item, choice))
        if entry is not None:
            return Fetched(choice, entry)
    private = apt.PrivateApt(layout.build / "apt" / item.name, item, layout.log(step))
    prepared = False

    def download(choice: Choice, into: Path) -> None:
        nonlocal prepared
        if not prepared:
            private.prepare()
            prepared = True
        gone = None if dry_run() else _not_offered(item, choice, private)
        try:
            if gone is None:
                private.download(choice, into)
            elif item.pool is not None:
                private.download_from_pool(choice, into)
        except LabError as error:
            said = gone or f"apt could not fetch {item.name} {choice.version}"
            raise GoneError(said, log=error.log) from error
        if gone is not None and item.pool is None:
            raise GoneError(gone, log=private.log)

    def get(choice: Choice) -> Fetched:
        def make(folder: Path) -> None:
            apt.fetch(choice, folder, layout.downloads, download)

        title = f"fetch {item.name} {choice.version}"
        return Fetched(choice, layout.store.get(step, _inputs(item, choice), make, title=title))

    def local(choice: Choice) -> bool:
        folder = layout.downloads
        return folder is not None and all((folder / file.name).is_file() for file in choice.files)

    refused: list[LabError] = []
    for choice in sorted(item.choices, key=lambda choice: not local(choice)):
        try:
            return get(choice)
        except GoneError as error:
            print(f"  {error.what}", file=sys.stderr)
            refused.append(error)
    raise LabError(
        f"none of the locked versions of {item.name} can be had: "
        + "; ".join(error.what for error in refused),
        f"add one that is offered, with its SHA-256, to {layout.lock_file} (how: see its head), "
        "or set DOWNLOADS in"
        " local.mk to a folder with the files",
        refused[-1].log,
    )


class GoneError(LabError):
    """This choice cannot be had; another might."""


def _inputs(item: Item, choice: Choice) -> dict[str, object]:
    return {"kind": item.kind, "version": choice.version, "files": choice.inputs}


def _not_offered(item: Item, choice: Choice, private: apt.PrivateApt) -> str | None:
    """What the indices lack of a choice, or None."""
    offered = private.offered()
    for file in choice.files:
        if (file.package, file.version) not in offered:
            others = sorted(version for package, version in offered if package == file.package)
            says = ", ".join(others) or "no version at all"
            return (
                f"{file.package} {file.version} is gone from {', '.join(item.suites)}; apt "
                f"offers {says}"
            )
    return None
