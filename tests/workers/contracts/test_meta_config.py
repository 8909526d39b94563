import pytest
from pydantic import ValidationError

from workers.contracts.meta_config import MetaConfig

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
OTHER = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["|nor_conv_3x3~0|"]}, "architectures:"),
        ({"architectures": [CELL, "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"]}, "does not depend on the input"),
        ({"architectures": [CELL], "search_space": "mobile"}, "architectures:"),
        ({"architectures": [CELL], "search_space": "nowhere"}, "search_space: unknown"),
        ({"architectures": [CELL], "mode_share": 0.5}, "mode_share: act on choices"),
        (
            {"architectures": [CELL], "choice_share": 0.5, "arch_entropy": 0.1},
            "choice_share, arch_entropy: act on choices",
        ),
        ({"architectures": [CELL], "path_sampling": "fair"}, "path_sampling: act on choices"),
        ({"architectures": [CELL], "inner_arch_lr": 0.1}, "inner_arch_lr: act on choices"),
        ({"num_steps": 9, "warmup_steps": 5, "joint_steps": 5, "mode_share": 0.5}, "mode_share: the run has no second"),
        ({"num_steps": 9, "warmup_steps": 5, "joint_steps": 5, "choice_share": 0.5}, "choice_share: the run has no"),
        ({"num_steps": 9, "warmup_steps": 0, "path_sampling": "fair"}, "path_sampling: the run has no warm-up"),
        ({"num_steps": 9, "warmup_steps": 0, "joint_steps": 0, "label_smoothing": 0.1}, "label_smoothing: the run"),
        ({"arch_lr": 0.0, "choice_share": 0.1, "arch_entropy": 0.1}, "choice_share, arch_entropy: act on choices that"),
        ({"arch_lr": 0.0, "family": "gaussian"}, "arch_lr: the scales of gaussian weights"),
        ({"trials": {"num_steps_shares": [0.5]}}, "num_steps_shares: the longest trials"),
        ({"trials": {"num_tasks": 4, "num_steps_shares": [1.0, 0.5, 0.1]}}, "at most one for every two of num_tasks"),
        ({"mode": "asynchronous", "muon_lr": 0.02}, "muon_lr: its steps do not shrink with staleness"),
        ({"mode_share": 1.0}, "mode_share"),
        ({"choice_share": 1.0}, "choice_share"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"arch_entropy": -0.1}, "arch_entropy"),
    ],
)
def test_what_would_not_act_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MetaConfig.model_validate(fields)


def test_what_acts_on_choices_acts_where_several_architectures_leave_some() -> None:
    several = {"architectures": [CELL, OTHER], "mode_share": 0.5, "path_sampling": "fair", "trials": {}}
    assert not MetaConfig.model_validate(several).is_of_one
    assert MetaConfig.model_validate({"architectures": [CELL, f" {CELL}"]}).is_of_one


def test_trials_of_fresh_weights_rule_nothing_out() -> None:
    with pytest.raises(ValidationError, match="architectures: trials with fresh weights"):
        MetaConfig.model_validate({"architectures": [CELL, OTHER], "trials": {"weights": "fresh"}})
