"""How many workers each meta-run may have, so that adaptations always find room. Pure.

Adaptations come first: what they need is set aside, and meta-runs share the rest. This counts the CPUs and GPUs of the
cluster together; where the free ones are scattered over nodes so that an adaptation still finds no place, it says so by
not starting, and meta-runs pause until it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.ray.jobs import Capacity
from service.records.model import Adaptation, MetaRun
from workers.adapt.plan import MAX_CPUS_PER_WORKER


@dataclass(frozen=True, kw_only=True)
class Need:
    """What an adaptation takes of the cluster.

    Attributes:
        starved: Whether its job has waited for long for its workers to start.
    """

    cpus: int
    gpus: int
    starved: bool = False


def need_of(adaptation: Adaptation, capacity: Capacity, *, starved: bool = False) -> Need:
    """Return what an adaptation takes, as its job will decide it: see `workers.adapt.resources.share_of_cluster`.

    One without workers trains in its job's process, which takes as much of a machine without asking Ray.
    """
    num_workers = adaptation.request.num_workers
    cpus = min(max(1, num_workers) * MAX_CPUS_PER_WORKER, capacity.cpus)
    return Need(cpus=cpus, gpus=num_workers if capacity.gpus >= num_workers else 0, starved=starved)


def worker_caps(capacity: Capacity, needs: Sequence[Need], meta_runs: Sequence[MetaRun]) -> Mapping[str, int | None]:
    """Return the largest number of workers of each meta-run, by its id; None: no cap but its own.

    Args:
        capacity: Of the cluster.
        needs: Of the adaptations that run or are due.
        meta_runs: That run, oldest first; they get room in turn, a worker each.
    """
    ids = [one.id for one in meta_runs]
    if not needs:
        return dict.fromkeys(ids)
    granted = dict.fromkeys(ids, 0)
    if any(need.starved for need in needs):
        return granted
    cpus = capacity.cpus - sum(need.cpus for need in needs)
    gpus = capacity.gpus - sum(need.gpus for need in needs)
    growing = list(meta_runs)
    while growing:
        for one in tuple(growing):
            own_cpus, own_gpus = one.request.cpus_per_worker, int(_uses_gpu(one, capacity))
            enough = granted[one.id] == one.request.max_workers
            if enough or own_cpus > cpus or own_gpus > gpus:
                growing.remove(one)
                continue
            granted[one.id] += 1
            cpus, gpus = cpus - own_cpus, gpus - own_gpus
    return granted


def _uses_gpu(meta_run: MetaRun, capacity: Capacity) -> bool:
    asked = meta_run.request.use_gpu
    return capacity.gpus > 0 if asked is None else asked
