"""What several panel tests need: a volume, patience, and whether a process is alive."""

import os
import time
from pathlib import Path

import numpy as np
import slicer


def addVolume(array, name):
    """A volume node on an oblique grid with unequal spacing."""
    from SynthGANPanel import selftest

    turn = np.eye(4)
    turn[:3, :3] = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    return selftest.addVolume(array, turn @ np.diag([0.9, 1.1, 2.5, 1.0]), name)


def waitUntil(condition, seconds=60.0):
    """Let the event loop run until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        slicer.app.processEvents()
        time.sleep(0.01)


def isAlive(pid):
    """Whether a process exists; one that has ended but was not yet cleared away by its new parent does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():  # macOS
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def nodeState(scene):
    """Every node's id, class, name and time of last change, but for the panel's own parameters."""
    state = {}
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if not node.IsA("vtkMRMLScriptedModuleNode"):
            state[node.GetID()] = (node.GetClassName(), node.GetName(), node.GetMTime())
    return state
