"""A small AutoencoderKL of diffusers with random weights."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from fastvid_pipelines.encoders.sd_content import SDContentEncoder
from fastvid_pipelines.errors import CheckpointError, MissingPackageError
from safetensors.torch import load_file, save_file


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def encoder() -> SDContentEncoder:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    model = AutoencoderKL(block_out_channels=(4, 4, 8, 8), latent_channels=4, norm_num_groups=2, **blocks)
    return SDContentEncoder(model.eval())


IMAGE = torch.rand(1, 3, 32, 48, generator=seeded(1)) * 2 - 1


@torch.inference_mode()
def test_latents_are_a_sample_and_unscaled(encoder: SDContentEncoder) -> None:
    assert (encoder.stride, encoder.latent_channels) == (8, 4)
    latents = encoder.encode(IMAGE, generator=seeded())
    assert latents.shape == (1, 4, 4, 6)
    theirs = encoder.model.encode(IMAGE).latent_dist.sample(seeded())
    torch.testing.assert_close(latents, theirs)
    assert (latents - encoder.encode(IMAGE, generator=seeded(2))).abs().max() > 1e-3


@torch.inference_mode()
def test_the_noise_is_that_of_the_seed_in_every_precision(encoder: SDContentEncoder) -> None:
    exact = encoder.encode(IMAGE, generator=seeded())
    encoder.model.to(torch.bfloat16)
    low = encoder.encode(IMAGE, generator=seeded())
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).abs().max() < 0.1


@torch.inference_mode()
def test_saved_and_read_back_it_is_the_same(encoder: SDContentEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "content_encoder")
    again = SDContentEncoder.from_pretrained(tmp_path, subfolder="content_encoder", local_files_only=True)
    assert torch.equal(again.encode(IMAGE, generator=seeded()), encoder.encode(IMAGE, generator=seeded()))
    low = SDContentEncoder.from_pretrained(tmp_path / "content_encoder", dtype=torch.bfloat16)
    assert low.model.dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen", "nan", "cut", "config"])
def test_damaged_folders_are_refused(encoder: SDContentEncoder, tmp_path: Path, damage: str) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "model" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    name = sorted(state)[0]
    match damage:
        case "missing":
            del state[name]
        case "unexpected":
            state["more"] = torch.zeros(1)
        case "misshapen":
            state[name] = state[name][None].clone()
        case "nan":
            state[name].view(-1)[0] = float("nan")
        case "config":
            (tmp_path / "encoder" / "config.json").write_text('{"_class_name": "SDContentEncoder", "scale": 2}')
    save_file(state, file, metadata={"format": "pt"})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError):
        SDContentEncoder.from_pretrained(tmp_path / "encoder")


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")  # of diffusers, by the hub's client
def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="`path_or_repo_id` is 'nobody/nothing'"):
        SDContentEncoder.from_diffusers("nobody/nothing", local_files_only=True)


def test_without_diffusers_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("diffusers"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastvid-pipelines\[reducio\]'"):
        SDContentEncoder.from_diffusers("anything")
