"""Known truth: anatomy as a map of tissue codes (drawn, or from a label map), and its MR, CT and FDG PET images.

>>> from SynthGANLib.phantom import draw_head, simulate_ct, simulate_mr
>>> head = draw_head(seed=1, spacing=4.0)
>>> simulate_ct(head).unit, simulate_mr(head, "T2").shape == head.shape
('HU', True)
"""

from SynthGANLib.phantom.anatomy import CAVITY, body_of, mark_cavities, split_soft_tissue, tissue_codes
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import CONTRASTS, simulate_ct, simulate_fdg, simulate_mr
from SynthGANLib.phantom.tissues import HEAD_LABELS, TISSUES, Tissue

__all__ = [
    "CAVITY",
    "CONTRASTS",
    "HEAD_LABELS",
    "TISSUES",
    "Tissue",
    "body_of",
    "draw_head",
    "mark_cavities",
    "simulate_ct",
    "simulate_fdg",
    "simulate_mr",
    "split_soft_tissue",
    "tissue_codes",
]
