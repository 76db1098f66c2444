# SPDX-License-Identifier: GPL-2.0-only
"""The emulated host with KVM, without one: what it is told, and each way in which it may end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from schedlab import cli, kvmhost, report
from schedlab.build.kvmhost import KvmHost
from schedlab.core.errors import LabError
from tests.fakes import FakeQemu

HOST = KvmHost(Path("vmlinuz"), Path("initramfs"), "6.1-fake")
# Stands for QEMU and the host in it: finds the folder "exchange" among those that are shared.
FAKE = """\
#!/bin/sh
for word; do case $word in *,mount_tag=exchange,*) exchange=${word#local,path=} ;; esac; done
exchange=${exchange%%,*}
echo "Linux version 6.1-fake" >"$exchange/console.log"
"""
RUNS = 'touch "$exchange/started"; env -i sh "$exchange/command.sh"; echo $? >"$exchange/status"'


def fake(folder: Path, does: str) -> FakeQemu:
    """A QEMU that does that."""
    program = folder / "qemu"
    program.write_text(f"{FAKE}{does}\n")
    program.chmod(0o755)
    return FakeQemu(program)


def test_the_command_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here, by us, with what the lab may be told; its words and its status are kept."""
    monkeypatch.setenv("NEMESIS_BUILD", "/some where")
    monkeypatch.setenv("SECRET", "no")
    monkeypatch.chdir(tmp_path)
    text = 'echo "$0 $1:$NEMESIS_BUILD:$SECRET:$NEMESIS_EMULATED_PROCESSOR:$PWD"; exit 7'
    # Who is no root may not become anybody, not even itself.
    monkeypatch.setattr(kvmhost, "_as_user", lambda: [])
    words = ["sh", "-c", text, "a b", "c'd"]
    keep = tmp_path / "results"
    assert kvmhost.run(HOST, fake(tmp_path, RUNS), words, keep, tmp_path / "logs") == 7
    said = capfd.readouterr().out
    assert said == f"a b c'd:/some where::emulated by QEMU 10.0.2-fake:{tmp_path}\n"
    assert keep.is_dir() and not (tmp_path / "logs").exists()


def test_the_folders_are_shared(tmp_path: Path) -> None:
    """The file system read-only; what is to stay, writable; commas are QEMU's."""
    words = kvmhost.command(HOST, FakeQemu(), tmp_path, Path("/my,results"))
    shares = [words[k + 1] for k, word in enumerate(words) if word == "-virtfs"]
    assert [one for one in shares if "readonly=on" in one] == [shares[0]]
    assert shares[0].startswith("local,path=/,mount_tag=root,")
    assert shares[2].startswith("local,path=/my,,results,mount_tag=keep,")
    assert shares[1].startswith(f"local,path={tmp_path},mount_tag=exchange,")


def test_as_the_caller() -> None:
    """Results belong to who asked for them, who is root in no other sense there."""
    text = kvmhost.script(["lab", "probe"], {}, Path("/"))
    who = f"--reuid {os.getuid()} --regid {os.getgid()} --clear-groups"
    assert text.splitlines()[-1] == f"exec setpriv {who} lab probe"


@pytest.mark.parametrize("does", ["", 'touch "$exchange/started"; exit 1'])
def test_a_host_that_ends(tmp_path: Path, does: str) -> None:
    """Without a status of the command's: an error that has the console, never a success."""
    with pytest.raises(LabError, match="its last words: Linux version 6.1-fake") as caught:
        kvmhost.run(HOST, fake(tmp_path, does), ["true"], tmp_path / "r", tmp_path / "logs")
    assert caught.value.log == tmp_path / "logs" / "kvm-host.log"
    assert "Linux version" in caught.value.log.read_text()


def test_a_host_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and nothing of it is left."""
    monkeypatch.setattr(kvmhost, "BOOT_LIMIT_S", 0.5)
    does = f"echo $$ >{tmp_path}/pid; exec sleep 1000"
    with pytest.raises(LabError, match="ended before the command did"):
        kvmhost.run(HOST, fake(tmp_path, does), ["true"], tmp_path / "r", tmp_path / "logs")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_half_made_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by who makes them here: a host that dies leaves none, and takes nobody else's."""
    keep = tmp_path / "results"
    other = keep / f".tmp-{os.getppid()}-20260101T000000.000Z-another"
    other.mkdir(parents=True)
    text = (
        "from schedlab import report; from pathlib import Path\n"
        f"with report.new_run(Path({str(keep)!r}), 'mine') as folder: print(folder); {{}}"
    )
    root = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setattr(kvmhost, "_PASSED", (*kvmhost._PASSED, "PYTHONPATH"))
    monkeypatch.setattr(kvmhost, "_as_user", lambda: [])

    def run(ends: str) -> set[str]:
        words = ["/usr/bin/python3", "-c", text.format(ends)]
        try:
            kvmhost.run(HOST, fake(tmp_path, RUNS), words, keep, tmp_path / "logs")
        finally:
            assert other.is_dir()
        return {path.name for path in keep.iterdir()} - {other.name}

    (whole,) = run("pass")
    assert whole.endswith(f"-mine-{os.getpid()}")
    # Nothing is swept up there, as when the machine ends.
    assert run("import os; os._exit(9)") == {whole}


def test_whose_makers_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the emulated host nothing is swept: a maker here has a pid that is nobody's there."""
    gone = tmp_path / ".tmp-99999999-20260101T000000.000Z-another"
    gone.mkdir()
    monkeypatch.setenv(report.MAKER, "1")
    assert report.clean_leftovers(tmp_path) == [] and gone.is_dir()
    monkeypatch.delenv(report.MAKER)
    assert report.clean_leftovers(tmp_path) == [gone] and not gone.exists()


def test_interrupted(tmp_path: Path) -> None:
    """Ended with the lab: the host goes, and the folder that they shared."""
    fake(tmp_path, f"echo $exchange >{tmp_path}/where; echo $$ >{tmp_path}/pid; exec sleep 1000")
    text = (
        "import sys; from pathlib import Path; from schedlab import kvmhost, core;"
        "from schedlab.core.command import interrupt_on_sigterm; interrupt_on_sigterm();"
        "from tests.test_kvmhost import HOST; from tests.fakes import FakeQemu;"
        f"kvmhost.run(HOST, FakeQemu(Path('{tmp_path}/qemu')), ['true'], Path('{tmp_path}/r'),"
        f" Path('{tmp_path}/logs'))"
    )
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", text], cwd=root, stderr=subprocess.DEVNULL
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not Path((tmp_path / "where").read_text().strip()).exists()


def test_dry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DRY=1 prints what would be run there, and by which machine; nothing is made."""
    monkeypatch.setenv("DRY", "1")
    keep = tmp_path / "results"
    assert kvmhost.run(HOST, FakeQemu(), ["lab", "probe"], keep, tmp_path / "logs") == 0
    said = capsys.readouterr().out
    assert "lab probe" in said and "-accel tcg,thread=multi" in said
    assert not keep.exists()


@pytest.mark.parametrize(
    "words", [["kvm-host", "probe"], ["list"], ["bunch"], ["bench", "--no-such"], []]
)
def test_what_is_no_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refused here, before a host is booted for it."""
    try:
        assert cli.main(["kvm-host", *words]) == 2
    except SystemExit as error:
        assert error.code == 2
    said = capsys.readouterr().err
    assert "is not done in real time" in said or "lab: error:" in said
