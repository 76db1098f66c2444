# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios: TOML in, checked, and compiled to the flat timeline that the controller executes.

A scenario says what happens (phases, each with operations and a judged stretch of windows) and what
is expected of it (clauses of the contract).  It is checked here against ``scenario.schema.json``
and against itself; every error names the file, the line, the key and the remedy.  Compilation also
follows the groups through the timeline, so that the oracle knows each phase's cap and members
without being told.

Units: all ``*_ns`` are nanoseconds of virtual time; caps are percent of one pCPU.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import]

from schedlab import matrix, seeds
from schedlab.core.errors import LabError
from schedlab.matrix import Cell, Values
from schedlab.matrix import Dims as Dims

MAX_PCPUS = 16
DEFAULT_WINDOW = "1s"
# One accounting period of the slowest clock in the schedulers, rounded up: credit hands out credits
# each 30 ms, credit2 resets budgets each 10 ms; contract E5 gives a change one period to be in
# force.
DEFAULT_SETTLE = "100ms"
IMAGE_OF = {"pv": "pv", "pvh": "pvh", "hvm": "pvh"}
# Each file is a workload, and is found by its name.
WORKLOADS = Path(__file__).resolve().parents[2] / "guests" / "bare_metal" / "workloads"
# Keys of guest that a workload does nothing sensible without.
NEEDED = {
    "periodic": ("period", "run"),
    "bursty": ("period", "run"),
    "sleeper": ("period", "run"),
    "dodger": ("period", "run"),
    "hotplug": ("period", "run"),
    "lockstep": ("run",),
    "yielder": ("run",),
}
# A device model, and the driver of its device: keys of guest that only they have.
STUB, DRIVER = "device_model", "disk"
DEVICE_KEYS = {"cost": STUB, "block": STUB, "malformed": DRIVER}
DEFAULT_BLOCK = 512
# kMmio of nemesis/disk.hpp: no memory there.
DRIVER_MAX_KIB = 512 * 1024
# The longest turn of a pCPU in QEMU's one instruction stream (SLICE_US of qemu.py).
CHUNK_TURN_NS = 200_000
# Of an iteration of a chunk, measured.
CHUNK_INSTRUCTIONS = 12.5
DOM0 = "dom0"
POOL0 = "pool0"
# Names that the op domctl knows beside: DOMID_SELF, DOMID_XEN, an id that nobody has.
NO_DOMAINS = ("self", "xen", "nobody")
# XEN_DOMCTL_SCHEDDOM_* of the series.
SUB_OPS = ("add", "remove", "destroy", "get", "set")
# SCHEDDOM_DEFAULT_SHARE of the series.
DEFAULT_SHARE = 256
DEFAULT_WEIGHT = 256
GROUP_OPS = frozenset({"join", "leave", "dissolve", "share", "domctl"})

_SCHEMA = Path(__file__).with_name("scenario.schema.json")
_UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_UNIT_KIB = {"M": 1024, "G": 1024 * 1024}
_FORMATS = {
    "^[a-z][a-z0-9_-]{0,31}$": "a name: small letters, digits, _ or -, a letter first, 32 at most",
    "^[0-9]+ ?(s|ms|us|ns)$": 'a time with its unit, as "5s", "100ms", "20us" or "300000ns"',
    "^[0-9]+[MG]$": 'a size with its unit, as "8M"',
    "^[A-Za-z_]+:[A-Za-z_]+:[A-Za-z_]+$": "a label of FLASK's, as system_u:system_r:domU_t",
    "^[0-9]+[.][0-9]+$": 'a base, as "4.17"',
    "^E[A-Z0-9]+$": 'the symbol of an errno, as "EBUSY"',
}

KeyPath = tuple[str | int, ...]


class ScenarioError(LabError):
    """A scenario that cannot be run; the text names file, line, key and remedy."""


@dataclass(frozen=True)
class Domain:
    """One domain, created paused before t0."""

    name: str
    kind: str | None  # None: the cell's
    vcpus: int
    memory_kib: int
    cap_percent: int
    weight: int
    affinity: tuple[int, ...] | None
    workload: str
    parameters: Mapping[str, int]
    peer: str | None = None
    label: str | None = None
    stub_of: str | None = None

    def image(self, kind: str) -> str:
        """Name of the guest binary among the build's artifacts; an HVM guest is a PVH one's."""
        return f"{self.workload}-{IMAGE_OF[self.kind or kind]}"


@dataclass(frozen=True)
class Expectation:
    """A clause that a phase is judged by; ``tolerance`` only where it is overridden."""

    clause: str
    domains: tuple[str, ...]
    share: float | None = None
    tolerance: float | None = None
    reason: str | None = None
    like: str | None = None
    least: int | None = None
    most_ns: int | None = None


@dataclass(frozen=True)
class Step:
    """One operation of the timeline; ``errno`` is what it is expected to answer ("0": success).

    ``count``: how many domains a domctl is expected to count.
    """

    t_ns: int
    op: str
    arguments: Mapping[str, Any]
    errno: str
    count: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The controller's form."""
        return {"t_ns": self.t_ns, "op": self.op, **self.arguments}


@dataclass(frozen=True)
class State:
    """What the hypervisor has been told: caps, weights, who runs, who is whose member.

    ``shares`` are weights inside the group, of those that have one; the others weigh DEFAULT_SHARE.
    """

    caps: Mapping[str, int]
    weights: Mapping[str, int]
    affinity: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    master_of: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, frozenset[int]] = field(default_factory=dict)
    pool_of: Mapping[str, str] = field(default_factory=dict)
    # Of domains that were told how many are to be up.
    vcpus: Mapping[str, int] = field(default_factory=dict)

    def units(self, domain: Domain) -> int:
        """How many of its vCPUs are up."""
        return self.vcpus.get(domain.name, domain.vcpus)

    def places(self, name: str, pcpus: int) -> int:
        """How many of the machine's ``pcpus`` the domain can run on."""
        pool = self.pool_of.get(name, POOL0)
        mine = (
            self.pools[pool]
            if pool in self.pools
            else frozenset(range(pcpus)).difference(*self.pools.values())
        )
        affinity = self.affinity.get(name)
        return len(mine if affinity is None else mine & set(affinity))

    def group_of(self, name: str) -> tuple[str, ...]:
        """Master first, then members in order of joining; the domain alone if it has no group."""
        master = self.master_of.get(name, name)
        return (master, *(m for m, of in self.master_of.items() if of == master))

    def after(self, op: str, arguments: Mapping[str, Any]) -> State:
        """The state after a successful operation."""
        state = self._after(op, arguments)
        grouped = {*state.master_of, *state.master_of.values()}
        # What a domain weighs in a group ends with its being there.
        return replace(state, shares={d: w for d, w in state.shares.items() if d in grouped})

    def _after(self, op: str, arguments: Mapping[str, Any]) -> State:
        domain = arguments.get("domain", "")
        if op == "start" or op == "unpause":
            return replace(self, running=self.running | {domain})
        if op in ("pause", "shutdown"):
            return replace(self, running=self.running - {domain})
        if op == "vcpus":
            return replace(self, vcpus={**self.vcpus, domain: arguments["vcpus"]})
        if op == "kill":
            left = {m: of for m, of in self.master_of.items() if domain not in (m, of)}
            return replace(self, running=self.running - {domain}, master_of=left)
        if op == "join":
            return replace(
                self, master_of={**self.master_of, arguments["member"]: arguments["master"]}
            )
        if op == "leave":
            left = {m: of for m, of in self.master_of.items() if m != arguments["member"]}
            return replace(self, master_of=left)
        if op == "dissolve":
            left = {m: of for m, of in self.master_of.items() if of != arguments["master"]}
            return replace(self, master_of=left)
        if op == "share":
            shares = {d: w for d, w in self.shares.items() if d != arguments["member"]}
            if arguments["weight"]:
                shares[arguments["member"]] = arguments["weight"]
            return replace(self, shares=shares)
        if op == "cap":
            return replace(self, caps={**self.caps, domain: arguments["cap_percent"]})
        if op == "weight":
            return replace(self, weights={**self.weights, domain: arguments["weight"]})
        if op == "affinity":
            return replace(self, affinity={**self.affinity, domain: tuple(arguments["pcpus"])})
        if op == "pool":
            return replace(
                self, pools={**self.pools, arguments["pool"]: frozenset(arguments["pcpus"])}
            )
        if op == "pool_destroy":
            return replace(
                self, pools={p: c for p, c in self.pools.items() if p != arguments["pool"]}
            )
        if op in ("pool_add", "pool_remove"):
            pool, pcpu = arguments["pool"], {arguments["pcpu"]}
            mine = self.pools[pool] | pcpu if op == "pool_add" else self.pools[pool] - pcpu
            return replace(self, pools={**self.pools, pool: mine})
        if op == "move":
            # As Xen's sched_move_domain() does: the pool's scheduler starts from its defaults.
            return replace(
                self,
                pool_of={**self.pool_of, domain: arguments["pool"]},
                caps={**self.caps, domain: 0},
                weights={**self.weights, domain: DEFAULT_WEIGHT},
            )
        return self


@dataclass(frozen=True)
class Phase:
    """A stretch of the timeline: operations, a settle time, then whole windows that are judged.

    ``labels`` name the samples at the window edges, one more than there are windows.  ``before`` is
    the state that the operations found, ``state`` what they left.
    """

    name: str
    start_ns: int
    settled_ns: int
    end_ns: int
    window_ns: int
    settle_ns: int
    steps: tuple[Step, ...]
    show: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    expect: tuple[Expectation, ...]
    before: State
    state: State
    labels: tuple[str, ...]

    @property
    def grouped(self) -> bool:
        """Whether what is shown belongs to a group in this phase."""
        return any(len(self.state.group_of(name)) > 1 for name in self.show)


@dataclass(frozen=True)
class Scenario:
    """A checked scenario."""

    path: Path
    text: str
    name: str
    description: str
    domains: tuple[Domain, ...]
    phases: tuple[Phase, ...]
    cells: tuple[Cell, ...]
    trace: bool = False
    # Run in dom0 after the timeline: its words, and the domain that is to answer it, if any.
    program: tuple[str, ...] = ()
    echo: str | None = None
    # By the values of what varies; empty where nothing does.
    variations: Mapping[Values, Scenario] = field(default_factory=dict)

    def of(self, dims: Dims) -> Scenario:
        """The scenario of one cell: nothing varies in it, and its seed has had its way."""
        one = self.variations[dims.vary] if dims.vary else self
        return seeds.sown(one, dims)

    @property
    def uses_groups(self) -> bool:
        """Whether any operation needs scheduling domains."""
        return any(step.op in GROUP_OPS for phase in self.phases for step in phase.steps)

    def images(self, kind: str) -> tuple[str, ...]:
        """Guest binaries it needs where guests are of that kind, sorted."""
        return tuple(sorted({domain.image(kind) for domain in self.domains}))

    @property
    def vcpus(self) -> int:
        """Of all its domains, together."""
        return sum(domain.vcpus for domain in self.domains)

    @property
    def length_ns(self) -> int:
        """Virtual time from t0 to the end."""
        return self.phases[-1].end_ns

    def matrix(self, tier: str = matrix.TIERS[-1]) -> Iterator[Dims]:
        """Every cell of a tier, in the order the scenario lists them."""
        most = matrix.TIERS.index(tier)
        return (cell.dims for cell in self.cells if matrix.TIERS.index(cell.tier) <= most)

    def steps(self, *, groups: bool = True) -> list[Step]:
        """The timeline: operations and samples in order, ``end`` last.

        ``groups=False`` leaves out the operations on groups: the same scenario on a stock
        hypervisor.
        """
        steps = [Step(0, "sample", {"label": "start"}, "0")]
        for phase in self.phases:
            steps += [s for s in phase.steps if groups or s.op not in GROUP_OPS]
            for k, label in enumerate(phase.labels):
                at_ns = phase.settled_ns + k * phase.window_ns
                steps.append(Step(at_ns, "sample", {"label": label}, "0"))
        return [*steps, Step(self.length_ns, "end", {}, "0")]

    def as_json(self, dims: Dims, *, groups: bool = True) -> str:
        """What the controller reads: canonical JSON, one line, with a newline."""
        kind = dims.kind
        body: dict[str, Any] = {
            "format": 1,
            "name": self.name,
            "seed": dims.seed,
            "domains": [
                {
                    "name": d.name,
                    "kind": d.kind or kind,
                    "image": d.image(kind),
                    "vcpus": d.vcpus,
                    "memory_kib": d.memory_kib,
                    "cap_percent": d.cap_percent,
                    "weight": d.weight,
                    "affinity": None if d.affinity is None else list(d.affinity),
                    "guest": {**looks(dims, self.vcpus), **d.parameters},
                    "peer": d.peer,
                    "label": d.label,
                    **({} if d.stub_of is None else {"stub_of": d.stub_of}),
                }
                for d in self.domains
            ],
            "timeline": [step.as_json() for step in self.steps(groups=groups)],
        }
        if self.trace:
            body["trace"] = 1
        if self.program:
            echo = {} if self.echo is None else {"echo": self.echo}
            body["program"] = {"words": list(self.program), **echo}
        return json.dumps(body, separators=(",", ":"), allow_nan=False) + "\n"


def looks(dims: Dims, vcpus: int) -> dict[str, int]:
    """How often a guest looks at its clock, and which step of it is a preemption, by default.

    A chunk takes 25 us whatever the shift, where its pCPU alone is busy.  Where others are, each
    has a turn of CHUNK_TURN_NS while the others wait: as many as there are pCPUs, or ``vcpus`` of
    all guests and dom0's.
    """
    turns = min(dims.pcpus, vcpus + 1)
    return {
        "gap_threshold_ns": CHUNK_TURN_NS * turns + CHUNK_TURN_NS // 2,
        "chunk_iterations": max(1, (60 << 5) >> dims.shift),
    }


# Workloads that live by what a toolstack tells them in xenstore, of which a scenario has none.
FOR_TOOLSTACKS = frozenset({"obedient", "stub_domain", "tenant"})


def workloads() -> dict[str, str | None]:
    """What there is for a scenario, by name: the one kind of image that it is for, or None where it
    is for any.
    """
    found: dict[str, str | None] = {path.stem: None for path in WORKLOADS.glob("*.cpp")}
    found |= {path.stem: path.parent.name for path in WORKLOADS.glob("*/*.cpp")}
    return {name: kind for name, kind in sorted(found.items()) if name not in FOR_TOOLSTACKS}


def find(name: str, folder: Path) -> Path:
    """The file of a scenario given by its name in ``folder`` or by any path."""
    given = Path(name)
    if given.suffix == ".toml" or "/" in name:
        if given.is_file():
            return given
        raise ScenarioError(f"no scenario file {name}", "check the path")
    inside = folder / f"{name}.toml"
    if inside.is_file():
        return inside
    known = sorted(p.stem for p in folder.glob("*.toml"))
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ScenarioError(
        f"no scenario {name}",
        f"{hint}there are: {', '.join(known) or 'none'}; or give a .toml file",
    )


def load(path: Path) -> Scenario:
    """Read and check the scenario at ``path``; raises ScenarioError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}", "check the path") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Scenario:
    """Check the scenario in ``text``, which errors say is at ``path``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: not TOML: {error}", "mend that line") from error
    return _compiled(raw, path, text)


def _compiled(raw: Mapping[str, Any], path: Path, text: str) -> Scenario:
    """All variations; the first where one is to stand for all."""
    vary = _check_vary(raw.get("vary", {}), ("vary",), _Source(path, text))
    matrices = _matrices(raw, vary, _Source(path, text))
    cells = matrix.cells(matrices, vary)
    found: dict[Values, Scenario] = {}
    for values in dict.fromkeys(cell.dims.vary for cell in cells):
        source = _Source(path, text)
        mine = [cell for cell in cells if cell.dims.vary == values]
        found[values] = _Compiler(_expand(raw, dict(values), source), source, mine).compile()
    first = next(iter(found.values()))
    return replace(first, variations=found, cells=tuple(cells)) if () not in found else first


def _check_vary(vary: Any, key: KeyPath, source: _Source) -> Mapping[str, list[int]]:
    """Lists of whole numbers, by name."""
    for name, values in vary.items() if isinstance(vary, dict) else ():
        if not (isinstance(values, list) and values and all(type(v) is int for v in values)):
            raise source.error(
                (*key, name), f"{values!r} is not a list of whole numbers", "give [1, 2, …]"
            )
        if len(set(values)) < len(values):
            raise source.error((*key, name), "a value is there twice", "drop one")
    return vary if isinstance(vary, dict) else {}


def _matrices(
    raw: Mapping[str, Any], vary: Mapping[str, list[int]], source: _Source
) -> list[Mapping[str, Any]]:
    """What there is of ``[matrix]`` or ``[[matrix]]``, checked; one of defaults where there is
    none.
    """
    # Before anything is made of them, the whole file's form.
    first = {name: values[0] for name, values in vary.items() if values}
    _check_schema(_expand(raw, first, source), source)
    found = _as_list(raw.get("matrix"))
    for i, one in enumerate(found):
        mine = _check_vary(one.get("vary", {}), ("matrix", i, "vary"), source)
        for name in mine:
            if name not in vary:
                raise source.error(
                    ("matrix", i, "vary", name), "nothing of that name varies", "add it to [vary]"
                )
    return found


def _as_list(matrices: Any) -> list[Any]:
    if matrices is None:
        return [{}]
    return matrices if isinstance(matrices, list) else [matrices]


def _expand(raw: Mapping[str, Any], values: Mapping[str, int], source: _Source) -> dict[str, Any]:
    """``$name`` replaced by its value, domains with a count by so many, ``name*`` by all of those.

    ``source`` is told where the expanded lists' entries come from.
    """
    full: dict[str, Any] = _substitute(raw, values, (), source)
    if "matrix" in full:
        source.one_matrix = not isinstance(full["matrix"], list)
        full["matrix"] = _as_list(full["matrix"])
    copies: dict[str, list[str]] = {}
    domains, origin = [], []
    for i, domain in enumerate(full["domain"] if isinstance(full.get("domain"), list) else []):
        count = domain.get("count") if isinstance(domain, dict) else None
        if type(count) is int and 0 <= count <= 63 and isinstance(domain.get("name"), str):
            names = [f"{domain['name']}{k}" for k in range(1, count + 1)]
            copies[f"{domain['name']}*"] = names
            one = {key: value for key, value in domain.items() if key != "count"}
            domains += [{**one, "name": name} for name in names]
            origin += [i] * count
        else:
            domains.append(domain)
            origin.append(i)
    if domains:
        full["domain"] = domains
        source.origins[("domain",)] = origin

    def names_of(given: Any) -> Any:
        if not isinstance(given, list):
            return given
        return [name for one in given for name in (copies.get(one, [one]) if _text(one) else [one])]

    for i, phase in enumerate(full["phase"] if isinstance(full.get("phase"), list) else []):
        if not isinstance(phase, dict):
            continue
        if "show" in phase:
            phase["show"] = names_of(phase["show"])
        for expectation in phase.get("expect", ()) if _list(phase.get("expect", ())) else ():
            if isinstance(expectation, dict) and "domains" in expectation:
                expectation["domains"] = names_of(expectation["domains"])
        if _list(phase.get("do")):
            steps: list[Any] = []
            place = []
            for k, step in enumerate(phase["do"]):
                roles = [
                    role
                    for role in ("domain", "member")
                    if isinstance(step, dict) and step.get(role) in copies
                ]
                many = [step]
                if roles:
                    many = [{**step, roles[0]: name} for name in copies[step[roles[0]]]]
                steps += many
                place += [k] * len(many)
            phase["do"] = steps
            source.origins[("phase", i, "do")] = place
    return full


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _substitute(value: Any, values: Mapping[str, int], key: KeyPath, source: _Source) -> Any:
    """A copy, in which ``$name`` is that name's value, and ``$name us`` a time of so many."""
    if isinstance(value, dict):
        return {k: _substitute(v, values, (*key, k), source) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, values, (*key, k), source) for k, v in enumerate(value)]
    if isinstance(value, str) and value.startswith("$"):
        name, _, unit = value[1:].partition(" ")
        if name not in values:
            known = ", ".join(values) or "none"
            raise source.error(
                key, f"nothing called {name} varies", f"add it to [vary]; there are: {known}"
            )
        return f"{values[name]} {unit}" if unit else values[name]
    return value


def override(
    scenario: Scenario,
    *,
    schedulers: Sequence[str] = (),
    pcpus: Sequence[int] = (),
    shift: int | None = None,
    trace: bool = False,
    seeds_: Sequence[int] = (),
    base: str | None = None,
) -> Scenario:
    """The scenario with parts of its matrices replaced, checked as if the file had said so."""
    raw = tomllib.loads(scenario.text)
    said: dict[str, Sequence[Any]] = {
        "scheduler": list(schedulers),
        "pcpus": list(pcpus),
        "shift": [] if shift is None else [shift],
        "seed": list(seeds_),
        "base": [] if base is None else [base],
    }
    raw["matrix"] = _as_list(raw.get("matrix"))
    for one in raw["matrix"]:
        one.update({name: values for name, values in said.items() if values})
    if trace:
        raw["trace"] = True
    return _compiled(raw, scenario.path, scenario.text)


def only(scenario: Scenario, name: str) -> Scenario:
    """The scenario with the one cell of that name."""
    found = tuple(cell for cell in scenario.cells if cell.dims.name() == name)
    if not found:
        known = [cell.dims.name() for cell in scenario.cells]
        near = difflib.get_close_matches(name, known, 3)
        raise ScenarioError(
            f"{scenario.name} has no case {name}",
            f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}",
        )
    return replace(scenario, cells=found)


def within(scenario: Scenario, tier: str) -> Scenario:
    """The scenario with the cells of that tier."""
    mine = set(scenario.matrix(tier))
    if not mine:
        raise ScenarioError(
            f"{scenario.name} has no case in tier {tier}",
            f"give a larger one: {', '.join(matrix.TIERS)}",
        )
    return replace(scenario, cells=tuple(c for c in scenario.cells if c.dims in mine))


def time_ns(text: str) -> int:
    """Nanoseconds of "5s", "100ms", "20us", "300000ns"."""
    match = re.fullmatch(r"(\d+) ?(s|ms|us|ns)", text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    return int(match[1]) * _UNIT_NS[match[2]]


class _Source:
    """Where a key stands in the text: TOML parsers do not tell, so the headers are counted here."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        # Of lists that were expanded: which entry of the text each entry comes from.
        self.origins: dict[KeyPath, list[int]] = {}
        # The text says [matrix], not [[matrix]].
        self.one_matrix = False

    def written(self, key: KeyPath) -> KeyPath:
        """The key in the text of a key in what was expanded."""
        found = list(key)
        for place, origin in self.origins.items():
            n = len(place)
            if len(key) > n and key[:n] == place and isinstance(key[n], int):
                found[n] = origin[int(key[n])]
        if self.one_matrix and found[:2] == ["matrix", 0]:
            del found[1]
        return tuple(found)

    def error(self, key: KeyPath, what: str, remedy: str) -> ScenarioError:
        key = self.written(key)
        line = self.line(key)
        place = f"{self.path}:{line}" if line else str(self.path)
        return ScenarioError(f"{place}: {_dotted(key)}: {what}", remedy)

    def line(self, key: KeyPath) -> int | None:
        """The line (from 1) of ``key``, of the nearest key above it that can be found, or None."""
        if not key:
            return None
        first, last, rest = 0, len(self.lines), list(key)
        found: int | None = None
        if isinstance(rest[0], str) and len(rest) > 1:
            header = rest.pop(0)
            nth = rest.pop(0) if isinstance(rest[0], int) else 0
            pattern = re.compile(rf"\s*\[\[?\s*{re.escape(str(header))}\s*\]")
            heads = [i for i, text in enumerate(self.lines) if pattern.match(text)]
            if not isinstance(nth, int) or nth >= len(heads):
                return None
            found = first = heads[nth]
            any_head = re.compile(rf"\s*\[(?!\[?\s*{re.escape(str(header))}\.)")
            tail = range(first + 1, last)
            last = next((i for i in tail if any_head.match(self.lines[i])), last)
        for part in rest:
            if isinstance(part, str):
                word = re.compile(rf"(^|[\s{{,\[.]){re.escape(part)}\s*(=|\])")
                hits = [i for i in range(first, last) if word.search(_bare(self.lines[i]))]
                if not hits:
                    break
                found = first = hits[0]
            else:
                braces = [i for i in range(first, last) for c in _bare(self.lines[i]) if c == "{"]
                if part >= len(braces):
                    break
                found = first = braces[part]
                last = first + 1
        return None if found is None else found + 1


def _bare(line: str) -> str:
    return line.split("#", 1)[0]


def _dotted(key: KeyPath) -> str:
    out = ""
    for part in key:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out or "scenario"


def _check_schema(raw: Mapping[str, Any], source: _Source) -> None:
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(raw))
    if errors:
        errors.sort(
            key=lambda e: (source.line(source.written(tuple(e.absolute_path))) or 0, str(e.message))
        )
        raise _explain(errors[0], source)


def _explain(error: Any, source: _Source) -> ScenarioError:
    key: KeyPath = tuple(error.absolute_path)
    kind, schema, value = error.validator, error.schema, error.instance
    if kind == "additionalProperties":
        allowed = sorted(schema["properties"])
        unknown = sorted(set(value) - set(allowed))[0]
        near = difflib.get_close_matches(unknown, allowed, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return source.error(
            (*key, unknown), "unknown key", f"{hint}keys here are: {', '.join(allowed)}"
        )
    if kind == "required":
        missing = next(k for k in error.validator_value if k not in value)
        return source.error(key, f"{missing} is missing", f"add {missing} = …")
    if kind == "enum":
        allowed_values = ", ".join(str(v) for v in error.validator_value)
        return source.error(key, f"{value!r} is not known", f"one of: {allowed_values}")
    if kind in ("minimum", "maximum", "exclusiveMinimum"):
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        remedy = f"give a value from {low} to {schema.get('maximum')}"
        return source.error(key, f"{value} is out of range", remedy)
    if kind == "pattern":
        known = _FORMATS.get(error.validator_value, str(error.validator_value))
        return source.error(key, f"{value!r} does not fit", f"give {known}")
    if kind == "type":
        return source.error(key, f"{value!r} is not {error.validator_value}", "mend its type")
    if kind == "dependencies":
        return source.error(key, "tolerance without a reason", 'add reason = "why it is allowed"')
    if kind == "not":
        return source.error(
            key, "share or like belongs to another clause", "drop it: harness/scenarios/README.md"
        )
    return source.error(key, str(error.message), "see harness/scenarios/README.md")


class _Compiler:
    """From checked TOML to a Scenario: references, order, arithmetic, groups followed through."""

    def __init__(self, raw: Mapping[str, Any], source: _Source, cells: Sequence[Cell]) -> None:
        self._raw = raw
        self._source = source
        self._cells = tuple(cells)
        self._schedulers = {cell.dims.scheduler for cell in cells}
        self._pcpus = {cell.dims.pcpus for cell in cells}
        self._shifts = {cell.dims.shift for cell in cells}
        self._names: tuple[str, ...] = ()
        self._vcpus: dict[str, int] = {}
        self._pools: set[str] = set()

    def compile(self) -> Scenario:
        raw = self._raw
        _check_schema(raw, self._source)
        for dims in (cell.dims for cell in self._cells):
            if dims.topology == "pairs" and dims.pcpus % 2:
                raise self._source.error(
                    ("matrix", 0, "topology"),
                    f"{dims.pcpus} pCPUs are not pairs",
                    "give even numbers of them",
                )
        domains = tuple(self._domain(i, d) for i, d in enumerate(raw["domain"]))
        state = State(
            caps={DOM0: 0} | {d.name: d.cap_percent for d in domains},
            weights={DOM0: DEFAULT_WEIGHT} | {d.name: d.weight for d in domains},
            affinity={d.name: d.affinity for d in domains},
            running=frozenset({DOM0}),
        )
        phases: list[Phase] = []
        for i, phase in enumerate(raw["phase"]):
            if phase["name"] in (p.name for p in phases):
                raise self._source.error(
                    ("phase", i, "name"), f"a second phase {phase['name']}", "rename one of them"
                )
            start_ns = phases[-1].end_ns if phases else 0
            phases.append(self._phase(i, phase, start_ns, state))
            state = phases[-1].state
        return Scenario(
            path=self._source.path,
            text="\n".join(self._source.lines) + "\n",
            name=raw["name"],
            description=raw.get("description", "").strip(),
            domains=domains,
            phases=tuple(phases),
            cells=self._cells,
            trace=raw.get("trace", False),
        )

    def _domain(self, i: int, raw: Mapping[str, Any]) -> Domain:
        name, vcpus = raw["name"], raw.get("vcpus", 1)
        if name == DOM0:
            raise self._source.error(("domain", i, "name"), "dom0 is always there", "rename it")
        if name in self._vcpus:
            raise self._source.error(
                ("domain", i, "name"), f"a second domain {name}", "rename one of them"
            )
        self._vcpus[name] = vcpus
        self._check_cap(("domain", i, "cap"), name, raw.get("cap", 0))
        affinity = raw.get("affinity")
        self._check_pcpus(("domain", i, "affinity"), affinity or [])
        memory = raw.get("memory", "8M")
        workload = raw.get("workload", STUB if "stub_of" in raw else "burner")
        known = workloads()
        if workload not in known:
            raise self._source.error(
                ("domain", i, "workload"),
                f"no workload {workload}",
                f"there are {', '.join(known)}; a new one is a file in {WORKLOADS.name}/",
            )
        kind = self._kind(i, raw, workload, known[workload])
        self._check_device(i, raw, workload, int(memory[:-1]) * _UNIT_KIB[memory[-1]])
        return Domain(
            name=name,
            kind=kind,
            vcpus=vcpus,
            memory_kib=int(memory[:-1]) * _UNIT_KIB[memory[-1]],
            cap_percent=raw.get("cap", 0),
            weight=raw.get("weight", 256),
            affinity=None if affinity is None else tuple(affinity),
            workload=workload,
            label=raw.get("label"),
            parameters=self._guest(i, raw, workload),
            peer=self._other(i, raw, "peer"),
            stub_of=self._other(i, raw, "stub_of"),
        )

    def _kind(self, i: int, raw: Mapping[str, Any], workload: str, image: str | None) -> str | None:
        """The domain's own kind; a workload that is for one image alone says it where it must."""
        kind: str | None = raw.get("kind")
        if image is None:
            return kind
        fit = [known for known, needs in IMAGE_OF.items() if needs == image]
        if kind is not None and kind not in fit:
            raise self._source.error(
                ("domain", i, "kind"), f"no {workload} is of kind {kind}", f"say {fit[-1]}"
            )
        return kind or fit[-1]

    def _check_device(self, i: int, raw: Mapping[str, Any], workload: str, memory_kib: int) -> None:
        """A stub domain is a device model, its target a driver; each has what only it can have."""
        if (workload == STUB) != ("stub_of" in raw):
            raise self._source.error(
                ("domain", i), f"a {STUB}, and only that, has a stub_of", "give both, or neither"
            )
        for name, owner in DEVICE_KEYS.items():
            if name in raw.get("guest", {}) and workload != owner:
                raise self._source.error(
                    ("domain", i, "guest", name), f"no {workload} has it", f"it is a {owner}'s"
                )
        if workload == STUB and raw.get("vcpus", 1) != 1:
            raise self._source.error(("domain", i, "vcpus"), f"a {STUB} has one", "drop it")
        if workload == DRIVER and memory_kib >= DRIVER_MAX_KIB:
            raise self._source.error(
                ("domain", i, "memory"), "its device is within its memory", "stay below 512M"
            )
        if "stub_of" in raw:
            targets = [d for d in self._raw["domain"][:i] if d["name"] == raw["stub_of"]]
            if targets and targets[0].get("workload") != DRIVER:
                raise self._source.error(
                    ("domain", i, "stub_of"),
                    f"{raw['stub_of']} asks for no device",
                    f'give it workload = "{DRIVER}"',
                )

    def _guest(self, i: int, raw: Mapping[str, Any], workload: str) -> dict[str, int]:
        """What the guest is told: times in ns."""
        given = raw.get("guest", {})
        needed = NEEDED.get(workload, ())
        for name in needed:
            if name not in given:
                raise self._source.error(
                    ("domain", i), f"a {workload} has a {name}", f"add it to guest: {name} = …"
                )
        told = {
            **(
                {"gap_threshold_ns": time_ns(given["gap_threshold"])}
                if "gap_threshold" in given
                else {}
            ),
            **(
                {"chunk_iterations": given["chunk_iterations"]}
                if "chunk_iterations" in given
                else {}
            ),
            **{
                f"{name}_ns": time_ns(given.get(name, "0ns")) for name in ("period", "run", "phase")
            },
        }
        if workload == STUB:
            told["cost_ns"] = time_ns(given.get("cost", "0ns"))
            told["block_bytes"] = given.get("block", DEFAULT_BLOCK)
        if workload == DRIVER:
            told["malformed_every"] = given.get("malformed", 0)
        for shift, pcpus in itertools.product(sorted(self._shifts), sorted(self._pcpus)):
            # Of as few vCPUs as there can be: the shortest threshold.
            sight = {**looks(Dims("", pcpus, "", shift, 1), vcpus=1), **told}
            chunk_ns = sight["chunk_iterations"] * CHUNK_INSTRUCTIONS * (1 << shift)
            if chunk_ns >= sight["gap_threshold_ns"]:
                raise self._source.error(
                    ("domain", i, "guest"),
                    f"{sight['chunk_iterations']} iterations take {chunk_ns / 1e3:.0f} us at shift "
                    f"{shift}, and gap_threshold is {sight['gap_threshold_ns'] / 1e3:.0f} us: all "
                    "would be gaps",
                    "make chunk_iterations smaller, or gap_threshold larger",
                )
        if "period" in needed and told["run_ns"] >= told["period_ns"]:
            raise self._source.error(
                ("domain", i, "guest", "run"), "run is not below period", "shorten it"
            )
        return told

    def _other(self, i: int, raw: Mapping[str, Any], role: str) -> str | None:
        """A domain before it."""
        other: str | None = raw.get(role)
        if other is not None:
            known = [d["name"] for d in self._raw["domain"][:i]]
            if other not in known:
                raise self._source.error(
                    ("domain", i, role), f"no domain {other} before this one", "name one above it"
                )
        return other

    def _phase(self, i: int, raw: Mapping[str, Any], start_ns: int, state: State) -> Phase:
        top = self._raw
        window_ns = self._time(
            ("phase", i, "window"), raw.get("window", top.get("window", DEFAULT_WINDOW)), 1
        )
        settle_ns = time_ns(raw.get("settle", top.get("settle", DEFAULT_SETTLE)))
        duration_ns = self._time(("phase", i, "duration"), raw["duration"], 1)
        if duration_ns % window_ns:
            raise self._source.error(
                ("phase", i, "duration"),
                f"{raw['duration']} is not a whole number of windows of {window_ns / 1e9:g} s",
                "give a multiple, or set the phase's window",
            )
        before = state
        steps: list[Step] = []
        at_ns = inside_ns = 0
        times, every_ns = self._repeat(i, raw)
        for turn, (k, entry) in itertools.product(range(times), enumerate(raw.get("do", []))):
            key = ("phase", i, "do", k)
            inside_ns = time_ns(entry["at"]) if "at" in entry else inside_ns if k else 0
            offset_ns = turn * every_ns + inside_ns
            if offset_ns < at_ns:
                raise self._source.error(
                    (*key, "at"),
                    f"{offset_ns / 1e6:g} ms is before the operation above it",
                    "order the operations by time, and repeat them no sooner",
                )
            at_ns = offset_ns
            step = self._step(key, entry, start_ns + offset_ns)
            steps.append(step)
            if step.errno == "0":
                state = state.after(step.op, step.arguments)
        settled_ns = start_ns + at_ns + settle_ns
        earlier = [other["name"] for other in top["phase"][:i]]
        show = tuple(raw.get("show", ()))
        for name in show:
            self._check_name(("phase", i, "show"), name)
        rows = tuple(tuple(row) for row in raw.get("rows", [show] if show else []))
        for name in itertools.chain(*rows):
            self._check_name(("phase", i, "rows"), name)
        expect = tuple(
            self._expectation(("phase", i, "expect", k), e, show, state, earlier)
            for k, e in enumerate(raw.get("expect", []))
        )
        count = duration_ns // window_ns
        return Phase(
            name=raw["name"],
            start_ns=start_ns,
            settled_ns=settled_ns,
            end_ns=settled_ns + duration_ns,
            window_ns=window_ns,
            settle_ns=settle_ns,
            steps=tuple(steps),
            show=show,
            rows=rows,
            expect=expect,
            before=before,
            state=state,
            labels=tuple(f"{raw['name']}/{k}" for k in range(count + 1)),
        )

    def _repeat(self, i: int, raw: Mapping[str, Any]) -> tuple[int, int]:
        if "repeat" not in raw:
            return 1, 0
        repeat = raw["repeat"]
        return repeat["times"], self._time(("phase", i, "repeat", "every"), repeat["every"], 1)

    def _step(self, key: KeyPath, raw: Mapping[str, Any], t_ns: int) -> Step:
        op = raw["op"]
        for role in ("domain", "master", "member"):
            if role in raw and not (op == "domctl" and raw[role] in NO_DOMAINS):
                self._check_name((*key, role), raw[role])
        if raw.get("domain") == DOM0 and op in (
            *("start", "pause", "unpause", "kill", "affinity", "move", "vcpus", "shutdown"),
        ):
            raise self._source.error(
                (*key, "domain"), f"{op} of dom0 would stop the controller", "name another domain"
            )
        errno = raw.get("errno", "0")
        arguments = {k: v for k, v in raw.items() if k not in ("op", "at", "errno", "count")}
        if op == "cap":
            arguments["cap_percent"] = arguments.pop("cap")
            if errno == "0":
                self._check_cap((*key, "cap"), raw["domain"], raw["cap"])
        if op == "affinity" or op == "pool":
            self._check_pcpus((*key, "pcpus"), raw["pcpus"])
        if op in ("pool_add", "pool_remove"):
            self._check_pcpus((*key, "pcpu"), [raw["pcpu"]])
        if "pool" in raw:
            self._check_pool((*key, "pool"), op, raw["pool"])
        if op == "vcpus" and raw["vcpus"] > self._vcpus[raw["domain"]]:
            raise self._source.error(
                (*key, "vcpus"),
                f"{raw['domain']} has {self._vcpus[raw['domain']]} vCPUs",
                "give no more than that, or give the domain more",
            )
        if "keep" in raw:
            arguments["keep"] = int(raw["keep"])
        if op == "domctl":
            if errno == "0" and raw["cmd"] != "get":
                raise self._source.error(
                    (*key, "cmd"),
                    f"{raw['cmd']} that succeeds would go unnoticed",
                    "say join, leave, dissolve or share, or which errno it answers",
                )
            cmd = raw["cmd"]
            arguments["cmd"] = SUB_OPS.index(cmd) if cmd in SUB_OPS else cmd
            for name in ("flags", "pad", "weight", "room"):
                arguments.setdefault(name, 0)
        return Step(t_ns, op, arguments, errno, raw.get("count"))

    def _check_pool(self, key: KeyPath, op: str, name: str) -> None:
        if op == "pool":
            if name == POOL0:
                raise self._source.error(key, "pool0 is always there", "rename it")
            self._pools.add(name)
        elif name not in self._pools and not (op == "move" and name == POOL0):
            raise self._source.error(key, f"no pool {name} before this", 'make it with op = "pool"')

    def _expectation(
        self,
        key: KeyPath,
        raw: Mapping[str, Any],
        show: tuple[str, ...],
        state: State,
        earlier: Sequence[str],
    ) -> Expectation:
        domains = tuple(raw.get("domains", show))
        if not domains:
            raise self._source.error(
                key, "no domains to judge", "give the expectation domains, or the phase show"
            )
        for name in domains:
            self._check_name((*key, "domains"), name)
        clause = raw["clause"]
        group = state.group_of(domains[0])
        if clause.startswith("IO."):
            drivers = [d["name"] for d in self._raw["domain"] if d.get("workload") == DRIVER]
            if len(domains) != 1 or domains[0] not in drivers:
                raise self._source.error(
                    key, f"{clause} judges a {DRIVER}", "give it domains = [that one]"
                )
        elif clause == "woken":
            asleep = [d["name"] for d in self._raw["domain"] if "period" in d.get("guest", {})]
            if len(domains) != 1 or domains[0] not in asleep:
                raise self._source.error(
                    key,
                    "woken judges a domain that sleeps",
                    "give it domains = [one with a period]",
                )
        elif clause != "share":
            if set(group) != set(domains):
                raise self._source.error(
                    key,
                    f"{clause} judges a whole group, and {domains[0]}'s is {', '.join(group)} here",
                    "name exactly the group's domains",
                )
            if clause[:3] in ("E1.", "E3.") and not state.caps[group[0]]:
                raise self._source.error(
                    key, f"{clause}: {group[0]} has no cap in this phase", f"give {group[0]} a cap"
                )
            if clause == "E4.even" and any(name in state.shares for name in group):
                raise self._source.error(
                    key, "E4.even of a group with weights inside", 'say clause = "E4.weighted"'
                )
        if clause in ("E2.weight", "IO.local") and raw["like"] not in earlier:
            what = f"{group[0]} is alone" if clause == "E2.weight" else "there are no requests"
            raise self._source.error(
                (*key, "like"),
                f"no phase {raw['like']} before this one",
                f"name the phase in which {what}",
            )
        return Expectation(
            clause=clause,
            domains=domains,
            share=raw.get("share"),
            tolerance=raw.get("tolerance"),
            reason=raw.get("reason"),
            like=raw.get("like"),
            least=raw.get("least"),
            most_ns=self._time((*key, "most"), raw["most"], 1) if "most" in raw else None,
        )

    def _check_name(self, key: KeyPath, name: str) -> None:
        if name != DOM0 and name not in self._vcpus:
            known: Iterable[str] = [*self._vcpus, DOM0]
            raise self._source.error(
                key, f"no domain {name}", f"define it with [[domain]]; there are {', '.join(known)}"
            )

    def _check_cap(self, key: KeyPath, name: str, cap: int) -> None:
        most = 100 * self._vcpus.get(name, 1)
        if "credit2" in self._schedulers and cap > most:
            raise self._source.error(
                key,
                f"{cap} is above 100 x the vCPUs of {name}, which credit2 refuses",
                f"{most} at most, or leave credit2 out of the matrix",
            )

    def _check_pcpus(self, key: KeyPath, pcpus: Sequence[int]) -> None:
        least = min(self._pcpus)
        if pcpus and max(pcpus) >= least:
            raise self._source.error(
                key,
                f"pCPU {max(pcpus)} is not there when the matrix has {least} pCPUs",
                "name lower pCPUs, or take that number out of the matrix",
            )

    def _time(self, key: KeyPath, text: str, least_ns: int) -> int:
        value = time_ns(text)
        if value < least_ns:
            raise self._source.error(key, f"{text} is too short", "give a time above 0")
        return value
