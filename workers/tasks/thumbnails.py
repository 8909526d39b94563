"""One picture of a few small images of each class, so that people see what a dataset holds. Free of numpy and torch."""

import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from PIL import Image

from workers.contracts.datasets import Thumbnails
from workers.tasks.layout import Placed

SIDE: Final = 64
COLUMNS: Final = 4
MAX_ROWS: Final = 200
MAX_BYTES: Final = 2_000_000
QUALITIES: Final = (80, 60, 40)
WHITE: Final = (255, 255, 255)


class ContactSheet:
    """Small images as they come, and the JPEG of all of them in the end.

    A row is a class, in the order of names; its examples lie evenly over the class's images. Images keep their aspect,
    in squares of 64 pixels, on white.

    Args:
        images: Of the dataset, in the order in which they will be read.
    """

    def __init__(self, images: Sequence[Placed]) -> None:
        positions = defaultdict(list)
        for position, image in enumerate(images):
            positions[image.class_name].append(position)
        self._rows: dict[str, list[Image.Image]] = {name: [] for name in sorted(positions)[:MAX_ROWS]}
        self._wanted = {
            positions[name][column * len(positions[name]) // COLUMNS]: name
            for name in self._rows
            for column in range(COLUMNS)
        }

    def wants(self, position: int) -> bool:
        """Return whether the image at a position is one of the examples."""
        return position in self._wanted

    def add(self, position: int, image: Image.Image) -> None:
        """Put an example into its class's row.

        Args:
            position: Of the image in the dataset; one that `wants` names.
            image: In RGB, its longer side 64 pixels.
        """
        self._rows[self._wanted[position]].append(image)

    def jpeg(self) -> tuple[Thumbnails, bytes] | None:
        """Return the picture, in 2 MB at most; None where there is no example, or no quality makes it that small."""
        if not any(self._rows.values()):
            return None
        sheet = Image.new("RGB", (COLUMNS * SIDE, len(self._rows) * SIDE), WHITE)
        for row, images in enumerate(self._rows.values()):
            for column, image in enumerate(images):
                middle = ((SIDE - image.width) // 2, (SIDE - image.height) // 2)
                sheet.paste(image, (column * SIDE + middle[0], row * SIDE + middle[1]))
        for quality in QUALITIES:
            buffer = io.BytesIO()
            sheet.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= MAX_BYTES:
                return Thumbnails(side=SIDE, columns=COLUMNS, classes=tuple(self._rows)), buffer.getvalue()
        return None
