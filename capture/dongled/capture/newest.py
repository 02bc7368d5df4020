"""One slot between the thread that gets pictures and the one that wants them: the latest wins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dongled.capture.errors import CaptureError

T = TypeVar("T")
log = logging.getLogger(__name__)

JOIN_SECONDS = 4.0


class Newest(Generic[T]):
    """A slot for one item. Whatever nobody took in time is replaced by the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._error: CaptureError | None = None
        self._closed = False
        self.replaced = 0

    def put(self, item: T) -> None:
        """Never blocks. After ``close`` or ``fail`` the item is dropped."""
        with self._changed:
            if self._closed or self._error:
                return
            self.replaced += self._item is not None
            self._item = item
            self._changed.notify()

    def fail(self, error: CaptureError) -> None:
        """No item comes any more; the reader gets the last one, then the error, again and again."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def close(self) -> None:
        """Wake the reader; it and every later one gets CaptureError ``closed``."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()

    def take(self, timeout: float) -> T | None:
        """The item not taken yet, or None after ``timeout`` seconds. Raises what ``fail`` was given."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._error or self._closed, timeout)
            if self._closed:
                raise closed()
            item, self._item = self._item, None
            if item is None and self._error:
                raise CaptureError(self._error.reason, str(self._error), self._error.hint) from self._error
            return item


class Reader(Generic[T]):
    """A thread that fills a Newest until it is told to stop.

    ``work(put, stopping)`` runs in it; what it raises is handed to whoever takes.
    """

    def __init__(self, name: str, work: Callable[[Callable[[T], None], threading.Event], None]) -> None:
        self._work = work
        self._slot: Newest[T] = Newest()
        self._stopping = threading.Event()
        # A driver may block for good; such a thread must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def replaced(self) -> int:
        """Items that a newer one replaced before anybody took them."""
        return self._slot.replaced

    def start(self) -> None:
        self._thread.start()

    def take(self, timeout: float) -> T | None:
        """The newest item not taken yet, or None after ``timeout`` seconds. Raises CaptureError."""
        return self._slot.take(timeout)

    def close(self) -> bool:
        """Stop the thread; False when it hangs in its driver. Safe to call twice and before ``start``."""
        self._stopping.set()
        self._slot.close()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            log.warning("%s: still blocked %.0f s after it was told to stop", self._thread.name, JOIN_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work(self._slot.put, self._stopping)
        except CaptureError as error:
            self._slot.fail(error)
        except Exception as error:  # whatever it is, the reader must hear of it
            failure = CaptureError("source-failed", f"{self._thread.name}: {error}", "see the log")
            failure.__cause__ = error
            log.warning("%s failed", self._thread.name, exc_info=error)
            self._slot.fail(failure)
        else:
            self._slot.fail(CaptureError("ended", f"{self._thread.name}: no more pictures"))


def closed() -> CaptureError:
    return CaptureError("closed", "the source was closed")
