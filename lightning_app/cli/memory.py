"""How the C library gives memory back."""

import ctypes
import sys

# From malloc.h; musl and macOS have no such call.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30  # bytes; a gradient of an embedding matrix is below it


def keep_freed_memory() -> bool:
    """Let the process keep the large blocks that it frees, for the next step asks for the same ones.

    By default glibc hands each back to the kernel, which clears its pages anew: a tenth of a training step on a CPU.

    Returns:
        Whether the C library has the setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(what, _LARGEST) for what in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
