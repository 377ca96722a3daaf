"""Synthesis on real volumes and on one that is large."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from inference_cases import model, spatial

from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.card import SourceSpec, TargetSpec


@pytest.mark.parametrize(
    "name", ["mr_flairlike_0.75x0.75x5.5mm_oblique", "mr_abdomen_3mm_totalseg_LPS", "ct_abdomen_3mm_totalseg"]
)
def test_real_volumes_come_back_on_their_grid(shared_data: Path, name: str) -> None:
    source = read_volume(shared_data / "volumes" / f"{name}.nii.gz")
    identity = {"kind": "identity", "scale": 0.001, "offset": 0.5}
    bound = float(np.abs(source.array).max()) + 1
    same = model(
        source=SourceSpec("MR", "1"),
        target=TargetSpec("MR", "1", 0.0, (-bound, bound)),
        normalisers={"source": identity, "target": identity},
        spatial=spatial(tile_min=(32, 32, 32), tile_max=(96, 96, 96)),
    )
    result = synthesize(source, same, memory=source.array.nbytes + 2**24)
    assert result.meta["tiles"] > 1
    np.testing.assert_array_equal(result.affine, source.affine)
    np.testing.assert_allclose(result.array, source.array, atol=1e-6 * bound + 1e-3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is for Unix")
def test_a_large_volume_stays_under_three_gib() -> None:
    """512 x 512 x 400 voxels that have to be turned, in a process whose largest resident size is asked for."""
    script = """
        import sys
        sys.path[:0] = sys.argv[1:]
        import numpy as np, torch
        torch.set_num_threads(1)
        from child_memory import peak_bytes
        from inference_cases import spatial
        from test_synthesize import mr_model
        from SynthGANLib import synthesize
        from SynthGANLib.image.volume import Volume
        array = np.zeros((400, 512, 512), np.float32)
        y, x = np.ogrid[-1:1:512j, -1:1:512j]
        array[:, (y / 0.8) ** 2 + (x / 0.7) ** 2 < 1] = 500
        array[::7] *= 1.1
        wide = spatial(tile_min=(32, 32, 32), tile_max=(512, 512, 512), multiple=8)
        # 32 channels wide, so that the tiles take all the memory they are given.
        model = mr_model(lambda x: x.expand(-1, 32, -1, -1, -1).clone()[:, :1], spatial=wide)
        result = synthesize(Volume(array, np.diag([-0.8, -0.8, 1, 1])), model, device="cpu")
        assert result.shape == array.shape
        assert result.meta["tiles"] > 10
        peak = peak_bytes()
        assert result.meta["peak_memory"] <= peak
        print(peak)
        """
    here = Path(__file__).resolve().parent
    helpers = here.parent / "helpers"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, (helpers, here, here.parents[2]))],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 3 * 2**30
