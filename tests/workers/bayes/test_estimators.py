from itertools import product

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import MASKED_LOGIT
from workers.bayes.estimators import Relaxed, ScoreFunction, StraightThrough, score_function_gradient
from workers.bayes.relaxation import gumbel_noise, gumbel_softmax, one_hot_choices, sample_choices, straight_through

LOGITS = torch.tensor([[0.5, -1.0, 1.2], [0.7, -0.2, MASKED_LOGIT]], dtype=torch.float64)
COST = torch.tensor([[1.0, -2.0, 0.3], [0.9, 0.4, 7.0]], dtype=torch.float64)


def loss(op_weights):
    """Not linear in the choices: an interaction of both decisions."""
    return (op_weights * COST).sum() + 2.0 * op_weights[0, 0] * op_weights[1, 1]


def enumerated():
    """Every architecture, its probability (differentiable) and its loss."""
    logits = LOGITS.clone().requires_grad_()
    probabilities = torch.softmax(logits, dim=-1)
    choices = torch.tensor(list(product(range(3), range(2))))
    chances = probabilities[0, choices[:, 0]] * probabilities[1, choices[:, 1]]
    losses = torch.stack([loss(path) for path in one_hot_choices(choices, LOGITS)])
    return logits, choices, chances, losses


@pytest.mark.parametrize("num_samples", [2, 3])
def test_score_function_gradient_is_the_enumerated_gradient_in_expectation(num_samples):
    logits, choices, chances, losses = enumerated()
    (expected,) = torch.autograd.grad((chances * losses).sum(), logits)
    mean = torch.zeros_like(LOGITS)
    for drawn in product(range(len(choices)), repeat=num_samples):
        index = torch.tensor(drawn)
        mean += chances[index].prod().detach() * score_function_gradient(LOGITS, choices[index], losses[index])
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-14)
    assert expected.abs().max() > 0.1


def test_score_function_gradient_is_the_leave_one_out_formula_spelled_out(make_generator):
    choices = sample_choices(LOGITS, make_generator(0), 5)
    losses = torch.stack([loss(path) for path in one_hot_choices(choices, LOGITS)])
    expected = torch.zeros_like(LOGITS)
    for s in range(5):
        baseline = (losses.sum() - losses[s]) / 4
        score = one_hot_choices(choices[s], LOGITS) - torch.softmax(LOGITS, dim=-1)
        expected += (losses[s] - baseline) * score / 5
    torch.testing.assert_close(score_function_gradient(LOGITS, choices, losses), expected)


def test_a_constant_added_to_all_losses_leaves_the_score_function_gradient(make_generator):
    choices = sample_choices(LOGITS, make_generator(0), 4)
    losses = torch.tensor([0.3, 1.0, -2.0, 0.1], dtype=torch.float64)
    before, after = (score_function_gradient(LOGITS, choices, losses + shift) for shift in (0.0, 100.0))
    torch.testing.assert_close(before, after)
    assert before.abs().max() > 0


def test_one_sample_is_refused_for_want_of_a_baseline():
    with pytest.raises(InvalidOptionError, match="leave-one-out"):
        ScoreFunction(num_samples=1)
    with pytest.raises(InvalidOptionError, match="leave-one-out"):
        score_function_gradient(LOGITS, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1))


def test_each_estimator_hands_the_logits_its_gradient_through_autograd(make_generator):
    noise = gumbel_noise(tuple(LOGITS.shape), make_generator(5), LOGITS)
    logits = LOGITS.clone().requires_grad_()
    by_hand = {
        Relaxed(temperature=0.5): loss(gumbel_softmax(logits, 0.5, noise)),
        Relaxed(temperature=0.5, noisy=False): loss(torch.softmax(logits / 0.5, dim=-1)),
        StraightThrough(temperature=0.5): loss(straight_through(logits, 0.5, noise)),
    }
    for estimator, expected in by_hand.items():
        value = estimator.expectation(loss, logits, make_generator(5))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, expected)))


def test_score_function_values_and_both_gradients(make_generator):
    logits, scale = LOGITS.clone().requires_grad_(), torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    value = ScoreFunction(num_samples=4).expectation(lambda y: scale * loss(y), logits, make_generator(5))
    choices = sample_choices(LOGITS, make_generator(5), 4)
    losses = torch.stack([loss(path) for path in one_hot_choices(choices, LOGITS)])
    by_logits, by_scale = torch.autograd.grad(value, [logits, scale])
    torch.testing.assert_close(value.detach(), 1.5 * losses.mean())
    torch.testing.assert_close(by_logits, score_function_gradient(LOGITS, choices, 1.5 * losses))
    torch.testing.assert_close(by_scale, losses.mean())


def test_score_function_runs_forward_passes_only_when_just_the_logits_learn(make_generator):
    built_graph = []

    def watched(op_weights):
        value = loss(op_weights)
        built_graph.append(value.requires_grad)
        return value

    logits = LOGITS.clone().requires_grad_()
    ScoreFunction(num_samples=3).expectation(watched, logits, make_generator(0)).backward()
    assert built_graph == [False] * 3
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("estimator", [StraightThrough(temperature=0.3), ScoreFunction(num_samples=3)])
def test_single_path_estimators_show_the_loss_exactly_one_hot_op_weights(estimator, make_generator):
    def watched(op_weights):
        assert set(op_weights.detach().flatten().tolist()) == {0.0, 1.0}
        assert (op_weights.sum(-1) == 1).all()
        return loss(op_weights)

    estimator.expectation(watched, LOGITS.clone().requires_grad_(), make_generator(0))
