"""The thread that sends events to webhooks, until each was taken or is given up."""

import asyncio
import json
import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from service.background import in_background
from service.metrics import DeliveryMetrics
from service.records.deliveries import Delivery, DeliveryRecords
from service.records.lease import Lease
from service.schemas import DeliveryView
from service.webhooks.delays import DELAYS_S, next_try_s
from service.webhooks.places import MAX_AT_ONCE, full, host_of
from service.webhooks.sender import Message, Outcome, Sender

JITTER: Final = (0.8, 1.2)
"""What failed together is not to come back together."""
INTERVAL_S: Final = 1.0
PAUSE_AFTER_ERROR_S: Final = 3.0
JOIN_TIMEOUT_S: Final = 10.0
PATHS: Final = {"dataset": "/v1/datasets", "adaptation": "/v1/adaptations", "meta_run": "/v1/meta-runs"}

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
    """Sends what is due, a handful at once. A slow receiver holds up few: see `places`.

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
        return await in_background(partial(self._record, delivery, outcome, again))

    def _record(self, delivery: Delivery, outcome: Outcome, again: bool) -> DeliveryView:
        if outcome.error is None:
            self._metrics.note("delivered")
            return self._records.taken(delivery.id, status=outcome.status)
        num_failures = delivery.num_tries
        again_s = None
        if again and not outcome.is_gone:
            again_s = next_try_s(num_failures, asked_s=outcome.asked_s, factor=self._vary(), delays_s=self._delays_s)
        self._metrics.note("failed" if again_s is not None else "gone" if outcome.is_gone else "given_up")
        where = f"webhook={delivery.webhook.id} delivery={delivery.id} try={num_failures}"
        then = "given up" if again_s is None else f"again in {again_s:.0f} s"
        logger.info("%s not taken: %s; %s", where, outcome.error, then)
        view = self._records.failed(
            delivery.id, status=outcome.status, error=outcome.error, again_s=again_s, rest_s=outcome.asked_s
        )
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
        if not await in_background(self._records.has_due) or not await in_background(self._lease.acquire):
            return
        passed: set[str] = set()
        while len(sending) < MAX_AT_ONCE:
            now = full(one.webhook for one in sending.values())
            busy = now.webhooks | passed
            due = await in_background(partial(self._records.next_due, but_webhooks=busy, but_owners=now.owners))
            if due is None:
                return
            if host_of(due.webhook.url) in now.hosts:
                passed.add(due.webhook.id)  # those of other hosts overtake it
                continue
            delivery = await in_background(partial(self._records.claim, due.delivery_id))
            if delivery is not None:
                sending[asyncio.create_task(self._deliver(delivery))] = delivery

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self.deliver(delivery)
        except SQLAlchemyError as error:  # it stays claimed, and is sent again once that has run out
            logger.error("delivery=%s what became of it cannot be recorded: %s", delivery.id, error)
