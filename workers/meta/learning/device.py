"""Where and how precisely the work of a slot runs: values on a device, and passes in mixed precision.

In `bfloat16` the forward pass runs under autocast, and autograd runs the backward pass in the types that the forward
pass had; weights, losses and gradients stay float32.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.supernet import OpWeights, Supernet
from workers.bayes.distributions import Batch, Likelihood, MetaPrior, Task
from workers.contracts.base import Precision
from workers.priors.model import prior_features, supernet_likelihood
from workers.training.precision import passes_in


def prior_on(prior: MetaPrior, device: torch.device) -> MetaPrior:
    """Return the prior on a device; the very same tensors where they are there already."""
    return MetaPrior.from_arrays({key: value.to(device) for key, value in prior.to_arrays().items()})


def batch_on(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return Batch(images=batch.images.to(device), labels=batch.labels.to(device))


def task_on(task: Task, device: torch.device) -> Task:
    """Return the task on a device."""
    support = [batch_on(batch, device) for batch in task.support]
    return Task(support=support, query=batch_on(task.query, device), num_examples=task.num_examples)


def likelihood_in(precision: Precision, supernet: Supernet, label_smoothing: float = 0.0) -> Likelihood:
    """Return the supernet's negative log-likelihood, computed in a precision; its values are float32."""
    likelihood = supernet_likelihood(supernet, label_smoothing)
    if precision == "float32":
        return likelihood

    def mixed(theta: Mapping[str, Tensor], op_weights_EO: Tensor, batch: Batch) -> Tensor:
        with passes_in(precision, batch.images.device):
            return likelihood(theta, op_weights_EO, batch).float()

    return mixed


def features_in(
    precision: Precision, supernet: Supernet, prior: MetaPrior, images: Tensor, op_weights: OpWeights
) -> Tensor:
    """Return float32 features [N, F] of normalized images under the prior's weights; no gradient."""
    with passes_in(precision, images.device):
        return prior_features(supernet, prior, images, op_weights).float()
