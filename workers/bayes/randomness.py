"""All randomness of a meta-run, named rather than shared.

| symbol | meaning | in code |
|---|---|---|
| seed | of the run | `seed` |
| s, i | meta-step, and slot of that step | `step`, `slot` |
| - | what the numbers are for (`task`, `inner`, ...) | `stream` |

A slot's generator depends on nothing but these, so who computes a slot, and when, does not change what it draws.
"""

from hashlib import blake2b

import torch


def slot_generator(seed: int, step: int, slot: int, stream: str = "", device: str = "cpu") -> torch.Generator:
    """Return a fresh generator that is a function of its arguments alone; equal arguments give equal draws.

    The seed is a hash of the tuple, not a sum: neighboring slots are as unlike as distant ones. Noise is drawn on the
    generator's device; leave it on the CPU where runs on different devices must agree.
    """
    digest = blake2b(repr((seed, step, slot, stream)).encode(), digest_size=8).digest()
    # 63 bits: the largest range that every device's generator takes.
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)
