"""Ctrl-C where nothing has to be saved: one line, no traceback, and exit status 130, as of a shell."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def one_line_interrupts() -> Iterator[None]:
    """End the process at Ctrl-C, until something that has work to save takes the signal over.

    An exception would not do: raised while numpy or torch is imported, it is turned into other errors. Files are only
    ever renamed into place when they are finished, so that ending at once leaves none half-written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    previous = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _end(*_: object) -> None:
    with suppress(OSError, RuntimeError, ValueError):  # a closed stream, or one that is just being written to
        sys.stdout.flush()
        sys.stderr.write("\ninterrupted\n" if sys.stderr.isatty() else "interrupted\n")  # a terminal shows ^C first
        sys.stderr.flush()
    os._exit(INTERRUPTED)
