from dataclasses import replace

import pytest
import torch
from fastvid_vae import FSAE, FSAE_STANDARD, FSAEConfig
from fastvid_vae.training import patches
from fastvid_vae.training.patches import Window, decode_patch, margin_cells

CONFIG = FSAEConfig(
    latent_channels=4,
    stage_kinds=("conv", "conv", "conv", "attention", "attention"),
    encoder_widths=(4, 8, 8, 8, 8),
    decoder_widths=(4, 8, 8, 8, 8),
    encoder_depths=(1, 1, 1, 1, 1),
    decoder_depths=(1, 1, 1, 1, 1),
    temporal_stages=(0, 1),
    head_width=8,
    affine_norm=True,
    decoder_mode="standard",
    injection=(None, None, "content", "content", "content"),
    injection_head_width=8,
    noise_weight=0.0,
    latent_mean=(0.0,) * 4,
    latent_std=(1.0,) * 4,
)


@pytest.fixture
def model() -> FSAE:
    generator = torch.Generator().manual_seed(0)
    built = FSAE(CONFIG)
    for parameter in built.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return built.eval()


def whole_and_reference(model: FSAE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 2, 8, 10, generator=generator)
    reference = torch.rand(1, 3, 128, 160, generator=generator) * 2 - 1
    return latents, reference, model.decode(latents, reference=reference)


def test_the_margin_of_the_full_size() -> None:
    assert margin_cells(FSAE_STANDARD) == 7


@pytest.mark.parametrize(
    "patch",
    [
        Window(top=0, left=0, height=16, width=20),
        Window(top=0, left=0, height=9, width=10),
        Window(top=5, left=4, height=8, width=9),
        Window(top=6, left=10, height=10, width=10),
    ],
)
@torch.inference_mode()
def test_a_patch_is_that_part_of_the_whole(model: FSAE, patch: Window) -> None:
    latents, reference, whole = whole_and_reference(model)
    part, region = decode_patch(model, latents, reference, patch)
    assert part.shape[2] == whole.shape[2]
    assert (part - region.of(whole)).abs().max() < 1e-5


@torch.inference_mode()
def test_without_a_margin_it_would_not_be(model: FSAE, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, reference, whole = whole_and_reference(model)
    monkeypatch.setattr(patches, "margin_cells", lambda config: margin_cells(config) - 1)
    part, region = decode_patch(model, latents, reference, Window(top=5, left=4, height=8, width=9))
    assert (part - region.of(whole)).abs().max() > 1e-4


def test_the_loss_of_a_patch_reaches_latents_outside_it(model: FSAE) -> None:
    latents, reference, _ = whole_and_reference(model)
    latents.requires_grad_()
    part, _ = decode_patch(model, latents, reference, Window(top=0, left=0, height=8, width=8))
    part.square().mean().backward()
    assert latents.grad is not None
    assert (latents.grad[..., -1] != 0).any()


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (Window(top=-1, left=0, height=8, width=8), "the frame has 16 x 20 cells"),
        (Window(top=9, left=0, height=8, width=8), "the frame has 16 x 20 cells"),
        (Window(top=4, left=4, height=4, width=9), "nothing of it is left"),
    ],
)
def test_patches_that_hold_nothing(model: FSAE, patch: Window, message: str) -> None:
    latents, reference, _ = whole_and_reference(model)
    with pytest.raises(ValueError, match=message):
        decode_patch(model, latents, reference, patch)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stage_kinds": ("conv", "conv", "attention", "attention", "attention")}, "attention in the outer stages"),
        ({"injection": (None, None, "deformable", "content", "content")}, "'deformable' in an outer stage"),
    ],
)
def test_models_without_local_outer_stages(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        margin_cells(replace(CONFIG, **changed))  # type: ignore[arg-type]
