# SPDX-License-Identifier: GPL-2.0-only
"""The developers' loop: what it looks at, when it turns, what it shows of a failure."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from schedlab import cli, dev
from schedlab.build import worktree, xen
from schedlab.build.layout import Layout
from schedlab.core.errors import LabError
from schedlab.core.store import Store
from schedlab.dev import Look
from tests.fakes import FakeArtifacts, fake_artifacts
from tests.test_recipes import small  # noqa: F401 (a fixture)
from tests.test_run import SMALL

MAKE_LOG = """\
make[1]: Entering directory 'xen'
  CC      common/sched/credit2.o
  CC      common/sched/core.o
common/sched/credit2.c: In function 'csched2_schedule':
common/sched/credit2.c:3721:5: error: 'bad' undeclared (first use in this function)
 3721 |     bad = 1;
      |     ^~~
common/sched/credit2.c:3721:5: note: each undeclared identifier is reported only once
  CC      common/sysctl.o
make[3]: *** [Rules.mk:247: common/sched/credit2.o] Error 1
"""


class Scripted:
    """A subject whose looks are given one after the other; the last of them stays, and ends it."""

    def __init__(self, *looks: Look | LabError) -> None:
        self._looks: Iterator[Look | LabError] = iter(looks)
        self.turned: list[Look] = []
        self.status: int | None = 0
        self._now: Look = {}
        self._main = threading.current_thread()

    def look(self) -> Look:
        """The next one, for the loop; for who watches a turn, what is now."""
        if threading.current_thread() is not self._main:
            return self._now
        following = next(self._looks, None)
        if following is None:
            raise KeyboardInterrupt
        if isinstance(following, LabError):
            raise following
        self._now = following
        return following

    def difference(self, before: Look, after: Look) -> str:
        """Names."""
        return ", ".join(name for name in after if before.get(name) != after[name])

    def turn(self, stale: threading.Event) -> int | None:
        """Noted."""
        self.turned.append(self._now)
        return self.status


def watched(subject: dev.Subject) -> None:
    """Watch until the script is at its end."""
    with pytest.raises(KeyboardInterrupt):
        dev.watch(subject, once=False, look_s=0.001)


def test_turns_at_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    """The first look turns, the same again does not, another does, and says what has changed."""
    one, two = {"xen": "1", "scenario": "a"}, {"xen": "2", "scenario": "a"}
    subject = Scripted(one, one, two, two, one)
    watched(subject)
    assert subject.turned == [one, two, one]
    assert capsys.readouterr().out.count("changed: xen\n") == 2


def test_a_failed_turn_goes_on() -> None:
    """What does not build is waited for."""
    subject = Scripted({"xen": "broken"}, {"xen": "mended"})
    subject.status = 2
    watched(subject)
    assert len(subject.turned) == 2


def test_a_look_that_fails_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that stays gone, not one that is gone while an editor saves it."""
    gone = LabError("my.toml is gone")
    subject = Scripted({"xen": "1"}, gone, {"xen": "1"}, {"xen": "2"})
    watched(subject)
    assert len(subject.turned) == 2 and "gone" not in capsys.readouterr().err
    subject = Scripted({"xen": "1"}, gone, gone, gone, {"xen": "1"}, {"xen": "2"})
    watched(subject)
    assert len(subject.turned) == 2
    assert capsys.readouterr().err.count("my.toml is gone") == 1
    with pytest.raises(LabError):
        dev.watch(Scripted(gone, gone), once=True, look_s=0.001)


@pytest.mark.parametrize("status", [0, 1, 2])
def test_once(status: int) -> None:
    """One turn, and its exit status."""
    subject = Scripted({"xen": "1"}, {"xen": "2"})
    subject.status = status
    assert dev.watch(subject, once=True, look_s=0.001) == status
    assert len(subject.turned) == 1


def test_a_change_meanwhile_ends_a_turn() -> None:
    """A turn is told that it is stale; then there is another."""

    class Slow(Scripted):
        def turn(self, stale: threading.Event) -> int | None:
            self.turned.append(self._now)
            if len(self.turned) == 2:
                return 0
            self._now = {"xen": "2"}
            assert stale.wait(5)
            return None

    subject = Slow({"xen": "1"}, {"xen": "2"}, {"xen": "2"})
    watched(subject)
    assert len(subject.turned) == 2


def test_the_compilers_words(tmp_path: Path) -> None:
    """Errors with what belongs to them, none of make's; files named where they are edited."""
    said = dev.diagnostics(MAKE_LOG)
    assert len(said) == 5 and said[1].endswith("'bad' undeclared (first use in this function)")
    file = tmp_path / "xen" / "common" / "sched" / "credit2.c"
    file.parent.mkdir(parents=True)
    file.touch()
    assert dev.in_tree(said[1], tmp_path).endswith(
        f"{tmp_path.name}/xen/common/sched/credit2.c:3721:5: error: 'bad' undeclared "
        "(first use in this function)"
    )
    assert dev.in_tree(said[2], tmp_path) == said[2]


def test_warnings_alone_are_no_error() -> None:
    """Where nobody complained of an error, the log's end is the better text."""
    assert dev.diagnostics("a.c:1:1: warning: odd\nmake: *** No rule to make target 'x'\n") == []
    link = "/usr/bin/ld: a.o: in function `f':\na.c:(.text+0x5): undefined reference to `g'\n"
    assert len(dev.diagnostics(link)) == 2


def test_forget(tmp_path: Path) -> None:
    """A hypervisor of long ago goes with its checkpoints and cases; nothing else does."""
    store = Store(tmp_path)

    def entry(step: str, inputs: dict[str, str], sha256: str = "") -> Path:
        folder = tmp_path / step / f"{len(list(tmp_path.glob('*/*')))}"
        folder.mkdir(parents=True)
        outputs = {"xen": {"sha256": sha256}} if sha256 else {}
        (folder / "manifest.json").write_text(json.dumps({"inputs": inputs, "outputs": outputs}))
        return folder

    old = [
        entry("xen", {"tree": "t"}, "old"),
        entry("checkpoint", {"xen": "old"}),
        entry("case", {"xen": "old"}),
    ]
    kept = [entry("xen", {"tree": "u"}, "new"), entry("checkpoint", {"xen": "new"})]
    assert sorted(dev.forget(store, ["old"])) == sorted(old)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in old)


# --- the developers' tree ---


def git(tree: Path, *words: str) -> str:
    """What git says of a tree."""
    return subprocess.run(
        ["git", *words], cwd=tree, check=True, capture_output=True, text=True
    ).stdout


def test_snapshot_of_the_series(small: Layout) -> None:  # noqa: F811
    """Without an edit it is the series, so nothing is built twice."""
    found = worktree.snapshot(small, "1")
    assert found.tree == xen.source(small, "1", "patched").tree
    assert worktree.snapshot(small, "1") == found


def test_snapshot_of_edits(small: Layout) -> None:  # noqa: F811
    """What is edited, new, or gone is in it; what is ignored is not; the tree knows nothing."""
    tree = small.xen_tree("1")
    before = worktree.snapshot(small, "1")
    (tree / "a.c").write_text("other\n")
    (tree / "new.c").write_text("new\n")
    (tree / ".git" / "info" / "exclude").write_text("")
    status = git(tree, "status", "--porcelain")
    objects = sorted((tree / ".git" / "objects").rglob("*"))
    found = worktree.snapshot(small, "1")
    assert worktree.changed(small, "1", before.tree, found.tree) == ["a.c", "new.c"]
    out = small.build / "out"
    xen.check_out(found, out, small.log("test"))
    assert (out / "a.c").read_text() == "other\n" and (out / "new.c").read_text() == "new\n"
    assert (out / "generated").exists()
    assert git(tree, "status", "--porcelain") == status
    assert sorted((tree / ".git" / "objects").rglob("*")) == objects
    (tree / "new.c").unlink()
    assert worktree.changed(small, "1", before.tree, worktree.snapshot(small, "1").tree) == ["a.c"]


def test_snapshot_of_a_commit(small: Layout) -> None:  # noqa: F811
    """To commit what was edited changes nothing."""
    tree = small.xen_tree("1")
    (tree / "a.c").write_text("other\n")
    edited = worktree.snapshot(small, "1").tree
    xen.git("commit", "-q", "-a", "-m", "x", cwd=tree)
    assert (
        worktree.snapshot(small, "1").tree
        == edited
        == git(tree, "rev-parse", "HEAD^{tree}").strip()
    )


def test_snapshot_of_another_commit(small: Layout) -> None:  # noqa: F811
    """A file that was edited, then committed otherwise, as a rebase does: it is what it is now."""
    tree = small.xen_tree("1")
    (tree / "a.c").write_text("other\n")
    worktree.snapshot(small, "1")
    (tree / "a.c").write_text("and another\n")
    xen.git("commit", "-q", "-a", "-m", "x", cwd=tree)
    (tree / "a.c").write_text("a third\n")
    found = worktree.snapshot(small, "1")
    out = small.build / "out"
    xen.check_out(found, out, small.log("test"))
    assert (out / "a.c").read_text() == "a third\n"


def test_no_tree(small: Layout) -> None:  # noqa: F811
    """The remedy is named."""
    with pytest.raises(LabError, match="is not there"):
        worktree.snapshot(small, "2")


# --- the whole command, on fake builds ---


@pytest.fixture
def edited(
    tmp_path: Path, own_build_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """A developers' tree whose hypervisor builds, or fails with the given words in its log."""
    log = own_build_folder / "logs" / "xen-4.17-edited.log"
    log.parent.mkdir(parents=True)
    log.write_text("old.c:1:1: error: of a build before\n")
    words = ""

    def build(*_: object) -> FakeArtifacts:
        if words:
            with log.open("a") as file:
                file.write(words)
            raise LabError("building the hypervisor failed (exit status 2)", log=log)
        return fake_artifacts(tmp_path, "edited")

    def fail_with(text: str) -> None:
        nonlocal words
        words = text

    found = xen.Source(tmp_path, "commit", "tree", "4.17")
    monkeypatch.setattr("schedlab.build.worktree.snapshot", lambda *_: found)
    monkeypatch.setattr("schedlab.build.xen.source", lambda *_: replace(found, tree="series"))
    monkeypatch.setattr("schedlab.build.edited", build)
    return fail_with


def once(tmp_path: Path, fake_build: Callable[[str, str], FakeArtifacts]) -> int:
    """lab dev --once on a small scenario."""
    (tmp_path / "small.toml").write_text(SMALL)
    words = ("dev", str(tmp_path / "small.toml"), "--once", "--tree", str(tmp_path))
    return cli.main([*words, "--watchdog", "5"], fake_build)


def test_command_passes(
    tmp_path: Path,
    fake_build: Callable[[str, str], FakeArtifacts],
    edited: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table, beside stock Xen, with what it cost; kept out of the results."""
    assert once(tmp_path, fake_build) == 0
    out = capsys.readouterr().out
    assert "stock %" in out and "small: pass, 2 cases, built in " in out and " s of CPU)" in out
    assert (tmp_path / "build" / "dev" / "small" / "credit2-1p-edited" / "records.jsonl").exists()
    assert json.loads((tmp_path / "build" / "dev" / "edits.json").read_text()) == ["edited"]


def test_command_does_not_build(
    tmp_path: Path,
    fake_build: Callable[[str, str], FakeArtifacts],
    edited: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The compiler's words of this build, none of one before."""
    edited(MAKE_LOG)
    assert once(tmp_path, fake_build) == 2
    err = capsys.readouterr().err
    assert "credit2.c:3721:5: error: 'bad' undeclared" in err and "of a build before" not in err


def test_command_fails(
    tmp_path: Path,
    fake_build: Callable[[str, str], FakeArtifacts],
    edited: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A check that fails is exit status 1."""
    monkeypatch.setattr("schedlab.run.calibrate", lambda *_: None)
    monkeypatch.setenv("FAKE", "half-share")
    assert once(tmp_path, fake_build) == 1
