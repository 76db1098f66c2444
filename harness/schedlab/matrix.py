# SPDX-License-Identifier: GPL-2.0-only
"""The matrix of a scenario: which machines, builds and values it is run with.

A ``[[matrix]]`` is a product of lists; a scenario is the union of its matrices.  Each belongs to a
tier, and a larger tier has all that a smaller one has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# By the most pCPUs that they serve.  Busy pCPUs share one stream of instructions: what is slow
# enough for four of them (8 million instructions a virtual second each) starves dom0, and Xen, of
# sixteen.  Measured, see harness/README.md.
USUAL_SHIFTS = ((4, 5), (8, 3), (16, 2))
DEFAULT_SEED = 1
DEFAULT_BASE = "4.17"
DEFAULT_BUILD = "release"
# The first is the default.
KINDS = ("pv", "pvh", "hvm")
# From the smallest on.
TIERS = ("smoke", "test", "full")
DEFAULT_TIER = "test"
DEFAULTS: Mapping[str, Sequence[Any]] = {
    "scheduler": ["credit2"],
    "topology": ["cores"],
    "kind": [KINDS[0]],
    # The usual one of the number of pCPUs.
    "shift": [None],
    "seed": [DEFAULT_SEED],
    "base": [DEFAULT_BASE],
    "build": [DEFAULT_BUILD],
    "pcpus": [1],
}


def usual_shift(pcpus: int) -> int:
    """An instruction takes 2^this ns where nothing else is said."""
    return next((shift for most, shift in USUAL_SHIFTS if pcpus <= most), USUAL_SHIFTS[-1][1])


# The values of what varies, by name.
Values = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Dims:
    """One cell of the matrix."""

    scheduler: str
    pcpus: int
    topology: str
    shift: int
    seed: int
    kind: str = KINDS[0]
    vary: Values = ()
    base: str = DEFAULT_BASE
    build: str = DEFAULT_BUILD

    def name(self) -> str:
        """A short name, unique inside a scenario, that sorts; defaults are left out of it."""
        parts = [self.scheduler, f"{self.pcpus}p"]
        parts += [f"{name}{value}" for name, value in self.vary]
        if self.topology != "cores":
            parts.append(self.topology)
        if self.kind != KINDS[0]:
            parts.append(self.kind)
        if self.shift != usual_shift(self.pcpus):
            parts.append(f"shift{self.shift}")
        if self.base != DEFAULT_BASE:
            parts.append(f"xen{self.base}")
        if self.build != DEFAULT_BUILD:
            parts.append(self.build)
        if self.seed != DEFAULT_SEED:
            parts.append(f"seed{self.seed}")
        return "-".join(parts)

    def variant(self, name: str) -> str:
        """What the lab is asked to build for ``name`` ("patched", "stock", …) in this cell."""
        if self.build != DEFAULT_BUILD and "-" not in name:
            name = f"{name}-{self.build}"
        return name if self.base == DEFAULT_BASE else f"{self.base}/{name}"


@dataclass(frozen=True)
class Cell:
    """A cell, and the smallest tier that has it."""

    dims: Dims
    tier: str


def cells(matrices: Sequence[Mapping[str, Any]], vary: Mapping[str, Sequence[int]]) -> list[Cell]:
    """The union of the matrices, in order; of a cell that is in several the smallest tier."""
    found: dict[Dims, str] = {}
    for matrix in matrices:
        tier = matrix.get("tier", DEFAULT_TIER)
        for dims in _product(matrix, {**vary, **matrix.get("vary", {})}):
            known = found.get(dims, tier)
            found[dims] = min(known, tier, key=TIERS.index)
    return [Cell(dims, tier) for dims, tier in found.items()]


def _product(matrix: Mapping[str, Any], vary: Mapping[str, Sequence[int]]) -> Iterator[Dims]:
    lists = {name: matrix.get(name, default) for name, default in DEFAULTS.items()}
    varied = itertools.product(*([(name, value) for value in vary[name]] for name in vary))
    for scheduler, topology, kind, values, shift, seed, base, build, pcpus in itertools.product(
        *(lists["scheduler"], lists["topology"], lists["kind"], varied, lists["shift"]),
        *(lists["seed"], lists["base"], lists["build"], lists["pcpus"]),
    ):
        speed = usual_shift(pcpus) if shift is None else shift
        yield Dims(scheduler, pcpus, topology, speed, seed, kind, values, base, build)
