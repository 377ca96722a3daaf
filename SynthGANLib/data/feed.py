"""What a training sees: batches decided by (seed, step, rank) alone, and the cases it is validated on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState, SeedSequence
from torch import Tensor

from SynthGANLib.data.cases import UNMASKED, Corrupt, Loaded, Spatial, about, load_case
from SynthGANLib.data.datalist import Case, DataList, Kind, Side
from SynthGANLib.data.degradations import Degradation, degradation_of, in_words
from SynthGANLib.data.faults import Progress, all_of
from SynthGANLib.data.pairs import CaseHook, Comparison, PairReport, do_nothing
from SynthGANLib.data.patches import Augment, Cutter, Shape, View, views
from SynthGANLib.data.scaling import Scaling, choose
from SynthGANLib.errors import InputError
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.recipes.base import Setup

CACHE = 8 * 2**30
"""Bytes of prepared cases kept in memory; the least recently used beyond are read again when wanted."""

_PAIR = ("source", "target")


@dataclass(frozen=True)
class Stream:
    """Cases that are drawn from together: `suffix` of the batch's keys, sides wanted, and the cases' indices.

    `folds`: the pool parted by subject, for a training that keeps estimates of a case apart from its own target.
    """

    suffix: str
    sides: tuple[str, ...]
    pool: tuple[int, ...]
    folds: tuple[tuple[int, ...], ...] = ()


class Feed:
    """The data of one process of a training run.

    Attributes:
        normalisers: "source" and "target" -> fields of the normaliser for the model card; "source" is missing where
            there is none. Those that fit themselves to a volume are unfitted.
        scalings: the same sides -> all that turns a volume into network numbers.
        batch_size: items of a batch of this process.
        corrupt: makes the sources from the targets; None where they are the list's own, or not wanted.
    """

    def __init__(
        self,
        cases: DataList,
        setup: Setup,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cache: int = CACHE,
        needs: Kind | None = None,
        spatial: Spatial | None = None,
        augment: Augment | None = None,
        corrupt: Corrupt | None = None,
        workers: int = 0,
    ) -> None:
        """Nothing is read yet, except where a normaliser depends on the training set.

        Args:
            cases: the data list. setup: gives dims, patch, batch (of all processes together), channels, normalisers,
                and `corrupt`, by which the sources of pairs are made where the list has no sources.
            seed: decides every draw. rank, world: this process and how many there are.
            cache: see `CACHE`.
            needs: kind of data to draw, if another than the list's: an unpaired recipe can be fed from pairs.
            spatial: grid and planes; LPS, the images' own spacing and axial slices if None.
            augment: random changes of the patches; the defaults of `Augment` if None.
            corrupt: makes the sources from the targets, whatever list and setup say; each case is degraded once.
            workers: threads that draw ahead; they change when a batch is drawn, never what it holds.

        Raises:
            InputError: the list does not serve what is needed, its channels are not the networks', the batch cannot
                be shared by the processes, MONAI is missing, or a file that has to be read is at fault.
            ModelError: a normaliser's fields.
        """
        if seed < 0 or not 0 <= rank < world or workers < 0:
            raise InputError(f"Seed {seed}, rank {rank} of {world} and {workers} workers make no sense together.")
        if setup.batch % world:
            raise InputError(
                f"A batch of {setup.batch} cannot be shared by {world} processes.",
                next_step=f"Choose a batch that is a multiple of {world}.",
            )
        self.data, self.setup, self.seed, self.rank, self.world = cases, setup, seed, rank, world
        self.spatial, self.augment = spatial or Spatial(), augment or Augment()
        self.kind: Kind = needs or cases.kind
        self.batch_size = setup.batch // world
        self.corrupt = corrupt or self._degradation()
        if self.corrupt is None:
            cases.require("the recipe", self.kind)
        self.streams = tuple(self._folded(stream) for stream in self._streams())
        self.sides = {name: self._side(name) for name in _PAIR if any(name in s.sides for s in self.streams)}
        self._check_channels()
        self._shape = Shape(setup.patch, self.spatial.axis, self.spatial.orientation, self.spatial.neighbours)
        self.scalings = self._scalings()
        self.normalisers = {name: scaling.normaliser.to_json() for name, scaling in self.scalings.items()}
        self._cutter = self._make_cutter()
        self._cache: OrderedDict[tuple[int, tuple[str, ...]], list[View]] = OrderedDict()
        self._cache_bytes, self._lock = cache, Lock()
        self._kept: dict[int, Loaded] = {}
        self._orders: dict[tuple[int, int], tuple[int, Array]] = {}
        self._pool = ThreadPoolExecutor(workers, "feed") if workers else None
        self._workers = workers
        self._ahead: dict[int, Future[dict[str, Tensor]]] = {}

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step (0, 1, ...): (B, C, [z,] y, x) float32 by key, and "label" (B,) int64 if there are any.

        Keys are those of `regimes.base.Batch`; "mask" is 1 in the body, and "weight" and "regions" (label numbers)
        are there if the list has them. Where the setup's config has `folds`, all items of a batch are of one fold, and
        "fold" (B,) int64 says which.
        """
        if self._pool is None:
            return self._draw(step)
        wanted = range(step, step + 1 + self._workers)
        for ahead in wanted:
            if ahead not in self._ahead:
                self._ahead[ahead] = self._pool.submit(self._draw, ahead)
        for stale in [number for number in self._ahead if number not in wanted]:
            self._ahead.pop(stale).cancel()
        return self._ahead.pop(step).result()

    @property
    def origin(self) -> str:
        """A sentence on where the sources come from, for a setup that could also make them; "" for all others."""
        if self.corrupt is not None:
            return f"The sources are made of the targets by {in_words(self.degradation)}."
        known = degradation_of(self.setup.corrupt)
        return f"The sources are those of the data list; {known.kind} is not used." if known else ""

    @property
    def degradation(self) -> dict[str, Any]:
        """Kind and arguments of what makes the sources; empty where they are not made."""
        if isinstance(self.corrupt, Degradation):
            return self.corrupt.to_json()
        return {} if self.corrupt is None else {"kind": getattr(self.corrupt, "__name__", "a function")}

    def close(self) -> None:
        """Stop the threads that draw ahead."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @cached_property
    def validation(self) -> tuple[Loaded, ...]:
        """The validation cases in the units the model takes and promises, on the training's grid; read once."""
        return tuple(all_of([partial(self._validated, number) for number in range(len(self.data.validation))]))

    def check(self, progress: Progress | None = None, cancel: Callable[[], None] | None = None) -> PairReport | None:
        """Prepare every case that is drawn from or validated on, each once, and compare the sides of those of pairs.

        Returns what was found of the pairs; None where none are learned from, or their sources are made here.

        Raises:
            InputError: the cases that cannot be trained on, all in one; and what `cancel`, called before each, raises.
        """
        paired = self.corrupt is None and any(stream.sides == _PAIR for stream in self.streams)
        hook = Comparison() if paired else do_nothing

        def prepare(index: int) -> None:
            for stream in self.streams:
                if index in stream.pool:
                    self._views(index, stream.sides, hook)

        jobs: list[Callable[[], object]] = [partial(prepare, index) for index in range(len(self.data.training))]
        jobs += [partial(self._validated, number, hook) for number in range(len(self.data.validation))]
        all_of(jobs, progress=progress, cancel=cancel)
        return hook.report(self.data.name) if isinstance(hook, Comparison) else None

    def network(self, loaded: Loaded) -> dict[str, Tensor]:
        """Network numbers (C, z, y, x) of a validation case, by "source", "target" and "mask", whole and uncut."""
        arrays, body = self._arrays(loaded, _PAIR)
        found = {}
        for key, array in arrays.items():
            first = array[np.newaxis] if array.ndim == 3 else array.transpose(3, 0, 1, 2)  # (z, y, x[, c]) -> (c, ...)
            found[key] = torch.from_numpy(np.ascontiguousarray(first))
        if body is not None:
            found["mask"] = torch.from_numpy(body[np.newaxis].astype(np.float32))
        return found

    def describe(self) -> dict[str, Any]:
        """What the model card and the log say about the data; plain JSON."""
        cases = self.data.training
        return {
            "name": self.data.name,
            "description": self.data.description,
            "list_sha256": self.data.sha256,
            "kind": self.data.kind,
            "drawn_as": self.kind,
            "split": dict(self.data.split),
            "training": {"cases": len(cases), "subjects": len({case.subject for case in cases})},
            "validation": {
                "cases": len(self.data.validation),
                "subjects": len({case.subject for case in self.data.validation}),
            },
            "sides": {name: side.to_json() for name, side in self.sides.items()},
            "normalisers": self.normalisers,
            "degradation": self.degradation,
            "target_units": self._target_units(),
            "mask": "none" if next(iter(self.sides.values())).unit in UNMASKED else "body",
            "spatial": {**asdict(self.spatial), "patch": list(self.setup.patch)},
            "augment": asdict(self.augment),
            "seed": self.seed,
        }

    # What is drawn

    def _draw(self, step: int) -> dict[str, Tensor]:
        items = [self._item(step, number) for number in range(self.rank, self.setup.batch, self.world)]
        return {key: torch.stack([item[key] for item in items]) for key in items[0]}

    def _item(self, step: int, number: int) -> dict[str, Tensor]:
        """Item `number` of the batch that all processes draw together."""
        item: dict[str, Tensor] = {}
        for place, stream in enumerate(self.streams):
            fold, index = self._index(place, stream, step, number)
            random = RandomState(SeedSequence((self.seed, 1, place, step, number)).generate_state(4))
            several = self._views(index, stream.sides)
            patch = self._cutter.draw(several[random.randint(len(several))], random)
            lone = stream.sides != _PAIR and self.kind != "unconditional"
            item |= {key + stream.suffix: image for key, image in patch.items() if not lone or key in _PAIR}
            label = self.data.training[index].label
            if label is not None and "target" in stream.sides:
                item["label" + stream.suffix] = torch.tensor(label)
            if stream.folds:
                item["fold" + stream.suffix] = torch.tensor(fold)
        return item

    def _index(self, place: int, stream: Stream, step: int, number: int) -> tuple[int, int]:
        """The fold that a step draws from (0 without folds), and its case: every epoch is a permutation of the pool."""
        pools = stream.folds or (stream.pool,)
        turn, fold = divmod(step, len(pools))
        pool = pools[fold]
        epoch, position = divmod(turn * self.setup.batch + number, len(pool))
        known = self._orders.get((place, fold))
        if known is None or known[0] != epoch:
            key = (self.seed, 2, place, epoch, fold) if stream.folds else (self.seed, 2, place, epoch)
            order = np.random.default_rng(SeedSequence(key)).permutation(len(pool))
            known = self._orders[place, fold] = (epoch, order)
        return fold, pool[int(known[1][position])]

    def _streams(self) -> tuple[Stream, ...]:
        every = self.data.training
        pairs = tuple(index for index, case in enumerate(every) if case.paired)
        has = {side: tuple(index for index, case in enumerate(every) if getattr(case, side)) for side in _PAIR}
        if self.kind == "unconditional":
            return (Stream("", ("target",), has["target"]),)
        if self.kind == "unpaired":
            return tuple(Stream("", (side,), has[side]) for side in _PAIR)
        both = Stream("", _PAIR, pairs if self.corrupt is None else has["target"])
        if self.kind == "mixed":
            return (both, *(Stream("_unpaired", (side,), has[side]) for side in _PAIR))
        return (both,)

    def _folded(self, stream: Stream) -> Stream:
        """The stream with its cases parted by subject, where the setup's config asks for folds."""
        count = int(getattr(self.setup.config, "folds", 0))
        if not count:
            return stream
        every = sorted({self.data.training[index].subject for index in stream.pool})
        if len(every) < count:
            raise InputError(
                f"The data list '{self.data.name}' has {len(every)} subjects to train on, and {count} folds are asked.",
                next_step="Set config.folds to fewer, or to 0 for none.",
            )
        order = np.random.default_rng(SeedSequence((self.seed, 4))).permutation(len(every))
        fold_of = {every[subject]: place % count for place, subject in enumerate(order)}
        folds = [[i for i in stream.pool if fold_of[self.data.training[i].subject] == fold] for fold in range(count)]
        return replace(stream, folds=tuple(tuple(fold) for fold in folds))

    # What it is drawn from

    def _degradation(self) -> Degradation | None:
        """What the setup makes sources by, where pairs are wanted and the list has targets only."""
        wanted = self.kind == "paired" and self.data.source is None
        return degradation_of(self.setup.corrupt) if wanted else None

    def _side(self, name: str) -> Side:
        return self.data.side("target" if self.corrupt else name)

    def _check_channels(self) -> None:
        if len(self.setup.patch) != self.setup.dims:
            raise InputError(f"A patch of {self.setup.patch} does not have {self.setup.dims} dimensions.")
        if self.spatial.neighbours and self.setup.dims == 3:
            raise InputError("Neighbouring slices are for two dimensions only.", next_step="Set neighbours to 0.")
        for name, wanted in zip(_PAIR, self.setup.channels, strict=True):
            if name not in self.sides:
                continue
            slices = 1 + 2 * self.spatial.neighbours if name == "source" else 1
            given = self.sides[name].channels * slices
            if given != wanted:
                raise InputError(
                    f"The data list '{self.data.name}' gives {given} {name} channels"
                    + (f" ({slices} slices of {self.sides[name].channels})" if slices > 1 else "")
                    + f", and the recipe's networks take {wanted}.",
                    next_step="Choose another size of the recipe, another list or another number of neighbours.",
                )

    def _scalings(self) -> dict[str, Scaling]:
        found = {}
        for name, side in self.sides.items():
            stream = next(stream for stream in self.streams if name in stream.sides)
            cases = partial(self._load_all, stream)
            found[name] = choose(name, side, self.setup.normalisers.get(name, "auto"), cases)
        return found

    def _load_all(self, stream: Stream) -> list[Loaded]:
        return all_of([partial(self._load, self.data.training[i], stream.sides, i) for i in stream.pool])

    def _load(self, case: Case, sides: tuple[str, ...], number: int) -> Loaded:
        seed = int(SeedSequence((self.seed, 3, number)).generate_state(1)[0])
        return load_case(case, self.data, self.spatial, sides=sides, corrupt=self.corrupt, seed=seed)

    def _validated(self, number: int, hook: CaseHook = do_nothing) -> Loaded:
        """A validation case, kept from its check on."""
        if number not in self._kept:
            loaded = hook(self._load(self.data.validation[number], _PAIR, 2**20 + number))
            with about(loaded.case):
                self._kept[number] = self._physical(loaded)
        return self._kept[number]

    def _physical(self, loaded: Loaded) -> Loaded:
        def scaled(name: str, volume: Volume | None, body: Array | None) -> Volume | None:
            return None if volume is None else self.scalings[name].physical(volume, body)

        return replace(
            loaded,
            source=scaled("source", loaded.source, loaded.source_body) if "source" in self.scalings else None,
            target=scaled("target", loaded.target, loaded.target_body) if "target" in self.scalings else None,
        )

    def _arrays(self, loaded: Loaded, sides: tuple[str, ...]) -> tuple[dict[str, Array], Array | None]:
        """Network numbers (z, y, x[, c]) by side of a case in physical units, and its body."""
        images = {"source": (loaded.source, loaded.source_body), "target": (loaded.target, loaded.target_body)}
        arrays, body = {}, None
        for name in sides:
            volume, where = images[name]
            if volume is not None and name in self.scalings:
                arrays[name] = self.scalings[name].network(volume, where)
                body = where
        return arrays, body

    def _views(self, index: int, sides: tuple[str, ...], hook: CaseHook = do_nothing) -> list[View]:
        """What a training case's patches are cut from, prepared once and kept while there is room."""
        key = (index, sides)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            prepared = self._prepared(index, sides, hook)
            self._cache[key] = prepared
            held = {name: sum(view.bytes for view in several) for name, several in self._cache.items()}
            while sum(held.values()) > self._cache_bytes and len(self._cache) > 1:
                oldest, _ = self._cache.popitem(last=False)
                del held[oldest]
            return prepared

    def _prepared(self, index: int, sides: tuple[str, ...], hook: CaseHook) -> list[View]:
        loaded = hook(self._load(self.data.training[index], sides, index))
        with about(loaded.case):
            loaded = self._physical(loaded)
            arrays, body = self._arrays(loaded, sides)
        shape = next(iter(arrays.values())).shape[:3]
        for name, extra, default in (("weight", loaded.weight, 1.0), ("regions", loaded.regions, 0.0)):
            if any(getattr(case, name) for case in self.data.training):
                arrays[name] = np.full(shape, default, np.float32) if extra is None else extra
        return views(arrays, body, self._shape)

    def _make_cutter(self) -> Cutter:
        smooth = tuple(name for name, side in self.sides.items() if side.unit != "label")
        absent = -1.0
        if "source" in self.scalings and self.sides["source"].unit == "label":
            absent = float(self.scalings["source"].normaliser.apply(np.zeros(1, np.float32))[0])
        return Cutter(self._shape, self.augment, smooth=smooth, absent=absent)

    def _target_units(self) -> str:
        if "target" in self.scalings and self.scalings["target"].per_case:
            return "arbitrary: 0 and 1000 are the 0.5 and 99.5 percentiles inside the body"
        return self.sides["target"].unit if "target" in self.sides else ""
