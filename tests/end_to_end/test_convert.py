"""Weights of other people's models through the command line: the same outputs, and the same bits on the way back."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderDC, PixArtTransformer2DModel, WanTransformer3DModel
from fastvid_accel.vgdfr.ifnet import RIFE_4_25, IFNet
from fastvid_dit import FSVideoDiT, ReducioDiT
from fastvid_pipelines import cli, exit_codes
from fastvid_vae import FSAE, ODVAE, REDUCIO_FT4, ReducioVAE
from fastvid_vae.conversion.odvae_config import official
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from ..tiny_models import OD_VAE, randomised

ORIGIN = ("--source", "made up here", "--revision", "seed 0", "--licence", "Apache-2.0")
WIDTHS = (32, 32, 64)
KINDS = ("ResBlock", "EfficientViTBlock", "EfficientViTBlock")


def run(*words: object) -> dict[str, Any]:
    result = CliRunner().invoke(cli.app, ["convert", *map(str, words), "--json"])
    assert result.exit_code == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def refused(*words: object) -> str:
    result = CliRunner().invoke(cli.app, ["convert", *map(str, words)])
    assert result.exit_code == exit_codes.USAGE, result.stderr
    return result.stderr


def tiny_wan(**changes: Any) -> WanTransformer3DModel:
    sizes = {
        "num_attention_heads": 4,
        "attention_head_dim": 12,
        "in_channels": 12,
        "out_channels": 4,
        "text_dim": 10,
        "freq_dim": 16,
        "ffn_dim": 64,
        "num_layers": 3,
        "image_dim": 14,
        "added_kv_proj_dim": 48,
        "rope_max_seq_len": 64,
    }
    return randomised(WanTransformer3DModel(**sizes | changes))


def tiny_dc_ae() -> AutoencoderDC:
    torch.manual_seed(0)
    scales = ((), (5,), (5,))
    return (
        AutoencoderDC(
            latent_channels=8,
            attention_head_dim=32,
            encoder_block_types=KINDS,
            decoder_block_types=KINDS,
            encoder_block_out_channels=WIDTHS,
            decoder_block_out_channels=WIDTHS,
            encoder_layers_per_block=(1, 2, 1),
            decoder_layers_per_block=(2, 1, 1),
            encoder_qkv_multiscales=scales,
            decoder_qkv_multiscales=scales,
            upsample_block_type="interpolate",
            downsample_block_type="Conv",
            scaling_factor=0.41407,
        )
        .requires_grad_(False)
        .eval()
    )


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def same_bits(found: dict[str, Tensor], expected: nn.Module) -> bool:
    wanted = expected.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    values: dict[str, Any] = json.loads(json.dumps({name: config[name] for name in config if not name.startswith("_")}))
    return values


def velocities(theirs: WanTransformer3DModel, ours: FSVideoDiT) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    config = theirs.config
    noise, condition = (torch.randn(2, size, 3, 6, 4, generator=generator) for size in (4, 8))
    timestep, text = torch.tensor([900.0, 30.0]), torch.randn(2, 512, config.text_dim, generator=generator)
    image = torch.randn(2, 5, config.image_dim, generator=generator)
    expected = theirs(torch.cat((noise, condition), dim=1), timestep, text, image, return_dict=False)[0]
    return ours(noise, timestep, text, condition=condition, image_tokens=image), expected


@torch.no_grad()
def test_wan_becomes_an_fsvideo_dit_and_wan_again(tmp_path: Path) -> None:
    theirs = tiny_wan()
    theirs.save_pretrained(tmp_path / "wan")
    report = run(tmp_path / "wan", tmp_path / "ours", "--from", "wan-diffusers", "--to", "fsvideo-dit", *ORIGIN)
    assert (report["source"], report["revision"], report["licence"]) == ("made up here", "seed 0", "Apache-2.0")
    assert set(report["files"]) == {"diffusion_pytorch_model.safetensors", "config.json"}
    ours = FSVideoDiT.from_pretrained(tmp_path / "ours")
    assert ours.config.layer_memory
    found, expected = velocities(theirs, ours)
    assert expected.std() > 0.1
    assert relative(found, expected) < 1e-5
    back = run(tmp_path / "ours", tmp_path / "back", "--from", "fsvideo-dit", "--to", "wan-diffusers")
    assert back["licence"] == "Apache-2.0"
    assert back["made_from"]["from"] == "wan-diffusers"
    assert same_bits(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), theirs)
    again = WanTransformer3DModel.from_pretrained(tmp_path / "back")
    assert public(again.config) == public(theirs.config) | {"rope_max_seq_len": 1024}  # the size of a table
    for parameter in ours.blocks[1].memory_router.parameters():  # mutant: another router is seen
        parameter.zero_()
    assert relative(velocities(theirs, ours)[0], expected) > 1e-3


@torch.no_grad()
def test_wans_own_layout_leads_to_the_same_model(tmp_path: Path) -> None:
    theirs = tiny_wan(text_dim=4096, image_dim=1280)
    theirs.save_pretrained(tmp_path / "wan")
    run(tmp_path / "wan", tmp_path / "ours", "--from", "wan-diffusers", "--to", "fsvideo-dit", *ORIGIN)
    run(tmp_path / "ours", tmp_path / "official", "--from", "fsvideo-dit", "--to", "wan-official")
    names = load_file(tmp_path / "official" / "diffusion_pytorch_model.safetensors").keys()
    assert {"img_emb.proj.4.weight", "blocks.2.cross_attn.k_img.bias", "head.modulation"} <= names
    config = json.loads((tmp_path / "official" / "config.json").read_text())
    assert (config["model_type"], config["in_dim"], config["out_dim"], config["dim"]) == ("i2v", 12, 4, 48)
    run(tmp_path / "official", tmp_path / "again", "--from", "wan-official", "--to", "fsvideo-dit")
    assert same_bits(load_file(tmp_path / "again" / "model.safetensors"), FSVideoDiT.from_pretrained(tmp_path / "ours"))


@torch.no_grad()
def test_pixart_becomes_a_reducio_dit_and_pixart_again(tmp_path: Path) -> None:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 24, "cross_attention_dim": 48, "num_layers": 2}
    theirs = randomised(PixArtTransformer2DModel(**sizes, sample_size=8, caption_channels=10))
    theirs.save_pretrained(tmp_path / "pixart")
    run(tmp_path / "pixart", tmp_path / "ours", "--from", "pixart-diffusers", "--to", "reducio-dit", *ORIGIN)
    ours = ReducioDiT.from_pretrained(tmp_path / "ours")
    assert ours.config.position_span == 4.0  # 8 rows of latents in patches of 2
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 10)
    timestep = torch.tensor([900.0, 30.0])
    expected = theirs(latents, text, timestep, added_cond_kwargs={}, return_dict=False)[0]
    assert relative(ours(latents[:, :, None], timestep, text)[:, :, 0], expected) < 1e-5
    run(tmp_path / "ours", tmp_path / "back", "--from", "reducio-dit", "--to", "pixart-diffusers")
    assert same_bits(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), theirs)
    again = PixArtTransformer2DModel.from_pretrained(tmp_path / "back")
    assert torch.equal(again(latents, text, timestep, added_cond_kwargs={}, return_dict=False)[0], expected)


def test_layer_memory_that_has_learned_does_not_become_wan(tmp_path: Path) -> None:
    tiny_wan().save_pretrained(tmp_path / "wan")
    run(tmp_path / "wan", tmp_path / "ours", "--from", "wan-diffusers", "--to", "fsvideo-dit", *ORIGIN)
    model = FSVideoDiT.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        model.blocks[2].memory_router.weight[0, 0] = 1e-6
    model.save_pretrained(tmp_path / "ours")
    message = refused(tmp_path / "ours", tmp_path / "back", "--from", "fsvideo-dit", "--to", "wan-diffusers")
    assert "blocks.2.memory_router.weight" in message
    assert not (tmp_path / "back").exists()


@torch.no_grad()
def test_dc_ae_becomes_an_fsae_and_dc_ae_again(tmp_path: Path) -> None:
    theirs = tiny_dc_ae()
    theirs.save_pretrained(tmp_path / "dc_ae")
    run(tmp_path / "dc_ae", tmp_path / "ours", "--from", "dc-ae-diffusers", "--to", "fsae", *ORIGIN)
    ours = FSAE.from_pretrained(tmp_path / "ours")
    frames = torch.rand(1, 3, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = ours.encode(frames)
    decoded = ours.decode(latents)
    for index in range(3):  # each frame as an image: nothing looks along time yet
        expected = theirs.encode(frames[:, :, index]).latent
        assert relative(latents[:, :, index], expected * 0.41407) < 1e-5
        assert relative(decoded[:, :, index], theirs.decode(expected).sample) < 1e-5
    run(tmp_path / "ours", tmp_path / "back", "--from", "fsae", "--to", "dc-ae-diffusers")
    assert same_bits(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), theirs)
    again = AutoencoderDC.from_pretrained(tmp_path / "back")
    assert again.config.scaling_factor == 0.41407
    assert relative(again.encode(frames[:, :, 0]).latent, theirs.encode(frames[:, :, 0]).latent) == 0


@torch.no_grad()
def test_dc_aes_own_pickle_leads_to_the_same_model(tmp_path: Path) -> None:
    theirs = tiny_dc_ae()
    theirs.register_to_config(scaling_factor=1.0)  # their own layout has no place for another one without a name
    theirs.save_pretrained(tmp_path / "dc_ae")
    run(tmp_path / "dc_ae", tmp_path / "ours", "--from", "dc-ae-diffusers", "--to", "fsae", *ORIGIN)
    run(tmp_path / "ours", tmp_path / "official", "--from", "fsae", "--to", "dc-ae-efficientvit")
    tensors = load_file(tmp_path / "official" / "model.safetensors")
    assert "encoder.stages.1.op_list.0.context_module.main.qkv.conv.weight" in tensors
    torch.save({"state_dict": tensors}, tmp_path / "model.pt")
    run(tmp_path / "model.pt", tmp_path / "again", "--from", "dc-ae-efficientvit", "--to", "fsae", *ORIGIN)
    assert same_bits(load_file(tmp_path / "again" / "model.safetensors"), FSAE.from_pretrained(tmp_path / "ours"))
    flat = refused(tmp_path / "model.pt", tmp_path / "no", "--from", "dc-ae-diffusers", "--to", "fsae", *ORIGIN)
    assert "names and tensors only; others are state_dict" in flat


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        (("wan-diffusers", "fsae"), "`--to` is 'fsae'; 'wan-diffusers' becomes 'fsvideo-dit'"),
        (("wan-diffusers", "wan-official"), "convert to a layout of ours first"),
        (("fsae", "wan-official"), "`--from` is 'fsae'; 'wan-official' is made of 'fsvideo-dit'"),
        (
            ("fsae", "fsvideo-dit"),
            "installed: 'dc-ae-diffusers', 'dc-ae-efficientvit', 'od-vae-checkpoint', 'od-vae-diffusers', "
            "'pixart-diffusers', 'pixart-official', 'reducio-ft2', 'reducio-ft4', 'rife', "
            "'wan-diffusers', 'wan-official'",
        ),
    ],
)
def test_layouts_that_do_not_go_together_are_refused(tmp_path: Path, layouts: tuple[str, str], message: str) -> None:
    assert message in refused(tmp_path, tmp_path / "out", "--from", layouts[0], "--to", layouts[1], *ORIGIN)


@torch.no_grad()
def test_a_released_reducio_vae_becomes_ours_and_itself_again(tmp_path: Path) -> None:
    """Of the published file, only that it is a pickle with the tensors under `state_dict`; the weights are random."""
    sizes = {"widths": (32, 32, 64), "content_widths": (32, 64), "num_blocks": 1, "fused_levels": (), "num_frames": 4}
    torch.manual_seed(0)
    model = ReducioVAE(replace(REDUCIO_FT4, **sizes))
    file = tmp_path / "reducio-ft4-fs32-attn23.ckpt"
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, file)
    report = run(file, tmp_path / "ours", "--from", "reducio-ft4", "--to", "reducio-vae", *ORIGIN)
    assert set(report["files"]) == {file.name}
    ours = ReducioVAE.from_pretrained(tmp_path / "ours")
    frames = torch.rand(1, 3, 4, 8, 12) * 2 - 1
    assert torch.equal(ours.encode(frames), model.encode(frames))
    run(tmp_path / "ours", tmp_path / "back", "--from", "reducio-vae", "--to", "reducio-ft4")
    assert same_bits(load_file(tmp_path / "back" / "reducio-ft4-fs32-attn23.safetensors"), model)
    message = refused(file, tmp_path / "two", "--from", "reducio-ft2", "--to", "reducio-vae", *ORIGIN)
    assert "makes 4 frames one latent frame" in message
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("form", ["average", "generator", "state_dict", "bare", "safetensors"])
@torch.no_grad()
def test_every_form_of_a_released_od_vae_becomes_ours_and_itself_again(tmp_path: Path, form: str) -> None:
    """Of the published files, only how they are laid out; the weights are random."""
    torch.manual_seed(0)
    model, other = (ODVAE(replace(OD_VAE, widths=(32, 32, 64, 64), norm_groups=32)) for _ in range(2))
    weights, last = model.state_dict(), other.state_dict()
    run_of = {"epoch": 3, "batch_idx": 7, "optimizer_state": {"state": {}}, "scaler_state": {"scale": 2.0}}
    dics = {"gen_model": weights, "dics_model": {"main.0.weight": torch.zeros(1)}}
    forms: dict[str, object] = {
        "average": run_of
        | {"state_dict": dics | {"gen_model": last}, "ema_state_dict": {f"module.{k}": v for k, v in weights.items()}},
        "generator": run_of | {"state_dict": dics, "ema_state_dict": {}},
        "state_dict": {"state_dict": weights | {"loss.logvar": torch.zeros(())}},
        "bare": weights,
    }
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps(official(model.config)))
    layout = "od-vae-diffusers" if form == "safetensors" else "od-vae-checkpoint"
    if form == "safetensors":
        save_file(weights, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    else:
        torch.save(forms[form], tmp_path / "vae" / "checkpoint.ckpt")
    run(tmp_path / "vae", tmp_path / "ours", "--from", layout, "--to", "od-vae", *ORIGIN)
    assert same_bits(load_file(tmp_path / "ours" / "model.safetensors"), model)
    run(tmp_path / "ours", tmp_path / "back", "--from", "od-vae", "--to", "od-vae-diffusers")
    assert same_bits(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), model)
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == official(model.config)
    (tmp_path / "vae" / "config.json").unlink()
    message = refused(tmp_path / "vae", tmp_path / "no", "--from", layout, "--to", "od-vae", *ORIGIN)
    assert "put the config.json of the release beside its weights" in message
    assert not (tmp_path / "no").exists()


@torch.no_grad()
def test_a_flownet_becomes_an_ifnet_and_a_flownet_again(tmp_path: Path) -> None:
    """Of the published file, only how it is laid out; the weights are random."""
    torch.manual_seed(0)
    model = IFNet(RIFE_4_25)
    training = {"module.teacher.conv0.0.0.weight": torch.zeros(1)}
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()} | training, tmp_path / "flownet.pkl")
    report = run(tmp_path / "flownet.pkl", tmp_path / "ours", "--from", "rife", "--to", "ifnet", *ORIGIN)
    assert set(report["files"]) == {"flownet.pkl"}
    ours = IFNet.from_pretrained(tmp_path / "ours")
    assert ours.config == RIFE_4_25
    assert same_bits(dict(ours.state_dict()), model)
    run(tmp_path / "ours", tmp_path / "back", "--from", "ifnet", "--to", "rife")
    back = load_file(tmp_path / "back" / "flownet.safetensors")
    assert same_bits({name.removeprefix("module."): tensor for name, tensor in back.items()}, model)
    assert all(name.startswith("module.") for name in back)
    assert not (tmp_path / "back" / "config.json").exists()
    torch.save({"module.block0.conv0.0.0.weight": torch.zeros(1)}, tmp_path / "flownet.pkl")
    message = refused(tmp_path / "flownet.pkl", tmp_path / "no", "--from", "rife", "--to", "ifnet", *ORIGIN)
    assert "no release of RIFE that is known here" in message
    assert not (tmp_path / "no").exists()
