# SPDX-License-Identifier: GPL-2.0-only
"""The lock file: what is fetched, to the byte.  The format is described in harness/lock.toml
itself.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedlab.core.errors import LabError


@dataclass(frozen=True)
class LockedFile:
    """One file as apt delivers it."""

    package: str
    version: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Choice:
    """One version of an item: all its files."""

    version: str
    files: tuple[LockedFile, ...]

    @property
    def inputs(self) -> dict[str, str]:
        """What identifies the choice's content."""
        return {file.name: file.sha256 for file in self.files}


@dataclass(frozen=True)
class Item:
    """Something to fetch: kind is "tarball" (of a source package) or "deb"; choices in order of
    preference.  pool: the archive's folder of the source package, or None.
    """

    name: str
    kind: str
    suites: tuple[str, ...]
    choices: tuple[Choice, ...]
    pool: str | None = None


_ITEM: dict[str, type] = {"kind": str, "suites": list, "choices": list}


def load(path: Path) -> dict[str, Item]:
    """Read a lock file; LabError says what is wrong with it and where."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise LabError(
            f"{path}: {error.strerror}", "LOCK in local.mk names the lock file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{path}: {error}") from error
    items = _take(path, "the file", document, {"item": dict})["item"]
    return {name: _item(path, name, entry) for name, entry in items.items()}


def _item(path: Path, name: str, entry: dict[str, Any]) -> Item:
    where = f"item.{name}"
    _take(path, where, {"pool": "", **entry}, {**_ITEM, "pool": str})
    if entry["kind"] not in ("tarball", "deb"):
        raise LabError(f'{path}: {where}: kind is "{entry["kind"]}", neither "tarball" nor "deb"')
    if not entry["choices"] or not entry["suites"]:
        raise LabError(f"{path}: {where}: choices and suites must not be empty")
    return Item(
        name,
        entry["kind"],
        tuple(entry["suites"]),
        tuple(
            _choice(path, f"{where}.choices[{i}]", choice)
            for i, choice in enumerate(entry["choices"])
        ),
        entry.get("pool"),
    )


def _choice(path: Path, where: str, entry: dict[str, Any]) -> Choice:
    _take(path, where, entry, {"version": str, "files": list})
    files = []
    for file in entry["files"]:
        _take(path, where, file, {"package": str, "version": str, "name": str, "sha256": str})
        if not re.fullmatch(r"[0-9a-f]{64}", file["sha256"]):
            raise LabError(f"{path}: {where}: sha256 of {file['name']} is not 64 hex digits")
        if "/" in file["name"]:
            raise LabError(f"{path}: {where}: {file['name']} is not a plain file name")
        files.append(LockedFile(**file))
    return Choice(entry["version"], tuple(files))


def _take(path: Path, where: str, entry: Any, keys: dict[str, type]) -> dict[str, Any]:
    """The entry, if it has exactly these keys with these types."""
    if not isinstance(entry, dict):
        raise LabError(f"{path}: {where} is not a table")
    for key in entry.keys() - keys.keys():
        raise LabError(f"{path}: {where}: unknown key {key}")
    for key, kind in keys.items():
        if not isinstance(entry.get(key), kind):
            raise LabError(f"{path}: {where}: {key} is missing or not a {kind.__name__}")
    return entry
