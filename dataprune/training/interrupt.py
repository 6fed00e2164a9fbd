"""Ctrl-C between two updates instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class InterruptFlag:
    """Turn the first Ctrl-C into a flag for the length of a block; a second one interrupts at once.

    An interrupt in the middle of an optimizer update would leave half-updated weights.

    Attributes
    ----------
    is_set : bool
        Whether Ctrl-C was pressed.

    Examples
    --------
    >>> with InterruptFlag() as interrupt:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interrupt.is_set
    True
    """

    def __init__(self) -> None:
        self.is_set = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        # Only the main thread may set a handler; elsewhere Ctrl-C goes to the main thread as ever.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
