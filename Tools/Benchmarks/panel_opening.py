"""How long the module takes to be imported and the panel to be opened, once, as one JSON object on the last line.

In an environment with slicer-core and PySide6 (the panel tests' host), or in Slicer, with the module's folder among its
module paths: `Slicer --no-splash --python-script Tools/Benchmarks/panel_opening.py`.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Spent(dict):
    """Seconds by the clock and of the processor."""

    def __sub__(self, other):
        return Spent({kind: self[kind] - other[kind] for kind in self})


def moment():
    """Now."""
    return Spent(wall_s=time.perf_counter(), cpu_s=time.process_time())


def measured(application):
    """Seconds of the import and of the opening, and what is loaded that should not be."""
    import slicer

    begin = moment()
    importlib.import_module("SynthGAN")
    imported = moment()
    if application is None:  # Slicer has registered the module at its start
        ready = imported
        slicer.util.selectModule("SynthGAN")
    else:
        application.moduleManager().load()
        ready = moment()
        widget = application.moduleManager().module("SynthGAN").widgetRepresentation()
        widget.enter()
        widget.show()
    slicer.app.processEvents()
    opened = moment()
    heavy = [name for name in ("torch", "SimpleITK", "pydicom", "monai", "safetensors") if name in sys.modules]
    times = {"import": imported - begin, "open": opened - ready}
    return {f"{name}_{kind}": spent[kind] for name, spent in times.items() for kind in spent} | {"loaded": heavy}


def main():
    import slicer

    if getattr(slicer, "app", None) is not None:
        for name in [name for name in sys.modules if name.split(".")[0] in ("SynthGAN", "SynthGANPanel")]:
            del sys.modules[name]  # imported at Slicer's start: once more, without what was compiled then being lost
        answer = measured(None)
    else:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        sys.path[:0] = [str(ROOT / "Testing" / "Panel"), str(ROOT), str(ROOT / "SynthGAN")]
        import host

        application = host.start()
        heavy = [name for name in ("torch", "SimpleITK", "pydicom") if name in sys.modules]
        answer = measured(application)
        answer["loaded"] = [name for name in answer["loaded"] if name not in heavy]
        application.close()
    print(json.dumps(answer), flush=True)
    if "host" not in sys.modules:
        slicer.app.exit(0)


main()
