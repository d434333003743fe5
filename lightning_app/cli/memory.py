"""When the C library gives memory back."""

import ctypes
import sys
from typing import Any

# From malloc.h; musl and macOS have no such call.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**30  # bytes; a gradient of an embedding matrix is below it
_OF_THREAD = 2**26  # bytes; as much as glibc reserves at a time for a thread's blocks


def keep_freed_memory() -> bool:
    """Let the process keep the large blocks that it frees, for the next step asks for the same ones.

    By default glibc hands each back to the kernel, which clears its pages anew: a tenth of a training step on a CPU.
    Blocks of threads lie in heaps of 64 MB, which glibc unmaps once they are empty, if it need not leave as much free
    after the last block: a further twentieth.

    Returns:
        Whether the C library has the setting.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _OF_THREAD))
    return all(mallopt(what, size) for what, size in settings)


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
