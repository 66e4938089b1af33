"""The recipes of the embedded model run from photos and clips to a scored pipeline folder, and start as they claim."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from fastvid_pipelines.encoders.byte import ByteTextEncoder, ByteTextEncoderConfig
from fastvid_vae import FSAE
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes" / "embedded"))

import data  # noqa: E402  # the recipes are scripts that import one another by their folder
import evaluate  # noqa: E402
import initialise  # noqa: E402
import teach_text  # noqa: E402
import train_autoencoder  # noqa: E402
import train_refiner  # noqa: E402
import train_transformer  # noqa: E402


@pytest.fixture
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos and two clips, one of each for training and for validation."""
    folder = tmp_path / "data"
    (folder / "photos").mkdir(parents=True)
    (folder / "clips").mkdir()
    split: dict[str, dict[str, list[str]]] = {"photos": {}, "clips": {}}
    for part, photo in (("train", "meadow"), ("validation", "dandelion")):
        with Image.open(ROOT / "examples" / "assets" / f"{photo}.jpg") as image:
            image.convert("RGB").resize((320, 240)).save(folder / "photos" / f"{part}.png")
        split["photos"][part] = [f"{part}.png"]
        write_clip(folder / "clips" / f"{part}.mp4")
        split["clips"][part] = [f"{part}.mp4"]
    monkeypatch.setattr(data, "SPLIT", split)
    return folder


def write_clip(path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 160, 200, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 200, 160, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_the_first_layer_tells_change_from_brightness() -> None:
    bank = initialise.filter_bank(16).flatten(1)
    assert bank.shape == (16, 81)
    similarity = torch.nn.functional.normalize(bank) @ torch.nn.functional.normalize(bank).T
    torch.testing.assert_close(similarity, torch.eye(16))
    assert (bank[:3].sum(dim=1) - 1).abs().max() < 1e-6
    assert bank[3:].sum(dim=1).abs().max() < 1e-6


@torch.no_grad()
def unread_share(material: Path) -> float:
    """How much of the first frame the last layer of a new model cannot read off its other frames."""
    torch.manual_seed(0)
    clips = train_autoencoder.MotionClips(material, train_autoencoder.STAGES[0])
    model = FSAE(train_autoencoder.EMBEDDED_FSAE)
    few = torch.stack([clips[index][0] for index in range(4)])
    initialise.initialise_encoder(model, few)
    initialise.initialise_decoder(model, few)
    seen: list[torch.Tensor] = []
    model.decoder.norm_out.register_forward_hook(lambda *args: seen.append(args[1][0]))
    frames = clips[7][0][None]
    model.decode(model.encode(frames), reference=frames[:, :, 0])
    features = torch.cat([seen[0][0].flatten(1), torch.ones(1, seen[0][0, 0].numel())]).T
    first = frames[0, :, :1].expand_as(frames[0]).flatten(1).T
    error = (features @ torch.linalg.lstsq(features, first).solution - first).square().mean()
    return float(error / first.var(dim=0).mean())


def test_the_model_starts_as_a_still_video(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unread_share(material) < 0.4
    monkeypatch.setattr(initialise, "LOUDNESS", 0.0)  # the mutant
    assert unread_share(material) > 0.6


def test_with_and_without_layer_memory_start_from_the_same_weights() -> None:
    with_memory, plain = (train_transformer.build(layer_memory=memory) for memory in (True, False))
    weights = with_memory.state_dict()
    routers = {name for name in weights if "memory_router" in name}
    assert routers
    assert set(plain.state_dict()) == set(weights) - routers
    assert all(torch.equal(weights[name], value) for name, value in plain.state_dict().items())


def test_the_text_encoder_learns_what_a_sentence_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def error_after(num_steps: int) -> float:
        torch.manual_seed(0)
        config = ByteTextEncoderConfig(width=32, num_layers=1, num_heads=2, max_bytes=128)
        return teach_text.teach(ByteTextEncoder(config), num_steps)

    assert error_after(60) < 0.55  # an answer of zeros is wrong by 0.56
    monkeypatch.setattr(teach_text, "LEARNING_RATE", 0.0)  # the mutant
    assert error_after(60) > 0.55


@pytest.mark.slow
def test_from_photos_to_scores(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "run"

    def run(script: object, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["script", *arguments])
        script.main()  # type: ignore[attr-defined]  # a module

    for _ in range(2):  # the second time everything is there already
        run(train_autoencoder, str(material), str(output), "--toy")
        for memory in ([], ["--no-layer-memory"]):
            run(train_transformer, str(material), str(output), "--toy", *memory)
        run(train_refiner, str(material), str(output), "--toy")
    assert torch.load(output / "both.pt", weights_only=True)["step"] == 2
    scores = tmp_path / "scores.json"
    pipelines = "--model", str(output / "pipeline_refined"), "--without-memory", str(output / "pipeline_plain")
    run(evaluate, str(material), *pipelines, "--photos", "1", "--output", str(scores))
    table = json.loads(scores.read_text())
    assert {"photos", "real clips"} == set(table["reconstruction"])
    assert {"the camera holds still", "eight moving", "all nine", "paraphrases", "pairs"} <= set(table["video"])
    assert table["layer memory"]["layer memory"]["loss"] > 0
    assert {"refined psnr", "bicubic psnr", "refined ssim", "bicubic ssim"} == table["256 pixels"][
        "eight moving"
    ].keys()
    assert "gain" in table["video"]["eight moving"]
    assert not {"static", "gain"} & table["video"]["the camera holds still"].keys()  # the truth is the static video
