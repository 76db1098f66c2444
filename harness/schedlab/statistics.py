# SPDX-License-Identifier: GPL-2.0-only
"""Statistics for what is measured in real time.  Pure functions.

In virtual time none of this is needed: one run is the value, and a difference is a difference.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

# Below this many runs a side nothing is concluded (DESIGN.md, determinism, KVM).
ENOUGH = 10
# All ways to deal the values out are tried up to this many; beyond, so many at random.
_MOST_WAYS = 20_000
_SEED = 1


def mean(values: Sequence[float]) -> float:
    """Of one value at least."""
    return math.fsum(values) / len(values)


def quantile(values: Sequence[float], part: float) -> float:
    """Linear between the neighbours, as numpy's default; ``part`` from 0 to 1."""
    ordered = sorted(values)
    at = part * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def permutation_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the difference of means: how often chance deals out one as large (Fisher).

    Exact where there are few ways, else by sampling with a fixed seed, in which the dealing that
    was seen counts as one (so p is never 0).
    """
    both = [*a, *b]
    total, count = math.fsum(both), len(a)
    seen = abs(mean(a) - mean(b))
    # Sums in another order differ in the last digit.
    slack = 1e-12 * (1.0 + max(abs(value) for value in both))

    def as_large(part: Sequence[float]) -> bool:
        one = math.fsum(part)
        return abs(one / count - (total - one) / len(b)) >= seen - slack

    ways = math.comb(len(both), count)
    if ways <= _MOST_WAYS:
        return sum(map(as_large, itertools.combinations(both, count))) / ways
    chance = random.Random(_SEED)
    hits = sum(as_large(chance.sample(both, count)) for _ in range(_MOST_WAYS))
    return (hits + 1) / (_MOST_WAYS + 1)
