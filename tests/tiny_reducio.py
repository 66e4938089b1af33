"""A whole ReducioPipeline that takes no time, with random weights: its videos mean nothing."""

import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from fastvid_dit import ReducioDiT
from fastvid_pipelines import (
    OpenCLIPConfig,
    OpenCLIPImageEncoder,
    ReducioPipeline,
    ReducioSampling,
    SDContentEncoder,
    T5TextEncoder,
    T5TextEncoderConfig,
)
from fastvid_vae import ReducioVAE

from .tiny_models import REDUCIO, REDUCIO_TRANSFORMER, randomised

OPEN_CLIP = OpenCLIPConfig(
    image_size=21, patch_size=7, width=12, num_layers=1, num_heads=2, ffn_width=24, projection_width=8
)

SAMPLING = ReducioSampling(num_frames=8, height=32, width=48, fps=16.0, num_inference_steps=2, guidance_scale=2.5)


@cache
def tiny_pixart() -> ModuleType:
    """Small models of transformers and diffusers, from where pipelines' own tests have them."""
    name = "tiny_pixart_of_pipelines"
    spec = spec_from_file_location(name, Path(__file__).parents[1] / "packages/pipelines/tests/tiny_pixart.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def tiny_reducio() -> ReducioPipeline:
    torch.manual_seed(0)
    tiny = tiny_pixart()
    return ReducioPipeline(
        autoencoder=randomised(ReducioVAE(REDUCIO)),
        transformer=randomised(ReducioDiT(REDUCIO_TRANSFORMER)),
        text_encoder=T5TextEncoder(
            tiny.tiny_t5(), tiny.tiny_tokenizer(), T5TextEncoderConfig(max_tokens=12, reader="pixart")
        ),
        image_encoder=OpenCLIPImageEncoder(OPEN_CLIP).eval(),
        content_encoder=SDContentEncoder(tiny.tiny_autoencoder_kl()),
        sampling=SAMPLING,
    )
