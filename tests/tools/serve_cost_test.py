"""bench/serve.py's Cost: threads that end between two looks have been paid for, and nothing is ever negative."""

import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "bench"))
from serve import Cost  # noqa: E402

# Each line that it reads: threads that work and end. It answers with the seconds that each says it has used.
CHILD = """
import os, sys, threading, time
def work(used):
    while time.thread_time() < 0.05:
        time.sleep(0.0001)
        sum(range(20000))
    used.append(time.thread_time())
stays = threading.Thread(target=lambda: threading.Event().wait(), daemon=True)
stays.start()
print("ready", flush=True)
for line in sys.stdin:
    used = []
    threads = [threading.Thread(target=work, args=(used,)) for _ in range(int(line))]
    for t in threads: t.start()
    for t in threads: t.join()
    while len(os.listdir("/proc/self/task")) > 2: time.sleep(0.001)
    print(sum(used), flush=True)
"""


class CostTest(unittest.TestCase):
    def setUp(self):
        self.child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.child.communicate)
        self.addCleanup(self.child.kill)
        self.child.stdout.readline()

    def test_ended_threads_count(self):
        for threads in (1, 3, 0):
            before = Cost(self.child.pid)
            self.child.stdin.write(f"{threads}\n")
            self.child.stdin.flush()
            used = float(self.child.stdout.readline())
            seconds, kernel, wakes = Cost(self.child.pid).since(before)
            self.assertGreaterEqual(seconds, used)
            self.assertTrue(0 <= kernel <= 1, kernel)
            self.assertGreaterEqual(wakes, 0)

    def test_a_thread_that_ended_takes_nothing_away(self):
        before, after = Cost(self.child.pid), Cost(self.child.pid)
        before.wakes["1", "1"] = 1000  # ended since
        self.assertGreaterEqual(after.since(before)[2], 0)


if __name__ == "__main__":
    unittest.main()
