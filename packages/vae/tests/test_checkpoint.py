"""Model folders: what is written comes back to the bit; what is damaged is refused by name; a crash leaves no half."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastvid_vae import FSAE, CheckpointError, FSAEConfig, checkpoint
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, build: Callable[..., FSAE]) -> Path:
    build().save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in values.items() if value != "removed"}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_what_is_saved_comes_back(folder: Path, build: Callable[..., FSAE]) -> None:
    original, loaded = build(), FSAE.from_pretrained(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", WEIGHTS]
    assert [file.name for file in folder.parent.iterdir()] == ["vae"]
    assert loaded.config == original.config
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_from_a_subfolder_and_in_another_precision(folder: Path, build: Callable[..., FSAE]) -> None:
    half = FSAE.from_pretrained(folder.parent, subfolder="vae", dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    half.save_pretrained(folder)
    back = FSAE.from_pretrained(str(folder))
    assert {parameter.dtype for parameter in back.parameters()} == {torch.float32}
    for name, tensor in half.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor.float())


def test_another_variant_in_the_folder_is_no_matter(folder: Path) -> None:
    (folder / "model.fp16.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    assert FSAE.from_pretrained(folder).config


def test_any_memory_layout_is_saved(tmp_path: Path, build: Callable[..., FSAE]) -> None:
    model = build().to(memory_format=torch.channels_last_3d)
    model.save_pretrained(tmp_path / "deep" / "vae")
    assert FSAE.from_pretrained(tmp_path / "deep" / "vae").config == model.config


def test_shards(tmp_path: Path, build: Callable[..., FSAE], monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = build(), tmp_path / "vae"
    model.save_pretrained(folder)
    whole = checkpoint.save_torch_model
    monkeypatch.setattr(checkpoint, "save_torch_model", lambda *args: whole(*args, max_shard_size="20KB"))
    model.save_pretrained(folder)
    assert not (folder / WEIGHTS).exists()
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1
    loaded = FSAE.from_pretrained(folder)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())

    shards[0].rename(folder / "away")
    with pytest.raises(CheckpointError, match=f"{shards[0].name} is missing"):
        FSAE.from_pretrained(folder)
    (folder / "away").rename(shards[0])

    monkeypatch.setattr(checkpoint, "save_torch_model", whole)
    model.save_pretrained(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", WEIGHTS]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a\\..\\b.safetensors", "weights.bin", 3])
def test_an_index_cannot_lead_out_of_its_folder(name: object, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"encoder.conv_in.bias": name}}))
    with pytest.raises(CheckpointError, match=r"index\.json"):
        FSAE.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.conv_in.bias"), "missing tensors encoder.conv_in.bias, unexpected tensors none"),
        (lambda t: t.update(extra=torch.zeros(1)), "missing tensors none, unexpected tensors extra"),
        (
            lambda t: t.update({"encoder.conv_in.bias": torch.zeros(5)}),
            r"misshapen tensors encoder.conv_in.bias \(5,\), expected \(4,\)",
        ),
        (
            lambda t: t.update({"encoder.conv_in.bias": torch.zeros(4, dtype=torch.int32)}),
            r"not floating point encoder.conv_in.bias \(I32\)",
        ),
        (lambda t: t["encoder.conv_in.bias"].fill_(float("nan")), "NaN or infinite values encoder.conv_in.bias"),
        (lambda t: t["decoder.conv_out.bias"].fill_(float("inf")), "NaN or infinite values decoder.conv_out.bias"),
    ],
)
def test_weights_that_do_not_fit(change: Callable[[dict[str, torch.Tensor]], None], message: str, folder: Path) -> None:
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        FSAE.from_pretrained(folder)


def test_many_wrong_tensors_are_not_all_listed(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({f"x{i}": torch.zeros(1) for i in range(30)}))
    with pytest.raises(CheckpointError, match=r"unexpected tensors x0, x1, .* and 20 more"):
        FSAE.from_pretrained(folder)


class Bomb:
    """A pickle that would leave a file behind."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("pwned",)


def header(entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 0),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),  # no data behind it
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}) + b"\0" * 16,
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}) + b"\0" * 16,
        header({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}) + b"\0" * 16,
        header([1, 2]),
        b"\x08\0\0\0\0\0\0\0not json",
        pickle.dumps(Bomb()),
    ],
    ids=range(12),
)
def test_hostile_weights(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"truncated or no safetensors file|missing tensors"):
        FSAE.from_pretrained(folder)
    assert not Path("pwned").exists()


def test_truncated_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    for length in range(0, len(content), 4999):
        (folder / WEIGHTS).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
            FSAE.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "unknown keys colour, missing keys none"),
        ({"head_width": "removed"}, "unknown keys none, missing keys head_width"),
        ({"_class_name": "AutoencoderKL"}, "describes 'AutoencoderKL'; expected `_class_name` 'FSAE'"),
        ({"_class_name": "removed"}, "describes None"),
        ({"head_width": "8"}, r"`head_width` holds '8' \(str\)"),
        ({"head_width": 8.5}, r"`head_width` holds '8.5' \(float\)"),
        ({"head_width": True}, r"`head_width` holds 'True' \(bool\)"),
        ({"encoder_widths": 4}, r"`encoder_widths` holds '4' \(int\)"),
        ({"noise_weight": 10**400}, r"`noise_weight` holds '1000"),
        ({"encoder_widths": [4, None, 16, 16]}, r"`encoder_widths` holds 'None'"),
        ({"injection": [None, None, "magic", None]}, r"`injection` holds 'magic'"),
        ({"decoder_mode": "future"}, r"`decoder_mode` holds 'future'"),
        ({"latent_std": [1.0, 1.0, 1.0, -1.0]}, "`latent_std` holds -1.0"),
        ({"encoder_depths": [1, 1, 1, 10**9]}, "`encoder_depths` or `decoder_depths` is 1000000000"),
        ({"encoder_widths": [4, 24, 16, 16]}, "cannot be built: `widths` give a shortcut"),
    ],
)
def test_configurations_that_do_not_fit(changes: dict[str, Any], message: str, folder: Path) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        FSAE.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "expected an object, got list"),
        ("[" * 100_000, "no valid JSON"),
        ('{"a": 1, "a": 2}', "a key appears twice"),
        (b"\xff\xfe".decode("latin1"), "no valid JSON"),
        (" " * (16 * 2**20 + 1), "at most 16777216 are read"),
    ],
    ids=["open", "list", "deep", "twice", "bytes", "large"],
)
def test_configurations_that_cannot_be_read(text: str, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        FSAE.from_pretrained(folder)


def test_folders_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"`path_or_repo_id` is .*nowhere.*: no such folder"):
        FSAE.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no such folder, and no repository name \(owner/name\)"):
        FSAE.from_pretrained("a/b/c")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds no config.json; it is the folder of a pipeline.*`subfolder`"):
        FSAE.from_pretrained(tmp_path)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is missing"):
        FSAE.from_pretrained(folder)


def test_the_hub_is_not_asked_when_it_must_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"'someone/something'.*`local_files_only` is set"):
        FSAE.from_pretrained("someone/something", local_files_only=True)


def test_an_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(checkpoint, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match=r"'someone/something'.*on the hub, or not reachable: no route to host"):
        FSAE.from_pretrained("someone/something")


def test_a_repository_is_read_like_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **settings: Any) -> str:
        asked.update(settings, name=name)
        return str(folder.parent)

    monkeypatch.setattr(checkpoint, "snapshot_download", download)
    FSAE.from_pretrained("someone/something", subfolder="vae", revision="v1")
    assert asked["name"] == "someone/something"
    assert asked["revision"] == "v1"
    assert asked["allow_patterns"] == ["vae/config.json", "vae/*.safetensors", "vae/model.safetensors.index.json"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, build: Callable[..., FSAE]) -> None:
    model = build()
    model.encoder.conv_in.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match=r"the model: tensors with NaN or infinite values encoder\.conv_in\.bias"):
        model.save_pretrained(tmp_path / "vae")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_the_old_folder(
    existing: bool, tmp_path: Path, build: Callable[..., FSAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "vae"
    if existing:
        build().save_pretrained(target)
    before = {file.name: file.read_bytes() for file in target.glob("*")}

    def full(model: FSAE, directory: Path) -> None:
        (directory / WEIGHTS).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_torch_model", full)
    with pytest.raises(OSError, match="No space left"):
        build(seed=1).save_pretrained(target)
    assert {file.name: file.read_bytes() for file in target.glob("*")} == before
    assert [file.name for file in tmp_path.iterdir()] == (["vae"] if existing else [])


def test_other_files_of_the_folder_stay(folder: Path, build: Callable[..., FSAE]) -> None:
    (folder / "README.md").write_text("a model card")
    build(seed=1).save_pretrained(folder)
    assert (folder / "README.md").read_text() == "a model card"
    loaded = FSAE.from_pretrained(folder)
    assert torch.equal(loaded.encoder.conv_in.weight, build(seed=1).encoder.conv_in.weight)


def test_nothing_is_allocated_before_the_folder_fits(
    folder: Path, tiny_config: Callable[..., FSAEConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration of a huge model with weights of a tiny one: refused by shapes alone."""
    huge = [16384] * 4
    edit_config(folder, encoder_widths=huge, decoder_widths=huge)
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *_, **__: pytest.fail("allocated"))
    with pytest.raises(CheckpointError, match="misshapen tensors"):
        FSAE.from_pretrained(folder)
