"""`slicer.packaging`: finds what is installed as Slicer does; installing is noted, never done.

`installed` maps names to True or False for tests that say what is there; others are looked up for real.
"""

import importlib.metadata
import os
from pathlib import Path

from packaging.requirements import Requirement

installed = {}
asked = []
places = []
"""Where pip would have looked: the values of PIP_NO_INDEX and PIP_FIND_LINKS at each call."""


def load_requirements(path):
    """Requirements of a file, without comments and pip's own options."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(requirements):
    """Whether every requirement (text, Requirement or list of them) is satisfied."""
    if isinstance(requirements, (str, Requirement)):
        requirements = [requirements]
    return all(_satisfied(Requirement(str(requirement))) for requirement in requirements)


def pip_ensure(requirements, requester=None, prompt_install=True):
    """Note what would be installed, and count it as installed from here on."""
    missing = [requirement for requirement in requirements if not pip_check(requirement)]
    places.append((os.environ.get("PIP_NO_INDEX"), os.environ.get("PIP_FIND_LINKS")))
    asked.extend((str(requirement), requester, prompt_install) for requirement in missing)
    for requirement in missing:
        installed[requirement.name] = True


def _satisfied(requirement):
    if requirement.name in installed:
        return installed[requirement.name]
    try:
        return importlib.metadata.version(requirement.name) in requirement.specifier
    except importlib.metadata.PackageNotFoundError:
        return False
