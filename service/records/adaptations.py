"""The records of adaptations."""

import secrets

from pydantic import TypeAdapter
from sqlalchemy import insert, select

from service.errors import ConflictError
from service.quotas import UNLIMITED, Quotas
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.events import record_event
from service.records.idempotency import Once, claim
from service.records.model import Adaptation, Dataset, moment
from service.records.priors import use_prior
from service.records.tables import AdaptationRow
from service.records.transitions import Change, transition
from service.records.turns import ADAPTATIONS, take_turn
from service.records.uses import require_datasets
from service.records.work import WorkRecords
from service.schemas import ACTIVE_STATES, FINAL_STATES, AdaptationState, Problem, Result
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest
from workers.contracts.artifacts import Artifact

_STATE: TypeAdapter[AdaptationState] = TypeAdapter(AdaptationState)
_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])


class AdaptationRecords(WorkRecords[AdaptationRow, Adaptation, AdaptationState]):
    """Adaptations of this service."""

    def __init__(self, database: Database, quotas: Quotas = UNLIMITED) -> None:
        super().__init__(
            database,
            row=AdaptationRow,
            read=_adaptation,
            active=ACTIVE_STATES,
            final=FINAL_STATES,
            kind="adaptation",
            quotas=quotas,
        )

    def add(
        self,
        request: AdaptationRequest,
        dataset: Dataset,
        *,
        owner: str,
        priority: int = 0,
        once: Once | None = None,
    ) -> Adaptation:
        """Record a new adaptation, QUEUED; or return what the same request has made before.

        Args:
            request: As asked, with every reference resolved.
            dataset: That it names.
            owner: Whose it is.
            priority: What waits is served by priority, the largest first, then in the order of its arrival.
            once: Of a request that may come again.

        Raises:
            NotFoundError: Its dataset or its prior is gone meanwhile.
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner has as much unfinished work as it may.
        """
        values = {
            "id": f"ad-{secrets.token_hex(6)}",
            "owner": owner,
            "attempt": 1,
            "state": "QUEUED",
            "request": request.model_dump(mode="json"),
            "dataset_id": dataset.id,
            "dataset_sha256": dataset.sha256,
            "spent_s": 0.0,
            "priority": priority,
            "created_at": DatabaseNow(),
        }
        with self._database.transaction() as session:
            if once is not None:
                made = claim(session, once, owner=owner, work_id=str(values["id"]))
                if made != values["id"]:
                    return _adaptation(session.get_one(AdaptationRow, made))
            self._admit(session, owner)
            require_datasets(session, (dataset.id,))
            use_prior(session, request.prior or NO_PRIOR, owner=owner)
            values["arrival"] = take_turn(session, ADAPTATIONS)
            row = session.scalars(insert(AdaptationRow).values(values).returning(AdaptationRow)).one()
            record_event(session, work_id=row.id, owner=owner, kind="adaptation.queued", data={"attempt": 1})
            return _adaptation(row)

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
        num_failures=row.num_failures,
        priority=row.priority,
        created_at=moment(row.created_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        cancel_requested_at=None if row.cancel_requested_at is None else moment(row.cancel_requested_at),
        error=None if row.error is None else Problem.model_validate(row.error),
        result=None if row.result is None else Result.model_validate(row.result),
        artifacts=_ARTIFACTS.validate_python(row.artifacts or ()),
    )
