import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from search_spaces.registry import SPACES

SVG = "{http://www.w3.org/2000/svg}"


def label_boxes(svg):
    """Rectangles around op names, as (panel, left, top, right, bottom)."""
    root = ElementTree.fromstring(svg)
    for number, panel in enumerate(root.findall(f"{SVG}g")):
        children = list(panel)
        for box, text in pairwise(children):
            if box.tag == f"{SVG}rect" and text.tag == f"{SVG}text" and "_" in (text.text or ""):
                x, y, width, height = (float(box.get(name)) for name in ("x", "y", "width", "height"))
                yield number, x, y, x + width, y + height


def overlap(first, second):
    return (
        first[0] == second[0]
        and max(first[1], second[1]) < min(first[3], second[3])
        and max(first[2], second[2]) < min(first[4], second[4])
    )


def test_labels_lie_inside_the_drawing_and_never_overlap(space, draw_architectures):
    for arch in draw_architectures(space, 50):
        svg = space.draw_svg(arch)
        root = ElementTree.fromstring(svg)
        boxes = list(label_boxes(svg))
        assert len(boxes) == sum(svg.count(f">{op}<") for op in set(re.findall(r">(\w+_\w+)<", svg)))
        assert boxes
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
        assert all(b[1] >= 0 and b[2] >= 0 and b[3] <= float(root.get("width")) for b in boxes)


def test_every_op_of_a_darts_cell_has_its_label(draw_architectures):
    space = SPACES["darts"]
    for arch in draw_architectures(space, 10):
        assert len(list(label_boxes(space.draw_svg(arch)))) == 16
        assert "concat(2, 3, 4, 5)" in space.draw_text(arch)


def test_text_is_a_closed_box_of_equal_lines(space, draw_architectures):
    lines = space.draw_text(draw_architectures(space, 1)[0]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert {line[0] for line in lines} == {"╭", "│", "╰"}


@pytest.mark.parametrize("name", ["nas_bench_201"])
def test_dead_ops_are_not_drawn(name):
    space = SPACES[name]
    arch = space.parse("|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    for drawing in (space.draw_text(arch), space.draw_svg(arch)):
        assert "skip_connect" in drawing
        assert "nor_conv_1x1" not in drawing
        assert "avg_pool_3x3" not in drawing
