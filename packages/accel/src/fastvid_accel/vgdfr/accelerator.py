"""VGDFR as an accelerator: all frames at first, fewer from step k on, all of them again at the end.

Source: Yuan et al., VGDFR (arXiv 2504.12259), section 3.2. A preview of the clean video after k steps is decoded, alike
frames become one, and the shorter video is encoded and noised again to the level of step k. The preview is the estimate
that the sampler has made anyway; the paper's (T - k) / T in its equation 2 is right for unshifted noise levels alone,
the levels of the sampler always are. A latent of which no frame was merged stays as it was; the paper encodes it anew
as well, which costs quality and saves nothing.
"""

import os
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_accel.interfaces import AttentionOp, AttentionSite, Estimate, Step, VideoCodec
from fastvid_accel.no_acceleration import check_num_steps, full_attention
from fastvid_accel.vgdfr.config import VGDFRConfig
from fastvid_accel.vgdfr.frame_rate import (
    Candidates,
    FrameRate,
    above_threshold,
    candidates,
    for_removal,
    removal_for_lengths,
    removal_for_ratio,
    trimmed,
)
from fastvid_accel.vgdfr.record import MergeRecord
from fastvid_accel.vgdfr.restore import Interpolator, LinearInterpolator, merge_frames, restore_frames
from fastvid_accel.vgdfr.settings import read_settings
from fastvid_accel.vgdfr.similarity import frame_similarity

DEFAULTS = VGDFRConfig()
FADE = LinearInterpolator()


@final
@dataclass(frozen=True, slots=True)
class VGDFR:
    """Settings, and what fills in the frames that were left out."""

    config: VGDFRConfig = DEFAULTS
    interpolate: Interpolator = FADE

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: str | None = None) -> Self:
        """Read a file of settings, of the form that `fastvid_accel.vgdfr.settings` tells.

        Args:
            model: the name of the model at hand; these settings are for any.
        Raises:
            ValueError: no such file, or not of that form.
        """
        return cls(*read_settings(path))

    def start(
        self, *, num_steps: int, attention: AttentionOp | None = None, codec: VideoCodec | None = None
    ) -> "VGDFRSession":
        """Begin a video.

        Args:
            num_steps: number of sampler steps, more than the steps before merging. The sampler must be deterministic:
                one that adds noise of its own loses the way from the noise of step 0.
            attention: what computes self-attention; None: the transformer does.
            codec: shows the frames behind latents, and encodes frames; required.
        Raises:
            ValueError: too few steps, no codec, or one that cannot leave out the stages that previews do without.
        """
        check_num_steps(num_steps)
        if codec is None:
            raise ValueError("`codec` is None; VGDFR compares and merges decoded frames, so it needs one")
        if self.config.skipped_stages:
            codec = codec.truncated(self.config.skipped_stages)
        return VGDFRSession(self.config, self.interpolate, self.config.first_merged_step(num_steps), attention, codec)


@final
class VGDFRSession:
    """One video.

    Attributes:
        record: what was merged and why; None before step k.
        attention: what was given at the start; where blocks have positions of their own, a call that counts blocks.
        num_blocks: of the transformer, where attention calls were counted.
    """

    def __init__(
        self,
        config: VGDFRConfig,
        interpolate: Interpolator,
        start_step: int,
        attention: AttentionOp | None,
        codec: VideoCodec,
    ) -> None:
        self.record: MergeRecord | None = None
        self.config = config = config if config.positions is not None else replace(config, positions="centre")
        self._interpolate = interpolate
        self._start_step = start_step
        self._attend = attention or full_attention
        self.attention = attention if isinstance(config.positions, str) else self._count_blocks
        self._codec = codec
        self._noise: Tensor | None = None
        self.num_blocks = 0

    def begin_step(self, step: Step, /) -> None:
        """Nothing to prepare."""

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 nt nh nw"],
        step: Step,
        /,
        *,
        estimate: Estimate | None = None,
    ) -> tuple[Float[Tensor, "b c t2 h w"], Float[Tensor, "3 nt2 nh nw"] | Float[Tensor, "blocks 3 nt2 nh nw"]]:
        """The latents as they came; after step k those of the merged video, at the same noise level.

        Raises:
            ValueError: a transformer that sees several latent frames as one token, blocks in `positions` that it does
                not have, a number of frames that cannot be merged, or no `estimate` where the preview is refined.
        """
        if step.index == 0:
            self._noise = initial_noise(latents, denoised, step)
        if step.index + 1 != self._start_step:
            return latents, positions
        if positions.shape[1] != latents.shape[2]:
            raise ValueError(
                f"`positions` has {positions.shape[1]} tokens along time for {latents.shape[2]} latent frames; VGDFR"
                " needs a token of each"
            )
        self.blocks_are(self.num_blocks)
        assert self._noise is not None  # step 0 came before
        noise, self._noise = self._noise, None
        frames = self._codec.decode(self._refined(latents, denoised, step.next_sigma, estimate))
        similarity = frame_similarity(frames)
        rate = _frame_rate(candidates(similarity, self._codec.temporal_stride), self.config)
        self.record = MergeRecord(
            rate=rate,
            similarity=similarity.near[0],
            start_step=self._start_step,
            refining_steps=self.config.refining_steps,
        )
        if not rate.merges:
            return latents, positions
        kept = list(rate.kept_latents)
        clean = self._codec.encode(merge_frames(frames, rate)).to(latents)
        sigma = step.next_sigma
        merged = torch.tensor([latent in rate.merged_latents for latent in kept], device=latents.device)
        renoised = sigma * noise[:, :, kept] + (1 - sigma) * clean
        shorter = torch.where(merged.view(-1, 1, 1), renoised, latents[:, :, kept])
        return shorter, self._positions(positions, rate)

    def finish(self, frames: Float[Tensor, "b 3 T2 H W"], /) -> Float[Tensor, "b 3 T H W"]:
        """The frames that were merged, interpolated."""
        if self.record is None or not self.record.rate.merges:
            return frames
        return restore_frames(frames, self.record.rate, self._interpolate)

    def report(self) -> dict[str, Any]:
        """What was merged, see `MergeRecord.to_json`, and the settings. Empty before step k."""
        return {} if self.record is None else {**self.record.to_json(), "settings": asdict(self.config)}

    def blocks_are(self, num_blocks: int) -> None:
        """Tell how many blocks the transformer has, where attention calls cannot be counted.

        Raises:
            ValueError: `positions` names one that it does not have.
        """
        self.num_blocks = num_blocks
        chosen = self.config.positions
        if chosen is not None and not isinstance(chosen, str) and max(chosen, default=0) >= num_blocks:
            raise ValueError(f"`positions` names block {max(chosen)}; the transformer has {num_blocks}, counted from 0")

    def _refined(self, latents: Tensor, denoised: Tensor, sigma: float, estimate: Estimate | None) -> Tensor:
        """The clean latents after coarse Euler steps of one size, of which the first goes along the known estimate.

        Source: the released code's `compress_denoise_steps`, one more than ours. It takes the noise levels of the
        sampler's schedule that come next to those of equal steps; ours are those of equal steps.
        """
        count = self.config.refining_steps
        if count and estimate is None:
            raise ValueError(
                f"`refining_steps` is {count}, and this loop offers no `estimate` to refine with; set it to 0"
            )
        for index in range(count):
            assert estimate is not None
            share = (count - index) / (count - index + 1)  # of the noise that is left
            latents = denoised + share * (latents - denoised)
            sigma *= share
            denoised = estimate(latents, sigma)
        return denoised

    def _count_blocks(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]:
        self.num_blocks = site.num_blocks
        return self._attend(q, k, v, site)

    def _positions(self, positions: Tensor, rate: FrameRate) -> Tensor:
        """Of the latents that stay: counted anew, where they were, amid what they stand for, or by block."""
        local, far = positions[:, : len(rate.kept_latents)], positions[:, list(rate.kept_latents)]
        match self.config.positions:
            case "local":
                return local
            case "global":
                return far
            case "centre":
                before, behind = (list(indices) for indices in zip(*rate.middle_latents, strict=True))
                return (positions[:, before] + positions[:, behind]) / 2
            case blocks:
                assert blocks is not None  # replaced at the start
                return torch.stack([far if block in blocks else local for block in range(self.num_blocks)])


def initial_noise(
    latents: Float[Tensor, "b c t h w"], denoised: Float[Tensor, "b c t h w"], step: Step
) -> Float[Tensor, "b c t h w"]:
    """The noise from which a deterministic solver set out, told from its first step.

    The first step of any such solver is a straight line from the noise level `sigma` towards `denoised`, whether it is
    Euler's or that of a multistep method, which has no history yet. It must not be the last step, where all noise goes.
    """
    first = denoised + (step.sigma / step.next_sigma) * (latents - denoised)
    return (first - (1 - step.sigma) * denoised) / step.sigma


def _frame_rate(blocks: Candidates, config: VGDFRConfig) -> FrameRate:
    if config.threshold is not None:
        rate = above_threshold(blocks, config.threshold, highest_rate=config.highest_rate)
    else:
        assert config.keep_ratio is not None  # one of the two is given
        removed = removal_for_ratio(blocks.num_frames, blocks.stride, config.keep_ratio)
        rate = for_removal(blocks, removed, highest_rate=config.highest_rate)
    if not config.lengths:
        return rate
    return trimmed(rate, blocks, removal_for_lengths(rate.num_latents, rate.removed_latents, config.lengths))
