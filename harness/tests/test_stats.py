# SPDX-License-Identifier: GPL-2.0-only
"""The statistics, on made-up data: every answer is seen, the wrong ones too."""

from __future__ import annotations

import random

import pytest
from schedlab import stats
from schedlab.stats import Answer


def normal(mean: float, deviation: float, count: int = 10, seed: int = 1) -> list[float]:
    """A sample."""
    draw = random.Random(seed)
    return [draw.gauss(mean, deviation) for _ in range(count)]


def test_turns() -> None:
    """As often each, and a steady drift falls on both alike; one alone has all turns."""
    order = "".join(name for name, _ in stats.turns("AB", 10))
    assert order.startswith("ABBAABBA") and order.count("A") == order.count("B") == 10
    at = {which: sum(i for i, one in enumerate(order) if one == which) for which in "AB"}
    assert at["A"] == at["B"]
    assert stats.turns("AB", 2) == [("A", 1), ("B", 1), ("B", 2), ("A", 2)]
    assert stats.turns(["one"], 2) == [("one", 1), ("one", 2)]


def test_by_hand() -> None:
    """Two values each, all arrangements counted by hand."""
    # Signs of (1, 2): 3, -1, 1, -3; as low as -3 is one of four.
    assert stats.p_mean_below([-1.0, -2.0], 0.0) == 0.25
    assert stats.p_mean_below([1.0, 2.0], 0.0) == 1.0
    # b = (1, 2) of 1, 2, 3, 4: the lowest of six pairs.
    assert stats.p_difference_below([3.0, 4.0], [1.0, 2.0], 0.0) == pytest.approx(1 / 6)
    assert stats.p_difference_below([1.0, 2.0], [3.0, 4.0], 0.0) == 1.0


@pytest.mark.parametrize(
    ("mean", "answer"), [(0.5, Answer.YES), (1.5, Answer.NO), (1.0, Answer.UNDECIDED)]
)
def test_mean_at_most(mean: float, answer: Answer) -> None:
    """Below the bound, above it, and on it."""
    assert stats.mean_at_most(normal(mean, 0.1, seed=3), 1.0) == answer


def test_noise_is_undecided() -> None:
    """A mean on the right side is not enough where the spread is wide."""
    values = normal(0.9, 2.0, seed=5)
    assert stats.mean_at_most(values, sum(values) / 10 + 0.1) == Answer.UNDECIDED


def test_too_few() -> None:
    """Nine say nothing, however clear."""
    assert stats.mean_at_most([0.0] * 9, 1.0) == Answer.UNDECIDED
    assert stats.mean_at_most([0.0] * 10, 1.0) == Answer.YES
    assert stats.mean_at_most([2.0] * 10, 1.0) == Answer.NO
    assert stats.alike([0.0] * 9, [0.0] * 10, 1.0) == Answer.UNDECIDED


@pytest.mark.parametrize(
    ("apart", "answer"),
    [(0.0, Answer.YES), (0.9, Answer.NO), (-0.9, Answer.NO), (0.5, Answer.UNDECIDED)],
)
def test_alike(apart: float, answer: Answer) -> None:
    """Alike within 0.5; apart by more, either way; and just there."""
    a, b = normal(10, 0.1, seed=1), normal(10, 0.1, seed=2)
    shift = apart + sum(a) / 10 - sum(b) / 10
    assert stats.alike(a, [value + shift for value in b], 0.5) == answer


def test_alike_needs_power() -> None:
    """That no difference is seen does not show that there is none."""
    assert stats.alike(normal(10, 5, seed=1), normal(10, 5, seed=2), 0.5) == Answer.UNDECIDED


def test_how_often_it_errs() -> None:
    """On the bound itself, where each side is wrong, either is claimed in few of 300 samples."""
    claimed = [stats.mean_at_most(normal(1.0, 0.1, seed=seed), 1.0) for seed in range(300)]
    assert claimed.count(Answer.YES) <= 9 and claimed.count(Answer.NO) <= 9
    assert claimed.count(Answer.YES) + claimed.count(Answer.NO) > 0


def test_majority() -> None:
    """Ten of ten and none of ten are clear; seven are not."""
    assert stats.majority(10, 10) == Answer.YES
    assert stats.majority(0, 10) == Answer.NO
    assert stats.majority(7, 10) == Answer.UNDECIDED


def test_drawn() -> None:
    """Beyond what can be counted out it is drawn, the same each time, and close to the truth."""
    values = [-1.0] * 12 + [1.0] * 8
    many = stats.p_mean_below(values, 0.0)
    assert many == stats.p_mean_below(values, 0.0)
    # P(at least 12 of 20 coins) = 0.2517.
    assert many == pytest.approx(0.2517, abs=0.02)
