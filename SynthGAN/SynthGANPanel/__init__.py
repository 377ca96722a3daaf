"""What stands behind the SynthGAN panel: MRML nodes, the child process, side-by-side views, packages.

Nothing here imports `qt` or `ctk` at import time, so the same code serves the desktop application and a
Slicer without Qt (the `slicer-core` wheel).
"""
