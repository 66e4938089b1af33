"""Stock pipelines of diffusers, tiny and with random weights; words come as embeddings, so none has a text encoder."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

WORDS = 4


def cogvideox(*, rotary: bool) -> tuple[CogVideoXPipeline, dict[str, Any]]:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=2, text_embed_dim=8,
        time_embed_dim=8, sample_width=4, sample_height=4, sample_frames=33, patch_size=2, max_text_seq_length=WORDS,
        use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4,
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0, timestep_spacing="trailing",
    )  # fmt: skip
    pipe = CogVideoXPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=scheduler)
    return pipe, {"height": 32, "width": 32, "prompt_embeds": words(8), "negative_prompt_embeds": words(8, seed=1)}


def hunyuan() -> tuple[HunyuanVideoPipeline, dict[str, Any]]:
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=8,
        pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
    )  # fmt: skip
    pipe = HunyuanVideoPipeline(
        text_encoder=None, tokenizer=None, transformer=transformer, vae=vae, text_encoder_2=None, tokenizer_2=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip
    pooled = torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(1, WORDS, dtype=torch.long)
    given = {"prompt_embeds": words(8), "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask}
    return pipe, {"height": 32, "width": 32, **given}


def ltx() -> tuple[LTXPipeline, dict[str, Any]]:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=2, caption_channels=8,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False), decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    pipe = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=None, tokenizer=None, transformer=transformer
    )
    mask = torch.ones(1, WORDS, dtype=torch.long)
    return pipe, {
        "height": 32, "width": 32, "prompt_embeds": words(8), "prompt_attention_mask": mask,
        "negative_prompt_embeds": words(8, seed=1), "negative_prompt_attention_mask": mask,
    }  # fmt: skip


def mochi() -> tuple[MochiPipeline, dict[str, Any]]:
    transformer = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16,
        in_channels=12, text_embed_dim=8, time_embed_dim=4, max_sequence_length=WORDS,
    )  # fmt: skip
    vae = AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    pipe = MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae=vae, text_encoder=None, tokenizer=None,
        transformer=transformer,
    )  # fmt: skip
    mask = torch.ones(1, WORDS, dtype=torch.bool)
    return pipe, {
        "height": 32, "width": 32, "prompt_embeds": words(8), "prompt_attention_mask": mask,
        "negative_prompt_embeds": words(8, seed=1), "negative_prompt_attention_mask": mask,
    }  # fmt: skip


def wan(*, unipc: bool) -> tuple[WanPipeline, dict[str, Any]]:
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=16, ffn_dim=16, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 2.0, 1.0],
    )  # fmt: skip
    flow = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(
        tokenizer=None, text_encoder=None, vae=vae, transformer=transformer,
        scheduler=flow if unipc else FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    return pipe, {"height": 32, "width": 32, "prompt_embeds": words(8), "negative_prompt_embeds": words(8, seed=1)}


def words(width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, WORDS, width, generator=torch.Generator().manual_seed(seed))


PIPELINES: dict[str, Any] = {
    "cogvideox-sincos": lambda: cogvideox(rotary=False),
    "cogvideox-rope": lambda: cogvideox(rotary=True),
    "hunyuan": hunyuan,
    "ltx": ltx,
    "mochi": mochi,
    "wan-euler": lambda: wan(unipc=False),
    "wan-unipc": lambda: wan(unipc=True),
}


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and what its call needs beside the number of frames and steps."""
    torch.manual_seed(0)
    pipe, call = PIPELINES[name]()
    pipe.set_progress_bar_config(disable=True)
    for model in (pipe.transformer, pipe.vae):
        model.eval()
    return pipe, call
