"""Batches on a Ray cluster of two workers on this machine: killed workers lose no case, and no case is done twice."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_jobs
import pytest
from batch_cases import check_whole, files, heads, planned, statuses

import SynthGANLib
from SynthGANLib.batch.ray import MAX_DEATHS, Cluster, joined, on_cluster, work_there
from SynthGANLib.batch.run import run_batch
from SynthGANLib.errors import InputError
from SynthGANLib.files import sha256_of

pytestmark = [
    # The module is looked for and not imported: its settings are made before it is.
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra 'cluster')"),
    pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX"),
    pytest.mark.slow,
]

ROOT = Path(SynthGANLib.__file__).parents[1]
PATIENCE = 300
"""Seconds after which a process counts as stuck; nothing measured, only a way out."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers that find the library and the jobs of these tests."""
    former = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(Path(cluster_jobs.__file__).parent)))
    with joined("local", "cpu", workers=2, cpus=1) as cluster:
        yield cluster
    os.environ.clear()
    os.environ.update(former)


@pytest.fixture
def data(work: Path) -> Path:
    return heads(work / "in", *(f"p{number}.nii.gz" for number in range(1, 6)))


def log(work: Path) -> Counter[str]:
    return Counter((work / "attempts.log").read_text().splitlines())


def run(cluster: Cluster, plan: Any, work: Any, **choices: Any) -> tuple[int, dict[str, Any], list[str]]:
    """Exit code, summary, and the names of the cases as they were told."""
    told: list[str] = []
    code, summary = run_batch(
        plan, lambda outcome, *rest: told.append(outcome.case.name), execute=on_cluster(cluster, work), **choices
    )
    return code, summary, told


def kill_the_victim(work: Path) -> threading.Thread:
    """Kill -9 the worker that writes its process number, as soon as it does."""

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE
        victim = work / "victim"
        while not (victim.exists() and victim.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(int(victim.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize(("job", "computed"), [(cluster_jobs.waits_before, 1), (cluster_jobs.waits_after, 2)])
def test_a_killed_worker_loses_no_case_and_doubles_none(
    cluster: Cluster, work: Path, shelf: Path, data: Path, job: Any, computed: int
) -> None:
    thread = kill_the_victim(work)
    code, summary, told = run(cluster, planned(shelf / "tiny", data, work / "out"), job)
    thread.join()
    assert code == 0, summary
    names = [f"p{number}" for number in range(1, 6)]
    assert sorted(told) == names
    assert log(work) == {
        **{f"begun {name}": 1 for name in names},
        **{f"computed {name}": 1 for name in names},
        "begun p2": computed,
        "computed p2": computed,
    }
    assert check_whole(work / "out") == [f"{name}.nrrd" for name in names]
    assert len(files(work / "out")) == 2 * 5 + 2
    assert not [path for path in (work / "out").iterdir() if path.name.startswith(".")]
    assert run_batch(planned(shelf / "tiny", data, work / "alone"), lambda *told: None)[0] == 0
    for name in names:
        assert sha256_of(work / "out" / f"{name}.nrrd") == sha256_of(work / "alone" / f"{name}.nrrd")


def test_a_case_that_kills_its_workers_is_given_up(cluster: Cluster, work: Path, shelf: Path, data: Path) -> None:
    code, summary, _ = run(cluster, planned(shelf / "same", data, work / "out"), cluster_jobs.dies)
    assert code == 5
    assert Counter(statuses(summary).values()) == {"done": 4, "failed": 1}
    assert f"died {MAX_DEATHS} times" in summary["cases"][1]["error"]["cause"]
    assert log(work)["begun p2"] == MAX_DEATHS
    assert len(check_whole(work / "out")) == 4


def test_a_machine_that_cannot_take_part_ends_the_batch(cluster: Cluster, work: Path, shelf: Path, data: Path) -> None:
    plan = planned(shelf / "same", data, work / "out")
    with pytest.raises(InputError, match="lacks the disk") as caught:
        run(cluster, plan, cluster_jobs.refuses)
    assert caught.value.next_step == "Mount it."
    assert not (work / "out").exists()
    with pytest.raises(InputError, match="does not see the output folder"):
        work_there(plan.settings, plan.cases[0], work / "elsewhere" / "0", 1)


def test_cancelling_keeps_what_is_done_and_the_rest_follows(
    cluster: Cluster, work: Path, shelf: Path, data: Path
) -> None:
    plan = planned(shelf / "same", data, work / "out")
    out = work / "out"
    code, summary, told = run(
        cluster, plan, cluster_jobs.waits_before, cancel=lambda: out.exists() and len(list(out.glob("*.nrrd"))) > 1
    )
    assert code == 130
    assert summary["counts"]["not run"] == 5 - len(told) > 0
    assert len(check_whole(out)) == len(told)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    code, summary, _ = run(cluster, plan, cluster_jobs.noted)
    assert code == 0
    assert summary["counts"]["skipped"] == len(told)
    assert len(check_whole(out)) == 5


def test_nothing_is_reported_and_strangers_are_kept_out(cluster: Cluster) -> None:
    ray = cluster.ray
    assert ray.get(ray.remote(os.getenv).remote("RAY_USAGE_STATS_ENABLED")) == "0"
    stranger = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR')"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    run = subprocess.run(
        [sys.executable, "-c", stranger, ray.get_runtime_context().gcs_address],
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode != 0
    assert "oken" in run.stderr


def test_the_command_is_ended_by_sigterm_and_goes_on(cluster: Cluster, work: Path, shelf: Path) -> None:
    """Ray takes SIGTERM for itself when a cluster is joined; the batch ends by it in good order all the same."""
    heads(work / "in", *(f"p{number:02d}.nii.gz" for number in range(12)))
    address = cluster.ray.get_runtime_context().gcs_address
    arguments = ["batch", work / "in", "--model", "tiny-mr-ct", "--out", work / "out", "--ray", address, "--cpus", 1]
    command = [sys.executable, "-m", "SynthGANLib", *map(str, arguments), "--json"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdout
    assert first.stderr
    for line in first.stderr:
        if line.startswith("[ 1/12]"):
            break
    first.send_signal(signal.SIGTERM)
    summary = json.loads(first.communicate(timeout=PATIENCE)[0])
    assert first.returncode == 130
    done = summary["counts"]["done"]
    assert 1 <= done < 12
    assert len(check_whole(work / "out")) == done
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["counts"] == {"done": 12 - done, "skipped": done, "failed": 0, "not run": 0}
    assert "Ray " in second.stderr
    assert len(check_whole(work / "out")) == 12
