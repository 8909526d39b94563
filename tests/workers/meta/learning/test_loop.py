import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search_spaces.registry import SPACES
from workers.bayes.aggregate import MeanGradient
from workers.contracts.errors import CheckpointMismatchError, DivergedError, InvalidDatasetError
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.loop import LOG, meta_train
from workers.meta.learning.state import CHECKPOINT, MetaState
from workers.priors.model import doubt, mode_of
from workers.tasks.distribution import ClassImages


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("muon_lr", [0.0, 0.02])
def test_a_run_resumed_from_its_checkpoint_is_the_same_bit_for_bit(
    muon_lr: float, config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    config = config.model_copy(update={"muon_lr": muon_lr})
    whole = meta_train(config, classes, classes, tmp_path / "whole")
    for pause in (1, 4, 5, 9):
        parts = meta_train(config, classes, classes, tmp_path / "parts", num_steps=pause)
    assert same(whole.prior_with_heads.to_arrays(), parts.prior_with_heads.to_arrays())
    assert (tmp_path / "whole" / LOG).read_text() == (tmp_path / "parts" / LOG).read_text()


def test_a_run_killed_between_checkpoints_goes_on_from_the_last_and_logs_each_step_once(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(log: object) -> None:
        if getattr(log, "step", 0) == 4:
            raise Killed

    with pytest.raises(Killed):
        meta_train(config, classes, classes, tmp_path / "killed", on_step=kill)
    killed = meta_train(config, classes, classes, tmp_path / "killed")
    whole = meta_train(config, classes, classes, tmp_path / "whole")
    assert same(whole.prior.to_arrays(), killed.prior.to_arrays())
    lines = (tmp_path / "killed" / LOG).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(config.num_steps))


def test_the_choices_stay_uniform_during_the_warm_up_and_learn_after_it(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    warm = meta_train(config, classes, None, tmp_path, num_steps=config.warmup_steps)
    before = warm.prior.arch_logits.clone()
    assert torch.equal(before, torch.zeros(6, 5))
    after = meta_train(config, classes, None, tmp_path).prior.arch_logits
    assert not torch.equal(before, after)


def test_muon_changes_how_kernels_learn_and_at_its_own_rate(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    def learned(muon_lr: float) -> Mapping[str, Tensor]:
        chosen = config.model_copy(update={"muon_lr": muon_lr, "lr_rise_steps": 0})
        return meta_train(chosen, classes, None, tmp_path / str(muon_lr), num_steps=1).prior.loc

    start = MetaState(config, classes.class_names).prior.loc
    by_sgd, slow, fast = learned(0.0), learned(0.01), learned(0.02)
    other = {name for name in start if not torch.equal(by_sgd[name], fast[name])}
    assert other
    assert all(start[name].ndim == 4 for name in other)
    for name in other:
        torch.testing.assert_close(fast[name] - start[name], 2 * (slow[name] - start[name]))


def test_a_kernel_that_no_path_ran_stays_where_it_was(config: MetaConfig, classes: ClassImages) -> None:
    state = MetaState(config.model_copy(update={"muon_lr": 0.02, "lr_rise_steps": 0}), classes.class_names)
    before = {name: value.clone() for name, value in state.prior.loc.items()}
    kernels = [name for name, value in before.items() if value.ndim == 4]
    ran, idle = kernels[:2]

    def step(*with_gradient: str) -> None:
        arrays = {f"loc/{name}": torch.zeros_like(value) for name, value in before.items()}
        arrays |= {f"loc/{name}": torch.ones_like(before[name]) for name in with_gradient}
        state.apply(MeanGradient(arrays=arrays, loss=1.0, num_slots=1, num_examples=1))

    step(ran, idle)
    once = state.prior.loc[idle].clone()
    assert not torch.equal(once, before[idle])
    step(ran)
    assert torch.equal(state.prior.loc[idle], once)


def test_losses_fall_while_the_heads_stay(config: MetaConfig, classes: ClassImages, tmp_path: Path) -> None:
    longer = config.model_copy(update={"num_steps": 60, "warmup_steps": 60, "joint_steps": 60, "lr": 0.05})
    meta_train(longer, classes, None, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:10]) / 10


def test_weights_say_which_datasets_are_learned_from(config: MetaConfig, classes: ClassImages, tmp_path: Path) -> None:
    def learned(name: str, shade: int, weights: tuple[float, float] | None) -> Mapping[str, Tensor]:
        other = ClassImages(
            images=torch.full_like(classes.images, shade),
            labels=classes.labels,
            class_names=tuple(f"other {name}" for name in classes.class_names),
        )
        joined = ClassImages.join([classes, other])
        state = meta_train(config, joined, None, tmp_path / name, dataset_weights=weights)
        return state.prior.to_arrays()

    # What is hardly ever drawn changes nothing, whatever it shows.
    assert same(learned("dark", 0, (1.0, 1e-12)), learned("light", 255, (1.0, 1e-12)))
    assert not same(learned("dark too", 0, None), learned("light too", 255, None))


def test_held_out_curves_are_logged_where_asked(config: MetaConfig, classes: ClassImages, tmp_path: Path) -> None:
    meta_train(config, classes, classes, tmp_path)
    entries = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    judged = [entry["step"] + 1 for entry in entries if "held_out" in entry]
    assert judged == [4, 8, 9]
    assert all(0 <= value <= 1 for value in entries[-1]["held_out"].values())


@pytest.mark.parametrize(
    ("rule", "estimator"),
    [("kl", "score_function"), ("first_order", "relaxed"), ("unrolled", "relaxed"), ("kl", "straight_through")],
)
@pytest.mark.parametrize("family", ["delta", "gaussian"])
def test_every_rule_estimator_and_family_trains(
    rule: str, estimator: str, family: str, config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    update = {"rule": rule, "estimator": estimator, "family": family, "weight_kl": 1.0, "arch_kl": 1.0}
    update |= {"inner_arch_lr": 0.1, "inner_scale_lr": 0.01 if family == "gaussian" else 0.0}
    # Nothing but this part moves the prior: only what its rule learns differs from the start.
    chosen = MetaConfig.model_validate({**config.model_dump(), **update, "warmup_steps": 0, "joint_steps": 0})
    state = meta_train(chosen, classes, None, tmp_path)
    arrays = state.prior.to_arrays()
    assert all(bool(torch.isfinite(value).all()) for value in arrays.values())
    fresh = MetaState(chosen, classes.class_names).prior.to_arrays()
    moved = {name.partition("/")[0] for name in arrays if not torch.equal(arrays[name], fresh[name])}
    assert moved == ({"arch_logits", "loc", "log_scale"} if family == "gaussian" else {"arch_logits", "loc"})


def test_a_checkpoint_of_another_configuration_is_refused(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    meta_train(config, classes, None, tmp_path, num_steps=2)
    with pytest.raises(CheckpointMismatchError, match="another configuration"):
        meta_train(config.model_copy(update={"seed": 5}), classes, None, tmp_path)


def test_a_checkpoint_of_other_classes_is_refused(config: MetaConfig, classes: ClassImages, tmp_path: Path) -> None:
    meta_train(config, classes, None, tmp_path, num_steps=2)
    with pytest.raises(CheckpointMismatchError, match="other classes"):
        meta_train(config, classes.subset(classes.class_names[:4]), None, tmp_path)


def test_a_checkpoint_is_written_whole_or_not_at_all(
    config: MetaConfig, classes: ClassImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = MetaState(config, classes.class_names)
    state.save(tmp_path / CHECKPOINT)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full_disk(document: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        state.save(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_too_few_classes_for_the_ways_are_refused_before_the_first_step(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    greedy = config.model_copy(update={"min_ways": 7, "max_ways": 9})
    with pytest.raises(InvalidDatasetError, match="min_ways"):
        meta_train(greedy, classes, None, tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_slot_without_a_finite_gradient_is_dropped_and_a_step_without_any_ends_the_run(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    diverging = config.model_copy(update={"lr": 1e30, "clip": 1e30})
    with pytest.raises(DivergedError, match="finite"):
        meta_train(diverging, classes, None, tmp_path)


def test_entropy_that_is_worth_much_keeps_the_choices_unsure(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    longer = {**config.model_dump(), "num_steps": 40, "warmup_steps": 2, "joint_steps": 40, "arch_lr": 0.1}

    def doubts(name: str, arch_entropy: float) -> list[float]:
        changed = MetaConfig.model_validate({**longer, "arch_entropy": arch_entropy})
        return meta_train(changed, classes, None, tmp_path / name).entropies()

    # Uniform over five: 1.609.
    assert min(doubts("much", 10.0)) > 1.58 > min(doubts("nothing", 0.0))


def test_one_architecture_is_sure_from_the_first_step_to_the_last(
    config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
    alone = MetaConfig.model_validate({**config.model_dump(), "architectures": [cell]})
    before = MetaState(alone, classes.class_names).prior
    after = meta_train(alone, classes, None, tmp_path).prior

    space = SPACES[alone.search_space]
    assert mode_of(after, space) == space.parse(cell)
    assert torch.equal(before.arch_logits, after.arch_logits)
    moved = {name for name in after.loc if not torch.equal(before.loc[name], after.loc[name])}
    assert moved
    assert doubt(after.arch_logits) == 0
