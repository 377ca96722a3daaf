"""List the bundled models after checking every file's hash and every network's answer to its test vector."""

from __future__ import annotations

import sys

from SynthGANLib.errors import ModelError
from SynthGANLib.model.catalogue import Catalogue, bundled_folders
from SynthGANLib.model.model import Model


def main() -> int:
    entries = Catalogue(bundled_folders()).models()
    if not entries:
        print("No bundled model was found.", file=sys.stderr)
        return 2
    failed = False
    for entry in entries:
        try:
            Model.load(entry.path).verify()
        except ModelError as error:
            print(f"{entry.path}: {error} {error.next_step}", file=sys.stderr)
            failed = True
        else:
            size = sum(file.stat().st_size for file in entry.path.iterdir())
            direction = f"{entry.source} to {entry.target}"
            print(f"{entry.id:<16}{entry.version:<10}{direction:<12}{size / 1e6:6.2f} MB  verified")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
