"""Name the system packages that the tests need and this machine lacks, in one line for apt-get.

Runs on the bare system Python, before any environment exists, so it imports the standard library only.
Slicer's own libraries (the slicer-core wheel) need none of these to synthesize or to draw slices; the panel
tests do, since Qt's offscreen platform links against them. dicom3tools validates exported DICOM.
"""

import ctypes
import importlib.util
import pathlib
import shutil

# A shared library and the Debian package that brings it.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}


def missing() -> list:
    packages = []
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            packages.append(package)
    if not any(pathlib.Path("/usr/share/fonts").glob("**/*.[to]tf")):
        packages.append("fonts-dejavu-core")  # without any font the panel's picture has no text
    if importlib.util.find_spec("ensurepip") is None:
        packages.append("python3-venv")
    if shutil.which("dciodvfy") is None:
        packages.append("dicom3tools")  # judges the DICOM that is exported
    if shutil.which("make") is None:
        packages.append("make")
    return packages


if __name__ == "__main__":
    print(" ".join(missing()))
