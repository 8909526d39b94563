"""Whether an uploaded zip is a dataset, and what is in it; refusals name the file and the reason. Free of torch."""

import base64
import json
import statistics
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.contracts.datasets import DatasetFindings, DatasetReport, SkippedImage
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.check_process import CheckFailedError, Checks, run_module
from workers.tasks.decoding import (
    ImageFacts,
    OversizedImageError,
    UnreadableImageError,
    measure_and_shrink,
    measure_image,
)
from workers.tasks.findings import Duplicates, make_findings
from workers.tasks.layout import Placed, place_images
from workers.tasks.limits import ArchiveLimits
from workers.tasks.members import Member, list_members, open_archive, read_member
from workers.tasks.thumbnails import SIDE, ContactSheet

NUM_NAMED = 5
# ValueError and OverflowError: names that cannot be decoded, places that no file has. NotImplementedError is what
# zipfile raises for a way of packing that it does not know.
DAMAGED_MEMBER = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OverflowError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True, kw_only=True)
class ArchivedImage:
    """An image of an archive: where its path puts it, and how to read it."""

    placed: Placed
    member: Member


@dataclass(frozen=True, kw_only=True)
class CheckedArchive:
    """What a check has found.

    Attributes:
        report: What a job needs to know of the archive.
        findings: What people should know of it.
        thumbnails: The picture of `findings.thumbnails`, as JPEG.
    """

    report: DatasetReport
    findings: DatasetFindings
    thumbnails: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """What decoding all images has shown; `facts` are those of the `readable` ones."""

    readable: list[Placed]
    facts: list[ImageFacts]
    skipped: list[SkippedImage]
    duplicates: Duplicates
    sheet: ContactSheet


def find_images(archive: zipfile.ZipFile, limits: ArchiveLimits) -> list[ArchivedImage]:
    """Return the archive's images in the order of their paths, without decoding any.

    Raises:
        InvalidDatasetError: The archive is unsafe, or its folders are no classes.
    """
    members = {member.path: member for member in list_members(archive, limits)}
    return [ArchivedImage(placed=placed, member=members[placed.path]) for placed in place_images(members)]


def check_archive(path: Path, limits: ArchiveLimits) -> CheckedArchive:
    """Return what an archive holds, after every image in it has been decoded.

    Runs in the calling process; for an upload use `run_check`.

    Raises:
        InvalidDatasetError: It is no dataset that can be used; names the file and the reason.
    """
    with open_archive(path, limits) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata that nobody reads
        images = find_images(archive, limits)
        _check_classes([image.placed for image in images], limits)
        decoded = _decode_all(archive, images, limits)
    _check_classes(decoded.readable, limits)
    thumbnails, picture = decoded.sheet.jpeg() or (None, None)
    return CheckedArchive(
        report=_report(decoded.readable, decoded.facts, decoded.skipped),
        findings=make_findings(decoded.readable, decoded.duplicates, thumbnails),
        thumbnails=picture,
    )


def run_check(path: Path, limits: ArchiveLimits, checks: Checks | None = None) -> CheckedArchive:
    """Return what `check_archive` returns, from a process of its own with bounded memory and time.

    Args:
        path: Of the archive.
        limits: Of the archive, and of the process.
        checks: Where the process is to be found while it runs.

    Raises:
        InvalidDatasetError: As `check_archive`, or the check ran out of memory or time.
        CheckKilledError: The process was killed from outside.
        CheckFailedError: The check failed by a fault of its own; the log tells it.
    """
    arguments = (str(path.absolute()), json.dumps(asdict(limits)))
    ended = run_module("workers.tasks.check_archive", *arguments, timeout_s=limits.timeout_s, checks=checks or Checks())
    if ended.out_of_time:
        what = f"the check of the archive took longer than {limits.timeout_s} s"
        raise InvalidDatasetError(what, todo="Upload fewer or smaller images.")
    if ended.crashed_by is not None:
        todo = "Look for a damaged or unusual image; save the images again."
        what = "an image of the archive ended the process that read it"
        raise InvalidDatasetError(what, got=ended.crashed_by, todo=todo)
    if ended.code != 0:
        raise ended.without_verdict("archive")
    try:
        verdict = json.loads(ended.output)
        if "error" in verdict:
            raise InvalidDatasetError.from_dict(verdict["error"])
        picture = verdict["thumbnails"]
        return CheckedArchive(
            report=DatasetReport.model_validate(verdict["report"]),
            findings=DatasetFindings.model_validate(verdict["findings"]),
            thumbnails=None if picture is None else base64.b64decode(picture),
        )
    except (ValueError, KeyError, TypeError) as error:
        todo = "Was ArchPrior updated while the service ran? Start the service again."
        raise CheckFailedError("the verdict of the archive's check cannot be read", got=error, todo=todo) from error


def _check_classes(placed: Sequence[Placed], limits: ArchiveLimits) -> None:
    """Refuse too few or too many classes, or images of a class. Asked before decoding, which takes long, and after."""
    learned = Counter(image.class_name for image in placed if image.split in {None, "train"})
    for image in placed:
        if image.class_name not in learned:
            what = f"the class {image.class_name} has images in {image.split} but none in train ({image.path})"
            raise InvalidDatasetError(what, todo="Add training images of that class, or leave it out.")
    if len(learned) < 2:
        raise InvalidDatasetError(
            "the dataset has too few classes",
            got=", ".join(learned),
            expected="at least 2 class folders",
            todo="Put the images of each class into a folder that bears the class's name.",
        )
    if len(learned) > limits.max_classes:
        todo = "Check that folders are classes."
        expected = f"at most {limits.max_classes}"
        raise InvalidDatasetError("the dataset has too many classes", got=len(learned), expected=expected, todo=todo)
    for name, count in sorted(learned.items()):
        if count < limits.min_images_per_class:
            where = " in train" if any(image.split for image in placed) else ""
            raise InvalidDatasetError(
                f"the class {name} has too few usable images{where}",
                got=count,
                expected=f"at least {limits.min_images_per_class}",
                todo="Add images of that class, or leave it out.",
            )


def _decode_all(archive: zipfile.ZipFile, images: Sequence[ArchivedImage], limits: ArchiveLimits) -> _Decoded:
    sheet = ContactSheet([image.placed for image in images])
    decoded = _Decoded(readable=[], facts=[], skipped=[], duplicates=Duplicates(), sheet=sheet)
    skipped = decoded.skipped
    # Files that are the same have the same size and checksum, which spares most of them the hash.
    marks = Counter(_mark(image) for image in images)
    for position, image in enumerate(images):
        path = image.placed.path
        try:
            data = read_member(archive, image.member)
            if sheet.wants(position):
                facts, small = measure_and_shrink(data, SIDE, max_pixels=limits.max_pixels)
                if small is not None:
                    sheet.add(position, small)
            else:
                facts = measure_image(data, max_pixels=limits.max_pixels)
            decoded.facts.append(facts)
            decoded.readable.append(image.placed)
            if marks[_mark(image)] > 1:
                decoded.duplicates.add(image.placed, data)
        except OversizedImageError as error:
            raise InvalidDatasetError(
                f"the image {path} is too large",
                got=error.what,
                expected=f"at most {limits.max_pixels} pixels",
                todo="Make it smaller.",
            ) from error
        except MemoryError as error:
            todo = "Make it smaller, or save it again."
            raise InvalidDatasetError(f"the image {path} needs too much memory", todo=todo) from error
        except UnreadableImageError as error:
            skipped.append(SkippedImage(path=path, reason=error.what))
        except DAMAGED_MEMBER as error:
            skipped.append(SkippedImage(path=path, reason=str(error) or "the packed bytes are damaged"))
        if len(skipped) > limits.max_unreadable * len(images):
            raise _too_many_unreadable(skipped, limits)
    return decoded


def _mark(image: ArchivedImage) -> tuple[int, int]:
    return image.member.info.file_size, image.member.info.CRC


def _report(readable: Sequence[Placed], facts: Sequence[ImageFacts], skipped: Sequence[SkippedImage]) -> DatasetReport:
    per_class = Counter(image.class_name for image in readable)
    classes = tuple(sorted(per_class))
    shorter = [min(image.width, image.height) for image in facts]
    return DatasetReport(
        classes=classes,
        num_images=tuple(per_class[name] for name in classes),
        splits=dict(Counter(image.split for image in readable if image.split is not None)),
        median_size=round(statistics.median(shorter)),
        min_size=min(shorter),
        max_size=max(max(image.width, image.height) for image in facts),
        modes=dict(sorted(Counter(image.mode for image in facts).items())),
        skipped=tuple(skipped),
    )


def _too_many_unreadable(skipped: Sequence[SkippedImage], limits: ArchiveLimits) -> InvalidDatasetError:
    named = "; ".join(f"{image.path} ({image.reason})" for image in skipped[:NUM_NAMED])
    return InvalidDatasetError(
        f"too many images cannot be read: {named}{'; ...' if len(skipped) > NUM_NAMED else ''}",
        expected=f"at most {limits.max_unreadable:.0%} of all images",
        todo="Save these images again, or leave them out.",
    )
