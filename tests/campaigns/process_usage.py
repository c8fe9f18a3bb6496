"""What a process has used so far, as the kernel counts it: processor time of its threads, memory now and at most."""

from __future__ import annotations

import time
from pathlib import Path


class Usage:
    """One running process, seen from outside."""

    def __init__(self, pid: int) -> None:
        self._place = Path(f"/proc/{pid}")

    def cpu_s(self) -> float:
        """Processor time of the threads that live, by the scheduler's own clock (proc(5), schedstat: nanoseconds)."""
        files = self._place.glob("task/*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def memory_mb(self) -> float:
        return self._status("VmRSS")

    def most_memory_mb(self) -> float:
        """The most since `forget_most`."""
        return self._status("VmHWM")

    def forget_most(self) -> None:
        (self._place / "clear_refs").write_text("5")  # proc(5): resets VmHWM

    def settle(self, quiet_s: float = 0.05, most_s: float = 20) -> None:
        """Wait until it does next to nothing."""
        end = time.monotonic() + most_s
        before = self.cpu_s()
        while time.monotonic() < end:
            time.sleep(quiet_s)  # over which the work is counted
            now = self.cpu_s()
            if now - before < quiet_s / 25:
                return
            before = now

    def _status(self, name: str) -> float:
        for line in (self._place / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no {name}: the process has ended")
