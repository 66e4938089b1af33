"""One pass over one video: in chunks along time, in tiles across the picture, or whole, through the same code."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from fastvid_vae.arguments import check_frames, check_same_size
from fastvid_vae.fsae import inputs, memory
from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.fsae.decoder import Decoder
from fastvid_vae.fsae.encoder import Encoder
from fastvid_vae.latent_grid import cells, frames_before, held_by, pad_to_cells, pixels
from fastvid_vae.layers.noise import Noise
from fastvid_vae.layers.stream import Stream
from fastvid_vae.tiling import Tile, Tiling, cut, merge, plan_grid, plan_spans


class FirstFrame:
    """The reference picture as the decoder sees it: encoder features, cut to the tile at hand."""

    def __init__(
        self,
        encoder: Encoder,
        config: FSAEConfig,
        picture: Tensor | None,
        size: tuple[int, int] | None,
        *,
        skipped: int,
    ) -> None:
        if picture is not None and not any(config.injection):
            raise ValueError("`reference` has no effect: this model has no first-frame injection; leave it out")
        self._encoder = encoder
        self._skipped = skipped
        self._strides = config.stride_without(skipped)
        self._kinds = config.injection
        self._picture = picture
        self._size = size

    def check(self, latents: Tensor) -> None:
        if self._picture is not None:
            inputs.check_reference(self._picture, latents, stride=self._strides[1], size=self._size)

    def features(self, tile: Tile) -> Sequence[Tensor | None] | None:
        """One tensor a stage; None for the stages that have no injection, whose features would fill memory."""
        if self._picture is None:
            return None
        whole = pad_to_cells(self._picture.unsqueeze(2), self._strides)
        seen = cut(whole, tile, [partial(pixels, stride=self._strides[1])] * 2)
        _, features = self._encoder(seen, Stream(), skipped=self._skipped)
        return [found if kind else None for found, kind in zip(features, self._kinds, strict=True)]


class EncoderPass:
    """Chunks of frames to chunks of raw latents; every tile has a memory of its own, so chunked equals whole."""

    def __init__(
        self, encoder: Encoder, config: FSAEConfig, tiling: Tiling | None, *, chunked: bool, skipped: int
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._skipped = skipped
        self._strides = config.stride_without(skipped)
        self._tiling = tiling
        self._chunked = chunked
        self._tiles: list[tuple[Tile, Stream]] = []
        self._last_shape: torch.Size | None = None
        self._padded = False

    def __call__(self, frames: Tensor) -> Tensor:
        config, strides, first = self._config, self._strides, self._last_shape is None
        check_frames(frames)
        check_same_size("frames", frames.shape, self._last_shape)
        if self._last_shape is not None and self._padded:
            raise ValueError(
                f"`chunks` holds a chunk of {self._last_shape[2]} frames before its last one; only the last may "
                f"leave a latent unfilled: 1 + {strides[0]}a frames first, multiples of {strides[0]} after"
            )
        self._last_shape = frames.shape
        frames = pad_to_cells(frames, strides, first=first)
        self._padded = frames.shape[2] != self._last_shape[2]
        if self._tiling is None:
            footprint = memory.encoder_footprint(config, itemsize=frames.element_size(), batch=frames.shape[0])
            video = frames.shape[2], *(side << self._skipped for side in frames.shape[3:])
            self._tiling = memory.automatic_tiling(footprint, video, strides=config.stride, exact_in_time=True)
        if first:
            self._start(frames, self._tiling)
        return _join(
            [self._encode(piece) for piece in _split_frames(frames, self._tiling.time, strides[0], first=first)]
        )

    def _start(self, frames: Tensor, tiling: Tiling) -> None:
        height, width = (side // stride for side, stride in zip(frames.shape[3:], self._strides[1:], strict=True))
        chunked = self._chunked or tiling.time is not None
        self._tiles = [(tile, Stream(chunked=chunked)) for tile in plan_grid(height, width, tiling)]

    def _encode(self, frames: Tensor) -> Tensor:
        return merge(self._parts(frames), [tile for tile, _ in self._tiles], [cells] * 2)

    def _parts(self, frames: Tensor) -> Iterator[Tensor]:
        to_pixels = partial(pixels, stride=self._strides[1])
        for tile, stream in self._tiles:
            latents, _ = self._encoder(cut(frames, tile, [to_pixels] * 2), stream, skipped=self._skipped)
            stream.next_chunk()
            yield latents


class DecoderPass:
    """Chunks of raw latents to chunks of frames, for the decoders that know no future: causal and lite."""

    def __init__(
        self,
        decoder: Decoder,
        config: FSAEConfig,
        tiling: Tiling | None,
        first_frame: FirstFrame,
        noise: Noise,
        *,
        chunked: bool,
        skipped: int,
    ) -> None:
        self._decoder = decoder
        self._config = config
        self._tiling = tiling
        self._first_frame = first_frame
        self._noise = noise
        self._chunked = chunked
        self._skipped = skipped
        self._tiles: list[tuple[Tile, Stream, Noise, Sequence[Tensor | None] | None]] = []
        self._last_shape: torch.Size | None = None

    def __call__(self, latents: Tensor) -> Tensor:
        check_same_size("latents", latents.shape, self._last_shape)
        self._last_shape = latents.shape
        if self._tiling is None:
            self._tiling = _decoder_tiling(self._config, latents)
        if not self._tiles:
            self._start(latents, self._tiling)
        time = self._tiling.time
        return _join([self._decode(piece) for piece in ([latents] if time is None else latents.split(time, dim=2))])

    def _start(self, latents: Tensor, tiling: Tiling) -> None:
        self._first_frame.check(latents)
        chunked = self._chunked or tiling.time is not None
        self._tiles = [
            (tile, Stream(chunked=chunked), self._noise.fresh(), self._first_frame.features(tile))
            for tile in plan_grid(latents.shape[3], latents.shape[4], tiling)
        ]

    def _decode(self, latents: Tensor) -> Tensor:
        return merge(
            self._parts(latents),
            [tile for tile, *_ in self._tiles],
            [partial(pixels, stride=self._config.stride_without(self._skipped)[1])] * 2,
        )

    def _parts(self, latents: Tensor) -> Iterator[Tensor]:
        for tile, stream, noise, features in self._tiles:
            seen = cut(latents, tile, [cells] * 2)
            frames = self._decoder(seen, features, stream, noise, skipped=self._skipped)
            stream.next_chunk()
            noise.next_chunk()
            yield frames


def decode_overlapping(
    decoder: Decoder,
    config: FSAEConfig,
    tiling: Tiling | None,
    latents: Tensor,
    first_frame: FirstFrame,
    noise: Noise,
    *,
    skipped: int,
) -> Tensor:
    """Raw latents to frames for the standard decoder, which sees the future: tiles overlap and fade in time as well.

    A tile that does not start at latent 0 is decoded as the middle of a video, a full stride of frames a latent.
    """
    first_frame.check(latents)
    tiling = tiling or _decoder_tiling(config, latents)
    spans = plan_spans(latents.shape[2], tiling.time, tiling.overlap)
    grid = plan_grid(latents.shape[3], latents.shape[4], tiling)

    def parts() -> Iterator[Tensor]:
        for tile in grid:
            features, tile_noise = first_frame.features(tile), noise.fresh()
            for span in spans:
                stream = Stream()
                if span.start:
                    stream.next_chunk()
                seen = cut(latents, (span, *tile), [cells] * 3)
                frames = decoder(seen, features, stream, tile_noise, skipped=skipped)
                tile_noise.next_chunk()
                yield frames

    to_pixels = partial(pixels, stride=config.stride_without(skipped)[1])
    maps = [partial(frames_before, stride=config.stride[0]), to_pixels, to_pixels]
    return merge(parts(), [(span, *tile) for tile in grid for span in spans], maps)


def _split_frames(frames: Tensor, latents: int | None, stride: int, *, first: bool) -> Sequence[Tensor]:
    """Pieces of so many latents each; the first latent of a video holds one frame alone."""
    if latents is None:
        return [frames]
    to_frames = partial(frames_before if first else pixels, stride=stride)
    total = -(-frames.shape[2] // stride)
    edges = [*range(0, total, latents), total]
    return torch.split(frames, [to_frames(b) - to_frames(a) for a, b in pairwise(edges)], dim=2)


def _decoder_tiling(config: FSAEConfig, latents: Tensor) -> Tiling:
    """What the memory budget asks for; of small frames as if they were large."""
    video = held_by(latents, config.stride)
    footprint = memory.decoder_footprint(config, itemsize=latents.element_size(), batch=latents.shape[0])
    exact = config.decoder_mode != "standard"
    return memory.automatic_tiling(footprint, video, strides=config.stride, exact_in_time=exact)


def _join(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=2)
