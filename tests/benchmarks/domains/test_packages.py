"""Packages come by the ordinary clients, once; here the clients are small programs of the same names."""

import sys
from pathlib import Path

import pytest

from benchmarks.domains.packages import FetchedPackages, UnavailableSourceError, files_below
from tests.benchmarks.domains.conftest import tar

NPM = """#!/bin/sh
[ "$1" = pack ] || exit 3
case "$2" in absent@*) echo "404 no such package" >&2; exit 1;; esac
echo "$@" >> "$ASKED"
: > "${2%@*}-${2#*@}.tgz"
"""
APT_GET = """#!/bin/sh
[ "$1" = download ] || exit 3
echo "$@" >> "$ASKED"
: > "$2_1.2-3_all.deb"
"""
DPKG_DEB = """#!/bin/sh
case "$1" in
--field) echo "1.2-3";;
--extract) mkdir "$3" && echo drawn > "$3/font";;
esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    clients = tmp_path / "bin"
    clients.mkdir()
    for name, text in (("npm", NPM), ("apt-get", APT_GET), ("dpkg-deb", DPKG_DEB)):
        (clients / name).write_text(text)
        (clients / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{clients}:/usr/bin:/bin")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    return tmp_path / "asked"


def test_an_npm_package_is_fetched_in_its_version_and_once(asked: Path, tmp_path: Path) -> None:
    packages = FetchedPackages(tmp_path / "fetched")

    paths = {packages.npm("signs", "1.0.0") for _ in range(2)}

    assert paths == {tmp_path / "fetched" / "signs-1.0.0.tgz"}
    assert asked.read_text() == "pack signs@1.0.0 --silent\n"


def test_a_debian_package_is_unpacked_and_not_installed_and_fetched_once(asked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"

    first, again = (FetchedPackages(folder).debian("fonts") for _ in range(2))

    assert first == again
    assert (first.version, (first.root / "font").read_text()) == ("1.2-3", "drawn\n")
    assert asked.read_text() == "download fonts\n"
    assert [path.name for path in folder.iterdir()] == ["fonts_1.2-3"]


@pytest.mark.usefixtures("asked")
def test_what_a_client_says_against_it_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(UnavailableSourceError, match="404 no such package"):
        FetchedPackages(tmp_path / "fetched").npm("absent", "1.0.0")
    assert list((tmp_path / "fetched").iterdir()) == []


def test_a_machine_without_the_client_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent / "nowhere"))

    with pytest.raises(UnavailableSourceError, match="no npm on this machine"):
        FetchedPackages(tmp_path).npm("signs", "1.0.0")


def test_files_are_read_below_a_prefix_and_their_absence_is_told(tmp_path: Path) -> None:
    archive = tar(tmp_path / "signs.tgz", {"a/1": b"one", "b/2": b"two"})

    assert files_below(archive, "package/a/") == {"1": b"one"}
    with pytest.raises(UnavailableSourceError, match="lacks files"):
        files_below(archive, "package/c/")
