# SPDX-License-Identifier: GPL-2.0-only
"""Seeds: the same scenario in other phases and with other sizes of work.

Seed 1 is the scenario as it is written.  Any other

- lets the operations of each phase come up to LATE_NS later, which moves them against the
  schedulers' ticks and refills, and those of one instant up to APART_NS after one another, in their
  order, so that no two domains start together;
- gives each domain other sizes of work: its chunk, its run, and the phase of its period;
- seeds the guests' own random numbers (done by the controller).

All of it is in the scenario that the controller reads, and comes from the seed and the names of
phases and domains alone: a seed replays exactly, everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from schedlab.matrix import DEFAULT_SEED, Dims

if TYPE_CHECKING:
    from schedlab.scenario import Domain, Phase, Scenario, Step

# credit's accounting period, the slowest clock in the schedulers.
LATE_NS = 30_000_000
APART_NS = 3_000_000
# A run becomes from so much of what is written to so much; a chunk, which must stay below the gap
# threshold, only smaller.
RUN_LEAST, RUN_MOST = 0.75, 1.25
CHUNK_LEAST = 0.6


def draw(seed: int, *words: str) -> float:
    """A number from 0 to 1 (without it) that depends on the seed and the words alone."""
    digest = hashlib.sha256("/".join((str(seed), *words)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def sown(scenario: Scenario, dims: Dims) -> Scenario:
    """The scenario as the cell's seed has it."""
    seed = dims.seed
    if seed == DEFAULT_SEED:
        return scenario
    phases: list[Phase] = []
    for phase in scenario.phases:
        start_ns = phases[-1].end_ns if phases else 0
        phases.append(_phase(phase, seed, start_ns))
    domains = tuple(_domain(d, dims, scenario.vcpus) for d in scenario.domains)
    return replace(scenario, phases=tuple(phases), domains=domains)


def _phase(phase: Phase, seed: int, start_ns: int) -> Phase:
    moved_ns = start_ns - phase.start_ns + int(LATE_NS * draw(seed, phase.name, "late"))
    steps = _apart([replace(s, t_ns=s.t_ns + moved_ns) for s in phase.steps], seed, phase.name)
    length_ns = phase.end_ns - phase.settled_ns
    last_ns = steps[-1].t_ns if steps else phase.start_ns + moved_ns
    settled_ns = last_ns + phase.settle_ns
    return replace(
        phase,
        start_ns=start_ns,
        settled_ns=settled_ns,
        end_ns=settled_ns + length_ns,
        steps=tuple(steps),
    )


def _apart(steps: Sequence[Step], seed: int, name: str) -> list[Step]:
    """Steps of one instant after one another, none later than the next instant's first."""
    instants = [list(same) for _, same in groupby(steps, key=lambda step: step.t_ns)]
    found: list[Step] = []
    for k, same in enumerate(instants):
        # One by itself stays where it is.
        room_ns = APART_NS * len(same) if len(same) > 1 else 0
        if k + 1 < len(instants):
            room_ns = min(room_ns, instants[k + 1][0].t_ns - same[0].t_ns - 1)
        later = sorted(
            int(room_ns * draw(seed, name, str(k), str(i), "apart")) for i in range(len(same))
        )
        found += [replace(step, t_ns=step.t_ns + ns) for step, ns in zip(same, later)]
    return found


def _domain(domain: Domain, dims: Dims, vcpus: int) -> Domain:
    from schedlab.scenario import looks

    def one(what: str) -> float:
        return draw(dims.seed, domain.name, what)

    told = {**looks(dims, vcpus), **domain.parameters}
    period_ns, run_ns = told.get("period_ns", 0), told.get("run_ns", 0)
    told["chunk_iterations"] = max(
        1, int(told["chunk_iterations"] * (CHUNK_LEAST + (1 - CHUNK_LEAST) * one("chunk")))
    )
    told["run_ns"] = int(run_ns * (RUN_LEAST + (RUN_MOST - RUN_LEAST) * one("run")))
    if period_ns:
        told["run_ns"] = min(told["run_ns"], period_ns - 1)
        told["phase_ns"] = int(told.get("phase_ns", 0) + period_ns * one("phase")) % period_ns
    return replace(domain, parameters=told)
