"""The main job from end to end in a real MRML scene: volume in; volume, picture, scene and numbers out.

python Tools/Demo/demo.py                                                  a simulated head
python Tools/Demo/demo.py --input my_t1.nii.gz --model head-mr-ct --output results
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "SynthGAN")]  # the latter as Slicer does it with a folder of modules

from SynthGANLib.errors import InputError, SynthGANError  # noqa: E402
from SynthGANLib.image.body import body_mask  # noqa: E402
from SynthGANLib.image.geometry import conform, resample_to  # noqa: E402
from SynthGANLib.image.volume import Volume  # noqa: E402
from SynthGANLib.inference.fitness import check_fit  # noqa: E402
from SynthGANLib.io.volumes import read_volume, write_volume  # noqa: E402
from SynthGANLib.model.catalogue import Catalogue  # noqa: E402
from SynthGANLib.model.folder import read_card  # noqa: E402
from SynthGANLib.phantom.anatomy import body_of, mark_cavities, tissue_codes  # noqa: E402
from SynthGANLib.phantom.draw import draw_head  # noqa: E402
from SynthGANLib.phantom.simulate import CONTRASTS, simulate_ct, simulate_mr  # noqa: E402
from SynthGANPanel.failure import SynthesisError  # noqa: E402

AIR_HU = -1024.0
OWN_FOLDER = Path("demo")  # what an earlier demo left in it is replaced
PICTURE, SCENE = "side_by_side.png", "scene.mrb"
PHANTOM_SPACING_MM = 1.5
EXIT_CODES = {"input": 2, "model": 2, "package": 2, "unfit": 3, "memory": 4, "cancelled": 130}


@dataclass(frozen=True)
class Case:
    """The source, its reference if there is one, and the body (z, y, x) in which errors are counted."""

    name: str
    source: Volume
    truth: Volume | None
    body: Any


def phantom_case(seed: int, contrast: str, anatomy: Path | None) -> Case:
    """A simulated head, its MR as source and its CT as truth.

    Its tissues are drawn by the phantom, or those of a real head if `anatomy` is a label map as SynthSeg numbers it.
    """
    if anatomy is None:
        name, codes = "Phantom", draw_head(seed, PHANTOM_SPACING_MM)
    else:
        name = anatomy.name.split(".")[0]
        labels = conform(read_volume(anatomy, unit="label"), orientation="LPS", interpolation="nearest")
        codes = mark_cavities(tissue_codes(labels.volume))
    source, truth = simulate_mr(codes, contrast, seed), simulate_ct(codes, seed)
    return Case(f"{name} {contrast}", source, truth, body_of(codes.array))


def file_case(path: Path, reference: Path | None, frame: int | None = None) -> Case:
    """The user's own volume; a reference in HU is brought onto its grid if one is given."""
    source = read_volume(path, frame=frame)
    truth = None
    if reference is not None:
        truth = resample_to(read_volume(reference, unit="HU"), source.grid, fill=AIR_HU)
    described = str(source.meta.get("description", "")) if path.is_dir() else ""  # of the DICOM series
    name = described or path.resolve().name.split(".")[0]
    return Case(name, source, truth, body_mask(source.array, source.spacing))


def refuse_existing(paths: list[Path]) -> None:
    """InputError if one of the files is there: only asked for is anything replaced."""
    for path in paths:
        if path.exists():
            raise InputError(
                f"'{path}' exists already.",
                next_step="Name another folder (OUTPUT= or --output), or have it replaced (FORCE=1 or --force).",
            )


@contextlib.contextmanager
def results_of(output: Path, force: bool) -> Iterator[Path]:
    """A working folder whose files move to the folder `output` together, when all of them are complete."""
    if not force:
        refuse_existing([output / PICTURE, output / SCENE])
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)  # told now if that is impossible, not after the work
    try:
        with tempfile.TemporaryDirectory(dir=output, prefix=".") as folder:
            yield Path(folder)
            made = sorted(Path(folder).iterdir())
            if not force:
                refuse_existing([output / path.name for path in made])
            for path in made:
                path.replace(output / path.name)
    finally:
        if new and not any(output.iterdir()):
            output.rmdir()


def run(case: Case, model: str, device: str, work: Path) -> list[str]:
    """Synthesize in a scene; leave volume, picture and scene in the folder `work`. The lines to print."""
    # Slicer's libraries take seconds to load: only after the input was found to be good.
    from SynthGANPanel.scene.nodes import volumeFromNode
    from Testing.Headless.scene import add_volume, open_scene, save_scene
    from Tools.Demo import nodes, report, sheet

    with contextlib.closing(open_scene()) as headless:
        source = add_volume(headless.scene, case.source, case.name)
        started = time.monotonic()
        synthetic = nodes.synthesize(source, model, device)
        print(f"'{synthetic.GetName()}' made in {time.monotonic() - started:.1f} s.")
        for warning in json.loads(synthetic.GetAttribute("SynthGAN.Warnings") or "[]"):
            print(f"warning: {warning}")
        result = volumeFromNode(synthetic)
        made_by = " ".join(synthetic.GetAttribute(f"SynthGAN.Model{part}") for part in ("Id", "Version"))
        columns = [
            sheet.Column("source", case.name, source),
            sheet.Column("synthetic", f"by {made_by}", synthetic, result.unit),
        ]
        if case.truth is not None and result.unit == "HU":
            truth, difference = nodes.add_comparison(synthetic, result, case.truth, case.body)
            columns += [
                sheet.Column("truth", "reference CT", truth, "HU"),
                sheet.Column("difference", "synthetic minus truth, in the body", difference, "HU"),
            ]
            lines, note = report.against_truth(result, case.truth, case.body)
        else:
            lines, note = report.without_truth(result, case.body)

        stem = re.sub(r"[^\w-]+", "_", synthetic.GetName()).strip("_")
        write_volume(result, work / f"{stem}.nrrd")
        centre, width = nodes.field_of_view(case.source, case.body)
        sheet.save(sheet.draw(headless, columns, synthetic.GetName(), note, centre, width), work / PICTURE)
        nodes.show_side_by_side(source, synthetic)
        save_scene(headless.scene, work / SCENE)
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Synthesize one volume in a real MRML scene.")
    parser.add_argument("--input", type=Path, help="volume file or DICOM folder; a simulated head if not given")
    parser.add_argument("--reference", type=Path, help="CT of the same patient, aligned with the input")
    parser.add_argument("--model", default="head-mr-ct", help="id or folder of a model")
    parser.add_argument("--frame", type=int, help="which volume of a 4D input, from 0")
    parser.add_argument("--output", type=Path, default=OWN_FOLDER, help="folder for the results")
    parser.add_argument("--force", action="store_true", help="replace results that are there")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 or mps")
    parser.add_argument("--seed", type=int, default=1, help="which simulated head")
    parser.add_argument("--contrast", default="T1", choices=CONTRASTS, help="of the simulated MR")
    parser.add_argument("--anatomy", type=Path, help="label map of a real head to simulate, numbered as SynthSeg's")
    chosen = parser.parse_args(arguments)
    try:
        # a misspelt model is told at once, not after the head was simulated
        card = read_card(Catalogue().find(chosen.model))
        if chosen.reference is not None and chosen.input is None:
            raise InputError("A reference needs an input volume.", next_step="Give both, or neither.")
        if chosen.anatomy is not None and chosen.input is not None:
            raise InputError("An input volume and an anatomy exclude each other.", next_step="Give one of them.")
        if chosen.input is None:
            case = phantom_case(chosen.seed, chosen.contrast, chosen.anatomy)
        else:
            case = file_case(chosen.input, chosen.reference, chosen.frame)
            check_fit(case.source, card)  # by the header, which the scene's node does not keep
            for warning in case.source.warnings:
                print(f"warning: {warning}")
        with results_of(chosen.output, chosen.force or chosen.output == OWN_FOLDER) as work:
            lines = run(case, chosen.model, chosen.device, work)
            names = sorted(path.name for path in work.iterdir())
        print("\n" + "\n".join(lines) + "\n")
        for path in (chosen.output / name for name in names):
            print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    except SynthGANError as error:
        print(f"{error} {error.next_step}".strip(), file=sys.stderr)
        return error.exit_code
    except SynthesisError as error:  # from the extension; its text ends with what to do
        print(error, file=sys.stderr)
        return EXIT_CODES.get(error.kind, 1)
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
        return 130
    except OSError as error:  # no space, no permission: the message names the file
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
