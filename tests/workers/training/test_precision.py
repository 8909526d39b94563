"""Which precision is worth its rounding, by the time of a step."""

import pytest
import torch
import torch.nn.functional as F

from search_spaces.registry import SPACES
from search_spaces.supernet import build_supernet
from workers.contracts.base import Precision
from workers.priors.model import uniform_logits
from workers.training import precision as module
from workers.training.precision import faster_precision, passes_in

CPU = torch.device("cpu")


@pytest.mark.parametrize("slow_start", [True, False])
@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "chosen"),
    [(0.01, 0.008, "bfloat16"), (0.01, 0.0095, "float32"), (0.01, 0.02, "float32"), (0.02, 0.01, "bfloat16")],
)
def test_mixed_precision_is_chosen_where_it_saves_a_tenth(
    float32_s: float, bfloat16_s: float, chosen: str, slow_start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, steps = 0.0, 0

    def step(precision: Precision) -> None:
        nonlocal now_s, steps
        steps += 1
        first = 1.0 if steps <= 2 and slow_start else 0.0  # the first of each chooses kernels
        now_s += first + (float32_s if precision == "float32" else bfloat16_s)

    monkeypatch.setattr(module.time, "monotonic", lambda: now_s)
    assert faster_precision(step, CPU) == chosen
    assert steps == (4 if slow_start else 8)  # half a second of timing is enough


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_op_of_every_space_has_gradients_in_mixed_precision(name: str) -> None:
    space = SPACES[name]
    generator = torch.Generator().manual_seed(0)
    supernet = build_supernet(name, space.default_macro(num_classes=3, image_size=16), generator=generator).train()
    images = torch.randn(4, 3, 16, 16, generator=generator).contiguous(memory_format=torch.channels_last)
    relaxed_EO = uniform_logits(space).softmax(dim=-1).float()

    def gradients(precision: Precision) -> dict[str, torch.Tensor]:
        supernet.zero_grad(set_to_none=True)
        with passes_in(precision, CPU):
            logits_NK = supernet(images, relaxed_EO)
        F.cross_entropy(logits_NK.float(), torch.tensor([0, 1, 2, 0])).backward()
        return {key: p.grad.clone() for key, p in supernet.named_parameters() if p.grad is not None}

    exact, mixed = gradients("float32"), gradients("bfloat16")
    assert exact.keys() == mixed.keys()
    for key, gradient in mixed.items():
        assert gradient.dtype == torch.float32, key
        assert gradient.isfinite().all(), key
    one, other = (torch.cat([g.flatten() for g in found.values()]) for found in (exact, mixed))
    assert float(F.cosine_similarity(one, other, dim=0)) > 0.5  # rounding grows from layer to layer
