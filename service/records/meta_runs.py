"""The records of meta-runs."""

import secrets
from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import insert
from sqlalchemy.orm import Session

from service.errors import ConflictError
from service.quotas import UNLIMITED, Quotas
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.events import record_event
from service.records.idempotency import Once, claim
from service.records.model import MetaRun, moment
from service.records.priors import id_taken, insert_prior, is_taken, use_prior
from service.records.tables import MetaRunRow
from service.records.transitions import MetaChange, meta_transition
from service.records.turns import META_RUNS, PRIOR_IDS, take_turn
from service.records.uses import checkpoints_of, require_datasets
from service.records.work import WorkRecords
from service.schemas import ACTIVE_META_STATES, SETTLED_META_STATES, MetaResult, MetaRunState, Problem
from workers.contracts.artifacts import Artifact
from workers.contracts.meta_runs import MetaDataset, MetaRunRequest

_STATE: TypeAdapter[MetaRunState] = TypeAdapter(MetaRunState)
_DATASETS: TypeAdapter[tuple[MetaDataset, ...]] = TypeAdapter(tuple[MetaDataset, ...])
_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])
ID_PREFIX: Final = "mr-"


class MetaRunRecords(WorkRecords[MetaRunRow, MetaRun, MetaRunState]):
    """Meta-runs of this service."""

    def __init__(self, database: Database, quotas: Quotas = UNLIMITED) -> None:
        super().__init__(
            database,
            row=MetaRunRow,
            read=_meta_run,
            active=ACTIVE_META_STATES,
            final=SETTLED_META_STATES,
            kind="meta-run",
            queue=MetaRunRow.request["kind"].as_string(),
            quotas=quotas,
        )

    def add(
        self,
        request: MetaRunRequest,
        datasets: Sequence[MetaDataset],
        *,
        owner: str,
        priority: int = 0,
        once: Once | None = None,
    ) -> MetaRun:
        """Record a new meta-run, QUEUED; or return what the same request has made before.

        Args:
            request: As asked.
            datasets: Those that it names, resolved.
            owner: Whose it is.
            priority: What waits is served by priority, the largest first, then in the order of its arrival.
            once: Of a request that may come again.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner has as much unfinished work as it may.
            NotFoundError: A dataset, or a prior that it begins from or compares, is gone meanwhile.
            ConflictError: The name of its prior is taken.
        """
        number = secrets.token_hex(6)
        values = {
            "id": f"{ID_PREFIX}{number}",
            "owner": owner,
            "attempt": 1,
            "state": "QUEUED",
            "request": request.model_dump(mode="json"),
            "datasets": [dataset.model_dump(mode="json") for dataset in datasets],
            "prior_id": request.prior_id or f"{request.config.search_space}-{number}",
            "spent_s": 0.0,
            "priority": priority,
            "created_at": DatabaseNow(),
        }
        with self._database.transaction() as session:
            if once is not None:
                made = claim(session, once, owner=owner, work_id=str(values["id"]))
                if made != values["id"]:
                    return _meta_run(session.get_one(MetaRunRow, made))
            self._admit(session, owner)
            require_datasets(session, (dataset.dataset_id for dataset in datasets))
            take_turn(session, PRIOR_IDS)
            _use_priors(session, request, owner=owner)
            values["arrival"] = take_turn(session, META_RUNS)
            row = session.scalars(insert(MetaRunRow).values(values).returning(MetaRunRow)).one()
            _claim_prior_id(session, row)
            record_event(session, work_id=row.id, owner=owner, kind="meta_run.queued", data={"attempt": 1})
            return _meta_run(row)

    def change(self, seen: MetaRun, change: MetaChange) -> bool:
        """Change a meta-run if it is still as seen; return whether it was. The prior that it made is recorded with it.

        Raises:
            ConflictError: Another prior has taken the name of the one that it made.
        """
        with self._database.transaction() as session:
            changed = meta_transition(session, seen, change)
            if changed and change.result is not None and change.result.prior_id is not None:
                insert_prior(
                    session,
                    prior_id=change.result.prior_id,
                    owner=seen.owner,
                    search_space=seen.request.config.search_space,
                    meta_run_id=seen.id,
                )
            return changed

    def request_stop(self, meta_run_id: str, *, owner: str) -> MetaRun:
        """Ask a meta-run to end early and publish what it has; asking twice does what asking once does.

        One that waits publishes nothing: its checkpoints, where it has any, stay, and a resume goes on from them.

        Raises:
            NotFoundError: There is no such meta-run.
            ConflictError: It is a comparison, is being cancelled, or has ended otherwise.
        """
        while True:  # a lost race means that the state has changed meanwhile, which happens a few times at most
            seen = self.get(meta_run_id, owner=owner)
            if seen.state in {"STOPPING", "STOPPED"}:
                return seen
            if seen.state not in {"QUEUED", "RUNNING"}:
                raise _impossible("stopped", seen)
            if seen.request.kind == "compare":
                raise ConflictError(
                    "a comparison publishes nothing when stopped: cancel it",
                    got=seen.id,
                    todo=f"POST /v1/meta-runs/{seen.id}/cancel ends it.",
                )
            if self.change(seen, MetaChange(state="STOPPED" if seen.state == "QUEUED" else "STOPPING")):
                return self.get(meta_run_id, owner=owner)

    def request_cancel(self, meta_run_id: str, *, owner: str) -> MetaRun:
        """Ask a meta-run to end and publish nothing; asking twice does what asking once does.

        Raises:
            NotFoundError: There is no such meta-run.
            ConflictError: It has settled already.
        """
        while True:
            seen = self.get(meta_run_id, owner=owner)
            if seen.state in {"CANCELLING", "CANCELLED"}:
                return seen
            if seen.state in SETTLED_META_STATES:
                raise _impossible("cancelled", seen)
            if self.change(seen, MetaChange(state="CANCELLED" if seen.state == "QUEUED" else "CANCELLING")):
                return self.get(meta_run_id, owner=owner)

    def request_resume(self, meta_run_id: str, *, owner: str) -> MetaRun:
        """Have a meta-run that was stopped or has failed go on; asking twice does what asking once does.

        Raises:
            NotFoundError: There is no such meta-run, or a dataset or a prior that it needs is gone.
            ConflictError: It is still ending, or is over for good; or the name of its prior was taken meanwhile.
            QuotaExceededError: Its owner has as much unfinished work as it may.
        """
        while True:
            seen = self.get(meta_run_id, owner=owner)
            if seen.state in {"QUEUED", "RUNNING"}:
                return seen
            if seen.state not in {"STOPPED", "FAILED"}:
                raise _impossible("resumed", seen)
            # Its checkpoints are all there, or are gone before it goes on.
            with checkpoints_of(self._database, seen.id), self._database.transaction() as session:
                self._admit(session, owner)
                require_datasets(session, (dataset.dataset_id for dataset in seen.datasets))
                if not meta_transition(session, seen, MetaChange(state="QUEUED", afresh=True)):
                    continue
                take_turn(session, PRIOR_IDS)
                _use_priors(session, seen.request, owner=owner)
                row = session.get_one(MetaRunRow, seen.id)
                _claim_prior_id(session, row)
                return _meta_run(row)


def _use_priors(session: Session, request: MetaRunRequest, *, owner: str) -> None:
    for prior_id in filter(None, (request.parent, *request.priors)):
        use_prior(session, prior_id, owner=owner)


def _claim_prior_id(session: Session, row: MetaRunRow) -> None:
    """Refuse a name that a prior bears or bore, or that another unfinished meta-run will give.

    Asked in a turn of `PRIOR_IDS`, so of two that claim a name at once the second sees the first.
    """
    if is_taken(session, row.prior_id, besides=row.id):
        raise id_taken(row.prior_id)


def _impossible(what: str, seen: MetaRun) -> ConflictError:
    todo = {
        "STOPPING": "Wait until it is STOPPED.",
        "CANCELLING": "Wait until it is CANCELLED.",
        "FAILED": "A failed meta-run can be resumed.",
        "STOPPED": "A stopped meta-run can be resumed, or left as it is: nothing of it runs.",
    }.get(seen.state, "Post another meta-run.")
    return ConflictError(f"the meta-run is {seen.state}, so it cannot be {what}", got=seen.id, todo=todo)


def _meta_run(row: MetaRunRow) -> MetaRun:
    return MetaRun(
        id=row.id,
        owner=row.owner,
        attempt=row.attempt,
        state=_STATE.validate_python(row.state),
        request=MetaRunRequest.model_validate(row.request),
        datasets=_DATASETS.validate_python(row.datasets),
        prior_id=row.prior_id,
        spent_s=row.spent_s,
        num_failures=row.num_failures,
        priority=row.priority,
        created_at=moment(row.created_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        asked_at=None if row.asked_at is None else moment(row.asked_at),
        error=None if row.error is None else Problem.model_validate(row.error),
        result=None if row.result is None else MetaResult.model_validate(row.result),
        artifacts=_ARTIFACTS.validate_python(row.artifacts or ()),
    )
