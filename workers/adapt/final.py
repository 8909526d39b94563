"""Final training of the chosen network, from inherited weights, until its steps or its seconds are used up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from search_spaces.network import Network, recalibrate
from workers.adapt.choice import calibration_batches, predict
from workers.adapt.data import Part, SupportStream, TaskData
from workers.adapt.plan import step_work
from workers.adapt.sync import Group
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import Plan
from workers.training.recipe import Trainer

NUM_CURVE_POINTS: Final = 6
CURVE_IMAGES: Final = 256
EARLY_SHARE: Final = 2 / 3


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """The network in evaluation mode, and the steps that it took."""

    network: Network
    num_steps: int


def train_network(
    network: Network,
    data: TaskData,
    plan: Plan,
    group: Group,
    *,
    purpose: str,
    share_of_time: Callable[[], float],
    on_step: Callable[[int, float], None],
    on_query: Callable[[int, float], None] | None = None,
) -> TrainedNetwork:
    """Train with SGD; the rate rises, then falls along a cosine over the steps or the seconds, whichever run out first.

    So the rate has reached zero when the time is up, however slow the machine turned out to be. The first two thirds
    see images at the plan's early resolution: progressive resizing, as in fast.ai's entry to DAWNBench (2018).

    Args:
        network: Inherited weights; changed in place.
        data: The dataset.
        plan: Steps, batch size, seed.
        group: Ranks that average their gradients.
        purpose: Names the draws of images: other purposes, other draws.
        share_of_time: Share of the seconds for training that has passed, 0 to 1 and beyond.
        on_step: Told step and loss.
        on_query: Told step and held-out accuracy: a few times on some of the images, at the end on all. Without it,
            none is computed.
    """
    stream = SupportStream(
        data.support,
        plan.batch_size,
        flip=plan.flip,
        generator=slot_generator(plan.seed, 1, group.rank, purpose),
    )
    trainer = Trainer(network)
    step, work, next_point = 0, 0.0, 1
    while (progress := group.agree(max(work / plan.max_train_steps, share_of_time()))) < 1.0:
        side = plan.early_resolution if progress < EARLY_SHARE else plan.resolution
        images, labels = stream.next(side)
        loss = trainer.step(images, labels, progress, average=group.average)
        step += 1
        work += step_work(side, plan.resolution)
        on_step(step, loss)
        if on_query and progress * NUM_CURVE_POINTS >= next_point:
            next_point += 1
            on_query(step, query_accuracy(network, data.query.first(CURVE_IMAGES)))
    recalibrate(network, calibration_batches(data.support))
    network.eval()
    if on_query:
        on_query(step, query_accuracy(network, data.query))
    return TrainedNetwork(network=network, num_steps=step)


def query_accuracy(network: Network, query: Part) -> float:
    """Return the accuracy on held-out images with running statistics; the network's mode is left as it was."""
    was_training = network.training
    network.eval()
    correct = predict(network, query).argmax(dim=1) == query.labels
    network.train(was_training)
    return float(correct.double().mean())
