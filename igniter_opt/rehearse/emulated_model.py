"""A model for Triton's Python backend that takes as long as a placement is predicted to take, and echoes its input.

This file is copied into a model's version folder and runs in the server's own Python environment (3.8 or later); it
uses nothing but the standard library and the backend's own module. Beside it lies ``emulated.json``: per placement and
share (``V100-1/A#1@20``), which the launcher tells a server by its environment, the batcher's settings and the times
in ns that batches of 1, 2, ... requests take.

Time passes in sleeps, not in loops, so servers do not compete for processors. A batch that was complete before the
instance was free begins, as far as its end is concerned, when the batch before it was due to end: so waking up late,
answering and fetching the next batch do not add up from batch to batch, as they would not on a GPU that is never idle
while requests wait. Whether a batch was complete is told by the times at which its requests were sent, which the load
generator puts into them (``igniter_sent_ns``, this machine's monotonic clock); without them, batches that come at
once after an answer count as complete before. Any other batch begins when it comes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

SENT = "igniter_sent_ns"
PLACEMENT, SHARE = "IGNITER_OPT_PLACEMENT", "IGNITER_OPT_SHARE"
# Without the times of sending: so soon after an answer, a batch must have waited.
AT_ONCE_NS = 200_000


class Clockwork:
    """When batches end.

    Parameters
    ----------
    busy_ns, load_ns
        Of a batch of k at index k - 1: how long it occupies the instance, and how much later it is answered.
    delay_ns
        How long the batcher lets the oldest request wait for a batch to fill.
    """

    def __init__(self, busy_ns: list[int], load_ns: list[int], delay_ns: int) -> None:
        self.busy_ns, self.load_ns, self.delay_ns = busy_ns, load_ns, delay_ns
        self.free = self.answered = 0

    def end(self, now: int, size: int, sent: list[int] | None) -> int:
        """Return when a batch ends that came now; `sent` are the times its requests were sent at, if known."""
        size = min(size, len(self.busy_ns))
        start = now
        if sent:
            formed = max(sent) if size == len(self.busy_ns) else min(sent) + self.delay_ns
            if formed <= self.answered:
                start = min(now, max(self.free, formed))
        elif now - self.answered <= AT_ONCE_NS:
            start = min(now, self.free)
        self.free = start + self.busy_ns[size - 1]
        return self.free + self.load_ns[size - 1]

    def was_answered(self, now: int) -> None:
        """Record that the answers go out now."""
        self.answered = now


class TritonPythonModel:
    """The interface that Triton's Python backend asks for."""

    def initialize(self, _: Any) -> None:
        """Read this server's times."""
        path = Path(__file__).with_name("emulated.json")
        table = json.loads(path.read_text(encoding="utf-8"))
        entry = table[f"{os.environ[PLACEMENT]}@{os.environ[SHARE]}"]
        self.clockwork = Clockwork(entry["busy_ns"], entry["load_ns"], entry["delay_ns"])

    def execute(self, requests: Any) -> list[Any]:
        """Take the time of this batch, then answer."""
        import triton_python_backend_utils as backend

        now = time.monotonic_ns()
        inputs = [backend.get_input_tensor_by_name(request, "INPUT").as_numpy() for request in requests]
        sent = [json.loads(request.parameters() or "{}").get(SENT) for request in requests]
        size = sum(len(values) for values in inputs)
        end = self.clockwork.end(now, size, None if None in sent else sent)
        answers = [backend.InferenceResponse([backend.Tensor("OUTPUT", values)]) for values in inputs]
        while True:
            left = end - time.monotonic_ns()
            if left <= 0:
                break
            time.sleep(left / 1e9)
        self.clockwork.was_answered(time.monotonic_ns())
        return answers
