"""Patch training: the decoder's outer stages, which hold most of the memory, run on a part of the picture.

Source: FSVideo, section 2.2.3. Latents and the inner stages see the whole frame. The paper says "from the third-to-last
block"; the only cut that leaves three blocks is the input of stage 2. Near the patch's edges padding stands in for
pixels that were cut away, so the loss counts what no padding can have reached.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.fsae.model import FSAE
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream

CUT = 2
"""The first stage, counted from the pixels, that runs on the patch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rectangle; in cells of 8 pixels where patches are chosen, in pixels where they are compared."""

    top: int
    left: int
    height: int
    width: int

    def of(self, frames: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c T h w"]:
        return frames[:, :, :, self.top : self.top + self.height, self.left : self.left + self.width]


def margin_cells(config: FSAEConfig) -> int:
    """Cells along an inner edge that padding can reach: 7 for FSAE_STANDARD, whose outer stages see 50 pixels.

    Raises:
        ValueError: an outer stage attends to the whole frame, so nothing is out of reach.
    """
    outer = range(CUT + 1)
    if len(config.stage_kinds) <= CUT + 1:
        raise ValueError(f"`config` has {len(config.stage_kinds)} stages; patches need at least {CUT + 2}")
    if any(config.stage_kinds[stage] != "conv" for stage in outer):
        raise ValueError(f"`config.stage_kinds` has attention in the outer stages {config.stage_kinds[: CUT + 1]}")
    if any(config.injection[stage] == "deformable" for stage in outer):
        raise ValueError(
            "`config.injection` is 'deformable' in an outer stage, which looks relative to the whole frame"
        )
    # Each stage has an upsampling convolution and two in every block; a pixel more for the last convolution.
    reach = 1 + sum((1 + 2 * config.decoder_depths[stage]) << stage for stage in outer)
    return -(-reach >> (CUT + 1))


def decode_patch(
    model: FSAE, latents: Float[Tensor, "b c t h w"], reference: Float[Tensor, "b 3 H W"] | None, patch: Window
) -> tuple[Float[Tensor, "b 3 T h2 w2"], Window]:
    """A part of the decoded frames, and where in them it lies.

    Args:
        model: with a decoder whose outer stages are convolutions.
        latents: raw, of the whole video.
        reference: the whole first frame.
        patch: in cells of 8 pixels.
    Returns:
        The frames of the patch without the margin of its inner edges, and that region in pixels.
    Raises:
        ValueError: the patch leaves the frame, or nothing of it is left without its margins.
    """
    decoder, config = model.decoder, model.config
    margin, stream, noise = margin_cells(config), Stream(), Noise("off", 0.0, None)
    features = None if reference is None else model.first_frame_features(reference)
    x, offsets = decoder.start(latents, stream)
    for stage in reversed(range(CUT + 1, len(decoder.stages))):
        x, offsets = decoder.run_stage(stage, x, offsets, features, stream, noise)
    height, width = x.shape[3:]
    if min(patch.top, patch.left) < 0 or patch.top + patch.height > height or patch.left + patch.width > width:
        raise ValueError(f"`patch` is {patch}; the frame has {height} x {width} cells")
    x = patch.of(x)
    for stage in reversed(range(CUT + 1)):
        x, offsets = decoder.run_stage(stage, x, None, features, stream, noise)
    frames = decoder.finish(x, stream)
    top, bottom = _kept(patch.top, patch.height, height, margin)
    left, right = _kept(patch.left, patch.width, width, margin)
    if top >= bottom or left >= right:
        raise ValueError(f"`patch` is {patch}; without margins of {margin} cells nothing of it is left")
    cell = 1 << (CUT + 1)
    inside = Window(
        top=(top - patch.top) * cell,
        left=(left - patch.left) * cell,
        height=(bottom - top) * cell,
        width=(right - left) * cell,
    )
    region = Window(top=top * cell, left=left * cell, height=inside.height, width=inside.width)
    return inside.of(frames), region


def _kept(start: int, length: int, total: int, margin: int) -> tuple[int, int]:
    """The cells without margins; an edge of the frame itself needs none."""
    return start + (margin if start > 0 else 0), start + length - (margin if start + length < total else 0)
