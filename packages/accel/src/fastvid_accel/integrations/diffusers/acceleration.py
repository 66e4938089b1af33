"""Switch AsymRnR on in a pipeline of diffusers, and off again."""

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, cast, final

import torch
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor

from fastvid_accel.asymrnr.accelerator import AsymRnR
from fastvid_accel.asymrnr.place import Reducer
from fastvid_accel.integrations.diffusers.current import Current
from fastvid_accel.integrations.diffusers.families import Family, family_of

HOOK = "fastvid_accel"


class Reducing(Protocol):
    """An accelerator that works inside attention: `AsymRnR` or its `Calibrator`."""

    def reducer(self, *, num_steps: int) -> Reducer: ...


def accelerate(pipe: Any, accelerator: Reducing) -> "Acceleration":
    """Reduce tokens in every video that `pipe` makes from now on.

    It is on at once. Use it in a `with` statement, or call `disable` and `enable`. Nothing of the model changes but the
    processors of self-attention and one hook; `disable` puts back what was there, to the bit.

    Args:
        pipe: CogVideoX, HunyuanVideo, Wan, LTX-Video or Mochi; with `transformer_2` (Wan 2.2) both are accelerated.
        accelerator: settings; each video gets a state of its own.
    Raises:
        ValueError: another model, one that is split over devices, one that is accelerated already, or a table of
            another model.
    """
    transformers = [
        unwrap_module(transformer)  # type: ignore[no-untyped-call]
        for name in ("transformer", "transformer_2")
        if (transformer := getattr(pipe, name, None)) is not None
    ]
    if not transformers:
        raise ValueError(f"`pipe` is {type(pipe).__name__}, which has no `transformer`")
    families = [family_of(transformer) for transformer in transformers]
    for transformer in transformers:
        _check(transformer, accelerator)
    acceleration = Acceleration(
        [
            _Accelerated(pipe, transformer, family, accelerator)
            for transformer, family in zip(transformers, families, strict=True)
        ]
    )
    acceleration.enable()
    return acceleration


def model_name(transformer: Any) -> str:
    """What tables call a model: its class and its size. Models of one size and class cannot be told apart by it."""
    model = unwrap_module(transformer)  # type: ignore[no-untyped-call]
    blocks = len(family_of(model).attentions(model))
    config = model.config
    return f"{type(model).__name__}-{blocks}x{config.num_attention_heads}x{config.attention_head_dim}"


def _check(transformer: Any, accelerator: Reducing) -> None:
    if getattr(transformer, "_parallel_config", None) is not None:
        raise ValueError(
            "`pipe` has a transformer that is split over devices (parallelism); a device then sees a part of the tokens"
            " or heads, which AsymRnR cannot match: switch parallelism off"
        )
    if isinstance(accelerator, AsymRnR) and accelerator.table is not None:
        name = model_name(transformer)
        if accelerator.table.model != name:
            raise ValueError(
                f"`accelerator` has a table of {accelerator.table.model!r}, the transformer is {name!r}; calibrate it"
            )


@final
class Acceleration:
    """Made by `accelerate`.

    Attributes:
        num_layers: attention layers that are replaced while it is on.
    """

    def __init__(self, parts: list["_Accelerated"]) -> None:
        self._parts = parts
        self.num_layers = 0

    def enable(self) -> None:
        """Switch it on.

        Raises:
            ValueError: this or another one is on already.
        """
        for part in self._parts:
            part.check_off()
        self.num_layers = sum(part.enable() for part in self._parts)

    def disable(self) -> None:
        """Put everything back; does nothing where it is off."""
        for part in self._parts:
            part.disable()
        self.num_layers = 0

    def report(self) -> dict[str, Any]:
        """Of the last video, finished or not; with two transformers, of both under `transformers`. Empty before."""
        reports = [part.report() for part in self._parts]
        return reports[0] if len(reports) == 1 else {"transformers": reports}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disable()


class _Accelerated:
    """One transformer with its hook and its processors."""

    def __init__(self, pipe: Any, transformer: Any, family: Family, accelerator: Reducing) -> None:
        self.pipe = pipe
        self.transformer = transformer
        self.family = family
        self.accelerator = accelerator
        # once: step caches show the model other blocks while it runs
        self.attentions = family.attentions(transformer)
        self.current = Current(len(self.attentions))
        self._last: Reducer | None = None
        self._steps: dict[str, int] = {}
        self._on = False

    def check_off(self) -> None:
        """Refuse a second one on the same transformer."""
        if HookRegistry.check_if_exists_or_initialize(self.transformer).get_hook(HOOK) is not None:
            raise ValueError("`pipe` is accelerated already; call `disable` of what `accelerate` returned first")

    def enable(self) -> int:
        for block, attention in enumerate(self.attentions):
            attention.processor = self.family.processor(self.current, block, attention.processor)
        HookRegistry.check_if_exists_or_initialize(self.transformer).register_hook(_PlaceHook(self), HOOK)
        self._on = True
        self.check_layers()
        return len(self.attentions)

    def disable(self) -> None:
        if not self._on:
            return
        self._on = False
        HookRegistry.check_if_exists_or_initialize(self.transformer).remove_hook(HOOK, recurse=False)
        for attention in self.attentions:
            if isinstance(attention.processor, self.family.processor):
                attention.processor = attention.processor.replaced
        self.end_video()

    def check_layers(self) -> None:
        """Every layer is replaced, or nothing is said to be saved that is not."""
        lost = sum(not isinstance(attention.processor, self.family.processor) for attention in self.attentions)
        if lost:
            raise ValueError(
                f"`pipe` has {lost} attention layers whose processor was replaced after `accelerate`"
                " (by fusing projections, or another accelerator); call `accelerate` last"
            )

    def begin(self, branch: str, step: int | None, num_steps: int | None, arguments: dict[str, Any]) -> None:
        """Before a forward pass. A step that this branch has run already, or an earlier one, begins another video:

        the one before may have ended in an error, after which pipelines reset nothing.
        """
        current = self.current
        total = self._num_steps(num_steps)
        index = self._step(branch, arguments["timestep"]) if step is None else step
        if index < max(self._steps.get(branch, 0), current.step):
            self.end_video()
        if current.reducer is None:
            self.check_layers()
            current.reducer = self._last = self.accelerator.reducer(num_steps=total)
        self._steps[branch] = index + 1
        current.branch, current.step = branch, index
        current.grid = self.family.grid(self.transformer, arguments)
        current.reducer.begin_step(index)

    def end_video(self) -> None:
        """Forget the state; the report stays until the next video begins."""
        self.current.reducer = None
        self.current.step = 0
        self._steps.clear()

    def report(self) -> dict[str, Any]:
        return {} if self._last is None else self._last.report()

    def _step(self, branch: str, timestep: Tensor) -> int:
        """Where the timestep stands among the scheduler's; next after the last call where several are equal to it.

        Some pipelines round it to 16 bits first, which makes neighbours equal.
        """
        after = self._steps.get(branch, 0)
        here = timestep.detach().flatten().max()  # Wan 2.2 gives a frame that is known the timestep 0
        rounded = self.pipe.scheduler.timesteps.to(here.device, here.dtype)
        places: list[int] = (rounded == here).nonzero().flatten().tolist()
        if not places:
            return after % len(rounded)
        return after if after in places else places[0]

    def _num_steps(self, told: int | None) -> int:
        if told is not None:
            return told
        timesteps = getattr(getattr(self.pipe, "scheduler", None), "timesteps", None)
        if timesteps is None or len(timesteps) == 0:
            raise ValueError("`pipe.scheduler` has no timesteps; AsymRnR has to know how many steps there will be")
        return len(timesteps)


class _NoState(BaseState):
    """The state is the reducer's; diffusers wants a class of its own."""

    def reset(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is held."""


class _PlaceHook(ModelHook):
    """Tells the processors where the pipeline is; pipelines reset it when a video is done."""

    _is_stateful = True

    def __init__(self, owner: _Accelerated) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner
        self.manager = StateManager(_NoState)  # type: ignore[arg-type]  # the class, not an object, is wanted
        forward = type(owner.transformer).forward
        self.signature = inspect.signature(forward)

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pass the arguments on."""
        _begin(self, module, args, kwargs)
        return args, kwargs

    def reset_state(self, module: Any) -> Any:
        """The video is done."""
        self.owner.end_video()
        return module


def _begin_eagerly(hook: _PlaceHook, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    branch, step, num_steps = "", None, None
    try:
        context = hook.manager.context
        branch, step, num_steps = context.name, context.step_index, context.num_inference_steps
    except ValueError:
        pass  # called outside a pipeline, which has one branch as far as anyone can tell
    arguments = hook.signature.bind_partial(module, *args, **kwargs).arguments
    hook.owner.begin(branch, step, num_steps, dict(arguments))


_begin = cast(Callable[..., None], torch.compiler.disable(_begin_eagerly))
