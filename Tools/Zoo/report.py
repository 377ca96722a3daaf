"""The table Docs/methods.md, written from the results on file and from nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from SynthGANLib.files import write_text
from SynthGANLib.recipes.base import FittedRecipe, Recipe
from SynthGANLib.recipes.registry import FITTED, RECIPES
from Tools.Zoo.baselines import unet_entry
from Tools.Zoo.compact import ENTRIES, Entry
from Tools.Zoo.pictures import draw_all
from Tools.Zoo.tasks import COLLECTIONS, TASKS
from Tools.Zoo.words import BELOW, AgainstReal, Compared, reasons

Result = Mapping[str, Any]
NOT_RUN = "not run"


def read_results(runs: Path) -> dict[str, Result]:
    """The finished entries and guesses by the names of their files."""
    files = sorted((runs / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def recipe_of(entry: Entry) -> Recipe | FittedRecipe:
    """The recipe that an entry trains or fits."""
    return RECIPES[entry.recipe] if entry.recipe in RECIPES else FITTED[entry.recipe]


def write_report(runs: Path, docs: Path, failures: Mapping[str, str]) -> None:
    """Write methods.md and pictures/ into `docs` from what is in `runs`; `failures` of this call are listed."""
    results = read_results(runs)
    docs.mkdir(parents=True, exist_ok=True)
    pictures = draw_all(runs / "previews", docs / "pictures")
    write_text(docs / "methods.md", report(results, failures, pictures))


def report(results: Mapping[str, Result], failures: Mapping[str, str], pictures: Mapping[str, str]) -> str:
    """The text of methods.md. `pictures`: file name -> title."""
    translations = [entry for entry in ENTRIES if not TASKS[entry.task].generates]
    generations = [entry for entry in ENTRIES if TASKS[entry.task].generates]
    judged = [(entry, compare(entry, results)) for entry in translations]
    parts = [
        _head(results),
        "## Translation and restoration\n\n" + _KEY + "\n\n" + "\n".join(_translation_rows(judged)),
        "## Why some stay behind\n\n" + "\n".join(_behind(judged)),
        "## Generation\n\n" + _GENERATION_KEY + "\n\n" + "\n".join(_generation_rows(generations, results)),
        "## Data\n\n" + "\n".join(_data_rows()),
    ]
    if pictures:
        shown = [f"![{title}](pictures/{name})\n\n*{title}.*" for name, title in pictures.items()]
        parts.append("## Pictures\n\n" + _PICTURES + "\n\n" + "\n\n".join(shown))
    parts.append("## Sources\n\n" + "\n".join(_sources()))
    if failures:
        parts.append("## Failed\n\n" + "\n".join(f"- `{key}`: {text}" for key, text in failures.items()))
    return "\n\n".join(parts) + "\n"


def compare(entry: Entry, results: Mapping[str, Result]) -> Compared | None:
    """An entry beside its baselines; None where one of the numbers is missing."""
    task = TASKS[entry.task]
    mine = results.get(entry.key)
    guesses = results.get(f"guesses--{task.reference}")
    unet = results.get(unet_entry(task, recipe_of(entry).dims).key)
    if mine is None or guesses is None or unet is None:
        return None
    maes = {"identity": guesses["identity"], "mean": guesses["mean"], "U-Net": unet["metrics"]}
    return Compared(mine, {name: numbers["MAE"] for name, numbers in maes.items()})


def _head(results: Mapping[str, Result]) -> str:
    machines = {json.dumps(r["machine"], sort_keys=True): r["machine"] for r in results.values() if "machine" in r}
    scales = sorted({r["scale"] for r in results.values() if "scale" in r})
    lines = [
        "# Methods, tried out",
        "",
        "Every recipe of `synthgan recipes` in a compact form, on real pairs or on images simulated on real anatomy, "
        "beside what needs no method and beside an L1 U-Net of about the same time. Made by `make zoo`; a machine with "
        "a GPU trains longer.",
        "",
        "**These are not the papers' results.** Networks are some hundred times smaller than the papers', budgets some "
        "ten thousand times, and the data are others. The table says that every recipe trains, exports and runs, and "
        "what it is worth at this size; it does not rank the methods. One seed, no repeats: small differences mean "
        "nothing. The weights are those of the last step; nothing was chosen by the held-out cases.",
        "",
    ]
    for found in machines.values():
        lines.append(
            f"Machine: {found['cpu']}, {found['cores']} cores, {found['threads']} thread(s) used, device "
            f"{found['device']}, torch {found['torch']}. Other work ran on it at the same time."
            if found["device"] == "cpu"
            else f"Machine: {found['device']} with {found['cpu']}, torch {found['torch']}."
        )
    if scales:
        factors = ", ".join(f"{scale:g}" for scale in scales)
        lines.append(f"Factor on the compact budgets: {factors}. Seconds are processor seconds on a CPU, else wall.")
    missing = sum(entry.key not in results for entry in ENTRIES)
    if missing:
        lines.append(f"{missing} of {len(ENTRIES)} lines were not run yet; `make zoo` goes on with them.")
    dates = sorted({r["made"] for r in results.values() if "made" in r})
    if dates:
        lines.append(f"Made {dates[0]}." if len(dates) == 1 else f"Made {dates[0]} to {dates[-1]}.")
    return "\n".join(lines)


_KEY = (
    "MAE in the unit of the target, PSNR in dB and SSIM over the range of the task, inside the body (in the hole for "
    "inpainting), means over the held-out cases. *Identity* is the source itself on the target's scale, *mean* the "
    "mean of all training targets, *U-Net* the generator of pix2pix (2D) or UcGAN (3D), trained by L1 alone for about "
    "the same time on the pairs of the same cases, also where the recipe itself sees none. a.u.: 0 and 1000 are the "
    "0.5 and 99.5 percentiles of the MR in the body. Parameters are those of the network that is exported."
)
_GENERATION_KEY = (
    "Images of 32 x 32 pixels from noise. *Distance*: Frechet distance between 256 samples and the held-out images, of "
    "block means and deviations, times 1000; *noise* is that of independent pixels with the training images' mean and "
    "deviation at each place, *real* that of the training images themselves: a method is below its baseline if it is "
    "not nearer than noise. *Alike*: mean SSIM of pairs of samples, in brackets of pairs of real images: far above "
    "means little variety. *Nearest*: root mean square difference to the nearest training image in percent of the "
    "range, in brackets of held-out images: far below means copies."
)
_PICTURES = (
    "Only data whose licence allows passing images on is shown. From left to right and top to bottom: source, the "
    "methods, real; slices of the first held-out case, all of one task on one scale."
)


def _translation_rows(judged: Iterable[tuple[Entry, Compared | None]]) -> Iterable[str]:
    yield (
        "| recipe | source | task | steps x batch | seconds | parameters | MAE | PSNR | SSIM "
        "| identity | mean | U-Net | MAE is below |"
    )
    yield "| " + " | ".join(["---"] * 13) + " |"
    for entry, found in judged:
        task = TASKS[entry.task]
        begin = f"| `{entry.recipe}` | {short(recipe_of(entry).citation)} | {entry.task} "
        if found is None:
            yield begin + f"| {NOT_RUN} |" + " |" * 9
            continue
        result, metrics = found.result, found.result["metrics"]
        steps = f"{result['steps']} x {result['batch']}" if result["steps"] else "fitted"
        baselines = " | ".join(number(value) for value in found.baselines.values())
        yield (
            begin + f"| {steps} | {seconds(result):.0f} | {result['parameters'] or '-'} "
            f"| {number(metrics['MAE'])} {task.unit} | {metrics['PSNR']:.1f} | {metrics['SSIM']:.3f} "
            f"| {baselines} | {found.verdict} |"
        )


def _behind(judged: Iterable[tuple[Entry, Compared | None]]) -> Iterable[str]:
    """The entries that do not beat all baselines, each with its reasons."""
    found = [(entry, compared) for entry, compared in judged if compared is not None and compared.missed]
    yield (
        f'"{BELOW}" stands where a method does not beat the identity or the mean. What was measured is called so; '
        "all else is likely, not shown."
    )
    yield ""
    if not found:
        yield "None."
    for entry, compared in found:
        yield f"- `{entry.recipe}` on {entry.task}: {' '.join(reasons(entry, recipe_of(entry), compared))}"


def _generation_rows(entries: Iterable[Entry], results: Mapping[str, Result]) -> Iterable[str]:
    yield (
        "| recipe | source | images | steps x batch | seconds | parameters | distance | noise | real | alike "
        "| nearest | verdict |"
    )
    yield "| " + " | ".join(["---"] * 12) + " |"
    for entry in entries:
        begin = f"| `{entry.recipe}` | {short(recipe_of(entry).citation)} | {entry.task} "
        result = results.get(entry.key)
        if result is None:
            yield begin + f"| {NOT_RUN} |" + " |" * 8
            continue
        found = AgainstReal(result)
        mine, noise, real = (result[name] for name in ("metrics", "noise", "real"))
        yield (
            begin + f"| {result['steps']} x {result['batch']} | {seconds(result):.0f} | {result['parameters']} "
            f"| {1000 * mine['frechet']:.1f} | {1000 * noise['frechet']:.1f} | {1000 * real['frechet']:.1f} "
            f"| {mine['alike']:.2f} ({real['alike']:.2f}) | {100 * mine['nearest']:.1f} ({100 * real['nearest']:.1f}) "
            f"| {found.verdict} |"
        )
    notes = [f"`{entry.recipe}`: {entry.note}" for entry in entries if entry.note]
    yield ""
    yield " ".join(notes)


def _data_rows() -> Iterable[str]:
    yield "| task | from and to | images | kept apart | licence | note |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in sorted({entry.task for entry in ENTRIES}):
        task = TASKS[name]
        place = COLLECTIONS[task.collection]
        pairing = {"paired": "", "unconditional": ""}.get(task.kind, f", {task.kind}")
        unpaired = "The two sides are of different people." if task.kind in ("unpaired", "mixed") else ""
        note = " ".join(filter(None, [task.note, unpaired]))
        yield f"| {name} | {task.title}{pairing} | {place.title} | {place.split} | {place.licence} | {note} |"


def _sources() -> Iterable[str]:
    for entry in {entry.recipe: entry for entry in ENTRIES}.values():
        recipe = recipe_of(entry)
        yield f"- `{recipe.name}` ({recipe.review}): {recipe.citation}."


def seconds(result: Result) -> float:
    """Processor seconds on a CPU, wall seconds elsewhere, where the processor mostly waits."""
    return float(result["seconds"] if result["machine"]["device"] == "cpu" else result["wall_seconds"])


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def short(citation: str) -> str:
    """The first author and the first year of a citation."""
    author = re.split(r"[ ,]", citation, maxsplit=1)[0]
    years = re.findall(r"\b(?:19|20)\d\d\b(?!\.\d)", citation)  # not the number of a preprint
    return f"{author} {years[0]}" if years else author
