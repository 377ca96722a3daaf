"""Runs a toy training in a process of its own, which a test may kill."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from training_cases import ToyFeed, gan_setup

from SynthGANLib.training.distributed import joined
from SynthGANLib.training.engine import train
from SynthGANLib.training.validate import Report


class SlowFeed(ToyFeed):
    """Gives a signal from outside time to arrive in the middle of the run."""

    def batch(self, step):
        time.sleep(0.02)
        return super().batch(step)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", type=int)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--before", type=Path, help="first a run of the same, from beginning to end, in this folder")
    parser.add_argument("--plain", action="store_true", help="without what differs between shares of a batch")
    given = parser.parse_args()
    torch.set_num_threads(1)
    setup = plain_setup() if given.plain else gan_setup(steps=given.steps)
    kind = SlowFeed if given.slow else ToyFeed
    with joined("cpu") as world:
        settings = {"seed": 5, "save_every": 4, "log_every": 2, "world": world}
        if world.first:  # as on the command line
            settings |= {"validator": lambda networks, device: Report(1.0, {}, "as good as ever"), "validate_every": 5}
        if given.before:
            train(setup, kind(setup, 5, world.rank, world.size), given.before, **settings)
        feed = kind(setup, 5, world.rank, world.size, kill=given.kill)
        outcome = train(setup, feed, given.out, resume=given.resume, **settings)
    return outcome.exit_code


def plain_setup():
    """The toy GAN without noise, dropout and batch statistics: a share of the batch says nothing of the others."""
    from training_cases import LocalNet, ToyConfig

    from SynthGANLib.recipes.base import Optimiser

    return gan_setup(
        networks={"generator": LocalNet("Judge"), "discriminator": LocalNet("Judge")},
        regime=plain_regime,
        config=ToyConfig(noise=0.0, pool=0),
        patch=(16, 16),
        optimisers={"*": Optimiser(rate=1e-3)},
    )


def plain_regime(networks, config):
    from training_cases import ToyGan

    class PlainGan(ToyGan):
        """The generator's output is enlarged to the discriminator's size; nothing is remembered."""

        def forward(self, batch, rng):
            small = self.generator(batch["source"])
            return {"fake": torch.nn.functional.interpolate(small, scale_factor=4.0)}

        def remembered(self, fake, rng):
            return fake

    return PlainGan(networks, config)


if __name__ == "__main__":
    raise SystemExit(main())
