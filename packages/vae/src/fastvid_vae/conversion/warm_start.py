"""An FSAE with one more stage than the DC-AE that it starts from. Source: FSVideo, section 2.2.1.

The paper adds a stage of attention blocks to dc-ae-f32c32-sana-1.0 and inflates its kernels. Here the new stage starts
as nothing: its resampling and latent convolutions are zero, and so are the norms at the end of its branches, so that
the latents of a new model are the space-to-channel shortcut of DC-AE's last features.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from fastvid_vae.conversion.dc_ae import convert
from fastvid_vae.fsae.config import FSAEConfig
from fastvid_vae.fsae.model import FSAE
from fastvid_vae.layers.norm import PixelNorm

LATENT_CONVOLUTIONS = ("encoder.conv_out.", "decoder.conv_in.")


def start_from_dc_ae(model: FSAE, state_dict: Mapping[str, Tensor]) -> None:
    """Give a model DC-AE's weights in all stages but its last, in place.

    First-frame injections stay as they are; a new one is zero.

    Args:
        model: on a real device, its outer stages as wide and deep as DC-AE's.
        state_dict: in diffusers' names; see `dc_ae_efficientvit` for the others.
    Raises:
        ValueError: a tensor is missing, left over or of another shape.
    """
    source = convert(state_dict, _one_stage_less(model.config, _latent_channels(state_dict)))
    inherited = {name: tensor for name, tensor in source.items() if not name.startswith(LATENT_CONVOLUTIONS)}
    own = model.state_dict()
    wrong = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
        for name, tensor in inherited.items()
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise ValueError(f"`state_dict`: misshapen tensors {wrong[:10]}")
    model.load_state_dict(own | inherited)
    for conv in (model.encoder.conv_out, model.decoder.conv_in, model.encoder.downs[-1], model.decoder.ups[-1]):
        _set_zero(conv)
    for stage in (model.encoder.stages[-1], model.decoder.stages[-1]):
        for norm in (module for module in stage.modules() if isinstance(module, PixelNorm)):
            _set_zero(norm)


def _one_stage_less(config: FSAEConfig, latent_channels: int) -> FSAEConfig:
    """What DC-AE would be as an FSAE."""
    return replace(
        config,
        latent_channels=latent_channels,
        stage_kinds=config.stage_kinds[:-1],
        encoder_widths=config.encoder_widths[:-1],
        decoder_widths=config.decoder_widths[:-1],
        encoder_depths=config.encoder_depths[:-1],
        decoder_depths=config.decoder_depths[:-1],
        injection=(None,) * (len(config.stage_kinds) - 1),
        latent_mean=(0.0,) * latent_channels,
        latent_std=(1.0,) * latent_channels,
    )


def _latent_channels(state_dict: Mapping[str, Tensor]) -> int:
    name = "encoder.conv_out.weight"
    if name not in state_dict:
        raise ValueError(f"`state_dict` has no {name!r}: it is none of diffusers' AutoencoderDC")
    return len(state_dict[name])


def _set_zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
