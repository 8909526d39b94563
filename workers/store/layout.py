"""Where things lie in the store. The one place that builds keys."""


def dataset_archive(sha256: str) -> str:
    """Return the key of an uploaded archive: named by content, so the same bytes are stored once."""
    return f"datasets/{sha256}/archive.zip"


def dataset_report(sha256: str) -> str:
    """Return the key of the archive check's findings."""
    return f"datasets/{sha256}/report.json"


def dataset_findings(sha256: str) -> str:
    """Return the key of what people should know of a dataset."""
    return f"datasets/{sha256}/findings.json"


def dataset_thumbnails(sha256: str) -> str:
    """Return the key of the picture of a dataset's small images."""
    return f"datasets/{sha256}/thumbnails.jpg"


def upload(dataset_id: str) -> str:
    """Return the key of an archive that arrives in parts or is copied, until it has been checked."""
    return f"uploads/{dataset_id}/archive.zip"


def attempt(adaptation_id: str, number: int) -> str:
    """Return the prefix, without a final slash, under which all bytes of one attempt lie."""
    return f"adaptations/{adaptation_id}/attempts/{number}"


def prior(prior_id: str) -> str:
    """Return the prefix, without a final slash, of a stored meta-prior."""
    return f"priors/{prior_id}"


def meta_run(meta_run_id: str) -> str:
    """Return the prefix, without a final slash, under which all bytes of a meta-run lie."""
    return f"meta-runs/{meta_run_id}"


def meta_attempt(meta_run_id: str, number: int) -> str:
    """Return the prefix, without a final slash, of what one attempt of a meta-run says and leaves."""
    return f"{meta_run(meta_run_id)}/attempts/{number}"


def checkpoints(meta_run_id: str) -> str:
    """Return the prefix, without a final slash, of a meta-run's checkpoints: every attempt goes on from the last."""
    return f"{meta_run(meta_run_id)}/checkpoints"


def trials(meta_run_id: str) -> str:
    """Return the prefix, without a final slash, of a meta-run's trials so far: they stay as long as its checkpoints."""
    return f"{checkpoints(meta_run_id)}/trials"
