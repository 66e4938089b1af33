"""VGDFR around the text-to-video pipelines of diffusers.

The pipeline's own loop runs. Each step of its scheduler is followed by the session's, which after step k hands back the
latents of fewer frames; the stock models take them, since they read the number of frames off the latents. Two of them
are told it as well, and get it from hooks: CogVideoX its rotary table, LTX-Video `num_frames` and the size of what it
unpacks.
"""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fastvid_accel.integrations.diffusers.codecs import codec_of
from fastvid_accel.integrations.diffusers.samplers import sampler_of
from fastvid_accel.integrations.diffusers.truncation import check_truncatable
from fastvid_accel.integrations.diffusers.vgdfr_loop import PLACED_FAMILIES, following
from fastvid_accel.vgdfr.accelerator import VGDFR
from fastvid_accel.vgdfr.record import MergeRecord

FAMILIES = {
    "CogVideoXPipeline": "cogvideox",
    "HunyuanVideoPipeline": "hunyuan",
    "LTXPipeline": "ltx",
    "MochiPipeline": "mochi",
    "WanPipeline": "wan",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedVideo:
    """What a pipeline made.

    Attributes:
        frames: as the pipeline gives them for its `output_type`; for 'latent' those of the merged video.
        record: what was merged; None where the run ended before step k.
    """

    frames: Any
    record: MergeRecord | None


@dataclass(frozen=True, slots=True)
class VGDFRPipeline:
    """A stock pipeline that makes its videos with VGDFR; called as the pipeline itself is.

    Args:
        pipe: CogVideoX, HunyuanVideo, LTX-Video, Mochi or Wan2.1, text to video.
        vgdfr: settings, and what interpolates. Stages can be left out of the autoencoders of HunyuanVideo, Wan and
            CogVideoX; previews cannot be refined, as the pipeline's loop has no calls to spare.
    Raises:
        ValueError: another pipeline, a scheduler that cannot be followed (see `sampler_of`), settings that cannot be
            followed, or positions that this family of transformers cannot be given.
    """

    pipe: Any
    vgdfr: VGDFR = field(default_factory=VGDFR)

    def __post_init__(self) -> None:
        family = self._family
        sampler_of(self.pipe.scheduler)
        if self.vgdfr.config.skipped_stages:
            check_truncatable(self.pipe.vae, self.vgdfr.config.skipped_stages)
        if self.vgdfr.config.refining_steps:
            raise ValueError(
                f"`refining_steps` is {self.vgdfr.config.refining_steps}; the pipeline's own loop calls the"
                " transformer, and cannot be asked for more calls: set it to 0"
            )
        if self.vgdfr.config.positions not in (None, "local") and family not in PLACED_FAMILIES:
            raise ValueError(
                f"`positions` is {self.vgdfr.config.positions!r}; transformers of {type(self.pipe).__name__} can only"
                " have 'local' ones, which they compute themselves"
            )
        if family == "wan" and (getattr(self.pipe, "transformer_2", None) or self.pipe.config.get("expand_timesteps")):
            raise ValueError(
                "`pipe` is Wan2.2, with a second transformer or timesteps for each token; VGDFR knows 2.1 here"
            )
        if getattr(self.pipe.transformer.config, "patch_size_t", None) not in (None, 1):
            raise ValueError(
                f"`pipe.transformer` makes one token of {self.pipe.transformer.config.patch_size_t} latent frames;"
                " VGDFR needs a token of each"
            )

    @property
    def _family(self) -> str:
        name = type(self.pipe).__name__
        if name not in FAMILIES:
            raise ValueError(f"`pipe` is a {name}; expected one of {', '.join(FAMILIES)}")
        return FAMILIES[name]

    @property
    def _with_positions(self) -> VGDFR:
        """'local' where none are chosen, which every family can have."""
        if self.vgdfr.config.positions is not None:
            return self.vgdfr
        return replace(self.vgdfr, config=replace(self.vgdfr.config, positions="local"))

    def __call__(self, *args: Any, **call: Any) -> MergedVideo:
        """Make a video.

        Raises:
            ValueError: an argument that VGDFR cannot work with.
        """
        given = inspect.signature(self.pipe.__call__).bind(*args, **call)
        given.apply_defaults()
        arguments = given.arguments
        if arguments.get("eta"):
            raise ValueError(f"`eta` is {arguments['eta']}; noise between the steps leaves the line that is followed")
        if not arguments["return_dict"]:
            raise ValueError("`return_dict` is False; what comes back is a `MergedVideo`: leave it out")
        output_type = arguments["output_type"]
        if output_type not in ("latent", "pt", "np", "pil"):
            raise ValueError(f"`output_type` is {output_type!r}; expected 'latent', 'pt', 'np' or 'pil'")
        num_steps = _num_steps(arguments)
        codec = codec_of(self.pipe.vae, _temporal_stride(self.pipe))
        session = self._with_positions.start(num_steps=num_steps, codec=codec)
        arguments |= {"output_type": "latent" if output_type == "latent" else "pt", "return_dict": False}
        with following(self.pipe, self._family, session, num_steps):
            (frames,) = self.pipe(*given.args, **given.kwargs)
        if output_type != "latent":
            with torch.no_grad():  # of an interpolator that is a network
                whole = session.finish(frames.transpose(1, 2) * 2 - 1)
            frames = self.pipe.video_processor.postprocess_video(whole, output_type=output_type)
        return MergedVideo(frames=frames, record=session.record)


def _num_steps(arguments: dict[str, Any]) -> int:
    for name in ("timesteps", "sigmas"):
        if arguments.get(name) is not None:
            return len(arguments[name])
    return int(arguments["num_inference_steps"])


def _temporal_stride(pipe: Any) -> int:
    names = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
    return int(next(getattr(pipe, name) for name in names if hasattr(pipe, name)))
