"""Threads for compiled code, which lets others run meanwhile."""

import os
from concurrent.futures import ThreadPoolExecutor

# More would wait for each other in the parts that are not compiled.
_MOST = 8


def threads() -> ThreadPoolExecutor:
    """Return as many threads as this process has processors, up to eight."""
    return ThreadPoolExecutor(max(1, min(_MOST, len(os.sched_getaffinity(0)))))
