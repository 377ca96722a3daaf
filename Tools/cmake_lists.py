"""Write the lists of files in the CMake files from the tree: `make lists`.

python Tools/cmake_lists.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = "SynthGAN"
LISTS = (
    ("CMakeLists.txt", "LIBRARY_PYTHON_SCRIPTS", "SynthGANLib", ("*.py",)),
    ("SynthGAN/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS", MODULE, ("*.py",)),
    ("SynthGAN/CMakeLists.txt", "MODULE_PYTHON_RESOURCES", MODULE, ("Resources/**/*",)),
)
"""CMake file, its variable, the folder that the entries are relative to, and which files they are."""


def entries(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    """The files of a folder as CMake lists them: sorted, the module's own name as a variable."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    names = sorted(path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts)
    stem = re.compile(rf"(?:(?<=/)|^){MODULE}(?=\.\w+$)")
    return [stem.sub("${MODULE_NAME}", name) if folder.name == MODULE else name for name in names]


def with_lists(name: str, root: Path = ROOT) -> str:
    """The text of the CMake file `name` with its lists as the tree has them."""
    text = (root / name).read_text(encoding="utf-8")
    for file, variable, folder, patterns in LISTS:
        if file == name:
            lines = "".join(f"  {entry}\n" for entry in entries(root / folder, patterns))
            pattern = re.compile(rf"(set\({variable}\n).*?(\n?  \))", re.DOTALL)
            text, count = pattern.subn(lambda match, lines=lines: f"{match[1]}{lines}  )", text)
            if count != 1:
                raise SystemExit(f"{name} sets {variable} {count} times; it must be set once.")
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a list is out of date")
    given = parser.parse_args(arguments)
    stale = [name for name in dict.fromkeys(row[0] for row in LISTS)
             if with_lists(name) != (ROOT / name).read_text(encoding="utf-8")]  # fmt: skip
    for name in stale:
        print(f"{name} is out of date; run 'make lists'." if given.check else f"{name} written")
        if not given.check:
            (ROOT / name).write_text(with_lists(name), encoding="utf-8")
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
