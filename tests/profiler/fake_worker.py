"""A stand-in for the measuring process: no GPU, the same protocol, SMs as MPS grants them (8 at least)."""

import json
import math
import os
import sys
import time
from typing import Any


def answer(order: dict[str, Any]) -> Any:
    share = float(os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "100"))
    match order["do"]:
        case "sms":
            return max(8, math.floor(share / 100 * int(os.environ.get("FAKE_SMS", "132")) / 2 + 1e-9) * 2)
        case "copy":
            return 5e7
        case "prepare" if order["model"] == "broken":
            raise RuntimeError("CUDA out of memory")
        case "prepare" if order["model"] == "dies":
            sys.exit(1)
        case "facts":
            return {"kernels": 10, "input_bytes": 1, "output_bytes": 1, "fixed_mib": os.getpid(), "per_item_mib": 1.0}
        case "run":
            while time.monotonic_ns() < order["start_ns"]:
                time.sleep(0.001)
            began = time.monotonic_ns()
            time.sleep(order["ramp_s"] + order["seconds"] + order["tail_s"])
            # What a test wants to know travels in the reading: when it began, its share, its tail.
            return {
                "batches": 20,
                "wall_ms": 10.0,
                "wall_std_ms": order["tail_s"],
                "wall_median_ms": float(began),
                "gpu_ms": share,
                "copy_ms": float(os.getpid()),
            }
    return None


for line in sys.stdin:
    try:
        reply = {"result": answer(json.loads(line))}
    except RuntimeError as error:
        reply = {"error": f"RuntimeError: {error}"}
    print(json.dumps(reply), flush=True)
