"""FSAE: the highly compressing video autoencoder of FSVideo (section 2.2)."""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastvid_vae import checkpoint
from fastvid_vae.arguments import check_crop, check_latents
from fastvid_vae.fsae import inputs
from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.fsae.decoder import Decoder
from fastvid_vae.fsae.encoder import Encoder
from fastvid_vae.fsae.passes import DecoderPass, EncoderPass, FirstFrame, decode_overlapping
from fastvid_vae.latent_grid import held_by, pad_to_cells
from fastvid_vae.layers.noise import Noise, NoiseMode
from fastvid_vae.layers.stream import Stream
from fastvid_vae.tiling import Tiling


class FSAE(nn.Module):
    """Frames in [-1, 1] <-> normalised latents, at `stride` (time, height, width).

    The encoder is causal, so 1 + 4k frames give 1 + k latents, the first latent knows the first frame alone, and a
    video can be encoded in chunks. The decoder may be given the first frame again (`reference`): its encoder features
    enter by cross-attention.
    """

    def __init__(self, config: FSAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self._tiling: Tiling | None = None  # set inside `tiled` only; None tiles what exceeds the memory budget
        self._skipped = 0  # set by `truncated` only

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
        model = checkpoint.build_empty(cls, checkpoint.read_config(folder, FSAEConfig, cls.__name__))
        checkpoint.load_weights(model, folder, dtype=dtype, device=device)
        return model

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; the folder is never seen half-written."""
        checkpoint.save(self, self.config, directory)

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.config.stride_without(self._skipped)

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    @property
    def takes_reference(self) -> bool:
        """Whether `decode` has a use for a reference; where it has none, it refuses one."""
        return any(self.config.injection)

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a video of `num_frames` frames, padded to 1 + 4k."""
        if num_frames < 1:
            raise ValueError(f"`num_frames` is {num_frames}; expected at least 1 (nearest legal values: 1 and 2)")
        return 1 + -(-(num_frames - 1) // self.stride[0])

    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Normalised latents. Any number of frames and any size: the last frame and the border are repeated to fit.

        Args:
            frames: pixels in [-1, 1].
            generator: must be None; an FSAE is no variational model and has nothing to sample.
        """
        if generator is not None:
            raise ValueError("`generator` has no effect: FSAE is a plain autoencoder and `encode` samples nothing")
        return self.normalise(self._encoder_pass(chunked=False)(frames))

    def encode_chunks(self, chunks: Iterable[Float[Tensor, "b 3 T H W"]]) -> Iterator[Float[Tensor, "b c t h w"]]:
        """The latents of a video that arrives in pieces, one tensor a piece; joined, they are what `encode` gives.

        Args:
            chunks: 1 + 4a frames, then multiples of 4 (for a stride of 4); only the last may hold any number.
        """
        encoder = self._encoder_pass(chunked=True)
        return (self.normalise(encoder(frames)) for frames in chunks)

    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
        noise_mode: NoiseMode = "off",
    ) -> Float[Tensor, "b 3 T H W"]:
        """Frames, cropped to `num_frames` and `size`.

        Args:
            latents: normalised, as `encode` returns them.
            reference: the first frame in [-1, 1], of the size of the video; None decodes from the latents alone.
            num_frames, size: what to crop to; None: all that the latents hold.
            generator, noise_mode: the decoder's noise (section 2.2); off by default, so that decoding is a function.
        """
        raw = self._raw(latents)
        check_crop(num_frames, size, held_by(latents, self.stride))
        noise = self._noise(noise_mode, generator)
        first_frame = FirstFrame(self.encoder, self.config, reference, size, skipped=self._skipped)
        if self.config.decoder_mode == "standard":
            frames = decode_overlapping(
                self.decoder, self.config, self._tiling, raw, first_frame, noise, skipped=self._skipped
            )
        else:
            frames = self._decoder_pass(first_frame, noise, chunked=False)(raw)
        height, width = size or frames.shape[3:]
        return frames[:, :, : num_frames or frames.shape[2], :height, :width]

    def decode_chunks(
        self,
        chunks: Iterable[Float[Tensor, "b c t h w"]],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        generator: torch.Generator | None = None,
        noise_mode: NoiseMode = "off",
    ) -> Iterator[Float[Tensor, "b 3 T H W"]]:
        """The frames of latents that arrive in pieces, one tensor a piece; joined, what `decode` gives without noise.

        Args:
            chunks: any numbers of latent frames.
            reference, generator, noise_mode: as in `decode`.
        Raises:
            ValueError: the decoder is 'standard'. It sees later frames, so no piece is final before the next one.
        """
        self._check_chunks("decode_chunks")
        first_frame = FirstFrame(self.encoder, self.config, reference, None, skipped=self._skipped)
        decoder = self._decoder_pass(first_frame, self._noise(noise_mode, generator), chunked=True)
        return (decoder(self._raw(latents)) for latents in chunks)

    def encode_chunk(
        self, frames: Float[Tensor, "b 3 T H W"], past: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "b c t h w"], tuple[Tensor, ...]]:
        """One chunk of `encode_chunks` as a function of its past, whole: for whoever keeps the state elsewhere.

        Args:
            frames: 1 + 4a frames of whole latent cells at the beginning, a multiple of 4 later (for a stride of 4).
            past: what the chunk before gave; empty at the beginning.
        Returns:
            The latents, and the past of the next chunk.
        """
        stream = Stream(chunked=True, past=past)
        raw, _ = self.encoder(frames, stream, skipped=self._skipped)
        return self.normalise(raw), stream.past

    def decode_chunk(
        self,
        latents: Float[Tensor, "b c t h w"],
        past: Sequence[Tensor] = (),
        features: Sequence[Float[Tensor, "b k 1 y x"]] = (),
    ) -> tuple[Float[Tensor, "b 3 T H W"], tuple[Tensor, ...]]:
        """One chunk of `decode_chunks` as a function of its past, whole: for whoever keeps the state elsewhere.

        Args:
            latents: normalised, any number of frames.
            past: what the chunk before gave; empty at the beginning.
            features: `injected_features` of the first frame, the same for all chunks; empty: no reference.
        Returns:
            The frames, and the past of the next chunk.
        Raises:
            ValueError: the decoder is 'standard', or features of another number of stages.
        """
        self._check_chunks("decode_chunk")
        stages = [stage for stage, kind in enumerate(self.config.injection) if kind]
        if features and len(features) != len(stages):
            raise ValueError(f"`features` are {len(features)}; the model has {len(stages)} stages that take them")
        of_stages: list[Tensor | None] = [None] * len(self.config.injection)
        for stage, found in zip(stages, features, strict=False):
            of_stages[stage] = found
        stream = Stream(chunked=True, past=past)
        noise = Noise("off", self.config.noise_weight, None)
        frames: Tensor = self.decoder(
            self._raw(latents), of_stages if features else None, stream, noise, skipped=self._skipped
        )
        return frames, stream.past

    def injected_features(self, reference: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b k 1 y x"], ...]:
        """Those of `first_frame_features` that the decoder takes, in the order of the stages."""
        found = self.first_frame_features(reference)
        return tuple(feature for feature, kind in zip(found, self.config.injection, strict=True) if kind)

    @contextmanager
    def tiled(
        self, *, spatial: int | tuple[int, int] | None = 512, temporal: int | None = 61, overlap: float = 0.25
    ) -> Iterator[Self]:
        """Work in tiles inside this context; outside it the model does so only above its memory budget.

        In time, chunks of the encoder and of the causal and lite decoders continue one another exactly. Tiles in
        space, and tiles in time of the standard decoder, overlap and fade: attention then sees one tile, not the
        picture, so results differ a little from those of the whole, and more the smaller the tiles are. On a trained
        model, tiles of 12 latent cells, or of 8 that overlap by half, stay 47 dB and more from the whole; tiles of 8
        that overlap by a quarter, 41. One context at a time for each model object.

        Args:
            spatial: height and width of a tile in pixels (one number: both), multiples of the stride; None: whole.
            temporal: frames of a tile, 1 + 4k; None: all.
            overlap: the share of a tile that it has in common with the next one, 0 to 0.5.
        """
        tiling = inputs.tiling_of(spatial, temporal, overlap, strides=self.stride)
        outer, self._tiling = self._tiling, tiling
        try:
            yield self
        finally:
            self._tiling = outer

    def truncated(self, *, stages: int) -> Self:
        """This model at a lower resolution, for previews: the same weights, to smaller frames and from such.

        Of the stages between latents and frames, so many, from the latents on, leave height and width as they are;
        time stays. `stride` says what is left. Latents are of the same grid, and a reference must be as small as the
        frames. It shares its weights with this model and follows them; tiles are set for each. Nothing is trained for
        it: frames are close to the large ones made smaller, latents of small frames less so.

        Args:
            stages: 0 to all of them; each halves the height and width of frames.
        Raises:
            ValueError: more stages than there are.
        Source: VGDFR, section 3.2 (compression decoder and encoder). The paper leaves out the layers that resize;
            ours take the mean of the pixels that one would become, which is closer: see `layers.resample`.
        """
        count = len(self.config.stage_kinds) - 1
        if type(stages) is not int or not 0 <= stages <= count:
            raise ValueError(f"`stages` is {stages!r}; this model has 0 to {count} that can be left out")
        view = copy.copy(self)
        view._skipped = stages
        return view

    def first_frame_features(self, reference: Float[Tensor, "b 3 H W"]) -> Sequence[Tensor]:
        """The encoder's features of the first frame, one per stage; what the decoder attends to."""
        features: Sequence[Tensor]
        picture = pad_to_cells(reference.unsqueeze(2), self.stride)
        _, features = self.encoder(picture, Stream(), skipped=self._skipped)
        return features

    def normalise(self, raw: Tensor) -> Tensor:
        mean, std = self._statistics(raw)
        return (raw - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.config.latent_mean, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
        std = torch.tensor(self.config.latent_std, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
        return mean, std

    def _raw(self, latents: Tensor) -> Tensor:
        check_latents(latents, channels=self.latent_channels)
        return self.denormalise(latents)

    def _encoder_pass(self, *, chunked: bool) -> EncoderPass:
        return EncoderPass(self.encoder, self.config, self._tiling, chunked=chunked, skipped=self._skipped)

    def _decoder_pass(self, first_frame: FirstFrame, noise: Noise, *, chunked: bool) -> DecoderPass:
        return DecoderPass(
            self.decoder, self.config, self._tiling, first_frame, noise, chunked=chunked, skipped=self._skipped
        )

    def _check_chunks(self, method: str) -> None:
        if self.config.decoder_mode == "standard":
            raise ValueError(
                f"`{method}` needs `decoder_mode` 'causal' or 'lite'; this one is 'standard', whose frames depend "
                "on later latents. Use `decode`, inside `tiled` where memory is short"
            )

    def _noise(self, mode: NoiseMode, generator: torch.Generator | None) -> Noise:
        inputs.check_noise(mode, self.config.noise_weight, generator)
        return Noise(mode, self.config.noise_weight, generator)
