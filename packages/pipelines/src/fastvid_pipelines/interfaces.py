"""What this package asks of the parts it is given. Nobody inherits these; conformance is checked by type checkers."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastvid_pipelines.types import ImageInput, Step, TextFeatures


class Saveable(Protocol):
    """A part that can be written to a folder of its own."""

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None: ...


class FrameCodec(Protocol):
    """Frames in [-1, 1] to normalised latents and back; pads to its stride inside and crops on request."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def takes_reference(self) -> bool: ...
    def encode(
        self, frames: Float[Tensor, "b 3 T H W"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h w"]: ...
    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b 3 T H W"]: ...
    def truncated(self, *, stages: int) -> "FrameCodec":
        """The same without so many of its stages in space, each of which halves the frames; ValueError: it cannot."""
        ...


class Autoencoder(FrameCodec, Saveable, Protocol):
    """A codec that is a part of a pipeline."""

    @property
    def latent_channels(self) -> int: ...
    def num_latent_frames(self, num_frames: int) -> int: ...


class ClipAutoencoderConfig(Protocol):
    """The facts of an autoencoder of clips: frames of one, and how its content frame enters the decoder."""

    @property
    def num_frames(self) -> int: ...
    @property
    def fusion(self) -> str: ...


class ClipAutoencoder(Autoencoder, Protocol):
    """Works in clips of `config.num_frames`; each is decoded with a content frame, its middle one."""

    @property
    def config(self) -> ClipAutoencoderConfig: ...
    def content_frames(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 3 clips H W"]: ...
    def decode(
        self,
        latents: Float[Tensor, "b c t h w"],
        *,
        reference: Float[Tensor, "b 3 H W"] | Float[Tensor, "b 3 clips H W"] | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b 3 T H W"]: ...


class TextEncoder(Saveable, Protocol):
    """Prompts to tokens. All prompts of one call have the same number of tokens."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures: ...


class ImageEncoder(Saveable, Protocol):
    """A picture in [-1, 1], of any size, to tokens."""

    def encode(self, image: Float[Tensor, "b 3 H W"], /) -> Float[Tensor, "b m e"]: ...


class ContentEncoder(Saveable, Protocol):
    """A picture in [-1, 1] to latents, sampled and unscaled; `stride` pixels a latent, which must divide its sides."""

    @property
    def stride(self) -> int: ...
    @property
    def latent_channels(self) -> int: ...
    def encode(self, image: Float[Tensor, "b 3 H W"], /, *, generator: torch.Generator) -> Float[Tensor, "b k h w"]: ...


class TextToImage(Protocol):
    """A sentence to a picture of at least roughly this size, as any image pipeline can be wrapped."""

    def __call__(self, prompt: str, /, *, height: int, width: int, generator: torch.Generator) -> ImageInput: ...


class AttentionSite(Protocol):
    """Where a self-attention call happens."""

    @property
    def block(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int, int]: ...


class AttentionOp(Protocol):
    """Self-attention, handed from an accelerator to the transformer."""

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...


class TransformerConfig(Protocol):
    """The facts of a transformer that decide what it is fed."""

    @property
    def latent_channels(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def image_width(self) -> int | None: ...
    @property
    def patch_size(self) -> tuple[int, int, int]: ...


class Transformer(Saveable, Protocol):
    """Predicts the velocity, noise - clean latents, at timestep 1000 sigma."""

    @property
    def config(self) -> TransformerConfig: ...
    def first_frame_condition(
        self, image_latents: Float[Tensor, "b c 1 h w"], num_latent_frames: int
    ) -> Float[Tensor, "b k t h w"]: ...
    def __call__(  # noqa: PLR0913  # the inputs of the network
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | Float[Tensor, "blocks 3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b c t h w"]: ...


class ContentFrameConfig(Protocol):
    """How a transformer is shown the content frame: latents of it whose sides are multiples of `content_step`."""

    @property
    def content_channels(self) -> int: ...
    @property
    def content_step(self) -> int: ...


class ContentTransformerConfig(Protocol):
    """The facts of a transformer that is shown a content frame."""

    @property
    def latent_channels(self) -> int: ...
    @property
    def patch_size(self) -> tuple[int, int, int]: ...
    @property
    def size_embedding(self) -> bool: ...
    @property
    def content_frame(self) -> ContentFrameConfig | None: ...


class ContentTransformer(Saveable, Protocol):
    """Predicts the noise at a timestep, and maybe the variance in as many channels behind it.

    `condition_cache` is computed once a video and handed back at each step; nobody else looks into it, hence Any.
    """

    @property
    def config(self) -> ContentTransformerConfig: ...
    def condition_cache(
        self,
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
    ) -> Any: ...
    def __call__(
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        *,
        cache: Any,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b o t h w"]: ...


class Upsampler(Saveable, Protocol):
    """Normalised latents to those of a video twice as high and wide."""

    @property
    def latent_channels(self) -> int: ...
    def __call__(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]: ...


class RefinerConfig(TransformerConfig, Protocol):
    """A refiner's facts: how errors become its mask, None in a base model."""

    @property
    def refiner_mask(self) -> object | None: ...


class RefinerTransformer(Transformer, Protocol):
    """A transformer that is shown the photo and upsampled latents."""

    @property
    def config(self) -> RefinerConfig: ...

    def refiner_condition(
        self,
        upsampled: Float[Tensor, "b c t h w"],
        image_latents: Float[Tensor, "b c 1 h w"],
        upsampled_image_latents: Float[Tensor, "b c 1 h w"],
    ) -> Float[Tensor, "b k t h w"]: ...


class AcceleratorSession(Protocol):
    """An accelerator at work on one video."""

    def begin_step(self, step: Step, /) -> None: ...
    @property
    def attention(self) -> AttentionOp | None:
        """None: the transformer's own."""
        ...

    def end_step(
        self,
        latents: Float[Tensor, "b c t h w"],
        denoised: Float[Tensor, "b c t h w"],
        positions: Float[Tensor, "3 nt nh nw"] | Float[Tensor, "blocks 3 nt nh nw"],
        step: Step,
        /,
        *,
        estimate: Callable[[Float[Tensor, "b c t h w"], float], Float[Tensor, "b c t h w"]],
    ) -> tuple[Float[Tensor, "b c t2 h w"], Float[Tensor, "3 nt2 nh nw"] | Float[Tensor, "blocks 3 nt2 nh nw"]]: ...
    def finish(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b 3 T2 H W"]: ...
    def report(self) -> Mapping[str, Any]: ...


class VideoCodec(Protocol):
    """What an accelerator may look at a video with, while it is made."""

    @property
    def temporal_stride(self) -> int: ...
    def decode(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b 3 T H W"]: ...
    def encode(self, frames: Float[Tensor, "b 3 T H W"], /) -> Float[Tensor, "b c t h w"]: ...
    def truncated(self, stages: int, /) -> Self: ...


class Accelerator(Protocol):
    """Settings of an accelerator; each video gets a session of its own."""

    def start(self, *, num_steps: int, codec: VideoCodec) -> AcceleratorSession: ...
