# SPDX-License-Identifier: GPL-2.0-only
"""The mutants' runner, with tests of its own making; and that the mutants fit the series."""

from __future__ import annotations

from pathlib import Path

import pytest
from schedlab import cli, mutants, scenario
from schedlab.build import Layout, mutant, toolstack
from schedlab.build import xen as xen_recipes
from schedlab.core.errors import LabError
from schedlab.mutants import BROKEN, CAUGHT, EQUIVALENT, SURVIVED, Mutant

GOOD = """\
why = "E1"
catch = ["unit", "ten_percent:credit2:1"]
[[edit]]
file = "a.c"
old = "x"
new = "y"
"""


def made(name: str = "m", catch: tuple[str, ...] = ("one", "two"), proof: str = "") -> Mutant:
    """A mutant."""
    return Mutant(name, "E1", (("a.c", "x", "y"),), catch, proof)


def quiet(text: str) -> None:
    """Progress is not what is tested."""


def test_tried_in_order() -> None:
    """The first test that is red has caught it; those after it are not run."""
    tried: list[str] = []

    def judge(one: Mutant | None, test: str) -> str:
        tried.append(test)
        return "red" if test == "two" else ""

    found = mutants.hunt(made(catch=("one", "two", "three")), judge)
    assert (found.outcome, found.by, found.said) == (CAUGHT, "two", "red")
    assert tried == ["one", "two"]


def test_survivor_and_equivalent() -> None:
    """All green: it survived.  One with a proof is not run."""
    found = mutants.hunt_all(
        [made(), made("e", (), "nothing changes\nbecause")], lambda one, test: "", 2, quiet
    )
    assert [one.outcome for one in found] == [SURVIVED, EQUIVALENT]
    assert "1 survived, 1 equivalent" in mutants.table(found)


def test_red_before() -> None:
    """A test that is red on the series as it is proves nothing: no mutant is tried."""
    tried: list[str] = []

    def judge(one: Mutant | None, test: str) -> str:
        tried.append(one.name if one else "none")
        return "broken" if test == "two" else ""

    with pytest.raises(LabError, match="two is red on the series as it is: broken"):
        mutants.hunt_all([made()], judge, 1, quiet)
    assert "m" not in tried


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("why = ", "wy = ", "unknown key wy"),
        ('why = "E1"\n', "", "why is missing"),
        ('catch = ["unit", "ten_percent:credit2:1"]\n', "", "either catch"),
        ('why = "E1"', 'why = "E1"\nequivalent = "so"', "either catch"),
        ('old = "x"\n', "", "file, old and new"),
        ("why", "[why", "m.toml"),
    ],
)
def test_bad_file(tmp_path: Path, old: str, new: str, what: str) -> None:
    """A mutant's file that says something else is refused by name."""
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    assert mutants.load(path).catch == ("unit", "ten_percent:credit2:1")
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(LabError) as caught:
        mutants.load(path)
    assert what in caught.value.what


@pytest.mark.parametrize(("text", "count"), [("a b", 0), ("x x", 2)])
def test_text_not_there_once(tmp_path: Path, text: str, count: int) -> None:
    """A text that is not there, or twice: the series has moved on."""
    (tmp_path / "a.c").write_text(text)
    with pytest.raises(LabError, match=f"is {count} times in a.c"):
        mutant.check(tmp_path, [mutant.Edit("a.c", "x", "y")], "m")
    (tmp_path / "a.c").write_text("x")
    mutant.check(tmp_path, [mutant.Edit("a.c", "x", "y")], "m")
    mutant.apply(tmp_path, [mutant.Edit("a.c", "x", "y")])
    assert (tmp_path / "a.c").read_text() == "y"


def test_mutants_fit() -> None:
    """Each of ours is in the series' source exactly once, and the tests that it names exist."""
    layout = Layout.from_environment()
    tree = xen_recipes.source_tree(layout, "4.17")
    ours = mutants.load_all(cli.MUTANTS, [])
    toolstack_tests = Path(__file__).with_name("test_toolstack.py").read_text()
    assert sum(bool(one.catch) for one in ours) >= 20
    for one in ours:
        mutant.check(tree, [mutant.Edit(*edit) for edit in one.edits], one.name)
        for test in one.catch:
            if test.startswith(mutants.TOOLSTACK):
                name = test.removeprefix(mutants.TOOLSTACK).partition("[")[0]
                assert f"def {name}(" in toolstack_tests
                assert [toolstack.part_of(file) for file, _, _ in one.edits]
                continue
            name = test.rpartition("/")[2].split(":")[0]
            assert name == "unit" or scenario.find(name, cli.SCENARIOS).is_file()


def test_catches_are_cases() -> None:
    """Each test that is to catch a mutant runs something: a mutant cannot survive by no case."""
    for one in mutants.load_all(cli.MUTANTS, []):
        for test in one.catch:
            if test.rpartition("/")[2] == "unit" or test.startswith(mutants.TOOLSTACK):
                continue
            what, cases = mutants.cases_of(test, cli.SCENARIOS)
            assert cases and what.name == test.rpartition("/")[2].split(":")[0]
    assert mutants.cases_of("flask/permission:credit2:1", cli.SCENARIOS)[1]
    with pytest.raises(LabError, match="is no case of permission"):
        mutants.cases_of("permission:credit2:1", cli.SCENARIOS)


def test_broken() -> None:
    """One that does not build is neither caught nor a survivor, and the others are tried."""

    def judge(one: Mutant | None, test: str) -> str:
        if one is not None and one.name == "b":
            raise LabError("building failed")
        return "red" if one is not None else ""

    found = mutants.hunt_all([made("b"), made("c")], judge, 1, quiet)
    assert [(one.outcome, one.said) for one in found] == [
        (BROKEN, "building failed"),
        (CAUGHT, "red"),
    ]
