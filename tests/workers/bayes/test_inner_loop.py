import math

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import Batch, MetaPrior, Posterior, posterior_at
from workers.bayes.elbo import Objective, negative_elbo
from workers.bayes.estimators import Relaxed, ScoreFunction, StraightThrough
from workers.bayes.inner_loop import adapt, inner_step

NOISE_VARIANCE = 0.25
ESTIMATORS = [Relaxed(temperature=0.7), StraightThrough(temperature=0.7), ScoreFunction(num_samples=3)]


@pytest.mark.parametrize("family", ["gaussian", "delta"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_step_descends_the_gradient_of_the_negative_elbo(
    family, estimator, make_prior, make_head, make_task, make_objective, make_generator
):
    prior, batch = make_prior(0), make_task(0).query
    arrays = {**posterior_at(make_prior(1), make_head(1)).to_arrays()}
    objective = make_objective(family, estimator, weight_kl=0.6, arch_kl=0.4)
    moved = inner_step(
        Posterior.from_arrays(arrays),
        prior,
        batch,
        objective,
        num_examples=9,
        inner_lr=0.2,
        generator=make_generator(4),
    ).to_arrays()
    leaves = {key: value.clone().requires_grad_() for key, value in arrays.items()}
    posterior = Posterior.from_arrays(leaves)
    negative_elbo(posterior, prior, batch, objective, num_examples=9, generator=make_generator(4)).backward()
    for key, leaf in leaves.items():
        if family == "delta" and key.startswith("log_scale/"):
            assert moved[key] is arrays[key]
        else:
            torch.testing.assert_close(moved[key], arrays[key] - 0.2 * leaf.grad)
            assert leaf.grad.abs().max() > 0


def run(prior, head, task, objective, generator, **options):
    options = {"num_examples": 15, "num_inner_steps": 3, "inner_lr": 0.1, **options}
    return adapt(posterior_at(prior, head), prior, task.support, objective, generator=generator, **options)


def test_without_steps_the_posterior_is_the_prior(make_prior, make_head, make_task, make_objective, make_generator):
    prior = make_prior(0)
    posterior = run(prior, make_head(0), make_task(0), make_objective(), make_generator(0), num_inner_steps=0)
    assert all(posterior.to_arrays()[key] is value for key, value in prior.to_arrays().items())


def test_steps_cycle_through_the_batches_and_draw_their_noise_in_turn(
    make_prior, make_head, make_task, make_objective, make_generator
):
    prior, task, objective, generator = make_prior(0), make_task(0), make_objective(), make_generator(7)
    posterior = posterior_at(prior, make_head(0))
    for batch in (task.support[0], task.support[1], task.support[0]):
        posterior = inner_step(posterior, prior, batch, objective, num_examples=15, inner_lr=0.1, generator=generator)
    together = run(prior, make_head(0), task, objective, make_generator(7))
    for key, value in together.to_arrays().items():
        assert torch.equal(value, posterior.to_arrays()[key])


def test_a_tensor_that_nothing_depends_on_stays_the_very_same(
    make_prior, make_head, make_task, make_objective, make_generator
):
    prior = make_prior(0)
    objective = make_objective("delta", weight_kl=0.0, arch_kl=0.0)
    posterior = run(prior, make_head(0), make_task(0), objective, make_generator(0))
    assert torch.equal(posterior.loc["unused"], prior.loc["unused"])
    assert not torch.equal(posterior.loc["gain"], prior.loc["gain"])


def test_padded_logits_never_move(make_prior, make_head, make_task, make_objective, make_generator):
    prior = make_prior(0)
    for estimator in ESTIMATORS:
        posterior = run(prior, make_head(0), make_task(0), make_objective(estimator=estimator), make_generator(0))
        assert posterior.arch_logits[1, 3] == prior.arch_logits[1, 3]
        assert (posterior.arch_logits[1, :3] != prior.arch_logits[1, :3]).any()


def test_rates_name_groups_or_tensors_and_hold_the_rest_fixed(
    make_prior, make_head, make_task, make_objective, make_generator
):
    prior, head, task, objective = make_prior(0), make_head(0), make_task(0), make_objective()
    rates = {"loc": 0.1, "loc/stem": 0.0, "head": 0.2}
    mixed = run(prior, head, task, objective, make_generator(0), num_inner_steps=1, inner_lr=rates)
    even = run(prior, head, task, objective, make_generator(0), num_inner_steps=1, inner_lr=0.1)
    assert torch.equal(mixed.loc["stem"], prior.loc["stem"])
    assert torch.equal(mixed.arch_logits, prior.arch_logits)
    assert torch.equal(mixed.log_scale["gain"], prior.log_scale["gain"])
    assert torch.equal(mixed.loc["gain"], even.loc["gain"])
    torch.testing.assert_close(
        mixed.head["classifier"] - head["classifier"], 2 * (even.head["classifier"] - head["classifier"])
    )


@pytest.mark.parametrize("inner_lr", [-0.1, float("nan"), {"loc/typo": 0.1}, {"weights": 0.1}, {"loc": -1.0}])
def test_a_rate_that_is_bad_or_names_nothing_is_refused(
    inner_lr, make_prior, make_head, make_task, make_objective, make_generator
):
    with pytest.raises(InvalidOptionError, match="inner_lr"):
        run(make_prior(0), make_head(0), make_task(0), make_objective(), make_generator(0), inner_lr=inner_lr)


def test_a_rate_for_the_fixed_scales_of_the_delta_family_is_refused(
    make_prior, make_head, make_task, make_objective, make_generator
):
    objective, rates = make_objective("delta"), {"log_scale": 0.1}
    with pytest.raises(InvalidOptionError, match="names nothing"):
        run(make_prior(0), make_head(0), make_task(0), objective, make_generator(0), inner_lr=rates)


def test_inputs_are_left_alone_and_the_result_carries_no_graph(
    make_prior, make_head, make_task, make_objective, make_generator
):
    prior = MetaPrior.from_arrays({k: v.requires_grad_() for k, v in make_prior(0).to_arrays().items()})
    before = {key: value.detach().clone() for key, value in prior.to_arrays().items()}
    posterior = run(prior, make_head(0), make_task(0), make_objective(), make_generator(0))
    assert all(torch.equal(value, before[key]) for key, value in prior.to_arrays().items())
    assert not any(value.requires_grad for value in posterior.to_arrays().values())


def linear(theta, op_weights, batch):
    """Gaussian negative log-likelihood of a linear model, up to a constant; its choice scales nothing."""
    return (batch.labels - batch.images @ theta["w"]).square() / (2 * NOISE_VARIANCE) + 0 * op_weights.sum()


def linear_problem(num_examples=20, num_weights=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_examples, num_weights, generator=generator, dtype=torch.float64)
    labels = images @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    labels = labels + NOISE_VARIANCE**0.5 * torch.randn(num_examples, generator=generator, dtype=torch.float64)
    prior = MetaPrior(
        torch.zeros(1, 1, dtype=torch.float64),
        {"w": torch.zeros(num_weights, dtype=torch.float64)},
        {"w": torch.full((num_weights,), math.log(0.7), dtype=torch.float64)},
    )
    return prior, Batch(images=images, labels=labels)


def linear_objective(family, weight_kl=1.0):
    return Objective(
        likelihood=linear, estimator=Relaxed(temperature=1.0), family=family, weight_kl=weight_kl, arch_kl=0.0
    )


def test_the_conjugate_gaussian_posterior_of_a_linear_model_is_recovered(make_generator):
    prior, batch = linear_problem()
    precision = batch.images.T @ batch.images / NOISE_VARIANCE + torch.diag(torch.exp(-2 * prior.log_scale["w"]))
    mean = torch.linalg.solve(precision, batch.images.T @ batch.labels / NOISE_VARIANCE)
    scale = precision.diagonal().rsqrt()  # of the best factorized Gaussian
    posterior, objective, generator = posterior_at(prior, {}), linear_objective("gaussian"), make_generator(1)
    num_burned, num_averaged = 600, 3000
    means, log_scales = [], []
    for _ in range(num_burned + num_averaged):
        posterior = inner_step(
            posterior,
            prior,
            batch,
            objective,
            num_examples=20,
            inner_lr={"loc": 0.1, "log_scale": 0.2},
            generator=generator,
        )
        means.append(posterior.loc["w"])
        log_scales.append(posterior.log_scale["w"])
    # Gradient noise is precision @ (scale * eps): averaged iterates err by scale * eps / sqrt(number).
    found_mean = torch.stack(means[num_burned:]).mean(0)
    assert ((found_mean - mean).abs() < 5 * scale / num_averaged**0.5).all()
    # The log-scale's gradient noise is eps^2 - 1 and cross terms, of standard deviation below 2; curvature 2.
    found_log_scale = torch.stack(log_scales[num_burned:]).mean(0)
    assert ((found_log_scale - scale.log()).abs() < 5 / num_averaged**0.5).all()
    assert ((prior.log_scale["w"] - scale.log()).abs() > 1).all()


def test_delta_ends_at_the_maximum_a_posteriori(make_generator):
    prior, batch = linear_problem()
    precision = batch.images.T @ batch.images / NOISE_VARIANCE + torch.diag(torch.exp(-2 * prior.log_scale["w"]))
    mean = torch.linalg.solve(precision, batch.images.T @ batch.labels / NOISE_VARIANCE)
    posterior = adapt(
        posterior_at(prior, {}),
        prior,
        [batch],
        linear_objective("delta"),
        num_examples=20,
        num_inner_steps=400,
        inner_lr=0.1,
        generator=make_generator(0),
    )
    torch.testing.assert_close(posterior.loc["w"], mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["gaussian", "delta"])
def test_a_growing_kl_weight_pins_the_posterior_to_the_prior(
    family, make_prior, make_head, make_task, make_objective, make_generator
):
    prior, task = make_prior(0), make_task(0)

    def distance(kl_factor):
        """Largest distance from the prior after steps that descend the KL's curvature, which grows with its factor."""
        objective = make_objective(family, weight_kl=kl_factor, arch_kl=kl_factor)
        rates = {"arch_logits": 1.0, "loc": 0.02, "log_scale": 0.02}
        rates = {
            key: rate * 15 / kl_factor for key, rate in rates.items() if family == "gaussian" or key != "log_scale"
        }
        posterior = run(
            prior, make_head(0), task, objective, make_generator(0), num_inner_steps=40, inner_lr=rates
        ).to_arrays()
        return max(float((posterior[key] - value).abs().max()) for key, value in prior.to_arrays().items())

    far, near, nearer = distance(1e2), distance(1e4), distance(1e6)
    assert far > 1e-3
    # Near the prior the distance is N / lambda times a fixed vector.
    assert near == pytest.approx(far / 100, rel=0.5)
    assert nearer == pytest.approx(near / 100, rel=0.05)
