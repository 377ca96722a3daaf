"""One measurement, in a process of its own: `python bench_cases.py CASE JSON` prints one JSON object.

Every case loads the same packages, warms up on one window and then measures wall time, the process's CPU time and
by how much its largest resident size grew.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai.inferers import sliding_window_inference  # noqa: E402
from monai.networks.nets import UNet  # noqa: E402

from SynthGANLib.image.volume import Volume  # noqa: E402
from SynthGANLib.inference.pipeline import synthesize  # noqa: E402
from SynthGANLib.inference.predictor import Predictor  # noqa: E402
from SynthGANLib.inference.progress import Reporter  # noqa: E402
from SynthGANLib.inference.tiles import Task  # noqa: E402
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec  # noqa: E402
from SynthGANLib.model.model import Model  # noqa: E402
from SynthGANLib.networks.registry import build  # noqa: E402

OVERLAP = 0.25
Predict = Callable[[torch.nn.Module, np.ndarray, dict[str, Any]], np.ndarray]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def network(name: str) -> torch.nn.Module:
    """The yardstick network with the weights of one seed, or the identity."""
    if name == "identity":
        return build("Identity", {})
    torch.manual_seed(0)
    return UNet(3, 1, 1, (16, 32, 64, 128), (2, 2, 2), num_res_units=2).eval()


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def by_monai(net: torch.nn.Module, source: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    image = torch.from_numpy(source)[None, None]  # (z, y, x) -> (1, 1, z, y, x)
    with torch.inference_mode():
        result = sliding_window_inference(
            image,
            options["window"],
            options.get("batch", 1),
            net if options["net"] != "identity" else torch.clone,
            overlap=OVERLAP,
            mode="gaussian",
        )
    return result[0, 0].numpy()


def by_synthgan(net: torch.nn.Module, source: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    window = tuple(options["window"])
    fixed = options["fixed"]
    spatial = SpatialSpec(
        dims=3,
        tile_min=window if fixed else (32, 32, 32),
        tile_max=window if fixed else (512, 512, 512),
        multiple=8,
        tile_fixed=fixed,
        overlap=OVERLAP,
    )
    task = Task(source, lambda crop: crop, None, 0.0, 1)
    memory = options.get("memory")
    cpu = torch.device("cpu")
    with Predictor(net, spatial, channels=(1, 1), device=cpu, reporter=Reporter(), memory=memory) as predictor:
        result = predictor.predict(task)[0]
        options["plan"] = predictor.plans[0].explain()
    return result


METHODS: dict[str, Predict] = {"monai": by_monai, "synthgan": by_synthgan}


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Predict a volume of noise by one method."""
    net = network(options["net"])
    source = noise(tuple(options["shape"]))
    predict = METHODS[options["method"]]
    with torch.inference_mode():
        net(torch.zeros(1, 1, *options["window"]))
    before, wall, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    result = predict(net, source, options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown = peak_bytes() - before
    error = float(np.abs(result - source).max() / np.abs(source).max()) if options["net"] == "identity" else None
    return {"wall": wall, "cpu": cpu, "memory": grown, "error": error, "plan": options.get("plan")}


def body(shape: tuple[int, int, int]) -> np.ndarray:
    """A bright elliptic cylinder in dim noise, made slice by slice."""
    rng = np.random.default_rng(0)
    array = np.empty(shape, np.float32)
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    inside = (y / 0.8) ** 2 + (x / 0.7) ** 2 < 1
    for plane in array:
        plane[...] = rng.random(shape[1:], dtype=np.float32) * 20 + 500 * inside
    return array


def whole_flow(options: dict[str, Any]) -> dict[str, Any]:
    """`synthesize` of a large volume: largest resident size of the whole process, imports and source included."""
    window = {"kind": "window", "low": -1024.0, "high": 3071.0}
    card = Card(
        id="bench", version="1.0.0", title="Bench", description="Bench.", anatomy="any", licence="Apache-2.0",
        intended_use="Benchmark.", source=SourceSpec("MR", "1"),
        target=TargetSpec("CT", "HU", -1024.0, (-1024.0, 3071.0)),
        method=MethodSpec("network", "UNet", {"widths": [4, 8], "convs": 1}),
        spatial=SpatialSpec(dims=3, tile_min=(32, 32, 32), tile_max=(512, 512, 512), multiple=8),
        normalisers={"source": {"kind": "percentile"}, "target": window}, vector=VectorSpec(1e-4),
    )  # fmt: skip
    model = Model(card, build(card.method.name, card.method.arguments).eval())
    # Right and anterior first: the volume has to be turned, which costs a copy.
    source = Volume(body(tuple(options["shape"])), np.diag([-0.8, -0.8, 1.0, 1.0]))
    wall, cpu = time.perf_counter(), time.process_time()
    result = synthesize(source, model, device="cpu")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "memory": peak_bytes(), "plan": result.meta["plan"], "error": None}


def main() -> None:
    options = json.loads(sys.argv[2])
    torch.set_num_threads(options["threads"])
    case = {"measure": measure, "whole_flow": whole_flow}[sys.argv[1]]
    print(json.dumps(case(options)))


if __name__ == "__main__":
    main()
