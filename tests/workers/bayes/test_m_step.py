from dataclasses import replace

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import posterior_at
from workers.bayes.kl_gradients import kl_gradient_by_prior
from workers.bayes.m_step import m_step
from workers.bayes.meta_gradient import MetaGradient

NUM_EXAMPLES = (10, 25, 40)


@pytest.fixture
def posteriors(make_prior):
    return [posterior_at(make_prior(seed), {}) for seed in (1, 2, 3)]


def sent(posteriors, prior, outer):
    """What the rule `kl` sends for these posteriors."""
    return [
        MetaGradient(
            version=0,
            slot=slot,
            num_examples=num_examples,
            arrays=kl_gradient_by_prior(
                posterior,
                prior,
                outer.family,
                weight_factor=outer.weight_kl / num_examples,
                arch_factor=outer.arch_kl / num_examples,
            ),
            loss=0.0,
        )
        for slot, (posterior, num_examples) in enumerate(zip(posteriors, NUM_EXAMPLES, strict=True))
    ]


def test_it_is_the_mean_of_the_tasks_their_spread_and_their_mean_probabilities(make_prior, make_objective, posteriors):
    prior, outer = make_prior(0), make_objective(weight_kl=0.4, arch_kl=30.0)
    found = m_step(prior, sent(posteriors, prior, outer), outer)
    for name, loc in prior.loc.items():
        mean = torch.stack([q.loc[name] for q in posteriors]).mean(0)
        second = [torch.exp(2 * q.log_scale[name]) + (q.loc[name] - mean).square() for q in posteriors]
        variance = torch.stack(second).mean(0)
        shape = prior.log_scale[name].shape  # a shared scale is the mean over the weights that share it
        variance = variance.sum_to_size(shape) * (prior.log_scale[name].numel() / loc.numel())
        torch.testing.assert_close(found.loc[name], mean)
        torch.testing.assert_close(torch.exp(2 * found.log_scale[name]), variance)
    probabilities = torch.stack([torch.softmax(q.arch_logits, -1) for q in posteriors]).mean(0)
    torch.testing.assert_close(torch.softmax(found.arch_logits, -1), probabilities)
    assert found.arch_logits[1, 3] == prior.arch_logits[1, 3]


@pytest.mark.parametrize("damping", [0.0, 0.6])
def test_its_fixed_point_is_where_the_mean_gradient_is_zero(make_prior, make_objective, posteriors, damping):
    outer = make_objective()
    fitted = m_step(make_prior(0), sent(posteriors, make_prior(0), outer), outer)
    again = m_step(fitted, sent(posteriors, fitted, outer), outer, damping=damping)
    torch.testing.assert_close(torch.softmax(again.arch_logits, -1), torch.softmax(fitted.arch_logits, -1))
    for name in fitted.loc:
        torch.testing.assert_close(again.loc[name], fitted.loc[name])
        torch.testing.assert_close(again.log_scale[name], fitted.log_scale[name])
    for key in fitted.to_arrays():
        bare = [n * g.arrays[key] for n, g in zip(NUM_EXAMPLES, sent(posteriors, fitted, outer), strict=True)]
        assert torch.stack(bare).mean(0).abs().max() < 1e-9
    assert (fitted.loc["stem"] - make_prior(0).loc["stem"]).abs().max() > 0.1


def test_damping_interpolates_means_variances_and_probabilities(make_prior, make_objective, posteriors):
    prior, outer = make_prior(0), make_objective()
    whole = m_step(prior, sent(posteriors, prior, outer), outer)
    part = m_step(prior, sent(posteriors, prior, outer), outer, damping=0.75)
    for name in prior.loc:
        torch.testing.assert_close(part.loc[name], 0.75 * prior.loc[name] + 0.25 * whole.loc[name])
        variances = [torch.exp(2 * p.log_scale[name]) for p in (prior, whole, part)]
        torch.testing.assert_close(variances[2], 0.75 * variances[0] + 0.25 * variances[1])
    chances = [torch.softmax(p.arch_logits, -1) for p in (prior, whole, part)]
    torch.testing.assert_close(chances[2], 0.75 * chances[0] + 0.25 * chances[1])


def test_without_spread_the_prior_contracts_to_the_common_posterior(make_prior, make_objective):
    prior, outer = make_prior(0), make_objective()
    common = posterior_at(make_prior(1), {})
    found = m_step(prior, sent([common] * 3, prior, outer), outer)
    for name in ("gain",):  # its scale is not shared
        torch.testing.assert_close(found.log_scale[name], common.log_scale[name])


def test_a_mean_far_from_the_prior_in_single_precision_still_leaves_a_scale(make_prior, make_objective):
    prior, outer = make_prior(0), make_objective()
    prior = type(prior).from_arrays({key: value.float() for key, value in prior.to_arrays().items()})
    far = posterior_at(replace(prior, loc={name: value + 1e4 for name, value in prior.loc.items()}), {})
    found = m_step(prior, sent([far] * 3, prior, outer), outer)
    assert all(value.isfinite().all() for value in found.to_arrays().values())


def test_what_has_no_kl_weight_or_is_fixed_stays(make_prior, make_objective, posteriors):
    prior = make_prior(0)
    outer = make_objective("delta", arch_kl=0.0)
    gradients = [
        replace(g, arrays={**g.arrays, "arch_logits": torch.zeros(2, 4)}) for g in sent(posteriors, prior, outer)
    ]
    found = m_step(prior, gradients, outer)
    assert torch.equal(found.arch_logits, prior.arch_logits)
    assert all(torch.equal(found.log_scale[name], prior.log_scale[name]) for name in prior.loc)
    assert not torch.equal(found.loc["stem"], prior.loc["stem"])


@pytest.mark.parametrize("damping", [-0.1, 1.0, float("nan")])
def test_a_damping_that_never_moves_or_overshoots_is_refused(make_prior, make_objective, posteriors, damping):
    prior, outer = make_prior(0), make_objective()
    with pytest.raises(InvalidOptionError, match="damping"):
        m_step(prior, sent(posteriors, prior, outer), outer, damping=damping)
