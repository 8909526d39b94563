import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.distributions import kl_divergence as torch_kl

from workers.bayes.distributions import MASKED_LOGIT, Posterior, posterior_at
from workers.bayes.kl import choice_kl, delta_penalty, gaussian_kl, kl_divergence
from workers.bayes.kl_gradients import kl_gradient_by_posterior, kl_gradient_by_prior

NUM_DRAWS = 40_000


def elsewhere(make_prior, seed=1):
    return Posterior.from_arrays(make_prior(seed).to_arrays())


def test_gaussian_kl_is_that_of_torch_and_counts_every_weight_of_a_shared_scale(make_prior):
    q, p = elsewhere(make_prior), make_prior(0)
    expected = sum(
        torch_kl(
            Normal(q.loc[name], q.log_scale[name].exp().expand_as(q.loc[name])),
            Normal(p.loc[name], p.log_scale[name].exp().expand_as(p.loc[name])),
        ).sum()
        for name in p.loc
    )
    torch.testing.assert_close(gaussian_kl(q, p), expected, rtol=1e-12, atol=0)


def test_choice_kl_is_that_of_torch(make_prior):
    q, p = elsewhere(make_prior), make_prior(0)
    expected = torch_kl(Categorical(logits=q.arch_logits), Categorical(logits=p.arch_logits)).sum()
    torch.testing.assert_close(choice_kl(q.arch_logits, p.arch_logits), expected, rtol=1e-12, atol=0)


def test_both_kls_agree_with_monte_carlo(make_prior):
    q, p = elsewhere(make_prior), make_prior(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        log_ratios = torch.zeros(NUM_DRAWS, dtype=torch.float64)
        for name in p.loc:
            q_normal, p_normal = (Normal(d.loc[name], d.log_scale[name].exp().expand_as(d.loc[name])) for d in (q, p))
            theta = q_normal.sample((NUM_DRAWS,))
            log_ratios += (q_normal.log_prob(theta) - p_normal.log_prob(theta)).flatten(1).sum(1)
        q_choice, p_choice = Categorical(logits=q.arch_logits), Categorical(logits=p.arch_logits)
        z = q_choice.sample((NUM_DRAWS,))
        log_ratios += (q_choice.log_prob(z) - p_choice.log_prob(z)).sum(1)
    weight_kl, arch_kl = kl_divergence(q, p, "gaussian")
    standard_error = log_ratios.std() / NUM_DRAWS**0.5
    assert abs(log_ratios.mean() - (weight_kl + arch_kl)) < 5 * standard_error


def test_delta_penalty_is_minus_the_log_density_of_the_prior_up_to_its_value_at_the_mean(make_prior):
    q, p = elsewhere(make_prior), make_prior(0)
    expected = sum(
        (normal.log_prob(p.loc[name]) - normal.log_prob(q.loc[name])).sum()
        for name in p.loc
        for normal in [Normal(p.loc[name], p.log_scale[name].exp().expand_as(p.loc[name]))]
    )
    torch.testing.assert_close(delta_penalty(q, p), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("family", ["gaussian", "delta"])
def test_kl_of_the_prior_from_itself_is_zero_with_zero_gradients(make_prior, family):
    p = make_prior(0)
    q = posterior_at(p, {})
    assert [float(value) for value in kl_divergence(q, p, family)] == [0.0, 0.0]
    for gradient in (kl_gradient_by_posterior, kl_gradient_by_prior):
        arrays = gradient(q, p, family, weight_factor=1.0, arch_factor=1.0)
        assert max(float(value.abs().max()) for value in arrays.values()) == 0


def differentiated(q, p, family, weight_factor, arch_factor, *, by):
    q = Posterior.from_arrays({key: value.clone().requires_grad_() for key, value in q.to_arrays().items()})
    p = type(p).from_arrays({key: value.clone().requires_grad_() for key, value in p.to_arrays().items()})
    weight_kl, arch_kl = kl_divergence(q, p, family)
    arrays = {"q": q, "p": p}[by].to_arrays()
    found = torch.autograd.grad(
        weight_factor * weight_kl + arch_factor * arch_kl, list(arrays.values()), allow_unused=True
    )
    return dict(zip(arrays, found, strict=True))


@pytest.mark.parametrize("family", ["gaussian", "delta"])
@pytest.mark.parametrize(("by", "closed_form"), [("q", kl_gradient_by_posterior), ("p", kl_gradient_by_prior)])
def test_closed_form_gradients_are_those_of_autograd(make_prior, family, by, closed_form):
    q, p = elsewhere(make_prior), make_prior(0)
    arrays = closed_form(q, p, family, weight_factor=0.3, arch_factor=0.7)
    expected = differentiated(q, p, family, 0.3, 0.7, by=by)
    learned = [key for key in expected if family == "gaussian" or not key.startswith("log_scale/")]
    assert sorted(arrays) == sorted(learned)
    for key, value in arrays.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shapes", [((), (3, 1)), ((1, 4), (3, 1)), ((3, 4), ()), ((4,), (3, 4))])
def test_scales_of_different_shapes_in_q_and_p_still_count_every_weight(shapes):
    generator = torch.Generator().manual_seed(0)
    q_scale, p_scale = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    q_loc, p_loc = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    alpha = torch.zeros(1, 2, dtype=torch.float64)
    q = Posterior(alpha, {"w": q_loc}, {"w": q_scale})
    p = Posterior(alpha, {"w": p_loc}, {"w": p_scale})
    for by, closed_form in (("q", kl_gradient_by_posterior), ("p", kl_gradient_by_prior)):
        expected = differentiated(q, p, "gaussian", 1.0, 0.0, by=by)
        arrays = closed_form(q, p, "gaussian", weight_factor=1.0, arch_factor=0.0)
        for key, value in arrays.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_padded_option_adds_nothing_to_a_kl_and_gets_exactly_zero_gradient(dtype):
    q = torch.tensor([[0.5, -1.0, MASKED_LOGIT]], dtype=dtype, requires_grad=True)
    p = torch.tensor([[2.0, 0.3, MASKED_LOGIT]], dtype=dtype, requires_grad=True)
    torch.testing.assert_close(choice_kl(q, p), choice_kl(q[:, :2], p[:, :2]))
    for gradient in torch.autograd.grad(choice_kl(q, p), [q, p]):
        assert gradient[0, 2] == 0
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0.01
    for closed_form in (kl_gradient_by_posterior, kl_gradient_by_prior):
        arrays = closed_form(Posterior(q, {}, {}), Posterior(p, {}, {}), "delta", weight_factor=1.0, arch_factor=1.0)
        assert arrays["arch_logits"][0, 2] == 0
