# SPDX-License-Identifier: GPL-2.0-only
"""Recipes without their compilers: Kconfig, the series, DRY=1, the front door's errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedlab.build import series, xen
from schedlab.build.guests import configured_elsewhere
from schedlab.build.kconfig import check_fragment, parse
from schedlab.build.layout import Layout
from schedlab.core.errors import LabError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_kconfig() -> None:
    """Values, unset options, and comments that are neither."""
    text = "CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C would be nice\nCONFIG_D=12\n"
    assert parse(text) == {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_D": "12"}


def test_a_dropped_option_is_an_error(tmp_path: Path) -> None:
    """What Kconfig did not take is named; what is absent counts as not set."""
    fragment, config = tmp_path / "f.config", tmp_path / ".config"
    fragment.write_text("CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n")
    config.write_text("CONFIG_A=y\n")
    with pytest.raises(LabError, match=r"f.config: Kconfig did not take CONFIG_B=y \(is n\)$"):
        check_fragment(fragment, config)


def test_a_build_folder_that_was_moved(tmp_path: Path) -> None:
    """CMake refuses the cache of another folder: it is noticed, and made anew."""
    source, before, after = tmp_path / "source", tmp_path / "before", tmp_path / "after"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(p NONE)\n"
    )
    configure = ["cmake", "-S", str(source), "-B"]
    assert not configured_elsewhere(before)
    subprocess.run([*configure, str(before)], check=True, capture_output=True)
    assert not configured_elsewhere(before)
    before.rename(after)
    assert configured_elsewhere(after)
    assert subprocess.run([*configure, str(after)], capture_output=True, check=False).returncode
    subprocess.run([*configure, str(after), "--fresh"], check=True, capture_output=True)
    assert not configured_elsewhere(after)


# --- a Xen of two files, and a series of two patches ---


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A layout whose Xen is a small tarball at hand, and whose series is two patches that apply."""
    tree = tmp_path / "xen-1"
    tree.mkdir()
    (tree / "a.c").write_text("one\ntwo\nthree\n")
    (tree / ".gitignore").write_text("generated\n")
    (tree / "generated").write_text("in the tarball all the same\n")
    tarball = tmp_path / "downloads" / "xen_1.orig.tar.xz"
    tarball.parent.mkdir()
    subprocess.run(["tar", "-cJf", tarball, "-C", tmp_path, "xen-1"], check=True)
    digest = subprocess.run(["sha256sum", tarball], check=True, capture_output=True, text=True)
    lock = tmp_path / "lock.toml"
    lock.write_text(
        '[item.xen-1]\nkind = "tarball"\nsuites = ["bookworm"]\n[[item.xen-1.choices]]\n'
        'version = "1"\nfiles = [ { package = "xen", version = "1-1",'
        f' name = "{tarball.name}", sha256 = "{digest.stdout.split()[0]}" }} ]\n'
    )
    layout = Layout(tmp_path, tmp_path / "build", lock, tarball.parent, 1)
    (tmp_path / "hypervisor").mkdir()
    monkeypatch.setattr(xen, "item_name", lambda _xen: "xen-1")
    stock = xen.source(layout, "1", "stock")
    editing = layout.xen_tree("1")
    xen.git("clone", "-q", stock.repository, editing)
    for number, line in enumerate(("TWO", "THREE")):
        text = (editing / "a.c").read_text().replace(line.lower(), line)
        (editing / "a.c").write_text(text)
        xen.git("commit", "-q", "-a", "-m", f"xen/a: change {number}\n\nWhy.", cwd=editing)
    series.refresh(layout, "1")
    return layout


def test_the_series_is_applied_as_commits(small: Layout) -> None:
    """Tag base, a commit a patch; files the tarball's .gitignore names are there."""
    source = xen.source(small, "1", "patched")
    log = xen.ask_git("log", "--format=%s", "base..main", cwd=source.repository)
    assert log.splitlines() == ["xen/a: change 1", "xen/a: change 0"]
    assert xen.ask_git("show", "main:a.c", cwd=source.repository) == "one\nTWO\nTHREE"
    assert "generated" in xen.ask_git("ls-tree", "--name-only", "main", cwd=source.repository)


def test_commit_ids_are_a_function_of_the_series(small: Layout, tmp_path: Path) -> None:
    """The same in another build folder, later."""
    other = Layout(small.root, tmp_path / "other", small.lock_file, small.downloads, 1)
    assert xen.source(other, "1", "patched").commit == xen.source(small, "1", "patched").commit


def test_the_series_reproduces_the_tree(small: Layout) -> None:
    """check-patches agrees; after a commit that is not in the series it names the tree."""
    assert "2 patches apply" in series.check(small, "1")
    tree = small.xen_tree("1")
    (tree / "a.c").write_text("edited\n")
    with pytest.raises(LabError, match="not committed"):
        series.check(small, "1")
    xen.git("commit", "-q", "-a", "-m", "xen/a: edited", cwd=tree)
    with pytest.raises(LabError, match="is not what the series makes"):
        series.check(small, "1")
    assert len(series.refresh(small, "1")) == 3
    assert "3 patches apply" in series.check(small, "1")


def test_a_patch_that_does_not_apply(small: Layout) -> None:
    """The error names it and the remedy; nothing is left in the store."""
    second = xen.patches(small, "1")[1]
    second.write_text(second.read_text().replace("-three", "-thre"))
    with pytest.raises(LabError, match=f"patch 1/{second.name} does not apply") as caught:
        xen.source(small, "1", "patched")
    assert "make xen-tree" in caught.value.remedy
    assert caught.value.log is not None and "patch does not apply" in caught.value.render()
    assert (
        len([path for path in small.build.glob("store/xen-source/*") if path.is_dir()]) == 1
    )  # stock's


def test_an_unstable_patch_is_found(small: Layout) -> None:
    """A patch that is not byte for byte what git writes is named."""
    first = xen.patches(small, "1")[0]
    first.write_text(first.read_text() + "-- \n2.39\n")
    with pytest.raises(LabError, match=f"1/{first.name} is not what git writes"):
        series.check(small, "1")


def test_xen_tree_stops_at_the_patch_to_mend(small: Layout) -> None:
    """The developers' tree has the patches before the one that does not apply."""
    second = xen.patches(small, "1")[1]
    second.write_text(second.read_text().replace("-three", "-thre"))
    small.xen_tree("1").rename(small.build / "old")
    with pytest.raises(LabError, match="does not apply"):
        series.xen_tree(small, "1")
    tree = small.xen_tree("1")
    assert xen.ask_git("log", "--format=%s", "base..HEAD", cwd=tree) == "xen/a: change 0"


def test_unknown_base_and_variant(small: Layout) -> None:
    """Both are named, with what there is."""
    with pytest.raises(LabError, match='variant "best" is unknown'):
        xen.source(small, "1", "best")
    with pytest.raises(LabError, match="release.config is not there"):
        xen.fragments(small, "release")


# --- the front door ---


def build(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """python -m schedlab.build …"""
    return subprocess.run(
        [sys.executable, "-m", "schedlab.build", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "harness"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_dry_run_prints_all_and_does_nothing(tmp_path: Path) -> None:
    """DRY=1 of everything, from nothing: fetching, building, installing; no folder appears."""
    folder = tmp_path / "build"
    done = build("all", DRY="1", NEMESIS_BUILD=str(folder), NEMESIS_DOWNLOADS="")
    assert done.returncode == 0, done.stderr
    for command in (
        "apt-get -q update",
        "source --tar-only",
        "git am",
        "dpkg -x",
        "cmake --install",
    ):
        assert command in done.stdout
    assert not folder.exists()


def test_unknown_base() -> None:
    """Exit status 2, and the bases there are."""
    done = build("--xen", "9.99", "xen")
    assert done.returncode == 2
    assert "no item.xen-9_99" in done.stderr and "xen-4_17" in done.stderr


def test_no_setup_when_nothing_is_missing(tmp_path: Path) -> None:
    """What is installed is not installed again; what is not is named with the command to be run."""
    setup = str(REPOSITORY / "harness" / "setup")
    packages = tmp_path / "packages.txt"
    environment = {**os.environ, "PACKAGES": str(packages), "DRY": "1"}
    packages.write_text("# a comment\nbash  # always there\n")
    done = subprocess.run([setup], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    packages.write_text("bash\nno-such-package-as-this\n")
    done = subprocess.run([setup], env=environment, capture_output=True, text=True, check=False)
    assert "no-such-package-as-this" in done.stdout + done.stderr
    assert "bash" not in done.stdout.split()
