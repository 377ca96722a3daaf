"""Record what the bundled models and ten training steps of nine recipes give, as SHA-256, and compare two records.

    python Tools/Benchmarks/same_results.py --out before.json [VOLUME ...]
    python Tools/Benchmarks/same_results.py --compare before.json [VOLUME ...]

Run it before and after a change that must not change results, on the same machine: the last bits depend on the
processor and on the version of PyTorch. The inputs are a drawn head and any MR volumes that are named. Everything goes
through the command ``synthgan``, in processes of one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
MODELS = ("tissue-mr-ct", "head-mr-ct")
RECIPES = (
    "unet-3d", "pix2pix", "cascade-gan", "cyclegan", "mr-gan", "unit", "wgan-gp", "lapgan", "dual-glow",
)  # fmt: skip
STEPS = 10


def synthgan(*words: str) -> str:
    """Run the command and return its standard output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "SynthGANLib", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"'synthgan {' '.join(words)}' failed with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def tensors(content: Any, prefix: str = "") -> dict[str, str]:
    """Names of all tensors below the networks of a checkpoint and the SHA-256 of their bytes."""
    import torch

    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            found[prefix + name] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return found


def draw_data(folder: Path) -> Path:
    """Write four drawn heads and the list of their pairs, which serves recipes without pairs as well."""
    from SynthGANLib import write_volume
    from SynthGANLib.phantom.anatomy import body_of
    from SynthGANLib.phantom.draw import draw_head
    from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr

    cases = []
    for seed in range(4):
        head = draw_head(seed, 6.0)
        mask = head.with_array(body_of(head.array).astype("uint8"), unit="label")
        names = {"source": f"{seed}_mr.nii.gz", "target": f"{seed}_ct.nii.gz", "mask": f"{seed}_mask.nii.gz"}
        made = simulate_mr(head, "T1", seed), simulate_ct(head, seed), mask
        for name, volume in zip(names.values(), made, strict=True):
            write_volume(volume, folder / name)
        cases.append({"subject": f"s{seed}", **names})
    sides = {"source": {"modality": "MR", "unit": "1"}, "target": {"modality": "CT", "unit": "HU"}}
    path = folder / "list.json"
    path.write_text(json.dumps({"name": "heads", "kind": "paired", **sides, "training": cases}), encoding="utf-8")
    return path


def record(volumes: list[Path]) -> dict[str, Any]:
    """The hashes of all outputs and of all networks after the steps."""
    import torch

    from SynthGANLib import write_volume
    from SynthGANLib.phantom.draw import draw_head
    from SynthGANLib.phantom.simulate import simulate_mr

    found: dict[str, Any] = {"outputs": {}, "training": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = folder / "drawn.nii.gz"
        write_volume(simulate_mr(draw_head(11, 3.0), "T1", 11), drawn)
        for model in MODELS:
            for number, source in enumerate([drawn, *volumes]):
                out = folder / f"{model}_{number}.nrrd"
                told = synthgan("synthesize", str(source), str(out), "--model", model, "--device", "cpu", "--json")
                found["outputs"][f"{model} {source.name}"] = json.loads(told)["output_sha256"]
        data = draw_data(folder)
        for recipe in RECIPES:
            run = folder / recipe
            synthgan(
                "train", recipe, "--data", str(data), "--out", str(run), "--tiny",
                "--device", "cpu", "--seed", "3", "--set", f"steps={STEPS}",
            )  # fmt: skip
            newest = max(run.rglob("*.pt"), key=lambda path: path.stat().st_mtime)
            content = torch.load(newest, weights_only=True)
            found["training"][recipe] = tensors(content["regime"])
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two records disagree on, a line each."""
    lines = []
    for part in ("outputs", "training"):
        for name in sorted({*before[part], *after[part]}):
            if before[part].get(name) != after[part].get(name):
                lines.append(f"{part}: {name} differs")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="*", type=Path, metavar="VOLUME", help="MR volumes besides the drawn head")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, help="file for the record")
    action.add_argument("--compare", type=Path, help="record to compare with")
    given = parser.parse_args(arguments)
    found = record(given.volumes)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return 0
    lines = differences(json.loads(given.compare.read_text(encoding="utf-8")), found)
    print("\n".join(lines) or "Everything is the same, to the last bit.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
