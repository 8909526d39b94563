import pytest
import torch

from workers.contracts.meta_config import MetaConfig
from workers.meta.learning import evaluation
from workers.meta.learning.evaluation import CURVE_STEPS, NUM_TASKS, adaptation_curve, judge, query_scores
from workers.meta.learning.slot import SlotWork
from workers.meta.learning.state import MetaState
from workers.tasks.distribution import ClassImages, TaskDistribution


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SIZES", (36, 36))


@pytest.fixture
def held_out(classes: ClassImages) -> TaskDistribution:
    return TaskDistribution(classes, {8: 1.0})


def work_of(config: MetaConfig, held_out: TaskDistribution) -> SlotWork:
    return SlotWork.build(config, held_out)


def test_a_curve_is_the_mean_of_its_tasks_whoever_judged_each(
    config: MetaConfig, classes: ClassImages, held_out: TaskDistribution
) -> None:
    prior = MetaState(config, classes.class_names).prior
    shared = {
        number: judge(work_of(config, held_out), held_out, prior, number) for number in reversed(range(NUM_TASKS))
    }
    curve = adaptation_curve(work_of(config, held_out), held_out, prior)
    assert tuple(curve) == CURVE_STEPS
    for steps, accuracy in curve.items():
        assert accuracy == pytest.approx(sum(shared[number][steps] for number in range(NUM_TASKS)) / NUM_TASKS)
    assert len({tuple(task.values()) for task in shared.values()}) > 1


def test_persistent_heads_and_what_is_not_the_mode_do_not_count(
    config: MetaConfig, classes: ClassImages, held_out: TaskDistribution
) -> None:
    state, work = MetaState(config, classes.class_names), work_of(config, held_out)
    with torch.no_grad():
        state.prior.arch_logits[:, 3] += 1.0
        state.prior.arch_logits[:, 1] += 0.5
    bare = judge(work, held_out, state.prior, 0)
    assert judge(work, held_out, state.prior_with_heads, 0) == bare
    with torch.no_grad():
        state.prior.arch_logits[:, 3] += 5.0
    assert judge(work, held_out, state.prior, 0) == bare
    with torch.no_grad():
        state.prior.arch_logits[:, 1] += 9.0
    assert judge(work, held_out, state.prior, 0) != bare


def test_a_prior_is_judged_in_the_precision_of_its_run(
    config: MetaConfig, classes: ClassImages, held_out: TaskDistribution
) -> None:
    prior = MetaState(config, classes.class_names).prior
    mixed = work_of(config.model_copy(update={"precision": "bfloat16"}), held_out)
    exact = judge(work_of(config, held_out), held_out, prior, 1)
    # 36 images: the two agree on all but a few.
    assert judge(mixed, held_out, prior, 1)[0] == pytest.approx(exact[0], abs=4 / 36)


def test_scores_say_how_sure_a_prior_is_beside_how_right(
    config: MetaConfig, classes: ClassImages, held_out: TaskDistribution
) -> None:
    prior, work = MetaState(config, classes.class_names).prior, work_of(config, held_out)
    scores = query_scores(work, held_out, prior, 0)

    assert judge(work, held_out, prior, 0) == {steps: found.accuracy for steps, found in scores.items()}
    assert len({found.nll for found in scores.values()}) == len(CURVE_STEPS)
    for found in scores.values():
        assert found.nll > 0
        assert 0 <= found.calibration_error <= 1


def test_where_else_a_curve_is_judged_changes_nothing(
    config: MetaConfig, classes: ClassImages, held_out: TaskDistribution
) -> None:
    prior, work = MetaState(config, classes.class_names).prior, work_of(config, held_out)
    # Four batches of 128 images: a part of three steps does not end where they begin anew.
    sizes = (512, 36)
    once = query_scores(work, held_out, prior, 0, at_steps=(6,), sizes=sizes)
    often = query_scores(work, held_out, prior, 0, at_steps=(1, 2, 5, 6), sizes=sizes)

    assert often[6] == once[6]
    assert often.keys() == {1, 2, 5, 6}
    assert often[5].nll != often[6].nll
