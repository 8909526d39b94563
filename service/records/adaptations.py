"""The records of adaptations."""

import logging
import secrets
from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, insert, select, tuple_
from sqlalchemy.orm import aliased

from service.errors import ConflictError, NotFoundError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import Adaptation, Dataset, moment
from service.records.pages import decode_cursor, encode_cursor
from service.records.priors import use_prior
from service.records.tables import AdaptationRow
from service.records.transitions import Change, transition
from service.schemas import FINAL_STATES, AdaptationState, Problem, Result
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest
from workers.contracts.artifacts import Artifact

_STATE: TypeAdapter[AdaptationState] = TypeAdapter(AdaptationState)
_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])

logger = logging.getLogger(__name__)


class AdaptationRecords:
    """Adaptations of this service."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unreadable: set[str] = set()

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

    def get(self, adaptation_id: str, *, owner: str) -> Adaptation:
        """Return one adaptation. Raises `NotFoundError`."""
        query = select(AdaptationRow).where(AdaptationRow.id == adaptation_id, AdaptationRow.owner == owner)
        with self._database.transaction() as session:
            row = session.scalar(query)
        if row is None:
            todo = "GET /v1/adaptations lists those there are."
            raise NotFoundError("no such adaptation", got=adaptation_id, todo=todo)
        return _adaptation(row)

    def page(
        self, *, owner: str, limit: int, state: AdaptationState | None = None, cursor: str | None = None
    ) -> tuple[tuple[Adaptation, ...], str | None]:
        """Return at most `limit` adaptations, newest first, and the cursor of the next part if there is one."""
        query = select(AdaptationRow).where(AdaptationRow.owner == owner)
        if state is not None:
            query = query.where(AdaptationRow.state == state)
        if cursor is not None:
            query = query.where(tuple_(AdaptationRow.created_at, AdaptationRow.id) < tuple_(*decode_cursor(cursor)))
        query = query.order_by(AdaptationRow.created_at.desc(), AdaptationRow.id.desc()).limit(limit + 1)
        with self._database.transaction() as session:
            rows = session.scalars(query).all()
        following = encode_cursor(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
        return self._readable(rows[:limit]), following

    def unfinished(self) -> tuple[Adaptation, ...]:
        """Return every owner's adaptations that have not ended, oldest first."""
        query = (
            select(AdaptationRow)
            .where(AdaptationRow.state.not_in(FINAL_STATES))
            .order_by(AdaptationRow.created_at, AdaptationRow.id)
        )
        with self._database.transaction() as session:
            return self._readable(session.scalars(query))

    def _readable(self, rows: Iterable[AdaptationRow]) -> tuple[Adaptation, ...]:
        """Leave out what another version wrote and this one cannot read: the others go on."""
        found = []
        for row in rows:
            try:
                found.append(_adaptation(row))
            except ValidationError as error:
                if row.id not in self._unreadable:  # told once, not at every look
                    logger.error("adaptation=%s cannot be read and is left alone: %s", row.id, error)
                self._unreadable.add(row.id)
        return tuple(found)

    def num_ahead(self, adaptation: Adaptation) -> int:
        """Return how many adaptations were waiting before this one."""
        own = aliased(AdaptationRow)
        before = tuple_(AdaptationRow.created_at, AdaptationRow.id) < tuple_(own.created_at, own.id)
        query = (
            select(func.count(AdaptationRow.id))
            .join(own, own.id == adaptation.id)
            .where(AdaptationRow.state == "QUEUED", before)
        )
        with self._database.transaction() as session:
            return session.scalar(query) or 0

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
