"""A worker that measures nothing: `fakeMeasure.py MODE NOTE` answers a job "measure" with numbers of its own.

Modes: good, slow, refuse, crash. The job is written to the file NOTE.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

cancelled = threading.Event()


def emit(**event):
    print(json.dumps(event), flush=True)


def listen():
    for line in sys.stdin:
        if json.loads(line).get("cancel"):
            break
    cancelled.set()


def row(name, value, unit, region="all", accuracy=True):
    return {
        "name": name, "value": value, "unit": unit, "mask": "body of the reference", "region": region, "voxels": 60,
        "protocol": "synthrad2025" if accuracy else "", "how": "values not clipped", "accuracy": accuracy,
    }  # fmt: skip


def answer(compared):
    """Numbers with a reference, or without."""
    lines = {"centres": [0.0, 1.0, 2.0], "percent": {"result": [20.0, 50.0, 30.0]}}
    done = {
        "rows": [row("Implausible values", 0.5, "%", accuracy=False)],
        "remarks": ["Read *this*."], "unit": "HU", "mask": "body of the result", "protocol": "", "interpolation": "",
        "compared": 60, "excluded": 0, "images": lines, "source": None, "agreement": None, "versions": {},
    }  # fmt: skip
    if compared:
        tissues = [("all", 51.5), ("air", 80.0), ("soft tissue", 30.25), ("bone", 120.0)]
        rows = [row(name, value, "HU", region) for region, value in tissues for name in ("MAE", "ME")]
        rows += [row("PSNR", "inf", "dB", region) for region, _value in tissues]
        done["rows"] = [*rows, row("SSIM", 0.875, ""), row("PCC", "nan", ""), *done["rows"]]
        lines["percent"]["reference"] = [10.0, 60.0, 30.0]
        done |= {"mask": "body of the reference", "protocol": "synthrad2025", "interpolation": "linear", "excluded": 7}
        done["agreement"] = {"mean": 1.5, "lower": -100.0, "upper": 103.0, "points": [[-5.0, 3.0], [40.0, 0.0]]}
    emit(event="done", **done)


def main(mode, note):
    job = json.loads(sys.stdin.readline())
    Path(note).write_text(json.dumps(job), encoding="utf-8")
    threading.Thread(target=listen, daemon=True).start()
    emit(event="stage", stage="read")
    if mode == "refuse":
        emit(event="error", kind="input", cause="The reference covers 0.0 % of the result.", next_step="Align it.")
        sys.exit(2)
    if mode == "crash":
        print("Segmentation fault, they said", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    emit(event="progress", stage="measure", fraction=0.4, seconds_left=None)
    if mode == "slow" and cancelled.wait(60):
        emit(event="error", kind="cancelled", cause="It was cancelled.", next_step="")
        sys.exit(130)
    answer(compared="reference" in job)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
