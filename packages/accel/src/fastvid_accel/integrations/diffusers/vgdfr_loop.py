"""A pipeline's denoising loop, seen from its scheduler, while VGDFR follows it."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fastvid_accel.integrations.diffusers.samplers import Sampler, check_timesteps, sampler_of
from fastvid_accel.vgdfr.accelerator import VGDFRSession

PLACED_FAMILIES = {"hunyuan": 4, "wan": 3}
"""Whose blocks can be given positions, and which of a block's arguments holds the rotary table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    index: int
    num_steps: int
    sigma: float
    next_sigma: float


class Loop:
    """A pipeline's loop, seen from its scheduler."""

    def __init__(self, family: str, transformer: Any, sampler: Sampler, session: VGDFRSession, num_steps: int) -> None:
        self.family = family
        self.transformer = transformer
        self.sampler = sampler
        self.session = session
        self.num_steps = num_steps
        self.index = 0
        self.grid: tuple[int, int, int] | None = None

    def after_step(self, output: Tensor, sample: Tensor, stepped: Tensor) -> Tensor:
        """The session's half of a step: latents at the next level in, those that the pipeline goes on with out."""
        first, last = self.sampler.levels(self.index)
        denoised = self._unpacked(self.sampler.denoised(output, sample, self.index))
        latents = self._unpacked(stepped.float()) / last.scale
        step = _Step(index=self.index, num_steps=self.num_steps, sigma=first.sigma, next_sigma=last.sigma)
        self.index += 1
        grid = torch.stack(
            torch.meshgrid(torch.arange(latents.shape[2]).float(), torch.zeros(1), torch.zeros(1), indexing="ij")
        )
        merged, _ = self.session.end_step(latents, denoised, grid, step)
        if merged is latents:
            return stepped
        self.sampler.forget()
        if getattr(self.transformer, "is_cache_enabled", False):
            self.transformer._reset_stateful_cache()  # residuals of the old length
        return self._packed(merged * last.scale).to(stepped.dtype)

    @property
    def kept(self) -> list[int] | None:
        """Latents that are left; None while all are."""
        record = self.session.record
        return None if record is None or not record.rate.merges else list(record.rate.kept_latents)

    def _unpacked(self, latents: Tensor) -> Tensor:
        if self.family == "cogvideox":
            return latents.transpose(1, 2)
        if self.family == "ltx":
            assert self.grid is not None  # the transformer ran
            _, rows, columns = self.grid
            cells: Tensor = latents.unflatten(1, (-1, rows, columns))
            return cells.permute(0, 4, 1, 2, 3)
        return latents

    def _packed(self, latents: Tensor) -> Tensor:
        if self.family == "cogvideox":
            return latents.transpose(1, 2)
        return latents.flatten(2).transpose(1, 2) if self.family == "ltx" else latents


@contextmanager
def following(pipe: Any, family: str, session: VGDFRSession, num_steps: int) -> Iterator[None]:
    """Patch the scheduler's step and what must know the number of frames; undo it at the end, come what may."""
    scheduler, transformer = pipe.scheduler, pipe.transformer
    loop = Loop(family, transformer, sampler_of(scheduler), session, num_steps)
    own_step = scheduler.step

    @functools.wraps(own_step)  # pipelines read its signature
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if loop.index == 0:
            check_timesteps(scheduler, num_steps)
        stepped, *others = own_step(model_output, timestep, sample, *args, **kwargs)
        return (loop.after_step(model_output, sample, stepped), *others)

    with ExitStack() as undo:
        undo.enter_context(_replaced(scheduler, "step", step))
        session.blocks_are(len(_blocks(transformer)))
        if family == "cogvideox":
            undo.enter_context(_hooked(transformer, functools.partial(_shorter_rotary_table, loop)))
        elif family == "ltx":
            undo.enter_context(_hooked(transformer, functools.partial(_true_num_frames, loop)))
            unpack = functools.partial(_unpack_what_is_there, pipe._unpack_latents, loop)
            undo.enter_context(_replaced(pipe, "_unpack_latents", unpack))
        elif session.config.positions != "local":
            _place_blocks(undo, transformer, PLACED_FAMILIES[family], loop, session)
        yield


def _blocks(transformer: Any) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for name in ("transformer_blocks", "single_transformer_blocks", "blocks"):
        blocks += list(getattr(transformer, name, []))
    return blocks


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of one object, until the end."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)  # the class's own shows again


@contextmanager
def _hooked(module: nn.Module, change: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _shorter_rotary_table(
    loop: Loop, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """CogVideoX with RoPE: the pipeline made the table for all frames; the first rows of it count anew."""
    table = kwargs.get("image_rotary_emb")
    if loop.kept is None or table is None:
        return None
    _, frames, _, height, width = kwargs["hidden_states"].shape
    patch = cast(Any, module).config.patch_size
    rows = frames * (height // patch) * (width // patch)
    return args, kwargs | {"image_rotary_emb": tuple(part[:rows] for part in table)}


def _true_num_frames(
    loop: Loop, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """LTX-Video: the pipeline says how many latent frames there were at first."""
    loop.grid = (kwargs["num_frames"], kwargs["height"], kwargs["width"])
    if loop.kept is None:
        return None
    return args, kwargs | {"num_frames": len(loop.kept)}


def _unpack_what_is_there(unpack: Any, loop: Loop, latents: Tensor, num_frames: int, *sizes: int) -> Tensor:
    out: Tensor = unpack(latents, num_frames if loop.kept is None else len(loop.kept), *sizes)
    return out


def _place_blocks(undo: ExitStack, transformer: Any, argument: int, loop: Loop, session: VGDFRSession) -> None:
    """Rotary tables with the places that the kept latents had, for all blocks or for those that are named."""
    far: list[Any] = []

    def remember(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        hidden, record = args[0], session.record
        far.clear()
        if record is None or not record.rate.merges:
            loop.grid = tuple(hidden.shape[2:])
            return None
        assert loop.grid is not None  # steps before k came first
        whole = cast(Any, module).forward(hidden.new_empty(*hidden.shape[:2], *loop.grid))
        if session.config.positions == "centre":
            far.extend(_halfway(whole, loop.grid[0], record.rate.middle_latents))
            return tuple(far)
        far.extend(_rows_of(part, loop.grid[0], record.rate.kept_latents) for part in whole)
        return tuple(far) if session.config.positions == "global" else None

    def replace(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (*args[:argument], tuple(far), *args[argument + 1 :]) if far else None

    undo.callback(transformer.rope.register_forward_hook(remember).remove)
    named = session.config.positions
    if named is not None and not isinstance(named, str):
        for index, block in enumerate(_blocks(transformer)):
            if index in named:
                undo.callback(block.register_forward_pre_hook(replace).remove)


def _halfway(table: tuple[Tensor, Tensor], num_frames: int, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles in the middle between those of two frames, at most a radian apart."""
    cosines, sines = (
        _rows_of(part, num_frames, [first for first, _ in pairs])
        + _rows_of(part, num_frames, [last for _, last in pairs])
        for part in table
    )
    length = torch.hypot(cosines, sines)
    return cosines / length, sines / length


def _rows_of(table: Tensor, num_frames: int, kept: Sequence[int]) -> Tensor:
    """The tokens of these frames; the tokens lie on the first axis that is longer than 1."""
    axis = next(axis for axis, size in enumerate(table.shape) if size > 1)
    split: Tensor = table.unflatten(axis, (num_frames, -1))
    return split.index_select(axis, torch.tensor(list(kept), device=table.device)).flatten(axis, axis + 1)
