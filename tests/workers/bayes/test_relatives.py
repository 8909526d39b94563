"""MAML, FOMAML, Reptile, SNAS, GDAS and DARTS, written here from their own papers, against the settings that are them.

All of them share one model, a mixture of two layers and a linear readout on regression data, written twice: as a
likelihood for our code, and on plain lists of parameters for theirs.
"""

from math import exp

import pytest
import torch

from workers.bayes.aggregate import aggregate
from workers.bayes.distributions import Batch, MetaPrior, Task, posterior_at
from workers.bayes.elbo import Objective
from workers.bayes.estimators import Relaxed, StraightThrough
from workers.bayes.inner_loop import adapt, inner_step
from workers.bayes.meta_gradient import meta_gradient

INNER_LR, NUM_STEPS = 0.2, 3
NAMES = ("first", "second", "readout")


def random_parameters(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, 2), (4, 2), (4,))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def random_batch(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 2, generator=generator, dtype=torch.float64)
    return Batch(images=images, labels=torch.randn(size, generator=generator, dtype=torch.float64))


def likelihood(theta, op_weights, batch):
    first, second = torch.tanh(batch.images @ theta["first"].T), torch.sin(batch.images @ theta["second"].T)
    mixed = op_weights[0, 0] * first + op_weights[0, 1] * second
    return (mixed @ theta["readout"] - batch.labels).square()


def their_loss(parameters, mixture, batch):
    first, second, readout = parameters
    outputs = torch.tanh(batch.images @ first.T), torch.sin(batch.images @ second.T)
    prediction = sum(weight * output for weight, output in zip(mixture, outputs, strict=True)) @ readout
    return torch.nn.functional.mse_loss(prediction, batch.labels)


def make_prior(seed, log_scale=0.0):
    parameters = dict(zip(NAMES, random_parameters(seed), strict=True))
    scales = {name: torch.full((), log_scale, dtype=torch.float64) for name in NAMES}
    return MetaPrior(torch.zeros(1, 2, dtype=torch.float64), parameters, scales)


def objective(estimator, *, weight_kl=0.0):
    return Objective(likelihood=likelihood, estimator=estimator, family="delta", weight_kl=weight_kl, arch_kl=0.0)


def ask(rule, task, *, prior=None, outer=None, inner_lr=INNER_LR):
    deterministic = objective(Relaxed(temperature=1.0, noisy=False))
    return meta_gradient(
        rule,
        prior or make_prior(0),
        {},
        task,
        inner=deterministic,
        outer=outer or deterministic,
        num_inner_steps=NUM_STEPS,
        inner_lr=inner_lr,
        generator=torch.Generator(),
        version=0,
        slot=0,
    )


@pytest.fixture
def task():
    return Task(support=[random_batch(seed) for seed in range(NUM_STEPS)], query=random_batch(9), num_examples=24)


def test_unrolled_delta_without_kl_is_maml(task):
    def after_adaptation(*parameters):
        logits, *weights = parameters
        for batch in task.support:
            slopes = torch.func.grad(
                lambda p, batch=batch: their_loss(p[1:], torch.softmax(p[0], 0), batch)  # MAML: every parameter steps
            )((logits, *weights))
            logits, *weights = (p - INNER_LR * slope for p, slope in zip((logits, *weights), slopes, strict=True))
        return their_loss(weights, torch.softmax(logits, 0), task.query)

    start = (torch.zeros(2, dtype=torch.float64), *random_parameters(0))
    expected = torch.func.grad(after_adaptation, argnums=(0, 1, 2, 3))(*start)
    found = ask("unrolled", task).arrays
    torch.testing.assert_close(found["arch_logits"][0], expected[0])
    for name, value in zip(NAMES, expected[1:], strict=True):
        torch.testing.assert_close(found[f"loc/{name}"], value)
    assert (found["loc/first"] - ask("first_order", task).arrays["loc/first"]).abs().max() > 1e-3


def adapted_by_sgd(batches):
    """Weights and logits after plain SGD with torch's own optimizer."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    weights = [p.requires_grad_() for p in random_parameters(0)]
    optimizer = torch.optim.SGD([logits, *weights], lr=INNER_LR)
    for batch in batches:
        optimizer.zero_grad()
        their_loss(weights, torch.softmax(logits, 0), batch).backward()
        optimizer.step()
    optimizer.zero_grad()
    return logits, weights


def test_first_order_delta_without_kl_is_fomaml(task):
    logits, weights = adapted_by_sgd(task.support)
    their_loss(weights, torch.softmax(logits, 0), task.query).backward()
    found = ask("first_order", task).arrays
    torch.testing.assert_close(found["arch_logits"][0], logits.grad)
    for name, weight in zip(NAMES, weights, strict=True):
        torch.testing.assert_close(found[f"loc/{name}"], weight.grad)


def test_kl_with_fixed_scale_and_plain_sgd_is_reptile():
    log_scale, weight_kl, meta_lr = -0.4, 0.8, 5.0
    # `kl` adapts on support and query together, so that the query is the last batch.
    tasks = [
        Task(support=[random_batch(10 * t), random_batch(10 * t + 1)], query=random_batch(10 * t + 2), num_examples=18)
        for t in range(3)
    ]
    prior = make_prior(0, log_scale)
    outer = objective(Relaxed(temperature=1.0, noisy=False), weight_kl=weight_kl)
    gradients = [ask("kl", task, prior=prior, outer=outer) for task in tasks]
    gradients = [
        type(g)(version=0, slot=t, num_examples=18, arrays=g.arrays, loss=0.0) for t, g in enumerate(gradients)
    ]
    mean = aggregate(gradients).arrays
    epsilon = meta_lr * weight_kl / (18 * exp(2 * log_scale))
    adapted = [adapted_by_sgd([*task.support, task.query])[1] for task in tasks]
    for index, (name, start) in enumerate(zip(NAMES, random_parameters(0), strict=True)):
        reptile = start + epsilon * torch.stack([weights[index].detach() - start for weights in adapted]).mean(0)
        torch.testing.assert_close(prior.loc[name] - meta_lr * mean[f"loc/{name}"], reptile)
        assert (reptile - start).abs().max() > 1e-2


def descended(estimator, batches):
    """Our side of the one-level searches: weights and logits step together, from uniform logits."""
    prior = make_prior(0)
    return adapt(
        posterior_at(prior, {}),
        prior,
        batches,
        objective(estimator),
        num_examples=1,
        num_inner_steps=len(batches),
        inner_lr=INNER_LR,
        generator=torch.Generator().manual_seed(5),
    )


def searched(mixture_of, batches):
    """Their side: torch's SGD on weights and logits, the mixture computed by the paper's own lines."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    weights = [p.requires_grad_() for p in random_parameters(0)]
    optimizer = torch.optim.SGD([logits, *weights], lr=INNER_LR)
    for batch in batches:
        gumbels = -torch.empty(2, dtype=torch.float64).exponential_(generator=generator).log()
        optimizer.zero_grad()
        their_loss(weights, mixture_of(logits, gumbels), batch).backward()
        optimizer.step()
    return logits.detach(), [weight.detach() for weight in weights]


def assert_same_search(posterior, theirs):
    logits, weights = theirs
    torch.testing.assert_close(posterior.arch_logits[0], logits)
    for name, weight in zip(NAMES, weights, strict=True):
        torch.testing.assert_close(posterior.loc[name], weight)
    assert logits.abs().max() > 1e-2


def test_relaxed_one_level_from_random_weights_is_snas(task):
    def snas_mixture(logits, gumbels):
        return (
            torch.exp((torch.log_softmax(logits, 0) + gumbels) / 0.6)
            / torch.exp((torch.log_softmax(logits, 0) + gumbels) / 0.6).sum()
        )

    assert_same_search(descended(Relaxed(temperature=0.6), task.support), searched(snas_mixture, task.support))


def test_straight_through_one_level_is_gdas(task):
    def gdas_mixture(logits, gumbels):
        probabilities = torch.softmax((torch.log_softmax(logits, 0) + gumbels) / 0.6, dim=-1)
        index = probabilities.max(-1, keepdim=True)[1]
        one_hot = torch.zeros_like(logits).scatter_(-1, index, 1.0)
        return one_hot - probabilities.detach() + probabilities

    assert_same_search(descended(StraightThrough(temperature=0.6), task.support), searched(gdas_mixture, task.support))


def test_softmax_without_noise_and_alternating_halves_is_first_order_darts():
    train, valid = random_batch(1), random_batch(2)
    prior, ours = make_prior(0), objective(Relaxed(temperature=1.0, noisy=False))
    posterior = posterior_at(prior, {})
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    weights = [p.requires_grad_() for p in random_parameters(0)]
    arch_optimizer, weight_optimizer = torch.optim.SGD([logits], lr=0.7), torch.optim.SGD(weights, lr=0.1)
    for _ in range(3):
        for batch, rates, optimizer in (
            (valid, {"arch_logits": 0.7}, arch_optimizer),
            (train, {"loc": 0.1}, weight_optimizer),
        ):
            posterior = inner_step(
                posterior, prior, batch, ours, num_examples=1, inner_lr=rates, generator=torch.Generator()
            )
            arch_optimizer.zero_grad()
            weight_optimizer.zero_grad()
            their_loss(weights, torch.softmax(logits, 0), batch).backward()
            optimizer.step()
    assert_same_search(posterior, (logits.detach(), [weight.detach() for weight in weights]))
