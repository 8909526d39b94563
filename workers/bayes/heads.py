"""A first classifier for a task, fitted on features before the body moves: with a zero head the body learns nothing.

| symbol | meaning | in code |
|---|---|---|
| x_i, y_i | features and label of example i; N, F, K: examples, features, classes | `features_NF`, `labels_N` |
| d_i | 1 / (K n_k) for the n_k examples of class k: every class weighs 1 / K, however many images it has | `shares_N` |
| l_i | logits of example i before scaling, from a head that did not see it (leave-one-out) | `unseen_NK` |
| s | scale of the logits (inverse temperature) | - |

Both heads have a closed form for every leave-one-out prediction, and s minimizes their balanced cross-entropy. So the
first logits are neither flat nor sure of what was only memorized, and cross-entropy starts at an honest value. An
example that is the only one of its class says nothing when left out and is skipped; if all are, s is
DEFAULT_SCALE. Every step treats classes alike: permuting the classes permutes the head.

Source: ridge regression with its leave-one-out formula (Allen 1974); class means as in Snell et al. 2017; smoothed
labels for calibration as in Platt 1999. Ours: s from left-out logits.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.errors import InvalidOptionError

DEFAULT_SCALE: Final = 4.0
SCALES: Final = tuple(2.0 ** (half_octave / 2) for half_octave in range(-6, 15))
"""Candidates for s, 1/8 to 128. Both heads give logits whose spread between classes is about 1."""


def fit_ridge_head(features_NF: Tensor, labels_N: Tensor, num_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Return (weight [K, F], bias [K]) of the class-balanced ridge regression on one-hot labels, scaled by s.

    minimize sum_i d_i |W x_i + b - onehot(y_i)|^2 + ridge v |W|^2, with v the mean variance of the features under d,
    so that `ridge` has no unit and the head does not change with the scale of the features. The bias is free.

    Args:
        features_NF: Any scale; no gradient flows.
        labels_N: Integers 0 to K - 1; every class at least once.
        num_classes: K.
        ridge: > 0; 0.1 to 10 for a few features up to many more than examples.

    Raises:
        InvalidOptionError: Shapes do not fit, a label is out of range, a class has no example, or `ridge` is not
            positive.
    """
    if not 0 < ridge < float("inf"):
        raise InvalidOptionError("bad ridge", got=ridge, expected="> 0")
    counts_K = _class_counts(features_NF, labels_N, num_classes)
    features, shares_N = features_NF.detach().double(), 1 / (num_classes * counts_K.double())[labels_N]
    onehot_NK = F.one_hot(labels_N, num_classes).double()
    center_F, rates_K = shares_N @ features, shares_N @ onehot_NK
    centered_NF = features - center_F
    scatter_FF = centered_NF.T @ (shares_N[:, None] * centered_NF)
    variance = scatter_FF.diagonal().mean()
    floor = torch.finfo(variance.dtype).tiny  # features that do not vary get weight 0, not a singular system
    regular_FF = scatter_FF + (ridge * variance + floor) * torch.eye(len(center_F)).to(scatter_FF)
    inverse_FN = torch.linalg.solve(regular_FF, centered_NF.T)
    weight_KF = (inverse_FN @ (shares_N[:, None] * (onehot_NK - rates_K))).T
    fitted_NK = rates_K + centered_NF @ weight_KF.T
    leverage_N = shares_N * (1 + (centered_NF * inverse_FN.T).sum(dim=1))
    unseen_NK = fitted_NK - (leverage_N / (1 - leverage_N).clamp_min(1e-9))[:, None] * (onehot_NK - fitted_NK)
    scale = _calibrated_scale(unseen_NK, labels_N, shares_N, counts_K)
    bias_K = rates_K - weight_KF @ center_F
    return (scale * weight_KF).to(features_NF.dtype), (scale * bias_K).to(features_NF.dtype)


def fit_class_mean_head(features_NF: Tensor, labels_N: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return (weight [K, F], bias [K]) of the nearest class mean, scaled by s.

    logit_k = -(s / 2 v) |x - c_k|^2 up to what all classes share, with c_k the mean of class k and v the mean squared
    distance of the class means from their center.

    Args:
        features_NF: Any scale; no gradient flows.
        labels_N: Integers 0 to K - 1; every class at least once.
        num_classes: K.

    Raises:
        InvalidOptionError: Shapes do not fit, a label is out of range, or a class has no example.
    """
    counts_K = _class_counts(features_NF, labels_N, num_classes)
    features, shares_N = features_NF.detach().double(), 1 / (num_classes * counts_K.double())[labels_N]
    onehot_NK = F.one_hot(labels_N, num_classes).double()
    means_KF = (onehot_NK / counts_K).T @ features
    center_F = means_KF.mean(dim=0)
    offsets_KF = means_KF - center_F
    half_norms_K = 0.5 * offsets_KF.square().sum(dim=1)
    # Means that differ by rounding alone are one point: the floor keeps them from being blown up into directions.
    rounding = torch.finfo(torch.double).eps * features.square().sum(dim=1).mean()
    spread = 2 * half_norms_K.mean() + rounding + torch.finfo(torch.double).tiny
    logits_NK = (features - center_F) @ offsets_KF.T - half_norms_K
    # Leaving x_i out moves its own class's mean to c - (x_i - c) / (n - 1), hence farther from x_i by n / (n - 1).
    own_N = (features - means_KF[labels_N]).square().sum(dim=1)
    n_N = counts_K.double()[labels_N]
    farther_N = 0.5 * own_N * ((n_N / (n_N - 1).clamp_min(1)).square() - 1)
    unseen_NK = (logits_NK - onehot_NK * farther_N[:, None]) / spread
    scale = _calibrated_scale(unseen_NK, labels_N, shares_N, counts_K) / spread
    weight_KF, bias_K = offsets_KF, -half_norms_K - offsets_KF @ center_F
    return (scale * weight_KF).to(features_NF.dtype), (scale * bias_K).to(features_NF.dtype)


def _calibrated_scale(unseen_NK: Tensor, labels_N: Tensor, shares_N: Tensor, counts_K: Tensor) -> Tensor:
    """Return the s of SCALES with the least balanced cross-entropy of s l_i against smoothed labels.

    n examples that were all told right do not make the next one certain: by Laplace's rule the right class has
    probability (n + 1) / (n + K). Without it, separable features would ask for an endless scale, whose cross-entropy
    is 0 and gives the body no gradient.
    """
    told_N = counts_K[labels_N] > 1
    num_told, num_classes = int(told_N.sum()), unseen_NK.shape[1]
    if not num_told:
        return unseen_NK.new_tensor(DEFAULT_SCALE)
    smoothing = num_classes / (num_told + num_classes)
    logits_NK, labels_N, shares_N = unseen_NK[told_N], labels_N[told_N], shares_N[told_N]
    losses = [
        shares_N @ F.cross_entropy(scale * logits_NK, labels_N, reduction="none", label_smoothing=smoothing)
        for scale in SCALES
    ]
    return unseen_NK.new_tensor(SCALES)[torch.stack(losses).argmin()]


def _class_counts(features_NF: Tensor, labels_N: Tensor, num_classes: int) -> Tensor:
    if features_NF.dim() != 2 or labels_N.shape != features_NF.shape[:1] or not len(labels_N):
        shapes = (tuple(features_NF.shape), tuple(labels_N.shape))
        raise InvalidOptionError("misshapen features and labels", got=shapes, expected="[N, F] and [N]")
    if int(labels_N.min()) < 0 or int(labels_N.max()) >= num_classes:
        found = (int(labels_N.min()), int(labels_N.max()))
        raise InvalidOptionError("labels out of range", got=found, expected=f"0 to {num_classes - 1}")
    counts_K = torch.bincount(labels_N, minlength=num_classes)
    if not bool(counts_K.all()):
        missing = torch.nonzero(counts_K == 0).flatten().tolist()[:5]
        raise InvalidOptionError("classes without examples", got=missing, todo="Fit on images that show every class.")
    return counts_K
