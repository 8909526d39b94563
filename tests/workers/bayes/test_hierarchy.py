"""A linear-Gaussian hierarchy whose prior is known, learned from data by the pieces that a meta-run is made of.

theta_t ~ N(mu, sigma^2), y_t = X theta_t + noise, X orthogonal: the factorized posterior is the exact one, and the
prior that maximizes the evidence has a closed form.
"""

from math import log

import pytest
import torch

from workers.bayes.aggregate import aggregate
from workers.bayes.distributions import Batch, MetaPrior, Task
from workers.bayes.elbo import Objective
from workers.bayes.estimators import Relaxed
from workers.bayes.m_step import m_step
from workers.bayes.meta_gradient import meta_gradient
from workers.bayes.randomness import slot_generator

NUM_WEIGHTS, NUM_TASKS, NUM_META_STEPS, NUM_INNER_STEPS = 32, 12, 12, 40
SIGMA, NOISE = 0.6, 0.5


def linear(theta, op_weights, batch):
    return (batch.labels - batch.images @ theta["w"]).square() / (2 * NOISE**2) + 0 * op_weights.sum()


OBJECTIVE = Objective(
    likelihood=linear, estimator=Relaxed(temperature=1.0), family="gaussian", weight_kl=1.0, arch_kl=0.0
)


@pytest.fixture(scope="module")
def hierarchy():
    """True means, and the tasks; each has as many examples as weights, and its query is all of them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    mu, tasks = 2 * normal(NUM_WEIGHTS), []
    for _ in range(NUM_TASKS):
        images = torch.linalg.qr(normal(NUM_WEIGHTS, NUM_WEIGHTS)).Q
        labels = images @ (mu + SIGMA * normal(NUM_WEIGHTS)) + NOISE * normal(NUM_WEIGHTS)
        batch = Batch(images=images, labels=labels)
        tasks.append(Task(support=[batch], query=batch, num_examples=NUM_WEIGHTS))
    return mu, tasks


def by_m_step(prior, gradients):
    return m_step(prior, gradients, OBJECTIVE)


def by_gradient(prior, gradients):
    """Plain SGD with rates that undo N and the number of weights that share the scale."""
    mean, arrays = aggregate(gradients).arrays, prior.to_arrays()
    variance = torch.exp(2 * prior.log_scale["w"])
    arrays["loc/w"] = arrays["loc/w"] - NUM_WEIGHTS * variance * mean["loc/w"]
    arrays["log_scale/w"] = arrays["log_scale/w"] - 0.5 * mean["log_scale/w"]
    return MetaPrior.from_arrays(arrays)


@pytest.mark.parametrize("update", [by_m_step, by_gradient])
def test_meta_training_recovers_the_prior_of_the_tasks(hierarchy, update):
    mu, tasks = hierarchy
    prior = MetaPrior(
        torch.zeros(1, 1, dtype=torch.float64),
        {"w": torch.zeros(NUM_WEIGHTS, dtype=torch.float64)},
        {"w": torch.tensor(log(2.0), dtype=torch.float64)},
    )
    for step in range(NUM_META_STEPS):
        gradients = [
            meta_gradient(
                "kl",
                prior,
                {},
                task,
                inner=OBJECTIVE,
                outer=OBJECTIVE,
                num_inner_steps=NUM_INNER_STEPS,
                # A tenth of the inverse curvature, which is (1/noise^2 + 1/sigma^2) / N by m and 2 by the shared r.
                inner_lr={"loc": 0.1 * NUM_WEIGHTS / (1 / NOISE**2 + 1 / SIGMA**2), "log_scale": 0.05},
                generator=slot_generator(0, step, slot),
                version=step,
                slot=slot,
            )
            for slot, task in enumerate(tasks)
        ]
        prior = update(prior, gradients)
    found_mu, found_sigma = prior.loc["w"], float(prior.log_scale["w"].exp())
    # What all tasks together can tell: theta_t is seen with variance sigma^2 + noise^2.
    seen_variance = SIGMA**2 + NOISE**2
    assert ((found_mu - mu).abs() < 5 * (seen_variance / NUM_TASKS) ** 0.5).all()
    num_seen = (NUM_TASKS - 1) * NUM_WEIGHTS
    assert abs(found_sigma**2 - SIGMA**2) < 5 * seen_variance * (2 / num_seen) ** 0.5
    # The evidence's own maximum; noisy inner steps stop a percent beside it.
    seen = torch.stack([task.query.images.T @ task.query.labels for task in tasks])
    best_sigma = float(seen.var(dim=0, correction=0).mean() - NOISE**2) ** 0.5
    assert (found_mu - seen.mean(0)).abs().max() < 0.1
    assert found_sigma == pytest.approx(best_sigma, rel=0.03)
