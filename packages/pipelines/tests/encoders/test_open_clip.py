"""A small vision tower of open_clip with random weights."""

import builtins
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from fastvid_pipelines.encoders.clip_pixels import MEAN, STD
from fastvid_pipelines.encoders.open_clip import (
    OPEN_CLIP_VIT_H_14,
    OpenCLIPConfig,
    OpenCLIPImageEncoder,
    squash,
)
from fastvid_pipelines.errors import CheckpointError, MissingPackageError
from safetensors.torch import load_file, save_file

CONFIG = OpenCLIPConfig(
    image_size=28, patch_size=7, width=16, num_layers=2, num_heads=2, ffn_width=32, projection_width=8
)
TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 16, "head_width": 8, "patch_size": 7, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def encoder() -> OpenCLIPImageEncoder:
    torch.manual_seed(0)
    return OpenCLIPImageEncoder(CONFIG).eval()


@pytest.fixture
def local_dir(tmp_path: Path) -> Path:
    """A whole small CLIP as a repository of open_clip holds it."""
    folder = tmp_path / "clip"
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    mean_and_std = {"mean": list(MEAN), "std": list(STD)}
    config = {"model_cfg": TINY, "preprocess_cfg": mean_and_std}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_tower_of_reducio_has_its_size() -> None:
    with torch.device("meta"):
        encoder = OpenCLIPImageEncoder(OPEN_CLIP_VIT_H_14)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 632_076_800
    assert (OPEN_CLIP_VIT_H_14.image_size // OPEN_CLIP_VIT_H_14.patch_size) ** 2 == 256


@torch.inference_mode()
def test_tokens_are_normed_and_without_class_token_or_projection(encoder: OpenCLIPImageEncoder) -> None:
    image = picture(28, 28)
    tokens = encoder.encode(image)
    assert tokens.shape == (1, 16, 16)
    tower = encoder.visual
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    hidden = tower.ln_post(tower.transformer(tower._embeds(((image + 1) / 2 - mean) / std)))
    torch.testing.assert_close(tokens, hidden[:, 1:])


KORNIA = [
    [0.050595187, -0.18932617, 0.17284695, -0.40820742],
    [-0.47064838, -0.025412897, 0.36653617, 0.11937188],
    [-0.25488847, 0.3725226, -0.19301932, 0.23244904],
    [0.1030492, -0.17662987, -0.10363948, -0.35824484],
]
"""What `kornia.geometry.resize` 0.8 (bicubic, align_corners, antialias) makes of the picture below, run once."""


def test_squashing_is_kornias() -> None:
    image = torch.rand(1, 1, 9, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(squash(image, 4)[0, 0], torch.tensor(KORNIA), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_pictures_are_squashed_not_cropped(encoder: OpenCLIPImageEncoder) -> None:
    wide = torch.zeros(1, 3, 28, 84)
    marked = wide.clone()
    marked[..., :8] = 1
    assert (encoder.encode(wide) - encoder.encode(marked)).abs().max() > 1e-3
    assert encoder.encode(picture(3, 90)).shape == (1, 16, 16)


@torch.inference_mode()
def test_saved_and_read_back_it_is_the_same(encoder: OpenCLIPImageEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "image_encoder")
    again = OpenCLIPImageEncoder.from_pretrained(tmp_path, subfolder="image_encoder", local_files_only=True)
    image = picture(40, 50)
    assert torch.equal(again.encode(image), encoder.encode(image))
    low = OpenCLIPImageEncoder.from_pretrained(tmp_path / "image_encoder", dtype=torch.bfloat16)
    assert low.encode(image).dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["missing", "unexpected", "nan", "config"])
def test_damaged_folders_are_refused(encoder: OpenCLIPImageEncoder, tmp_path: Path, damage: str) -> None:
    encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "model.safetensors"
    state = load_file(file)
    name = sorted(state)[0]
    if damage == "missing":
        del state[name]
    elif damage == "unexpected":
        state["more"] = torch.zeros(1)
    elif damage == "nan":
        state[name].view(-1)[0] = float("nan")
    else:
        config = tmp_path / "encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"patch_size": 6}))
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensors|NaN or infinity|`patch_size` is 6; expected a divisor"):
        OpenCLIPImageEncoder.from_pretrained(tmp_path / "encoder")


@torch.inference_mode()
def test_the_tower_is_taken_out_of_a_model_of_open_clip(local_dir: Path) -> None:
    encoder = OpenCLIPImageEncoder.from_open_clip(f"local-dir:{local_dir}", None)
    assert encoder.config == CONFIG
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**TINY).eval().visual
    theirs.output_tokens = True
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    image = picture(28, 28)
    torch.testing.assert_close(encoder.encode(image), theirs(((image + 1) / 2 - mean) / std)[1])


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [
        ("ViT-H-14", "no_such_tag"),
        ("no-such-model", None),
        ("local-dir:/nowhere", None),
        ("hf-hub:nobody/nothing", None),
    ],
)
def test_what_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, name: str, pretrained: str | None) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", unreachable)
    with pytest.raises(CheckpointError, match=f"`name` is '{name}', `pretrained` {pretrained!r}: no such weights here"):
        OpenCLIPImageEncoder.from_open_clip(name, pretrained)


def test_other_towers_are_refused(local_dir: Path) -> None:
    config = json.loads((local_dir / "open_clip_config.json").read_text())
    torch.manual_seed(0)
    config["model_cfg"]["quick_gelu"] = True
    (local_dir / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no plain vision transformer: another activation or pooling"):
        OpenCLIPImageEncoder.from_open_clip(f"local-dir:{local_dir}", None)


def test_without_open_clip_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "open_clip":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastvid-pipelines\[reducio\]'"):
        OpenCLIPImageEncoder(CONFIG)


@pytest.mark.parametrize("change", [{"patch_size": 6}, {"num_heads": 3}, {"width": 0}, {"num_layers": 1.5}])
def test_bad_configurations_are_refused(change: dict[str, Any]) -> None:
    values = {name: getattr(CONFIG, name) for name in CONFIG.__slots__}
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` is"):
        OpenCLIPConfig(**(values | change))
