import math

import pytest
import torch
import torch.nn.functional as F

from search_spaces.errors import InvalidOptionError
from workers.bayes.heads import DEFAULT_SCALE, SCALES, fit_class_mean_head, fit_ridge_head

HEADS = {
    "ridge": lambda features, labels, num_classes: fit_ridge_head(features, labels, num_classes, 0.1),
    "class_mean": fit_class_mean_head,
}


@pytest.fixture(params=HEADS)
def fit(request):
    return HEADS[request.param]


def clusters(counts, *, num_features=8, separation=1.5, seed=0):
    """Gaussian classes of unit variance around random centers."""
    generator = torch.Generator().manual_seed(seed)
    centers = separation * torch.randn(len(counts), num_features, generator=generator, dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    noise = torch.randn(len(labels), num_features, generator=generator, dtype=torch.float64)
    return centers[labels] + noise, labels


def test_a_fitted_head_predicts_and_its_cross_entropy_starts_sensible(fit):
    features, labels = clusters([20, 20, 20])
    weight, bias = fit(features[:30], labels[:30], 3)
    assert weight.shape == (3, 8)
    assert bias.shape == (3,)
    logits = features[30:] @ weight.T + bias
    assert (logits.argmax(-1) == labels[30:]).double().mean() > 0.85
    assert F.cross_entropy(logits, labels[30:]) < 0.5 * math.log(3)


def test_on_features_that_say_nothing_the_head_is_not_sure_of_what_it_memorized(fit):
    features, labels = clusters([10] * 4, num_features=60, separation=0.0)
    fresh, fresh_labels = clusters([50] * 4, num_features=60, separation=0.0, seed=1)
    weight, bias = fit(features, labels, 4)
    assert F.cross_entropy(fresh @ weight.T + bias, fresh_labels) < 1.1 * math.log(4)


def test_permuting_the_classes_permutes_the_head(fit):
    features, labels = clusters([6, 9, 14, 5])
    order = torch.tensor([2, 0, 3, 1])
    weight, bias = fit(features, labels, 4)
    permuted_weight, permuted_bias = fit(features, order[labels], 4)
    torch.testing.assert_close(permuted_weight[order], weight)
    torch.testing.assert_close(permuted_bias[order], bias)
    assert (weight - weight[order]).abs().max() > 0.1


def test_permuting_the_examples_changes_nothing(fit):
    features, labels = clusters([6, 9, 14])
    order = torch.randperm(29, generator=torch.Generator().manual_seed(3))
    for one, other in zip(fit(features, labels, 3), fit(features[order], labels[order], 3), strict=True):
        torch.testing.assert_close(one, other)


def test_logits_do_not_depend_on_the_scale_or_the_origin_of_the_features(fit):
    features, labels = clusters([12, 15, 9])
    weight, bias = fit(features, labels, 3)
    moved = 1000 * features + 50.0
    moved_weight, moved_bias = fit(moved, labels, 3)
    expected = torch.softmax(features @ weight.T + bias, -1)
    torch.testing.assert_close(torch.softmax(moved @ moved_weight.T + moved_bias, -1), expected, rtol=1e-6, atol=1e-9)


def test_a_class_with_many_images_is_not_favored(fit):
    features, labels = clusters([15, 15, 15])
    many = torch.cat([torch.arange(45), torch.nonzero(labels == 1).flatten().repeat(9)])
    weight, bias = fit(features, labels, 3)
    crowded_weight, crowded_bias = fit(features[many], labels[many], 3)
    # Repeated images sharpen what they can say of each other, hence the scale; the direction is that of the balance.
    ratio = crowded_weight.norm() / weight.norm()
    torch.testing.assert_close(crowded_weight, ratio * weight)
    torch.testing.assert_close(crowded_bias, ratio * bias)


def best_scale(unseen, labels, shares):
    """Scale of least cross-entropy when the right class has probability (n + 1) / (n + K)."""
    num_examples, num_classes = unseen.shape
    targets = (F.one_hot(labels, num_classes) * num_examples + 1) / (num_examples + num_classes)
    losses = [-(shares @ (targets * torch.log_softmax(scale * unseen, -1)).sum(-1)) for scale in SCALES]
    return SCALES[int(torch.stack(losses).argmin())]


def unscaled_ridge(features, labels, shares, penalty):
    """Weighted ridge on three classes with a free bias, by augmented least squares; `penalty` is absolute."""
    num_features = features.shape[1]
    rows = F.pad(features, (0, 1), value=1.0) * shares.sqrt()[:, None]
    shrink = F.pad(penalty**0.5 * torch.eye(num_features, dtype=torch.float64), (0, 1))
    targets = F.one_hot(labels, 3) * shares.sqrt()[:, None]
    return torch.linalg.lstsq(torch.cat([rows, shrink]), F.pad(targets, (0, 0, 0, num_features))).solution


def test_ridge_is_weighted_least_squares_scaled_by_what_left_out_examples_ask_for():
    features, labels = clusters([4, 7, 11], num_features=5, separation=0.6)
    counts = torch.bincount(labels)
    shares = 1 / (3 * counts.double())[labels]
    center = shares @ features
    penalty = 0.3 * (shares @ (features - center).square()).mean()
    whole, unseen = unscaled_ridge(features, labels, shares, penalty), []
    for left_out in range(len(labels)):
        kept = torch.arange(len(labels)) != left_out
        solution = unscaled_ridge(features[kept], labels[kept], shares[kept], penalty)
        unseen.append(features[left_out] @ solution[:-1] + solution[-1])
    best = best_scale(torch.stack(unseen), labels, shares)
    weight, bias = fit_ridge_head(features, labels, 3, 0.3)
    torch.testing.assert_close(weight, best * whole[:-1].T)
    torch.testing.assert_close(bias, best * whole[-1])
    assert SCALES[0] < best < SCALES[-1]


def test_class_means_are_scaled_by_what_left_out_examples_ask_for():
    features, labels = clusters([4, 7, 11], num_features=5, separation=0.6)
    means = torch.stack([features[labels == k].mean(0) for k in range(3)])
    spread = (means - means.mean(0)).square().sum(1).mean()
    unseen = []
    for i in range(len(labels)):
        left_out = means.clone()
        others = (labels == labels[i]) & (torch.arange(len(labels)) != i)
        left_out[labels[i]] = features[others].mean(0)
        unseen.append(-(features[i] - left_out).square().sum(1) / (2 * spread))
    shares = 1 / (3 * torch.bincount(labels).double())[labels]
    best = best_scale(torch.stack(unseen), labels, shares)
    weight, bias = fit_class_mean_head(features, labels, 3)
    by_distance = -best * (features[:, None] - means).square().sum(2) / (2 * spread)
    torch.testing.assert_close(torch.softmax(features @ weight.T + bias, -1), torch.softmax(by_distance, -1))


def test_one_image_of_each_class_gives_a_head_of_the_default_scale(fit):
    features, labels = clusters([1, 1, 1], separation=3.0)
    weight, bias = fit(features, labels, 3)
    logits = features @ weight.T + bias
    assert (logits.argmax(-1) == labels).all()
    assert DEFAULT_SCALE / 3 < (logits.max(-1).values - logits.mean(-1)).mean() < 3 * DEFAULT_SCALE


def test_features_that_do_not_vary_give_a_flat_head(fit):
    features, labels = torch.full((6, 4), 0.3), torch.tensor([0, 1, 2, 0, 1, 2])
    weight, bias = fit(features, labels, 3)
    logits = features @ weight.T + bias
    torch.testing.assert_close(torch.softmax(logits, -1), torch.full((6, 3), 1 / 3), rtol=0, atol=1e-4)


def test_dtype_is_kept_and_the_body_gets_a_gradient(fit):
    features, labels = clusters([5, 5, 5])
    features = features.float().requires_grad_()
    weight, bias = fit(features, labels, 3)
    assert (weight.dtype, weight.requires_grad, bias.requires_grad) == (torch.float32, False, False)
    F.cross_entropy(features @ weight.T + bias, labels).backward()
    assert features.grad.abs().max() > 1e-4


def test_what_cannot_be_fitted_is_refused(fit):
    features, labels = clusters([3, 3])
    for bad_labels, num_classes in ((labels, 1), (labels - 1, 2), (labels, 3), (labels[:-1], 2)):
        with pytest.raises(InvalidOptionError):
            fit(features, bad_labels, num_classes)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_ridge_that_is_not_positive_is_refused(ridge):
    features, labels = clusters([3, 3])
    with pytest.raises(InvalidOptionError, match="ridge"):
        fit_ridge_head(features, labels, 2, ridge)
