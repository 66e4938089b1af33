"""Flow-matching training of a `FSVideoDiT`, together with its text encoder if that is to learn too.

The loop is a plain function of configuration and batches: stopped and resumed it gives the same bits as uninterrupted.
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from fastvid_dit.flow import add_noise, pseudo_huber_loss, sample_sigmas, velocity_target
from fastvid_dit.fsvideo_dit import FSVideoDiT
from fastvid_dit.training.ema import MovingAverage
from fastvid_dit.training.schedule import warmup_cosine

SEED_MASK = 0x2545F491
"""Keeps our draws apart from data that the caller seeds with the same small number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Settings of a run. Where the FSVideo paper names a value it is the default (betas); the others are ours."""

    num_steps: int
    learning_rate: float
    warmup_steps: int = 100
    final_rate_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    router_rate_ratio: float = 10.0  # as LIMe trains its routers
    muon: bool = False  # the blocks' matrices by Muon, at the same rates; AdamW for the rest
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    sigma_shift: float = 1.0
    text_dropout: float = 0.1
    condition_dropout: float = 0.0
    autocast_bfloat16: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "learning_rate", "router_rate_ratio", "max_grad_norm", "sigma_std", "sigma_shift"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        for name in ("text_dropout", "condition_dropout", "ema_decay", "final_rate_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.warmup_steps <= self.num_steps:
            raise ValueError(f"`warmup_steps` must lie in [0, num_steps = {self.num_steps}], got {self.warmup_steps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's data, on the model's device. `text` is what the text encoder reads, or its output without one."""

    latents: Float[Tensor, "b c t h w"]
    condition: Float[Tensor, "b k t h w"]  # as the pipeline will build it: `first_frame_condition`, or a refiner's
    text: Shaped[Tensor, "b l *d"]
    text_mask: Bool[Tensor, "b l"] | None = None
    image_tokens: Float[Tensor, "b m e"] | None = None
    positions: Float[Tensor, "3 t h w"] | None = None  # None: the latents are a whole video


@dataclass(frozen=True, slots=True, kw_only=True)
class NullText:
    """The text of the unconditional branch: what one row of `Batch.text` becomes when it is dropped."""

    text: Shaped[Tensor, "l *d"]
    mask: Bool[Tensor, " l"] | None = None


LossFunction = Callable[
    [Float[Tensor, "b c t h w"], Float[Tensor, "b c t h w"], Float[Tensor, " b"]], Float[Tensor, ""]
]
"""Predicted velocity, true velocity and noise level to a number."""


def velocity_loss(
    velocity: Float[Tensor, "b c t h w"], target: Float[Tensor, "b c t h w"], sigma: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Mean over the batch of the pseudo-Huber loss, divided by sqrt(d) so that it reads as a root mean square."""
    return pseudo_huber_loss(velocity, target).mean() / math.sqrt(target[0].numel())


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What a step callback sees; `step` counts finished steps."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float


class Trainer:
    """Owns optimizer, averages and random state; the models belong to the caller and are trained in place.

    Args:
        config: settings.
        transformer: the model.
        text_encoder: trained jointly, called as `text_encoder(text, text_mask)`; None: batches hold text tokens.
        null_text: replaces dropped texts; needed when `config.text_dropout` > 0.
        loss_function: of velocities.
    """

    def __init__(
        self,
        config: TrainerConfig,
        transformer: FSVideoDiT,
        *,
        text_encoder: nn.Module | None = None,
        null_text: NullText | None = None,
        loss_function: LossFunction = velocity_loss,
    ) -> None:
        if config.text_dropout > 0 and null_text is None:
            raise ValueError(f"`null_text` is required with `text_dropout` {config.text_dropout}")
        self.config = config
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.null_text = null_text
        self.loss_function = loss_function
        self.step = 0
        parts: dict[str, nn.Module] = {"transformer": transformer}
        if text_encoder is not None:
            parts["text_encoder"] = text_encoder
        self.models = nn.ModuleDict(parts)
        self.optimizers = _build_optimizers(self.models, config)
        self.ema = MovingAverage(self.models, config.ema_decay)
        self.generator = torch.Generator().manual_seed(config.seed ^ SEED_MASK)
        self._forward: Callable[..., Tensor] = (
            torch.compile(transformer, dynamic=False) if config.compile else transformer
        )

    def run(self, batches: Iterable[Batch], *, on_step: Callable[[StepReport], None] | None = None) -> None:
        """Train until `config.num_steps` steps are done or the batches end; the first batch belongs to `self.step`."""
        self.models.train()
        for batch in itertools.islice(batches, self.config.num_steps - self.step):
            report = self.train_step(batch)
            if on_step is not None:
                on_step(report)

    def train_step(self, batch: Batch) -> StepReport:
        """One update.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; nothing has been updated.
        """
        started = time.perf_counter()
        rate = self._set_learning_rate()
        loss = self.loss(batch)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"the loss of step {self.step} is {loss.item()}")
        self.models.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        grad_norm = nn.utils.clip_grad_norm_(self.models.parameters(), self.config.max_grad_norm)
        if not bool(torch.isfinite(grad_norm)):
            raise FloatingPointError(f"the gradient of step {self.step} has the norm {grad_norm.item()}")
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update(self.step)
        self.step += 1
        seconds = time.perf_counter() - started
        return StepReport(
            step=self.step, loss=loss.item(), grad_norm=grad_norm.item(), learning_rate=rate, seconds=seconds
        )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """What `loss_function` makes of one batch at noise levels drawn for it."""
        config, latents = self.config, batch.latents
        noise = torch.randn(latents.shape, generator=self.generator).to(latents)
        sigma = sample_sigmas(
            latents.shape[0],
            mean=config.sigma_mean,
            std=config.sigma_std,
            shift=config.sigma_shift,
            generator=self.generator,
        ).to(latents.device)
        keep = self._keep(latents.shape[0], config.condition_dropout).to(latents.device)
        condition = batch.condition * keep[:, None, None, None, None]
        text, mask = self._drop_text(batch.text, batch.text_mask)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=config.autocast_bfloat16):
            if self.text_encoder is not None:
                text = self.text_encoder(text, mask)
            velocity = self._forward(
                add_noise(latents, noise, sigma),
                1000 * sigma,
                text,
                mask,
                condition=condition,
                image_tokens=batch.image_tokens,
                positions=batch.positions,
            )
        return self.loss_function(velocity, velocity_target(latents, noise), sigma)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything a resumed run needs to one file, which is replaced at once: tensors and numbers only."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        state: dict[str, Any] = {
            "step": self.step,
            "models": self.models.state_dict(),
            "ema": self.ema.averages,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
        }
        try:
            torch.save(state, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file of `save`; the models and the configuration are those of the saved run."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.models.load_state_dict(state["models"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, average in self.ema.averages.items():
            average.copy_(state["ema"][name])
        self.generator.set_state(state["generator"])
        self.step = state["step"]

    def _set_learning_rate(self) -> float:
        config = self.config
        factor = warmup_cosine(
            self.step,
            num_steps=config.num_steps,
            warmup_steps=config.warmup_steps,
            final_ratio=config.final_rate_ratio,
        )
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = config.learning_rate * group["rate_ratio"] * factor
        return config.learning_rate * factor

    def _keep(self, count: int, dropout: float) -> Bool[Tensor, " count"]:
        return torch.rand(count, generator=self.generator) >= dropout

    def _drop_text(self, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        keep = self._keep(text.shape[0], self.config.text_dropout).to(text.device)
        if self.null_text is None:
            return text, mask
        if (mask is None) != (self.null_text.mask is None):
            raise ValueError("`text_mask` of the batch and `mask` of the null text must be given both or not at all")
        text = torch.where(keep.view(-1, *(1,) * (text.dim() - 1)), text, self.null_text.text.to(text))
        if mask is not None and self.null_text.mask is not None:
            mask = torch.where(keep[:, None], mask, self.null_text.mask.to(mask))
        return text, mask


def _build_optimizers(models: nn.Module, config: TrainerConfig) -> list[torch.optim.Optimizer]:
    """Matrices decay; vectors do not; routers learn faster and do not decay."""
    named = dict(models.named_parameters())
    routers = [name for name in named if "memory_router" in name]
    linears = [f"{name}.weight" for name, module in models.named_modules() if isinstance(module, nn.Linear)]
    muon = [name for name in linears if config.muon and ".blocks." in name and name not in routers]
    rest = [name for name in named if name not in {*routers, *muon}]
    groups = [
        {"params": [named[name] for name in rest if named[name].dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [named[name] for name in rest if named[name].dim() < 2], "weight_decay": 0.0},
        {"params": [named[name] for name in routers], "weight_decay": 0.0, "rate_ratio": config.router_rate_ratio},
    ]
    groups = [{"lr": config.learning_rate, "rate_ratio": 1.0, **group} for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=config.betas, fused=True)]
    if muon:
        matrices = {"params": [named[name] for name in muon], "lr": config.learning_rate, "rate_ratio": 1.0}
        # Scaled so that an update is as large as AdamW's, whose rate and decay it can then share.
        optimizers.append(
            torch.optim.Muon([matrices], weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers
