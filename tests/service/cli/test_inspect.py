import json
import subprocess
import sys

import pytest

from search_spaces.registry import SPACES

DARTS_V2 = {
    "space": "darts",
    "normal": [
        ["sep_conv_3x3", 0], ["sep_conv_3x3", 1], ["sep_conv_3x3", 0], ["sep_conv_3x3", 1],
        ["sep_conv_3x3", 1], ["skip_connect", 0], ["skip_connect", 0], ["dil_conv_3x3", 2],
    ],
    "reduce": [
        ["max_pool_3x3", 0], ["max_pool_3x3", 1], ["skip_connect", 2], ["max_pool_3x3", 1],
        ["max_pool_3x3", 0], ["skip_connect", 2], ["skip_connect", 2], ["max_pool_3x3", 1],
    ],
}  # fmt: skip
BASE = {
    "space": "darts",
    "normal": [
        ["skip_connect", 0], ["dil_conv_3x3", 1], ["max_pool_3x3", 0], ["dil_conv_5x5", 0],
        ["max_pool_3x3", 0], ["sep_conv_5x5", 0], ["max_pool_3x3", 1], ["dil_conv_5x5", 1],
    ],
    "reduce": [
        ["sep_conv_3x3", 0], ["sep_conv_5x5", 0], ["max_pool_3x3", 0], ["sep_conv_3x3", 0],
        ["skip_connect", 0], ["avg_pool_3x3", 3], ["max_pool_3x3", 1], ["skip_connect", 2],
    ],
}  # fmt: skip
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.fixture
def write(tmp_path):
    def write(document):
        path = tmp_path / "architecture.json"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.mark.parametrize(("cell", "channels", "params"), [(DARTS_V2, 36, 3_349_342), (BASE, 40, 3_145_490)])
def test_published_cells_have_their_published_sizes(run_cli, last_json, write, cell, channels, params):
    options = ("--macro", "cifar", "--channels", channels, "--cells", 20, "--classes", 10, "--image-size", 32)
    result = run_cli("inspect", write(cell), *options, "--json")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    document = last_json(result)
    assert document["params"] == params
    assert document["architecture"] == cell
    assert document["macro"]["num_channels"] == channels


def test_the_auxiliary_head_is_not_part_of_the_cost(run_cli, last_json, write):
    plain, headed = (last_json(run_cli("inspect", write(DARTS_V2), "--json", *more)) for more in ((), ("--auxiliary",)))
    assert headed["macro"]["auxiliary"]
    assert (plain["params"], plain["macs"]) == (headed["params"], headed["macs"])


def test_an_imagenet_skeleton_is_measured_at_its_own_size(run_cli, last_json, write):
    document = last_json(run_cli("inspect", write(DARTS_V2), "--macro", "imagenet", "--json"))
    assert (document["macro"]["num_classes"], document["macro"]["image_size"]) == (1000, 224)


@pytest.mark.parametrize("form", ["string", "object", "quoted string"])
def test_an_architecture_may_be_given_itself(run_cli, last_json, form):
    argument = {
        "string": CELL,
        "object": json.dumps({"space": "nas_bench_201", "arch": CELL}),
        "quoted string": json.dumps(CELL),
    }[form]
    document = last_json(run_cli("inspect", argument, "--channels", 16, "--cells", 5, "--json"))
    assert document["params"] == 802_426
    assert document["architecture"] == {"space": "nas_bench_201", "arch": CELL}


def test_text_draws_the_cell_and_tells_the_numbers(run_cli, tmp_path):
    result = run_cli("inspect", CELL, "--cells", 5, "--svg", tmp_path / "cell.svg")
    assert result.exit_code == 0
    drawing = SPACES["nas_bench_201"].draw_text(SPACES["nas_bench_201"].parse(CELL))
    for part in (CELL, drawing, "802,426", "16 channels, 5 cells, 10 classes, 32 pixels"):
        assert part in result.stdout
    assert (tmp_path / "cell.svg").read_text().startswith("<svg")


def test_a_chain_of_mobile_blocks_is_told_by_its_string_form(run_cli, last_json):
    chain = "+".join(["|mbconv_k3_e3|skip_connect|skip_connect|"] * 4)
    document = last_json(run_cli("inspect", chain, "--json"))
    assert document["params"] == 42_538
    assert document["architecture"]["stages"] == [["mbconv_k3_e3", "skip_connect", "skip_connect"]] * 4
    assert "stage 4" in run_cli("inspect", chain).stdout


@pytest.mark.parametrize(
    "argument",
    [
        "rubbish",
        "",
        "no/such/file.json",
        "/",
        "|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",  # nothing reaches the output
        "{",
        "[]",
        "[1, 2]",
        "{}",
        '{"space": "darts"}',
        '{"space": "no such space", "arch": ""}',
        '{"space": ["darts"]}',
        '{"space": "nas_bench_201", "arch": 3}',
        '{"space": "nas_bench_201", "normal": []}',
        '{"space": "darts", "normal": [["sep_conv_3x3", 0]], "reduce": []}',
        '{"space": "darts", "normal": "x", "reduce": null}',
        "[" * 100_000,
        '"' + "x" * 5000,
        "x\0y",
    ],
)
def test_rubbish_is_refused_with_a_reason(run_cli, last_json, argument):
    result = run_cli("inspect", argument, "--json")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert last_json(result)["error"]["status"] == 400
    assert len(result.stderr) < 2000


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"PK\x03\x04", b" " * 2_000_000])
def test_a_file_of_rubbish_is_refused_with_a_reason(run_cli, tmp_path, content):
    path = tmp_path / "architecture.json"
    path.write_bytes(content)
    result = run_cli("inspect", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "options",
    [
        ("--channels", "0"),
        ("--cells", "-1"),
        ("--classes", "1"),
        ("--image-size", "2"),
        ("--channels", "many"),
        ("--macro", "mnist"),
        ("--macro", "imagenet"),  # nas_bench_201 has no such skeleton
        ("--auxiliary",),
    ],
)
def test_a_skeleton_that_cannot_be_is_refused(run_cli, options):
    result = run_cli("inspect", CELL, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_a_drawing_that_cannot_be_written_is_an_error(run_cli, tmp_path):
    result = run_cli("inspect", CELL, "--svg", tmp_path / "no" / "such" / "folder.svg")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot use ")


def test_inspect_needs_no_torch():
    code = f"""
import sys
sys.modules["torch"] = None
from service.cli.main import app
app(["inspect", {CELL!r}, "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"] > 0
