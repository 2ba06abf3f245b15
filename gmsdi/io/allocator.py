"""How the C library hands out memory, for processes that run networks on a CPU."""

import ctypes
import functools
import platform


@functools.cache
def tune_allocator() -> None:
    """Let glibc keep freed memory instead of returning it to the system.

    By default every large activation is mapped and unmapped anew, and a process spends much of its time in page faults:
    up to half of a training step, up to a tenth of sampling, a fifth of embedding. Holds for the whole
    process, so further calls do nothing; nor does any call on other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 2**29)
