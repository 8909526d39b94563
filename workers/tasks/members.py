"""The files of a zip archive, once nothing about them can hurt: names, kinds, sizes. Decompresses nothing."""

import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.layout import ARCHIVE_SUFFIXES, is_ignored
from workers.tasks.limits import MIB, ArchiveLimits

_ENCRYPTED = 0x1 | 0x40
_UTF8_NAME = 0x800
_LOCAL_HEADER_BYTES = 30
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LOCAL_HEADER = b"PK\x03\x04"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of an archive: its path as people read it, and zipfile's record of it."""

    path: str
    info: zipfile.ZipInfo


@contextmanager
def open_archive(path: Path, limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading.

    Raises:
        InvalidDatasetError: The file is no zip archive, is cut off or damaged, or is too large.
    """
    num_bytes = path.stat().st_size
    if num_bytes > limits.max_archive_bytes:
        raise _too_large("the archive is too large", num_bytes, f"{limits.max_archive_bytes} bytes")
    if num_bytes == 0:
        raise InvalidDatasetError("the file is empty", expected="a zip archive", todo="Upload the archive again.")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        with path.open("rb") as file:
            started_well = file.read(len(_LOCAL_HEADER)) == _LOCAL_HEADER
        if started_well:
            what = f"the zip archive is cut off or damaged ({error})"
            raise InvalidDatasetError(what, todo="Make it again, or upload it again.") from error
        raise InvalidDatasetError("the file is not a zip archive", todo="Pack the folder with zip.") from error
    with archive:
        yield archive


def list_members(archive: zipfile.ZipFile, limits: ArchiveLimits) -> tuple[Member, ...]:
    """Return the archive's files, in its order, without folders and without what operating systems leave behind.

    Raises:
        InvalidDatasetError: A member is unsafe or exceeds a limit; names it and the reason.
    """
    entries = archive.infolist()
    if not entries:
        raise InvalidDatasetError("the archive is empty", todo="Pack the class folders into it.")
    if len(entries) > limits.max_entries:
        raise _too_large("the archive has too many entries", len(entries), f"{limits.max_entries} entries")
    members = [Member(path=_readable_name(entry), info=entry) for entry in entries]
    for member in members:
        _check_name(member)
        _check_kind(member)
        _check_size(member, limits)
    _check_total(entries, limits)
    _check_no_overlap(entries)
    files = tuple(member for member in members if not member.info.is_dir() and not is_ignored(member.path))
    _check_unique(files)
    _check_no_archives(files)
    return files


def read_member(archive: zipfile.ZipFile, member: Member) -> bytes:
    """Return a member's bytes, never more than it declares.

    Raises:
        zipfile.BadZipFile, zlib.error, EOFError: The member is damaged.
    """
    with archive.open(member.info) as file:
        return file.read(member.info.file_size)


def _readable_name(entry: zipfile.ZipInfo) -> str:
    """Undo zipfile's reading of UTF-8 names that lack the flag saying so, as macOS writes them."""
    if entry.flag_bits & _UTF8_NAME:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


def _check_name(member: Member) -> None:
    path, raw = member.path, member.info.orig_filename
    parts = path.rstrip("/").split("/")
    rules = {
        "is absolute": path.startswith("/"),
        "begins with a drive letter": len(path) > 1 and path[1] == ":" and path[0].isascii() and path[0].isalpha(),
        "climbs out of the archive with ..": ".." in parts,
        "holds a backslash": "\\" in path,
        "holds a control character": bool(_CONTROL.search(path) or _CONTROL.search(raw)),
        "has an empty part": "" in parts,
        "is too long": len(path.encode("utf-8", "surrogatepass")) > 1024,
    }
    reason = next((reason for reason, applies in rules.items() if applies), None)
    if reason:
        raise InvalidDatasetError(
            f"the archive holds an unsafe name, which {reason}: {path[:200]!r}",
            todo="Pack the folder again, with names relative to it and / between folders.",
        )


def _check_kind(member: Member) -> None:
    mode = member.info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        todo = "Pack the files themselves (zip does so by default; leave out -y)."
        raise InvalidDatasetError(f"the archive holds a symbolic link: {member.path}", todo=todo)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InvalidDatasetError(f"the archive holds a special file: {member.path}", todo="Leave it out.")
    if member.info.flag_bits & _ENCRYPTED:
        raise InvalidDatasetError(f"the file {member.path} is encrypted", todo="Pack it again without a password.")
    if member.info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InvalidDatasetError(
            f"the file {member.path} is packed by an unusual method",
            got=f"method {member.info.compress_type}",
            expected="store or deflate",
            todo="Pack it again with default settings.",
        )


def _check_size(member: Member, limits: ArchiveLimits) -> None:
    packed, unpacked = member.info.compress_size, member.info.file_size
    if unpacked > limits.max_file_bytes:
        raise _too_large(f"the file {member.path} is too large", unpacked, f"{limits.max_file_bytes} bytes, unpacked")
    if unpacked > MIB and unpacked > limits.max_ratio * packed:
        ratio = f"{unpacked} bytes from {packed}"
        raise _too_large(
            f"the file {member.path} unpacks suspiciously", ratio, f"{limits.max_ratio} times its packed size"
        )


def _check_unique(members: Sequence[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.path in seen:
            raise InvalidDatasetError(
                f"the archive holds two files of one name: {member.path}", todo="Pack the folder again."
            )
        seen.add(member.path)


def _check_total(entries: Sequence[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_unpacked_bytes:
        raise _too_large("the archive unpacks to too much", total, f"{limits.max_unpacked_bytes} bytes in all")


def _check_no_overlap(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse members that share packed bytes: how a small archive declares far more than it holds."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            name = _readable_name(entry)
            raise InvalidDatasetError(f"files of the archive overlap: {name}", todo="Pack the folder again.")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size


def _check_no_archives(files: Iterable[Member]) -> None:
    for member in files:
        if PurePosixPath(member.path).suffix.lower() in ARCHIVE_SUFFIXES:
            todo = "Unpack it, and pack the class folders into one archive."
            raise InvalidDatasetError(f"the archive holds another archive: {member.path}", todo=todo)


def _too_large(what: str, got: object, limit: str) -> InvalidDatasetError:
    return InvalidDatasetError(what, got=got, expected=f"at most {limit}", todo="Upload less, or smaller files.")
