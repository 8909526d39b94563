import pytest
from pydantic import ValidationError

from workers.contracts.meta_config import MetaConfig

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "|nor_conv_3x3~0|"}, "architecture:"),
        ({"architecture": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}, "does not depend on its input"),
        ({"architecture": CELL, "search_space": "mobile"}, "architecture:"),
        ({"architecture": CELL, "search_space": "nowhere"}, "search_space: unknown"),
        ({"architecture": CELL, "mode_share": 0.5}, "mode_share: act on choices"),
        (
            {"architecture": CELL, "choice_share": 0.5, "arch_entropy": 0.1},
            "choice_share, arch_entropy: act on choices",
        ),
        ({"architecture": CELL, "path_sampling": "fair"}, "path_sampling: act on choices"),
        ({"architecture": CELL, "inner_arch_lr": 0.1}, "inner_arch_lr: act on choices"),
        ({"num_steps": 9, "warmup_steps": 5, "joint_steps": 5, "mode_share": 0.5}, "mode_share: the run has no second"),
        ({"num_steps": 9, "warmup_steps": 5, "joint_steps": 5, "choice_share": 0.5}, "choice_share: the run has no"),
        ({"num_steps": 9, "warmup_steps": 0, "path_sampling": "fair"}, "path_sampling: the run has no warm-up"),
        ({"num_steps": 9, "warmup_steps": 0, "joint_steps": 0, "label_smoothing": 0.1}, "label_smoothing: the run"),
        ({"mode_share": 1.0}, "mode_share"),
        ({"choice_share": 1.0}, "choice_share"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"arch_entropy": -0.1}, "arch_entropy"),
    ],
)
def test_what_would_not_act_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MetaConfig.model_validate(fields)


def test_one_architecture_of_any_space_can_be_learned() -> None:
    assert MetaConfig.model_validate({"architecture": CELL}).architecture == CELL
