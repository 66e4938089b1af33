"""Record what the released code of OD-VAE gives for `official_cases`. Not run by the tests.

    git clone --branch v1.2.0 https://github.com/PKU-YuanGroup/Open-Sora-Plan CHECKOUT
    uv run python -m packages.vae.tests.odvae.record_official CHECKOUT

Nothing of that code is kept, only numbers. What it imports and we have no use for (Lightning, decord, readers and
transforms of videos) is stood in for by nothing. The code of 1.2 builds the graphs of 1.1 and 1.0 as well; that
of 1.1 and 1.0 gives the same for them to 1e-14 in float64 (tried once, by hand).
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers.models.modeling_utils  # noqa: F401  # before torchvision is stood in for, which it looks for
import torch
from fastvid_vae import ODVAEConfig
from fastvid_vae.conversion.odvae_config import official as official_config
from safetensors.torch import save_file
from torch import Tensor

from ..reducio.record_official import stand_in
from ..reproducible import thin, video, weights
from .official_cases import (
    CONFIGS,
    FEW,
    GROUPS,
    KEYS,
    LONG,
    PICTURE,
    RECORDED,
    RELEASES,
    TILE,
    TILE_OVERLAP,
    TILED,
    WHOLE,
    latents,
)

PACKAGE = "opensora.models.causalvideovae"
ABSENT = {
    "decord": ("VideoReader", "cpu"),
    "pytorch_lightning": (),
    "pytorchvideo.transforms": ("ShortSideScale",),
    "torchvision.io": ("read_video",),
    "torchvision.transforms": ("Lambda", "Compose"),
    "torchvision.transforms._transforms_video": ("CenterCropVideo",),
    f"{PACKAGE}.eval.cal_psnr": ("calculate_psnr",),
    f"{PACKAGE}.utils.utils": ("custom_to_video",),
}


def prepare(checkout: Path) -> None:
    """Let the model's module be imported by itself, without what its packages import around it."""
    for name, members in ABSENT.items():
        stand_in(name, **dict.fromkeys(members))
    for name in (PACKAGE, f"{PACKAGE}.model", f"{PACKAGE}.model.causal_vae"):
        stand_in(name)
        sys.modules[name].__path__ = [str(checkout / name.replace(".", "/"))]


def built(config: ODVAEConfig) -> Any:
    """The released model of this configuration."""
    from opensora.models.causalvideovae.model.causal_vae.modeling_causalvae import (  # type: ignore[import-not-found]
        CausalVAEModel,  # from CHECKOUT
    )

    words = official_config(config)
    taken = {name: value for name, value in words.items() if name not in ("_class_name", "in_channels", "out_channels")}
    return CausalVAEModel(**taken).eval()


def filled(config: ODVAEConfig) -> Any:
    model = built(config)
    model.load_state_dict(weights(model.state_dict()))
    return model


def results() -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, config in CONFIGS.items():
        model = filled(config)
        for kind, size in (("video", WHOLE), ("picture", PICTURE)):
            found[f"{name}.{kind}.moments"] = model.encode(video(name, size)).parameters
            found[f"{name}.{kind}.frames"] = model.decode(latents(name, config, size))
        if name != TILED:
            continue
        model.enable_tiling()
        model.tile_sample_min_size, model.tile_latent_min_size = TILE, TILE // config.stride[1]
        model.tile_overlap_factor = TILE_OVERLAP
        for frames, cells in GROUPS:
            model.tile_sample_min_size_t, model.tile_latent_min_size_t = frames, cells
            found[f"{name}.tiled_{frames}.moments"] = model.encode(video("long", LONG)).parameters
            found[f"{name}.tiled_{frames}.frames"] = model.decode(latents("long", config, LONG))
    return {name: thin(tensor, FEW) for name, tensor in found.items()}


def keys(config: ODVAEConfig) -> str:
    """Names and shapes of a released checkpoint, one a line."""
    with torch.device("meta"):
        tensors = built(config).state_dict()
    return "".join(f"{name} {'x'.join(map(str, tensor.shape))}\n" for name, tensor in tensors.items())


if __name__ == "__main__":
    checkout = Path(sys.argv[1]).resolve()
    prepare(checkout)
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with torch.inference_mode():
        recorded = results()
    origin = f"PKU-YuanGroup/Open-Sora-Plan {commit}, float32, torch {torch.__version__} on a CPU; record_official.py"
    save_file(recorded, RECORDED, metadata={"origin": origin})
    for release, config in RELEASES.items():
        (KEYS / f"official_keys_{release}.txt").write_text(keys(config), encoding="utf-8")
