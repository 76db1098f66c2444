# SPDX-License-Identifier: GPL-2.0-only
"""A store of made things, addressed by the content of what they were made from.

    <root>/<step>/<key, 16 hex digits>/   the entry: outputs and manifest.json
    <root>/<step>/.<key>.<pid>.tmp/       an entry being made
    <root>/<step>/.<key>.lock             who holds its flock makes the entry; it contains the pid

An entry appears by rename, whole or not at all, and never changes.  The lock is the kernel's, so a
crash frees it; what a crash leaves is a temporary folder, which the next maker of the same entry or
clean_temporary() removes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schedlab.core.command import dry_run
from schedlab.core.errors import LabError

_KEY_DIGITS = 16
_MANIFEST = "manifest.json"


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(inputs: Mapping[str, Any]) -> str:
    """The key of a set of inputs: SHA-256 of their canonical JSON, in hex."""
    text = json.dumps(
        inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold the flock on a file; says on stderr whom it waits for, unless nobody would want to know
    (no ``what``).  Under DRY=1 there is none.
    """
    if dry_run():
        yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "?"
                if what:
                    said = f"waiting for pid {holder}, which is making {what}"
                    print(said, file=sys.stderr, flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_same_file(handle, lock):
                continue  # clean_temporary() removed it meanwhile
            os.pwrite(handle, f"{os.getpid():<10}".encode(), 0)
            yield
            return
        finally:
            os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


class Store:
    """Entries below one root.  Several processes may use one store at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, step: str, inputs: Mapping[str, Any]) -> Path:
        """Where the entry is, or would be."""
        return self.root / step / key_of(inputs)[:_KEY_DIGITS]

    def find(self, step: str, inputs: Mapping[str, Any]) -> Path | None:
        """The entry, if it is there and whole."""
        entry = self.path(step, inputs)
        if not _is_whole(entry):
            return None
        os.utime(entry / _MANIFEST)  # last use, for prune()
        return entry

    def get(
        self,
        step: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        *,
        title: str | None = None,
    ) -> Path:
        """The folder made from these inputs, made now if need be.

        make fills the empty folder it is given; what it raises goes on up and leaves nothing.
        Under DRY=1 a missing entry's make is called with the path the entry would have (not there),
        so that its commands print.  An empty title: nothing is said of it.
        """
        entry = self.find(step, inputs)
        if entry is not None:
            return entry
        entry = self.path(step, inputs)
        name = title or step
        say = title != ""
        if dry_run():
            print(f"# {name}", flush=True)
            make(entry)
            return entry
        with exclusive(entry.parent / f".{entry.name}.lock", name):
            if _is_whole(entry):
                return entry  # made by whom we waited for
            self._remove_leftovers(entry)
            temporary = entry.parent / f".{entry.name}.{os.getpid()}.tmp"
            start_s = time.monotonic()
            if say:
                print(f"  {name} …", file=sys.stderr, flush=True)
            try:
                temporary.mkdir()
                make(temporary)
                _write_manifest(temporary, inputs)
                temporary.rename(entry)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise LabError(
                        f"{name}: no space left below {self.root}",
                        "free some, or let BUILD in local.mk point to a larger disk",
                    ) from error
                raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            if say:
                took_s = time.monotonic() - start_s
                print(f"  {name} … {took_s:.1f} s", file=sys.stderr, flush=True)
        return entry

    def manifest(self, entry: Path) -> dict[str, Any]:
        """What is written about an entry: inputs, key, outputs {name: {sha256, bytes}}."""
        found: dict[str, Any] = json.loads((entry / _MANIFEST).read_text())
        return found

    def clean_temporary(self) -> list[Path]:
        """Remove what crashes left, except what is being made now.  Returns what it removed."""
        removed = []
        for temporary in sorted(self.root.glob("*/.*.tmp")):
            lock = temporary.parent / f".{temporary.name.split('.')[1]}.lock"
            with lock.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(temporary)
                lock.unlink()
                removed.append(temporary)
        return removed

    def prune(self, unused_s: float) -> list[Path]:
        """Remove entries not used for so many seconds.  Returns what was removed."""
        removed = []
        for manifest in sorted(self.root.glob(f"*/*/{_MANIFEST}")):
            if time.time() - manifest.stat().st_mtime > unused_s:
                entry = manifest.parent
                manifest.unlink()  # without it the rest is no entry
                shutil.rmtree(entry)
                removed.append(entry)
        return removed

    def _remove_leftovers(self, entry: Path) -> None:
        """The lock is held: whatever of this entry is there is nobody's."""
        for leftover in entry.parent.glob(f".{entry.name}.*.tmp"):
            shutil.rmtree(leftover)
        if entry.exists():
            print(f"  {entry} is damaged and is made again", file=sys.stderr)
            shutil.rmtree(entry)


def _outputs(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path != folder / _MANIFEST:
            yield path


def _write_manifest(folder: Path, inputs: Mapping[str, Any]) -> None:
    outputs = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in _outputs(folder)
    }
    manifest = {"key": key_of(inputs), "inputs": dict(inputs), "outputs": outputs}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _is_whole(entry: Path) -> bool:
    """Every output is there in its size; entries are never written to, so no hashing."""
    try:
        outputs = json.loads((entry / _MANIFEST).read_text())["outputs"]
        return all((entry / name).stat().st_size == said["bytes"] for name, said in outputs.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False
