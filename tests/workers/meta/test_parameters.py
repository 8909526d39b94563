"""What becomes of a gradient: once, in slot order, dropped and counted where it must not count."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.bayes.aggregate import aggregate
from workers.bayes.meta_gradient import MetaGradient
from workers.contracts.errors import DivergedError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Adjustment
from workers.meta.board import Slot
from workers.meta.checkpoints import Checkpoints
from workers.meta.flat import Flat, pack, unpack
from workers.meta.learning.state import MetaState
from workers.meta.parameters import ParameterServer, Pushed, SlotReport
from workers.store.folder import FolderStore

CLASSES = ("a", "b", "c")
ASYNCHRONOUS: dict[str, object] = {"mode": "asynchronous", "max_staleness": 2, "staleness_discount": 0.5}


@cache
def shapes(config: MetaConfig) -> Mapping[str, torch.Size]:
    arrays = MetaState(config, CLASSES).prior_with_heads.to_arrays()
    return {name: value.shape for name, value in arrays.items() if not name.startswith("log_scale/")}


def noise(config: MetaConfig, slot: Slot) -> dict[str, Tensor]:
    """A gradient by name of array, another for each slot."""
    generator = torch.Generator().manual_seed(1000 * slot.step + slot.number)
    heads = slot.step < config.joint_steps
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in shapes(config).items()
        if heads or "classifier" not in name
    }


class Served:
    """A parameter server that has begun, and the last version that it handed out."""

    def __init__(self, config: MetaConfig, server: ParameterServer) -> None:
        self.config, self.server = config, server
        self.standing, prior = server.begin()
        self.prior = unpack(prior)

    def push(self, slot: Slot, version: int | None = None, *, num_examples: int = 10, finite: bool = True) -> Pushed:
        """Push the noise of a slot; its loss is 1 nat and its number."""
        report = SlotReport(
            slot=slot,
            version=slot.step if version is None else version,
            loss=1.0 + slot.number if finite else None,
            num_examples=num_examples,
            finite=finite,
        )
        pushed, prior = self.server.push(report, pack(noise(self.config, slot)) if finite else None)
        assert (prior is None) == (pushed.step is None)
        if prior is not None:
            self.prior = unpack(prior)
        return pushed

    def advance(self, version: int, *, first: int = 0) -> None:
        """Get to a version by the slots of each step, from a first number on."""
        while (step := len(self.server.log())) < version:
            for number in range(self.config.num_slots):
                assert self.push(Slot(step, first + number), step).outcome == "accepted"


@pytest.fixture
def serve(config: MetaConfig, tmp_path: Path) -> Callable[..., Served]:
    """Makes a server; those of one folder share its checkpoints."""

    def make(folder: str = "store", *, parent: Flat | None = None, **changes: object) -> Served:
        changed = MetaConfig.model_validate({**config.model_dump(), **changes})
        store = FolderStore(tmp_path / folder, create=True)
        return Served(changed, ParameterServer(changed, CLASSES, lambda: Checkpoints(store, "ck"), parent))

    return make


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gradient_of(config: MetaConfig, slot: Slot, *, num_examples: int = 10) -> MetaGradient:
    return MetaGradient(
        version=slot.step, slot=slot.number, num_examples=num_examples, arrays=noise(config, slot), loss=1.0
    )


def test_a_step_is_taken_when_its_last_slot_is_in_and_the_new_version_is_handed_out(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    before = served.prior
    assert served.push(Slot(0, 0)) == Pushed(outcome="accepted")
    assert same(served.prior, before)
    step = served.push(Slot(0, 1)).step
    assert step is not None
    assert (step.version, step.num_slots, step.staleness) == (1, 2, 0.0)
    assert step.loss == pytest.approx(1.5)
    assert len(step.entropies) == 6
    assert not same(served.prior, before)
    assert [entry.step for entry in served.server.log()] == [0]


def test_the_step_is_that_of_the_weighted_mean(serve: Callable[..., Served]) -> None:
    served = serve(weighting="examples")
    served.push(Slot(0, 0), num_examples=30)
    served.push(Slot(0, 1), num_examples=10)
    expected = MetaState(served.config, CLASSES)
    sizes = {Slot(0, 0): 30, Slot(0, 1): 10}
    gradients = [gradient_of(served.config, slot, num_examples=size) for slot, size in sizes.items()]
    expected.apply(aggregate(gradients, "examples"))
    assert same(served.prior, expected.prior_with_heads.to_arrays())


def test_pushing_a_slot_again_changes_nothing(serve: Callable[..., Served]) -> None:
    once, again = serve("once"), serve("again")
    once.advance(2)
    for version in range(2):
        outcomes = [again.push(Slot(version, number)).outcome for number in (0, 0, 1, 1, 0)]
        assert outcomes == ["accepted", "duplicate", "accepted", "duplicate", "duplicate"]
    assert same(once.prior, again.prior)
    assert once.server.log() == again.server.log()


def test_the_order_of_arrival_changes_no_bit(serve: Callable[..., Served]) -> None:
    results = []
    for number, order in enumerate(permutations(range(3))):
        served = serve(f"store-{number}", num_slots=3)
        for slot in order:
            served.push(Slot(0, slot))
        results.append(served.prior)
    assert all(same(result, results[0]) for result in results[1:])


def test_a_gradient_that_is_not_finite_is_dropped_and_the_step_taken_without_it(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.push(Slot(0, 0), finite=False) == Pushed(outcome="not_finite")
    assert served.push(Slot(0, 0)).outcome == "duplicate", "the slot is settled"
    step = served.push(Slot(0, 1)).step
    assert step is not None
    assert step.num_slots == 1
    expected = MetaState(served.config, CLASSES)
    expected.apply(aggregate([gradient_of(served.config, Slot(0, 1))]))
    assert same(served.prior, expected.prior_with_heads.to_arrays())


def test_a_step_without_any_finite_gradient_ends_the_run(serve: Callable[..., Served]) -> None:
    served = serve()
    served.push(Slot(0, 0), finite=False)
    with pytest.raises(DivergedError, match="no slot of step 0 has a finite gradient"):
        served.push(Slot(0, 1), finite=False)


@pytest.mark.parametrize(("version", "outcome"), [(3, "accepted"), (1, "accepted"), (0, "stale"), (4, "stale")])
def test_asynchronous_gradients_count_up_to_the_bound_and_never_from_a_lost_future(
    serve: Callable[..., Served], version: int, outcome: str
) -> None:
    served = serve(**ASYNCHRONOUS)
    served.advance(3)
    assert served.push(Slot(3, 0), version).outcome == outcome


def test_synchronous_gradients_of_another_step_are_duplicates(serve: Callable[..., Served]) -> None:
    served = serve()
    served.advance(1)
    assert served.push(Slot(0, 1)).outcome == "duplicate"
    assert served.push(Slot(2, 0)).outcome == "duplicate"


def test_stale_gradients_are_down_weighted_as_computed_by_hand(serve: Callable[..., Served]) -> None:
    served = serve(**ASYNCHRONOUS)
    served.advance(2)
    step = None
    for number, version in ((0, 0), (1, 2)):
        step = served.push(Slot(2, number), version).step
    assert step is not None
    assert step.staleness == pytest.approx(1.0)
    assert served.server.log()[-1].staleness == pytest.approx(1.0)

    by_hand = MetaState(served.config, CLASSES)
    for past in range(2):
        by_hand.apply(aggregate([gradient_of(served.config, Slot(past, number)) for number in (0, 1)]))
    old, new = (noise(served.config, Slot(2, number)) for number in (0, 1))
    mean = {name: (0.5**2 * old[name] + new[name]) / 2 for name in old}
    by_hand.apply(aggregate([MetaGradient(version=2, slot=0, num_examples=10, arrays=mean, loss=1.5)]))
    for name, value in by_hand.prior_with_heads.to_arrays().items():
        assert torch.allclose(served.prior[name], value, rtol=0, atol=1e-6)


def test_an_asynchronous_gradient_pushed_again_after_its_step_changes_nothing(serve: Callable[..., Served]) -> None:
    served = serve(**ASYNCHRONOUS)
    served.advance(1)
    before = served.prior
    assert [served.push(Slot(0, number)).outcome for number in (0, 1)] == ["duplicate", "duplicate"]
    assert served.push(Slot(1, 0)).step is None, "had they counted, this one would complete a step"
    served.push(Slot(1, 1))
    assert not same(served.prior, before)
    served.advance(4)
    assert served.push(Slot(0, 0)).outcome == "stale"


def test_asynchronous_gradients_of_another_part_are_dropped(serve: Callable[..., Served], config: MetaConfig) -> None:
    served, joint = serve(**ASYNCHRONOUS), config.joint_steps
    served.advance(joint - 1, first=100)
    assert served.push(Slot(joint, 0), joint - 1).outcome == "stale"
    served.advance(joint, first=100)
    assert served.push(Slot(joint - 1, 7), joint).outcome == "stale"
    assert served.push(Slot(joint, 0), joint).outcome == "accepted"


def test_no_step_is_taken_after_the_last(serve: Callable[..., Served]) -> None:
    served = serve(**ASYNCHRONOUS, num_steps=2, warmup_steps=2, joint_steps=2)
    served.advance(2)
    assert [served.push(Slot(2, number), 2) for number in (0, 1)] == [Pushed(outcome="stale")] * 2


def test_a_server_that_begins_at_a_checkpoint_goes_on_bit_for_bit(serve: Callable[..., Served]) -> None:
    whole, first = serve("whole"), serve("parts")
    whole.advance(8)
    first.advance(2)
    first.server.adjust(Adjustment(step=1, what="batch_divisor", value=2, why="w"))
    assert first.server.save() == 2
    first.advance(3)  # lost

    second = serve("parts")
    standing = second.standing
    assert (standing.version, standing.checkpoint_step, standing.unjudged) == (2, 2, False)
    assert [adjustment.step for adjustment in standing.adjustments] == [1]
    second.advance(8)
    assert same(whole.prior, second.prior)
    assert whole.server.log() == second.server.log()


def test_a_fresh_server_says_that_it_began_afresh(serve: Callable[..., Served]) -> None:
    standing = serve().standing
    assert (standing.version, standing.checkpoint_step, standing.unjudged) == (0, None, False)


def test_a_server_begins_at_its_parent(serve: Callable[..., Served], config: MetaConfig) -> None:
    parent = MetaState(config.model_copy(update={"seed": 9}), CLASSES).prior.to_arrays()
    begun, fresh = serve(parent=pack(parent)).prior, serve("fresh").prior
    assert all(torch.equal(begun[name], value) for name, value in parent.items())
    assert any(not torch.equal(fresh[name], value) for name, value in parent.items())


def test_judgements_are_kept_with_their_step_and_a_missing_one_is_noticed(
    serve: Callable[..., Served], config: MetaConfig
) -> None:
    served = serve()
    served.advance(config.evaluate_every)
    served.server.judged(99, {0: 0.5})
    served.server.save()
    assert serve().standing.unjudged
    served.server.judged(config.evaluate_every, {0: 0.25, 4: 0.75})
    served.server.save()
    again = serve()
    assert not again.standing.unjudged
    assert [entry.held_out for entry in again.server.log()] == [None, None, None, {0: 0.25, 4: 0.75}]


def test_an_adjustment_is_noted_once(serve: Callable[..., Served]) -> None:
    served = serve()
    for _ in range(2):
        served.server.adjust(Adjustment(step=0, what="batch_divisor", value=2, why="w"))
    served.server.save()
    assert len(serve().standing.adjustments) == 1
