"""OD-VAE: a causal video autoencoder that inherits from an image autoencoder. Source: OD-VAE, section 3."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_vae import checkpoint
from fastvid_vae.arguments import cells_of, check_crop, check_frames, check_latents, tile_sides
from fastvid_vae.latent_grid import held_by, pad_to_cells
from fastvid_vae.odvae import memory
from fastvid_vae.odvae.blocks import pointwise
from fastvid_vae.odvae.config import ODVAEConfig
from fastvid_vae.odvae.decoder import Decoder
from fastvid_vae.odvae.encoder import Encoder
from fastvid_vae.odvae.passes import Direction, Pieces, decoding, encoding, in_pieces, in_stream, same_size
from fastvid_vae.overhang import Layout
from fastvid_vae.posterior import Posterior
from fastvid_vae.tiling import Tiling


class ODVAE(nn.Module):
    """Frames in [-1, 1] <-> scaled latents, at `stride` (time, height, width); 1 + 4k frames are 1 + k latent frames.

    Convolutions and attention are causal: no frame reaches an earlier latent through them. Group norms are not: outside
    2-D blocks their statistics span all frames, so that the last frame changes the first latent a little (by some
    percent of its size with random weights), and a video taken apart is not quite the whole one. The paper calls its
    first frame independent; the released weights have these norms nevertheless. On the way back, interpolation
    (`upsample_mode` 'trilinear') also lets all frames but the first see the latent after their own.
    """

    def __init__(self, config: ODVAEConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = pointwise(2 * channels, 2 * channels)
        self.post_quant_conv = pointwise(channels, channels)
        self._pieces: Pieces | None = None  # set inside `tiled` only; None takes apart what exceeds the memory budget

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
        model = checkpoint.build_empty(cls, checkpoint.read_config(folder, ODVAEConfig, cls.__name__))
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
        """Whether `decode` has a use for a reference; where it has none, it refuses one."""
        return False

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video of `num_frames` frames, padded to 1 + 4k."""
        if num_frames < 1:
            raise ValueError(f"`num_frames` is {num_frames}; expected at least 1 (nearest legal values: 1 and 2)")
        return 1 + -(-(num_frames - 1) // self.stride[0])

    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Scaled latents. Any number of frames and any size: the last frame and the border are repeated to fit.

        Args:
            frames: pixels in [-1, 1].
            generator: given, the latents are sampled from the posterior, as the released code does; None takes its
                mean.
        """
        posterior = self.posterior(frames)
        raw = posterior.mean if generator is None else posterior.sample(generator)
        return raw * self.config.scaling_factor

    def posterior(self, frames: Float[Tensor, "b 3 T H W"]) -> Posterior:
        """What `encode` knows before it samples and scales; training holds it near the standard normal."""
        check_frames(frames)
        num_latents = self.num_latent_frames(frames.shape[2])
        frames = pad_to_cells(frames, self.stride)
        pieces = self._encoder_pieces(frames, frames.shape[2])
        return Posterior.from_moments(in_pieces(frames, self._encoding, pieces, num_latents))

    def encode_chunks(self, chunks: Iterable[Float[Tensor, "b 3 T H W"]]) -> Iterator[Float[Tensor, "b c t h w"]]:
        """The latents (the mean) of a video that arrives in pieces, one tensor a group, with the memory of one group.

        Joined, they are what `encode` gives inside `tiled` with the same groups: of 33 frames, unless `tiled` says
        otherwise here as well, or they exceed the memory budget.

        Args:
            chunks: any numbers of frames.
        """
        rows_and_columns = (1, *self.stride[1:])
        whole_cells = (pad_to_cells(frames, rows_and_columns) for frames in same_size(chunks, check_frames))

        def plan(frames: Tensor) -> Pieces:
            return _in_groups(self._encoder_pieces(frames, None))

        for moments in in_stream(whole_cells, self._encoding, plan, partial(pad_to_cells, strides=self.stride)):
            yield Posterior.from_moments(moments).mean * self.config.scaling_factor

    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b 3 T H W"]:
        """Frames, cropped to `num_frames` and `size`.

        Args:
            latents: scaled, as `encode` returns them.
            reference: must be None; the decoder has no use for a frame.
            num_frames, size: what to crop to; None: all that the latents hold.
        """
        if reference is not None:
            raise ValueError("`reference` has no effect: OD-VAE decodes from the latents alone; leave it out")
        check_latents(latents, channels=self.latent_channels)
        held = held_by(latents, self.stride)
        check_crop(num_frames, size, held)
        frames = in_pieces(latents, self._decoding, self._decoder_pieces(latents, held[0]), latents.shape[2])
        height, width = size or held[1:]
        return frames[:, :, : num_frames or held[0], :height, :width]

    def decode_chunks(self, chunks: Iterable[Float[Tensor, "b c t h w"]]) -> Iterator[Float[Tensor, "b 3 T H W"]]:
        """The frames of latents that arrive in pieces, one tensor a group, with the memory of one group.

        Joined, they are what `decode` gives inside `tiled` with the same groups: of 9 latent frames, unless `tiled`
        says otherwise here as well, or they exceed the memory budget.

        Args:
            chunks: any numbers of latent frames.
        """

        def plan(latents: Tensor) -> Pieces:
            return _in_groups(self._decoder_pieces(latents, None))

        checked = same_size(chunks, partial(check_latents, channels=self.latent_channels))
        return in_stream(checked, self._decoding, plan, lambda latents: latents)

    def truncated(self, *, stages: int) -> NoReturn:
        """Refused: only `FSAE` can leave stages out.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"`stages` is {stages!r}; OD-VAE cannot leave stages out as FSAE does: look at whole frames")

    @contextmanager
    def tiled(
        self,
        *,
        spatial: int | tuple[int, int] | None = 256,
        temporal: int | None = 33,
        overlap: float = 0.125,
        layout: Layout = "even",
    ) -> Iterator[Self]:
        """Work in groups and tiles inside this context; outside it the model does so only above its memory budget.

        Lossy, in time as in space: group norms see a piece and not the video, so colours may shift from tile to tile,
        and attention sees one tile. Groups in time share one frame and are not blended; the paper measures 0.07 dB for
        groups of 33 frames in clips of 97. One context at a time for each model object.

        Args:
            spatial: height and width of a tile in pixels (one number: both), multiples of the stride; None: whole.
            temporal: frames of a group, 1 + 4k and at least 5; latents are decoded in groups of the same frames. None:
                all.
            overlap: the share of a tile that it has in common with the next one, 0 to 0.5.
            layout: 'even' tiles are all of one size, the last one moved back. 'overhang' repeats the released code to
                the last digit: tiles start at multiples of a step, and the last ones may be slivers.
        """
        outer, self._pieces = self._pieces, _pieces_of(spatial, temporal, overlap, layout, self.stride)
        try:
            yield self
        finally:
            self._pieces = outer

    @property
    def _encoding(self) -> Direction:
        return encoding(self._moments, self.stride)

    @property
    def _decoding(self) -> Direction:
        return decoding(self._frames, self.stride)

    def _moments(self, frames: Tensor) -> Tensor:
        moments: Tensor = self.quant_conv(self.encoder(frames))
        return moments

    def _frames(self, latents: Tensor) -> Tensor:
        frames: Tensor = self.decoder(self.post_quant_conv(latents / self.config.scaling_factor))
        return frames

    def _encoder_pieces(self, frames: Tensor, num_frames: int | None) -> Pieces:
        """Those of `tiled`, or what the memory budget asks for; `num_frames` is None where chunks arrive."""
        cost = memory.encoder_bytes(self.config, itemsize=frames.element_size()) * frames.shape[0]
        return self._pieces or self._automatic(cost, num_frames, (frames.shape[3], frames.shape[4]))

    def _decoder_pieces(self, latents: Tensor, num_frames: int | None) -> Pieces:
        cost = memory.decoder_bytes(self.config, itemsize=latents.element_size()) * latents.shape[0]
        _, height, width = held_by(latents, self.stride)
        return self._pieces or self._automatic(cost, num_frames, (height, width))

    def _automatic(self, cost: int, num_frames: int | None, size: tuple[int, int]) -> Pieces:
        return Pieces(tiling=memory.automatic_tiling(cost, num_frames, size, self.config), layout="even")


def _pieces_of(
    spatial: int | tuple[int, int] | None,
    temporal: int | None,
    overlap: float,
    layout: Layout,
    strides: tuple[int, int, int],
) -> Pieces:
    """Tile sizes in pixels and the length of a group in frames as latent cells."""
    if layout not in get_args(Layout):
        raise ValueError(f"`layout` is {layout!r}; expected {', '.join(map(repr, get_args(Layout)))}")
    height, width = tile_sides(spatial, strides)
    time = None if temporal is None else 1 + cells_of("temporal", temporal, step=strides[0], offset=1)
    if time == 1:
        raise ValueError(
            f"`temporal` is {temporal}; groups share a frame, so one of them alone leads nowhere "
            f"(nearest legal values: {1 + strides[0]} and {1 + 2 * strides[0]})"
        )
    return Pieces(tiling=Tiling(time=time, height=height, width=width, overlap=overlap), layout=layout)


def _in_groups(pieces: Pieces) -> Pieces:
    if pieces.tiling.time is None:
        raise ValueError("`temporal` is None; a video that arrives in chunks is worked on in groups: 33 for example")
    return pieces
