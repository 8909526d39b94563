"""The records of adaptations."""

import secrets

from pydantic import TypeAdapter
from sqlalchemy import insert, select

from service.errors import ConflictError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import Adaptation, Dataset, moment
from service.records.priors import use_prior
from service.records.tables import AdaptationRow
from service.records.transitions import Change, transition
from service.records.work import WorkRecords
from service.schemas import FINAL_STATES, AdaptationState, Problem, Result
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest
from workers.contracts.artifacts import Artifact

_STATE: TypeAdapter[AdaptationState] = TypeAdapter(AdaptationState)
_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])


class AdaptationRecords(WorkRecords[AdaptationRow, Adaptation, AdaptationState]):
    """Adaptations of this service."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, row=AdaptationRow, read=_adaptation, final=FINAL_STATES, kind="adaptation")

    def add(self, request: AdaptationRequest, dataset: Dataset, *, owner: str) -> Adaptation:
        """Record a new adaptation, QUEUED. Raises `NotFoundError` where its prior is gone meanwhile."""
        values = {
            "id": f"ad-{secrets.token_hex(6)}",
            "owner": owner,
            "attempt": 1,
            "state": "QUEUED",
            "request": request.model_dump(mode="json"),
            "dataset_id": dataset.id,
            "dataset_sha256": dataset.sha256,
            "spent_s": 0.0,
            "created_at": DatabaseNow(),
        }
        with self._database.transaction() as session:
            use_prior(session, request.prior or NO_PRIOR, owner=owner)
            return _adaptation(session.scalars(insert(AdaptationRow).values(values).returning(AdaptationRow)).one())

    def num_ahead(self, adaptation: Adaptation) -> int:
        """Return how many adaptations were waiting before this one."""
        return self._num_before(adaptation)

    def change(self, seen: Adaptation, change: Change) -> bool:
        """Change an adaptation if it is still as seen; return whether it was."""
        return transition(self._database, seen, change)

    def now(self) -> float:
        """Return the database's time, in seconds since the epoch."""
        with self._database.transaction() as session:
            return float(session.scalar(select(DatabaseNow())) or 0.0)

    def request_cancel(self, adaptation_id: str, *, owner: str) -> Adaptation:
        """Ask an adaptation to end; asking twice does what asking once does. Return it as it stands then.

        Raises:
            NotFoundError: There is no such adaptation.
            ConflictError: It has succeeded or failed already.
        """
        while True:  # a lost race means that the state has changed meanwhile, which happens a few times at most
            seen = self.get(adaptation_id, owner=owner)
            if seen.state in {"CANCELLING", "CANCELLED"}:
                return seen
            if seen.state in FINAL_STATES:
                raise ConflictError(f"the adaptation has ended already: {seen.state}", got=adaptation_id)
            target: AdaptationState = "CANCELLED" if seen.state == "QUEUED" else "CANCELLING"
            if self.change(seen, Change(state=target)):
                return self.get(adaptation_id, owner=owner)


def _adaptation(row: AdaptationRow) -> Adaptation:
    return Adaptation(
        id=row.id,
        owner=row.owner,
        attempt=row.attempt,
        state=_STATE.validate_python(row.state),
        request=AdaptationRequest.model_validate(row.request),
        dataset_id=row.dataset_id,
        dataset_sha256=row.dataset_sha256,
        spent_s=row.spent_s,
        created_at=moment(row.created_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        cancel_requested_at=None if row.cancel_requested_at is None else moment(row.cancel_requested_at),
        error=None if row.error is None else Problem.model_validate(row.error),
        result=None if row.result is None else Result.model_validate(row.result),
        artifacts=_ARTIFACTS.validate_python(row.artifacts or ()),
    )
