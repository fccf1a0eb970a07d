"""Close connections that are too many, too slow, or wait for too long."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # for the lines before the body of a request
MOST_CONNECTIONS = 600
STALL_SECONDS = 30.0  # between two looks at whether a client takes what it asked for
LEAST_TAKEN = 30_000  # bytes that it takes meanwhile


class PromptProtocol(H11Protocol):
    """HTTP of uvicorn, which itself waits for ever for slow clients.

    Attributes:
        idle_since: When the connection began to wait for a request, by the clock of the event loop.
    """

    head_timer: asyncio.TimerHandle | None = None
    stall_timer: asyncio.TimerHandle | None = None
    idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Expect a request; the connection that has been idle for longest makes room."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._expect_head()
        if len(self.connections) > MOST_CONNECTIONS:
            protocols = [item for item in self.connections if isinstance(item, PromptProtocol) and item.is_idle]
            min(protocols, key=lambda protocol: protocol.idle_since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes, which may or may not complete the first lines."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Watch a client that does not take what it asked for."""
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop to watch."""
        super().resume_writing()
        if self.stall_timer is not None:
            self.stall_timer.cancel()
            self.stall_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)
        self.resume_writing()

    def _watch_writing(self, before: int) -> None:
        self.stall_timer = self.loop.call_later(STALL_SECONDS, self._check_writing, before)

    def _check_writing(self, before: int) -> None:
        """Close the connection if the client has taken too little since the last look."""
        waiting = self.transport.get_write_buffer_size()
        if waiting > before - LEAST_TAKEN:
            self.transport.abort()
        else:
            self._watch_writing(waiting)

    def _expect_head(self) -> None:
        if self.head_timer is None:
            self.head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
