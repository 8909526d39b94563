"""Bayesian linear regression on centered groups, its variances chosen by the evidence.

| symbol | meaning | in code |
|---|---|---|
| u, y | features and target of an observation, centered over its group: what it shares drops out | `rows_NQ` |
| N, Q, n | observations of a group; features; N - 1 summed over groups | shape letters, `num` |
| G, c, s | sums of u^T u, u^T y, y^2 | `Moments` |
| w | effects: y = u w + noise | `effects_Q` |
| D | diagonal: prior variance of each effect over that of the noise; one number a block of features | `ratios` |
| sigma^2 | variance of the noise | `noise` is sigma |

With M = I + D^1/2 G D^1/2: E[w] = D^1/2 M^-1 D^1/2 c. The variance of the noise has a scaled inverse chi-squared prior
of NUM_BEFORE degrees of freedom at s / n, as if so many more observations had scattered as all do: few observations
cannot make the noise vanish. So (n + NUM_BEFORE) sigma^2 = s - c . E[w] + NUM_BEFORE s / n, and the log evidence is
-(log |M| + (n + NUM_BEFORE) log sigma^2) / 2 up to a constant. D maximizes it, block by block; a block whose ratio is 0
is left out, which is how the data say that they do not depend on it.

Source: Bishop, Pattern Recognition and Machine Learning, 2006, sections 3.3 and 3.5; Gelman et al., Bayesian Data
Analysis, 2013, section 14.8.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError

RATIOS: Final = (0.0, *(4.0**power for power in range(-8, 6)))
MAX_SWEEPS: Final = 10
NUM_BEFORE: Final = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Sums over groups of centered products, float64: all that the regression needs of the observations.

    Attributes:
        gram_QQ: G.
        cross_Q: c.
        square: s.
        num: n.
    """

    gram_QQ: Tensor
    cross_Q: Tensor
    square: float
    num: int

    @classmethod
    def of_group(cls, rows_NQ: Tensor, targets_N: Tensor) -> Self:
        """Return the moments of a group of observations; one of a single observation says nothing."""
        rows_NQ, targets_N = rows_NQ.double(), targets_N.double()
        rows_NQ, targets_N = rows_NQ - rows_NQ.mean(dim=0), targets_N - targets_N.mean()
        return cls(
            gram_QQ=rows_NQ.T @ rows_NQ,
            cross_Q=rows_NQ.T @ targets_N,
            square=float(targets_N @ targets_N),
            num=len(targets_N) - 1,
        )

    @classmethod
    def total(cls, groups: Sequence["Moments"]) -> Self:
        """Return the moments of all groups together, of which there is at least one."""
        return cls(
            gram_QQ=torch.stack([group.gram_QQ for group in groups]).sum(dim=0),
            cross_Q=torch.stack([group.cross_Q for group in groups]).sum(dim=0),
            square=math.fsum(group.square for group in groups),
            num=sum(group.num for group in groups),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearFit:
    """The regression at its most likely variances.

    Attributes:
        effects_Q: E[w].
        noise: sigma, in the unit of the targets.
        ratios: Of each block.
        log_evidence: Of the observations, up to a constant.
    """

    effects_Q: Tensor
    noise: float
    ratios: tuple[float, ...]
    log_evidence: float


def fit(moments: Moments, blocks: Sequence[int]) -> LinearFit:
    """Return the regression whose variances make the observations most likely.

    The ratio of each block in turn goes to the best of RATIOS, until none moves.

    Args:
        moments: Of groups whose targets differ.
        blocks: Numbers of features that share a variance, in the order of the features; they sum to Q.

    Raises:
        InvalidOptionError: The blocks do not fit, or no target differs from another of its group.
    """
    if sum(blocks) != len(moments.cross_Q):
        raise InvalidOptionError("blocks of features", got=sum(blocks), expected=str(len(moments.cross_Q)))
    if not moments.square > 0:
        raise InvalidOptionError("observations that tell nothing apart", got=moments.num, expected="differing targets")
    best = _at(moments, blocks, (1.0,) * len(blocks))
    for _ in range(MAX_SWEEPS):
        before = best.ratios
        for number in range(len(blocks)):
            tried = [(*best.ratios[:number], ratio, *best.ratios[number + 1 :]) for ratio in RATIOS]
            best = max((_at(moments, blocks, ratios) for ratios in tried), key=lambda found: found.log_evidence)
        if best.ratios == before:
            break
    return best


def _at(moments: Moments, blocks: Sequence[int], ratios: tuple[float, ...]) -> LinearFit:
    roots_Q = torch.cat(
        [torch.full((size,), ratio**0.5, dtype=torch.float64) for size, ratio in zip(blocks, ratios, strict=True)]
    )
    system_QQ = roots_Q[:, None] * moments.gram_QQ * roots_Q + torch.eye(len(roots_Q), dtype=torch.float64)
    factor_QQ = torch.linalg.cholesky(system_QQ)
    effects_Q = roots_Q * torch.cholesky_solve((roots_Q * moments.cross_Q)[:, None], factor_QQ)[:, 0]
    left = max(0.0, moments.square - float(moments.cross_Q @ effects_Q))  # rounding may take a perfect fit below zero
    num = moments.num + NUM_BEFORE
    noise = math.sqrt((left + NUM_BEFORE * moments.square / moments.num) / num)
    log_det = 2 * float(factor_QQ.diagonal().log().sum())
    evidence = -0.5 * (log_det + 2 * num * math.log(noise))
    return LinearFit(effects_Q=effects_Q, noise=noise, ratios=ratios, log_evidence=evidence)
