"""What the check finds in good archives, and how the process that checks uploads is bounded."""

import io
import json
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from search_spaces.errors import InvalidOptionError
from workers.contracts.datasets import SkippedImage
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive, run_check
from workers.tasks.check_process import CheckFailedError, CheckKilledError, Checks
from workers.tasks.limits import ArchiveLimits

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]
Png = Callable[..., bytes]


@pytest.fixture
def run_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the process that checks run this code instead."""

    def replace(code: str) -> None:
        interpreter = tmp_path / "python"
        interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
        interpreter.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(interpreter))

    return replace


def test_a_report_tells_classes_sizes_and_modes(zip_of: ZipOf, png: Png, limits: ArchiveLimits) -> None:
    files = {f"data/b/{n}.png": png(n, side=10 + n) for n in range(6)}
    files |= {f"data/a/{n}.jpg": png(n, side=30, mode="L", format="JPEG") for n in range(5)}
    files |= {f"data/ä/{n}.gif": png(n, side=20, format="GIF") for n in range(7)}

    report = check_archive(
        zip_of({**files, "data/README.txt": b"hello", "__MACOSX/data/a/._0.jpg": b"x"}), limits
    ).report

    assert report.classes == ("a", "b", "ä")
    assert report.num_images == (5, 6, 7)
    assert report.total_images == 18
    assert report.splits == {}
    assert (report.min_size, report.median_size, report.max_size) == (10, 20, 30)
    assert report.modes == {"L": 5, "P": 7, "RGB": 6}
    assert report.skipped == ()


def test_sizes_are_the_shorter_side_but_for_the_largest(zip_of: ZipOf, limits: ArchiveLimits) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 12)).save(buffer, "PNG")

    report = check_archive(
        zip_of({f"{name}/{n}.png": buffer.getvalue() for name in "ab" for n in range(5)}), limits
    ).report

    assert (report.min_size, report.median_size, report.max_size) == (12, 12, 40)


def test_declared_splits_are_counted(zip_of: ZipOf, class_files: ClassFiles, limits: ArchiveLimits) -> None:
    files = (
        class_files("x/train/a", "x/train/b", each=6)
        | class_files("x/valid/a", each=3)
        | class_files("x/test/b", each=1)
    )

    report = check_archive(zip_of(files), limits).report

    assert report.splits == {"train": 12, "val": 3, "test": 1}
    assert report.num_images == (9, 7)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"])
def test_every_accepted_kind_of_image_is_read_whatever_its_suffix(
    zip_of: ZipOf, png: Png, limits: ArchiveLimits, format: str
) -> None:
    files = {f"{name}/{n}.png": png(n, format=format) for name in "ab" for n in range(5)}

    assert check_archive(zip_of(files), limits).report.num_images == (5, 5)


def test_few_unreadable_images_are_skipped_and_named(zip_of: ZipOf, class_files: ClassFiles, png: Png) -> None:
    files = class_files("a", "b", each=75)
    files["a/7.png"] = png(7)[:60]

    report = check_archive(zip_of(files), ArchiveLimits()).report

    assert report.num_images == (74, 75)
    assert [image.path for image in report.skipped] == ["a/7.png"]
    assert report.skipped[0].reason
    assert isinstance(report.skipped[0], SkippedImage)


def test_too_many_unreadable_images_are_refused_and_the_first_are_named(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", "b", each=75)
    files["a/7.png"] = files["b/3.png"] = b"no image"

    with pytest.raises(InvalidDatasetError, match=r"a/7\.png \(.*\); b/3\.png \(.*at most 1%"):
        check_archive(zip_of(files), ArchiveLimits())


def test_a_class_that_becomes_too_small_by_what_was_skipped_is_refused(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", each=5) | class_files("b", each=150)
    files["a/0.png"] = b"no image"

    with pytest.raises(InvalidDatasetError, match="class a has too few usable images: got 4"):
        check_archive(zip_of(files), ArchiveLimits())


def test_utf8_names_without_the_flag_that_says_so_are_read_right(
    zip_of: ZipOf, class_files: ClassFiles, limits: ArchiveLimits
) -> None:
    path = zip_of(class_files("größe", "b"))
    # Bit 11 of the flags, in both headers of each of the first class's six members.
    data, clear = bytearray(path.read_bytes()), 0
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            clear += data[at + flags + 1] == 0x08
            data[at + flags + 1] = 0
            at = data.find(signature, at + 1)
    path.write_bytes(data)

    assert clear == 12
    assert check_archive(path, limits).report.classes == ("b", "größe")


def test_the_process_gives_the_same_report(zip_of: ZipOf, class_files: ClassFiles, limits: ArchiveLimits) -> None:
    path = zip_of(class_files("data/train/größe", "data/train/b", "data/test/b"))

    assert run_check(path, limits) == check_archive(path, limits)


def test_the_process_gives_the_same_refusal(zip_of: ZipOf, class_files: ClassFiles, limits: ArchiveLimits) -> None:
    path = zip_of(class_files("größe"))
    with pytest.raises(InvalidDatasetError) as direct:
        check_archive(path, limits)

    with pytest.raises(InvalidDatasetError) as across:
        run_check(path, limits)

    assert across.value.to_dict() == direct.value.to_dict()


def test_an_archive_that_needs_too_much_memory_is_refused(zip_of: ZipOf) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9000, 7000)).save(buffer, "PNG", compress_level=1)  # 252 MB once decoded
    path = zip_of({f"{name}/{n}.png": buffer.getvalue() for name in "ab" for n in range(5)})

    with pytest.raises(InvalidDatasetError, match=r"a/0\.png needs too much memory"):
        run_check(path, ArchiveLimits(max_memory_bytes=200 << 20))


def test_a_directory_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"cat/{number:0990d}.png", b"")

    with pytest.raises(InvalidDatasetError, match="needs more than 104857600 bytes of memory"):
        run_check(tmp_path / "archive.zip", ArchiveLimits(max_memory_bytes=100 << 20))


def test_a_check_that_takes_too_long_is_refused(zip_of: ZipOf) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((2000, 2000), 100).save(buffer, "PNG", compress_level=1)  # decoding one takes more than 10 ms
    path = zip_of({f"{name}/{n}.png": buffer.getvalue() for name in "ab" for n in range(50)})

    with pytest.raises(InvalidDatasetError, match="took longer than 1 s"):
        run_check(path, ArchiveLimits(timeout_s=1))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process that read it.*SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "took longer than 60 s"),
    ],
)
def test_a_process_that_an_image_ends_is_a_refusal(
    run_instead: Callable[[str], None], tmp_path: Path, limits: ArchiveLimits, code: str, reason: str
) -> None:
    run_instead(code)

    with pytest.raises(InvalidDatasetError, match=reason):
        run_check(tmp_path / "archive.zip", limits)


def test_a_process_that_is_killed_says_nothing_of_the_archive(
    run_instead: Callable[[str], None], tmp_path: Path, limits: ArchiveLimits
) -> None:
    run_instead("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(CheckKilledError, match=r"SIGKILL.*Try again"):
        run_check(tmp_path / "archive.zip", limits)


def test_a_fault_of_the_check_is_logged_and_not_blamed_on_the_archive(
    run_instead: Callable[[str], None], tmp_path: Path, limits: ArchiveLimits, caplog: pytest.LogCaptureFixture
) -> None:
    run_instead("raise KeyError('inside')")

    with pytest.raises(CheckFailedError) as caught:
        run_check(tmp_path / "archive.zip", limits)

    assert "inside" not in str(caught.value)
    assert "KeyError: 'inside'" in caplog.text


def test_checks_that_are_closed_kill_what_runs_and_what_begins_later(
    run_instead: Callable[[str], None], tmp_path: Path, limits: ArchiveLimits
) -> None:
    checks = Checks()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        checks.add(running)
        checks.close()
        assert running.wait(30) == -signal.SIGKILL
    run_instead("import signal; signal.pause()")

    with pytest.raises(CheckKilledError):
        run_check(tmp_path / "archive.zip", limits, checks)


def test_a_check_does_not_outlive_who_started_it() -> None:
    check = "import sys; from workers.tasks.check_process import end_with_parent; end_with_parent(); "
    check += "print('up', flush=True); sys.stdin.read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {check!r}])"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        parent.kill()
        assert select.select([parent.stdout], [], [], 30)[0]  # its end: nobody is left who could write
        assert parent.stdout.read() == b""


def test_the_process_sees_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: ArchiveLimits
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nenv > "{tmp_path}/environment"\nexit 1\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")

    with pytest.raises(CheckFailedError):
        run_check(tmp_path / "archive.zip", limits)

    assert "PATH=" in (tmp_path / "environment").read_text()
    assert "a-secret" not in (tmp_path / "environment").read_text()


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("workers.tasks.check_archive", {"torch", "numpy", "boto3", "ray"}),
        ("workers.tasks.sources, workers.tasks.split, workers.store.open", {"torch", "boto3", "ray"}),
    ],
)
def test_what_the_service_imports_brings_no_heavy_library(modules: str, absent: set[str]) -> None:
    code = f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert not absent & set(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["max_entries", "timeout_s", "min_images_per_class"])
def test_limits_must_be_positive(name: str) -> None:
    with pytest.raises(InvalidOptionError, match=name):
        ArchiveLimits(**{name: 0})
