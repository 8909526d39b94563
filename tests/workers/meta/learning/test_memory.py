import numpy as np
import pytest
import torch

from workers.meta.learning.memory import is_out_of_memory

FAR_TOO_MANY = 1 << 60


def test_an_allocation_that_the_cpu_cannot_serve_is_told() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(FAR_TOO_MANY, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_an_array_that_numpy_cannot_allocate_is_told() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(FAR_TOO_MANY, dtype=np.uint8)
    assert is_out_of_memory(caught.value)


def test_a_device_without_memory_is_told() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("worker ran out of memory, it says"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_nothing_else_is(error: BaseException) -> None:
    assert not is_out_of_memory(error)
