"""``python -m SynthGANLib``: the same as the ``synthgan`` command."""

import sys

from SynthGANLib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
