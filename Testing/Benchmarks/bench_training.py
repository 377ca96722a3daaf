"""Training steps of pix2pix and CycleGAN beside the same mathematics written plainly, as a table.

    python Testing/Benchmarks/bench_training.py --out Docs/benchmarks_training.md

The plain form is kept here: float32, eager, PyTorch's Adam without fusion, no replay pool. Both forms use the same
networks, 256 x 256, batch 1. Every measurement is a process of its own and the variants take turns. The loop asks for
a batch once a step, as a step begins; the time between two such questions is that of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
WARM, MORE = 2, 4
RECIPES = ("pix2pix", "cyclegan")


class Still:
    """A feed that gives the same images in every step."""

    normalisers: Mapping[str, Any] = {}
    validation: tuple[Any, ...] = ()

    def __init__(self, size: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(5)
        self.images = {k: torch.rand(1, 1, size, size, generator=draw) * 2 - 1 for k in ("source", "target")}
        self.asked: list[tuple[float, float]] = []

    def batch(self, step: int) -> dict[str, Any]:
        self.asked.append((time.process_time(), time.perf_counter()))
        return dict(self.images)

    def describe(self) -> dict[str, Any]:
        return {"name": "still images"}


def plain_pix2pix(networks: Mapping[str, Any]) -> Any:
    """One step of pix2pix as in a textbook."""
    import torch
    from torch.nn import functional as F

    g, d = networks["generator"], networks["discriminator"]
    of_g = torch.optim.Adam(g.parameters(), 2e-4, (0.5, 0.999), foreach=False)
    of_d = torch.optim.Adam(d.parameters(), 2e-4, (0.5, 0.999), foreach=False)

    def logits(x: Any, y: Any) -> Any:
        return d(torch.cat([x, y], 1))[-1]

    def step(batch: Mapping[str, Any]) -> None:
        x, y = batch["source"], batch["target"]
        fake = g(x)
        of_d.zero_grad()
        real, made = logits(x, y), logits(x, fake.detach())
        entropy = F.binary_cross_entropy_with_logits
        (0.5 * (entropy(real, torch.ones_like(real)) + entropy(made, torch.zeros_like(made)))).backward()
        of_d.step()
        of_g.zero_grad()
        made = logits(x, fake)
        (entropy(made, torch.ones_like(made)) + 100.0 * (fake - y).abs().mean()).backward()
        of_g.step()

    return step


def plain_cyclegan(networks: Mapping[str, Any]) -> Any:
    """One step of CycleGAN as in a textbook, with identity terms and without a pool."""
    import itertools

    import torch

    ab, ba = networks["generator_ab"], networks["generator_ba"]
    of_a, of_b = networks["discriminator_a"], networks["discriminator_b"]
    generators = torch.optim.Adam(itertools.chain(ab.parameters(), ba.parameters()), 2e-4, (0.5, 0.999), foreach=False)
    judges = torch.optim.Adam(itertools.chain(of_a.parameters(), of_b.parameters()), 2e-4, (0.5, 0.999), foreach=False)

    def step(batch: Mapping[str, Any]) -> None:
        a, b = batch["source"], batch["target"]
        generators.zero_grad()
        fake_b, fake_a = ab(a), ba(b)
        game = ((of_b(fake_b)[-1] - 1) ** 2).mean() + ((of_a(fake_a)[-1] - 1) ** 2).mean()
        cycle = (ba(fake_b) - a).abs().mean() + (ab(fake_a) - b).abs().mean()
        own = (ab(b) - b).abs().mean() + (ba(a) - a).abs().mean()
        (game + 10.0 * cycle + 5.0 * own).backward()
        generators.step()
        judges.zero_grad()
        for judge, real, fake in ((of_a, a, fake_a), (of_b, b, fake_b)):
            (0.5 * (((judge(real)[-1] - 1) ** 2).mean() + (judge(fake.detach())[-1] ** 2).mean())).backward()
        judges.step()

    return step


def run_plain(recipe: str, threads: int, size: int) -> None:
    import torch

    from SynthGANLib.recipes import RECIPES as KNOWN

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    networks = {name: net.build().train() for name, net in KNOWN[recipe].canonical().networks.items()}
    step = {"pix2pix": plain_pix2pix, "cyclegan": plain_cyclegan}[recipe](networks)
    feed = Still(size)
    for number in range(WARM):
        step(feed.batch(number))
    began = time.process_time(), time.perf_counter()
    for number in range(MORE):
        step(feed.batch(number))
    report((time.process_time() - began[0]) / MORE, (time.perf_counter() - began[1]) / MORE)


def run_ours(recipe: str, threads: int, size: int, amp: str) -> None:
    import torch

    from SynthGANLib.recipes import RECIPES as KNOWN
    from SynthGANLib.training.engine import train

    torch.set_num_threads(threads)
    feed = Still(size)
    setup = replace(KNOWN[recipe].canonical(), steps=WARM + MORE + 2, patch=(size, size))
    with tempfile.TemporaryDirectory() as folder:
        train(setup, feed, Path(folder) / "run", seed=1, device="cpu", amp=amp, save_every=10**9)
    first, last = feed.asked[WARM], feed.asked[-1]
    steps = len(feed.asked) - 1 - WARM
    report(*((end - begin) / steps for begin, end in zip(first, last, strict=True)))


def report(cpu: float, wall: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": peak}))


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; where it does not, emulation is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def measured(recipe: str, variant: str, threads: int, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", recipe, variant, str(threads), str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {recipe} {variant}: {found}", flush=True)
    return found


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]], threads: int, repeats: int, size: int) -> str:
    lines = [
        "# Benchmarks: training",
        "",
        f"`python Testing/Benchmarks/bench_training.py --out Docs/benchmarks_training.md`, {platform.machine()}, "
        f"{threads} thread(s), {size} x {size}, batch 1, medians of {repeats}. Times are CPU seconds a step; ratios "
        "are the plain form's divided by ours. The plain form is in the script.",
        "",
        "| recipe | variant | s a step | faster | peak memory, MiB | of the plain form's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for recipe, variants in results.items():
        plain = variants["plain"]
        for variant, found in variants.items():
            lines.append(
                f"| {recipe} | {variant} | {found['cpu']:.2f} | {plain['cpu'] / found['cpu']:.2f}x "
                f"| {found['memory'] / 2**20:.0f} | {found['memory'] / plain['memory']:.2f} |"
            )
    if not any("bf16" in variants for variants in results.values()):
        lines += ["", "This processor has no bfloat16 arithmetic, so mixed precision was not measured here."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table; printed otherwise")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--child", nargs=4, metavar="WORD", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        recipe, variant, threads, size = given.child
        if variant == "plain":
            run_plain(recipe, int(threads), int(size))
        else:
            run_ours(recipe, int(threads), int(size), "bf16" if variant == "bf16" else "none")
        return 0
    variants = ["plain", "fp32", *(["bf16"] if has_bf16() else [])]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for recipe in RECIPES:
        runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
        for _ in range(given.repeats):
            for variant in variants:
                runs[variant].append(measured(recipe, variant, given.threads, given.size))
        results[recipe] = {
            variant: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for variant, found in runs.items()
        }
    text = table(results, given.threads, given.repeats, given.size)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
