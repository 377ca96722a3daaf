"""One line of the table: a recipe is trained or fitted on its task, exported, and measured as a user would run it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SynthGANLib.data.cases import Loaded, Spatial
from SynthGANLib.data.feed import Feed
from SynthGANLib.data.patches import Augment
from SynthGANLib.files import write_json
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.devices import resolve_device
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.inference.provenance import versions
from SynthGANLib.model.model import Model
from SynthGANLib.phantom.degrade import marked
from SynthGANLib.recipes.base import FittedRecipe, Recipe
from SynthGANLib.recipes.overrides import apply
from SynthGANLib.recipes.registry import FITTED, RECIPES
from SynthGANLib.training.engine import train
from SynthGANLib.training.export_run import draft_card, export
from SynthGANLib.training.fit_run import MODEL, fit_recipe
from SynthGANLib.training.record import AUGMENT, SPATIAL, Record, part_of, setup_of, write_record
from SynthGANLib.training.validate import Networks, Report, Validator, validator_for
from Tools.Zoo.baselines import unet_entry, unet_recipe
from Tools.Zoo.compact import Entry
from Tools.Zoo.generation import SAMPLES, images_of, numbers, references, sampled, scaled
from Tools.Zoo.measure import Cases, judged, preview
from Tools.Zoo.tasks import COLLECTIONS, TASKS, Task

SEED = 7
FORMAT = 1
POINTS = 4
"""How often the held-out cases are looked at on the way; nothing is chosen by that."""


class StoppedError(Exception):
    """A signal ended a training; `exit_code` is the process's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("stopped")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Curve:
    """Measures like `inner`, but recommends nothing: the last weights count, so that no case is validated on twice."""

    inner: Validator

    def __call__(self, networks: Networks, device: torch.device) -> Report:
        report = self.inner(networks, device)
        return Report(math.nan, report.metrics, report.text)


@dataclass
class Zoo:
    """Where everything lies, and how much is trained.

    Attributes:
        data: folder of the images. runs: folder of all that is made. scale: factor on all steps.
    """

    data: Path
    runs: Path
    scale: float = 1.0
    device: str = "auto"
    _known: dict[str, Cases] = field(default_factory=dict, repr=False)

    @property
    def prepared(self) -> Path:
        """Folder of the prepared collections."""
        return self.runs / "data"

    def result_path(self, entry: Entry) -> Path:
        """The JSON that a finished entry leaves."""
        return self.runs / "results" / f"{entry.key}.json"

    def finished(self, entry: Entry) -> bool:
        """Whether the entry was made with the settings it has now."""
        path = self.result_path(entry)
        return path.exists() and json.loads(path.read_text(encoding="utf-8")).get("digest") == self.digest(entry)

    def digest(self, entry: Entry) -> str:
        """Changes with all that decides an entry's numbers, but for the library itself."""
        task = TASKS[entry.task]
        content = [FORMAT, SEED, entry.recipe, repr(task), sorted(entry.scaled(self.scale).items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def make(self, entry: Entry) -> dict[str, Any]:
        """Train or fit and measure an entry, and write its result; an interrupted training goes on.

        Raises:
            SynthGANError: as the library's own, e.g. where data is missing. StoppedError: a signal came.
        """
        task = TASKS[entry.task]
        begun = time.time()
        if entry.recipe in FITTED:
            found = self._fitted(entry, task, FITTED[entry.recipe])
        else:
            dims = {"unet-l1-2d": 2, "unet-l1-3d": 3}.get(entry.recipe)
            found = self._trained(entry, task, unet_recipe(dims) if dims else RECIPES[entry.recipe])
        result = {
            "recipe": entry.recipe,
            "task": entry.task,
            "digest": self.digest(entry),
            "scale": self.scale,
            "settings": entry.scaled(self.scale),
            "machine": machine(self.device),
            "made": time.strftime("%Y-%m-%d", time.gmtime(begun)),
            **found,
        }
        self.result_path(entry).parent.mkdir(parents=True, exist_ok=True)
        write_json(self.result_path(entry), result)
        return result

    def cases(self, name: str, dims: int) -> Cases:
        """The pairs of the task called `name`, read once."""
        if name not in self._known:
            task = TASKS[name]
            entry = unet_entry(task, dims)
            setup = setup_of(unet_recipe(dims), "tiny", entry.settings)
            self._known[name] = Cases.of(task, task.read(self.data, self.prepared), setup, SEED)
        return self._known[name]

    def _trained(self, entry: Entry, task: Task, recipe: Recipe) -> dict[str, Any]:
        settings = entry.scaled(self.scale)
        setup = setup_of(recipe, "tiny", settings)
        listed = task.read(self.data, self.prepared)
        feed = Feed(
            listed,
            setup,
            seed=SEED,
            needs=recipe.data,
            spatial=apply(Spatial(), part_of(settings, SPATIAL)),
            augment=apply(Augment(), part_of(settings, AUGMENT)),
        )
        run = self.runs / "trained" / f"{entry.key}-{self.digest(entry)}"
        clock = _Clock(run)
        about = feed.describe()
        record = Record(recipe.name, "tiny", settings, about, str(listed.path), SEED, "none", versions=versions())
        inner = None if task.generates else validator_for(
            draft_card(recipe, setup, about), feed.validation, SEED, getattr(setup.config, "extent", 0)
        )  # fmt: skip
        outcome = train(
            setup,
            feed,
            run,
            seed=SEED,
            resume=True,
            device=self.device,
            validator=Curve(inner) if inner else None,
            validate_every=-(-setup.steps // POINTS),
            save_every=-(-setup.steps // 2),
            log_every=max(1, setup.steps // 40),
            begun=lambda: write_record(run, record),
        )
        clock.add()
        if outcome.exit_code:
            raise StoppedError(outcome.exit_code)
        folders = export(run, run / "model", recipe=recipe, force=True)
        model = Model.load(folders["forward"] if "forward" in folders else folders["class-0"])
        measured = self._generated(entry, task, model, feed) if task.generates else self._translated(
            entry, task, model, recipe.dims
        )  # fmt: skip
        regime = setup.build()
        return {
            "kind": "baseline" if recipe.name not in RECIPES else "trained",
            "steps": outcome.steps,
            "batch": setup.batch,
            "seconds": clock.cpu,
            "wall_seconds": clock.wall,
            "parameters": sum(p.numel() for p in regime.exported()["forward"].parameters()),
            "all_parameters": sum(p.numel() for p in regime.parameters()),
            **_history(run),
            **measured,
        }

    def _fitted(self, entry: Entry, task: Task, recipe: FittedRecipe) -> dict[str, Any]:
        run = self.runs / "fitted" / f"{entry.key}-{self.digest(entry)}"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        clock = _Clock(run)
        fit_recipe(recipe, task.written(self.data, self.prepared), run, entry.settings, SEED)
        clock.add()
        model = Model.load(run / MODEL)
        measured = self._translated(entry, task, model, 3)
        clock.add()
        return {
            "kind": "fitted",
            "steps": 0,
            "seconds": clock.cpu,
            "wall_seconds": clock.wall,
            "parameters": 0,
            **measured,
        }

    def _translated(self, entry: Entry, task: Task, model: Model, dims: int) -> dict[str, Any]:
        cases = self.cases(task.reference, dims)
        made: dict[str, Volume] = {}

        def make(case: Loaded) -> Volume:
            made[case.case.subject] = fake = synthesize(
                _given(case, task), model, mask=case.source_body, device=self.device
            )
            return fake

        metrics = judged(make, cases)
        if COLLECTIONS[task.collection].shown:
            first = cases.held[0]
            preview(self.runs / "previews" / f"{entry.key}.npz", first, made[first.case.subject], task)
        return {"metrics": metrics}

    def _generated(self, entry: Entry, task: Task, model: Model, feed: Feed) -> dict[str, Any]:
        # Classes go to a model each; the first is measured, against its own images.
        labels = {case.case.label for case in feed.validation}
        held_cases = [case for case in feed.validation if case.case.label == min(labels, key=lambda x: x or 0)]
        swapped = Cases.of(task, feed.data, feed.setup, SEED).training.validation
        training_cases = [case for case in swapped if case.case.label == held_cases[0].case.label]
        held, training = (images_of(cases, task.limits) for cases in (held_cases, training_cases))
        images = scaled(sampled(model, SAMPLES, SEED, self.device), task.limits)
        if COLLECTIONS[task.collection].shown:
            path = self.runs / "previews" / f"{entry.key}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, samples=images[:16, ..., 0], real=held[:: max(1, len(held) // 16)][:16, ..., 0])
        return {"metrics": numbers(images, held, training, SEED), **references(held, training, SEED)}

    def guesses(self, name: str) -> dict[str, Any]:
        """Identity and constant of the reference task `name`, made once and kept beside the results."""
        path = self.runs / "results" / f"guesses--{name}.json"
        wanted = hashlib.sha256(repr((FORMAT, TASKS[name])).encode()).hexdigest()[:12]
        if path.exists() and json.loads(path.read_text(encoding="utf-8"))["digest"] == wanted:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        cases = self.cases(name, 2)
        found = {
            "kind": "guesses",
            "task": name,
            "digest": wanted,
            "identity": judged(cases.identity, cases),
            "mean": judged(cases.constant(), cases),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
        return found


def _given(case: Loaded, task: Task) -> Volume:
    """What the model takes: the source, or for inpainting the image with its hole as one more channel."""
    if task.source:
        assert case.source is not None
        return case.source
    assert case.target is not None
    assert case.regions is not None
    return marked(case.target, case.regions)


@dataclass
class _Clock:
    """Seconds of processor and wall since the last look, added up in the run's folder over interruptions."""

    run: Path
    _cpu: float = field(default_factory=time.process_time)
    _wall: float = field(default_factory=time.perf_counter)
    cpu: float = 0.0
    wall: float = 0.0

    def add(self) -> None:
        """Add what passed to what is on file."""
        path = self.run / "seconds.json"
        before: Mapping[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        now = time.process_time(), time.perf_counter()
        self.cpu = before.get("cpu", 0.0) + now[0] - self._cpu
        self.wall = before.get("wall", 0.0) + now[1] - self._wall
        self._cpu, self._wall = now
        write_json(path, {"cpu": self.cpu, "wall": self.wall})


def _history(run: Path) -> dict[str, Any]:
    """From the run's log: [step, MAE] of the held-out cases, and how often the discriminator was right at the end."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [[row["step"], row["validation/MAE"]] for row in rows if "validation/MAE" in row]
    right = [(row["real_accuracy"], row["fake_accuracy"]) for row in rows if "real_accuracy" in row]
    last = right[-max(1, len(right) // 4) :]
    found: dict[str, Any] = {"curve": curve}
    if last:
        real, fake = np.mean(last, axis=0)
        found["accuracy"] = {"real": float(real), "fake": float(fake)}
    return found


def machine(device: str) -> dict[str, Any]:
    """What the seconds were measured on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    chosen = resolve_device(device)
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type,
        "torch": torch.__version__,
    }
