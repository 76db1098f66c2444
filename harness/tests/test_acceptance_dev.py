# SPDX-License-Identifier: GPL-2.0-only
"""The developers' tools on the nested hypervisor itself."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from schedlab import run, scenario
from schedlab.build import Artifacts, Layout, artifacts
from schedlab.build import xen as xen_recipes
from schedlab.core.store import Store, sha256_file
from schedlab.oracle import Verdict
from schedlab.scenario import Dims

pytestmark = pytest.mark.acceptance
Call = Callable[..., subprocess.CompletedProcess[str]]
HERE = Path(__file__).parent
XEN_START = 0xFFFF82D040200000
XEN_START_PHYSICAL = 0x200000
UD2 = b"\x0f\x0b"

KILLING = """\
name = "killing"
[[domain]]
name = "victim"
[[phase]]
name = "killed"
duration = "1s"
do = [{ op = "start", domain = "victim" }, { op = "kill", domain = "victim", at = "300ms" }]
"""


def poked(built: Artifacts, function: str, folder: Path) -> Artifacts:
    """The same hypervisor, with an invalid instruction where a function begins."""
    said = subprocess.run(["nm", built.xen_syms], check=True, capture_output=True, text=True)
    found = re.search(rf"^([0-9a-f]+) [tT] {function}$", said.stdout, re.MULTILINE)
    assert found is not None
    data = bytearray(built.xen.read_bytes())
    # Elf32_Ehdr.e_phoff, and the one loadable segment's p_offset and p_paddr.
    (headers,) = struct.unpack_from("<I", data, 28)
    _, offset, _, physical = struct.unpack_from("<IIII", data, headers)
    at = offset + int(found[1], 16) - XEN_START + XEN_START_PHYSICAL - physical
    data[at : at + 2] = UD2
    (folder / "xen").write_bytes(data)
    hashes = {**built.hashes, "xen": sha256_file(folder / "xen")}
    return replace(built, xen=folder / "xen", hashes=hashes)


def test_panic_backtrace(tmp_path: Path) -> None:
    """A hypervisor that dies in domain_kill(): the case's folder and text say where, by line."""
    (tmp_path / "killing.toml").write_text(KILLING)
    what = scenario.load(tmp_path / "killing.toml")
    broken = poked(artifacts(), "domain_kill", tmp_path)
    lab = run.Lab(Store(tmp_path / "store"), lambda variant: broken, tmp_path / "logs", cold=True)
    case = run.measure(lab, what, Dims("credit2", 1, "cores", 5, 1), "patched", tmp_path / "case")
    assert case.judgement.verdict == Verdict.CRASH
    lines = (tmp_path / "case" / "backtrace.txt").read_text().splitlines()
    assert lines[0].startswith("Panic on CPU 0: FATAL TRAP")
    assert re.match(r"  R domain_kill\+0/\S+ +\S*common/domain\.c:\d+", lines[1]), lines
    assert any(re.match(r"  S do_domctl\+\S+ +\S*common/domctl\.c:\d+", line) for line in lines)


def gdb(lab: Call, *words: str) -> subprocess.CompletedProcess[str]:
    """lab gdb on the main experiment."""
    return lab("gdb", "ten_percent", "--scheduler", "credit2", "--batch", *words)


@pytest.mark.parametrize("pcpus", ["1", "4"])
def test_the_same_instant(lab: Call, pcpus: str) -> None:
    """Stopped twice at a virtual time: the same registers on all pCPUs; at another time not."""
    seen = []
    for at in ("+3.2345s", "+3.2345s", "+3.2346s"):
        done = gdb(lab, *("--pcpus", pcpus, "--at", at, "--ex", "thread apply all info registers"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("rip  ") == int(pcpus), done.stdout
        seen.append(done.stdout)
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_the_scenarios_time(lab: Call) -> None:
    """Without a + the time is the scenario's."""
    done = gdb(lab, "--pcpus", "1", "--at", "2.5s", "--ex", "info registers rip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"stopped at 2\.5s\nlab: 2\.\d{9} s of virtual time after", done.stderr)


def test_the_same_breakpoint(lab: Call) -> None:
    """Twice at a function: the same registers and a backtrace with symbols."""
    words = ("--pcpus", "4", "--at", "+1s", "--ex", "backtrace", "--ex", "info registers")
    words = ("--pcpus", "4", "--stop", "csched2_schedule", *words[4:])
    one, two = (gdb(lab, *words) for _ in range(2))
    assert one.returncode == 0, one.stdout + one.stderr
    assert one.stdout == two.stdout
    assert re.search(r"#0 +csched2_schedule \(.*credit2\.c:\d+", one.stdout)
    assert re.search(r"#\d +\S+ in schedule \(\) at common/sched/core\.c:\d+", one.stdout)


def test_no_such_place(lab: Call) -> None:
    """A function that is not there, and one that is never called."""
    done = gdb(lab, "--pcpus", "1", "--stop", "no_such_function")
    assert done.returncode == 2 and "no_such_function" in done.stderr
    done = gdb(lab, "--pcpus", "1", "--stop", "kexec_crash")
    assert done.returncode == 2 and "the scenario ended" in done.stderr


def test_panic_under_gdb(lab: Call) -> None:
    """The hypervisor sent into nowhere: the panic is shown, and nothing hangs."""
    words = ("--stop", "csched2_schedule", "--ex", "set $rip = 0", "--ex", "continue")
    done = gdb(lab, "--pcpus", "1", *words)
    assert done.returncode == 2
    assert "FATAL PAGE FAULT" in done.stderr
    assert re.search(r"S schedule\+\S+ +\S*common/sched/core\.c:\d+", done.stderr), done.stderr


@pytest.mark.slow
def test_dev(lab: Call, tmp_path: Path) -> None:
    """A tree that is edited, not committed: what does not compile is shown with the compiler's
    words; what does is measured, and the series' folder is as it was.
    """
    layout = Layout.from_environment()
    source = xen_recipes.source(layout, "4.17", "patched")
    tree = tmp_path / "xen"
    subprocess.run(["git", "clone", "-q", "--shared", source.repository, tree], check=True)
    before = [path.read_bytes() for path in xen_recipes.patches(layout, "4.17")]
    file = tree / "xen" / "common" / "sched" / "credit2.c"
    text = file.read_text()
    words = ("dev", "determinism.toml", "--once", "--pcpus", "1", "--tree", str(tree))
    words = ("dev", str(HERE / "determinism.toml"), *words[2:])

    file.write_text(text + "\nint broken( { }\n")
    done = lab(*words)
    assert done.returncode == 2
    assert re.search(r"sched/credit2\.c:\d+:\d+: error: expected", done.stderr), done.stderr

    file.write_text(text.replace("MICROSECS(500)", "MICROSECS(501)"))
    done = lab(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "determinism: pass" in done.stdout
    assert [path.read_bytes() for path in xen_recipes.patches(layout, "4.17")] == before


def test_kvm_probe(lab: Call, tmp_path: Path) -> None:
    """What the probe finds on this machine, and that a run goes on whichever it is."""
    probed = lab("probe")
    assert probed.returncode in (0, 1), probed.stderr
    words = ("run", str(HERE / "determinism.toml"), "--pcpus", "1", "--no-reference")
    done = lab(*words, "--accel", "kvm", "--out", str(tmp_path))
    if probed.returncode == 0:
        assert "Xen boots under KVM" in done.stderr
        return
    assert "going on with TCG" in done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = tmp_path.glob("*/result.json")
    context = json.loads(result.read_text())["context"]
    assert context["accelerator"] == "tcg"
    # None, none for this user, or one under which Xen dies.
    reasons = ("no /dev/kvm", "/dev/kvm cannot be opened: ", "does not boot under it: ")
    assert any(reason in context["kvm_probe"] for reason in reasons)
