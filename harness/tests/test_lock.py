# SPDX-License-Identifier: GPL-2.0-only
"""The lock file: the repository's own is good, others are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedlab.build.lock import load
from schedlab.core.errors import LabError

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """
[item.thing]
kind = "deb"
suites = ["bookworm"]
[[item.thing.choices]]
version = "1"
files = [ { package = "thing", version = "1", name = "thing_1_all.deb", sha256 = "SHA" } ]
""".replace(
    "SHA", "0" * 64
)


def lock(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lock.toml"
    path.write_text(text)
    return path


def test_the_repository_s_own() -> None:
    """Both bases of Xen, the kernels and QEMU are locked; nothing names a host."""
    path = REPOSITORY / "harness" / "lock.toml"
    assert set(load(path)) == {"xen-4_17", "xen-4_20", "kernel", "qemu", "host-kernel"}
    assert "://" not in path.read_text()


def test_good(tmp_path: Path) -> None:
    """A well-formed file is read as it is."""
    item = load(lock(tmp_path, GOOD))["thing"]
    assert (item.kind, item.suites) == ("deb", ("bookworm",))
    assert item.choices[0].inputs == {"thing_1_all.deb": "0" * 64}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('kind = "deb"', 'kind = "rpm"', 'kind is "rpm"'),
        ('kind = "deb"', 'kind = "deb"\ncolour = "red"', "unknown key colour"),
        ("0" * 64, "0" * 63, "not 64 hex digits"),
        ('"thing_1_all.deb"', '"../thing.deb"', "not a plain file name"),
        ('version = "1"\nfiles', "files", "version is missing"),
        ('["bookworm"]', "[]", "must not be empty"),
        ("[item.thing]", "[item.thing", "lock.toml"),
    ],
)
def test_bad(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """Anything out of form is an error that says where."""
    assert old in GOOD
    with pytest.raises(LabError, match=complaint):
        load(lock(tmp_path, GOOD.replace(old, new)))


def test_missing(tmp_path: Path) -> None:
    """No lock file: the error names it."""
    with pytest.raises(LabError, match="lock.toml"):
        load(tmp_path / "lock.toml")
