"""Training steps of pix2pix and CycleGAN beside the same mathematics written plainly, and bfloat16 beside float32.

    python Tools/Benchmarks/bench_training.py --out Docs/benchmarks_training.md

Steps: the plain form is kept here: float32, eager, PyTorch's Adam without fusion, no replay pool. Both forms use the
same networks, batch 1. Every measurement is a process of its own and the variants take turns; what is compared is the
time of the processor, which others on the machine change little.

Convergence: both recipes at their tiny size on slices of drawn heads, trained with the same seed in both precisions;
the error is that of heads which were not trained on. oneDNN is switched off, for its convolutions of bfloat16 differ
from processor to processor.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
WARM, MORE = 1, 1
RECIPES = ("pix2pix", "cyclegan")
BATCH, EXTENT, HU = 4, 32, 1250.0
"""Slices a step and their extent in the comparison of precisions; HU of one normalised unit."""


class MeasuredError(Exception):
    """Leaves the training loop once all steps are measured, before it writes a checkpoint."""


class Still:
    """A feed that gives the same images in every step."""

    normalisers: Mapping[str, Any] = {}
    validation: tuple[Any, ...] = ()

    def __init__(self, size: int) -> None:
        import torch

        rng = torch.Generator().manual_seed(5)
        self.images = {k: torch.rand(1, 1, size, size, generator=rng) * 2 - 1 for k in ("source", "target")}

    def batch(self, step: int) -> dict[str, Any]:
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


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def run_plain(recipe: str, threads: int, size: int) -> dict[str, float]:
    import torch

    from SynthGANLib.recipes.registry import RECIPES as KNOWN

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    networks = {name: net.build().train() for name, net in KNOWN[recipe].canonical().networks.items()}
    step = {"pix2pix": plain_pix2pix, "cyclegan": plain_cyclegan}[recipe](networks)
    feed = Still(size)
    for number in range(WARM):
        step(feed.batch(number))
    began = now()
    for number in range(MORE):
        step(feed.batch(number))
    return numbers(began, now())


def run_ours(recipe: str, threads: int, size: int, amp: str) -> dict[str, float]:
    """The loop of the library, from the beginning of the first measured step to the end of the last turn."""
    import torch

    from SynthGANLib.recipes.registry import RECIPES as KNOWN
    from SynthGANLib.training.engine import train

    torch.set_num_threads(threads)
    setup = replace(KNOWN[recipe].canonical(), steps=10**6, patch=(size, size))
    kind: Any = setup.regime
    began: list[tuple[float, float]] = []
    found: dict[str, float] = {}

    class Timed(kind):
        def forward(self, batch: Any, rng: Any) -> Any:
            if self.step >= WARM:
                began.append(now())
            return super().forward(batch, rng)

        def after(self, turn: str) -> None:
            super().after(turn)
            if len(began) == MORE and turn == self.turns(self.step)[-1]:
                found.update(numbers(began[0], now()))
                raise MeasuredError

    Timed.__name__ = kind.__name__
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(MeasuredError):
        train(replace(setup, regime=Timed), Still(size), Path(folder) / "run", seed=1, device="cpu", amp=amp)
    return found


def numbers(began: tuple[float, float], ended: tuple[float, float]) -> dict[str, float]:
    """CPU and wall seconds a step, and the most memory that this process has had, in bytes."""
    cpu, wall = ((end - begin) / MORE for begin, end in zip(began, ended, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu": cpu, "wall": wall, "memory": peak}


class Slices:
    """Axial slices of drawn heads, MR and CT in [-1, 1] on 6 mm: pairs in any order, or unrelated ones."""

    normalisers: Mapping[str, Any] = {}
    validation: tuple[Any, ...] = ()

    def __init__(self, paired: bool, heads: range = range(6)) -> None:
        import numpy as np
        import torch

        from SynthGANLib.phantom.anatomy import body_of
        from SynthGANLib.phantom.draw import draw_head
        from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr

        self.paired = paired
        rows: list[Any] = []
        for seed in heads:
            codes = draw_head(seed, 6.0)
            mr, ct, body = simulate_mr(codes, "T1", seed).array, simulate_ct(codes, seed).array, body_of(codes.array)
            mr = np.clip(mr / np.percentile(mr[body], 99) * 2 - 1, -1, 1)
            ct = np.clip((ct - 250) / HU, -1, 1)
            for number in np.flatnonzero(body.mean((1, 2)) > 0.25):
                rows.append([_squared(image[number], fill) for image, fill in ((mr, -1), (ct, -1), (body, 0))])
        self.source, self.target, self.body = torch.tensor(np.array(rows), dtype=torch.float32).unsqueeze(2).unbind(1)

    def batch(self, step: int) -> dict[str, Any]:
        import torch

        rng = torch.Generator().manual_seed(step)
        first, second = (torch.randint(len(self.source), (BATCH,), generator=rng) for _ in range(2))
        return {"source": self.source[first], "target": self.target[first if self.paired else second]}

    def describe(self) -> dict[str, Any]:
        return {"name": "drawn heads", "paired": self.paired}


def _squared(image: Any, fill: float) -> Any:
    """The middle `EXTENT` x `EXTENT` of a slice, filled where it is smaller."""
    import numpy as np

    square = np.full((EXTENT, EXTENT), fill, np.float32)
    places, pieces = [], []
    for extent in image.shape:
        width = min(extent, EXTENT)
        places.append(slice((EXTENT - width) // 2, (EXTENT - width) // 2 + width))
        pieces.append(slice((extent - width) // 2, (extent - width) // 2 + width))
    square[tuple(places)] = image[tuple(pieces)]
    return square


def converged(recipe: str, amp: Any, seed: int, steps: int, every: int, threads: int) -> list[float]:
    """Error in HU within the body of two heads that were not trained on, after every `every` steps."""
    import torch

    from SynthGANLib.recipes.registry import RECIPES as KNOWN
    from SynthGANLib.training.engine import train
    from SynthGANLib.training.validate import Report

    torch.set_num_threads(threads)
    held, curve = Slices(True, range(100, 102)), []

    def look(networks: Mapping[str, Any], device: Any) -> Report:
        with torch.no_grad():
            apart = (networks["forward"](held.source) - held.target).abs()
        curve.append(float((apart * held.body).sum() / held.body.sum()) * HU)
        return Report(curve[-1], {"MAE": curve[-1]}, f"MAE {curve[-1]:.1f} HU")

    entry = KNOWN[recipe]
    setup = replace(entry.tiny(), steps=steps, batch=BATCH)
    feed = Slices(entry.data == "paired")
    with tempfile.TemporaryDirectory() as folder, torch.backends.mkldnn.flags(enabled=False):
        train(
            setup, feed, Path(folder) / "run", seed=seed, device="cpu", amp=amp, validator=look, validate_every=every,
            save_every=10**9, log_every=10**9,
        )  # fmt: skip
    return curve


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; where it does not, emulation is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def measured(work: Callable[..., Any], *words: Any) -> Any:
    """What `work` returns in a process of its own, which begins with the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([
        "torch", "SynthGANLib.training.engine", "SynthGANLib.recipes", "monai.networks.nets.patchgan_discriminator",
    ])  # fmt: skip
    with context.Pool(1, maxtasksperchild=1) as pool:
        found = pool.apply(work, words)
    print(f"  {work.__name__} {' '.join(map(str, words))}: {found}", flush=True)
    return found


def run_step(recipe: str, variant: str, threads: int, size: int) -> dict[str, float]:
    if variant == "plain":
        return run_plain(recipe, threads, size)
    return run_ours(recipe, threads, size, "bf16" if variant == "bf16" else "none")


def steps_table(given: argparse.Namespace) -> list[str]:
    """Measure the steps of both recipes at all sizes, variants in turn."""
    variants = ["plain", "fp32", *(["bf16"] if has_bf16() else [])]
    lines = [
        "## Steps",
        "",
        f"Batch 1, {given.threads} thread(s), medians of {given.repeats} processes each, in which {WARM} step warms up "
        f'and {MORE} is measured; the variants take turns. Times are those of the processor, user and system. "Faster" '
        'and "of the plain form\'s" are medians over the turns of the ratio within a turn, lowest and highest too. '
        'The plain form, the same mathematics as in a textbook, is in the script; "fp32" is the library\'s loop.',
        "",
        "| recipe | extent | variant | s a step | faster | peak memory, MiB | of the plain form's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in given.sizes:
        for recipe in RECIPES:
            turns = [
                {name: measured(run_step, recipe, name, given.threads, size) for name in variants}
                for _ in range(given.repeats)
            ]
            for name in variants:
                times, peaks = ([turn[name][key] for turn in turns] for key in ("cpu", "memory"))
                faster = [turn["plain"]["cpu"] / turn[name]["cpu"] for turn in turns]
                smaller = [turn[name]["memory"] / turn["plain"]["memory"] for turn in turns]
                lines.append(
                    f"| {recipe} | {size} | {name} | {statistics.median(times):.2f} | {_spread(faster)} "
                    f"| {statistics.median(peaks) / 2**20:.0f} | {_spread(smaller)} |"
                )
    lines.append("")
    if len(variants) == 2:
        lines += ["This processor has no bfloat16 arithmetic, so the bars set for it (pix2pix 1.5 times, CycleGAN 1.7 "
                  "times as fast as the plain form in float32) were not measurable here."]  # fmt: skip
    return [*lines, "There was no GPU, so the bar of twice as fast on one was not measurable here.", ""]


def _spread(numbers: list[float]) -> str:
    return f"{statistics.median(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def convergence_table(given: argparse.Namespace) -> list[str]:
    """Train both recipes in both precisions from the same seeds."""
    every = max(1, given.steps // 5)
    lines = [
        "## bfloat16 beside float32",
        "",
        f"Both recipes at their tiny size, {given.steps} steps of {BATCH} slices of {EXTENT} x {EXTENT}, from the same "
        f"{given.seeds} seeds in both precisions: mean absolute error in HU within the body of heads that were not "
        "trained on, mean over the seeds after so many steps. The networks are far too small and trained far too "
        "shortly for a good CT; what is compared is whether the precision changes what is learnt.",
        "",
    ]
    marks = [min(every * (number + 1), given.steps) for number in range(-(-given.steps // every))]
    lines += [
        f"| recipe | precision | {' | '.join(map(str, marks))} | each seed at the end |",
        "| --- " * (len(marks) + 3) + "|",
    ]
    for recipe in RECIPES:
        ends = {}
        for amp in ("none", "bf16"):
            curves = [
                measured(converged, recipe, amp, seed, given.steps, every, given.threads) for seed in range(given.seeds)
            ]
            ends[amp] = [curve[-1] for curve in curves]
            means = [f"{statistics.mean(values):.1f}" for values in zip(*curves, strict=True)]
            each = ", ".join(f"{end:.1f}" for end in ends[amp])
            lines.append(f"| {recipe} | {'float32' if amp == 'none' else amp} | {' | '.join(means)} | {each} |")
        apart = [b - a for a, b in zip(ends["none"], ends["bf16"], strict=True)]
        between = max(ends["none"]) - min(ends["none"])
        lines.append(
            f"| {recipe} | bf16 - float32 | {' | ' * (len(marks) - 1)}{statistics.mean(apart):+.1f} "
            f"| {', '.join(f'{value:+.1f}' for value in apart)}; float32 seeds lie {between:.1f} apart |"
        )
    return [*lines, ""]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the tables; printed otherwise")
    parser.add_argument("--repeats", type=int, default=3, help="turns of the steps' variants")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="extents of the images of the steps")
    parser.add_argument("--seeds", type=int, default=3, help="runs in each precision")
    parser.add_argument("--steps", type=int, default=200, help="steps of such a run")
    given = parser.parse_args(arguments)
    # read when the processes of the measurements begin
    os.environ |= {"OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": str(ROOT)}
    lines = [
        "# Benchmarks: training",
        "",
        f"`python Tools/Benchmarks/bench_training.py --out Docs/benchmarks_training.md` on {platform.machine()}.",
        "",
        *steps_table(given),
        *convergence_table(given),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
