"""Known truth: anatomy as a map of tissue codes (drawn, or from a label map), and its MR, CT and FDG-PET images.

>>> from SynthGANLib.phantom import draw_head, simulate_ct, simulate_mr
>>> head = draw_head(seed=1, spacing=4.0)
>>> simulate_ct(head).unit, simulate_mr(head, "T2").shape == head.shape
('HU', True)
"""

from SynthGANLib.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "anatomy": "CAVITY body_of mark_cavities split_soft_tissue tissue_codes",
        "draw": "draw_head",
        "simulate": "CONTRASTS simulate_ct simulate_fdg simulate_mr",
        "tissues": "HEAD_LABELS TISSUES Tissue",
    },
)
