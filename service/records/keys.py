"""API keys. Only hashes are kept, so a key is shown once: when it is made."""

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Set
from datetime import datetime
from typing import Final, Literal

from pydantic import TypeAdapter
from sqlalchemy import exists, insert, inspect, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import InvalidOptionError
from service.errors import NotFoundError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import moment
from service.records.owners import add_owner, check_owner
from service.records.tables import KeyRow
from workers.contracts.base import Contract

Role = Literal["user", "operator"]

DAY_S: Final = 24 * 3600.0
USE_NOTED_S: Final = 60.0
"""The last use of a key is noted no more often than that: most requests only read."""
MAX_NAME: Final = 200
MAX_DAYS: Final = 36_500
NUM_SECRET_BYTES: Final = 32

_TOKEN: Final = re.compile(r"ap_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ROLE: TypeAdapter[Role] = TypeAdapter(Role)

logger = logging.getLogger(__name__)


class Key(Contract):
    """An API key, without its secret.

    Attributes:
        owner: Whose rows its bearer reads and writes.
        name: What it is for, in its maker's words.
        last_used_at: To the minute.
    """

    id: str
    owner: str
    role: Role
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class KeyRecords:
    """The keys of this service."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._use_tried_at: dict[str, float] = {}

    def create(self, *, owner: str, role: Role, name: str = "", expires_days: float | None = None) -> tuple[Key, str]:
        """Make a key; return it with its token, which nobody can read again.

        Args:
            owner: Whose; recorded if it is new.
            role: What the key allows.
            name: What it is for.
            expires_days: Days until it ends by itself, at most `MAX_DAYS`; None: never.

        Raises:
            InvalidOptionError: The owner's name, the key's or the number of days cannot be.
        """
        check_owner(owner)
        if len(name) > MAX_NAME or not name.isprintable():
            raise InvalidOptionError("not a key's name", expected=f"at most {MAX_NAME} printable characters")
        if expires_days is not None and not 0 <= expires_days <= MAX_DAYS:  # NaN is not either
            raise InvalidOptionError(
                "a key cannot end then", got=f"{expires_days} days", expected=f"from 0 to {MAX_DAYS} days"
            )
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(NUM_SECRET_BYTES)
        values = {
            "id": key_id,
            "owner": owner,
            "role": role,
            "name": name,
            "secret_sha256": _hash(secret),
            "created_at": DatabaseNow(),
            "expires_at": None if expires_days is None else DatabaseNow() + expires_days * DAY_S,
        }
        with self._database.transaction() as session:
            add_owner(session, owner)
            row = session.scalars(insert(KeyRow).values(values).returning(KeyRow)).one()
            return _key(row), f"ap_{key_id}_{secret}"

    def all(self) -> tuple[Key, ...]:
        """Return every key that ever was, oldest first."""
        with self._database.transaction() as session:
            return tuple(map(_key, session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))))

    def revoke(self, key_id: str) -> Key:
        """End a key, from its next request on; one that was revoked before stays as it is. Raises `NotFoundError`."""
        alive = (KeyRow.id == key_id, KeyRow.revoked_at.is_(None))
        with self._database.transaction() as session:
            session.execute(update(KeyRow).where(*alive).values(revoked_at=DatabaseNow()))
            row = session.get(KeyRow, key_id)
            if row is None:
                raise NotFoundError("no such key", got=key_id, todo="`archprior keys list` shows those there are.")
            return _key(row)

    def exist(self) -> bool:
        """Return whether there is a key that was not revoked. One that has run out counts: nothing opens by itself."""
        with self._database.transaction() as session:
            return bool(session.scalar(select(exists().where(KeyRow.revoked_at.is_(None)))))

    def ever_existed(self) -> bool:
        """Return whether there ever was a key, whatever has become of it."""
        with self._database.transaction() as session:
            return bool(session.scalar(select(exists().where(KeyRow.id.is_not(None)))))

    def find(self, token: str) -> Key | None:
        """Return the key that a token proves; None where it is none, of another secret, revoked or has run out."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        key_id, secret = parts.groups()
        with self._database.transaction() as session:
            found = session.execute(select(KeyRow, DatabaseNow()).where(KeyRow.id == key_id)).one_or_none()
        if found is None:
            return None
        row, now = found
        is_right = hmac.compare_digest(row.secret_sha256, _hash(secret))
        if not is_right or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.last_used_at is None or row.last_used_at < now - USE_NOTED_S:
            self._note_use(key_id)
        return _key(row)

    def good(self, ids: Set[str], *, is_open: bool) -> frozenset[str | None]:
        """Return which of these keys are neither revoked nor run out.

        Args:
            ids: Of the keys.
            is_open: Whether to tell, too, by None, that there never was a key.
        """
        good: set[str | None] = set()
        with self._database.transaction() as session:
            alive = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > DatabaseNow())
            good |= set(
                session.scalars(select(KeyRow.id).where(KeyRow.id.in_(ids), KeyRow.revoked_at.is_(None), alive))
            )
            if is_open and not session.scalar(select(exists().where(KeyRow.id.is_not(None)))):
                good.add(None)
        return frozenset(good)

    def _note_use(self, key_id: str) -> None:
        """Note a key's use; this process tries once in `USE_NOTED_S`, and of several processes one writes."""
        now = time.monotonic()
        if now - self._use_tried_at.get(key_id, -math.inf) < USE_NOTED_S:
            return
        self._use_tried_at[key_id] = now
        is_due = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < DatabaseNow() - USE_NOTED_S)
        try:
            with self._database.transaction() as session:
                session.execute(update(KeyRow).where(KeyRow.id == key_id, is_due).values(last_used_at=DatabaseNow()))
        except SQLAlchemyError as error:  # no reason to refuse what the key allows
            logger.warning("key=%s its use cannot be noted: %s", key_id, error)


def has_keys(database: Database) -> bool:
    """Return whether records have a key that was not revoked. They may be of an earlier version, which had none."""
    with database.connection() as connection:
        if not inspect(connection).has_table(KeyRow.__tablename__):
            return False
    return KeyRecords(database).exist()


def _hash(secret: str) -> str:
    # Of 256 random bits, which nobody can guess: a slow hash for passwords would only slow down each request.
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        owner=row.owner,
        role=_ROLE.validate_python(row.role),
        name=row.name,
        created_at=moment(row.created_at),
        expires_at=None if row.expires_at is None else moment(row.expires_at),
        last_used_at=None if row.last_used_at is None else moment(row.last_used_at),
        revoked_at=None if row.revoked_at is None else moment(row.revoked_at),
    )
