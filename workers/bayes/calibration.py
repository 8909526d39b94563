"""Whether predictions are as sure as they are right.

| symbol | meaning | in code |
|---|---|---|
| p_i, c_i | probability of the class that is told of example i; whether it is right | `confidence_N`, `right_N` |
| B_b | examples whose p_i lies in the b-th of `NUM_BINS` equal intervals of (0, 1] | - |

Expected calibration error: sum_b |B_b| / N |mean of c in B_b - mean of p in B_b|. Of few examples it is biased upward:
by chance alone, a bin of ten is off by about 0.1. So it compares predictions on equal examples.

Source: Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3, with its 15 bins; Naeini et al. 2015.
"""

from typing import Final

import torch
from torch import Tensor

NUM_BINS: Final = 15


def calibration_error(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the expected calibration error of a classifier, 0 to 1; NaN where a logit is infinite or NaN.

    Args:
        logits_NK: Of at least one example.
        labels_N: Integers 0 to K - 1.
    """
    confidence_N, told_N = torch.softmax(logits_NK.double(), dim=1).max(dim=1)
    right_N = (told_N == labels_N).double()
    bins_N = (confidence_N * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    gaps_B = torch.zeros(NUM_BINS, dtype=torch.double, device=logits_NK.device)
    gaps_B.index_add_(0, bins_N, right_N - confidence_N)
    return float(gaps_B.abs().sum() / len(labels_N))
