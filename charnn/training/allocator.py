"""Keep the C library from handing memory back between two steps."""

import ctypes
import functools
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc reuse the large buffers that every step takes and frees.

    By default it maps each of them anew and gives it back, and the page faults cost speed, most
    with many lanes (BENCHMARKS.md). Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
