"""Engines that compute by the module they are of, so that these tests are about what stands around engines."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fastvid_export import AxisRange, Exportable, LoadedEngine, Profile
from fastvid_export.build import describe_inputs, describe_outputs
from fastvid_export.digest import weights_digest
from fastvid_export.graphs.attention import RotaryAttention
from fastvid_export.guard import GuardedEngine
from torch import Tensor

from ..fakes import FakeDecoder, FakeTransformer, fake_tables
from ..test_record import RECORD


def loaded(exportable: Exportable, **ranges: AxisRange) -> LoadedEngine:
    """An engine of the exportable, with one profile."""
    profile = Profile(name="dense", axes={**exportable.axes, **ranges})
    record = replace(
        RECORD,
        name=exportable.name,
        weights=weights_digest(exportable.module),
        precision="float32",
        inputs=describe_inputs(exportable),
        results=describe_outputs(exportable),
        profiles=(profile,),
    )

    def run(inputs: Mapping[str, Tensor], profile: int) -> tuple[Tensor, ...]:
        with torch.no_grad():
            out = exportable.module(**inputs)
        return (out,) if isinstance(out, Tensor) else tuple(out)

    return LoadedEngine(record=record, engine=GuardedEngine(record, run))


class Transformer(FakeTransformer):
    """With what a pipeline asks of a transformer, and a note of each eager call."""

    def __init__(self, num_blocks: int = 3) -> None:
        super().__init__(image=False, num_blocks=num_blocks)
        self.eager_calls = 0
        self.eval()

    def forward(self, *args: Any, **call: Any) -> Tensor:
        self.eager_calls += not isinstance(call.get("attention"), RotaryAttention)  # graphs turn tokens by that
        return super().forward(*args, **call)

    def rotary_tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if positions.dim() > 4:
            tables = [self.rotary_tables(of_block) for of_block in positions]
            return torch.stack([cos for cos, _ in tables]), torch.stack([sin for _, sin in tables])
        cos, sin = (table.unflatten(0, positions.shape[-3:]) for table in fake_tables(positions))
        return cos, sin

    def first_frame_condition(self, image_latents: Tensor, num_latent_frames: int) -> Tensor:
        return image_latents.expand(-1, -1, num_latent_frames, -1, -1)

    def refiner_condition(self, upsampled: Tensor, *others: Tensor) -> Tensor:
        return upsampled


class Autoencoder(FakeDecoder):
    """With what a pipeline asks of an autoencoder; crops, and repeats the border of a reference, like ours."""

    takes_reference = True

    def __init__(self) -> None:
        super().__init__()
        self.eager_calls = 0
        self.eval()

    def num_latent_frames(self, num_frames: int) -> int:
        return (num_frames + 1) // 2

    def encode(self, frames: Tensor, *, generator: object = None) -> Tensor:
        return frames[:, :1].expand(-1, 4, -1, -1, -1)

    def decode(
        self,
        latents: Tensor,
        *,
        reference: Tensor | None = None,
        num_frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        self.eager_calls += not self.whole  # graphs decode whole
        if reference is not None:
            missing = [4 * latents.shape[axis] - reference.shape[axis - 1] for axis in (4, 3)]
            reference = torch.nn.functional.pad(reference, (0, missing[0], 0, missing[1]), mode="replicate")
        frames = super().decode(latents, reference=reference)
        height, width = size or frames.shape[3:]
        return frames[:, :, : num_frames or frames.shape[2], :height, :width]


@dataclass(frozen=True, kw_only=True)
class Kept:
    keep_q: Tensor | None = None
    restore: Tensor | None = None
    keep_kv: Tensor | None = None


@dataclass
class Dropping:
    """Keeps the tokens that it is told, the same at every call; matches at the first one."""

    selections_of: dict[int, Kept]
    matched: dict[int, tuple[Tensor | None, Tensor | None]] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, site: Any, /) -> Tensor:
        kept = self.selections_of.get(site.block)
        if kept is not None and kept.keep_kv is not None:
            k, v = self._take(k, kept.keep_kv), self._take(v, kept.keep_kv)
        if kept is None or kept.keep_q is None or kept.restore is None:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)
        few = torch.nn.functional.scaled_dot_product_attention(self._take(q, kept.keep_q), k, v)
        return self._take(few, kept.restore)

    def selections(
        self, shape: tuple[int, int, int, int], num_blocks: int, grid: tuple[int, int, int]
    ) -> dict[int, Kept] | None:
        self.asked.append((shape, num_blocks, grid))
        return self.selections_of if self.matched else None

    def match(self, q: Tensor | None, v: Tensor | None, site: Any, /) -> None:
        self.matched[site.block] = (q, v)

    @staticmethod
    def _take(x: Tensor, index: Tensor) -> Tensor:
        return x.gather(2, index.long().unsqueeze(-1).expand(*index.shape, x.shape[-1]))
