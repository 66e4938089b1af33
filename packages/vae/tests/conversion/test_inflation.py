"""An OD-VAE that starts from an image autoencoder sees an image as that one does (equation 4)."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from fastvid_vae import (
    ODVAE,
    ODVAE_V1_0,
    ODVAE_V1_1,
    ODVAE_VARIANT_1,
    ODVAE_VARIANT_2,
    ODVAE_VARIANT_3,
    ODVAE_VARIANT_4,
    ODVAEConfig,
)
from fastvid_vae.conversion import inflation
from fastvid_vae.conversion.inflation import Initialisation, inflate, inflate_kernel
from fastvid_vae.odvae.blocks import CausalConv3d, to_pictures, to_video
from torch import Tensor, nn

WIDTHS = (8, 16, 16, 16)
INHERITING: list[Initialisation] = ["tail", "average", "center"]
VARIANTS = [ODVAE_VARIANT_1, ODVAE_VARIANT_2, ODVAE_VARIANT_3, ODVAE_VARIANT_4, ODVAE_V1_0]
TOLERANCE = 1e-5


def small(config: ODVAEConfig, **changes: object) -> ODVAEConfig:
    return replace(config, widths=WIDTHS, num_blocks=1, norm_groups=4, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def image_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(noise * (1.5 / fan) ** 0.5 if fan > 1 else 1 + 0.3 * noise)
    return model.eval().requires_grad_(False)


def inflated(image_vae: AutoencoderKL, config: ODVAEConfig, initialisation: Initialisation) -> ODVAE:
    model = ODVAE(config)
    model.load_state_dict(inflate(image_vae.state_dict(), config, initialisation=initialisation))
    return model.eval().requires_grad_(False)


def moments(model: ODVAE, frames: Tensor) -> Tensor:
    posterior = model.posterior(frames)
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def image_moments(image_vae: AutoencoderKL, picture: Tensor) -> Tensor:
    found: Tensor = image_vae.encode(picture).latent_dist.parameters
    return found


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


def per_frame(model: nn.Module) -> None:
    """Norms that see one frame: what only a model without temporal layers has."""

    class FrameNorm(nn.Module):
        def __init__(self, norm: nn.GroupNorm) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return to_video(self.norm(to_pictures(x)), x) if x.dim() == 5 else self.norm(x)

    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, FrameNorm(child))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("initialisation", INHERITING)
@torch.no_grad()
def test_equation_4_for_one_convolution(initialisation: Initialisation, stride: int) -> None:
    torch.manual_seed(0)
    flat, solid = nn.Conv2d(5, 6, 3, stride=stride, padding=1), CausalConv3d(5, 6, stride=(stride,) * 3)
    solid.conv.weight.copy_(inflate_kernel(flat.weight, 3, initialisation))
    solid.conv.bias.copy_(flat.bias)  # type: ignore[union-attr]  # there is one
    x = torch.randn(2, 5, 12, 12)
    assert torch.allclose(solid(x.unsqueeze(2)).squeeze(2), flat(x), atol=TOLERANCE)
    video = torch.randn(2, 5, 5, 12, 12)
    same = torch.allclose(solid(video)[:, :, 2], flat(video[:, :, 2 * stride]), atol=TOLERANCE)
    assert same is (initialisation == "tail")  # it alone sees every frame of a video so


@pytest.mark.parametrize("initialisation", INHERITING)
@pytest.mark.parametrize("config", VARIANTS, ids=["1", "2", "3", "4", "v1.0"])
@torch.no_grad()
def test_equation_4_for_the_encoder(
    config: ODVAEConfig, initialisation: Initialisation, image_vae: AutoencoderKL, picture: Tensor
) -> None:
    expected = image_moments(image_vae, picture)
    assert float(expected.abs().max()) > 0.1
    model = inflated(image_vae, small(config), initialisation)
    assert torch.allclose(moments(model, picture.unsqueeze(2)).squeeze(2), expected, atol=TOLERANCE)


@pytest.mark.parametrize("initialisation", INHERITING)
@torch.no_grad()
def test_the_decoder_is_the_same_where_it_upsamples_alike(
    initialisation: Initialisation, image_vae: AutoencoderKL
) -> None:
    latents = torch.randn(2, 4, 4, 5, generator=torch.Generator().manual_seed(2))
    expected = image_vae.decode(latents).sample
    for config in (ODVAE_VARIANT_1, ODVAE_VARIANT_4):
        for mode, same in (("nearest", True), ("trilinear", False)):
            model = inflated(image_vae, small(config, upsample_mode=mode), initialisation)
            found = model.decode((latents * model.config.scaling_factor).unsqueeze(2)).squeeze(2)
            error = float((found - expected).abs().max() / expected.abs().max())
            assert error < TOLERANCE if same else error > 0.02


@torch.no_grad()
def test_with_norms_of_one_frame_the_tails_latents_are_those_of_every_fourth_frame(image_vae: AutoencoderKL) -> None:
    frames = torch.rand(1, 3, 13, 16, 24, generator=torch.Generator().manual_seed(3)) * 2 - 1
    expected = torch.stack([image_moments(image_vae, frames[:, :, 4 * i]) for i in range(4)], dim=2)
    for config in (ODVAE_VARIANT_1, ODVAE_VARIANT_4):
        for initialisation in INHERITING:
            model = inflated(image_vae, small(config), initialisation)
            assert not torch.allclose(moments(model, frames), expected, atol=1e-3)  # norms mix the frames
            per_frame(model)
            same = torch.allclose(moments(model, frames), expected, atol=TOLERANCE)
            assert same is (initialisation == "tail")


def first_tap(kernel: Tensor, depth: int, initialisation: Initialisation) -> Tensor:
    """The mutant: time runs backwards."""
    return inflate_kernel(kernel, depth, initialisation).flip(2)


@torch.no_grad()
def test_the_wrong_tap_is_caught(image_vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.rand(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    monkeypatch.setattr(inflation, "inflate_kernel", first_tap)
    model = inflated(image_vae, small(ODVAE_VARIANT_4), "tail")
    per_frame(model)
    expected = torch.stack([image_moments(image_vae, frames[:, :, 4 * i]) for i in range(3)], dim=2)
    assert not torch.allclose(moments(model, frames), expected, atol=1e-3)


def zeros_first(self: CausalConv3d, x: Tensor) -> Tensor:
    """The mutant: nothing before the first frame. The tail never looks there; the others do."""
    padded: Tensor = self.conv(torch.cat([torch.zeros_like(x[:, :, :1])] * self.reach + [x], dim=2))
    return padded


@torch.no_grad()
def test_equation_4_needs_the_copies_of_the_first_frame(
    image_vae: AutoencoderKL, picture: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = image_moments(image_vae, picture)
    monkeypatch.setattr(CausalConv3d, "forward", zeros_first)
    for initialisation in INHERITING:
        found = moments(inflated(image_vae, small(ODVAE_VARIANT_1), initialisation), picture.unsqueeze(2)).squeeze(2)
        assert torch.allclose(found, expected, atol=1e-2) is (initialisation == "tail")


def test_every_tensor_of_the_image_autoencoder_is_inherited_once(image_vae: AutoencoderKL) -> None:
    config = small(ODVAE_VARIANT_4)
    with torch.device("meta"):
        like = ODVAE(config).state_dict()
    pairs = inflation._pairs(config, like, image_vae.state_dict())
    assert [*pairs] == [*like]
    assert sorted(pairs.values()) == sorted(image_vae.state_dict())


@torch.no_grad()
def test_random_inherits_nothing(image_vae: AutoencoderKL) -> None:
    config, source = small(ODVAE_VARIANT_4), image_vae.state_dict()
    drawn = [
        inflate(source, config, initialisation="random", generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    kernel, norm = "decoder.mid.block_1.conv1.conv.weight", "decoder.mid.block_1.norm1"
    assert torch.equal(drawn[0][kernel], drawn[1][kernel])
    assert not torch.equal(drawn[0][kernel], drawn[2][kernel])
    assert float(drawn[0][kernel].std()) == pytest.approx((16 * 27) ** -0.5, rel=0.1)
    assert bool((drawn[0][f"{norm}.weight"] == 1).all() and (drawn[0][f"{norm}.bias"] == 0).all())
    ODVAE(config).load_state_dict(drawn[0])


def without(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


def test_what_cannot_be_inherited_is_refused(image_vae: AutoencoderKL) -> None:
    config, source = small(ODVAE_VARIANT_4), image_vae.state_dict()
    with pytest.raises(ValueError, match=r"missing \['encoder.conv_in.weight'\]"):
        inflate(without(source, "encoder.conv_in.weight"), config)
    with pytest.raises(ValueError, match=r"left over \['lora'\]"):
        inflate(source | {"lora": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"`config` has layers that .*time_downsample"):
        inflate(source, small(ODVAE_V1_1))
    with pytest.raises(ValueError, match=r"encoder.conv_in.weight would be \(8, 3, 3, 3\), expected \(16, "):
        inflate(source, replace(config, widths=(16, 32, 32, 32)))
    with pytest.raises(ValueError, match="`initialisation` is 'head'; expected 'tail'"):
        inflate(source, config, initialisation="head")  # type: ignore[arg-type]
    for initialisation, generator in (("tail", torch.Generator()), ("random", None)):
        with pytest.raises(ValueError, match="'random' alone has one"):
            inflate(source, config, initialisation=initialisation, generator=generator)  # type: ignore[arg-type]
