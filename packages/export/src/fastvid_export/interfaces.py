"""What this package asks of the models it describes. Nobody inherits these; conformance is checked by type checkers."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class VideoDecoder(Protocol):
    """An autoencoder, as far as the export of its decoder needs it. Must also be an `nn.Module`."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...

    def tiled(self, *, spatial: None, temporal: None) -> AbstractContextManager[object]:
        """Inside it, a video is decoded whole, in space and in time."""
        ...

    def decode(
        self, latents: Float[Tensor, "b c t h w"], *, reference: Float[Tensor, "b 3 H W"] | None = None
    ) -> Float[Tensor, "b 3 T H W"]: ...


class VideoEncoder(Protocol):
    """An autoencoder, as far as the export of its encoder needs it. Must also be an `nn.Module`."""

    @property
    def stride(self) -> tuple[int, int, int]: ...

    def num_latent_frames(self, num_frames: int) -> int: ...

    def tiled(self, *, spatial: None, temporal: None) -> AbstractContextManager[object]:
        """Inside it, a video is encoded whole, in space and in time."""
        ...

    def encode(self, frames: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]: ...


class ChunkedEncoder(Protocol):
    """A causal encoder that is a function of a chunk and of what it remembers of those before; an `nn.Module` too."""

    @property
    def stride(self) -> tuple[int, int, int]: ...

    def encode_chunk(
        self, frames: Float[Tensor, "b 3 T H W"], past: Sequence[Tensor] = (), /
    ) -> tuple[Float[Tensor, "b c t h w"], Sequence[Tensor]]: ...


class ChunkedDecoder(Protocol):
    """A causal decoder, likewise."""

    @property
    def stride(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...

    def decode_chunk(
        self, latents: Float[Tensor, "b c t h w"], past: Sequence[Tensor] = (), features: Sequence[Tensor] = (), /
    ) -> tuple[Float[Tensor, "b 3 T H W"], Sequence[Tensor]]: ...

    def injected_features(self, reference: Float[Tensor, "b 3 H W"], /) -> Sequence[Tensor]:
        """What all chunks know of the first frame."""
        ...


class LatentUpsampler(Protocol):
    """Latents to those of a larger video. Must also be an `nn.Module`."""

    @property
    def latent_channels(self) -> int: ...
    def __call__(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]: ...
    def forward(self, latents: Float[Tensor, "b c t h w"], /) -> Float[Tensor, "b c t h2 w2"]:
        """As above; declared too, since every `nn.Module` is callable with anything."""
        ...


class TransformerShape(Protocol):
    """The part of a transformer's configuration that fixes the sizes of its inputs."""

    @property
    def patch_size(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def condition_channels(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def image_width(self) -> int | None: ...
    @property
    def width(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...


class AttentionSite(Protocol):
    """Where in the network attention is called."""

    @property
    def block(self) -> int: ...


class AttentionOp(Protocol):
    """Self-attention of one block."""

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: AttentionSite,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...


class VideoTransformer(Protocol):
    """A video diffusion transformer that lets its self-attention be replaced. Must also be an `nn.Module`.

    Its rotary embedding is that of `graphs.attention.rotate`, and turns nothing where all positions are zero.
    """

    @property
    def config(self) -> TransformerShape: ...

    def __call__(  # noqa: PLR0913  # the inputs of the network
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b c t h w"]: ...

    def forward(  # noqa: PLR0913  # as above; declared too, since every `nn.Module` is callable with anything
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        condition: Float[Tensor, "b k t h w"],
        image_tokens: Float[Tensor, "b m e"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
        attention: AttentionOp = ...,
    ) -> Float[Tensor, "b c t h w"]: ...


class ContentFrameShape(Protocol):
    """What a transformer is shown of a content frame."""

    @property
    def semantic_tokens(self) -> int: ...
    @property
    def semantic_width(self) -> int: ...
    @property
    def content_channels(self) -> int: ...
    @property
    def content_step(self) -> int: ...


class ContentTransformerShape(Protocol):
    """The part of its configuration that fixes the sizes of its inputs."""

    @property
    def patch_size(self) -> tuple[int, int, int]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def text_width(self) -> int: ...
    @property
    def content_frame(self) -> ContentFrameShape | None: ...
    @property
    def size_embedding(self) -> bool: ...


class ContentTransformer(Protocol):
    """A video diffusion transformer with absolute positions that is shown a content frame; an `nn.Module` as well."""

    @property
    def config(self) -> ContentTransformerShape: ...

    def __call__(  # noqa: PLR0913  # the inputs of the network
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
    ) -> Float[Tensor, "b o t h w"]: ...

    def forward(  # noqa: PLR0913  # as above; declared too, since every `nn.Module` is callable with anything
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"] | None = None,
        *,
        semantic: Float[Tensor, "b m e"] | None = None,
        content: Float[Tensor, "b k H W"] | None = None,
        size: Float[Tensor, "b 2"] | None = None,
        positions: Float[Tensor, "3 nt nh nw"] | None = None,
    ) -> Float[Tensor, "b o t h w"]: ...


class ServedTransformer(VideoTransformer, Protocol):
    """A transformer whose place engines can take."""

    @property
    def config(self) -> Any:
        """As of `VideoTransformer`, and whatever else those want to know who use it."""
        ...

    def rotary_tables(
        self, positions: Float[Tensor, "*blocks 3 nt nh nw"]
    ) -> tuple[Float[Tensor, "*blocks nt nh nw pairs"], Float[Tensor, "*blocks nt nh nw pairs"]]:
        """Cosine and sine of each token's angles."""
        ...

    def first_frame_condition(
        self, image_latents: Float[Tensor, "b c 1 h w"], num_latent_frames: int
    ) -> Float[Tensor, "b k t h w"]: ...
    def refiner_condition(
        self,
        upsampled: Float[Tensor, "b c t h w"],
        image_latents: Float[Tensor, "b c 1 h w"],
        upsampled_image_latents: Float[Tensor, "b c 1 h w"],
    ) -> Float[Tensor, "b k t h w"]: ...


class ServedAutoencoder(VideoDecoder, Protocol):
    """An autoencoder whose decoder an engine can take the place of."""

    @property
    def takes_reference(self) -> bool: ...
    def num_latent_frames(self, num_frames: int) -> int: ...
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
    def truncated(self, *, stages: int) -> "ServedAutoencoder": ...


class Selection(Protocol):
    """Which tokens of a block stay; int32. None: all."""

    @property
    def keep_q(self) -> Int[Tensor, "b heads nq"] | None: ...
    @property
    def restore(self) -> Int[Tensor, "b heads n"] | None: ...
    @property
    def keep_kv(self) -> Int[Tensor, "b heads m"] | None: ...


class SelectingAttention(Protocol):
    """Attention that drops tokens, and can say before a step which ones."""

    def __call__(
        self,
        q: Float[Tensor, "b heads n e"],
        k: Float[Tensor, "b heads n e"],
        v: Float[Tensor, "b heads n e"],
        site: Any,
        /,
    ) -> Float[Tensor, "b heads n e"]: ...

    def selections(
        self, shape: tuple[int, int, int, int], num_blocks: int, grid: tuple[int, int, int]
    ) -> Mapping[int, Selection] | None:
        """By block, for queries of this shape (b, heads, n, e); None: not known before the step has run whole."""
        ...

    def match(self, q: Tensor | None, v: Tensor | None, site: Any, /) -> None:
        """Queries and values of a block, of the step that ran whole."""
