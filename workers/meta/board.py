"""Who computes what next. Pure: no Ray, no clock, no tensors; told what happened, it says what to do.

| symbol | meaning | in code |
|---|---|---|
| s, i | meta-step, slot of that step | `Slot(step, number)` |
| T | slots of a step | `num_slots` |
| v | version of the prior: steps taken | `version` |

Synchronous: the slots of step v, each once; a step is over when all of them have been pushed. Asynchronous: slots
follow one another without end, and the version grows as gradients arrive.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from workers.contracts.meta_config import MetaConfig

NUM_DURATIONS = 50


@dataclass(frozen=True, order=True)
class Slot:
    """One task of one meta-step: with the run's seed it fixes the task, its images and all randomness."""

    step: int
    number: int

    def __str__(self) -> str:
        return f"slot {self.number} of step {self.step}"


@dataclass(frozen=True)
class Judgement:
    """One held-out task on which one prior is judged."""

    subject: str
    number: int

    def __str__(self) -> str:
        return f"held-out task {self.number} of {self.subject}"


@dataclass(frozen=True)
class Tryout:
    """One trial: which architecture of which task; see `workers.meta.trials`."""

    task: int
    number: int

    def __str__(self) -> str:
        return f"architecture {self.number} on trial task {self.task}"


Errand = Judgement | Tryout
"""What is done beside slots, each once, by anybody."""
Item = Slot | Errand


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When work counts as slow, and when as hung.

    Attributes:
        slow_factor, slow_s: An item that takes this many times the median, and at least this many seconds, is given to
            a second worker as well, if one is idle.
        hung_factor, hung_s: The same, after which its worker counts as hung. The first items of each part of a run
            have no median: they may take `first_s`, trials, of any number of steps, `first_trial_s`. An item that has
            cost workers may take twice as long with each: it may simply be the largest.
        max_losses: Workers that one item may cost, before it counts as what kills them.
    """

    slow_factor: float = 3.0
    slow_s: float = 2.0
    hung_factor: float = 10.0
    hung_s: float = 60.0
    first_s: float = 300.0
    first_trial_s: float = 3600.0
    max_losses: int = 5


@dataclass(frozen=True)
class _Held:
    item: Item
    since_s: float
    then: Slot | None = None


class Board:
    """The work of one run, and who holds which part of it.

    A worker computes one item at a time. One more slot may wait behind it, so that the worker has not to wait for an
    answer in between.

    Args:
        config: Of the run.
        patience: With slow and hung workers.
        version: Steps taken already.
    """

    def __init__(self, config: MetaConfig, patience: Patience, *, version: int = 0) -> None:
        self._num_slots, self._num_steps = config.num_slots, config.num_steps
        self._parts = config.warmup_steps, config.joint_steps
        self._synchronous, self._max_staleness = config.mode == "synchronous", config.max_staleness
        self._patience = patience
        self._held: dict[str, _Held | None] = {}
        self._slot_s: dict[str, float] = {}
        self._hinted: dict[str, Slot] = {}
        self._errands: list[Errand] = []
        # By kind of work: a task takes many times as long as a batch of the warm-up.
        self._durations: dict[str, deque[float]] = {}
        self._losses: dict[Item, int] = {}
        self.num_backups = 0
        self.rewound(version)

    def rewound(self, version: int) -> None:
        """Begin again from a version: what is computed for later ones no longer counts."""
        self.version = version
        self._computed: set[Slot] = set()
        self._again: list[Slot] = []
        self._next = version * self._num_slots

    def advanced(self, version: int) -> None:
        """The prior has taken a step."""
        self.version = version
        # What comes later than this is too old to count anyway.
        oldest = version if self._synchronous else version - self._max_staleness - 1
        self._computed = {slot for slot in self._computed if slot.step >= oldest}

    @property
    def learned(self) -> bool:
        """Whether all steps are taken."""
        return self.version >= self._num_steps

    @property
    def errands_done(self) -> bool:
        """Whether nothing is left to be judged or tried."""
        return not self._errands

    @property
    def workers(self) -> tuple[str, ...]:
        """Those that can compute, in the order in which they joined."""
        return tuple(self._held)

    def holds(self, worker: str) -> Item | None:
        """Return what a worker computes now."""
        held = self._held.get(worker)
        return None if held is None else held.item

    def joined(self, worker: str) -> None:
        """A worker can compute."""
        self._held[worker] = None

    def left(self, worker: str, *, lost: bool) -> int:
        """A worker is gone; what it held is open again. Return how many workers what it computed has cost by now.

        Args:
            worker: Its name; nothing happens if it never joined.
            lost: Whether it died or hung, rather than being told to go.
        """
        held = self._held.pop(worker, None)
        self._slot_s.pop(worker, None)
        self._hinted.pop(worker, None)
        if held is None:
            return 0
        if isinstance(held.item, Slot) and held.item not in self._computed and not self._holders(held.item):
            self.reopen(held.item)
        if lost:
            self._losses[held.item] = self._losses.get(held.item, 0) + 1
        return self._losses.get(held.item, 0)

    def ask(self, errands: Iterable[Errand]) -> None:
        """Have errands given out, in that order."""
        self._errands += errands

    def withdraw(self, errands: Iterable[Errand]) -> None:
        """Have those of some errands that are not done left alone."""
        withdrawn = set(errands)
        self._errands = [errand for errand in self._errands if errand not in withdrawn]

    def next_item(self, worker: str, now_s: float, *, learn: bool = True) -> Item | None:
        """Give a worker its next item, or nothing if there is none for it now.

        Args:
            worker: That joined and holds nothing.
            now_s: Seconds, of any monotonic clock.
            learn: Whether slots are given out too; else only errands.
        """
        item = self._choose(worker, now_s, learn=learn)
        if item is not None:
            self._held[worker] = _Held(item, now_s)
        return item

    def queue_ahead(self, workers: Iterable[str]) -> list[tuple[str, Slot]]:
        """Give workers the slot that they begin after their present one; return which worker got which.

        Towards the end of a step nothing is given ahead that another worker would come to first: as many slots stay
        open as all workers together compute while this one computes one. Asynchronous slots are never given ahead,
        since their prior would be older than it need be.

        Args:
            workers: That may be given more.
        """
        if not self._synchronous or self.learned:
            return []
        given_out = self._given_out()
        unheld = [slot for slot in self._open_slots() if slot not in given_out]
        slots_per_s = sum(1 / seconds for seconds in self._slot_s.values())
        num_new = sum(worker not in self._slot_s for worker in self._held)  # they count as being as fast as others
        queued = []
        for worker in workers:
            held = self._held.get(worker)
            if held is None or held.then is not None or not isinstance(held.item, Slot):
                continue
            seconds = self._slot_s.get(worker)
            num_meanwhile = len(self._held) if seconds is None else seconds * slots_per_s + num_new
            if len(unheld) > num_meanwhile - 0.5:
                slot = self._suited(worker, unheld)
                unheld.remove(slot)
                self._held[worker] = replace(held, then=slot)
                queued.append((worker, slot))
        return queued

    def finished(self, worker: str, item: Item, now_s: float, *, seconds: float | None = None) -> bool:
        """A worker has computed its item; return whether it was the first to do so, and the result counts.

        Args:
            worker: Its name.
            item: What it has computed.
            now_s: Seconds, of the clock that it was given out by.
            seconds: That it took, by the worker's own clock; None: since it was given out.
        """
        held = self._held.get(worker)
        if held is not None and held.item == item:
            # Of two results that are read at once, the later would seem to have taken no time.
            seconds = max(now_s - held.since_s, seconds or 0.0)
            self._durations.setdefault(self._kind(item), deque(maxlen=NUM_DURATIONS)).append(seconds)
            if isinstance(item, Slot) and seconds > 0:
                self._slot_s[worker] = seconds
            self._held[worker] = None if held.then is None else _Held(held.then, now_s)
        elif held is not None and held.then == item:
            self._held[worker] = replace(held, then=None)
        self._losses.pop(item, None)
        if not isinstance(item, Slot):
            first = item in self._errands
            if first:
                self._errands.remove(item)
            return first
        if item in self._computed or (self._synchronous and item.step != self.version):
            return False
        self._computed.add(item)
        return True

    def reopen(self, slot: Slot) -> None:
        """A slot's gradient was lost on its way, or came too late: compute it again, if it can still count."""
        self._computed.discard(slot)
        if self._synchronous or slot in self._again:
            return
        given_out = slot.step * self._num_slots + slot.number < self._next  # else its turn is still to come
        if given_out and self._part(slot.step) >= self._part(self.version):
            self._again.append(slot)

    def hung(self, now_s: float) -> tuple[str, ...]:
        """Return the workers that have held their item for so long that they count as hung."""
        return tuple(
            worker
            for worker, held in self._held.items()
            if held is not None and now_s - held.since_s > self._hung_after(held.item)
        )

    def hint(self, worker: str) -> Slot | None:
        """Return the slot that a worker is likely to get next, so that it can draw its data already.

        A synchronous one is kept for it, as long as there are others; it may be of the next step.
        """
        if not self._synchronous:
            step, number = divmod(self._next + max(0, len(self._held) - 1), self._num_slots)
            return Slot(step, number) if step < self._num_steps else None
        taken = {
            *self._given_out(),
            *self._computed,
            *(self._hinted[other] for other in self._hinted.keys() - {worker}),
        }
        first = self.version * self._num_slots
        slots = (Slot(*divmod(ticket, self._num_slots)) for ticket in range(first, first + 2 * self._num_slots))
        slot = next((slot for slot in slots if slot not in taken), None)
        if slot is None or slot.step >= self._num_steps:
            return None
        self._hinted[worker] = slot
        return slot

    def _choose(self, worker: str, now_s: float, *, learn: bool) -> Item | None:
        given_out = self._given_out()
        slots = self._open_slots() if learn and not self.learned else ()
        slots = tuple(slot for slot in slots if slot not in given_out)
        errand = next((errand for errand in self._errands if errand not in given_out), None)
        # Asynchronous slots never run out, so errands would never have their turn after them.
        if errand is not None and not (self._synchronous and slots):
            return errand
        if not slots:
            return self._backup(now_s, learn=learn)
        if self._synchronous:
            return self._suited(worker, slots)
        self._taken(slots[0])
        return slots[0]

    def _suited(self, worker: str, slots: Sequence[Slot]) -> Slot:
        """Return of some slots the one kept for a worker, else the first that is kept for none."""
        hinted = self._hinted.get(worker)
        if hinted is not None and hinted in slots:
            return hinted
        kept = set(self._hinted.values())
        return next((slot for slot in slots if slot not in kept), slots[0])

    def _open_slots(self) -> tuple[Slot, ...]:
        if self._synchronous:
            slots = (Slot(self.version, number) for number in range(self._num_slots))
            return tuple(slot for slot in slots if slot not in self._computed)
        step, number = divmod(self._next, self._num_slots)
        # A gradient of the next part would be dropped: it waits until this part's last one is in.
        ahead = self._part(step) > self._part(self.version)
        return tuple(self._again) if ahead else (*self._again, Slot(step, number))

    def _taken(self, slot: Slot) -> None:
        if slot in self._again:
            self._again.remove(slot)
        else:
            self._next += 1

    def _backup(self, now_s: float, *, learn: bool) -> Item | None:
        """Return the item that has been slow for longest, or waits behind it, and that one worker alone holds."""
        slow: list[tuple[float, Item]] = []
        for held in self._held.values():
            if held is None or now_s - held.since_s <= self._slow_after(held.item):
                continue
            slow += [
                (held.since_s, item)
                for item in (held.item, held.then)
                if item is not None and len(self._holders(item)) == 1 and self._counts(item, learn=learn)
            ]
        if not slow:
            return None
        self.num_backups += 1
        return min(slow, key=lambda found: found[0])[1]

    def _counts(self, item: Item, *, learn: bool) -> bool:
        """Return whether the result of what has been given out is still of use."""
        if not isinstance(item, Slot):
            return item in self._errands
        over = item in self._computed or (self._synchronous and item.step != self.version)
        return learn and not self.learned and not over

    def _holders(self, item: Item) -> list[str]:
        return [worker for worker, held in self._held.items() if held is not None and item in (held.item, held.then)]

    def _given_out(self) -> set[Item | None]:
        return {item for held in self._held.values() if held is not None for item in (held.item, held.then)}

    def _part(self, step: int) -> bool:
        """Return whether a step comes after the persistent heads, whose gradients have other arrays."""
        return step >= self._parts[1]

    def _kind(self, item: Item) -> str:
        if not isinstance(item, Slot):
            return "judgement" if isinstance(item, Judgement) else "trial"
        warmup, joint = self._parts
        return "warmup" if item.step < warmup else "joint" if item.step < joint else "task"

    def _slow_after(self, item: Item) -> float:
        known = self._durations.get(self._kind(item))
        patience = self._patience
        return max(patience.slow_s, patience.slow_factor * median(known)) if known else self._first_s(item)

    def _hung_after(self, item: Item) -> float:
        known = self._durations.get(self._kind(item))
        patience = self._patience
        after_s = max(patience.hung_s, patience.hung_factor * median(known)) if known else self._first_s(item)
        return after_s * 2.0 ** self._losses.get(item, 0)

    def _first_s(self, item: Item) -> float:
        return self._patience.first_trial_s if isinstance(item, Tryout) else self._patience.first_s
