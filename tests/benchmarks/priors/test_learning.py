import math
from pathlib import Path

import torch

from benchmarks.priors.learning import after_warm_up, checkpoint_step, go_on_from
from tests.benchmarks.priors.tiny_domains import CONFIG
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.state import CHECKPOINT, MetaState

CLASSES = ("a", "b")


def test_parts_after_a_warm_up_keep_their_shares_of_what_is_left() -> None:
    config = MetaConfig.model_validate(CONFIG)  # 5 steps of warm-up, 3 of joint learning, 2 of tasks
    found = after_warm_up(config, 1000, 500)

    assert (found.warmup_steps, found.joint_steps, found.num_steps) == (1000, 1300, 1500)
    assert found.lr_rise_steps == 400
    only_warm_up = config.model_copy(update={"warmup_steps": 10, "joint_steps": 10})
    assert after_warm_up(only_warm_up, 7, 0).joint_steps == 7


def test_a_run_of_another_configuration_goes_on_with_what_was_learned_and_its_own_scales(tmp_path: Path) -> None:
    config = MetaConfig.model_validate(CONFIG)
    state = MetaState(config, CLASSES)
    state.step = 5
    state.save(tmp_path / CHECKPOINT)
    other = MetaConfig.model_validate({**CONFIG, "weight_scale": 0.01, "mode_share": 0.5, "seed": 1})
    go_on_from(tmp_path / CHECKPOINT, other, tmp_path / "other.pt")
    resumed = MetaState(other, CLASSES)
    resumed.load(tmp_path / "other.pt")

    assert checkpoint_step(tmp_path / "other.pt") == resumed.step == 5
    before, after = state.prior_with_heads, resumed.prior
    assert all(torch.equal(after.loc[name], before.loc[name]) for name in after.loc)
    assert {round(float(value), 6) for value in after.log_scale.values()} == {round(math.log(0.01), 6)}
