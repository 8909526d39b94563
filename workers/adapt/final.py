"""Final training of the chosen network, from inherited weights, until its steps or its seconds are used up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from search_spaces.network import Network, recalibrate
from workers.adapt.choice import calibration_batches, predict
from workers.adapt.data import Part, SupportStream
from workers.adapt.plan import CALIBRATION_IMAGES
from workers.adapt.sync import Group
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import Plan
from workers.training.recipe import Trainer

NUM_CURVE_POINTS: Final = 6


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """The network in evaluation mode, and the steps that it took."""

    network: Network
    num_steps: int


def train_network(
    network: Network,
    support: Part,
    plan: Plan,
    group: Group,
    *,
    purpose: str,
    share_of_time: Callable[[], float],
    num_calibrated: int = CALIBRATION_IMAGES,
    on_step: Callable[[int, float], None],
    on_point: Callable[[int], None] = lambda _: None,
) -> TrainedNetwork:
    """Train; the rates rise, then fall along a cosine over the steps or the seconds, whichever run out first.

    So they have reached zero when the time is up, however slow the machine turned out to be.

    Args:
        network: Inherited weights; changed in place.
        support: To learn from.
        plan: Steps, batch size, seed.
        group: Ranks that average their gradients.
        purpose: Names the draws of images: other purposes, other draws.
        share_of_time: Share of the seconds for training that has passed, 0 to 1 and beyond.
        num_calibrated: Images of the support, at most, that the statistics of batch norm are of.
        on_step: Told step and loss.
        on_point: Told the step a few times on the way, and at the end, when the network is in evaluation mode.
    """
    stream = SupportStream(
        support,
        plan.batch_size,
        flip=plan.flip,
        generator=slot_generator(plan.seed, 1, group.rank, purpose),
    )
    trainer = Trainer(network, plan.precision)
    step, next_point = 0, 1
    while (progress := group.agree(max(step / plan.max_train_steps, share_of_time()))) < 1.0:
        images, labels = stream.next(plan.resolution)
        loss = trainer.step(images, labels, progress, average=group.average)
        step += 1
        on_step(step, loss)
        if progress * NUM_CURVE_POINTS >= next_point:
            next_point += 1
            on_point(step)
    recalibrate(network, calibration_batches(support, num_calibrated))
    network.eval()
    on_point(step)
    return TrainedNetwork(network=network, num_steps=step)


def accuracy_on(network: Network, part: Part) -> float:
    """Return the accuracy on images with running statistics; the network's mode is left as it was."""
    was_training = network.training
    network.eval()
    correct = predict(network, part).argmax(dim=1) == part.labels
    network.train(was_training)
    return float(correct.double().mean())
