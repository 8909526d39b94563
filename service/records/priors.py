"""The records of meta-priors: which there are, who uses them, and which one each search space begins from.

Whoever is about to use a prior writes its row first, in the transaction that records the use, and so does whoever
deletes it: of two that happen at once, the second sees what the first has done.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy import ColumnElement, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.errors import ConflictError, NotFoundError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import moment
from service.records.pages import newest_numbered, no_cursor
from service.records.tables import AdaptationRow, MetaRunRow, PriorRow, PromotionRow
from service.records.turns import PRIOR_IDS, take_turn
from service.schemas import FINAL_STATES, SETTLED_META_STATES, PromotionView
from workers.contracts.adaptations import NO_PRIOR
from workers.priors.registry import bundled_cards

# Words that a request or a path has in the place of an id.
RESERVED_IDS: Final = frozenset({NO_PRIOR, "promotions", "compare"})


def use_prior(session: Session, prior_id: str, *, owner: str) -> None:
    """Write that a prior is about to be used, so that nobody deletes it before this transaction has ended.

    Bundled priors and `none` are always there.

    Args:
        session: Of the transaction that records the use; this is the first thing that it does.
        prior_id: Of the prior.
        owner: Whose it must be.

    Raises:
        NotFoundError: It is gone, or another owner's.
    """
    if prior_id == NO_PRIOR or prior_id in bundled_cards():
        return
    used = update(PriorRow).where(*_alive(prior_id, owner)).values(used_at=DatabaseNow()).returning(PriorRow.id)
    if session.execute(used).first() is None:
        raise no_such_prior(prior_id)


def insert_prior(
    session: Session, *, prior_id: str, owner: str, search_space: str, meta_run_id: str | None = None
) -> None:
    """Record a prior whose bytes lie in the store; once more for the same meta-run does nothing.

    Raises:
        ConflictError: The id is taken, or was once.
    """
    values = {
        "id": prior_id,
        "owner": owner,
        "search_space": search_space,
        "meta_run_id": meta_run_id,
        "created_at": DatabaseNow(),
    }
    try:
        with session.begin_nested():
            session.execute(insert(PriorRow).values(values))
    except IntegrityError:
        row = session.get(PriorRow, prior_id)
        if row is None:
            raise
        if meta_run_id is None or row.meta_run_id != meta_run_id or row.owner != owner or row.deleted_at is not None:
            raise id_taken(prior_id) from None


def is_taken(session: Session, prior_id: str, *, besides: str | None = None) -> bool:
    """Return whether a new prior cannot bear this id: one bears it or did, or an unfinished meta-run will give it.

    Args:
        session: Of the transaction that records the new prior, or the meta-run that makes it.
        prior_id: That is wished for.
        besides: A meta-run that may give it.
    """
    if prior_id in RESERVED_IDS or prior_id in bundled_cards():
        return True
    borne = select(PriorRow.id).where(PriorRow.id == prior_id)
    return session.scalar(borne) is not None or _is_awaited(session, prior_id, besides=besides)


def no_such_prior(prior_id: str) -> NotFoundError:
    """Return the refusal of an id that no prior of the owner bears."""
    return NotFoundError("no such prior", got=prior_id, todo="GET /v1/priors lists those there are.")


def id_taken(prior_id: str) -> ConflictError:
    """Return the refusal of an id that cannot be given to a new prior."""
    return ConflictError(
        "another prior bears this id, or will, or once did", got=prior_id, todo="Give the new prior an id of its own."
    )


class PriorRecords:
    """Stored priors of this service, and the promotions of all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def incoming(self, prior_id: str) -> AbstractContextManager[None]:
        """Return what holds, for a block's time, the sole right to bring in a prior of that id."""
        return self._database.exclusive(f"prior {prior_id}")

    def add(self, prior_id: str, *, owner: str, search_space: str) -> None:
        """Record a prior that was brought along. Raises `ConflictError` where the id is taken."""
        with self._database.transaction() as session:
            take_turn(session, PRIOR_IDS)  # of two that claim an id at once, the second sees the first
            insert_prior(session, prior_id=prior_id, owner=owner, search_space=search_space)
            if _is_awaited(session, prior_id):
                raise id_taken(prior_id)

    def is_taken(self, prior_id: str) -> bool:
        """Return whether a new prior cannot bear this id."""
        with self._database.transaction() as session:
            return is_taken(session, prior_id)

    def ids(
        self, search_space: str | None = None, *, owner: str, limit: int, after: str | None = None
    ) -> tuple[str, ...]:
        """Return the ids of at most `limit` of an owner's priors, oldest first.

        Args:
            search_space: Of which space; None: of all.
            owner: Whose.
            limit: Most ids.
            after: Only those that came after this prior, which may be deleted by now; None: from the first.

        Raises:
            InvalidRequestError: The owner never had such a prior.
        """
        query = select(PriorRow.id).where(PriorRow.owner == owner, PriorRow.deleted_at.is_(None))
        if search_space is not None:
            query = query.where(PriorRow.search_space == search_space)
        place = (PriorRow.created_at, PriorRow.id)
        with self._database.transaction() as session:
            if after is not None:
                last = session.execute(select(*place).where(PriorRow.id == after, PriorRow.owner == owner)).first()
                if last is None:
                    raise no_cursor(after)
                query = query.where(tuple_(*place) > tuple_(*last))
            return tuple(session.scalars(query.order_by(*place).limit(limit)))

    def exists(self, prior_id: str, *, owner: str) -> bool:
        """Return whether there is such a prior now."""
        with self._database.transaction() as session:
            return session.scalar(select(PriorRow.id).where(*_alive(prior_id, owner))) is not None

    def default_for(self, search_space: str, *, owner: str) -> str | None:
        """Return the prior that was promoted last, of those that there still are; None where there is none."""
        with self._database.transaction() as session:
            return _default(session, search_space, owner)

    def promote(self, prior_id: str, *, search_space: str, owner: str) -> None:
        """Make a prior the default of its space, in one step. Raises `NotFoundError` where it is gone."""
        values = {
            "search_space": search_space,
            "prior_id": prior_id,
            "owner": owner,
            "created_at": DatabaseNow(),
        }
        with self._database.transaction() as session:
            use_prior(session, prior_id, owner=owner)
            session.execute(insert(PromotionRow).values(values))

    def promotions(
        self, search_space: str | None, *, owner: str, limit: int, cursor: str | None = None
    ) -> tuple[tuple[PromotionView, ...], str | None]:
        """Return at most `limit` promotions, newest first, and the cursor of the next part if there is one.

        Args:
            search_space: Of which space; None: of all.
            owner: Whose.
            limit: Most promotions.
            cursor: Of the part, as the part before has given it; None: the first part.

        Raises:
            InvalidRequestError: The cursor is none of ours.
        """
        query = select(PromotionRow).where(PromotionRow.owner == owner)
        if search_space is not None:
            query = query.where(PromotionRow.search_space == search_space)
        with self._database.transaction() as session:
            rows, following = newest_numbered(session, query, PromotionRow, limit=limit, cursor=cursor)
        return tuple(map(_promotion, rows)), following

    def delete(self, prior_id: str, *, owner: str) -> None:
        """Mark a prior as deleted: from then on nobody can begin to use it.

        Raises:
            NotFoundError: There is no such prior.
            ConflictError: It is bundled, its space's promoted default, or in use.
        """
        if prior_id in bundled_cards():
            raise ConflictError("a bundled prior cannot be deleted", got=prior_id)
        with self._database.transaction() as session:
            use_prior(session, prior_id, owner=owner)
            row = session.get(PriorRow, prior_id)
            if row is None:  # of `none`, which can be used but is no prior
                raise no_such_prior(prior_id)
            if _default(session, row.search_space, owner) == prior_id:
                raise ConflictError(
                    f"the prior is the default of {row.search_space}", got=prior_id, todo="Promote another one first."
                )
            user = next(_users(session, prior_id), None)
            if user is not None:
                raise ConflictError(
                    f"the prior is used by {user}", got=prior_id, todo="Wait until that has ended, or cancel it."
                )
            session.execute(update(PriorRow).where(PriorRow.id == prior_id).values(deleted_at=DatabaseNow()))


def _promotion(row: PromotionRow) -> PromotionView:
    return PromotionView(
        search_space=row.search_space,
        prior_id=row.prior_id,
        promoted_at=moment(row.created_at),
        promoted_by=row.owner,
    )


def _is_awaited(session: Session, prior_id: str, *, besides: str | None = None) -> bool:
    # What is stopped early adds its number of steps to the name.
    names = {prior_id, re.sub(r"-s[0-9]+$", "", prior_id)}
    unfinished = (MetaRunRow.prior_id.in_(names), MetaRunRow.state.not_in(SETTLED_META_STATES))
    others = () if besides is None else (MetaRunRow.id != besides,)
    return session.scalar(select(MetaRunRow.id).where(*unfinished, *others).limit(1)) is not None


def _alive(prior_id: str, owner: str) -> tuple[ColumnElement[bool], ...]:
    return PriorRow.id == prior_id, PriorRow.owner == owner, PriorRow.deleted_at.is_(None)


def _default(session: Session, search_space: str, owner: str) -> str | None:
    alive = select(PriorRow.id).where(PriorRow.owner == owner, PriorRow.deleted_at.is_(None))
    exists = or_(PromotionRow.prior_id.in_(bundled_cards()), PromotionRow.prior_id.in_(alive))
    query = select(PromotionRow.prior_id).where(
        PromotionRow.search_space == search_space, PromotionRow.owner == owner, exists
    )
    return session.scalar(query.order_by(PromotionRow.id.desc()).limit(1))


def _users(session: Session, prior_id: str) -> Iterator[str]:
    """Yield the ids of what is not finished and names this prior."""
    unfinished = select(AdaptationRow.id, AdaptationRow.request).where(AdaptationRow.state.not_in(FINAL_STATES))
    for user, request in session.execute(unfinished):
        if request.get("prior") == prior_id:
            yield user
    unsettled = select(MetaRunRow.id, MetaRunRow.request).where(MetaRunRow.state.not_in(SETTLED_META_STATES))
    for user, request in session.execute(unsettled):
        priors = request.get("priors")
        if request.get("parent") == prior_id or (isinstance(priors, list) and prior_id in priors):
            yield user
