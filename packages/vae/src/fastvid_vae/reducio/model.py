"""Reducio-VAE: latents hold the motion, a content frame the rest. Source: Reducio, section 3.1."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NoReturn, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_vae import checkpoint
from fastvid_vae.arguments import check_crop, check_frames, check_latents
from fastvid_vae.overhang import Layout
from fastvid_vae.posterior import Posterior
from fastvid_vae.reducio import inputs, memory
from fastvid_vae.reducio.blocks import conv
from fastvid_vae.reducio.config import ReducioConfig
from fastvid_vae.reducio.decoder import FusionDecoder
from fastvid_vae.reducio.encoder import ContentEncoder, VideoEncoder
from fastvid_vae.reducio.passes import Pieces, decode_clip, encode_clip, pad_to_clips, split_clips

NORM_EPS = 1e-5


class ReducioVAE(nn.Module):
    """Frames in [-1, 1] <-> normalised latents, at `stride` (time, height, width), in clips of `config.num_frames`.

    Nothing is causal, and clips know nothing of one another. The latents of every clip are normalised as one: mean 0
    and standard deviation 1 over all their elements. The decoder is given one content frame a clip, its middle one, in
    pixels (`reference`), whose features enter it as `config.fusion` says.
    """

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.config = config
        self.encoder_3d = VideoEncoder(config)
        self.encoder_2d = ContentEncoder(config)
        self.decoder = FusionDecoder(config)
        self.quant_conv = conv(3, 2 * channels, 2 * channels, 1)
        self.post_quant_conv = conv(3, channels, channels, 1)
        self._pieces: Pieces | None = None  # set inside `tiled` only; None tiles what exceeds the memory budget

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Args:
            path_or_repo_id: a folder, or a repository of the hub (owner/name).
            subfolder: where in it the autoencoder lies, as in the folder of a pipeline.
            revision: branch, tag or commit on the hub.
            dtype: of the weights in memory; None is float32, whatever the files hold.
            device: None is the CPU.
            local_files_only: never ask the hub.
        Raises:
            CheckpointError: the folder is not there, incomplete, damaged, or of another model.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        model = checkpoint.build_empty(cls, checkpoint.read_config(folder, ReducioConfig, cls.__name__))
        checkpoint.load_weights(model, folder, dtype=dtype, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; the folder is never seen half-written."""
        checkpoint.save(self, self.config, directory)

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.config.stride

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    @property
    def takes_reference(self) -> bool:
        """Whether `decode` has a use for a reference; where it has none, it refuses one, and else demands it."""
        return self.config.fusion != "none"

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video of `num_frames` frames, padded to whole clips."""
        if num_frames < 1:
            raise ValueError(f"`num_frames` is {num_frames}; expected at least 1 (nearest legal values: 1 and 2)")
        step = self._clip_latents or 1
        return -(-num_frames // (step * self.stride[0])) * step

    def content_frames(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 3 clips H W"]:
        """The middle frame of every clip that `encode` makes of the video: what `decode` takes as `reference`.

        Of a clip of L frames, padding included, it is frame (L - 1) // 2.
        """
        check_frames(frames)
        total = self.num_latent_frames(frames.shape[2]) * self.stride[0]
        length = total if self._clip_latents is None else self._clip_latents * self.stride[0]
        last = frames.shape[2] - 1
        middles = [min(start + (length - 1) // 2, last) for start in range(0, total, length)]
        return torch.stack([frames[:, :, middle] for middle in middles], dim=2)

    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None, pad: bool = True
    ) -> Float[Tensor, "b c t h w"]:
        """Normalised latents. Any number of frames and any size: the last frame and the border are repeated to fit.

        Args:
            frames: pixels in [-1, 1].
            generator: given, the latents are sampled from the posterior; None takes its mean.
            pad: False refuses frames that are not whole clips of whole latent cells.
        """
        posterior = self.posterior(frames, pad=pad)
        raw = posterior.mean if generator is None else posterior.sample(generator)
        return torch.cat([normalise(clip) for clip in split_clips(raw, self._clip_latents)], dim=2)

    def posterior(self, frames: Float[Tensor, "b 3 T H W"], *, pad: bool = True) -> Posterior:
        """What `encode` knows before it normalises, of all clips; training holds it near the standard normal."""
        check_frames(frames)
        time, space, _ = self.stride
        clip = None if self._clip_latents is None else self._clip_latents * time
        if not pad:
            inputs.check_unpadded(frames, clip=clip, strides=self.stride)
        frames = pad_to_clips(frames, clip=clip or time, stride=space)
        clips = split_clips(frames, clip)
        pieces = self._pieces or self._automatic(self.config.widths[0], clips[0], clips[0].shape[2:])
        return Posterior.from_moments(
            torch.cat([encode_clip(self._moments, clip, pieces, space) for clip in clips], dim=2)
        )

    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | Float[Tensor, "b 3 clips H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b 3 T H W"]:
        """Frames, cropped to `num_frames` and `size`.

        Args:
            latents: normalised, as `encode` returns them; whole clips.
            reference: the content frames in [-1, 1], of the size of the video: one (b 3 H W) where the latents are one
                clip, else one a clip; `content_frames` picks them. None where, and only where, nothing is fused.
            num_frames, size: what to crop to; None: all that the latents hold.
        """
        check_latents(latents, channels=self.latent_channels)
        time, space, _ = self.stride
        inputs.check_clips(latents.shape[2], self._clip_latents)
        check_crop(num_frames, size, (latents.shape[2] * time, latents.shape[3] * space, latents.shape[4] * space))
        clips = split_clips(latents, self._clip_latents)
        content = inputs.content_frames(reference, latents, num_clips=len(clips), config=self.config, size=size)
        pictures: Sequence[Tensor | None] = [None] * len(clips)
        if content is not None:
            pictures = pad_to_clips(content, clip=1, stride=space).unbind(2)
        full = (clips[0].shape[2] * time, latents.shape[3] * space, latents.shape[4] * space)
        pieces = self._pieces or self._automatic(max(self.config.widths[:2]), latents, full)
        frames = torch.cat(
            [
                decode_clip(self._frames, self.encoder_2d, clip, picture, pieces, space)
                for clip, picture in zip(clips, pictures, strict=True)
            ],
            dim=2,
        )
        height, width = size or frames.shape[3:]
        return frames[:, :, : num_frames or frames.shape[2], :height, :width]

    def truncated(self, *, stages: int) -> NoReturn:
        """Refused: only `FSAE` can leave stages out.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"`stages` is {stages!r}; Reducio-VAE cannot leave stages out as FSAE does: look at whole frames"
        )

    @contextmanager
    def tiled(
        self,
        *,
        spatial: int | tuple[int, int] | None = 320,
        temporal: int | Literal["clip"] | None = "clip",
        overlap: float = 0.2,
        layout: Layout = "even",
    ) -> Iterator[Self]:
        """Work in tiles, and in clips of another length, inside this context.

        Outside it the model tiles only what exceeds its memory budget. Group norms and attention see one tile and not
        the picture, so results differ a little from those of the whole. One context at a time for each model object.

        Args:
            spatial: height and width of a tile in pixels (one number: both), multiples of the stride; None: whole.
            temporal: frames of a clip, a multiple of the stride; 'clip': as many as in training; None: the video is one
                clip. Other lengths than that of the training rebuild the decoder's tables over time, so they are not
                for the fusions 'linear' and 'add', whose tables are learned.
            overlap: the share of a tile that it has in common with the next one, 0 to 0.5.
            layout: 'even' tiles are all of one size, the last one moved back, and each sees the content frame under it
                alone. 'overhang' repeats the released code to the last digit: tiles start at multiples of a step, the
                last ones may be slivers, and content features are blended as well. Its numbers for tiles of 256 pixels
                and a factor of 0.25 are the defaults here: 320 pixels, of which a share of 0.2 overlaps.
        """
        pieces = inputs.pieces_of(spatial, temporal, overlap, layout, self.config)
        outer, self._pieces = self._pieces, pieces
        try:
            yield self
        finally:
            self._pieces = outer

    @property
    def _trained_latents(self) -> int:
        """Latent frames of the clips of the training."""
        return self.config.num_frames // self.stride[0]

    @property
    def _clip_latents(self) -> int | None:
        """Latent frames of a clip; None: a video is one."""
        return self._trained_latents if self._pieces is None else self._pieces.clip

    def _automatic(self, width: int, like: Tensor, clip: Sequence[int]) -> Pieces:
        """What the memory budget asks for, outside `tiled`."""
        cost = memory.bytes_per_pixel(width, itemsize=like.element_size()) * like.shape[0]
        frames, height, columns = clip
        tiling = memory.automatic_tiling(cost, (frames, height, columns), stride=self.stride[1])
        return Pieces(clip=self._trained_latents, tiling=tiling, layout="even")

    def _moments(self, frames: Tensor) -> Tensor:
        moments: Tensor = self.quant_conv(self.encoder_3d(frames))
        return moments

    def _frames(self, latents: Tensor, content: Sequence[Tensor]) -> Tensor:
        known = self._clip_latents == self._trained_latents
        frames: Tensor = self.decoder(self.post_quant_conv(latents), content, trained_length=known)
        return frames


def normalise(raw: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Mean 0 and standard deviation 1 over all elements of each clip, in float32. Source: LaMD, as Reducio uses it."""
    values = raw.float()
    centred = values - values.mean(dim=(1, 2, 3, 4), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3, 4), keepdim=True)
    return (centred * torch.rsqrt(variance + NORM_EPS)).to(raw.dtype)
