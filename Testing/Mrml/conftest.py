"""A real MRML scene, the extension's logic, a simulated head, and a model that returns what it is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
for _folder in (str(ROOT / "SynthGAN"), str(ROOT)):  # the first as Slicer does it with a folder of modules
    if _folder not in sys.path:
        sys.path.insert(0, _folder)

pytest.importorskip("slicer", reason="the slicer-core wheel is not installed (make test installs it)")

from SynthGANLib.image.volume import Volume  # noqa: E402
from SynthGANLib.phantom.anatomy import body_of  # noqa: E402
from SynthGANLib.phantom.draw import draw_head  # noqa: E402
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr  # noqa: E402
from Testing.Headless.scene import HeadlessSlicer, open_scene  # noqa: E402
from Testing.Mrml.scene_cases import nodes_of  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _user_data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs are remembered in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAN_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def headless() -> Any:
    opened = open_scene()
    yield opened
    opened.close()


@pytest.fixture
def scene(headless: HeadlessSlicer) -> Any:
    """The scene, without what earlier tests put there."""
    before = {node.GetID() for node in nodes_of(headless.scene)}
    yield headless.scene
    for node in nodes_of(headless.scene):
        if node.GetID() not in before:
            headless.scene.RemoveNode(node)


@pytest.fixture(scope="session")
def logic(headless: HeadlessSlicer) -> Any:
    from SynthGAN import SynthGANLogic

    return SynthGANLogic()


@pytest.fixture(scope="session")
def head() -> dict[str, Any]:
    """A simulated head at 3 mm: `mr`, `ct` (Volume) and `body` (z, y, x)."""
    labels = draw_head(3, spacing=3.0)
    return {"mr": simulate_mr(labels, "T1", 3), "ct": simulate_ct(labels, 3), "body": body_of(labels.array)}


@pytest.fixture(scope="session")
def identity_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model "MR to CT" whose voxels are exactly those of its input."""
    import torch

    from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
    from SynthGANLib.model.model import Model
    from SynthGANLib.networks.registry import build

    unchanged = {"kind": "identity", "scale": 1.0, "offset": 0.0}
    card = Card(
        id="identity-mr-ct",
        version="1.2.3",
        title="Identity",
        description="Returns its input, so that every voxel can be followed.",
        anatomy="any",
        source=SourceSpec(modality="MR", unit="1"),
        target=TargetSpec(modality="CT", unit="HU", background=-1024.0, range=(-1024.0, 3071.0), display="CT-Bone"),
        method=MethodSpec(kind="network", name="Identity"),
        spatial=SpatialSpec(dims=3, tile_min=(8, 8, 8), tile_max=(64, 64, 64), multiple=1),
        licence="Apache-2.0",
        intended_use="Tests.",
        normalisers={"source": unchanged, "target": unchanged},
        mask="none",
        vector=VectorSpec(tolerance=0.0),
    )
    folder = tmp_path_factory.mktemp("modèle à côté") / "identity-mr-ct"
    Model.build(card, build("Identity", {}), torch.linspace(-1, 1, 512).reshape(1, 1, 8, 8, 8)).save(folder)
    return str(folder)


@pytest.fixture(scope="session")
def oblique() -> Volume:
    """Whole numbers on a grid that is oblique, anisotropic and left-handed; no voxel is like another."""
    shape = (9, 15, 12)  # z, y, x
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 900.0
    angle = np.deg2rad(17.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(angle), -np.sin(angle)], [0.0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([0.7, 1.3, -4.1])
    affine[:3, 3] = (31.25, -47.5, 12.125)
    return Volume(array, affine, "1", {"modality": "MR"})
