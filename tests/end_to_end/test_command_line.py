import hashlib
import json
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from workers.contracts.artifacts import MANIFEST, MEDIA_TYPES, Manifest

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]


def test_one_command_adapts_and_leaves_nothing_but_its_result(archprior, digits_zip, footprint, tmp_path):
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    command = [archprior, "adapt", digits_zip, "--out", out, "--json", "--budget-s", "15", "--prior", "none"]
    seen = {}
    with subprocess.Popen(
        command,
        env=footprint.environment | {"TMPDIR": str(temporary)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while process.poll() is None:
                seen |= footprint.processes()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
            stdout, stderr = process.communicate()
        finally:
            process.terminate()

    assert process.returncode == 0, stderr
    (line,) = stdout.splitlines()
    document = json.loads(line)
    assert document["architecture"]["space"] == "nas_bench_201"
    assert document["architecture"]["arch"].startswith("|")
    assert 0 <= document["metrics"]["accuracy"] <= 1
    assert document["cost"]["params"] > 0
    assert document["cost"]["macs"] > 0
    assert document["timings_s"]["total"] > 0

    assert document["artifacts"] == {path.name: str(path) for path in out.iterdir()}
    assert set(document["artifacts"]) == {*MEDIA_TYPES, MANIFEST}
    for artifact in Manifest.model_validate_json((out / MANIFEST).read_bytes()).artifacts:
        content = (out / artifact.name).read_bytes()
        assert len(content) == artifact.num_bytes > 0
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
    assert json.loads((out / "metrics.json").read_text()) == document["metrics"]
    assert json.loads((out / "architecture.json").read_text()) == document["architecture"]

    # A service, a head and a job's process were there, and are no more.
    started = "\n".join(seen.values())
    ray_folders = set(re.findall(r"--temp-dir=(/tmp/archprior-ray-\w+)/ray", started))
    assert "workers.adapt.job" in started
    assert len(ray_folders) == 1
    assert footprint.gone(), footprint.processes()
    assert list(temporary.iterdir()) == []
    assert not any(Path(folder).exists() for folder in ray_folders)
    assert {path.name for path in tmp_path.iterdir()} == {"temporary", "out"}

    # What it left predicts, by the script beside it and by the command.
    image = tmp_path / "image.png"
    with zipfile.ZipFile(digits_zip) as archive:
        image.write_bytes(archive.read(next(name for name in archive.namelist() if name.endswith(".png"))))
    told = [
        subprocess.run([*words, image, "--json"], capture_output=True, text=True, check=True).stdout
        for words in ([sys.executable, out / "predict.py"], [archprior, "predict", out])
    ]
    assert told[0] == told[1]
    ((prediction,),) = json.loads(told[0]).values()
    assert {one["label"] for one in prediction["top"]} <= set(json.loads((out / "labels.json").read_text()))
