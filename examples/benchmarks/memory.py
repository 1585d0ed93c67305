"""The memory of a process; imports nothing heavy, so that a fresh process can say what it took."""

import re
import resource
from pathlib import Path


def peak_mib() -> float:
    """The most that this process has had so far.

    On Linux getrusage would say what the parent had when it started this process, if that was more.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of macOS, in bytes
