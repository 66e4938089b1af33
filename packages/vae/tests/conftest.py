"""Tiny FSAEs for every test: three stages of which two compress time, stride (4, 8, 8)."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastvid_vae import FSAE, FSAEConfig
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TINY = FSAEConfig(
    latent_channels=4,
    stage_kinds=("conv", "conv", "attention", "attention"),
    encoder_widths=(4, 8, 16, 16),
    decoder_widths=(4, 8, 16, 16),
    encoder_depths=(1, 1, 1, 1),
    decoder_depths=(1, 1, 1, 1),
    temporal_stages=(0, 1),
    head_width=8,
    affine_norm=True,
    decoder_mode="causal",
    injection=(None, None, "relative", "content"),
    injection_head_width=8,
    noise_weight=0.05,
    latent_mean=(0.1, -0.2, 0.3, 0.0),
    latent_std=(1.0, 2.0, 0.5, 1.5),
)


@pytest.fixture
def tiny_config() -> Callable[..., FSAEConfig]:
    return lambda **changes: replace(TINY, **changes)


@pytest.fixture
def build() -> Callable[..., FSAE]:
    """A model whose every weight is random, so that zero-initialised parts take part."""

    def build(*, seed: int = 0, scale: float = 0.15, **changes: object) -> FSAE:
        torch.manual_seed(seed)
        model = FSAE(replace(TINY, **changes))  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=scale)
        return model.eval().requires_grad_(False)

    return build


@pytest.fixture
def video() -> Callable[..., torch.Tensor]:
    def video(*shape: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator) * 2 - 1

    return video


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made inside that are alive at once, on any device, meta among them: exact, and repeatable.

    What a kernel takes for itself while it runs is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._known:
                self._add(tensor, size=0)  # made outside
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._known:
                self._add(tensor, size=tensor.untyped_storage().nbytes())
        return out

    def _add(self, tensor: torch.Tensor, *, size: int) -> None:
        storage = tensor.untyped_storage()
        self._known.add(storage._cdata)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, storage._cdata, size)

    def _release(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.now -= size


@pytest.fixture
def live_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """The peak of a piece of work. Meta knows attention by its formula alone; here it is fused, as on a device."""
    fused = torch.nn.functional.scaled_dot_product_attention

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(q) if q.is_meta else fused(q, k, v)

    def count(work: Callable[[], object]) -> int:
        with torch.no_grad(), LiveBytes() as live:
            work()
        return live.peak

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    return count
