"""Where a running service says at which address it listens."""

import json
import os
from pathlib import Path
from typing import Final

SERVICE_FILE: Final = "service.json"


def write_address(data_dir: Path, url: str) -> None:
    """Write `url` and this process's id to `service.json`, at once and whole."""
    data_dir.mkdir(parents=True, exist_ok=True)
    part = data_dir / f"{SERVICE_FILE}.part"
    part.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    part.replace(data_dir / SERVICE_FILE)


def read_address(data_dir: Path) -> str | None:
    """Return the address in `service.json`, or None where there is no such file, or none of ours."""
    try:
        return str(json.loads((data_dir / SERVICE_FILE).read_text())["url"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def remove_address(data_dir: Path) -> None:
    """Remove `service.json`; nothing happens where there is none."""
    (data_dir / SERVICE_FILE).unlink(missing_ok=True)
