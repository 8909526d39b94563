from dataclasses import replace

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import Batch, Posterior, posterior_at
from workers.bayes.elbo import draw_weights, expected_nll, negative_elbo
from workers.bayes.estimators import Relaxed, ScoreFunction, StraightThrough
from workers.bayes.kl import kl_divergence


@pytest.fixture
def setting(make_prior, make_head, make_task):
    prior = make_prior(0)
    return posterior_at(make_prior(1), make_head(2)), prior, make_task(3)


@pytest.mark.parametrize("family", ["gaussian", "delta"])
def test_it_is_the_nll_plus_each_kl_times_its_own_lambda_over_the_number_of_examples(
    setting, make_objective, make_generator, family
):
    posterior, prior, task = setting
    objective = make_objective(family, weight_kl=0.3, arch_kl=50.0)
    value = negative_elbo(posterior, prior, task.query, objective, num_examples=20, generator=make_generator(0))
    nll = expected_nll(posterior, task.query, objective, make_generator(0))
    weight_kl, arch_kl = kl_divergence(posterior, prior, family)
    assert weight_kl > 0
    assert arch_kl > 0
    torch.testing.assert_close(value, nll + 0.3 * weight_kl / 20 + 50.0 * arch_kl / 20)


def test_duplicating_the_data_halves_the_share_of_the_kl(setting, make_objective, make_generator):
    posterior, prior, task = setting
    objective = make_objective()
    twice = Batch(images=task.query.images.repeat(2, 1), labels=task.query.labels.repeat(2))
    once_value = negative_elbo(posterior, prior, task.query, objective, num_examples=6, generator=make_generator(0))
    twice_value = negative_elbo(posterior, prior, twice, objective, num_examples=12, generator=make_generator(0))
    nll = expected_nll(posterior, task.query, objective, make_generator(0))
    torch.testing.assert_close(twice_value - nll, (once_value - nll) / 2)
    assert once_value - nll > 0.1


def test_at_the_prior_it_is_the_nll_alone(make_prior, make_head, make_task, make_objective, make_generator):
    prior, task = make_prior(0), make_task(0)
    posterior, objective = posterior_at(prior, make_head(0)), make_objective(weight_kl=1e6, arch_kl=1e6)
    value = negative_elbo(posterior, prior, task.query, objective, num_examples=1, generator=make_generator(0))
    assert value == expected_nll(posterior, task.query, objective, make_generator(0))


def test_drawn_weights_have_the_mean_and_scale_of_the_posterior(make_generator):
    num_draws, scale = 20_000, torch.tensor(0.5, dtype=torch.float64)
    loc = torch.full((num_draws,), 3.0, dtype=torch.float64)
    posterior = Posterior(torch.zeros(1, 1), {"w": loc}, {"w": scale.log()})
    drawn = draw_weights(posterior, "gaussian", make_generator(0))["w"]
    assert abs(drawn.mean() - 3.0) < 5 * 0.5 / num_draws**0.5
    assert abs(drawn.std() - 0.5) < 5 * 0.5 / (2 * num_draws) ** 0.5
    assert draw_weights(posterior, "delta", make_generator(0))["w"] is loc


def test_the_noise_does_not_depend_on_the_order_in_which_tensors_were_loaded(make_prior, make_generator):
    posterior = posterior_at(make_prior(0), {})
    backwards = replace(posterior, loc=dict(reversed(list(posterior.loc.items()))))
    one, other = (draw_weights(q, "gaussian", make_generator(0)) for q in (posterior, backwards))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_gradient_reaches_posterior_head_and_prior(setting, make_objective, make_generator):
    posterior, prior, task = setting
    leaves = {key: value.clone().requires_grad_() for key, value in posterior.to_arrays().items()}
    priors = {key: value.clone().requires_grad_() for key, value in prior.to_arrays().items()}
    negative_elbo(
        Posterior.from_arrays(leaves),
        type(prior).from_arrays(priors),
        task.query,
        make_objective(),
        num_examples=10,
        generator=make_generator(0),
    ).backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in (*leaves.values(), *priors.values()))


@pytest.mark.parametrize(
    "estimator", [Relaxed(temperature=0.5), StraightThrough(temperature=0.5), ScoreFunction(num_samples=3)]
)
def test_every_estimator_gives_padded_options_exactly_zero_gradient(estimator, setting, make_objective, make_generator):
    posterior, prior, task = setting
    logits = posterior.arch_logits.clone().requires_grad_()
    value = negative_elbo(
        replace(posterior, arch_logits=logits),
        prior,
        task.query,
        make_objective(estimator=estimator),
        num_examples=10,
        generator=make_generator(0),
    )
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()
    assert gradient[1, 3] == 0
    assert gradient[1, :3].abs().max() > 0


@pytest.mark.parametrize(
    "options", [{"family": "laplace"}, {"weight_kl": -1.0}, {"arch_kl": float("inf")}, {"weight_kl": float("nan")}]
)
def test_an_objective_refuses_what_it_cannot_mean(make_objective, options):
    with pytest.raises(InvalidOptionError):
        make_objective(**options)
