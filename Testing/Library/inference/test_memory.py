"""Memory: estimates, budgets, and the ladder down when it runs out."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_cases import Function, noise, spatial
from torch import Tensor, nn

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.inference import memory
from SynthGANLib.inference.memory import is_out_of_memory, measure_bytes_per_voxel, process_peak, tile_budget
from SynthGANLib.inference.plan import COMFORT_ON_CPU
from SynthGANLib.inference.predictor import Predictor
from SynthGANLib.inference.progress import Progress, Reporter
from SynthGANLib.inference.tiles import Task
from SynthGANLib.networks.registry import build

CPU = torch.device("cpu")
STANDIN = torch.device("meta")
"""A device without memory: networks without weights 'run' there, so it can stand in for a GPU."""


def predict(
    network: nn.Module,
    source: np.ndarray,
    device: torch.device = CPU,
    limit: int | None = None,
    **changes: object,
) -> tuple[np.ndarray, Predictor, list[Progress]]:
    told: list[Progress] = []
    task = Task(source, lambda crop: crop.astype(np.float32), None, 0.0, 1)
    with Predictor(
        network,
        spatial(**changes),
        channels=(1, 1),
        device=device,
        reporter=Reporter(told.append),
        memory=limit,
    ) as predictor:
        return predictor.predict(task), predictor, told


def remarks(told: list[Progress]) -> list[str]:
    return [progress.message for progress in told if progress.stage == "memory"]


def test_every_wording_of_exhaustion_is_known_and_nothing_else() -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("bad allocation"),
        RuntimeError("could not create a memory object"),
    ):
        assert is_out_of_memory(error)
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x")):
        assert not is_out_of_memory(error)


def test_torchs_own_failure_to_allocate_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


def test_cost_of_a_voxel_is_the_most_bytes_alive_at_once() -> None:
    def forward(x: Tensor) -> Tensor:
        wide = x.repeat(1, 6, 1, 1, 1)  # 24 bytes a voxel beside the input's 4
        wide = wide * 2  # 24 more while the first still lives
        return wide[:, :1] + 1  # 4, the first is gone

    for extent in (8, 16):
        cost = measure_bytes_per_voxel(Function(forward), (1, 1, extent, extent, extent))
        assert cost / memory.RESERVE == pytest.approx(4 + 48)


def test_convolutions_count_their_rearranged_operands() -> None:
    network = nn.Conv3d(3, 20, 1)
    cost = measure_bytes_per_voxel(network, (1, 3, 8, 8, 8))
    assert cost / memory.RESERVE == pytest.approx(4 * 3 + 4 * 20 + 4 * 16 + 4 * 32)


def test_cost_follows_the_width_and_not_the_extents() -> None:
    narrow, wide = (build("UNet", {"widths": [width, 2 * width]}) for width in (8, 16))
    costs = [measure_bytes_per_voxel(network, (1, 1, 16, 16, 16)) for network in (narrow, wide)]
    assert 1.4 < costs[1] / costs[0] < 2.1
    assert measure_bytes_per_voxel(wide, (1, 1, 32, 24, 48)) == pytest.approx(costs[1], rel=0.01)


def test_network_that_wants_whole_tiles_is_measured_on_one() -> None:
    def forward(x: Tensor) -> Tensor:
        if x.shape[-1] < 24:
            raise ValueError("too small")
        return x.clone()

    source = noise((30, 30, 30))
    result, predictor, _ = predict(Function(forward), source, tile_min=(24,) * 3, tile_max=(24,) * 3)
    np.testing.assert_allclose(result[0], source, rtol=5e-7)
    assert predictor.plans[0].bytes_per_voxel == pytest.approx(8 * memory.RESERVE)


def test_network_that_fails_on_what_its_card_allows_is_a_defect_of_the_model() -> None:
    network = build("UNet", {"widths": [4, 8, 16]})
    with pytest.raises(ModelError, match=r"fails on 6 x 8 x 8 voxels.*divisible by 4"):
        measure_bytes_per_voxel(network, (1, 1, 6, 8, 8))


def test_budget_keeps_to_what_is_asked_free_or_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    assert tile_budget(CPU, asked=500, reserved=100, smallest=50) == 400
    with pytest.raises(MemoryExhaustedError, match=r"at least 3 MiB .* the 2 MiB asked for"):
        tile_budget(CPU, asked=2 * 2**20, reserved=2**20, smallest=2 * 2**20)
    for free, smallest, expected in (
        (64 * gib, 1, COMFORT_ON_CPU),
        (64 * gib, 3 * gib, 3 * gib),
        (gib // 2, 1, int(gib // 2 * memory.SHARE_OF_FREE) - 7),
        (None, 1, COMFORT_ON_CPU),
    ):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert tile_budget(CPU, asked=None, reserved=7, smallest=smallest) == expected
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * 2**20)
    with pytest.raises(MemoryExhaustedError, match=r"at least 95 MiB .* only 100 MiB are free"):
        tile_budget(CPU, asked=None, reserved=0, smallest=95 * 2**20)
    # On a GPU in whole steps of half a GiB, so that a little more or less free memory gives the same tiles.
    for free in (10.0, 10.1):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: int(free * gib))
        assert tile_budget(torch.device("cuda"), asked=None, reserved=0, smallest=1) == 8 * gib


def test_asked_memory_limits_the_tiles() -> None:
    source = noise((32, 32, 32))
    out = source.nbytes
    cost = measure_bytes_per_voxel(Function(torch.clone), (1, 1, 8, 8, 8))
    for voxels in (8**3, 1500, 4000, 10**6):
        result, predictor, _ = predict(
            Function(torch.clone), source, limit=out + int(voxels * cost) + 1, tile_max=(32, 32, 32)
        )
        assert np.prod(predictor.plans[0].tile) <= voxels
        np.testing.assert_allclose(result[0], source, rtol=5e-7)
    with pytest.raises(MemoryExhaustedError, match="asked for"):
        predict(Function(torch.clone), source, limit=out + int(500 * cost))


def hungry(most: int, *, message: str = "CUDA out of memory.", only: str | None = None) -> Function:
    """A network that runs out of memory when given more than `most` voxels, on the device type `only` or all."""

    def forward(x: Tensor) -> Tensor:
        if x.numel() > most and (only is None or x.device.type == only):
            raise torch.OutOfMemoryError(message) if "CUDA" in message else RuntimeError(message)
        return x.clone()

    return Function(forward)


def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the planner believe in a small cost, so that a hungry network surprises it."""
    monkeypatch.setattr("SynthGANLib.inference.predictor.measure_bytes_per_voxel", lambda *_: 1.0)


@pytest.mark.parametrize("message", ["CUDA out of memory.", "DefaultCPUAllocator: can't allocate memory"])
def test_smaller_tiles_are_tried_and_told(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch)
    source = noise((40, 40, 40))
    network = hungry(1000, message=message)
    result, predictor, told = predict(network, source)
    np.testing.assert_allclose(result[0], source, rtol=5e-7)
    assert np.prod(predictor.plans[-1].tile) <= 1000
    assert 1 <= len(remarks(told)) <= 3
    assert all("Memory ran out on cpu" in text and "going on with" in text for text in remarks(told))
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)


def test_smaller_batches_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch)
    source = noise((20, 16, 16))
    result, predictor, told = predict(hungry(2 * 256), source, dims=2)
    np.testing.assert_allclose(result[0], source, rtol=5e-7)
    assert predictor.plans[0].batch == 2
    assert predictor.plans[0].tile == (1, 16, 16)
    assert [text.split("; ")[1] for text in remarks(told)] == [
        "going on with 4 tiles at a time.",
        "going on with 2 tiles at a time.",
    ]


def test_the_cpu_comes_last_and_gives_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch)
    source = noise((20, 20, 20))
    network = hungry(0, only="meta")
    result, predictor, told = predict(network, source, device=STANDIN)
    np.testing.assert_allclose(result[0], source, rtol=5e-7)
    assert predictor.device == CPU
    texts = remarks(told)
    assert "2 tiles at a time" in texts[0]
    assert "one tile at a time" in texts[1]
    assert texts[-1].endswith("going on more slowly on the CPU.")
    assert any("going on with" in text and " x " in text for text in texts)


def test_after_everything_the_refusal_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch)
    words = "with 1 x 8 x 8 x 8 voxels, the smallest the model allows"
    with pytest.raises(MemoryExhaustedError, match=words) as caught:
        predict(hungry(0), noise((20, 20, 20)))
    assert caught.value.next_step
    with pytest.raises(MemoryExhaustedError, match="16 x 16 x 16"):
        predict(hungry(0), noise((20, 20, 20)), tile_fixed=True, tile_min=(16, 16, 16))


def test_other_failures_pass_through_unchanged() -> None:
    def forward(x: Tensor) -> Tensor:
        if bool(x.any()):
            raise RuntimeError("a defect")
        return x

    with pytest.raises(RuntimeError, match=r"^a defect$"):
        predict(Function(forward), noise((8, 8, 8)))


def test_network_is_given_back_as_it_was() -> None:
    network = build("UNet", {"widths": [4, 8]}).train()
    result, _, _ = predict(network, noise((16, 16, 16)))
    assert network.training
    assert np.isfinite(result).all()
    assert not any(value.requires_grad and value.grad is not None for value in network.parameters())


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")


@LINUX
def test_peak_is_the_kernels_own_figure() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kernel = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
    assert process_peak() == pytest.approx(kernel, rel=0.01)


@pytest.mark.slow
@LINUX
def test_peak_is_not_that_of_the_program_that_started_this_one() -> None:
    child = "from SynthGANLib.inference.memory import process_peak; print(process_peak())"
    parent = f"""
        import subprocess, sys
        del [bytearray(2**29)][0]
        sys.stdout.write(subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True).stdout)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert 0 < int(done.stdout) < 2**29


@pytest.mark.slow
@LINUX
def test_a_real_limit_makes_tiles_smaller_not_results_wrong() -> None:
    """The kernel refuses memory: the process may map only little more than it has after loading."""
    script = """
        import resource, re, sys
        import numpy as np, torch
        sys.path[:0] = sys.argv[1:]
        torch.set_num_threads(1)
        from inference_cases import Function, noise, spatial
        from test_memory import predict, remarks
        import SynthGANLib.inference.predictor as predictor
        predictor.measure_bytes_per_voxel = lambda *_: 1.0  # the planner is to be surprised
        network = Function(lambda x: x.repeat(1, 64, 1, 1, 1).mean(1, keepdim=True))
        source = noise((128, 128, 128))
        predict(network, source[:8, :8, :8])
        status = open("/proc/self/status").read()
        now = int(re.search(r"VmSize:\\s+(\\d+)", status)[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (now + 200 * 2**20,) * 2)
        result, runner, told = predict(network, source, tile_max=(128, 128, 128))
        np.testing.assert_allclose(result[0], source, rtol=1e-6)
        print(len(remarks(told)), *runner.plans[-1].tile)
        """
    here = Path(__file__).resolve().parent
    helpers = here.parent / "helpers"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, (helpers, here, here.parents[2]))],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    steps, *tile = map(int, run.stdout.split())
    assert steps >= 1
    assert np.prod(tile) * 64 * 4 < 200 * 2**20
