import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import MASKED_LOGIT
from workers.bayes.relaxation import entropy_gradient, gumbel_noise, gumbel_softmax, sample_choices, straight_through

NUM_DRAWS = 20_000
LOGITS = torch.tensor([[0.5, -1.0, 1.2, MASKED_LOGIT], [0.0, 0.0, 0.0, 3.0]], dtype=torch.float64)


def assert_frequencies(counts, probabilities):
    """Binomial counts within five standard deviations; a probability of 0 or 1 is met exactly."""
    spread = (NUM_DRAWS * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - NUM_DRAWS * probabilities).abs() <= 5 * spread).all()


def test_gumbel_noise_has_the_moments_of_the_standard_gumbel_law(make_generator):
    noise = gumbel_noise((NUM_DRAWS,), make_generator(0), LOGITS)
    variance = torch.pi**2 / 6
    assert abs(noise.mean() - 0.5772156649) < 5 * (variance / NUM_DRAWS) ** 0.5
    # The kurtosis of the Gumbel law is 5.4, so its sample variance has variance (5.4 - 1) variance^2 / n.
    assert abs(noise.var() - variance) < 5 * variance * (4.4 / NUM_DRAWS) ** 0.5


def test_at_small_temperature_samples_are_the_arg_max_with_frequencies_softmax(make_generator):
    noise = gumbel_noise((NUM_DRAWS, *LOGITS.shape), make_generator(0), LOGITS)
    samples = gumbel_softmax(LOGITS, 1e-9, noise)
    winners = (LOGITS + noise).argmax(dim=-1)
    one_hot = torch.nn.functional.one_hot(winners, 4).double()
    torch.testing.assert_close(samples, one_hot, rtol=0, atol=1e-6)
    assert_frequencies(samples.round().sum(dim=0), torch.softmax(LOGITS, dim=-1))


def test_at_large_temperature_samples_are_uniform_over_the_options_that_exist(make_generator):
    noise = gumbel_noise(tuple(LOGITS.shape), make_generator(0), LOGITS)
    samples = gumbel_softmax(LOGITS, 1e6, noise)
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4], dtype=torch.float64)
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-4)


def test_without_noise_and_at_temperature_one_it_is_the_softmax():
    torch.testing.assert_close(gumbel_softmax(LOGITS, 1.0, torch.zeros_like(LOGITS)), torch.softmax(LOGITS, dim=-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_straight_through_is_exactly_one_hot_with_the_gradient_of_the_relaxation(make_generator, dtype):
    logits = LOGITS.to(dtype).requires_grad_()
    noise = gumbel_noise(tuple(logits.shape), make_generator(3), logits)
    cost = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.1, 0.9, 0.2]], dtype=dtype)
    hard, soft = straight_through(logits, 0.7, noise), gumbel_softmax(logits, 0.7, noise)
    assert torch.equal(hard, torch.nn.functional.one_hot((logits + noise).argmax(-1), 4).to(dtype))
    (hard_gradient,) = torch.autograd.grad((hard * cost).sum(), logits)
    (soft_gradient,) = torch.autograd.grad((soft * cost).sum(), logits)
    torch.testing.assert_close(hard_gradient, soft_gradient)
    assert hard_gradient.abs().max() > 0.01
    assert hard_gradient[0, 3] == 0


def test_sampled_choices_follow_softmax_and_never_take_a_padded_option(make_generator):
    choices = sample_choices(LOGITS, make_generator(0), NUM_DRAWS)
    assert choices.shape == (NUM_DRAWS, 2)
    assert choices.dtype == torch.int64
    for decision in range(2):
        counts = torch.bincount(choices[:, decision], minlength=4)
        assert_frequencies(counts, torch.softmax(LOGITS[decision], dim=-1))


def test_choices_of_different_decisions_are_independent(make_generator):
    choices = sample_choices(torch.zeros(2, 2, dtype=torch.float64), make_generator(0), NUM_DRAWS)
    assert_frequencies((choices[:, 0] & choices[:, 1]).sum(), torch.tensor(0.25))


def test_a_space_without_decisions_has_empty_choices(make_generator):
    assert sample_choices(torch.zeros(0, 3), make_generator(0), 5).shape == (5, 0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(InvalidOptionError, match="temperature"):
        gumbel_softmax(LOGITS, temperature, torch.zeros_like(LOGITS))


def test_the_gradient_of_the_entropy_is_that_of_autograd_and_none_where_there_is_no_option():
    logits_EO = LOGITS.clone().requires_grad_()
    log_p_EO = torch.log_softmax(logits_EO, dim=-1)
    (expected_EO,) = torch.autograd.grad(-(log_p_EO.exp() * log_p_EO).sum(), logits_EO)

    found_EO = entropy_gradient(LOGITS)

    assert torch.allclose(found_EO, expected_EO, atol=1e-12)
    assert found_EO[0, 3] == 0
    assert found_EO[1, 3] < 0  # the likeliest option has to become less so
