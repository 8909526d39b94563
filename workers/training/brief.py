"""A network trained for a moment on a dataset in memory, and judged on images that it did not see."""

import math
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.network import Network, recalibrate
from workers.tasks.batches import augment, to_batch
from workers.training.recipe import Trainer

CALIBRATION_IMAGES: Final = 256
JUDGE_BATCH: Final = 256


def train_briefly(
    network: Network,
    images: Tensor,
    labels: Tensor,
    *,
    side: int,
    num_steps: int,
    batch_size: int,
    flip: bool,
    generator: torch.Generator,
    keep_on: Callable[[], bool] = lambda: True,
) -> int:
    """Train a network, in place, and leave it in evaluation mode; return the steps that it took.

    Args:
        network: On the device of the images or another.
        images: uint8 [N, r, r, 3].
        labels: int64 [N].
        side: In pixels, that images are resized to.
        num_steps: Of training; the rate reaches zero at the last.
        batch_size: Images of a step.
        flip: Whether to mirror images.
        generator: On the CPU; of order and augmentation.
        keep_on: Asked before each step; False ends the training early.
    """
    device = next(network.parameters()).device
    trainer = Trainer(network)
    size = min(batch_size, len(labels))
    order = torch.empty(0, dtype=torch.int64)
    done = 0
    while done < num_steps and keep_on():
        if len(order) < size:
            order = torch.randperm(len(labels), generator=generator)
        index, order = order[:size], order[size:]
        batch = augment(to_batch(images[index], side), generator, flip=flip)
        trainer.step(batch.to(device), labels[index].to(device), done / num_steps)
        done += 1
    recalibrate_on(network, images, side)
    return done


def recalibrate_on(network: Network, images: Tensor, side: int) -> None:
    """Set the statistics of batch norm to those of the first images; the network is in evaluation mode then."""
    device = next(network.parameters()).device
    recalibrate(network, [to_batch(images[:CALIBRATION_IMAGES].to(device), side)])
    network.eval()


def judge(network: Network, images: Tensor, labels: Tensor, side: int) -> tuple[float, float]:
    """Return the loss on images in units of the logarithm of the number of classes, and the accuracy."""
    device = next(network.parameters()).device
    labels = labels.to(device)
    with torch.no_grad():
        logits_NK = torch.cat([network(to_batch(part.to(device), side)) for part in images.split(JUDGE_BATCH)])
    loss = float(F.cross_entropy(logits_NK, labels)) / math.log(logits_NK.shape[1])
    return loss, float((logits_NK.argmax(dim=1) == labels).double().mean())
