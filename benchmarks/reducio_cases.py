"""The networks that benchmarks/reducio.py times, each with inputs of its own, as calls without arguments."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from fastvid_dit import REDUCIO_DIT_XL, ReducioDiT, ReducioDiTConfig
from fastvid_pipelines.sampling.schedules import steps, vp_sigmas
from fastvid_pipelines.sampling.solvers import History, denoised_from_noise, dpmsolver, vp_alpha
from fastvid_vae import REDUCIO_FT4, ReducioVAE
from torch import Tensor, nn

STEPS = 20
GUIDANCE = 2.5
NUM_FRAMES = 16
TEXT_TOKENS = 120
TOY_WIDTHS = (32, 64, 64, 64)
Call = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every case is given."""

    toy: bool
    runs: int
    device: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    @property
    def side(self) -> int:
        """Of the frames, in pixels."""
        return 128 if self.toy else 1024

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device).to(self.dtype)

    def ready(self, model: nn.Module) -> nn.Module:
        """In the device's data type, for inference."""
        return model.to(self.dtype).eval().requires_grad_(False)


def content_encoders(setting: Setting) -> Call:
    """The content frame's semantic tokens and its latents."""
    from diffusers import AutoencoderKL
    from transformers import CLIPVisionConfig, CLIPVisionModel

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    huge = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    config = CLIPVisionConfig(**(small if setting.toy else huge), image_size=224, patch_size=14, hidden_act="gelu")
    with torch.device(setting.device):
        semantic, content = setting.ready(CLIPVisionModel(config)), setting.ready(AutoencoderKL(**sd_vae(setting)))
    squashed, frame = setting.draw(1, 3, 224, 224), setting.draw(1, 3, setting.side, setting.side)

    def call() -> Tensor:
        tokens: Tensor = semantic(pixel_values=squashed).last_hidden_state
        latents: Tensor = content.encode(frame).latent_dist.mean
        return torch.cat((tokens.flatten(), latents.flatten()))

    return call


def sd_vae(setting: Setting) -> dict[str, object]:
    """Stable Diffusion's autoencoder; narrow for toys."""
    widths = TOY_WIDTHS if setting.toy else (128, 256, 512, 512)
    return {
        "latent_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }


def dit_config(setting: Setting, num_grids: int) -> ReducioDiTConfig:
    frame = REDUCIO_DIT_XL.content_frame
    assert frame is not None
    config = replace(REDUCIO_DIT_XL, content_frame=replace(frame, num_grids=num_grids))
    return replace(config, width=48, num_heads=4, num_blocks=4, ffn_width=96) if setting.toy else config


def build_dit(setting: Setting, num_grids: int) -> tuple[ReducioDiT, dict[str, Tensor]]:
    """The transformer, random in every part, and the condition of both branches."""
    config = dit_config(setting, num_grids)
    with torch.device(setting.device):
        model = ReducioDiT(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)  # a fresh head is zero
    model.lower_precision(setting.dtype)
    frame = config.content_frame
    assert frame is not None
    condition = {
        "text": setting.draw(2, TEXT_TOKENS, config.text_width),
        "semantic": setting.draw(2, frame.semantic_tokens, frame.semantic_width),
        "content": setting.draw(2, frame.content_channels, setting.side // 8, setting.side // 8),
    }
    return model.eval().requires_grad_(False), condition


def condition_cache(setting: Setting) -> Call:
    """Keys and values of all blocks, for both branches."""
    model, condition = build_dit(setting, 4)
    return lambda: model.condition_cache(**condition).blocks[-1].v


def denoise(setting: Setting, *, num_grids: int, cached: bool) -> Call:
    """All steps, guided: both branches in one batch, DPM-Solver++ on the variance-preserving schedule."""
    model, condition = build_dit(setting, num_grids)
    cells = setting.side // REDUCIO_FT4.stride[1]
    noise = setting.draw(1, model.config.latent_channels, NUM_FRAMES // REDUCIO_FT4.stride[0], cells, cells)
    size = torch.full((2, 2), float(setting.side), device=setting.device)
    given = {"cache": model.condition_cache(**condition)} if cached else condition
    sigmas, timesteps = vp_sigmas(STEPS)

    def call() -> Tensor:
        latents, history = noise, History()
        for step, timestep in zip(steps(sigmas), timesteps, strict=True):
            asked = torch.full((2,), float(timestep), device=setting.device)
            plain, guided = model(torch.cat((latents, latents)), asked, size=size, **given).chunk(2)
            predicted = plain + GUIDANCE * (guided - plain)
            denoised = denoised_from_noise(latents, predicted, step.sigma)
            latents, history = dpmsolver(latents, denoised, step, history, alpha=vp_alpha)
        return latents

    return call


def decode(setting: Setting) -> Call:
    """Reducio-VAE's decoder with the content frame, in the paper's tiles of 320 pixels."""
    small = {"widths": (32,) * 6, "content_widths": (32,) * 4, "num_blocks": 1, "num_heads": 2, "fusion_head_width": 16}
    config = replace(REDUCIO_FT4, **small) if setting.toy else REDUCIO_FT4  # type: ignore[arg-type]
    with torch.device(setting.device):
        model = setting.ready(ReducioVAE(config))
    cells = setting.side // config.stride[1]
    latents = setting.draw(1, config.latent_channels, NUM_FRAMES // config.stride[0], cells, cells)
    reference = setting.draw(1, 3, setting.side, setting.side).tanh()
    tile, overlap = (64, 0.5) if setting.toy else (320, 0.2)

    def call() -> Tensor:
        with model.tiled(spatial=tile, overlap=overlap):  # type: ignore[operator]  # `ready` returns what it is given
            frames: Tensor = model.decode(latents, reference=reference)  # type: ignore[operator]  # as above
        return frames

    return call


def animatediff(setting: Setting) -> Call:
    """One pass of one branch of AnimateDiff: Stable Diffusion's network with layers over time."""
    from diffusers import UNetMotionModel

    widths = {"block_out_channels": TOY_WIDTHS} if setting.toy else {}
    with torch.device(setting.device):
        model = setting.ready(UNetMotionModel(cross_attention_dim=768, **widths))
    latents, text = latents_of_pictures(setting), setting.draw(NUM_FRAMES, 77, 768)  # once for each frame
    return lambda: model(latents, 500, text, return_dict=False)[0]


def i2vgen(setting: Setting) -> Call:
    """One pass of one branch of I2VGen-XL, which is shown its first frame as well."""
    from diffusers import I2VGenXLUNet

    widths = {"block_out_channels": TOY_WIDTHS, "attention_head_dim": 16} if setting.toy else {}
    with torch.device(setting.device):
        model = setting.ready(I2VGenXLUNet(**widths))
    latents, text = latents_of_pictures(setting), setting.draw(1, 77, 1024)
    image, image_latents = setting.draw(1, 1024), latents_of_pictures(setting)
    rate = torch.tensor([16], device=setting.device)
    return lambda: model(
        latents,
        500,
        fps=rate,
        image_latents=image_latents,
        image_embeddings=image,
        encoder_hidden_states=text,
        return_dict=False,
    )[0]


def latents_of_pictures(setting: Setting) -> Tensor:
    """Sixteen frames at an eighth of their height and width."""
    return setting.draw(1, 4, NUM_FRAMES, setting.side // 8, setting.side // 8)


def pictures(setting: Setting) -> Call:
    """Sixteen frames through Stable Diffusion's decoder, one after the other."""
    from diffusers import AutoencoderKL

    with torch.device(setting.device):
        model = setting.ready(AutoencoderKL(**sd_vae(setting)))
    latents = latents_of_pictures(setting)[0].transpose(0, 1)
    return lambda: torch.cat([model.decode(frame).sample for frame in latents.split(1)])


LOOK, CACHE, DENOISE, DECODE = "content encoders", "condition cache", "20 steps", "decode"
UNCACHED, ONE_GRID, ONE_GRID_UNCACHED = "20 steps, no cache", "20 steps, one grid", "20 steps, one grid, no cache"
ANIMATEDIFF, I2VGEN, PICTURES = "AnimateDiff, one pass", "I2VGen-XL, one pass", "16 pictures decoded"
BUILDERS: dict[str, Callable[[Setting], Call]] = {
    LOOK: content_encoders,
    CACHE: condition_cache,
    DENOISE: lambda setting: denoise(setting, num_grids=4, cached=True),
    UNCACHED: lambda setting: denoise(setting, num_grids=4, cached=False),
    ONE_GRID: lambda setting: denoise(setting, num_grids=1, cached=True),
    ONE_GRID_UNCACHED: lambda setting: denoise(setting, num_grids=1, cached=False),
    DECODE: decode,
    ANIMATEDIFF: animatediff,
    I2VGEN: i2vgen,
    PICTURES: pictures,
}
