"""A large object passes in constant memory, up and down."""

import filecmp
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

LARGE_BYTES = 300 << 20
MAX_GROWTH_BYTES = 100 << 20
MOVES = """
import re, sys
from pathlib import Path
from workers.store.open import open_store

def peak_bytes():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

url, source, target = sys.argv[1:]
store = open_store(url, create=True)
store.put_bytes("small", b"1")
before = peak_bytes()
store.put_file("large", Path(source))
up = peak_bytes()
store.get_file("large", Path(target))
num_read = sum(map(len, store.read("large")))
print(num_read, up - before, peak_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_large_object_passes_in_constant_memory(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if kind == "s3":
        request.getfixturevalue("s3_environment")
    url = f"s3://bucket-{uuid.uuid4().hex[:12]}" if kind == "s3" else str(tmp_path / "store")
    source, target = tmp_path / "source", tmp_path / "target"
    block = random.Random(0).randbytes(1 << 20)
    with source.open("wb") as file:
        for number in range(LARGE_BYTES >> 20):
            file.write(number.to_bytes(4, "big") + block[4:])

    done = subprocess.run(
        [sys.executable, "-c", MOVES, url, str(source), str(target)], stdout=subprocess.PIPE, text=True, check=True
    )

    num_read, up_bytes, both_bytes = map(int, done.stdout.split())
    assert num_read == LARGE_BYTES
    assert filecmp.cmp(source, target, shallow=False)
    assert up_bytes <= both_bytes < MAX_GROWTH_BYTES
