"""Who begins next: first come first served per model, models in turn, and what may pass a run that waits for memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .service import Service, Ticket
from .shelf import Blocked

Begin = Callable[[Ticket, int | None], None]
"""Takes a ticket and, when it would pass a blocked run, the bytes that this one needs; raises Blocked."""


class Loaded(Exception):
    """A model was loaded, or could not be, which takes long: messages are to be heard before anything begins."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.name)
        self.service = service


class Lobby:
    """Services with waiting runs, the next to be served first.

    A run that waits for memory is passed only by runs that fit beside it: it waits for those that were there before it
    and never for one that came after, so it cannot starve. Whose need is not known yet is not passed at all.
    """

    def __init__(self) -> None:
        self._services: deque[Service] = deque()
        self.blocked = False
        """Whether a run waits for memory; nothing changes that but a run that leaves."""
        self._need_bytes: int | None = None
        """What the blocked run and its model need; None is not known."""
        self._arrivals = False
        """Whether runs have come that nobody has tried beside the blocked one."""

    def add(self, ticket: Ticket) -> None:
        """Let a run wait for its turn."""
        service = ticket.service
        service.waiting.append(ticket)
        if len(service.waiting) == 1:
            self._services.append(service)
        self._arrivals = True

    def remove(self, ticket: Ticket) -> None:
        """Forget a waiting run: it begins, or it is not wanted any more."""
        service = ticket.service
        service.waiting.remove(ticket)
        if not service.waiting:
            self._services.remove(service)

    def unblock(self) -> None:
        """A run has left: there may be memory now."""
        self.blocked = False

    def admit(self, begin: Begin) -> None:
        """Begin whatever may begin now; passes Loaded on, after which it is to be called again."""
        if not self.blocked:
            self._serve(begin)
        if self.blocked and self._arrivals:
            if self._need_bytes is not None:
                self._let_pass(begin, self._need_bytes)
            self._arrivals = False

    def _serve(self, begin: Begin) -> None:
        skipped: list[Service] = []
        try:
            while self._services:
                service = self._services[0]
                if service.full:
                    skipped.append(self._services.popleft())
                    continue
                begin(service.waiting[0], None)
                if self._services and self._services[0] is service:
                    self._services.rotate(-1)
        except Blocked as exc:
            self.blocked, self._need_bytes, self._arrivals = True, exc.need_bytes, True
        finally:
            self._services.extendleft(reversed(skipped))

    def _let_pass(self, begin: Begin, need_bytes: int) -> None:
        """Begin runs that fit beside the blocked one, which is turned away like all that do not."""
        for service in list(self._services):
            while self.blocked and service.waiting and not service.full:
                ticket = service.waiting[0]
                try:
                    begin(ticket, need_bytes)
                except Blocked:
                    break
                ticket.passed = True
