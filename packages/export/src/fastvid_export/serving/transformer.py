"""A transformer that runs as engines: dense, of fewer tokens, and with what tokens are matched by."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fastvid_export.errors import EngineError
from fastvid_export.expected import SHARED_AXES
from fastvid_export.interfaces import SelectingAttention, Selection, ServedTransformer
from fastvid_export.load import LoadedEngine
from fastvid_export.serving.engine_module import EngineModule, Fallback, Policy

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where attention happens, as accelerators know it."""

    block: int
    num_blocks: int
    grid: tuple[int, int, int]


@final
class EngineTransformer:
    """Takes the place of a transformer in a pipeline; same call, same result but for rounding.

    An accelerator that merges frames changes sizes and positions alone, which the dense engine takes. One that drops
    tokens inside attention has to know them before the call: it is asked for its `selections`. Where it has none yet,
    the matching engine runs, whole, and shows it what to match; otherwise the engine of fewer tokens gets the indices.
    Any other accelerator that replaces attention needs the eager module.

    A batch that no profile holds, of guidance at full size, is run in parts; an accelerator decides for it as a whole.

    Args:
        eager: the module that the engines were built from: it makes the rotary tables and conditions.
        dense: of `transformer_exportable`.
        reduced, matching: of the same with `q_blocks` and `kv_blocks`, and of `matching_exportable`.
        fallback: for calls that the engines cannot take.
    Raises:
        ValueError: one of `reduced` and `matching` without the other.
    """

    def __init__(
        self,
        eager: ServedTransformer,
        dense: LoadedEngine,
        *,
        reduced: LoadedEngine | None = None,
        matching: LoadedEngine | None = None,
        fallback: Fallback = "error",
    ) -> None:
        if (reduced is None) != (matching is None):
            raise ValueError("`reduced` and `matching` go together: the one gets what the other lets match; give both")
        self.eager = eager
        self._dense = EngineModule(dense)
        self._reduced = None if reduced is None else EngineModule(reduced)
        self._matching = None if matching is None else EngineModule(matching)
        self._policy = Policy(fallback, "transformer")

    @property
    def config(self) -> Any:  # the model's own, whose type only its package knows
        """The model's configuration."""
        return self.eager.config

    @property
    def records(self) -> dict[str, Any]:
        """Keys of the engines, by what they are for."""
        engines = {"dense": self._dense, "reduced": self._reduced, "matching": self._matching}
        return {name: engine.record.key for name, engine in engines.items() if engine is not None}

    def first_frame_condition(
        self, image_latents: Float[Tensor, "b c 1 h w"], num_latent_frames: int
    ) -> Float[Tensor, "b k t h w"]:
        """As the model's."""
        return self.eager.first_frame_condition(image_latents, num_latent_frames)

    def refiner_condition(
        self,
        upsampled: Float[Tensor, "b c t h w"],
        image_latents: Float[Tensor, "b c 1 h w"],
        upsampled_image_latents: Float[Tensor, "b c 1 h w"],
    ) -> Float[Tensor, "b k t h w"]:
        """As the model's."""
        return self.eager.refiner_condition(upsampled, image_latents, upsampled_image_latents)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> NoReturn:
        """Refuse: an engine is no checkpoint.

        Raises:
            ValueError: always.
        """
        raise ValueError("an engine cannot be saved as a checkpoint; save the pipeline with its eager transformer")

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
        attention: Callable[..., Tensor] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """The velocity, in the dtype of `latents`. Arguments as those of the model.

        Raises:
            EngineError: no engine takes the call, and `fallback` is 'error'.
        """
        inputs = {
            "latents": latents,
            "timestep": timestep,
            "text": text,
            "text_mask": text_mask,
            "condition": condition,
            "image_tokens": image_tokens,
        }
        grid = self._grid(latents)
        places = _integer_grid(grid, latents.device) if positions is None else positions
        call: dict[str, Any] = {**inputs, "positions": places} | ({} if attention is None else {"attention": attention})
        return self._policy.call(partial(self._run, inputs, places, grid, attention), lambda: self.eager(**call)).to(
            latents.dtype
        )

    def _run(
        self,
        inputs: Mapping[str, Tensor | None],
        positions: Tensor,
        grid: tuple[int, int, int],
        attention: Callable[..., Tensor] | None,
    ) -> Tensor:
        if attention is None:
            return self._evaluate(self._dense, inputs, positions)["velocity"]
        selecting = _selecting(attention)
        if self._reduced is None or self._matching is None:
            raise EngineError("an accelerator drops tokens inside attention, and no engine of fewer tokens was given")
        config, latents = self.eager.config, inputs["latents"]
        assert latents is not None
        n = grid[0] * grid[1] * grid[2]
        shape = (len(latents), config.num_heads, n, config.width // config.num_heads)
        selections = _asked(lambda: selecting.selections(shape, config.num_blocks, grid))
        if selections is None:
            outputs = self._evaluate(self._matching, inputs, positions)
            for block in range(config.num_blocks):
                site = Site(block=block, num_blocks=config.num_blocks, grid=grid)
                _asked(partial(selecting.match, outputs.get(f"query_{block}"), outputs.get(f"value_{block}"), site))
            return outputs["velocity"]
        if not selections:
            return self._evaluate(self._dense, inputs, positions)["velocity"]
        indices = _indices(self._reduced, selections, shape, grid, latents.device)
        return self._evaluate(self._reduced, {**inputs, **indices}, positions)["velocity"]

    def _evaluate(
        self, engine: EngineModule, inputs: Mapping[str, Tensor | None], positions: Tensor
    ) -> dict[str, Tensor]:
        mask, text = inputs["text_mask"], inputs["text"]
        assert text is not None
        if mask is None and engine.takes("text_mask"):
            mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        cos, sin = self._tables(engine, positions)
        return engine({**inputs, "text_mask": mask, "cos": cos, "sin": sin})

    def _tables(self, engine: EngineModule, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary tables in the form that the engine takes them: of all blocks, or of each."""
        of_blocks = positions.dim() > SHARED_AXES
        tables = self.eager.rotary_tables(positions)
        if (engine.num_axes("cos") > SHARED_AXES) == of_blocks:
            return tables
        if of_blocks:
            raise EngineError("`positions` differ from block to block; this engine has one rotary table for all blocks")
        cos, sin = (table.expand(self.eager.config.num_blocks, *table.shape).contiguous() for table in tables)
        return cos, sin

    def _grid(self, latents: Tensor) -> tuple[int, int, int]:
        t, h, w = (
            -(-size // patch) for size, patch in zip(latents.shape[2:], self.eager.config.patch_size, strict=True)
        )
        return t, h, w


def _indices(
    engine: EngineModule,
    selections: Mapping[int, Selection],
    shape: tuple[int, int, int, int],
    grid: tuple[int, int, int],
    device: torch.device,
) -> dict[str, Tensor]:
    """The engine's index inputs; a block that keeps all its tokens, as the engine does not know, names them all."""
    batch, heads, n, _ = shape
    everything = torch.arange(n, dtype=torch.int32, device=device).expand(batch, heads, n)
    indices: dict[str, Tensor] = {}
    for name in engine.index_inputs:
        feature, _, block = name.rpartition("_")
        selection = selections.get(int(block))
        chosen = None if selection is None else getattr(selection, feature)
        index = everything if chosen is None else chosen
        indices[name] = (index.unflatten(-1, grid) if feature == "restore" else index).contiguous()
    needed = {
        f"{feature}_{block}"
        for block, selection in selections.items()
        for feature in ("keep_q", "keep_kv")
        if getattr(selection, feature) is not None
    }
    if missing := sorted(needed - indices.keys()):
        raise EngineError(f"tokens are dropped where the engine of fewer tokens keeps all: it takes no {missing}")
    return indices


def _integer_grid(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _selecting(attention: Callable[..., Tensor]) -> SelectingAttention:
    """The attention, as one that can say which tokens it keeps; of what a caller hands over, no type tells that."""
    if not callable(getattr(attention, "selections", None)):
        raise EngineError(
            f"`attention` is replaced by {attention!r}, which cannot say before the call which tokens it keeps"
        )
    return cast(SelectingAttention, attention)


def _asked(question: Callable[[], T]) -> T:
    """What an accelerator answers; what it refuses, the engines cannot do."""
    try:
        return question()
    except ValueError as error:
        raise EngineError(str(error)) from error
