"""Record what the released code of Reducio-VAE gives for `official_cases`. Not run by the tests.

    git clone https://github.com/microsoft/Reducio-VAE CHECKOUT   (recorded: b460c07)
    uv run python -m packages.vae.tests.reducio.record_official CHECKOUT

Nothing of that code is kept, only numbers. What it imports and we have no use for is stood in for here: Lightning by
`nn.Module`, LPIPS by nothing, the attention of xformers by torch's own.
"""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from fastvid_vae import REDUCIO_FT4, ReducioConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .official_cases import (
    CONFIGS,
    KEYS,
    RECORDED,
    TILE,
    TILE_OVERLAP,
    TILED,
    WHOLE,
    latents,
    picture,
    thin,
    video,
    weights,
)


def stand_in(name: str, **members: object) -> None:
    """A module of this name, and the packages around it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        module = sys.modules.setdefault(path, ModuleType(path))
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    for member, value in members.items():
        setattr(sys.modules[name], member, value)


def attention(q: Tensor, k: Tensor, v: Tensor, attn_bias: None) -> Tensor:
    assert attn_bias is None
    return functional.scaled_dot_product_attention(q, k, v)


def official(config: ReducioConfig) -> Any:
    """The released model of this configuration, as its own configuration files describe it."""
    from ldm.models.reducio_vae import ReducioVAE as Official  # type: ignore[import-not-found]  # from CHECKOUT

    base, content_base = config.widths[0], config.content_widths[0]
    kinds = {"attention": "attn", "linear": "linear", "add": "add", "none": None}
    fused = config.fusion != "none"
    model = Official(
        lossconfig="__is_first_stage__",
        ddconfig_2d={
            "ch": content_base,
            "z_channels": 4,
            "out_ch": 3,
            "resolution": 256,
            "in_channels": 3,
            "ch_mult": [width // content_base for width in config.content_widths],
            "num_res_blocks": config.num_blocks,
            "attn_resolutions": [],
            "out_z": False,
        },
        ddconfig={
            "ch": base,
            "ch_in": base,
            "f_t": config.temporal_levels,
            "out_ch": 3,
            "z_channels": config.latent_channels,
            "resolution": 256,
            "in_channels": 3,
            "temp_res": config.num_frames,
            "ch_mult": [width // base for width in config.widths],
            "ch_fuse": [i if fused and i in config.fused_levels else -1 for i in range(len(config.widths))],
            "fuse_type": kinds[config.fusion],
            "num_res_blocks": config.num_blocks,
            "attn_resolutions": [],
            "use_3d_conv": True,
            "upsample_first": True,
            "fuse_mid": fused,
            "pos_embed_mode": "t",
            "window_size": 128,
        },
        embed_dim=config.latent_channels,
        tile_sample_min_size=TILE,
        tile_overlap_factor=TILE_OVERLAP,
    )
    return model.eval()


def filled(config: ReducioConfig) -> Any:
    model = official(config)
    result = model.load_state_dict(weights(model.state_dict()), strict=False)
    assert all(name.endswith("pos_embed") for name in result.missing_keys), result
    return model


def results() -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, config in CONFIGS.items():
        model, content = filled(config), None
        if config.fusion != "none":
            content = model.encode_2d(picture(name, WHOLE))
        if name in ("ft4", "ft2"):
            posterior = model.encode_3d(video(name, WHOLE))
            found[f"{name}.moments"] = posterior.parameters
            found[f"{name}.latents"] = functional.layer_norm(posterior.mean, posterior.mean.shape[1:])
        if name == "ft4":
            found |= {f"{name}.features.{i}": feature for i, feature in enumerate(content)}
            found[f"{name}.tiled.moments"] = model.encode_3d(video("tiled", TILED), use_tiling=True).parameters
            features = model.encode_2d(picture("tiled", TILED), use_tiling=True)
            found[f"{name}.tiled.frames"] = model.decode(latents("tiled", config, TILED), features, use_tiling=True)
        found[f"{name}.frames"] = model.decode(latents(name, config, WHOLE), content)
    return {name: thin(tensor) for name, tensor in found.items()}


def keys() -> str:
    """Names and shapes of the released checkpoint, one a line."""
    tensors = official(REDUCIO_FT4).state_dict()  # its tables over time cannot be built on the meta device
    return "".join(f"{name} {'x'.join(map(str, tensor.shape))}\n" for name, tensor in tensors.items())


if __name__ == "__main__":
    checkout = Path(sys.argv[1]).resolve()
    stand_in("pytorch_lightning", LightningModule=nn.Module)
    stand_in("taming.modules.losses.lpips", LPIPS=SimpleNamespace)
    stand_in("xformers.ops", memory_efficient_attention=attention)
    sys.path.insert(0, str(checkout))
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with torch.inference_mode():
        recorded = results()
    origin = f"microsoft/Reducio-VAE {commit}, float32, torch {torch.__version__} on a CPU; record_official.py"
    save_file(recorded, RECORDED, metadata={"origin": origin})
    KEYS.write_text(keys(), encoding="utf-8")
