"""What an attempt says to the service and hears from it, through the store, on a thread of its own.

A store that is slow or away must not hold learning up: what is newest is written when it is back.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from workers.contracts.errors import NewerFormatError, ObjectMissingError, StoreError
from workers.contracts.meta_runs import MetaControl, MetaEvent, MetaEvents, MetaProgress
from workers.store.protocol import Store

log = logging.getLogger("archprior.meta")

CONTROL: Final = "control.json"
PROGRESS: Final = "progress.json"
EVENTS: Final = "events.json"
EXCHANGE_EVERY_S: Final = 1.0
CLOSE_TIMEOUT_S: Final = 10.0


class Mailbox:
    """Writes `progress.json` and `events.json`, reads `control.json`, once a second.

    Args:
        store: Where the attempt's bytes lie.
        attempt_key: Prefix of the attempt, without a final slash.
    """

    def __init__(self, store: Store, attempt_key: str) -> None:
        self._store, self._key = store, attempt_key
        self._lock = threading.Lock()
        self._unsent: dict[str, MetaProgress | MetaEvents] = {}
        self._control = MetaControl()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mailbox", daemon=True)
        self._thread.start()

    def control(self) -> MetaControl:
        """Return what the service wants, as last read."""
        return self._control

    def progress(self, progress: MetaProgress) -> None:
        """Have the newest progress written."""
        with self._lock:
            self._unsent[PROGRESS] = progress

    def events(self, events: Sequence[MetaEvent]) -> None:
        """Have the last events written."""
        with self._lock:
            self._unsent[EVENTS] = MetaEvents(events=tuple(events))

    def flush(self) -> None:
        """Write what is unsent now, if the store takes it."""
        self._send()

    def close(self) -> None:
        """Write what is unsent, if the store takes it, and end the thread."""
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._read_control()
            self._send()
            self._closing.wait(EXCHANGE_EVERY_S)
        self._send()

    def _send(self) -> None:
        with self._lock:
            unsent, self._unsent = self._unsent, {}
        for name, document in unsent.items():
            try:
                data = document.model_dump_json().encode()
                self._store.put_bytes(f"{self._key}/{name}", data, media_type="application/json")
            except StoreError as error:
                log.warning("%s cannot be written now: %s", name, error)
                with self._lock:
                    self._unsent.setdefault(name, document)

    def _read_control(self) -> None:
        try:
            self._control = MetaControl.from_stored(self._store.get_bytes(f"{self._key}/{CONTROL}"), CONTROL)
        except ObjectMissingError:
            return
        except (StoreError, ValidationError, NewerFormatError) as error:
            log.warning("%s cannot be read now: %s", CONTROL, error)
