"""The cases of a batch as tasks of a Ray cluster.

Workers only compute, each case into a folder of its own attempt; what is finished is put in its place by the process
that started the batch. So a worker that dies loses its attempt and nothing else, and a worker thought dead that comes
back changes nothing. All machines see the inputs, the output folder and the model under the same paths.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SynthGANLib.batch.case import Outcome, Settings, failed, load_model, perform
from SynthGANLib.batch.inputs import BatchCase
from SynthGANLib.batch.run import Batch, Execute
from SynthGANLib.errors import Cancel, CancelledError, InputError, SynthGANError

if TYPE_CHECKING:
    from SynthGANLib.model.model import Model

MAX_DEATHS = 3
"""A case whose worker has died this often is given up."""

DEFAULT_CPUS, DEFAULT_WORKERS = 4, 2

_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 10.0
_OBJECT_STORE_BYTES = 80 * 2**20
"""Near the least that Ray takes: only names and records travel, volumes go through files."""

Work = Callable[[Settings, BatchCase, Path, int], Outcome]
"""Computes a case on a worker: settings, case, folder of the attempt, threads to use."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined.

    Attributes:
        ray: the module. device: "cuda" or "cpu", what every case runs on.
        cpus, gpus: what a case takes; slots: how many fit at a time.
    """

    ray: Any
    device: str
    cpus: int
    gpus: int
    slots: int

    @property
    def text(self) -> str:
        """What the cluster offers, in one line."""
        each = "a GPU" if self.gpus else f"{self.cpus} CPU core{'s' if self.cpus > 1 else ''}"
        return f"Ray {self.ray.__version__}: {self.slots} case{'s' if self.slots > 1 else ''} at a time, {each} each"


@contextlib.contextmanager
def joined(address: str, device: str, workers: int | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """Join the cluster at `address` ("auto", "host:port", "ray://host:port"), or start one here for "local".

    Args:
        device: "auto" (GPUs where the cluster has any), "cpu" or "cuda".
        workers: cases at a time on the CPUs of a local cluster. cpus: cores for a case.

    Raises:
        InputError: Ray is missing, nothing answers at the address, or the cluster has not what was asked for.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"On a cluster '{device}' names no device.", next_step="Choose auto, cpu or cuda.")
    if address == "local":
        _prepare_local()
    ray = _import_ray()
    with contextlib.ExitStack() as stack:
        if address == "local":
            count = workers or DEFAULT_WORKERS
            cpus = cpus or max(1, min(DEFAULT_CPUS, _cores() // count))
            choices = _local_choices(stack.enter_context(_scratch()), count * cpus, device)
        else:
            choices = {"address": address}
        stack.callback(ray.shutdown)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what matters of them comes as an exception as well
                ray.init(log_to_driver=False, logging_level="ERROR", **choices)
        except Exception as error:  # Ray has no class for this: a node that starts too slowly is a plain Exception
            raise _not_joined(address, error) from error
        yield _measured(ray, device, cpus)


def on_cluster(cluster: Cluster, work: Work | None = None) -> Execute:
    """What runs the cases of a batch on `cluster`; `work` is what the workers do, :func:`work_there` if left out."""

    def execute(batch: Batch, parts: Path, cancel: Cancel) -> Generator[Outcome, None, None]:
        choices = replace(batch.settings.choices, device=cluster.device)
        settings = replace(batch.settings, out=batch.settings.out.absolute(), choices=choices)
        tasks = _Tasks(cluster, work or work_there, settings, parts.absolute())
        coming = iter([replace(case, input=case.input.absolute(), mask=_absolute(case.mask)) for case in batch.cases])
        named = {case.name: case for case in batch.cases}
        try:
            while True:
                if cancel():
                    raise CancelledError("The batch was cancelled.")
                tasks.fill(coming)
                if not tasks.running:
                    return
                for outcome in tasks.finished():
                    yield replace(outcome, case=named[outcome.case.name])
        finally:
            tasks.cancel()

    return execute


class _Tasks:
    """The tasks under way; a lost one is started anew until its case has lost MAX_DEATHS workers."""

    def __init__(self, cluster: Cluster, work: Work, settings: Settings, parts: Path) -> None:
        ray = cluster.ray
        # max_calls=0: Ray would end a worker with a GPU after every task, and the model be loaded for every case.
        # max_retries=0: attempts are counted here, and each has a folder of its own.
        remote = ray.remote(max_calls=0, max_retries=0, num_cpus=cluster.cpus, num_gpus=cluster.gpus)
        self._start = remote(work).remote
        self._ray = ray
        self._settings = ray.put(settings)
        self._cluster = cluster
        self._parts = parts
        self._number = 0
        self.running: dict[Any, tuple[BatchCase, int]] = {}

    def fill(self, coming: Iterator[BatchCase]) -> None:
        """Start cases until some wait behind those that run."""
        while len(self.running) < 3 * self._cluster.slots + 1:
            case = next(coming, None)
            if case is None:
                return
            self._submit(case, deaths=0)

    def finished(self) -> Iterator[Outcome]:
        """The outcomes that came within a moment."""
        ready, _ = self._ray.wait(list(self.running), num_returns=1, timeout=_POLL_SECONDS)
        errors = self._ray.exceptions
        for task in ready:
            case, deaths = self.running.pop(task)
            try:
                yield self._ray.get(task)
            except errors.RayTaskError as error:
                raise _machine_trouble(error) from error
            except errors.RayError as error:  # the worker, its machine or the way to it is gone
                if deaths + 1 < MAX_DEATHS:
                    self._submit(case, deaths + 1)
                    continue
                yield failed(case, _given_up(error))

    def cancel(self) -> None:
        """End what still runs, and wait a little for it: the folders of its attempts are removed next."""
        for task in self.running:
            self._ray.cancel(task, force=True)
        if self.running:
            self._ray.wait(list(self.running), num_returns=len(self.running), timeout=_CANCEL_SECONDS)

    def _submit(self, case: BatchCase, deaths: int) -> None:
        part = self._parts / str(self._number)
        self._number += 1
        task = self._start(self._settings, case, part, self._cluster.cpus)
        self.running[task] = (case, deaths)


def work_there(settings: Settings, case: BatchCase, part: Path, threads: int) -> Outcome:
    """Compute a case on a worker; the model is kept for the next one.

    Raises:
        InputError, ModelError: this machine cannot take part.
    """
    if not part.parent.is_dir():
        raise InputError(
            f"The machine '{socket.gethostname()}' does not see the output folder '{settings.out}'.",
            next_step="Put inputs, output folder and model on a disk that all machines have under the same path.",
        )

    def load() -> Model:
        import torch

        torch.set_num_threads(threads)
        return _kept_model(settings)

    return perform(case, settings, load, part)


_models: dict[tuple[str, str], Any] = {}
"""The model that this worker has loaded, by digest and device; one at most."""


def _kept_model(settings: Settings) -> Model:
    key = (settings.digest, settings.choices.device)
    if key not in _models:
        _models.clear()
        _models[key] = load_model(settings)
    model: Model = _models[key]
    return model


def _import_ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported and started: it reports to nobody
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            f"Ray cannot be loaded ({_first_line(error)}).", next_step="Install it: pip install 'synthgan[cluster]'."
        ) from error


def _local_choices(scratch: str, cpus: int, device: str) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "_temp_dir": scratch,
    }
    return {**choices, "num_gpus": 0} if device == "cpu" else choices


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder for Ray's sockets and logs; its path must be short."""
    folder = tempfile.mkdtemp(prefix="synthgan-ray-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a log still open on Windows stays, and does no harm


def _prepare_local() -> None:
    """Settings that Ray takes from the environment only, left alone where the user has made them.

    A token is demanded of everybody who talks to a local cluster, which listens on the network and runs what it is
    told. Ray reads that mode when it is imported; where that was done before it is left at Ray's own default.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray lets its workers step back behind everything else
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _not_joined(address: str, error: BaseException) -> InputError:
    if address == "local":
        return InputError(
            f"No Ray cluster could be started on this machine ({_first_line(error)}).",
            next_step="See what 'ray start --head' says, or run the batch without --ray.",
        )
    return InputError(
        f"No Ray cluster could be joined at '{address}' ({_first_line(error)}).",
        next_step="Start one with 'ray start --head' and give its address, or use --ray local.",
    )


def _measured(ray: Any, device: str, cpus: int | None) -> Cluster:
    """The cluster with what a case takes there."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if device == "cuda" and not gpus:
        raise InputError("The cluster has no GPU.", next_step="Choose the device auto or cpu.")
    if gpus and device != "cpu":
        return Cluster(ray, "cuda", 1, 1, gpus)
    most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    wanted = cpus or max(1, min(DEFAULT_CPUS, most))
    slots = sum(int(node.get("CPU", 0)) // wanted for node in nodes)
    if not slots:
        raise InputError(
            f"No machine of the cluster has {wanted} CPU core{'s' if wanted > 1 else ''}; the largest has {most}.",
            next_step="Ask for fewer with --cpus.",
        )
    return Cluster(ray, "cpu", wanted, 0, slots)


def _machine_trouble(error: Any) -> SynthGANError:
    """What a worker raised that is no fault of its case."""
    cause = error.cause
    if isinstance(cause, SynthGANError):
        return cause
    return InputError(
        f"A worker of the cluster could not begin its case ({_first_line(cause or error)}).",
        next_step="Install the same versions of Python, Ray and SynthGAN on all machines.",
    )


def _given_up(error: BaseException) -> SynthGANError:
    return SynthGANError(
        f"The worker died {MAX_DEATHS} times while it was computing this case ({type(error).__name__}).",
        next_step="Give a case less with --memory, or try it alone with 'synthgan synthesize'.",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(". ")


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
