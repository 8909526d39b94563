"""Folders shared by the processes of a node: made once, whole or not at all, and never removed under a user."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import StoreError
from workers.tasks.node_cache import BYTES_VARIABLE, FOLDER_VARIABLE, NodeCache, open_node_cache

# Another process of the node, without torch: asks for a folder, tells what it does, and goes on when it gets a line.
OTHER = """
import sys
import time
sys.modules["torch"] = None
from pathlib import Path
from workers.tasks.node_cache import NodeCache

root, key, name, pauses = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]

def tell(line):
    print(line, flush=True)

def build(folder):
    (folder / "first").write_text(name)
    tell("building")
    if pauses == "while building":
        sys.stdin.readline()
    (folder / "second").write_text(name)

def sleep(seconds, told=[], sleep=time.sleep):
    if not told:
        told.append(tell("waiting"))
    sleep(seconds)

time.sleep = sleep
folder = NodeCache(root, 1 << 30).folder(key, build)
tell((folder / "first").read_text() + (folder / "second").read_text())
sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`other("a", "name", pauses="while building")`: a process that asks for the folder of a key."""
    with ExitStack() as stack:

        def start(key: str, name: str, pauses: str = "") -> subprocess.Popen[str]:
            command = [sys.executable, "-c", OTHER, str(tmp_path / "cache"), key, name, pauses]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.kill)
            stack.enter_context(process)
            return process

        yield start


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[NodeCache]:
    made = NodeCache(tmp_path / "cache", 1 << 30)
    yield made
    made.close()


def writes(text: str, calls: list[str] | None = None) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "file").write_text(text)
        if calls is not None:
            calls.append(text)

    return build


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_built_once(cache: NodeCache, tmp_path: Path) -> None:
    calls: list[str] = []
    again = NodeCache(tmp_path / "cache", 1 << 30)

    folders = [user.folder("key", writes(text, calls)) for user, text in ((cache, "1"), (cache, "2"), (again, "3"))]
    again.close()

    assert calls == ["1"]
    assert {folder.joinpath("file").read_text() for folder in folders} == {"1"}
    assert cache.folder("other", writes("4")).joinpath("file").read_text() == "4"


def test_of_processes_that_race_one_builds_and_the_others_wait_and_read(other: Callable[..., subprocess.Popen]) -> None:
    first = other("key", "A", "while building")
    assert line(first) == "building"
    waiting = [other("key", name) for name in "BCD"]
    assert [line(process) for process in waiting] == ["waiting"] * 3
    go_on(first)

    assert [line(process) for process in (first, *waiting)] == ["AA"] * 4


def test_nothing_of_a_killed_builder_is_taken_for_whole(
    other: Callable[..., subprocess.Popen], cache: NodeCache
) -> None:
    killed = other("key", "A", "while building")
    assert line(killed) == "building"
    waiting = other("key", "B")
    assert line(waiting) == "waiting"
    killed.kill()

    assert [line(waiting), line(waiting)] == ["building", "BB"]
    assert names(cache.folder("key", writes("never"))) == {"first", "second"}


def test_what_a_killed_builder_left_is_swept_when_another_folder_is_built(
    other: Callable[..., subprocess.Popen], cache: NodeCache, tmp_path: Path
) -> None:
    killed, alive = (other(key, "A", "while building") for key in ("dead", "live"))
    for process in (killed, alive):
        assert line(process) == "building"
    killed.kill()
    killed.wait()

    cache.folder("key", writes("1"))

    assert names(tmp_path / "cache" / ".building") == {"live"}
    go_on(alive)
    assert line(alive) == "AA"


def test_a_builder_that_fails_leaves_nothing_and_the_next_one_is_asked(cache: NodeCache, tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        cache.folder("key", fails)

    assert names(tmp_path / "cache") == {".building", ".locks"}
    assert names(tmp_path / "cache" / ".building") == set()
    assert names(cache.folder("key", writes("1"))) == {"file"}


def test_the_least_recently_used_go_when_room_is_short(tmp_path: Path) -> None:
    for key in ("a", "b", "c", "a"):
        used = NodeCache(tmp_path, 350)
        used.folder(key, writes("x" * 100))
        used.close()
    assert {"a", "b", "c"} <= names(tmp_path)

    last = NodeCache(tmp_path, 250)
    last.folder("d", writes("x" * 100))

    assert names(tmp_path) == {".building", ".locks", "a", "d"}
    assert names(tmp_path / ".building") == set()
    last.close()


def test_a_folder_in_use_by_a_living_process_stays(
    other: Callable[..., subprocess.Popen], cache: NodeCache, tmp_path: Path
) -> None:
    user = other("used", "A")
    assert [line(user), line(user)] == ["building", "AA"]
    small = NodeCache(tmp_path / "cache", 1)

    own = small.folder("own", writes("larger than the cache"))
    assert (tmp_path / "cache" / "used" / "second").read_text() == "A"

    user.kill()
    user.wait()
    small.folder("next", writes("larger than the cache, too"))
    assert not (tmp_path / "cache" / "used").exists()
    # Both are in use here, and stay although they are too large.
    assert own.joinpath("file").exists()
    assert cache.folder("next", writes("never")).joinpath("file").read_text() == "larger than the cache, too"
    small.close()


def test_a_full_disk_is_told_with_the_folder_and_the_way_out(cache: NodeCache, tmp_path: Path) -> None:
    def fills_the_disk(folder: Path) -> None:
        (folder / "some").write_text("1")
        Path("/dev/full").write_text("more than fits")

    with pytest.raises(StoreError, match=r"cache \S+ failed \(No space left on device\).* Free space") as caught:
        cache.folder("key", fills_the_disk)

    assert str(tmp_path / "cache") in caught.value.what
    assert names(tmp_path / "cache" / ".building") == set()
    assert "key" not in names(tmp_path / "cache")


def test_a_place_that_cannot_hold_a_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="this node's cache"):
        NodeCache(tmp_path / "file" / "cache", 1000)


def test_a_builder_that_hangs_is_not_waited_for_for_ever(
    other: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    hanging = other("key", "A", "while building")
    assert line(hanging) == "building"

    with pytest.raises(StoreError, match=r"another process has kept \S+key\S* of this node's cache"):
        NodeCache(tmp_path / "cache", 1000, patience_s=0.01).folder("key", writes("1"))


@pytest.mark.parametrize("key", ["", "a/b", "..", ".locks", "a.build", "x" * 129])
def test_keys_that_are_no_names_are_refused(key: str, cache: NodeCache) -> None:
    with pytest.raises(InvalidOptionError, match="key of a node's cache"):
        cache.folder(key, writes("1"))


def test_bounds_that_are_not_positive_are_refused(tmp_path: Path) -> None:
    for max_bytes, patience_s in ((0, 1.0), (1, 0.0)):
        with pytest.raises(InvalidOptionError, match="more than 0"):
            NodeCache(tmp_path, max_bytes, patience_s=patience_s)


def test_the_environment_says_where_it_lies_and_how_large_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    monkeypatch.setenv(BYTES_VARIABLE, "1")
    for key in ("images-1", "dataset-1"):
        with closing(open_node_cache()) as cache:
            cache.folder(key, writes("more than one byte"))

    assert [path.name for path in (tmp_path / "elsewhere").glob("*-1")] == ["dataset-1"]


@pytest.mark.parametrize("text", ["0", "-1", "50 GiB", "1e9"])
def test_a_size_that_is_no_number_of_bytes_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BYTES_VARIABLE, text)

    with pytest.raises(InvalidOptionError, match=f"ARCHPRIOR_CACHE_BYTES: got '{text}'"):
        open_node_cache()
