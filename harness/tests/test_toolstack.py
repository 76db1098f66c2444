# SPDX-License-Identifier: GPL-2.0-only
"""nemesis, xl, libxl's configuration and Python, with the real toolstack in dom0.

A script of toolstack/ runs in dom0's shell; what is judged here is what its steps said.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from schedlab import toolstack
from schedlab.build import Layout, artifacts, with_toolstack, xen
from schedlab.toolstack import Run

HERE = Path(__file__).parent
SCRIPTS = HERE / "toolstack"
GUIDE = HERE.parents[1] / "guests" / "nemesis" / "README.md"
# A quantum of 0.5 ms a domain, in windows of 2 s; and what `shares` itself needs to look.
TOLERANCE = 0.3
# libxl says where in its source it stands.
PLACE = re.compile(r"libxl_\w+\.c:\d+:\w+: ")

pytestmark = pytest.mark.acceptance
Ran = Callable[..., Run]


@pytest.fixture(scope="session")
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """What a script left: the same run for all tests that read it."""
    mutated: Path | None = request.config.getoption("--toolstack")
    done: dict[tuple[object, ...], Run] = {}

    def run(
        script: str,
        scheduler: str = "credit2",
        pcpus: int = 1,
        variant: str = "patched",
        xen: str = "4.17",
        tools: str = "4.17",
        more: str = "",
    ) -> Run:
        key = (script, scheduler, pcpus, variant, xen, tools)
        if key not in done:
            parts = ["common", *(["stub_domain"] if script in WITH_STUB else []), script]
            text = "".join((SCRIPTS / f"{part}.sh").read_text() for part in parts) + more
            built = with_toolstack(artifacts(xen, variant), tools, mutated)
            machine = toolstack.machine(scheduler, pcpus)
            folder = tmp_path_factory.mktemp(script)
            done[key] = toolstack.run(built, machine, text, folder)
        return done[key]

    return run


WITH_STUB = ("guide", "stub_keys", "stub_serves")


def said(run: Run, step: str) -> Any:
    """The JSON that a step printed; the step must have ended well."""
    assert run[step].status == 0, run[step]
    return json.loads(run[step].stdout)


def sentence(run: Run, step: str) -> str:
    """What a step that failed said for people, without libxl's places in its source."""
    assert run[step].status != 0, run[step]
    assert run[step].stderr.strip(), run[step]
    return PLACE.sub("", run[step].stderr.strip().splitlines()[0])


def went_well(run: Run, *steps: str) -> None:
    """Steps that say nothing of interest, and must have worked."""
    for step in steps:
        assert run[step].status == 0, run[step]


def members(run: Run, step: str) -> list[str]:
    """The names of the one group's domains, the master's first, the others in order."""
    (group,) = said(run, step)["groups"]
    first, *others = [domain["name"] for domain in group["domains"]]
    return [first, *sorted(others)]


def nothing_left(run: Run) -> None:
    """No domain but dom0, no group, nothing of theirs in xenstore."""
    assert len(run["left_domains"].stdout.splitlines()) == 2, run["left_domains"].stdout
    assert said(run, "left_groups") == {"groups": []}
    # A folder for dom0 stays, once dom0 was in a group.
    assert run["left_store"].stdout.strip() in ("", '0 = ""')


# --- one group, several tools ---


@pytest.mark.parametrize("scheduler", ["credit2", "credit"])
def test_each_tool(ran: Ran, scheduler: str) -> None:
    """Groups formed with each tool share the master's cap, are the same in every tool, and leave
    nothing.
    """
    run = ran("each_tool", scheduler)
    went_well(run, "xl_add", "nemesis_add", "nemesis_set", "python_remove", "xl_weigh", "xl_set")
    went_well(run, "nemesis_remove", "python_add", "python_set", "xl_destroy", "nemesis_destroy")
    m, a, b = "1", "2", "3"
    assert said(run, "alone")[a] > 30

    three = said(run, "three")
    assert [three[d] for d in (m, a, b)] == pytest.approx([20 / 3] * 3, abs=TOLERANCE)
    (watched,) = [json.loads(line) for line in run["watch"].stdout.splitlines()]
    assert watched["share_percent"] == pytest.approx(20, abs=TOLERANCE)
    weighted = said(run, "weighted")
    assert [weighted[d] for d in (m, a, b)] == pytest.approx([4, 12, 4], abs=TOLERANCE)
    two = said(run, "two")
    assert two[m] + two[b] == pytest.approx(20, abs=TOLERANCE) and two[a] > 70
    assert said(run, "free")[b] > 30

    for step, group in (
        ("same_all", [[1, 256], [2, 256], [3, 256]]),
        ("same_weighted", [[1, 256], [2, 768], [3, 256]]),
        ("same_weighed", [[1, 256], [3, 512]]),
        ("same_two", [[1, 256], [3, 256]]),
        ("same_python", [[1, 256], [2, 100]]),
    ):
        same = said(run, step)
        wanted = {"master": 1, "cap": 20, "weight": 256, "domains": group}
        assert same == {"nemesis": wanted, "xl": wanted, "python": wanted}, step
    assert "a        2     100" in run["table"].stdout
    assert "+ a                                   2          100" in run["xl_table"].stdout
    assert run["none"].stdout == "There are no groups.\n"
    nothing_left(run)


def test_refusals(ran: Ran) -> None:
    """What cannot be done is said, and not done half."""
    run = ran("each_tool")
    assert sentence(run, "no_such").endswith(
        "Removing from the scheduling domain of 1: it is not in this group, or there is no such "
        "group: No such file or directory"
    )
    assert run["no_such_python"].status != 0
    assert "Error: (2, 'No such file or directory')" in run["no_such_python"].stderr
    assert sentence(run, "no_weight").startswith("70000 is not a weight")
    assert sentence(run, "dom0").startswith("This would put Domain-0 under a cap")
    assert sentence(run, "dom0_nemesis").endswith("if that is meant, use --force.")
    went_well(run, "dom0_forced", "dom0_out")
    sentence(run, "half")
    assert said(run, "after_half") == {"groups": []}
    assert "scheddom-add [-f] <Master> <Domain>" in run["help"].stdout


# --- libxl's configuration ---


def test_configured(ran: Ran) -> None:
    """scheduling_domain in xl.cfg: joined before it runs, kept over reboots of member and master,
    and not longer than it is wanted.
    """
    run = ran("configured")
    assert "scheduling_domain: there is no domain m" in run["too_early"].stderr
    assert len(run["left_early"].stdout.splitlines()) == 2
    assert members(run, "formed") == ["m", "a", "b"]
    shares = said(run, "shares")
    assert [shares[d] for d in "234"] == pytest.approx([20 / 3] * 3, abs=TOLERANCE)
    assert members(run, "member_rebooted") == ["m", "a", "b"]
    assert members(run, "master_rebooted") == ["m", "a", "b"]
    (config,) = said(run, "config")
    assert config["config"]["c_info"]["scheduling_domain"] == "m"
    assert members(run, "stays_out") == ["m", "b"]
    assert said(run, "dissolved") == {"groups": []}
    assert members(run, "again") == ["m", "b"]
    assert members(run, "paused") == ["m", "b", "c"]
    went_well(run, "xl_out", "xl_dissolve")
    assert members(run, "stays_out_xl") == ["m", "c"]
    assert said(run, "stays_dissolved") == {"groups": []}
    nothing_left(run)


def test_saved(ran: Ran) -> None:
    """A member that is saved and restored is in the group again, be it that it joined by a tool; it
    is not restored without its master.
    """
    run = ran("saved")
    went_well(run, "create_m", "create_p", "join", "save_member", "restore_member", "save_orphan")
    before, after = said(run, "before"), said(run, "after")
    assert [before[d] for d in "12"] == pytest.approx([10, 10], abs=2 * TOLERANCE)
    assert said(run, "dissolved") == {"groups": []}
    assert members(run, "joined") == ["m", "p"]
    assert [after[d] for d in "13"] == pytest.approx([10, 10], abs=2 * TOLERANCE)
    assert "scheduling_domain: there is no domain m" in run["no_master"].stderr
    assert len(run["no_master_left"].stdout.splitlines()) == 2
    assert members(run, "joined_again") == ["m", "p"]
    nothing_left(run)


def test_stub_domain_keys(ran: Ran) -> None:
    """A stub domain joins its guest's group and cpupool unless its guest's configuration forbids
    it, also when the guest is a member itself; where there are no groups, it is told apart who
    demanded one.
    """
    run = ran("stub_keys", pcpus=2)
    went_well(run, "pool_cpu", "pool", "off", "pooled", "inner", "inner_master", "flat")
    assert sentence(run, "off_group") == "nemesis: off (1) is in no group."
    assert members(run, "pooled_group") == ["pooled", "pooled-dm"]
    pools = {line.split()[0]: line.split()[-1] for line in run["pooled_pools"].stdout.splitlines()}
    assert pools["pooled"] == pools["pooled-dm"] == "tenants"
    (group,) = said(run, "pooled_group")["groups"]
    shares = said(run, "pooled_shares")
    both = sum(shares[str(domain["id"])] for domain in group["domains"])
    assert both == pytest.approx(20, abs=TOLERANCE)
    assert sentence(run, "pooled_moved").endswith(
        "A scheduling domain lives in one cpupool: is this one of its domains?"
    )
    assert members(run, "pooled_rebooted") == ["pooled", "pooled-dm"]

    # Also when m was rebooted: a stub domain comes back to its group with its guest.
    for step, then in (("inner_group", "inner_shares"), ("inner_again", "inner_shares_again")):
        assert members(run, step) == ["m", "inner", "inner-dm"]
        (group,) = said(run, step)["groups"]
        shares = said(run, then)
        all_three = sum(shares[str(domain["id"])] for domain in group["domains"])
        assert all_three == pytest.approx(30, abs=TOLERANCE)
    assert said(run, "inner_dissolved") == {"groups": []}

    assert run["demanding"].status != 0
    assert "has no scheduling domains" in run["demanding"].stderr
    assert len(run["demanding_left"].stdout.splitlines()) == 2
    went_well(run, "modest")
    assert "null, has no scheduling domains" in sentence(run, "modest_add")
    nothing_left(run)


@pytest.mark.parametrize("scheduler", ["credit2", "credit"])
def test_stub_domain_serves(ran: Ran, scheduler: str) -> None:
    """An HVM guest whose stub domain emulates its disk, by the guest's configuration alone: libxl
    makes one group of both before either has run, and again when the guest has rebooted; together
    they get what was bought, no block is corrupted, and the group goes with the guest.
    """
    run = ran("stub_serves", scheduler)
    went_well(run, "apart", "apart_off", "web", "reboot", "end")
    assert sentence(run, "apart_group") == "nemesis: apart (1) is in no group."
    apart = said(run, "apart_shares")
    assert apart["1"] > 15 and apart["1"] + apart["2"] > 30
    # Who joined late has less on the group's account: so equality below means something.
    for of_group, own in said(run, "late_accounts"):
        assert of_group < own
    assert len(run["apart_left"].stdout.splitlines()) == 2

    for group, shares in (("formed", "shares"), ("rebooted", "shares_again")):
        assert members(run, group) == ["web", "web-dm"]
        (found,) = said(run, group)["groups"]
        assert found["domains"][1]["stub_of"] == found["master"] and found["cap_percent"] == 20
        got = [said(run, shares)[str(domain["id"])] for domain in found["domains"]]
        assert sum(got) == pytest.approx(20, abs=TOLERANCE) and min(got) > 5, got
    assert "+ web-dm " in run["formed_xl"].stdout
    for of_group, own in said(run, "accounts"):
        assert of_group == own
    before, after = (said(run, step)["groups"][0]["master"] for step in ("formed", "rebooted"))
    assert before != after
    for step in ("apart_disk", "disk", "disk_again"):
        blocks = re.fullmatch(r"(\d+) blocks verified, 0 faults\n", run[step].stdout)
        assert blocks is not None and int(blocks[1]) > 50, run[step]
    nothing_left(run)


def test_guide(ran: Ran) -> None:
    """The guide's commands, as it has them, do what it says."""
    commands = re.findall(r"^# (.+)$", GUIDE.read_text(), re.MULTILINE)
    commands = [command for command in commands if command.split()[0] in ("xl", "nemesis")]
    assert len(commands) == 12
    steps = "".join(f"labctl run {i} {command}\n" for i, command in enumerate(commands))
    run = ran("guide", more=steps + "nothing_left\n")
    went_well(run, *(str(i) for i in range(len(commands))))
    said_by = {command: run[str(i)].stdout for i, command in enumerate(commands)}
    assert re.search(r"^web \+ web-dm +1 \+ 2 +none ", run["1"].stdout, re.MULTILINE)
    lines = said_by["nemesis watch web --count 3"].splitlines()
    # The first is of a time in which the budget of before may be left over.
    for line in lines[1:]:
        share = re.search(r"web ([\d.]+) % of 10,", line)
        assert share is not None and float(share[1]) == pytest.approx(10, abs=TOLERANCE)
    assert "768 + 256" in said_by["nemesis show web"]
    assert "web-dm (2) would join the group of web (1)" in run["8"].stdout
    assert run["11"].stdout == "There are no groups.\n"
    nothing_left(run)


def test_bindings(tmp_path: Path) -> None:
    """The Go bindings in the series are what the IDL gives, and OCaml's can be made of it."""
    tree = xen.source_tree(Layout.from_environment(), "4.17")
    light = tree / "tools/libs/light"
    idl = light / "libxl_types.idl"
    environment = {"LIBXL_SRC_DIR": str(light), "PYTHONPATH": str(light)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    go = tree / "tools/golang/xenlight"
    made = [tmp_path / "types.gen.go", tmp_path / "helpers.gen.go"]
    run = [sys.executable, go / "gengotypes.py", idl, *made]
    subprocess.run(run, check=True, env=environment, capture_output=True)
    for path in made:
        assert path.read_bytes() == (go / path.name).read_bytes(), path.name
    wrapped = [tmp_path / name for name in ("a.mli", "b.ml", "c.inc")]
    run = [sys.executable, tree / "tools/ocaml/libs/xl/genwrap.py", idl, *wrapped]
    subprocess.run(run, check=True, env=environment, capture_output=True)
    assert "module Scheddom_info : sig" in wrapped[0].read_text()


# --- faults ---


def test_killed_half_way(ran: Ran) -> None:
    """A tool that is killed leaves a group of those that it came to, and all goes on from there."""
    run = ran("faults")
    sizes = set()
    for place in range(1, 17):
        groups = said(run, f"killed_{place}")["groups"]
        names = [[domain["name"] for domain in group["domains"]] for group in groups]
        assert names in ([], [["m", "a"]], [["m", "a", "b"]], [["m", "a", "b", "c"]]), names
        sizes.add(len(names[0]) if names else 0)
    # It was killed before it did anything, and after: the places are where they should be.
    assert {0, 4} <= sizes, sizes
    went_well(run, "whole", "whole_same", "whole_end")
    nothing_left(run)


def test_two_at_once(ran: Ran) -> None:
    """Two tools that change one group at once leave it whole."""
    run = ran("faults")
    for group in said(run, "at_once_left")["groups"]:
        assert group["domains"][0]["name"] == "m"
    went_well(run, "at_once", "at_once_end")
    shares = said(run, "at_once_shares")
    assert [shares[d] for d in "123"] == pytest.approx([20 / 3] * 3, abs=TOLERANCE)


def test_member_dies_meanwhile(ran: Ran) -> None:
    """Who adds a domain that dies meanwhile is told so."""
    line = ran("faults")["dies"].stdout.strip()
    assert line in (
        "nemesis: c (4) does not join m (1): there is no such domain any more, or it is dying.",
        "nemesis: c (4) does not leave m (1): there is no such domain any more, or it is dying.",
        "nemesis: c (4) does not leave m (1): it is not in that group.",
        "nemesis: There is no domain called c; `nemesis list --all` shows those there are.",
    ), line


def test_not_root(ran: Ran) -> None:
    """Who is not root is told so in one sentence, by an exit status of its own."""
    run = ran("faults")
    assert run["nobody_nemesis"].status == 3
    assert run["nobody_nemesis"].stderr.startswith("nemesis: Only root may talk to the hypervisor")
    assert run["nobody_xl"].status != 0


def test_unpatched(ran: Ran) -> None:
    """Patched tools on a stock hypervisor: one clear sentence each, and domains without groups are
    created as ever.
    """
    run = ran("unpatched", variant="stock")
    went_well(run, "create_m", "create_a", "config")
    for step in ("nemesis_list", "nemesis_add", "nemesis_dry"):
        assert run[step].status == 4
        assert "this hypervisor (Xen 4.17" in sentence(run, step)
        assert len(run[step].stderr.splitlines()) == 1
    for step in ("xl_list", "xl_add"):
        assert "this hypervisor has no scheduling domains" in sentence(run, step)
        assert len(run[step].stderr.splitlines()) == 1
    assert "this hypervisor has no scheduling domains" in run["create_b"].stderr
    assert "Error: (38, 'Function not implemented')" in run["python"].stderr
    assert len(run["left_domains"].stdout.splitlines()) == 2


@pytest.mark.base420
def test_other_version(ran: Ran) -> None:
    """The tools of one version of Xen on another: told apart from a denial, and from no groups."""
    run = ran("mismatch", xen="4.20", tools="4.17")
    assert run["list"].status == run["add"].status == 3
    for step in ("list", "add"):
        assert "this nemesis was built for another version of Xen than the 4.20" in sentence(
            run, step
        )
        assert len(run[step].stderr.splitlines()) == 1
    assert run["xl"].status != 0 and run["xl"].stderr


@pytest.mark.base420
def test_second_base(ran: Ran) -> None:
    """Groups by each tool, on 4.20."""
    run = ran("each_tool", xen="4.20", tools="4.20")
    wanted = {"master": 1, "cap": 20, "weight": 256, "domains": [[1, 256], [2, 256], [3, 256]]}
    assert said(run, "same_all") == {"nemesis": wanted, "xl": wanted, "python": wanted}
    three = said(run, "three")
    assert [three[d] for d in "123"] == pytest.approx([20 / 3] * 3, abs=TOLERANCE)
    nothing_left(run)


def test_shell(ran: Ran) -> None:
    """make shell: what is typed is done, and exit ends the machine."""
    del ran  # after the builds
    lab = [str(HERE.parent / "lab"), "shell"]
    with subprocess.Popen(
        lab, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as shell:
        assert shell.stdin is not None and shell.stdout is not None
        try:
            seen = b""
            while not seen.endswith(b"# "):
                seen += (letter := shell.stdout.read(1))
                assert letter, seen.decode(errors="replace")
            shell.stdin.write(b"nemesis list\nxl list\nexit\n")
            shell.stdin.flush()
            said_after = shell.stdout.read().decode(errors="replace")
        finally:
            shell.terminate()
    assert "There are no groups." in said_after
    assert "Domain-0" in said_after
    assert shell.returncode == 0, said_after
