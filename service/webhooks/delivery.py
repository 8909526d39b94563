"""The thread that sends events to webhooks, until each was taken or is given up."""

import asyncio
import json
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from service.metrics import DeliveryMetrics
from service.records.deliveries import Delivery, DeliveryRecords
from service.records.lease import Lease
from service.schemas import DeliveryView
from service.webhooks.sender import Message, Outcome, Sender

DELAYS_S: Final = (5.0, 60.0, 300.0, 1800.0, 2 * 3600.0, 8 * 3600.0, 24 * 3600.0)
"""Seconds before each further try: a receiver may be away for a day."""
MAX_TRIES: Final = len(DELAYS_S) + 1
JITTER: Final = (0.8, 1.2)
"""What failed together is not to come back together."""
INTERVAL_S: Final = 1.0
PAUSE_AFTER_ERROR_S: Final = 3.0
JOIN_TIMEOUT_S: Final = 10.0
MAX_AT_ONCE: Final = 8
MAX_OF_OWNER: Final = 4
PATHS: Final = {"dataset": "/v1/datasets", "adaptation": "/v1/adaptations", "meta_run": "/v1/meta-runs"}

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


def message(delivery: Delivery) -> Message:
    """Return what is sent: the same bytes each time."""
    event = delivery.event
    kind, _, _ = event.kind.partition(".")
    links = {"self": f"{PATHS.get(kind, '/v1/webhooks')}/{event.work_id}"}
    data = {**event.model_dump(mode="json"), "links": links}
    document = {"type": event.kind, "timestamp": data["at"], "data": data}
    return Message(id=delivery.id, body=json.dumps(document, separators=(",", ":")).encode())


def _jitter() -> float:
    return random.uniform(*JITTER)  # noqa: S311 (no secret)


class DeliveryLoop:
    """Sends what is due, a handful at once. A slow webhook holds up no other: each gets one at a time.

    Messages arrive at least once, not always in order. Of several services on the same records one sends.

    Args:
        records: The outbox.
        lease: The right to send.
        sender: Sends one message.
        metrics: Counts what becomes of each try.
        interval_s: Seconds between two looks at the outbox.
        delays_s: Seconds before each further try.
        vary: Returns the factor by which a delay is made longer or shorter.
    """

    def __init__(
        self,
        records: DeliveryRecords,
        lease: Lease,
        sender: Sender,
        metrics: DeliveryMetrics,
        *,
        interval_s: float = INTERVAL_S,
        delays_s: tuple[float, ...] = DELAYS_S,
        vary: Callable[[], float] = _jitter,
    ) -> None:
        self._records, self._lease, self._sender, self._metrics = records, lease, sender, metrics
        self._interval_s, self._delays_s, self._vary = interval_s, delays_s, vary
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="webhooks", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main_task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End the thread and wait for it; what is being sent may arrive, and is sent again by whoever goes on."""
        if self._loop is not None and self._main_task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main_task.cancel)
        self._thread.join(JOIN_TIMEOUT_S)

    async def deliver(self, delivery: Delivery, *, again: bool = True) -> DeliveryView:
        """Send a claimed message once, and record what became of it.

        Args:
            delivery: What to send.
            again: Whether it is sent again later if it is not taken.
        """
        outcome = await self._sender.send(delivery.webhook.url, delivery.webhook.secret, message(delivery))
        return await to_thread.run_sync(self._record, delivery, outcome, again)

    def _record(self, delivery: Delivery, outcome: Outcome, again: bool) -> DeliveryView:
        if outcome.error is None:
            self._metrics.note("delivered")
            return self._records.taken(delivery.id, status=outcome.status)
        num_failures = delivery.num_tries
        retried = again and not outcome.is_gone and num_failures <= len(self._delays_s)
        again_s = self._delays_s[num_failures - 1] * self._vary() if retried else None
        self._metrics.note("failed" if retried else "gone" if outcome.is_gone else "given_up")
        where = f"webhook={delivery.webhook.id} delivery={delivery.id} try={num_failures}"
        logger.info(
            "%s not taken: %s; %s", where, outcome.error, f"again in {again_s:.0f} s" if again_s else "given up"
        )
        view = self._records.failed(delivery.id, status=outcome.status, error=outcome.error, again_s=again_s)
        if outcome.is_gone:
            logger.warning("%s is disabled: its receiver answers 410", where)
            self._records.disable(delivery.webhook.id, outcome.error)
        return view

    async def _main(self) -> None:
        self._loop, self._main_task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        sending: dict[asyncio.Task[None], Delivery] = {}
        last_error = ""
        try:
            while True:
                pause_s = self._interval_s
                try:
                    await self._send_due(sending)
                    last_error = ""
                except SQLAlchemyError as error:
                    pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                    if str(error) != last_error:  # once, not at every look
                        logger.error("webhooks have to wait: %s", error)
                    last_error = str(error)
                # What has been sent makes room for more at once.
                waiting = [asyncio.create_task(asyncio.sleep(pause_s)), *sending]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                waiting[0].cancel()
                for task in [task for task in sending if task.done()]:
                    del sending[task]
        except asyncio.CancelledError:
            return
        finally:
            for task in sending:
                task.cancel()

    async def _send_due(self, sending: dict[asyncio.Task[None], Delivery]) -> None:
        """Begin to send what is due, as far as there is room."""
        if not await to_thread.run_sync(self._records.has_due) or not await to_thread.run_sync(self._lease.acquire):
            return
        while len(sending) < MAX_AT_ONCE:
            now = sending.values()
            of_owner = Counter(one.webhook.owner for one in now)
            full = frozenset(owner for owner, number in of_owner.items() if number >= MAX_OF_OWNER)
            busy = frozenset(one.webhook.id for one in now)
            claim = partial(self._records.claim, but_webhooks=busy, but_owners=full)
            delivery = await to_thread.run_sync(claim)
            if delivery is None:
                return
            sending[asyncio.create_task(self._deliver(delivery))] = delivery

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self.deliver(delivery)
        except SQLAlchemyError as error:  # it stays claimed, and is sent again once that has run out
            logger.error("delivery=%s what became of it cannot be recorded: %s", delivery.id, error)
