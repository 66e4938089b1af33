from pathlib import Path

import pytest
import torch
from fastvid_pipelines.encoders.clip import CLIPImageEncoder
from fastvid_pipelines.encoders.clip_pixels import MEAN, STD
from fastvid_pipelines.errors import CheckpointError
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


@pytest.fixture
def encoder() -> CLIPImageEncoder:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7
    )
    return CLIPImageEncoder(CLIPVisionModel(config).eval())


def test_mean_and_deviation_are_clips() -> None:
    assert pytest.approx(OPENAI_CLIP_MEAN) == MEAN
    assert pytest.approx(OPENAI_CLIP_STD) == STD


@torch.inference_mode()
def test_tokens_are_those_of_the_last_block_but_one(encoder: CLIPImageEncoder) -> None:
    image = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    outputs = encoder.model(((image + 1) / 2 - mean) / std, output_hidden_states=True)
    tokens = encoder.encode(image)
    assert tokens.shape == (2, 17, 16)
    torch.testing.assert_close(tokens, outputs.hidden_states[2])
    assert (tokens - outputs.hidden_states[3]).abs().max() > 1e-3


@torch.inference_mode()
def test_pictures_are_squashed_not_cropped(encoder: CLIPImageEncoder) -> None:
    wide = torch.zeros(1, 3, 28, 84)
    marked = wide.clone()
    marked[..., :8] = 1
    assert (encoder.encode(wide) - encoder.encode(marked)).abs().max() > 1e-3
    assert encoder.encode(wide).shape == (1, 17, 16)


@torch.inference_mode()
def test_saved_and_read_back_it_is_the_same(encoder: CLIPImageEncoder, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 40, 50) * 2 - 1
    encoder.save_pretrained(tmp_path / "image_encoder")
    again = CLIPImageEncoder.from_pretrained(tmp_path, subfolder="image_encoder")
    assert torch.equal(again.encode(image), encoder.encode(image))
    low = CLIPImageEncoder.from_pretrained(tmp_path, subfolder="image_encoder", dtype=torch.bfloat16)
    assert low.encode(image).dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["missing", "nan", "config"])
def test_damaged_folders_are_refused(encoder: CLIPImageEncoder, tmp_path: Path, damage: str) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "model" / "model.safetensors"
    state = load_file(file)
    name = sorted(state)[0]
    if damage == "missing":
        del state[name]
    elif damage == "nan":
        state[name].view(-1)[0] = float("nan")
    else:
        (tmp_path / "encoder" / "config.json").write_text('{"_class_name": "CLIPImageEncoder", "layer": 2}')
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing_keys|NaN or infinity|expected only `_class_name`"):
        CLIPImageEncoder.from_pretrained(tmp_path / "encoder")
