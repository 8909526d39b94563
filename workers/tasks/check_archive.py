"""The process that `archive.run_check` starts: bounds itself, checks one archive, says the verdict as JSON."""

import ctypes
import json
import resource
import signal
import sys
from pathlib import Path

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive
from workers.tasks.limits import ArchiveLimits

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have Linux kill this process when the one that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bound_this_process(limits: ArchiveLimits) -> None:
    """Bound memory and CPU time from here on, and forbid to write files or a memory dump."""
    for kind, bound, spare in (
        (resource.RLIMIT_AS, limits.max_memory_bytes, 0),
        # At the soft bound comes SIGXCPU, which tells the reason; at the hard one SIGKILL, which tells none.
        (resource.RLIMIT_CPU, limits.timeout_s, 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, hard = resource.getrlimit(kind)
        soft, new_hard = (one if hard == resource.RLIM_INFINITY else min(one, hard) for one in (bound, bound + spare))
        resource.setrlimit(kind, (soft, new_hard))


def verdict(path: Path, limits: ArchiveLimits) -> dict[str, object]:
    """Return `{"report": ...}` or `{"error": ...}`, ready for JSON."""
    try:
        return {"report": check_archive(path, limits).model_dump(mode="json")}
    except InvalidDatasetError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        what = f"the check of the archive needs more than {limits.max_memory_bytes} bytes of memory"
        return {"error": InvalidDatasetError(what, todo="Upload fewer files, or smaller images.").to_dict()}


if __name__ == "__main__":
    limits_of_call = ArchiveLimits(**json.loads(sys.argv[2]))
    end_with_parent()
    bound_this_process(limits_of_call)
    sys.stdout.write(json.dumps(verdict(Path(sys.argv[1]), limits_of_call)))
