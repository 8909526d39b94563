"""How the priors of `meta_training` are judged: by scores on tasks of classes that none learned from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import Field, TypeAdapter

from benchmarks.domains.written import WrittenDomain
from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.contracts.base import Contract
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalDataset, load_meta_data
from workers.meta.learning.evaluation import QueryScores, query_scores
from workers.meta.learning.slot import SlotWork
from workers.priors.model import mode_of
from workers.tasks.distribution import TaskDistribution


class TaskScores(Contract):
    """Attributes:
    domain: Of the task.
    number: Of the task in its domain.
    at_mode: Scores at the prior's mode, by number of inner steps.
    at_cell: The same at the architecture that all priors are judged at: tells weights from choices; may be empty.
    """

    domain: str
    number: int
    at_mode: dict[int, QueryScores]
    at_cell: dict[int, QueryScores] = Field(default_factory=dict)


class Judge:
    """Judges priors on tasks of the meta-validation classes of some domains; what is in a file is not judged again.

    Args:
        domains: Their classes.
        num_tasks: Of each domain.
        config: Names the resolutions and the space, which all priors share.
        cell: Architecture to judge all priors at, beside their modes; None: at their modes only.
    """

    def __init__(
        self, domains: Sequence[WrittenDomain], num_tasks: int, config: MetaConfig, cell: Architecture | None = None
    ) -> None:
        self._domains = {domain.card.name: domain for domain in domains}
        self._num_tasks, self._config, self._cell = num_tasks, config, cell
        self._loaded: dict[str, TaskDistribution] = {}

    def scores(self, config: MetaConfig, prior: MetaPrior, path: Path) -> list[TaskScores]:
        """Return the scores on each task, the same tasks for every prior, in the order of domains and numbers.

        Args:
            config: Names the inner rates and the seed of the tasks.
            prior: To judge.
            path: Of the file, rewritten after each domain.
        """
        known = _Scores.validate_json(path.read_bytes()) if path.exists() else []
        have = {(found.domain, found.number) for found in known}
        for domain in self._domains:
            for number in range(self._num_tasks):
                if (domain, number) not in have:
                    held_out = self._held_out(domain)
                    work = SlotWork.build(config, held_out)
                    at_mode = query_scores(work, held_out, prior, number)
                    cell, at_cell = self._cell, {}
                    if cell is not None and cell == mode_of(prior, SPACES[cell.space]):
                        at_cell = at_mode
                    elif cell is not None:
                        at_cell = query_scores(work, held_out, prior, number, architecture=cell)
                    known.append(TaskScores(domain=domain, number=number, at_mode=at_mode, at_cell=at_cell))
            partial = path.with_suffix(".partial")
            partial.write_bytes(_Scores.dump_json(known))
            partial.replace(path)
        wanted = [found for found in known if found.domain in self._domains and found.number < self._num_tasks]
        return sorted(wanted, key=lambda found: (found.domain, found.number))

    def _held_out(self, domain: str) -> TaskDistribution:
        if domain not in self._loaded:
            config, written = self._config, self._domains[domain]
            chosen = replace(written.split, meta_train=written.split.meta_validation, meta_validation=(), meta_test=())
            classes = load_meta_data(
                [LocalDataset(path=written.path, split=chosen)], max(config.resolutions)
            ).meta_train
            resolutions = dict(zip(config.resolutions, config.resolution_weights, strict=True))
            self._loaded[domain] = TaskDistribution(classes, resolutions)
        return self._loaded[domain]


_Scores: Final = TypeAdapter(list[TaskScores])
