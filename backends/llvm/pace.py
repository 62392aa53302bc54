"""Whether sharing a call among threads pays right now.

Another program, or another library's threads that still spin, may hold a core. A call that is shared then waits for a
thread that does not run, at every step. So a kernel watches its own times: after a shared call that took much longer
than the best one, it runs alone for a while, as long as that is faster. Results do not depend on it: the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOW = 1.5  # times the best shared call: something is in the way
LONGEST = 32  # calls alone before sharing is tried again


@dataclass(slots=True)
class Pace:
    """The recent past of calls of one size."""

    best: float = float("inf")  # seconds of the fastest shared call
    last: float = 0.0  # seconds of the latest shared call
    alone: int = 0  # calls still to be run alone
    patience: int = 1  # how many such calls the next slow shared call brings

    def share(self) -> bool:
        """Whether the next call should be shared."""
        return self.alone == 0

    def took(self, seconds: float, *, shared: bool) -> None:
        """Take note of a call."""
        if shared:
            self.last = seconds
            self.best = min(self.best, seconds)
            if seconds > SLOW * self.best:
                self.alone, self.patience = self.patience, min(2 * self.patience, LONGEST)
            else:
                self.patience = 1
        elif seconds < self.last:
            self.alone -= 1
        else:  # alone is no better
            self.alone, self.patience = 0, 1
