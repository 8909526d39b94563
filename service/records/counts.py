"""How much work there is in each state that is not final."""

from collections.abc import Mapping
from typing import Final, get_args

from sqlalchemy import func, select

from service.records.database import Database
from service.records.tables import AdaptationRow, MetaRunRow, WorkRow
from service.schemas import FINAL_STATES, SETTLED_META_STATES, AdaptationState, MetaRunState

WorkCounts = Mapping[str, int]

UNFINISHED: Final[Mapping[type[WorkRow], tuple[str, ...]]] = {
    AdaptationRow: tuple(state for state in get_args(AdaptationState) if state not in FINAL_STATES),
    MetaRunRow: tuple(state for state in get_args(MetaRunState) if state not in SETTLED_META_STATES),
}


def unfinished_by_state(database: Database, *, owner: str | None = None) -> Mapping[str, WorkCounts]:
    """Return how many works are in each unfinished state, by their tables' names.

    One question for each table, answered from an index.

    Args:
        database: Where the rows lie.
        owner: Whose works; None: every owner's.
    """
    with database.transaction() as session:
        counts = {}
        for row, states in UNFINISHED.items():
            query = select(row.state, func.count()).where(row.state.in_(states)).group_by(row.state)
            if owner is not None:
                query = query.where(row.owner == owner)
            found = dict(session.execute(query).all())
            counts[row.__tablename__] = {state: found.get(state, 0) for state in states}
    return counts
