import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.training import trainer as trainer_module
from fastvid_vae.training.losses import reconstruction_loss
from fastvid_vae.training.trainer import Trainer, TrainingSettings, split_parameters

SETTINGS = TrainingSettings(
    kernel_rate=0.02, other_rate=1e-3, warmup_steps=2, decay_steps=2, total_steps=6, save_every=3
)
Batch = tuple[torch.Tensor, torch.Tensor]


def batches(first_step: int) -> Iterator[Batch]:
    for step in range(first_step, 1000):
        generator = torch.Generator().manual_seed(step)
        yield torch.rand(1, 3, 5, 16, 16, generator=generator) * 2 - 1, torch.zeros(1, 4, 2, 2, 2)


@pytest.fixture
def make(tiny_config, tmp_path) -> Callable[..., Trainer]:
    def make(name: str = "run", settings: TrainingSettings = SETTINGS) -> Trainer:
        torch.manual_seed(0)
        model = FSAE(tiny_config(noise_weight=0.0))
        return Trainer(
            model, lambda batch: reconstruction_loss(model, *batch), settings, checkpoint=tmp_path / name / "state.pt"
        )

    return make


def bits(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def run_killed_and_resumed(make: Callable[..., Trainer], tmp_path: Path) -> bool:
    """Whether a run that dies in its fifth step, after the checkpoint of the third, ends with the bits of another."""

    def dying(first_step: int) -> Iterator[Batch]:
        yield from (batch for batch, _ in zip(batches(first_step), range(4), strict=False))
        raise KeyboardInterrupt

    make("whole").run(batches, tmp_path / "whole.jsonl")
    whole = bits(make("whole"))
    with pytest.raises(KeyboardInterrupt):
        make("cut").run(dying, tmp_path / "cut.jsonl")
    resumed = make("cut")
    assert resumed.step == 3
    resumed.run(batches, tmp_path / "cut.jsonl")
    assert resumed.step == 6
    cut = bits(resumed)
    return all(torch.equal(cut[name], value) for name, value in whole.items())


def test_the_schedule_rises_holds_and_falls() -> None:
    settings = replace(SETTINGS, warmup_steps=4, decay_steps=5, total_steps=20)
    shares = [settings.share(step) for step in range(20)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4:16] == [1.0] * 12
    assert shares[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert settings.share(20) == 0.0
    assert replace(settings, warmup_steps=0, decay_steps=0).share(0) == 1.0


def test_killed_and_resumed_equals_uninterrupted(make, tmp_path) -> None:
    assert run_killed_and_resumed(make, tmp_path)


@pytest.mark.parametrize("forgotten", ["kernels", "others"])
def test_mutant_that_forgets_an_optimizer_is_caught(make, tmp_path, monkeypatch, forgotten) -> None:
    load = Trainer._load

    def mutant(self: Trainer) -> None:
        fresh = self.optimizers[forgotten].state_dict()
        load(self)
        self.optimizers[forgotten].load_state_dict(fresh)

    monkeypatch.setattr(Trainer, "_load", mutant)
    assert not run_killed_and_resumed(make, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint(make, tmp_path) -> None:
    def spoilt(first_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(batches(first_step), first_step):
            if step == 4:
                batch[0][0, 0, 0, 0, 0] = torch.nan
            yield batch

    trainer = make()
    with pytest.raises(FloatingPointError, match="step 4"):
        trainer.run(spoilt, tmp_path / "log.jsonl")
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert make().step == 3


def test_a_finished_run_takes_no_step_more(make, tmp_path) -> None:
    trainer = make()
    trainer.run(batches, tmp_path / "log.jsonl")
    before = bits(trainer)
    trainer.run(batches, tmp_path / "log.jsonl")
    assert trainer.step == 6
    assert all(torch.equal(value, before[name]) for name, value in bits(trainer).items())


@pytest.mark.parametrize(
    ("name", "value"),
    [("kernel_rate", 0.0), ("save_every", 0), ("warmup_steps", 7), ("decay_steps", -1)],
)
def test_bad_settings_are_refused(name, value) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        replace(SETTINGS, **{name: value})


def test_a_failed_save_leaves_the_old_checkpoint(make, tmp_path, monkeypatch) -> None:
    trainer = make()
    trainer.save()
    before = trainer.checkpoint.read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(trainer_module.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save()
    assert trainer.checkpoint.read_bytes() == before


def test_the_log_holds_a_line_every_25_steps(make, tmp_path) -> None:
    make(settings=replace(SETTINGS, total_steps=50, save_every=50)).run(batches, tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [25, 50]
    assert [line["rate_share"] for line in lines] == [1.0, 0.5]


def test_only_kernels_that_mix_channels_go_to_muon(tiny_config) -> None:
    model = FSAE(tiny_config())
    kernels, others = ({id(parameter) for parameter in part} for part in split_parameters(model))
    names = dict(model.named_parameters())
    assert kernels | others == {id(parameter) for parameter in names.values()}
    assert not kernels & others
    chosen = {name for name, parameter in names.items() if id(parameter) in kernels}
    convolutions = {
        f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, torch.nn.Conv3d)
    }
    pixels = {name for name, module in convolutions.items() if 3 in (module.in_channels, module.out_channels)}
    depthwise = {name for name, module in convolutions.items() if module.groups == module.in_channels}
    assert pixels
    assert depthwise
    assert chosen == set(convolutions) - pixels - depthwise
