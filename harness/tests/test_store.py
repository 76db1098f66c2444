# SPDX-License-Identifier: GPL-2.0-only
"""The store: whole entries or none, one maker at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from schedlab.core.errors import LabError
from schedlab.core.store import Store, key_of

HARNESS = Path(__file__).resolve().parents[1]
INPUTS = {"a": "1", "b": {"c": "2"}}


def write(folder: Path) -> None:
    (folder / "out").write_text("made")


def python(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A second process that uses the store."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HARNESS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path} did not appear"
        time.sleep(0.01)


SLOW_MAKER = """
    import sys, time
    from pathlib import Path
    from schedlab.core.store import Store
    root, begun, go = (Path(word) for word in sys.argv[1:])
    def make(folder):
        (folder / "out").write_text("made")
        begun.write_text("")
        while not go.exists():
            time.sleep(0.01)
    Store(root).get("step", {"a": "1", "b": {"c": "2"}}, make)
"""


def test_made_once_and_described(tmp_path: Path) -> None:
    """The second get makes nothing; the manifest has inputs, key and the outputs' checksums."""
    store = Store(tmp_path)
    entry = store.get("step", INPUTS, write)
    assert entry == tmp_path / "step" / key_of(INPUTS)[:16]
    assert store.get("step", INPUTS, lambda _: pytest.fail("made twice")) == entry
    manifest = store.manifest(entry)
    assert manifest["inputs"] == INPUTS
    assert manifest["key"] == key_of(INPUTS)
    said = manifest["outputs"]["out"]
    assert said == {"sha256": hashlib.sha256(b"made").hexdigest(), "bytes": 4}


def test_key_is_of_the_content() -> None:
    """The order of keys does not matter, every value does."""
    assert key_of({"a": "1", "b": "2"}) == key_of({"b": "2", "a": "1"})
    assert key_of({"a": "1"}) != key_of({"a": "2"})


def test_a_failing_maker_leaves_nothing(tmp_path: Path) -> None:
    """What make raises goes on up; no entry and no temporary folder stay."""

    def fail(folder: Path) -> None:
        write(folder)
        raise LabError("no")

    with pytest.raises(LabError):
        Store(tmp_path).get("step", INPUTS, fail)
    assert [path for path in (tmp_path / "step").iterdir() if path.is_dir()] == []


def test_a_full_disk_has_a_remedy(tmp_path: Path) -> None:
    """ENOSPC becomes an error for people."""

    def fill(_folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LabError, match="no space left") as caught:
        Store(tmp_path).get("step", INPUTS, fill)
    assert "BUILD" in caught.value.remedy


def test_a_crash_half_way_leaves_no_entry(tmp_path: Path) -> None:
    """A maker that is killed leaves a temporary folder, which the next one removes."""
    maker = python(SLOW_MAKER, tmp_path, tmp_path / "begun", tmp_path / "never")
    wait_for(tmp_path / "begun")
    maker.kill()
    maker.communicate()
    store = Store(tmp_path)
    assert store.find("step", INPUTS) is None
    assert len(list(tmp_path.glob("step/.*.tmp"))) == 1
    entry = store.get("step", INPUTS, write)
    assert (entry / "out").read_text() == "made"
    assert list(tmp_path.glob("step/.*.tmp")) == []


def test_clean_removes_what_crashes_left_and_only_that(tmp_path: Path) -> None:
    """clean_temporary() leaves alone what a living process is making."""
    maker = python(SLOW_MAKER, tmp_path, tmp_path / "begun", tmp_path / "never")
    wait_for(tmp_path / "begun")
    store = Store(tmp_path)
    assert store.clean_temporary() == []
    maker.kill()
    maker.communicate()
    assert len(store.clean_temporary()) == 1
    assert list(tmp_path.glob("step/.*")) == []


def test_two_makers_at_once(tmp_path: Path) -> None:
    """The second says whom it waits for, and takes what the first made."""
    first = python(SLOW_MAKER, tmp_path, tmp_path / "begun", tmp_path / "go")
    wait_for(tmp_path / "begun")
    second = python(SLOW_MAKER, tmp_path, tmp_path / "again", tmp_path / "go")
    assert second.stderr is not None
    said = second.stderr.readline()
    (tmp_path / "go").touch()
    second.communicate(timeout=30)
    first.communicate(timeout=30)
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"waiting for pid {first.pid}" in said
    assert not (tmp_path / "again").exists()


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while making: no entry, no temporary folder."""
    maker = python(SLOW_MAKER, tmp_path, tmp_path / "begun", tmp_path / "never")
    wait_for(tmp_path / "begun")
    maker.send_signal(signal.SIGINT)
    maker.communicate(timeout=30)
    assert [path for path in (tmp_path / "step").iterdir() if path.is_dir()] == []


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    """An output that is missing or has another size makes the entry no entry."""
    store = Store(tmp_path)
    entry = store.get("step", INPUTS, write)
    (entry / "out").write_text("mad")
    assert store.find("step", INPUTS) is None
    assert (store.get("step", INPUTS, write) / "out").read_text() == "made"


def test_dry_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DRY=1 calls make with a path that is not there, and writes nothing."""
    monkeypatch.setenv("DRY", "1")
    seen = []
    Store(tmp_path).get("step", INPUTS, seen.append)
    assert len(seen) == 1 and not seen[0].exists()
    assert list(tmp_path.iterdir()) == []


def test_prune_keeps_what_is_used(tmp_path: Path) -> None:
    """Entries unused for longer than asked go; others stay."""
    store = Store(tmp_path)
    old, new = store.get("step", {"n": "1"}, write), store.get("step", {"n": "2"}, write)
    os.utime(old / "manifest.json", (0, 0))
    assert store.prune(3600) == [old]
    assert not old.exists() and new.exists()
