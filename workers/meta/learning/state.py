"""What a meta-training knows between two steps: the prior, its optimizers, and where it stands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import Supernet
from workers.bayes.aggregate import MeanGradient, clip_per_group
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.bayes.relaxation import entropy_gradient
from workers.contracts.errors import CheckpointMismatchError, NewerFormatError
from workers.contracts.meta_config import MetaConfig
from workers.priors.model import HEAD_NAMES, fresh_prior, full_macro, options_of, possible_options, ruled_out
from workers.training.muon import Muon, mixes_channels

CHECKPOINT = "checkpoint.pt"
# Of that file; one that says none is of version 1.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """What one meta-step did.

    Attributes:
        loss: Mean over its slots, in nats per example.
        norms: Gradient norm of each group before clipping.
    """

    step: int
    loss: float
    norms: Mapping[str, float]


class MetaState:
    """The prior in training. A step changes it in place; a checkpoint holds all of it.

    The persistent heads of the warm-up are rows of `classifier.weight` and `classifier.bias` among the prior's means;
    `prior` leaves them out, `prior_with_heads` has them.

    Args:
        config: Of the run.
        class_names: Of the classes that keep a head during the warm-up, in the order of their labels.
        parent: Prior to begin from, of the same space and skeleton; None: fresh weights and uniform choices.
    """

    def __init__(self, config: MetaConfig, class_names: Sequence[str], parent: MetaPrior | None = None) -> None:
        self.config = config
        self.step = 0
        self.class_names = tuple(class_names)
        num_classes = len(class_names)
        macro = full_macro(config.macro, num_classes=num_classes, image_size=max(config.resolutions))
        generator = slot_generator(config.seed, 0, 0, "weights")
        fresh = parent or fresh_prior(config.search_space, macro, generator, weight_scale=config.weight_scale)
        num_features = _num_features(config.search_space, macro)
        heads = {
            HEAD_NAMES[0]: torch.randn(num_classes, num_features, generator=generator) / math.sqrt(num_features),
            HEAD_NAMES[1]: torch.zeros(num_classes),
        }
        logits_EO = fresh.arch_logits.clone()
        if config.architectures:
            space = SPACES[config.search_space]
            possible_EO = options_of([space.parse(text) for text in config.architectures])
            # What a parent ruled out is possible again where it is named.
            logits_EO = ruled_out(torch.where(possible_options(logits_EO), logits_EO, 0.0), possible_EO)
        self._arch_logits = logits_EO.requires_grad_()
        self._loc = {name: value.clone().requires_grad_() for name, value in {**fresh.loc, **heads}.items()}
        self._log_scale = {name: value.clone().requires_grad_() for name, value in fresh.log_scale.items()}
        self._kernels = {name for name, value in self._loc.items() if config.muon_lr and mixes_channels(value)}
        self._weights_optimizer = torch.optim.SGD(
            [value for name, value in self._loc.items() if name not in self._kernels],
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
        )
        self._kernel_optimizer = Muon(
            [value for name, value in self._loc.items() if name in self._kernels],
            lr=config.muon_lr,
            momentum=config.momentum,
        )
        self._choice_optimizer = torch.optim.Adam([self._arch_logits, *self._log_scale.values()], lr=config.arch_lr)

    @property
    def prior(self) -> MetaPrior:
        """The prior as others get it: without the persistent heads. Shares memory with the state."""
        loc = {name: value.detach() for name, value in self._loc.items() if name not in HEAD_NAMES}
        log_scale = {name: value.detach() for name, value in self._log_scale.items()}
        return MetaPrior(self._arch_logits.detach(), loc, log_scale)

    @property
    def prior_with_heads(self) -> MetaPrior:
        """The prior of the warm-up, whose means hold the persistent heads, with the scale of the other weights."""
        prior = self.prior
        heads = {name: self._loc[name].detach() for name in HEAD_NAMES}
        scale = torch.tensor(self.config.weight_scale).log()
        return MetaPrior(
            prior.arch_logits, {**prior.loc, **heads}, {**prior.log_scale, **dict.fromkeys(HEAD_NAMES, scale)}
        )

    @property
    def warming_up(self) -> bool:
        return self.step < self.config.warmup_steps

    @property
    def lr(self) -> float:
        """The rate on the weights at this step."""
        return self.config.lr * self._share_of_lr

    @property
    def _share_of_lr(self) -> float:
        config = self.config
        rise = min(1.0, (self.step + 1) / max(1, config.lr_rise_steps))
        return rise * 0.5 * (1 + math.cos(math.pi * self.step / config.num_steps))

    def apply(self, mean: MeanGradient) -> StepLog:
        """Take one optimizer step along an aggregated gradient, clipped per group.

        During the warm-up the option logits stay uniform: choices learned on weights that have not learned yet collapse
        to the cheapest op. What a decision's entropy is worth is added after clipping: it needs no other machine.
        """
        groups = {key.partition("/")[0] for key in mean.arrays}
        arrays, norms = clip_per_group(mean.arrays, dict.fromkeys(groups, self.config.clip))
        config = self.config
        for name, parameter in self._loc.items():
            gradient = arrays.get(f"loc/{name}")
            if gradient is not None and name not in self._kernels:
                gradient = gradient.add(parameter.detach(), alpha=config.weight_decay)
            elif gradient is not None and not gradient.any():
                gradient = None  # of an op that no path ran: Muon would go on as far as ever, where SGD coasts
            parameter.grad = gradient
        optimizers = {self._weights_optimizer: config.lr, self._kernel_optimizer: config.muon_lr}
        for optimizer, lr in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = lr * self._share_of_lr
            optimizer.step()
        if not self.warming_up:
            self._arch_logits.grad = self._slope_of_choices(arrays["arch_logits"])
            for name, scale in self._log_scale.items():
                scale.grad = arrays.get(f"log_scale/{name}")
            self._choice_optimizer.step()
        log = StepLog(step=self.step, loss=mean.loss, norms=norms)
        self.step += 1
        return log

    def _slope_of_choices(self, found_EO: Tensor) -> Tensor | None:
        """Return the gradient of the option logits, that of their entropy included; None where they are given."""
        if self.config.is_of_one:
            return None
        if not self.config.arch_entropy:
            return found_EO
        return found_EO - self.config.arch_entropy * entropy_gradient(self._arch_logits.detach())

    def entropies(self) -> list[float]:
        """Return the entropy of each decision, in nats."""
        log_p_EO = torch.log_softmax(self._arch_logits.detach(), dim=-1)
        return [float(value) for value in -(log_p_EO.exp() * log_p_EO).sum(dim=-1)]

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically."""
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "format_version": FORMAT_VERSION,
                "config": self.config.model_dump_json(),
                "class_names": list(self.class_names),
                "step": self.step,
                "arch_logits": self._arch_logits.detach(),
                "loc": {name: value.detach() for name, value in self._loc.items()},
                "log_scale": {name: value.detach() for name, value in self._log_scale.items()},
                "weights_optimizer": self._weights_optimizer.state_dict(),
                "kernel_optimizer": self._kernel_optimizer.state_dict(),
                "choice_optimizer": self._choice_optimizer.state_dict(),
            },
            partial,
        )
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint, exactly.

        Raises:
            NewerFormatError: A newer ArchPrior wrote it.
            CheckpointMismatchError: Another configuration or another set of classes wrote it.
        """
        saved = torch.load(path, weights_only=True)
        if saved.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
            raise NewerFormatError.of(str(path), saved["format_version"], FORMAT_VERSION)
        if MetaConfig.model_validate_json(saved["config"]) != self.config:
            raise CheckpointMismatchError(
                f"checkpoint {path} belongs to another configuration",
                todo="Resume with the configuration that wrote it, or choose another output folder.",
            )
        if tuple(saved["class_names"]) != self.class_names:
            raise CheckpointMismatchError(
                f"checkpoint {path} belongs to other classes",
                todo="Resume with the datasets and the split that wrote it, or choose another output folder.",
            )
        _fill({"arch_logits": self._arch_logits}, {"arch_logits": saved["arch_logits"]}, path)
        _fill(self._loc, saved["loc"], path)
        _fill(self._log_scale, saved["log_scale"], path)
        self._weights_optimizer.load_state_dict(saved["weights_optimizer"])
        if self._kernels:
            self._kernel_optimizer.load_state_dict(saved["kernel_optimizer"])
        self._choice_optimizer.load_state_dict(saved["choice_optimizer"])
        self.step = saved["step"]


def _fill(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor], path: Path) -> None:
    for name, target in targets.items():
        if name not in saved or saved[name].shape != target.shape:
            raise CheckpointMismatchError(f"checkpoint {path} lacks {name} or has another shape of it")
        with torch.no_grad():
            target.copy_(saved[name])


def _num_features(space_name: str, macro: Macro) -> int:
    with torch.device("meta"):
        return Supernet(SPACES[space_name], macro).num_features
