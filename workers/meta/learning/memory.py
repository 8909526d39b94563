"""Which errors mean that memory ran out, so that the same work on smaller batches may succeed."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, torch's CPU allocator, or Python or NumPy had no memory left to give.

    The CPU allocator has no error class of its own: it raises a plain RuntimeError that names it.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
