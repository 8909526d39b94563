"""Turns: transactions that take a turn of one name follow one another, and each gets the next number."""

from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from service.records.tables import TurnRow

PRIOR_IDS: Final = "prior-ids"
ADAPTATIONS: Final = "adaptations"
META_RUNS: Final = "meta_runs"


def take_turn(session: Session, name: str) -> int:
    """Return the number of this turn, once whoever took the one before has committed or undone its work.

    What the transaction reads from then on is as they left it: PostgreSQL gives each statement a view of its own, and
    SQLite lets one transaction write at a time.

    Args:
        session: Of a transaction that has not read yet what depends on the turn.
        name: Of the turns; its row was made by a migration.
    """
    taken = update(TurnRow).where(TurnRow.name == name).values(number=TurnRow.number + 1).returning(TurnRow.number)
    return session.execute(taken).scalar_one()
