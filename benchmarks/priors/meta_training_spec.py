"""The variants that `meta_training` compares, as a file of JSON names them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.registry import SPACES
from service.cli.meta_runs.options import read_config
from workers.contracts.meta_config import MetaConfig

# Fields that nothing before the end of the warm-up depends on.
AFTER_WARM_UP: Final = frozenset(
    {
        "arch_entropy",
        "arch_kl",
        "arch_lr",
        "estimator",
        "family",
        "inner_arch_kl",
        "inner_arch_lr",
        "inner_head_lr",
        "inner_lr",
        "inner_scale_lr",
        "inner_weight_kl",
        "joint_steps",
        "max_ways",
        "min_ways",
        "mode_share",
        "num_arch_samples",
        "num_examples",
        "num_inner_steps",
        "num_query",
        "num_support",
        "rule",
        "temperature",
        "weight_kl",
        "weight_scale",
    }
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to learn a prior, and one to adapt it where it is judged.

    Attributes:
        name: Of the variant.
        changes: Of the base, by field; lengths of parts are those of the base's `num_steps`.
        judge_changes: Of the base, by field, where the prior is judged.
        learn: The base with `changes`.
        judge: The base with `judge_changes`: its inner rates, and the seed of the tasks.
    """

    name: str
    changes: Mapping[str, object]
    judge_changes: Mapping[str, object]
    learn: MetaConfig
    judge: MetaConfig

    @property
    def shares_warm_up(self) -> bool:
        """Whether it learns as the base does until the choices learn too."""
        return self.changes.keys() <= AFTER_WARM_UP


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Attributes:
    base: What variants change.
    cell: Architecture that all priors are judged at, beside their modes.
    variants: In the order of the file; the first is what the others are compared with.
    """

    base: MetaConfig
    cell: Architecture
    variants: Sequence[Variant]

    @property
    def reference(self) -> str:
        return self.variants[0].name

    def chosen(self, names: Sequence[str]) -> list[Variant]:
        """Return the reference and the variants named; all if none is.

        Raises:
            UnknownNameError: There is no such variant.
        """
        known = {variant.name: variant for variant in self.variants}
        wanted = [lookup(known, name, kind="variant") for name in names] or list(known.values())
        return [variant for variant in self.variants if variant.name == self.reference or variant in wanted]


def read_spec(path: Path) -> Spec:
    """Read `{"base": FILE, "changes": {}, "cell": CELL, "variants": [{"name": NAME, "learn": {}, "judge": {}}, ...]}`.

    FILE is a configuration beside the spec; `changes` of it hold for all. A variant may lack `learn` and `judge`.

    Raises:
        InvalidOptionError: The file is none such, a name comes twice, or a variant is no configuration.
    """
    try:
        given = json.loads(path.read_text())
        base = _changed(read_config(path.parent / given["base"]), given.get("changes", {}), "changes")
        cell = SPACES[base.search_space].parse(given["cell"])
        variants = [
            Variant(
                name=item["name"],
                changes=item.get("learn", {}),
                judge_changes=item.get("judge", {}),
                learn=_changed(base, item.get("learn", {}), item["name"]),
                judge=_changed(base, item.get("judge", {}), item["name"]),
            )
            for item in given["variants"]
        ]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidOptionError(f"{path} cannot be read", got=repr(error)) from error
    names = [variant.name for variant in variants]
    if not variants or len(set(names)) < len(names):
        raise InvalidOptionError(f"variants of {path}", got=names, expected="one or more, each with its own name")
    return Spec(base=base, cell=cell, variants=variants)


def _changed(base: MetaConfig, changes: Mapping[str, object], name: str) -> MetaConfig:
    try:
        return MetaConfig.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise InvalidOptionError(f"the configuration of {name}", got=str(error)) from error
