"""When the C library gives memory back."""

import ctypes
import sys
from typing import Any

# From malloc.h; musl and macOS have no such call.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30  # bytes; a gradient of an embedding matrix is below it


def keep_freed_memory() -> bool:
    """Let the process keep the large blocks that it frees, for the next step asks for the same ones.

    By default glibc hands each back to the kernel, which clears its pages anew: a tenth of a training step on a CPU.

    Returns:
        Whether the C library has the setting.
    """
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and all(mallopt(what, _LARGEST) for what in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def give_freed_memory_back() -> bool:
    """Hand what has been freed to the kernel: of many small blocks glibc keeps all below the last one in use.

    Returns:
        Whether the C library can.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
