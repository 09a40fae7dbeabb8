"""The engine without its process: messages in, messages out, and one ``tick`` that moves everything on by a step.

    admit    waiting runs begin: first come first served per model, models in turn, up to the memory budget
    step     one launch of one model; models that have runs share the device's time equally
    report   where the runs stand, at most every ``progress_every_sec``
    collect  what is done is written to scratch and leaves

One thread, no locks: cancel, progress, fairness and out-of-memory are written here once and hold for every model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from soundfleet_schemas import BackendStatus, ErrorCode, ErrorInfo, Stage, error

from ..backends.contract import BackendFactory, EngineJob
from .faults import Poisoned, describe, is_out_of_memory, is_poison, let_go, trace
from .lobby import Loaded, Lobby
from .output import collect
from .pressure import ease, relieve
from .service import Service, Ticket, survey
from .shelf import Blocked, Shelf
from .wire import Cancel, Cancelled, Failed, FromEngine, Look, Ready, Shutdown, Start, ToEngine

SLOW_STEP_SEC = 0.05
"""Before a step that takes longer, a new run's stage is announced; else the report after it is soon enough."""


class Engine:
    """All runs of one device. ``flush`` has what was sent leave at once (before a long load), ``receive`` hears."""

    def __init__(
        self,
        factories: Mapping[str, BackendFactory],
        *,
        device: str,
        budget_bytes: int,
        send: Callable[[FromEngine], None],
        flush: Callable[[], None] = lambda: None,
        receive: Callable[[], Iterable[ToEngine]] = tuple,
        progress_every_sec: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self.stopped = False
        self._services = {name: survey(factory) for name, factory in factories.items()}
        self._shelf = Shelf(self._services, device, budget_bytes, clock, self.announce)
        self._tickets: dict[str, Ticket] = {}
        self._lobby = Lobby()
        self._turns: deque[Service] = deque()
        """Services with active runs; of those that had the least time, the first is next."""
        self._send = send
        self._flush = flush
        self._receive = receive
        self._progress_every_sec = progress_every_sec
        self._clock = clock

    def announce(self) -> None:
        """Send Ready: the first message, and again whenever a status changes."""
        services = self._services.values()
        self._send(
            Ready(
                device=self.device,
                budget_mb=self._shelf.budget_mb,
                backends=tuple(service.entry() for service in services),
                places={service.spec.backend: service.model.max_runs for service in services if service.model},
                specs=tuple(service.spec for service in services),
            )
        )

    def handle(self, message: ToEngine) -> None:
        """Take a message of the supervisor; called between two ticks."""
        match message:
            case Start():
                self._enter(message)
            case Cancel():
                self._cancel(message.run)
            case Look():
                self.look_again()
            case Shutdown():
                self.stopped = True

    def tick(self) -> bool:
        """Move on by one step; returns whether there is more to do without a new message."""
        self._admit()
        if self._turns:
            service = min(self._turns, key=lambda active: active.spent_sec)
            self._turns.remove(service)
            self._turns.append(service)
            if service.step_sec > SLOW_STEP_SEC:
                self._flush()
            group = service.turn()
            self._step(service, group)
            self._report(group)
            self._collect(service, group)
        return bool(self._tickets)

    def look_again(self) -> None:
        """Notice backends that have been installed since; called now and then."""
        self._shelf.look_again()

    def close(self) -> None:
        """Drop every run and free every model."""
        for ticket in list(self._tickets.values()):
            self._leave(ticket, discard=True)
        for service in self._services.values():
            self._shelf.evict(service)

    # Entering and leaving

    def _enter(self, start: Start) -> None:
        if start.run in self._tickets:  # the supervisor's name of a run is unique: a repeated Start is the same run
            return
        service = self._services.get(start.backend)
        if service is None:
            known = ", ".join(sorted(self._services)) or "none"
            info = error(ErrorCode.BACKEND_NOT_READY, f"this engine has no {start.backend}; it has {known}").info
            self._send(Failed(run=start.run, error=info))
            return
        job = EngineJob(
            job_id=start.job_id,
            request=start.request,
            spec=service.spec,
            inputs={name: Path(path) for name, path in start.inputs.items()},
            scratch=Path(start.scratch),
        )
        ticket = self._tickets[start.run] = Ticket(start.run, job, service)
        self._lobby.add(ticket)

    def _cancel(self, name: str) -> None:
        ticket = self._tickets.get(name)
        if ticket is None:  # Finished or Failed came first
            return
        current, total = ticket.position
        self._leave(ticket, discard=True)
        self._send(Cancelled(run=name, current_step=current, total_steps=total))

    def _leave(self, ticket: Ticket, *, discard: bool) -> None:
        """Forget a ticket; ``discard`` unless its run was already freed by ``finish``."""
        del self._tickets[ticket.name]
        self._lobby.unblock()
        service = ticket.service
        run, ticket.run = ticket.run, None
        if run is None:
            self._lobby.remove(ticket)
            return
        service.active.remove(ticket)
        service.used_at = self._clock()
        if not service.active:
            service.pressure.at_once = None
            self._turns.remove(service)
        if discard and service.model is not None:
            try:
                service.model.discard(run)
            except Exception as exc:  # any backend's: the run is gone either way, only a broken device matters
                if is_poison(exc):
                    raise Poisoned from exc

    def _fail(self, ticket: Ticket, info: ErrorInfo, detail: str = "", *, discard: bool = True) -> None:
        self._leave(ticket, discard=discard)
        self._send(Failed(run=ticket.name, error=info, detail=detail))

    # Admit

    def _admit(self) -> None:
        loaded: list[Service] = []
        while not self.stopped:
            try:
                self._lobby.admit(self._begin)
                break
            except Loaded as exc:
                loaded.append(exc.service)
                for message in self._receive():  # who was cancelled meanwhile does not begin, and takes no step
                    self.handle(message)
        for ticket in [ticket for service in loaded for ticket in service.waiting]:
            self._progress(ticket, Stage.infer)  # it is not loaded for any more; it waits for a place

    def _begin(self, ticket: Ticket, beside_bytes: int | None) -> None:
        """Move the ticket from waiting to active, fail it, or load its model first.

        Raises Loaded after a load, also one that failed, and Blocked while others hold the memory.
        ``beside_bytes`` is what a blocked run needs that this one would pass.
        """
        service, start = ticket.service, self._clock()
        if service.model is None:
            self._load(ticket, beside_bytes)
            ticket.load_sec = self._clock() - start
            raise Loaded(service)
        try:
            run = self._shelf.begin(ticket, beside_bytes)
        except Blocked:
            raise
        except Exception as exc:  # a backend may raise anything; one bad run must not disturb the others
            self._judge([ticket], exc)
            self._fail(ticket, describe(exc, ErrorCode.MODEL_INFERENCE_FAILED), trace(exc))
            return
        self._lobby.remove(ticket)
        if not service.active:
            least = min((other.spent_sec for other in self._turns), default=0.0)
            service.spent_sec = max(service.spent_sec, least)  # time not used is not saved up
            self._turns.append(service)
        service.active.append(ticket)
        ticket.run, ticket.begun_at = run, self._clock()
        if service.step_sec > SLOW_STEP_SEC:
            self._progress(ticket, Stage.infer)

    def _load(self, ticket: Ticket, beside_bytes: int | None) -> None:
        """Load the ticket's model; when it cannot be, fail every run that waits for it."""
        service = ticket.service
        told: set[str] = set()

        def report(status: BackendStatus, percent: int | None = None) -> None:
            for waiting in service.waiting:
                if waiting.name not in told:
                    told.add(waiting.name)
                    self._progress(waiting, Stage.load)
            self._shelf.mark(service, status, percent=percent)
            self._flush()

        try:
            self._shelf.load(service, report, beside_bytes)
        except Blocked:
            raise
        except (Exception, SystemExit) as exc:  # loaders may raise anything; some libraries exit
            self._judge([ticket], exc)
            info = describe(exc, ErrorCode.MODEL_LOAD_FAILED)
            for waiting in list(service.waiting):
                self._fail(waiting, info, trace(exc))
        finally:
            self._flush()

    # Step

    def _step(self, service: Service, group: list[Ticket]) -> None:
        start = self._clock()
        try:
            service.loaded.step([ticket.run for ticket in group if ticket.run is not None])
        except Exception as exc:  # a backend may raise anything; _recover decides whom it concerns
            self._recover(service, group, exc)
        else:
            if not self._lobby.blocked:  # else what it would grow by is waited for
                ease(service, self._shelf)
        service.step_sec = self._clock() - start
        service.spent_sec += service.step_sec

    def _recover(self, service: Service, group: list[Ticket], exc: Exception) -> None:
        """Repeat a failed step smaller, or find the run to blame and fail it."""
        self._judge(group, exc)
        if is_out_of_memory(exc):
            let_go(exc)
            if relieve(service, len(group), self._shelf):
                return
        if len(group) == 1:
            self._fail(group[0], describe(exc, ErrorCode.MODEL_INFERENCE_FAILED), trace(exc))
            return
        for ticket in group:
            if ticket.run is not None and not ticket.run.done:
                self._step(service, [ticket])

    def _judge(self, group: list[Ticket], exc: BaseException) -> None:
        """Raise Poisoned, after telling of every run in the launch, when the device is broken."""
        if not is_poison(exc):
            return
        info = describe(exc, ErrorCode.DEVICE_FAILED)
        for ticket in group:
            self._send(Failed(run=ticket.name, error=info, detail=trace(exc), poisoned=True))
        raise Poisoned from exc

    # Report and collect

    def _report(self, group: list[Ticket]) -> None:
        now = self._clock()
        for ticket in group:
            run = ticket.run
            if run is None or run.done or run.current_step == ticket.reported_step:
                continue
            if now - ticket.reported_at >= self._progress_every_sec or ticket.reported_step < 0:
                self._progress(ticket, run.stage)

    def _progress(self, ticket: Ticket, stage: Stage) -> None:
        if ticket.run is not None:
            ticket.reported_step, ticket.reported_at = ticket.run.current_step, self._clock()
        self._send(ticket.progress(stage, self._turns, self._clock()))

    def _collect(self, service: Service, group: list[Ticket]) -> None:
        for ticket in group:
            if ticket.run is None or not ticket.run.done:
                continue
            try:
                finished = collect(service.loaded, ticket.run, ticket, self._clock() - ticket.begun_at)
            except Exception as exc:  # a backend may raise anything; finish has freed the run
                self._judge([ticket], exc)
                self._fail(ticket, describe(exc, ErrorCode.MODEL_INFERENCE_FAILED), trace(exc), discard=False)
                continue
            self._leave(ticket, discard=False)
            self._send(finished)
