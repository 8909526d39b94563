"""Tasks: what each draw holds, and that the generator alone decides."""

import numpy as np
import pytest
import torch

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.distribution import ClassImages, RawTask, TaskDistribution
from workers.tasks.images import LabeledImages


def numbered(name: str, num_classes: int, each: int, *, first: int = 0) -> ClassImages:
    """Classes whose images tell their class (channel 0) and their number within it (channel 1)."""
    labels = np.arange(num_classes * each) % num_classes
    images = np.zeros((num_classes * each, 4, 4, 3), np.uint8)
    images[..., 0] = (first + labels)[:, None, None]
    images[..., 1] = (np.arange(num_classes * each) // num_classes)[:, None, None]
    names = tuple(f"{name}{label}" for label in range(num_classes))
    return ClassImages.from_labeled(LabeledImages(images=images, labels=labels.astype(np.int64), classes=names))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(distribution: TaskDistribution, seed: int = 0, ways: int = 5, sizes: tuple[int, int] = (20, 10)) -> RawTask:
    return distribution.sample(seeded(seed), num_ways=(ways, ways), sizes=sizes)


CLASSES = numbered("c", 10, 12)
SIDES = {4: 1.0}


def test_a_task_is_balanced_and_its_labels_are_its_classes() -> None:
    task = draw(TaskDistribution(CLASSES, SIDES))

    assert task.num_ways == 5
    assert len(set(task.class_ids.tolist())) == 5
    assert task.num_examples == 60
    assert task.support_images.shape == (20, 4, 4, 3)
    assert task.support_images.dtype == torch.uint8
    for images, labels, each in (
        (task.support_images, task.support_labels, 4),
        (task.query_images, task.query_labels, 2),
    ):
        assert torch.bincount(labels).tolist() == [each] * 5
        assert torch.equal(images[:, 0, 0, 0].long(), task.class_ids[labels])


def test_every_part_of_a_support_cut_into_batches_has_every_class() -> None:
    task = draw(TaskDistribution(CLASSES, SIDES))

    for part in task.support_labels.chunk(4):
        assert sorted(part.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sizes", [(20, 10), (40, 20), (200, 100), (7, 3)])
def test_support_and_query_never_share_an_image(sizes: tuple[int, int]) -> None:
    task = draw(TaskDistribution(CLASSES, SIDES), sizes=sizes)

    support, query = (
        {(image[0, 0, 0].item(), image[0, 0, 1].item()) for image in images}
        for images in (task.support_images, task.query_images)
    )
    assert not support & query
    assert len(task.support_images) == sizes[0]
    assert len(task.query_images) == max(5, sizes[1])
    # 12 images of each of 5 classes: what is asked for beyond them repeats some.
    assert len(support) == min(sizes[0], 40)


def test_the_generator_alone_decides() -> None:
    one, again, other = (draw(TaskDistribution(CLASSES, {4: 1.0, 8: 1.0}), seed) for seed in (7, 7, 8))

    assert torch.equal(one.support_images, again.support_images)
    assert torch.equal(one.query_images, again.query_images)
    assert torch.equal(one.class_ids, again.class_ids)
    assert one.resolution == again.resolution
    assert not torch.equal(one.support_images, other.support_images)


def test_ways_and_resolutions_are_drawn_from_what_was_asked() -> None:
    distribution = TaskDistribution(CLASSES, {4: 3.0, 8: 1.0})
    generator = seeded(0)

    tasks = [distribution.sample(generator, num_ways=(2, 20), sizes=(20, 20)) for _ in range(400)]

    assert {task.num_ways for task in tasks} == set(range(2, 11))
    # 400 draws at 3/4: mean 300, standard deviation 8.7; four of those.
    assert abs(sum(task.resolution == 4 for task in tasks) - 300) < 35


def test_a_task_keeps_to_one_dataset_and_every_class_is_met_equally_often() -> None:
    joined = ClassImages.join([numbered("a", 4, 6), numbered("b", 12, 6, first=4)])
    distribution = TaskDistribution(joined, SIDES)
    generator, met = seeded(0), torch.zeros(16)

    for _ in range(1600):
        task = distribution.sample(generator, num_ways=(3, 3), sizes=(6, 3))
        assert len({int(class_id) < 4 for class_id in task.class_ids}) == 1
        assert torch.equal(task.support_images[:, 0, 0, 0].long(), task.class_ids[task.support_labels])
        met[task.class_ids] += 1

    # Each class: 1600 draws at 3/16; standard deviation 15.6; four of those.
    assert (met - 300).abs().max() < 63


def test_a_batch_has_all_classes_alike_whatever_their_sizes() -> None:
    small, large = numbered("a", 2, 3), numbered("b", 2, 60, first=2)
    distribution = TaskDistribution(ClassImages.join([small, large]), SIDES)

    images, class_ids, side = distribution.sample_batch(seeded(0), 4000)

    assert side == 4
    assert torch.equal(images[:, 0, 0, 0].long(), class_ids)
    # 1000 each; standard deviation 27; four of those.
    assert (torch.bincount(class_ids) - 1000).abs().max() < 110
    assert set(images[class_ids == 0][:, 0, 0, 1].tolist()) == {0, 1, 2}
    assert set(images[class_ids == 3][:, 0, 0, 1].tolist()) == set(range(60))


def test_weights_say_how_often_each_dataset_gives_tasks_and_images() -> None:
    joined = ClassImages.join([numbered("a", 4, 6), numbered("b", 12, 6, first=4)])
    distribution = TaskDistribution(joined, SIDES, [3.0, 1.0])
    generator = seeded(0)

    from_first = sum(
        int(distribution.sample(generator, num_ways=(3, 3), sizes=(6, 3)).class_ids[0]) < 4 for _ in range(800)
    )
    _, class_ids, _ = distribution.sample_batch(generator, 8000)

    # 800 draws at 3/4: mean 600, standard deviation 12.2; four of those.
    assert abs(from_first - 600) < 49
    met = torch.bincount(class_ids, minlength=16)
    # Of 8000 images, 1500 of each of the first 4 classes and 167 of each of the other 12; four standard deviations.
    assert (met[:4] - 1500).abs().max() < 140
    assert (met[4:] - 2000 / 12).abs().max() < 52


def test_without_weights_every_class_counts_alike_and_draws_stay_as_they_were() -> None:
    joined = ClassImages.join([numbered("a", 4, 6), numbered("b", 12, 6, first=4)])
    plain, weighted = TaskDistribution(joined, SIDES), TaskDistribution(joined, SIDES, [4, 12])

    for seed in range(5):
        one, other = (draw(distribution, seed, ways=3) for distribution in (plain, weighted))
        assert torch.equal(one.support_images, other.support_images)
        assert torch.equal(one.class_ids, other.class_ids)
    # What priors that were learned before there were weights replay.
    assert torch.equal(plain.sample_batch(seeded(1), 50)[1], torch.randint(16, (50,), generator=seeded(1)))


def test_the_weight_of_a_single_dataset_changes_no_task() -> None:
    one, other = (draw(TaskDistribution(CLASSES, SIDES, weights)) for weights in (None, [7.0]))

    assert torch.equal(one.query_images, other.query_images)


def test_a_task_uses_as_many_images_as_were_drawn_for_it_small_numbers_as_often_as_large_ones() -> None:
    distribution = TaskDistribution(numbered("c", 4, 250), SIDES)
    generator = seeded(0)

    tasks = [
        distribution.sample(generator, num_ways=(4, 4), sizes=(200, 200), num_examples=(10, 1000)) for _ in range(400)
    ]

    numbers = [task.num_examples for task in tasks]
    assert all(12 <= number <= 1000 and number % 4 == 0 for number in numbers)
    # 400 draws at 1/2, since 100 lies in the middle of the logarithms: standard deviation 10; four of those.
    assert abs(sum(number <= 100 for number in numbers) - 200) < 41
    for task in tasks[:20]:
        support, query = (
            {(image[0, 0, 0].item(), image[0, 0, 1].item()) for image in images}
            for images in (task.support_images, task.query_images)
        )
        assert not support & query
        assert len(support | query) == min(task.num_examples, 400)


def test_every_class_of_the_smallest_task_has_one_image_to_learn_from_and_one_to_judge_by() -> None:
    task = TaskDistribution(CLASSES, SIDES).sample(seeded(0), num_ways=(10, 10), sizes=(20, 20), num_examples=(2, 2))

    assert task.num_examples == 20
    for images, labels in ((task.support_images, task.support_labels), (task.query_images, task.query_labels)):
        assert sorted(set(labels.tolist())) == list(range(10))
        assert len({(image[0, 0, 0].item(), image[0, 0, 1].item()) for image in images}) == 10


def test_classes_are_counted_by_dataset() -> None:
    joined = ClassImages.join([numbered("a", 4, 6), numbered("b", 12, 6, first=4)])

    assert TaskDistribution(joined.subset(["b3", "a0", "b1", "a2", "b7"]), SIDES).num_classes_by_dataset == (2, 3)
    assert TaskDistribution(CLASSES, SIDES).num_classes_by_dataset == (10,)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    joined = ClassImages.join([numbered("a", 3, 6), numbered("b", 3, 6, first=3)])

    with pytest.raises(InvalidOptionError, match=r"dataset_weights.* a weight > 0 for each of 2 datasets"):
        TaskDistribution(joined, SIDES, weights)


def test_a_subset_is_relabeled_in_its_order_and_remembers_datasets() -> None:
    joined = ClassImages.join([numbered("a", 3, 4), numbered("b", 3, 4, first=3)])

    subset = joined.subset(["b2", "a0", "b0"])

    assert subset.class_names == ("b2", "a0", "b0")
    assert subset.dataset_ids == (1, 0, 1)
    assert len(subset.images) == 12
    assert torch.equal(subset.images[:, 0, 0, 0].long(), torch.tensor([5, 0, 3])[subset.labels])


def test_only_a_declared_split_is_taken(digits: LabeledImages) -> None:
    splits = np.zeros(len(digits), np.int8)
    splits[::3] = 2
    labeled = LabeledImages(images=digits.images, labels=digits.labels, classes=digits.classes, splits=splits)

    train = ClassImages.from_labeled(labeled, split="train")

    assert np.array_equal(train.images.numpy(), digits.images[splits == 0])
    with pytest.raises(InvalidDatasetError, match="declares no splits"):
        ClassImages.from_labeled(digits, split="train")


def test_a_whole_dataset_shares_its_memory(digits: LabeledImages) -> None:
    assert ClassImages.from_labeled(digits).images.data_ptr() == digits.images.ctypes.data


def test_what_cannot_make_tasks_is_refused() -> None:
    wide = ClassImages(images=torch.zeros(1, 5, 5, 3, dtype=torch.uint8), labels=torch.tensor([0]), class_names=("w",))
    with pytest.raises(InvalidDatasetError, match="data lack classes that were named: got 'x'"):
        CLASSES.subset(["c1", "x"])
    with pytest.raises(InvalidDatasetError, match="share names of classes: got 'c0"):
        ClassImages.join([CLASSES, CLASSES])
    with pytest.raises(InvalidDatasetError, match="differ in size"):
        ClassImages.join([CLASSES, wide])
    with pytest.raises(InvalidDatasetError, match="too few classes for tasks"):
        TaskDistribution(CLASSES.subset(["c1"]), SIDES)
    with pytest.raises(InvalidDatasetError, match="class c0 has too few images: got 1"):
        TaskDistribution(numbered("c", 3, 1), SIDES)
    with pytest.raises(
        InvalidDatasetError, match="too few classes for the ways asked for: got 10; expected at least 11"
    ):
        draw(TaskDistribution(CLASSES, SIDES), ways=11)
    for sides in ({}, {4: 0.0}, {0: 1.0}):
        with pytest.raises(InvalidOptionError, match="resolutions"):
            TaskDistribution(CLASSES, sides)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_images_that_are_set_aside_never_meet_the_others(share: float) -> None:
    small, large = numbered("a", 1, 2), numbered("b", 1, 60, first=1)
    distribution = TaskDistribution(ClassImages.join([small, large]), SIDES)

    def seen(*, from_aside: bool) -> tuple[set[int], set[int]]:
        images, ids, _ = distribution.sample_batch(seeded(0), 4000, set_aside=share, from_aside=from_aside)
        first, second = (set(images[ids == class_id][:, 0, 0, 1].tolist()) for class_id in (0, 1))
        return first, second

    for kept, aside, count in zip(seen(from_aside=False), seen(from_aside=True), (2, 60), strict=True):
        # Each image is missed by 2000 draws with chance exp(-33) at most.
        assert kept | aside == set(range(count))
        assert not kept & aside
        assert len(aside) == min(max(1, round(share * count)), count - 1)
