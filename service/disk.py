"""How much of a disk datasets may fill: the records may lie on it too, and need room to say anything at all."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from service.errors import DiskFullError


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk of which some stays free.

    Attributes:
        folder: That lies on it.
        reserve_bytes: That stay free.
    """

    folder: Path
    reserve_bytes: int

    def require(self, num_bytes: int) -> None:
        """Return if so many bytes can be written without touching the reserve.

        Raises:
            DiskFullError: They cannot. It does not say how much is free, so it is the same at each try.
        """
        if shutil.disk_usage(self.folder).free < num_bytes + self.reserve_bytes:
            raise DiskFullError(
                "the service's disk has no room for that now",
                got=f"{num_bytes} bytes",
                expected=f"{num_bytes + self.reserve_bytes} bytes free on that disk",
                todo="Send it again later; what has arrived is checked once there is room. The operator frees some, or "
                "lowers ARCHPRIOR_DISK_RESERVE_BYTES.",
            )
