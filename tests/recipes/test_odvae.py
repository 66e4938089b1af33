"""The recipe of a small OD-VAE: what resumes, and that it runs from photos to a curve."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

RECIPE = Path(__file__).parents[2] / "recipes" / "odvae"
sys.path.extend([str(RECIPE), str(RECIPE.parent / "reducio")])

import odvae_clips  # noqa: E402  # the recipes are scripts that import one another by their folder
import odvae_config  # noqa: E402
import toy_material  # noqa: E402


def script(name: str) -> ModuleType:
    """A script whose name another recipe has, too."""
    spec = importlib.util.spec_from_file_location(f"odvae_{name}", RECIPE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


train = script("train_autoencoder")


def contest(seed: int = 0) -> "train.Contest":
    torch.manual_seed(seed)
    weights = train.ODVAELossWeights(adversarial_start=1)
    return train.Contest(train.ODVAE(odvae_config.TOY_ODVAE), 0.9, weights)


def synthetic(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(first_step, 100):
        generator = torch.Generator().manual_seed(step)
        yield torch.rand(2, 3, 5, 16, 16, generator=generator) * 2 - 1, torch.randn(2, 4, 2, 2, 2, generator=generator)


def trained(folder: Path, *stops: int) -> "train.Trainer":
    """Killed and started again at every stop, with other weights to begin with."""
    for seed, stop in enumerate(stops):
        model = contest(seed)
        settings = train.TrainingSettings(
            kernel_rate=0.01, other_rate=1e-3, warmup_steps=0, decay_steps=0, total_steps=stop, save_every=1
        )
        trainer = train.Trainer(
            model,
            lambda batch, model=model: model.loss(batch, trainer.step),  # noqa: B023  # called before it changes
            settings,
            checkpoint=folder / "state.pt",
        )
        trainer.run(synthetic, folder / "log.jsonl")
    return trainer


def state(trainer: "train.Trainer") -> dict[str, Tensor]:
    found = dict(trainer.model.state_dict())
    for name, optimizer in trainer.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            found |= {f"{name} {index} {key}": value for key, value in values.items() if isinstance(value, Tensor)}
    return found


def test_a_killed_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Autoencoder, its average, discriminator (and what its norms have seen) and both optimisers."""
    whole, resumed = state(trained(tmp_path / "whole", 4)), state(trained(tmp_path / "resumed", 2, 3, 4))
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    kinds = ("autoencoder.", "average.", "discriminator.", "others ", "kernels ")
    assert all(any(name.startswith(kind) for name in whole) for kind in kinds)
    assert any("running_mean" in name for name in whole)


def test_what_is_not_saved_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: an average that starts anew at every start."""
    whole = state(trained(tmp_path / "whole", 4))
    load = train.Trainer._load

    def forgetful(self: "train.Trainer") -> None:
        load(self)
        self.model.average = train.WeightAverage(self.model.autoencoder, 0.9)

    monkeypatch.setattr(train.Trainer, "_load", forgetful)
    resumed = state(trained(tmp_path / "resumed", 2, 4))
    different = {name.split(".")[0] for name in whole if not torch.equal(whole[name], resumed[name])}
    assert different == {"average"}


def test_each_of_the_two_learns_from_its_own_loss() -> None:
    model, batch = contest(), next(synthetic(0))
    model.loss(batch, step=0).backward()
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())
    model.zero_grad(set_to_none=True)
    model.loss(batch, step=1).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    terms = train.odvae_loss(
        model.autoencoder, *batch, step=1, discriminator=model.discriminator, weights=model.weights
    )
    terms.total.backward()
    alone = {name: parameter.grad for name, parameter in model.autoencoder.named_parameters()}
    torch.testing.assert_close({name: found[f"autoencoder.{name}"] for name in alone}, alone)
    model.zero_grad(set_to_none=True)
    logits = model.discriminator(batch[0]), model.discriminator(terms.decoded.detach())
    train.hinge_discriminator_loss(*logits).backward()
    alone = {name: parameter.grad for name, parameter in model.discriminator.named_parameters()}
    torch.testing.assert_close({name: found[f"discriminator.{name}"] for name in alone}, alone)


def test_the_average_follows_every_step_of_the_autoencoder() -> None:
    model, batch = contest(), next(synthetic(0))
    name, weight = next(iter(model.autoencoder.named_parameters()))
    expected = weight.detach().clone()
    model.loss(batch, step=0)  # before the first step there is nothing to follow
    assert torch.equal(model.average.weights()[name], expected)
    for _ in range(2):
        with torch.no_grad():
            weight += 1
        model.loss(batch, step=1)
        expected = 0.9 * expected + 0.1 * weight.detach()
        torch.testing.assert_close(model.average.weights()[name], expected)


def test_the_perceptual_distance_counts_with_a_discriminator_and_without() -> None:
    def far(decoded: Tensor, frames: Tensor) -> Tensor:
        assert decoded.shape == frames.shape == (10, 3, 16, 16)
        return torch.full((10,), 2.0)

    batch = next(synthetic(0))
    for weights in (None, train.ODVAELossWeights(adversarial_start=1)):
        losses = []
        for perceptual in (None, far):
            torch.manual_seed(0)
            model = train.Contest(train.ODVAE(odvae_config.TOY_ODVAE), 0.9, weights, perceptual)
            losses.append(model.loss(batch, step=0).item())
        assert losses[1] - losses[0] == pytest.approx(2 * 3 * 16 * 16, rel=1e-3)


@pytest.mark.slow
def test_from_photos_to_a_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(module: ModuleType, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        module.main()

    data = tmp_path / "data"
    toy_material.write_material(data)
    words = ["--toy", "--side", 32, "--batch-size", 2]
    run(script("train_image_autoencoder"), data, "--output", tmp_path / "image", "--steps", 1, *words)
    settings = ["--image-vae", tmp_path / "image" / "image_vae", "--validate-every", 1, "--adversarial-start", 1]
    for steps in (1, 2):  # the second goes on where the first ended
        run(train, data, "--output", tmp_path / "od", "--steps", steps, *settings, *words)
    points = json.loads((tmp_path / "od" / "curve.json").read_text())
    assert {*points} == {"0", "1", "2"}
    assert points["0"]["last"] == points["0"]["average"]
    assert points["2"]["last"] != points["2"]["average"]
    model = train.ODVAE.from_pretrained(tmp_path / "od" / "vae")
    assert model.config == odvae_config.TOY_ODVAE
    clips = [clip for some in odvae_clips.validation_clips(data, 17).values() for clip in some]
    assert train.mean_psnr(model, clips) == pytest.approx(points["2"]["average"], abs=1e-3)
