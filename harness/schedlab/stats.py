# SPDX-License-Identifier: GPL-2.0-only
"""Statistics for real time, where a measurement is a sample and not a fact.  Pure functions.

Every question has three answers: shown to be so, shown not to be so, or undecided, which is no
pass.  The tests are permutation tests (Fisher): exact, without a distribution assumed, where that
is at most EXACT arrangements; else DRAWS of them, drawn with a fixed seed.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from enum import Enum
from statistics import fmean

# Fewer say nothing: ten are the least whose signs can be 1 % unlikely with room to spare (2^-10).
LEAST_RUNS = 10
ALPHA = 0.01
EXACT = 200_000
DRAWS = 20_000


class Answer(Enum):
    """What a sample shows."""

    YES = "shown"
    NO = "refuted"
    UNDECIDED = "undecided"


def turns(names: Sequence[str], runs: int) -> list[tuple[str, int]]:
    """Whose turn it is, and which of its runs (from 1) that is.

    Of two things in the order ABBAABBA…, so that a steady drift falls on both.
    """
    order = (names, names[::-1])
    return [(name, number) for number in range(1, runs + 1) for name in order[(number - 1) % 2]]


def p_mean_below(values: Sequence[float], bound: float) -> float:
    """How likely is a mean as low as this, or lower, if the true one were ``bound``?

    By flipping the signs of the distances from ``bound``, which is fair where they are symmetric.
    """
    distances = [value - bound for value in values]
    return _share(_flipped(distances), sum(distances))


def p_difference_below(a: Sequence[float], b: Sequence[float], bound: float) -> float:
    """How likely is a mean(b) - mean(a) as low as this, or lower, if it were ``bound`` in truth?

    By exchanging who is of a, and who of b.
    """
    moved = [value - bound for value in b]
    # For given sizes the difference grows with b's sum alone.
    return _share(_exchanged([*a, *moved], len(moved)), math.fsum(moved))


def _share(sums: Iterator[float], seen: float) -> float:
    """The part of the arrangements that are as low as what was seen, which is one of them."""
    slack = 1e-9 * max(1.0, abs(seen))
    low = total = 0
    for one in sums:
        total += 1
        low += one <= seen + slack
    return low / total


def _flipped(values: Sequence[float]) -> Iterator[float]:
    if 2 ** len(values) <= EXACT:
        for signs in itertools.product((1, -1), repeat=len(values)):
            yield sum(sign * abs(value) for sign, value in zip(signs, values))
        return
    draw = random.Random(1)
    yield sum(values)
    for _ in range(DRAWS):
        yield sum(abs(value) * draw.choice((1, -1)) for value in values)


def _exchanged(values: Sequence[float], size: int) -> Iterator[float]:
    if math.comb(len(values), size) <= EXACT:
        for chosen in itertools.combinations(values, size):
            yield math.fsum(chosen)
        return
    draw = random.Random(1)
    yield math.fsum(values[-size:])
    for _ in range(DRAWS):
        yield math.fsum(draw.sample(values, size))


def majority(count: int, of: int, alpha: float = ALPHA) -> Answer:
    """Whether it is more than every second one (sign test)."""

    def tail(least: int) -> float:
        return sum(math.comb(of, k) for k in range(least, of + 1)) / float(2**of)

    if tail(count) < alpha:
        return Answer.YES
    return Answer.NO if tail(of - count) < alpha else Answer.UNDECIDED


def mean_at_most(values: Sequence[float], bound: float, alpha: float = ALPHA) -> Answer:
    """Whether the true mean is at most ``bound``; undecided with fewer than LEAST_RUNS values."""
    if len(values) < LEAST_RUNS:
        return Answer.UNDECIDED
    if all(value == values[0] for value in values):
        # No spread: nothing to test.
        return Answer.YES if values[0] <= bound else Answer.NO
    if p_mean_below(values, bound) < alpha:
        return Answer.YES
    if p_mean_below([-value for value in values], -bound) < alpha:
        return Answer.NO
    return Answer.UNDECIDED


def alike(a: Sequence[float], b: Sequence[float], threshold: float, alpha: float = ALPHA) -> Answer:
    """Whether the true means differ by at most ``threshold``; undecided with too few values."""
    if min(len(a), len(b)) < LEAST_RUNS:
        return Answer.UNDECIDED
    above = p_difference_below(a, b, threshold) < alpha
    below = p_difference_below(b, a, threshold) < alpha
    if above and below:
        return Answer.YES
    apart = fmean(b) - fmean(a)
    one, two = (a, b) if apart > 0 else (b, a)
    # Shown to be apart by more than the threshold: its opposite is refuted.
    if abs(apart) > threshold and p_difference_below(two, one, -threshold) < alpha:
        return Answer.NO
    return Answer.UNDECIDED


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
    seen = abs(fmean(a) - fmean(b))
    # Sums in another order differ in the last digit.
    slack = 1e-12 * (1.0 + max(abs(value) for value in both))

    def as_large(part: Sequence[float]) -> bool:
        one = math.fsum(part)
        return abs(one / count - (total - one) / len(b)) >= seen - slack

    ways = math.comb(len(both), count)
    if ways <= DRAWS:
        return sum(map(as_large, itertools.combinations(both, count))) / ways
    chance = random.Random(1)
    hits = sum(as_large(chance.sample(both, count)) for _ in range(DRAWS))
    return (hits + 1) / (DRAWS + 1)
