import pytest
import torch

from search_spaces.errors import InvalidOptionError, UnknownNameError
from workers.bayes.distributions import Batch, MetaPrior, Posterior, Task, posterior_at
from workers.bayes.elbo import Objective, expected_nll, negative_elbo
from workers.bayes.estimators import Relaxed, ScoreFunction, StraightThrough
from workers.bayes.inner_loop import adapt
from workers.bayes.kl_gradients import kl_gradient_by_prior
from workers.bayes.meta_gradient import meta_gradient

RULES = ["kl", "first_order", "unrolled"]
FAMILIES = ["gaussian", "delta"]
INNER_LR = {"arch_logits": 0.5, "loc": 0.2, "head": 0.3}


@pytest.fixture
def ask(make_prior, make_head, make_task, make_objective, make_generator):
    """Ask a rule for its gradient in the standard setting; the noise is the same every time."""

    def run(rule, *, prior=None, inner=None, outer=None, num_inner_steps=3, inner_lr=INNER_LR):
        return meta_gradient(
            rule,
            prior or make_prior(0),
            make_head(0),
            make_task(0),
            inner=inner or make_objective(weight_kl=0.4, arch_kl=0.2),
            outer=outer or make_objective(weight_kl=0.7, arch_kl=0.9),
            num_inner_steps=num_inner_steps,
            inner_lr=inner_lr,
            generator=make_generator(11),
            version=4,
            slot=2,
        )

    return run


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_inner_steps", [1, 3])
def test_unrolled_is_the_finite_difference_of_the_meta_objective(
    ask, make_prior, make_objective, family, num_inner_steps
):
    rates = {**INNER_LR, "log_scale": 0.3} if family == "gaussian" else INNER_LR
    options = {
        "inner": make_objective(family, weight_kl=0.4, arch_kl=0.2),
        "outer": make_objective(family, weight_kl=0.7, arch_kl=0.9),
        "num_inner_steps": num_inner_steps,
        "inner_lr": rates,
    }
    arrays = {key: value.clone() for key, value in make_prior(0).to_arrays().items()}
    found = ask("unrolled", **options).arrays
    half_width = 1e-5
    for key, gradient in found.items():
        for index in range(arrays[key].numel()):
            losses = []
            for sign in (1, -1):
                shifted = arrays[key].clone()
                shifted.view(-1)[index] += sign * half_width
                prior = MetaPrior.from_arrays({**arrays, key: shifted})
                # The loss is evaluated by the same rule: it is J(phi^L(W); Q, W), whatever the gradient.
                losses.append(ask("first_order", prior=prior, **options).loss)
            slope = (losses[0] - losses[1]) / (2 * half_width)
            assert gradient.reshape(-1)[index].item() == pytest.approx(slope, rel=1e-6, abs=1e-9), (key, index)
    assert found["loc/shared"].abs().max() > 0.01
    assert found["arch_logits"][1, 3] == 0


def test_the_loss_is_the_negative_elbo_of_the_adapted_posterior_on_the_query(
    ask, make_prior, make_head, make_task, make_objective, make_generator
):
    prior, task, outer = make_prior(0), make_task(0), make_objective(weight_kl=0.7, arch_kl=0.9)
    generator = make_generator(11)
    posterior = adapt(
        posterior_at(prior, make_head(0)),
        prior,
        task.support,
        make_objective(weight_kl=0.4, arch_kl=0.2),
        num_examples=15,
        num_inner_steps=3,
        inner_lr=INNER_LR,
        generator=generator,
    )
    expected = float(negative_elbo(posterior, prior, task.query, outer, num_examples=15, generator=generator))
    assert ask("first_order").loss == pytest.approx(expected, rel=1e-12)
    assert ask("unrolled").loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_inner_steps_kl_leaves_the_prior(ask, make_objective, family):
    objective = make_objective(family)
    arrays = ask("kl", inner=objective, outer=objective, num_inner_steps=0).arrays
    assert max(float(value.abs().max()) for value in arrays.values()) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", ["first_order", "unrolled"])
def test_without_inner_steps_the_others_give_the_joint_gradient_of_the_query(
    rule, family, ask, make_prior, make_head, make_task, make_objective, make_generator
):
    objective = make_objective(family)
    leaves = {key: value.clone().requires_grad_() for key, value in make_prior(0).to_arrays().items()}
    joint = posterior_at(MetaPrior.from_arrays(leaves), make_head(0))
    expected_nll(joint, make_task(0).query, objective, make_generator(11)).backward()
    arrays = ask(rule, inner=objective, outer=objective, num_inner_steps=0).arrays
    assert arrays["loc/stem"].abs().max() > 0
    for key, value in arrays.items():
        expected = leaves[key].grad
        torch.testing.assert_close(value, torch.zeros_like(value) if expected is None else expected)


def test_first_order_is_the_nll_gradient_at_the_adapted_posterior_plus_the_explicit_kl_part(
    ask, make_prior, make_head, make_task, make_objective, make_generator
):
    prior, task = make_prior(0), make_task(0)
    inner, outer = make_objective(weight_kl=0.4, arch_kl=0.2), make_objective(weight_kl=0.7, arch_kl=0.9)
    generator = make_generator(11)
    adapted = adapt(
        posterior_at(prior, make_head(0)),
        prior,
        task.support,
        inner,
        num_examples=15,
        num_inner_steps=3,
        inner_lr=INNER_LR,
        generator=generator,
    )
    leaves = {key: value.clone().requires_grad_() for key, value in adapted.to_arrays().items()}
    expected_nll(Posterior.from_arrays(leaves), task.query, outer, generator).backward()
    explicit = kl_gradient_by_prior(adapted, prior, "gaussian", weight_factor=0.7 / 15, arch_factor=0.9 / 15)
    for key, value in ask("first_order").arrays.items():
        nll_part = 0 if leaves[key].grad is None else leaves[key].grad
        torch.testing.assert_close(value, nll_part + explicit[key])
    assert min(float(explicit[f"loc/{name}"].abs().max()) for name in ("stem", "shared", "gain")) > 1e-4


def test_kl_adapts_on_support_and_query_together_and_is_the_explicit_part(
    ask, make_prior, make_head, make_task, make_objective, make_generator
):
    prior, task = make_prior(0), make_task(0)
    adapted = adapt(
        posterior_at(prior, make_head(0)),
        prior,
        [*task.support, task.query],
        make_objective(weight_kl=0.4, arch_kl=0.2),
        num_examples=15,
        num_inner_steps=3,
        inner_lr=INNER_LR,
        generator=make_generator(11),
    )
    explicit = kl_gradient_by_prior(adapted, prior, "gaussian", weight_factor=0.7 / 15, arch_factor=0.9 / 15)
    arrays = ask("kl").arrays
    assert arrays.keys() == explicit.keys()
    assert all(torch.equal(arrays[key], explicit[key]) for key in explicit)


def test_kl_is_exact_where_the_adapted_posterior_is_stationary(make_generator):
    def ridge(theta, op_weights, batch):
        return (batch.labels - batch.images @ theta["w"]).square() + (op_weights[0] - 0.3).square().sum()

    numbers = torch.Generator().manual_seed(0)
    images = torch.randn(8, 2, generator=numbers, dtype=torch.float64)
    images = torch.linalg.qr(images).Q * 8**0.5  # well conditioned: 32 steps suffice
    batch = Batch(images=images, labels=torch.randn(8, generator=numbers, dtype=torch.float64))
    prior = MetaPrior(
        torch.tensor([[0.4, -0.2]], dtype=torch.float64),
        {"w": torch.ones(2, dtype=torch.float64)},
        {"w": torch.zeros((), dtype=torch.float64)},
    )
    objective = Objective(
        likelihood=ridge, estimator=Relaxed(temperature=1.0, noisy=False), family="delta", weight_kl=4.0, arch_kl=8.0
    )
    arrays = [
        meta_gradient(
            rule,
            prior,
            {},
            Task(support=[batch], query=batch, num_examples=8),
            inner=objective,
            outer=objective,
            num_inner_steps=32,
            inner_lr={"loc": 0.4, "arch_logits": 1.0},
            generator=make_generator(0),
            version=0,
            slot=0,
        ).arrays
        for rule in ("kl", "unrolled")
    ]
    for key, value in arrays[0].items():
        torch.testing.assert_close(value, arrays[1][key], rtol=0, atol=1e-7)
        assert value.abs().max() > 1e-2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_rule_returns_all_that_its_family_learns_and_hands_on_its_place(
    rule, family, ask, make_prior, make_objective
):
    objective = make_objective(family, weight_kl=0.0, arch_kl=0.0)
    gradient = ask(rule, inner=objective, outer=objective)
    keys = {key for key in make_prior(0).to_arrays() if family == "gaussian" or not key.startswith("log_scale/")}
    assert gradient.arrays.keys() == keys
    assert gradient.arrays["loc/unused"].abs().max() == 0
    assert (gradient.version, gradient.slot, gradient.num_examples) == (4, 2, 15)
    assert not any(value.requires_grad for value in gradient.arrays.values())
    for key, value in gradient.arrays.items():
        assert value.shape == make_prior(0).to_arrays()[key].shape


@pytest.mark.parametrize("rule", RULES)
def test_the_prior_is_left_alone(rule, ask, make_prior):
    prior = MetaPrior.from_arrays({key: value.requires_grad_() for key, value in make_prior(0).to_arrays().items()})
    ask(rule, prior=prior)
    for key, value in prior.to_arrays().items():
        assert value.grad is None
        assert torch.equal(value, make_prior(0).to_arrays()[key])


@pytest.mark.parametrize("estimator", [StraightThrough(temperature=0.5), ScoreFunction(num_samples=2)])
@pytest.mark.parametrize("side", ["inner", "outer"])
def test_unrolling_an_estimator_that_is_not_smooth_is_refused(ask, make_objective, estimator, side):
    with pytest.raises(InvalidOptionError, match="cannot be unrolled"):
        ask("unrolled", **{side: make_objective(estimator=estimator)})


@pytest.mark.parametrize("estimator", [StraightThrough(temperature=0.5), ScoreFunction(num_samples=2)])
@pytest.mark.parametrize("rule", ["kl", "first_order"])
def test_other_rules_take_every_estimator(ask, make_objective, estimator, rule):
    objective = make_objective(estimator=estimator)
    assert ask(rule, inner=objective, outer=objective).arrays["arch_logits"].abs().max() > 0


def test_objectives_of_different_families_are_refused(ask, make_objective):
    with pytest.raises(InvalidOptionError, match="differ in family"):
        ask("kl", inner=make_objective("delta"), outer=make_objective("gaussian"))


def test_an_unknown_rule_is_answered_with_the_known_ones(ask):
    with pytest.raises(UnknownNameError, match="first_order, kl, unrolled"):
        ask("second_order")
