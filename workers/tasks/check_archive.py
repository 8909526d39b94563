"""The process that `archive.run_check` starts: bounds itself, checks one archive, says the verdict as JSON."""

import base64
import json
import sys
from pathlib import Path

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive
from workers.tasks.check_process import bound_this_process, end_with_parent
from workers.tasks.limits import ArchiveLimits


def verdict(path: Path, limits: ArchiveLimits) -> dict[str, object]:
    """Return `{"report": ..., "findings": ..., "thumbnails": ...}` or `{"error": ...}`, ready for JSON."""
    try:
        checked = check_archive(path, limits)
        return {
            "report": checked.report.model_dump(mode="json"),
            "findings": checked.findings.model_dump(mode="json"),
            # This process may write no file.
            "thumbnails": None if checked.thumbnails is None else base64.b64encode(checked.thumbnails).decode(),
        }
    except InvalidDatasetError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        what = f"the check of the archive needs more than {limits.max_memory_bytes} bytes of memory"
        return {"error": InvalidDatasetError(what, todo="Upload fewer files, or smaller images.").to_dict()}


if __name__ == "__main__":
    limits_of_call = ArchiveLimits(**json.loads(sys.argv[2]))
    end_with_parent()
    bound_this_process(max_memory_bytes=limits_of_call.max_memory_bytes, timeout_s=limits_of_call.timeout_s)
    sys.stdout.write(json.dumps(verdict(Path(sys.argv[1]), limits_of_call)))
