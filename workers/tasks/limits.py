"""What an uploaded archive may ask of the machine that checks it."""

from dataclasses import dataclass, fields

from search_spaces.errors import InvalidOptionError

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Bounds of one archive check. What exceeds them is refused, with the limit in the message.

    Attributes:
        max_archive_bytes: Of the archive itself.
        max_entries: Files and folders in it.
        max_unpacked_bytes: Of all files together, as the archive declares them; reading never exceeds what it declares.
        max_file_bytes: Of one file, unpacked.
        max_ratio: Unpacked over packed size, of any file above 1 MiB.
        max_pixels: Of one image, by its header.
        max_classes: Class folders.
        min_images_per_class: Usable images that each class needs (in `train`, where there are splits).
        max_unreadable: Share of images that may be unreadable, and are skipped; 0 to 1.
        timeout_s: Seconds of wall clock, and of CPU, for the check.
        max_memory_bytes: Address space of the process that checks.
    """

    max_archive_bytes: int = 2 * GIB
    max_entries: int = 200_000
    max_unpacked_bytes: int = 8 * GIB
    max_file_bytes: int = 256 * MIB
    max_ratio: int = 200
    max_pixels: int = 64_000_000
    max_classes: int = 1_000
    min_images_per_class: int = 5
    max_unreadable: float = 0.01
    timeout_s: int = 600
    max_memory_bytes: int = 2 * GIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < (0 if field.name == "max_unreadable" else 1):
                raise InvalidOptionError(f"the archive limit {field.name} is too small", got=value)


_NO_BOUND = 1 << 62
# Of an archive that has passed its check: the limits it passed under are the service's to choose, and need not be ours.
UNBOUNDED = ArchiveLimits(
    max_archive_bytes=_NO_BOUND,
    max_entries=_NO_BOUND,
    max_unpacked_bytes=_NO_BOUND,
    max_file_bytes=_NO_BOUND,
    max_ratio=_NO_BOUND,
    max_pixels=_NO_BOUND,
)
