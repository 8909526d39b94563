"""What datasets are called."""

import re
from pathlib import PurePosixPath
from typing import Final

UNNAMED: Final = "dataset"
MAX_NAME: Final = 200
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


def display_name(name: str) -> str:
    """Return a name as it can be shown and recorded."""
    return _UNPRINTABLE.sub("", name)[:MAX_NAME] or UNNAMED


def name_of_file(filename: str) -> str:
    """Return the name of a dataset whose file is called so, on whatever system."""
    return display_name(PurePosixPath(filename.replace("\\", "/")).stem)
