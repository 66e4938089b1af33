"""The settings that the authors of AsymRnR published, read off their tables and written in our own format.

Tiers become similarities: tier t of ten is t / 10 (of Mochi's twenty, t / 20). Their thresholds, rates, strides and
windows are in each file. How they normalised is not known, so nothing else can be measured onto the same scale.
Source: the code published with AsymRnR (arXiv 2412.11706); CogVideoX-5B has no settings of its own there, those of 2B
give the operations of the paper.
"""

from importlib.resources import files

from fastvid_accel.asymrnr.accelerator import AsymRnR

RELEASED = ("cogvideox-2b", "cogvideox-5b", "hunyuanvideo", "fastvideo-hunyuan", "mochi-1")
STRENGTHS = ("base", "fast")


def released(model: str, strength: str = "base") -> AsymRnR:
    """AsymRnR as published for a model of diffusers.

    Args:
        model: one of `RELEASED`.
        strength: `base`, near lossless by the paper's account, or `fast`.
    Raises:
        ValueError: another name.
    """
    if model not in RELEASED or strength not in STRENGTHS:
        raise ValueError(
            f"`model` is {model!r} and `strength` {strength!r}; expected one of {', '.join(RELEASED)}"
            f" and one of {', '.join(STRENGTHS)}"
        )
    name = f"{model}-{strength}.json"
    return AsymRnR.parse(files(__name__).joinpath(name).read_text(encoding="utf-8"), name)
