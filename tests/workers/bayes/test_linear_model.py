"""Regression on centered groups: known effects recovered, blocks that do nothing left out."""

import math

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.linear_model import NUM_BEFORE, LinearFit, Moments, fit

NOISE = 0.5
EFFECTS = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0], dtype=torch.float64)
BLOCKS = (3, 2)


def observed(num_groups: int, noise: float = NOISE) -> Moments:
    generator = torch.Generator().manual_seed(0)
    groups = []
    for level in range(num_groups):
        rows = torch.randn(8, 5, dtype=torch.float64, generator=generator)
        scatter = torch.randn(8, dtype=torch.float64, generator=generator)
        groups.append(Moments.of_group(rows + level, rows @ EFFECTS + noise * scatter + 100 * level))
    return Moments.total(groups)


def test_effects_and_noise_are_found_whatever_the_levels_of_the_groups() -> None:
    found = fit(observed(200), BLOCKS)
    # Standard error of an effect: sigma / sqrt(n) = 0.5 / sqrt(1400), of sigma: sigma / sqrt(2 n).
    torch.testing.assert_close(found.effects_Q, EFFECTS, atol=4 * NOISE / math.sqrt(1400), rtol=0)
    assert found.noise == pytest.approx(NOISE, abs=4 * NOISE / math.sqrt(2800))


def test_a_block_without_effect_is_left_out() -> None:
    found = fit(observed(200), BLOCKS)
    assert found.ratios[0] > 0
    assert found.ratios[1] == 0
    assert torch.equal(found.effects_Q[3:], torch.zeros(2, dtype=torch.float64))


def test_the_mean_is_that_of_the_conjugate_posterior() -> None:
    moments = observed(3)
    found = fit(moments, (5,))
    precision = moments.gram_QQ + torch.eye(5, dtype=torch.float64) / found.ratios[0]
    torch.testing.assert_close(found.effects_Q, torch.linalg.solve(precision, moments.cross_Q))


def test_the_evidence_is_that_of_a_multivariate_t() -> None:
    # Up to a constant it is the density of the centered targets with the effects integrated out: compared as a
    # difference between two ratios, where constants drop out.
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    targets = rows @ torch.tensor([1.0, 1.0], dtype=torch.float64)
    targets = targets + torch.randn(6, dtype=torch.float64, generator=generator)
    moments = Moments.of_group(rows, targets)
    rows, targets = rows - rows.mean(dim=0), targets - targets.mean()

    def log_density(ratio: float) -> float:
        covariance = torch.eye(6, dtype=torch.float64) + ratio * rows @ rows.T
        before = NUM_BEFORE * float(targets @ targets) / 5
        square = float(targets @ torch.linalg.solve(covariance, targets)) + before
        return -0.5 * (float(torch.logdet(covariance)) + (5 + NUM_BEFORE) * math.log(square))

    chosen = fit(moments, (2,))
    best = max((4.0**power for power in range(-8, 6)), key=log_density)
    assert chosen.ratios == (best,)
    left_out = fit(Moments.of_group(torch.zeros(6, 2), targets), (2,))
    assert chosen.log_evidence - left_out.log_evidence == pytest.approx(log_density(best) - log_density(0.0))


def test_few_observations_do_not_make_the_noise_vanish() -> None:
    rows = torch.eye(5, dtype=torch.float64)
    targets = torch.tensor([1.0, 0.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    assert fit(Moments.of_group(rows, targets), (5,)).noise > 0.3 * float(targets.std())


@pytest.mark.parametrize("blocks", [(3,), (3, 3)])
def test_blocks_that_do_not_fit_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOptionError, match="blocks"):
        fit(observed(1), blocks)


def test_equal_targets_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="nothing apart"):
        fit(Moments.of_group(torch.eye(5), torch.ones(5)), (5,))


def test_more_groups_make_the_model_surer() -> None:
    few, many = fit(observed(2), (5,)), fit(observed(50), (5,))

    def distance(found: LinearFit) -> float:
        return float((found.effects_Q - EFFECTS).norm())

    assert distance(many) < distance(few)
