"""The recipe of a small Reducio: what it trains on, who learns from which loss, and that it runs from end to end."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

RECIPE = Path(__file__).parents[2] / "recipes" / "reducio"
sys.path.append(str(RECIPE))

import evaluate_autoencoder  # noqa: E402  # the recipes are scripts that import one another by their folder
import evaluate_videos  # noqa: E402
import learn_to_look  # noqa: E402
import reducio_clips  # noqa: E402
import toy_material  # noqa: E402
from fastvid_vae import ReducioVAE  # noqa: E402
from fastvid_vae.training.patchgan import hinge_discriminator_loss  # noqa: E402


def script(name: str) -> ModuleType:
    """A script whose name another recipe has, too."""
    spec = importlib.util.spec_from_file_location(f"reducio_{name}", RECIPE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


train_autoencoder = script("train_autoencoder")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reducio") / "data"
    toy_material.write_material(folder)
    return folder


def items(material: Path, seed: int) -> reducio_clips.TrainingClips:
    return reducio_clips.TrainingClips(material, 64, (4, 4, 2, 2), seed)


def test_an_item_is_a_function_of_its_number_and_the_seed(material: Path) -> None:
    first, again, other = items(material, 0), items(material, 0), items(material, 1)
    for index in range(6):
        clip, noise = first[index]
        assert clip.shape == (3, 16, 64, 64)
        assert clip.abs().max() <= 1
        assert noise.shape == (4, 4, 2, 2)
        assert all(torch.equal(*pair) for pair in zip((clip, noise), again[index], strict=True))
        assert not torch.equal(noise, other[index][1])
    (clips, _) = next(reducio_clips.batches(first, 2, 1, "cpu"))
    assert torch.equal(clips[1], again[3][0])


def files_that_training_reads(material: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    read: set[str] = set()
    for name in ("load_photo", "load_clip"):
        plain = getattr(sys.modules["data"], name)

        def noted(path: Path, *others: int, plain=plain) -> Tensor:
            read.add(path.stem)
            return plain(path, *others)

        monkeypatch.setattr(sys.modules["data"], name, noted)
    items(material, 0)
    return read


def test_training_reads_nothing_that_validates(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files_that_training_reads(material, monkeypatch) == {"train"}


def test_a_split_that_leaks_is_seen(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sys.modules["data"]
    names_of = data.names_of
    monkeypatch.setattr(data, "names_of", lambda folder, kind, split: names_of(folder, kind, "validation"))
    with pytest.raises(AssertionError):
        test_training_reads_nothing_that_validates(material, monkeypatch)


def test_the_rest_of_the_repository_keeps_its_split(tmp_path: Path) -> None:
    data = sys.modules["data"]
    assert data.names_of(tmp_path, "clips", "train") == data.SPLIT["clips"]["train"]
    assert not set(data.SPLIT["photos"]["train"]) & set(data.SPLIT["photos"]["validation"])


def test_each_of_the_two_learns_from_its_own_loss() -> None:
    torch.manual_seed(0)
    weights = train_autoencoder.LossWeights(adversarial_start=1)
    contest = train_autoencoder.Contest(train_autoencoder.TOY_REDUCIO, weights)
    frames, noise = torch.rand(2, 3, 16, 32, 32) * 2 - 1, torch.randn(2, 16, 4, 1, 1)
    contest.loss((frames, noise), step=0).backward()
    assert all(parameter.grad is None for parameter in contest.discriminator.parameters())
    contest.zero_grad(set_to_none=True)
    contest.loss((frames, noise), step=1).backward()
    found = [parameter.grad for parameter in contest.discriminator.parameters()]
    terms = train_autoencoder.reducio_loss(contest.autoencoder, frames, noise)
    alone = hinge_discriminator_loss(contest.discriminator(frames), contest.discriminator(terms.decoded.detach()))
    expected = torch.autograd.grad(alone, list(contest.discriminator.parameters()))
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, expected, strict=True))
    assert contest.autoencoder.encoder_3d.conv_in.weight.grad.abs().max() > 0


def test_the_posterior_starts_nearly_without_noise() -> None:
    torch.manual_seed(0)
    contest = train_autoencoder.Contest(train_autoencoder.TOY_REDUCIO, None)
    with torch.no_grad():
        posterior = contest.autoencoder.posterior(torch.rand(1, 3, 16, 32, 32) * 2 - 1)
    assert posterior.logvar.mean() == pytest.approx(train_autoencoder.FIRST_LOGVAR, abs=1)


def test_validation_clips_and_what_a_still_frame_scores(material: Path) -> None:
    clips = reducio_clips.validation_clips(material)
    assert {kind: [clip.shape for clip in some] for kind, some in clips.items()} == {
        "photos": [(3, 16, 128, 128)],
        "real clips": [(3, 16, 128, 128)],
    }
    moving = clips["real clips"][0]
    still = moving[:, 7:8].expand_as(moving)
    scores = evaluate_autoencoder.still_scores({"moving": [moving], "still": [still]})
    assert scores["still"]["psnr"] > 100
    assert scores["still"]["ssim"] == pytest.approx(1, abs=1e-4)
    error = (still - moving).square().mean()
    assert scores["moving"]["psnr"] == pytest.approx(float(10 * torch.log10(4 / error)), abs=1e-3)


def test_attention_learns_to_look_without_latents(material: Path, tmp_path: Path) -> None:
    """What makes latents rests, and tables over time belong to clips of one length."""
    model = ReducioVAE(train_autoencoder.TOY_REDUCIO)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = train_autoencoder.settings(2)
    learn_to_look.learn_to_look(model, material, 32, settings=settings, seed=0, output=tmp_path)
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert {name.split(".")[0] for name in changed} == {"encoder_2d", "decoder", "post_quant_conv"}
    assert not any(name.endswith("pos_embed") for name in changed)
    assert all(any(kind in name for name in changed) for kind in ("to_q", "to_k", "to_v", "to_out"))
    assert torch.load(tmp_path / "look.pt", weights_only=True)["step"] == 2


@pytest.mark.slow
def test_from_clips_to_latents_that_a_transformer_learns(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(module: ModuleType, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["script", *arguments])
        module.main()

    runs = {fusion: str(tmp_path / fusion) for fusion in ("none", "attention")}
    for fusion, folder in runs.items():
        words = ["--output", folder, "--fusion", fusion, "--toy", "--side", "32", "--batch-size", "2"]
        for steps in ("1", "2"):  # the second goes on where the first ended
            run(train_autoencoder, str(material), *words, "--steps", steps)
        assert torch.load(Path(folder) / "state.pt", weights_only=True)["step"] == 2
    run(evaluate_autoencoder, str(material), *runs.values(), "--tile", "64", "--output", str(tmp_path / "scores.json"))
    assert "attention is" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert set(scores) == {evaluate_autoencoder.STATIC, *runs.values()}
    assert all(-1 <= row["real clips"]["ssim"] <= 1 for row in scores.values())
    words = ["--output", runs["attention"], "--clips", "2", "--picture-steps", "2", "--tile", "64"]
    train_transformer = script("train_transformer")
    for steps in ("1", "2"):
        run(train_transformer, str(material), *words, "--steps", steps)
    folder = tmp_path / "attention"
    assert torch.load(folder / "transformer.pt", weights_only=True)["step"] == 2
    model = train_transformer.ReducioDiT.from_pretrained(folder / "transformer")
    assert model.config == train_transformer.TINY_REDUCIO_DIT
    words = [runs["attention"], "--photos", "1", "--tile", "64", "--output", str(tmp_path / "videos.json")]
    monkeypatch.setattr(evaluate_videos, "SAMPLING", replace(evaluate_videos.SAMPLING, num_inference_steps=2))
    run(evaluate_videos, str(material), *words)
    videos = json.loads((tmp_path / "videos.json").read_text())["scores"]
    assert len(videos) == 9
    still = videos.pop("the camera holds still")
    assert set(still) == {"generated", "true latents"}  # its content frame is the truth
    assert all(row["generated"] < row["content frame"] for row in videos.values())  # after two steps
