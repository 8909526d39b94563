"""The mobile search space: a chain of inverted residual blocks, each of a kernel and an expansion of its own."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.cells import EdgeOp
from search_spaces.decisions import check_choices, check_document, check_scores, option_mask
from search_spaces.drawing import CellDrawing, draw_svg, draw_text
from search_spaces.errors import InvalidArchitectureError
from search_spaces.mobile.chain import LAYERS, NAME, NUM_LAYERS, NUM_STAGES, OPS, SKIP, layer_options, ops_of
from search_spaces.mobile.plan import plan_cost, plan_network
from search_spaces.spec import Cost, Decision, Depth, Macro, least

DEFAULT_NUM_CHANNELS: Final = 16
DEFAULT_NUM_CELLS: Final = 1
CHEAPEST_BLOCK: Final = "mbconv_k3_e3"
# MBConv3 3x3, one of MnasNet's (Tan et al., CVPR 2019), all the way. MobileNetV2's expansion of 6 learns more slowly.
PUBLISHED_BLOCK: Final = "mbconv_k3_e3"
FORM: Final = "+".join(["|op|op|op|"] * NUM_STAGES)
NODE_LABELS: Final = ("in", "1", "2", "out")


class Mobile:
    """The space as `SearchSpace` asks for it; a decision is a layer, an option a block or the identity.

    Every architecture is connected, and costs add over layers.
    """

    name: str = NAME
    title: str = "Mobile blocks (after ProxylessNAS, Cai, Zhu and Han, 2019)"
    decisions: tuple[Decision, ...] = tuple(
        Decision(name=f"{stage}.{layer}", options=layer_options(layer)) for stage, layer in LAYERS
    )
    num_decisions: int = len(LAYERS)
    num_options: int = len(OPS)
    option_mask: tuple[tuple[bool, ...], ...] = option_mask(decisions)

    @property
    def num_architectures(self) -> float:
        return float(math.prod(len(decision.options) for decision in self.decisions))

    def default_macro(self, *, num_classes: int, image_size: int) -> Macro:
        return Macro(
            num_channels=DEFAULT_NUM_CHANNELS,
            num_cells=DEFAULT_NUM_CELLS,
            num_classes=num_classes,
            image_size=image_size,
        )

    def parse(self, document: str | Mapping[str, object]) -> Architecture:
        stages = _stages_of_json(document) if isinstance(document, Mapping) else _stages_of_text(document)
        ops = [op for stage in stages for op in stage]
        return Architecture(NAME, tuple(_choice(op, *place) for op, place in zip(ops, LAYERS, strict=True)))

    def format(self, arch: Architecture) -> str:
        return "+".join(f"|{'|'.join(stage)}|" for stage in self._stages(arch))

    def to_json(self, arch: Architecture) -> dict[str, object]:
        return {"space": NAME, "stages": [list(stage) for stage in self._stages(arch)]}

    def is_valid(self, arch: Architecture) -> bool:
        self._check(arch)
        return True

    def discretize(self, scores: Sequence[Sequence[float]]) -> Architecture:
        table = check_scores(scores, self.decisions)
        return Architecture(NAME, tuple(max(range(len(row)), key=row.__getitem__) for row in table))

    def cost(self, arch: Architecture, macro: Macro) -> Cost:
        self._check(arch)
        return plan_cost(plan_network(macro, [(op,) for op in ops_of(arch.choices)]), macro.num_classes)

    def depth(self, arch: Architecture) -> Depth:
        # A block is on every way; its own residual connection is part of it.
        self._check(arch)
        num_blocks = float(sum(op != SKIP for op in ops_of(arch.choices)))
        return Depth(longest=num_blocks, shortest=num_blocks)

    def connected(self, arch: Architecture) -> Architecture:
        self._check(arch)
        return arch

    def signature(self, arch: Architecture) -> Hashable:
        self._check(arch)
        return arch.choices

    def cheapest(self) -> tuple[Architecture, ...]:
        # An identity costs nothing; where a stage begins, no block has fewer weights than the smallest.
        ops = (CHEAPEST_BLOCK if layer == 1 else SKIP for _, layer in LAYERS)
        return (Architecture(NAME, tuple(OPS.index(op) for op in ops)),)

    def published(self) -> Architecture:
        return Architecture(NAME, (OPS.index(PUBLISHED_BLOCK),) * len(LAYERS))

    def minimum_cost(self, macro: Macro) -> Cost:
        return least(self.cost(arch, macro) for arch in self.cheapest())

    def draw_text(self, arch: Architecture) -> str:
        return draw_text(self._drawings(arch))

    def draw_svg(self, arch: Architecture) -> str:
        return draw_svg(self._drawings(arch))

    def _drawings(self, arch: Architecture) -> tuple[CellDrawing, ...]:
        return tuple(
            CellDrawing(
                title=f"stage {number}",
                nodes=NODE_LABELS,
                num_inputs=1,
                ops=tuple(EdgeOp(layer, layer + 1, op) for layer, op in enumerate(stage)),
            )
            for number, stage in enumerate(self._stages(arch), start=1)
        )

    def _stages(self, arch: Architecture) -> list[tuple[str, ...]]:
        self._check(arch)
        ops = ops_of(arch.choices)
        return [ops[first : first + NUM_LAYERS] for first in range(0, len(ops), NUM_LAYERS)]

    def _check(self, arch: Architecture) -> None:
        check_choices(arch, space=NAME, decisions=self.decisions)


def _stages_of_text(text: str) -> list[list[object]]:
    """Return the ops of each stage; the string form is `FORM`."""
    stages: list[list[object]] = []
    for stage in text.strip().split("+"):
        inner = stage.removeprefix("|").removesuffix("|")
        ops = inner.split("|")
        if stage != f"|{inner}|" or len(ops) != NUM_LAYERS:
            raise InvalidArchitectureError("stage of a mobile architecture", got=stage, expected=f"one as in {FORM}")
        stages.append([*ops])
    if len(stages) != NUM_STAGES:
        raise InvalidArchitectureError("string form of a mobile architecture", got=text, expected=FORM)
    return stages


def _stages_of_json(document: Mapping[str, object]) -> list[list[object]]:
    check_document(document, space=NAME, keys=("stages",))
    stages = document["stages"]
    expected = f"{NUM_STAGES} lists of {NUM_LAYERS} ops"
    if not isinstance(stages, list | tuple) or len(stages) != NUM_STAGES:
        raise InvalidArchitectureError("stages of a mobile architecture", got=stages, expected=expected)
    for stage in stages:
        if not isinstance(stage, list | tuple) or len(stage) != NUM_LAYERS:
            raise InvalidArchitectureError("stage of a mobile architecture", got=stage, expected=expected)
    return [list(stage) for stage in stages]


def _choice(op: object, stage: int, layer: int) -> int:
    options = layer_options(layer)
    if op not in options:
        raise InvalidArchitectureError(
            f"op of layer {layer} of stage {stage}", got=op, expected=f"one of {', '.join(options)}"
        )
    return options.index(str(op))
