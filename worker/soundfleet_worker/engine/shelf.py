"""The warm models: loaded on demand, kept while memory allows, the least recently used evicted first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from soundfleet_schemas import BackendStatus, ErrorCode, error

from ..backends.contract import Model, Report, Run
from .devices import MEGABYTE, release_memory
from .faults import Poisoned, describe, is_out_of_memory, is_poison, let_go
from .pressure import Pressure
from .service import Service, Ticket, survey

TRY_AGAIN_SEC = 300.0
"""After a load that failed: by then somebody may have mended the files."""


class Blocked(Exception):
    """There is no room now, but there will be when an active run ends.

    ``need_bytes`` is what the run and its model need together, None while that is not known.
    """

    def __init__(self, need_bytes: int | None = None) -> None:
        super().__init__(need_bytes)
        self.need_bytes = need_bytes


class Shelf:
    """What is loaded on one device, within one memory budget."""

    def __init__(
        self,
        services: Mapping[str, Service],
        device: str,
        budget_bytes: int,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._services = services
        self._device = device
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._changed = changed

    @property
    def budget_mb(self) -> int:
        """Memory for models and runs."""
        return self._budget_bytes // MEGABYTE

    def mark(
        self, service: Service, status: BackendStatus, message: str | None = None, percent: int | None = None
    ) -> None:
        """Set a service's status, and tell when that is news."""
        before = (service.status, service.message, service.percent)
        service.status, service.message, service.percent = status, message, percent
        if before != (status, message, percent):
            self._changed()

    def load(self, service: Service, report: Report, beside_bytes: int | None = None) -> None:
        """Load a service's model; raises Blocked, or what stands in the way, and the status then says so."""
        found = survey(service.factory)
        if found.status is not BackendStatus.Ready:
            self.mark(service, found.status, found.message)
            raise error(ErrorCode.BACKEND_NOT_READY, f"{service.name}: {found.message or found.status}")
        self.make_room(service.spec.memory_mb * MEGABYTE, keep=service, beside_bytes=beside_bytes)
        report(BackendStatus.Loading, None)
        try:
            service.model = self._load(service, report)
        except (Exception, SystemExit) as exc:  # re-raised: only the status is settled here
            service.failed_at = self._clock()
            self.mark(service, BackendStatus.Error, str(describe(exc, ErrorCode.MODEL_LOAD_FAILED)))
            raise
        service.used_at = self._clock()
        self.mark(service, BackendStatus.Ready)

    def _load(self, service: Service, report: Report) -> Model:
        try:
            return service.factory.load(self._device, report)
        except Exception as exc:  # only to try once more with all the memory that can be had
            if not is_out_of_memory(exc):
                raise
        for other in self._idle():
            self.evict(other)
        release_memory()
        return service.factory.load(self._device, report)

    def begin(self, ticket: Ticket, beside_bytes: int | None = None) -> Run:
        """Put a run of a warm model on the device; raises Blocked, or what stands in the way."""
        service = ticket.service
        while True:
            try:
                ticket.memory_bytes = service.loaded.memory_of(ticket.job)
                self.make_room(ticket.memory_bytes, keep=service, beside_bytes=beside_bytes)
                return service.loaded.begin(ticket.job)
            except Exception as exc:  # only to try once more with all the memory that can be had
                if not is_out_of_memory(exc):
                    raise
                let_go(exc)
                release_memory()
                if self.evict_least_used(keep=service):
                    continue
                if self.others_active(ticket):
                    raise Blocked from None
                raise

    def make_room(self, need_bytes: int, keep: Service, beside_bytes: int | None = None) -> None:
        """Evict idle models until ``need_bytes`` fit; raises Blocked, or OUT_OF_MEMORY when nothing else is active.

        With ``beside_bytes`` a blocked run that needs so much is passed: it must never have to wait for this one.
        """
        if beside_bytes is not None:
            if not self._fits_beside(keep, need_bytes, beside_bytes):
                raise Blocked
            return
        while self._used() + need_bytes > self._budget_bytes:
            idle_bytes = sum(service.memory_bytes for service in self._idle() if service is not keep)
            active = any(service.active for service in self._services.values())
            if active and self._used() - idle_bytes + need_bytes > self._budget_bytes:  # eviction would not be enough
                raise Blocked(need_bytes + keep.model.memory_bytes if keep.model is not None else None)
            if self.evict_least_used(keep):
                continue
            if keep.model is not None and keep.model.shrink():
                continue
            need, budget = (n / MEGABYTE for n in (self._used() + need_bytes, self._budget_bytes))
            raise error(
                ErrorCode.OUT_OF_MEMORY,
                f"{keep.name} needs {need:,.0f} MB for this run, the budget is {budget:,.0f} MB",
                "Use a shorter input or a smaller model, or raise SOUNDFLEET_MEMORY_MB.",
            )

    def _fits_beside(self, service: Service, more_bytes: int, need_bytes: int) -> bool:
        """Whether ``more_bytes`` fit now, and also with all that passed a blocked run beside what that one needs."""
        passed = [ticket for other in self._services.values() for ticket in other.active if ticket.passed]
        models = [other.model for other in {service, *(ticket.service for ticket in passed)} if other.model is not None]
        held = sum(ticket.memory_bytes for ticket in passed) + sum(model.memory_bytes for model in models)
        return more_bytes + max(self._used(), held + need_bytes) <= self._budget_bytes

    def grow(self, service: Service) -> bool:
        """Let a warm model make larger launches again; False when they are as large as at first, or as may be."""
        model = service.loaded
        if not model.grow():
            return False
        if self._used() > self._budget_bytes:
            model.shrink()
            return False
        return True

    def look_again(self) -> None:
        """Notice backends whose files have come since, and let one that did not load be tried again after a while."""
        for service in self._services.values():
            rested = service.failed_at is not None and self._clock() - service.failed_at >= TRY_AGAIN_SEC
            if service.status is BackendStatus.NotInstalled or (service.status is BackendStatus.Error and rested):
                found = survey(service.factory)
                self.mark(service, found.status, found.message)

    def evict_least_used(self, keep: Service) -> bool:
        """Free the idle model that was used longest ago, never the kept one; False when there is none."""
        idle = [service for service in self._idle() if service is not keep]
        if idle:
            self.evict(min(idle, key=lambda service: service.used_at))
        return bool(idle)

    def evict(self, service: Service) -> None:
        """Free the model of a service that has no active runs."""
        model, service.model = service.model, None
        if model is None:
            return
        service.pressure = Pressure()
        try:
            model.close()
        except Exception as exc:  # a backend may raise anything; the model goes either way
            if is_poison(exc):
                raise Poisoned from exc
        del model
        release_memory()

    def others_active(self, ticket: Ticket) -> bool:
        """Whether any run but this one is on the device."""
        return any(other is not ticket for service in self._services.values() for other in service.active)

    def _idle(self) -> list[Service]:
        return [s for s in self._services.values() if s.model is not None and not s.active]

    def _used(self) -> int:
        return sum(service.memory_bytes for service in self._services.values())
