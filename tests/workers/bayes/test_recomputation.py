from collections.abc import Callable

import pytest
import torch

from workers.bayes.distributions import MetaPrior, Posterior, posterior_at
from workers.bayes.elbo import negative_elbo
from workers.bayes.estimators import Relaxed
from workers.bayes.inner_loop import adapt
from workers.bayes.meta_gradient import meta_gradient
from workers.bayes.recomputation import recomputed

RATES = {
    "all move": {"arch_logits": 0.5, "loc": 0.2, "head": 0.3, "log_scale": 0.3},
    "some are held fixed": {"loc": 0.2, "loc/gain": 0.0, "head": 0.3},
}
NUM_STEPS = 5  # more than there are batches


def rates_of(name, family):
    return {key: rate for key, rate in RATES[name].items() if family == "gaussian" or key != "log_scale"}


def rate_of(key, rates):
    return rates.get(key, rates.get(key.partition("/")[0], 0.0))


def plain_unrolled(prior, head, task, inner, outer, rates, generator):
    """The gradient by one graph through all steps, every gradient by autograd, with the KL's prior kept apart."""
    leaves = {key: value.clone().requires_grad_() for key, value in prior.to_arrays().items()}
    start = MetaPrior.from_arrays(leaves)
    apart = MetaPrior.from_arrays({key: value.clone() for key, value in leaves.items()})
    heads = {name: value.clone().requires_grad_() for name, value in head.items()}
    arrays = posterior_at(start, heads).to_arrays()
    for step in range(NUM_STEPS):
        batch = task.support[step % len(task.support)]
        moving = {key: value for key, value in arrays.items() if rate_of(key, rates)}
        loss = negative_elbo(
            Posterior.from_arrays(arrays), apart, batch, inner, num_examples=task.num_examples, generator=generator
        )
        found = torch.autograd.grad(loss, list(moving.values()), create_graph=True, allow_unused=True)
        for (key, value), slope in zip(moving.items(), found, strict=True):
            arrays[key] = value if slope is None else value - rate_of(key, rates) * slope
    loss = negative_elbo(
        Posterior.from_arrays(arrays), start, task.query, outer, num_examples=task.num_examples, generator=generator
    )
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        key: torch.zeros_like(value) if slope is None else slope
        for (key, value), slope in zip(leaves.items(), found, strict=True)
    }


@pytest.mark.parametrize("family", ["gaussian", "delta"])
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("kl", [(0.0, 0.0), (0.6, 0.0), (0.4, 0.7)])
@pytest.mark.parametrize("rates", RATES)
def test_unrolling_step_by_step_is_unrolling_at_once(
    family, noisy, kl, rates, make_prior, make_head, make_task, make_objective, make_generator
):
    estimator = Relaxed(temperature=0.7, noisy=noisy)
    inner = make_objective(family, estimator, weight_kl=kl[0], arch_kl=kl[1])
    outer = make_objective(family, estimator, weight_kl=kl[1], arch_kl=kl[0])
    chosen = rates_of(rates, family)
    expected = plain_unrolled(make_prior(0), make_head(0), make_task(0), inner, outer, chosen, make_generator(3))
    found = meta_gradient(
        "unrolled",
        make_prior(0),
        make_head(0),
        make_task(0),
        inner=inner,
        outer=outer,
        num_inner_steps=NUM_STEPS,
        inner_lr=chosen,
        generator=make_generator(3),
        version=0,
        slot=0,
    ).arrays
    assert found["loc/shared"].abs().max() > 0.01
    assert found.keys() == expected.keys() if family == "gaussian" else found.keys() < expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-12)


class Counting:
    """A likelihood that knows how much of what it saved for a backward pass is still held."""

    def __init__(self, likelihood):
        self.likelihood, self.alive, self.at_start = likelihood, 0, []

    def __call__(self, theta, op_weights, batch):
        self.at_start.append(self.alive)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(tensor, self), lambda held: held.tensor):
            return self.likelihood(theta, op_weights, batch)


class Held:
    def __init__(self, tensor, counting):
        self.tensor, self.counting = tensor, counting
        counting.alive += 1

    def __del__(self):
        self.counting.alive -= 1


@pytest.mark.parametrize("rule", ["kl", "first_order", "unrolled"])
@pytest.mark.parametrize("num_inner_steps", [2, 40])
def test_no_step_begins_while_the_graph_of_another_is_held(
    rule, num_inner_steps, supernet, make_prior, make_head, make_task, make_objective, make_generator
):
    counting = Counting(supernet)
    objective = make_objective(likelihood=counting, weight_kl=0.4, arch_kl=0.2)
    found = meta_gradient(
        rule,
        make_prior(0),
        make_head(0),
        make_task(0),
        inner=objective,
        outer=objective,
        num_inner_steps=num_inner_steps,
        inner_lr={"arch_logits": 0.02, "loc": 0.02, "head": 0.02},
        generator=make_generator(0),
        version=0,
        slot=0,
    )
    # Each step once, the query once; on the way back each step once more.
    assert len(counting.at_start) == num_inner_steps + 1 + (num_inner_steps if rule == "unrolled" else 0)
    assert set(counting.at_start) == {0}
    assert counting.alive == 0
    assert all(bool(torch.isfinite(value).all()) for value in found.arrays.values())


def test_a_graph_through_all_steps_would_be_seen_by_the_test_above(
    supernet, make_prior, make_head, make_task, make_objective, make_generator
):
    counting = Counting(supernet)
    objective = make_objective(likelihood=counting)
    rates = rates_of("all move", "gaussian")
    plain_unrolled(make_prior(0), make_head(0), make_task(0), objective, objective, rates, make_generator(0))
    assert counting.at_start == sorted(set(counting.at_start))


def test_the_adapted_posterior_can_be_differentiated_by_the_head_it_began_with(
    make_prior, make_head, make_task, make_objective, make_generator
):
    task, objective = make_task(0), make_objective("delta", Relaxed(temperature=0.7, noisy=False), arch_kl=0.0)
    direction = make_head(1)["classifier"]

    def moved_stem(head, create_graph):
        start = posterior_at(make_prior(0), head)
        return (
            adapt(
                start,
                make_prior(0),
                task.support,
                objective,
                num_examples=15,
                num_inner_steps=3,
                inner_lr={"loc": 0.2, "head": 0.1},
                generator=make_generator(0),
                create_graph=create_graph,
            )
            .loc["stem"]
            .sum()
        )

    head = {"classifier": make_head(0)["classifier"].requires_grad_()}
    slope = (torch.autograd.grad(moved_stem(head, True), head["classifier"])[0] * direction).sum()
    ends = [moved_stem({"classifier": make_head(0)["classifier"] + h * direction}, False) for h in (1e-5, -1e-5)]
    assert slope.item() == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert abs(slope.item()) > 1e-3


def noisy_square(inputs, generator, create_graph):
    noise = torch.randn(3, generator=generator, dtype=torch.float64)
    with torch.set_grad_enabled(create_graph):
        return [noise * inputs[0].square(), inputs[1] + 1]


def test_the_same_noise_is_drawn_again_wherever_the_generator_is_by_then(
    make_generator: Callable[[int], torch.Generator],
):
    x, y = (torch.arange(3, dtype=torch.float64).add(k).requires_grad_() for k in (1, 2))
    generator, other = make_generator(5), make_generator(5)
    outputs = recomputed(noisy_square, [x, y], generator)
    noise = torch.randn(3, generator=other, dtype=torch.float64)
    assert torch.equal(outputs[0], noise * x.square())
    before = generator.get_state()
    assert torch.equal(before, other.get_state())
    torch.testing.assert_close(
        torch.autograd.grad(outputs[0].sum() + outputs[1].sum(), [x, y]), (2 * noise * x, y * 0 + 1)
    )
    assert torch.equal(generator.get_state(), before)


def test_a_second_derivative_is_refused(make_generator: Callable[[int], torch.Generator]):
    x, y = (torch.ones(3, dtype=torch.float64).requires_grad_() for _ in range(2))
    value = recomputed(noisy_square, [x, y], make_generator(0))[0].square().sum()
    slope = torch.autograd.grad(value, x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
