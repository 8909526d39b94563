"""Errors of the workers. Those that end an adaptation travel to the service as `failure.json`."""

from typing import Self

from search_spaces.errors import ArchPriorError


class InvalidDatasetError(ArchPriorError):
    """An upload that is no usable dataset: unreadable, unsafe, too large, too few classes or images."""

    code = "invalid_dataset"


class LimitUnreachableError(ArchPriorError):
    """A limit on parameters or MACs below the smallest connected architecture, or below the one that is given."""

    code = "limit_unreachable"


class StoreError(ArchPriorError):
    """The object store answered with a failure, or cannot be reached."""

    code = "store_error"


class ObjectMissingError(StoreError):
    """The store has no object under that key."""

    code = "object_missing"


class NodeCacheError(StoreError):
    """A node's cache of decoded images that cannot be used: a full or failing disk, or another process in the way."""

    code = "node_cache"


class NewerFormatError(ArchPriorError):
    """Something stored that a newer ArchPrior wrote, in a format that this one does not know."""

    code = "newer_format"

    @classmethod
    def of(cls, file: str, version: object, known: object) -> Self:
        """Return the error about a file.

        Args:
            file: Its name or key.
            version: Of its format.
            known: The newest version that can be read.
        """
        return cls(
            f"{file} was written by a newer ArchPrior",
            got=f"format version {version}",
            expected=f"at most {known}",
            todo="Update ArchPrior wherever it runs: the service, and every node of the cluster.",
        )


class InvalidPriorError(ArchPriorError):
    """A meta-prior whose files, space or macro skeleton do not fit."""

    code = "invalid_prior"


class CheckpointMismatchError(ArchPriorError):
    """A checkpoint that another configuration or another search space wrote."""

    code = "checkpoint_mismatch"


class DivergedError(ArchPriorError):
    """Learning that has left the finite numbers."""

    code = "diverged"


class ExportMismatchError(ArchPriorError):
    """An exported model that, once reloaded, does not predict what the trained network predicts."""

    code = "export_mismatch"


class CancelledError(ArchPriorError):
    """The work was asked to stop by `control.json`."""

    code = "cancelled"


class CrewTimeoutError(ArchPriorError):
    """A wait of a meta-run that took too long; names what was waited for."""

    code = "timeout"


class WorkersLostError(ArchPriorError):
    """A meta-run without workers, or whose work ends every worker that takes it."""

    code = "workers_lost"


class OutOfMemoryError(ArchPriorError):
    """Workers with too little memory for the work that was asked for."""

    code = "out_of_memory"
