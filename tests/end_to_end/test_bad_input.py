"""What cannot end well is refused at once, and nothing is kept of it."""

import io
import re
import zipfile

import httpx
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def png(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8), shade).save(data, "PNG")
    return data.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def classes(*names: str) -> dict[str, bytes]:
    return {f"{name}/{number}.png": png(20 * number) for name in names for number in range(10)}


GOOD = zipped(classes("cat", "dog"))


@pytest.mark.parametrize(
    ("archive", "fields", "code", "said"),
    [
        (b"GIF89a no zip at all", {}, "invalid_dataset", "zip"),
        (zipped({}), {}, "invalid_dataset", "empty|no images|no file"),
        (zipped(classes("cat")), {}, "invalid_dataset", "class"),
        (zipped(classes("cat", "dog") | {"../../outside.png": png(0)}), {}, "invalid_dataset", "outside"),
        (zipped(classes("cat", "dog") | {"cat/bomb.png": bytes(50 << 20)}), {}, "invalid_dataset", "bomb.png"),
        (GOOD, {"flavour": "vanilla"}, "invalid_request", "flavour"),
        (GOOD, {"budget_s": "soon"}, "invalid_request", "budget_s"),
        (GOOD, {"search_space": "mars"}, "unknown_name", "nas_bench_201"),
        (GOOD, {"prior": "wisdom"}, "unknown_name", "wisdom"),
        (GOOD, {"prior": "none", "max_params": "10"}, "limit_unreachable", r"at least \d{4,}"),
        (GOOD, {"prior": "none", "search": "prior_mode"}, "invalid_option", "prior_mode"),
        (None, {"prior": "none"}, "invalid_request", "dataset_id"),
    ],
    ids=[
        "no zip", "empty zip", "one class", "zip slip", "bomb", "unknown field", "wrong value", "unknown space",
        "unknown prior", "limit nothing meets", "the mode of no prior", "no dataset",
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_advice_and_nothing_is_kept(served, archive, fields, code, said):
    before = served.kept()
    # A form, whether a file comes along or not.
    parts = {name: (None, value) for name, value in fields.items()}
    if archive is not None:
        parts["dataset"] = ("pets.zip", archive, "application/zip")
    answer = httpx.post(f"{served.url}/v1/adaptations", files=parts, timeout=120.0, trust_env=False)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["code"] == code
    assert problem["title"]
    assert problem["todo"] or "xpected" in problem["detail"]
    assert re.search(said, answer.text)
    assert served.kept() == before
