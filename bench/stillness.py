"""Was the machine there all the time? A virtual one may get no processor for a second, and a percentile then says nothing of a server.

    still = Stillness()
    result = still.during(lambda: loadtest(...))      # again, a few times, if the machine stood still meanwhile

One thread for each CPU only sleeps, before all other work where that is permitted, and notes how much too late it woke.
"""

import os
import sys
import threading
import time

STEP = 0.01  # seconds of sleep


class Stillness:
    def __init__(self, bound=0.05, patience=0, tries=4):
        """bound: seconds that a wake-up may be late; 0: nobody watches."""
        self.patience = patience
        self.bound, self.tries, self.longest, self.again, self.given_up = bound, tries, 0.0, 0, 0
        if bound:
            for cpu in os.sched_getaffinity(0):
                threading.Thread(target=self._watch, args=(cpu,), daemon=True).start()

    def _watch(self, cpu):
        os.sched_setaffinity(0, {cpu})  # of this thread
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:  # then the work that is measured may delay it too, by a few milliseconds
            pass
        before = time.monotonic()
        while True:
            time.sleep(STEP)
            now = time.monotonic()
            self.longest = max(self.longest, now - before - STEP)
            before = now

    def during(self, measure):
        """What `measure` gives, of a run in which the machine was there."""
        for _ in range(self.tries):
            self.longest = 0.0
            result = measure()
            if not self.bound or self.longest <= self.bound:
                return result
            self.again += 1
        self.given_up += 1
        print(f"the machine stood still for {1e3 * self.longest:.0f} ms in the last of {self.tries} tries", file=sys.stderr, flush=True)
        return result

    def rounds(self, count):
        """0, 1 … until `count`; no new one after so many seconds of patience."""
        start = time.monotonic()
        for number in range(count):
            if number and self.patience and time.monotonic() - start > self.patience:
                print(f"{number} rounds of {count} in {self.patience:.0f} s", file=sys.stderr, flush=True)
                return
            yield number

    def __str__(self):
        return f"{self.again} runs in which the machine stood still for more than {1e3 * self.bound:.0f} ms were made again" + (
            f", {self.given_up} of them counted all the same" if self.given_up else "") if self.bound else ""
