import pickle
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.bayes.aggregate import aggregate, clip_per_group, down_weight, is_finite
from workers.bayes.meta_gradient import MetaGradient, meta_gradient
from workers.bayes.randomness import slot_generator


def gradient(slot, values, *, num_examples=10, version=3, loss=1.0):
    arrays = {"arch_logits": torch.tensor(values), "loc/w": 2 * torch.tensor(values)}
    return MetaGradient(version=version, slot=slot, num_examples=num_examples, arrays=arrays, loss=loss)


def test_every_task_counts_alike_or_by_its_examples():
    gradients = [gradient(0, [1.0, 0.0], num_examples=30, loss=2.0), gradient(1, [0.0, 1.0], loss=4.0)]
    by_task, by_examples = aggregate(gradients, "task"), aggregate(gradients, "examples")
    torch.testing.assert_close(by_task.arrays["arch_logits"], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(by_examples.arrays["arch_logits"], torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(by_examples.arrays["loc/w"], torch.tensor([1.5, 0.5]))
    assert (by_task.loss, by_examples.loss) == (3.0, 2.5)
    assert (by_task.num_slots, by_task.num_examples) == (2, 40)


def test_the_mean_has_the_same_bits_for_every_order_of_arrival():
    values = [1e8, 1.0, -1e8, 3e-3]
    gradients = [gradient(slot, [value]) for slot, value in enumerate(values)]
    means = {aggregate(list(order)).arrays["arch_logits"].item() for order in permutations(gradients)}
    assert len(means) == 1
    plain = {sum(g.arrays["arch_logits"] for g in order).item() for order in permutations(gradients)}
    assert len(plain) > 1  # or these values would not tell one order from another


@pytest.mark.parametrize("weighting", ["task", "examples"])
def test_one_worker_gives_the_same_mean_as_several(weighting, make_prior, make_head, make_task, make_objective):
    objective, prior = make_objective(), make_prior(0)

    def computed(slot):
        task = replace(make_task(slot), num_examples=10 + slot)
        return meta_gradient(
            "first_order",
            prior,
            make_head(slot),
            task,
            inner=objective,
            outer=objective,
            num_inner_steps=2,
            inner_lr=0.1,
            generator=slot_generator(seed=1, step=7, slot=slot),
            version=7,
            slot=slot,
        )

    spreads = [[[0, 1, 2, 3, 4]], [[4, 1], [3, 0, 2]], [[3], [2], [4], [0], [1]]]
    means = [
        aggregate([computed(slot) for worker in spread for slot in worker], weighting).arrays for spread in spreads
    ]
    for mean in means[1:]:
        assert all(torch.equal(mean[key], means[0][key]) for key in means[0])


def test_a_gradient_survives_pickling():
    again = pickle.loads(pickle.dumps(gradient(2, [1.0, 2.0])))
    assert torch.equal(again.arrays["loc/w"], torch.tensor([2.0, 4.0]))
    assert (again.version, again.slot, again.loss) == (3, 2, 1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_told_apart_and_never_averaged(bad):
    sound, in_an_array, in_the_loss = (
        gradient(0, [1.0, 2.0]),
        gradient(1, [1.0, bad]),
        gradient(1, [1.0, 2.0], loss=bad),
    )
    assert is_finite(sound)
    for broken in (in_an_array, in_the_loss):
        assert not is_finite(broken)
        with pytest.raises(InvalidOptionError, match="slot 1"):
            aggregate([sound, broken])


def test_what_cannot_be_averaged_is_refused():
    other = replace(gradient(1, [1.0]), arrays={"arch_logits": torch.ones(1)})
    for gradients in ([], [gradient(0, [1.0]), gradient(0, [2.0])], [gradient(0, [1.0]), other]):
        with pytest.raises(InvalidOptionError):
            aggregate(gradients)
    with pytest.raises(InvalidOptionError, match="weighting"):
        aggregate([gradient(0, [1.0])], "size")


def test_a_slot_may_come_from_two_versions():
    mean = aggregate([gradient(0, [1.0], version=4), gradient(0, [3.0], version=3)])
    torch.testing.assert_close(mean.arrays["arch_logits"], torch.tensor([2.0]))


def test_a_stale_gradient_shrinks_by_the_discount_of_every_version_it_missed():
    fresh = down_weight(gradient(0, [1.0, 8.0]), version=3, discount=0.5)
    stale = down_weight(gradient(0, [1.0, 8.0]), version=6, discount=0.5)
    torch.testing.assert_close(fresh.arrays["arch_logits"], torch.tensor([1.0, 8.0]))
    torch.testing.assert_close(stale.arrays["loc/w"], torch.tensor([0.25, 2.0]))
    for version, discount in ((2, 0.5), (3, 0.0), (3, 1.5)):
        with pytest.raises(InvalidOptionError, match="down-weight"):
            down_weight(gradient(0, [1.0]), version=version, discount=discount)


def test_groups_are_clipped_apart():
    arrays = {
        "arch_logits": torch.tensor([0.3, 0.4]),
        "loc/a": torch.tensor([300.0]),
        "loc/b": torch.tensor([[400.0]]),
        "log_scale/a": torch.tensor(7.0),
    }
    clipped, norms = clip_per_group(arrays, {"arch_logits": 1.0, "loc": 5.0})
    assert norms == pytest.approx({"arch_logits": 0.5, "loc": 500.0, "log_scale": 7.0})
    assert torch.equal(clipped["arch_logits"], arrays["arch_logits"])
    assert torch.equal(clipped["log_scale/a"], arrays["log_scale/a"])
    torch.testing.assert_close(clipped["loc/a"], torch.tensor([3.0]))
    torch.testing.assert_close(clipped["loc/b"], torch.tensor([[4.0]]))


@pytest.mark.parametrize("max_norm", [{"arch": 1.0}, {"loc": 0.0}, {"loc": -1.0}, {"loc": float("nan")}])
def test_a_bound_that_is_bad_or_bounds_nothing_is_refused(max_norm):
    with pytest.raises(InvalidOptionError):
        clip_per_group({"loc/w": torch.ones(2)}, max_norm)
