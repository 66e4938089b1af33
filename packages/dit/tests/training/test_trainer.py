import errno
import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from fastvid_dit import FSVideoDiT, grid_positions
from fastvid_dit.training import Batch, NullText, Trainer, TrainerConfig, velocity_loss
from torch import nn

SETTINGS = TrainerConfig(num_steps=12, learning_rate=3e-3, warmup_steps=3, ema_decay=0.9)


class BytesToTokens(nn.Module):
    """The smallest thing that reads ids and a mask."""

    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(257, width)
        self.seen = []

    def forward(self, ids, mask):
        self.seen.append((ids, mask))
        return self.embedding(ids) * mask[..., None]


def first_frame(latents):
    """Mask and latents of frame 0, zeros behind it."""
    given = torch.cat((torch.ones_like(latents), latents), dim=1)
    given[:, :, 1:] = 0
    return given


def draw_batch(step, batch=4):
    generator = torch.Generator().manual_seed(step)
    latents = torch.randn(batch, 4, 3, 2, 2, generator=generator)
    ids = torch.randint(0, 256, (batch, 5), generator=generator)
    return Batch(
        latents=latents, condition=first_frame(latents), text=ids, text_mask=torch.ones(batch, 5, dtype=torch.bool)
    )


def batches(first=0):
    return map(draw_batch, itertools.count(first))


@pytest.fixture
def make(tiny):
    def build(loss_function=velocity_loss, **changes):
        torch.manual_seed(0)
        config = replace(tiny, image_width=None, num_blocks=3)
        return Trainer(
            replace(SETTINGS, **changes),
            FSVideoDiT(config),
            text_encoder=BytesToTokens(config.text_width),
            null_text=NullText(text=torch.full((5,), 256), mask=torch.zeros(5, dtype=torch.bool)),
            loss_function=loss_function,
        )

    return build


def all_tensors(trainer):
    yield from trainer.models.state_dict().values()
    yield from trainer.ema.averages.values()
    for optimizer in trainer.optimizers:
        for state in optimizer.state_dict()["state"].values():
            yield from state.values()
    yield trainer.generator.get_state()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(all_tensors(one), all_tensors(other), strict=True))


@pytest.mark.parametrize("muon", [False, True])
def test_resumed_run_equals_an_uninterrupted_one(make, tmp_path, muon):
    make = partial(make, muon=muon)
    whole = make()
    whole.run(batches())
    first = make()
    first.run(itertools.islice(batches(), 5))
    assert first.step == 5
    first.save(tmp_path / "state.pt")
    torch.manual_seed(99)
    second = make(seed=99)  # a fresh process: other weights, other random state
    with torch.no_grad():
        second.transformer.patch_embedding.weight.zero_()
    second.resume(tmp_path / "state.pt")
    assert second.step == 5
    second.run(batches(second.step))
    assert same(whole, second)
    third = make()  # mutant: the random state of the draws is forgotten
    third.resume(tmp_path / "state.pt")
    third.generator.manual_seed(0)
    third.run(batches(third.step))
    assert not same(whole, third)


def test_training_lowers_the_loss(make):
    losses = []
    trainer = make(num_steps=60, learning_rate=1e-2)
    one = draw_batch(0)
    trainer.run(itertools.repeat(one), on_step=lambda report: losses.append(report.loss))
    assert trainer.step == len(losses) == 60
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_the_run_stops_at_num_steps_without_an_extra_batch(make):
    stream = batches()
    make(num_steps=4, warmup_steps=1).run(stream)
    assert torch.equal(next(stream).latents, draw_batch(4).latents)


def test_learning_rates(make):
    trainer, reports = make(), []
    trainer.run(batches(), on_step=reports.append)
    rates = [report.learning_rate for report in reports]
    assert rates[:3] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert rates[3] == pytest.approx(3e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 0.2e-3
    by_parameter = {p: group for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert len(by_parameter) == len(list(trainer.models.parameters()))
    routers = [b.memory_router for b in trainer.transformer.blocks if b.memory_router is not None]
    router = by_parameter[routers[0].weight]
    matrix = by_parameter[trainer.transformer.time_projection.weight]
    assert router["lr"] == pytest.approx(10 * matrix["lr"])
    assert (router["weight_decay"], matrix["weight_decay"]) == (0.0, 0.01)
    assert by_parameter[trainer.transformer.time_projection.bias]["weight_decay"] == 0.0
    assert trainer.optimizers[0].defaults["betas"] == (0.9, 0.95)


def test_muon_takes_the_matrices_of_the_blocks(make):
    trainer, plain = make(muon=True), make()
    adam, muon = trainer.optimizers
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in trainer.models.named_parameters() if id(p) in taken}
    assert "transformer.blocks.0.ffn.linear_in.weight" in names
    assert not any("router" in name or "modulation" in name or "embedding" in name for name in names)
    assert len(taken) + sum(len(group["params"]) for group in adam.param_groups) == len(plain.ema.averages)
    losses = []
    trainer = make(muon=True, num_steps=60, learning_rate=1e-2)
    trainer.run(itertools.repeat(draw_batch(0)), on_step=lambda report: losses.append(report.loss))
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_gradients_are_clipped(make):
    free, tight = make(max_grad_norm=1e9), make(max_grad_norm=1e-3)
    norms = [trainer.train_step(draw_batch(0)).grad_norm for trainer in (free, tight)]
    assert norms[0] == norms[1] > 1e-3  # reported before clipping
    after = [sum(p.grad.square().sum() for p in trainer.models.parameters()).sqrt() for trainer in (free, tight)]
    assert after[0].item() == pytest.approx(norms[0], rel=1e-4)
    assert after[1].item() == pytest.approx(1e-3, rel=1e-2)


def test_dropped_text_becomes_the_null_text(make):
    trainer = make(text_dropout=0.5)
    for step in range(8):
        trainer.loss(draw_batch(step))
    dropped = 0
    for step, (ids, mask) in enumerate(trainer.text_encoder.seen):
        for row in range(4):
            if mask[row].any():
                assert torch.equal(ids[row], draw_batch(step).text[row])
                assert mask[row].all()
            else:
                assert (ids[row] == 256).all()
                dropped += 1
    assert 6 <= dropped <= 26
    never = make(text_dropout=0.0)
    never.loss(draw_batch(0))
    assert never.text_encoder.seen[0][1].all()


def test_dropped_condition_is_zero(make):
    seen = []
    for dropout in (0.0, 1.0):
        trainer = make(condition_dropout=dropout)
        trainer.transformer.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["condition"]), with_kwargs=True
        )
        trainer.loss(draw_batch(0))
    assert torch.equal(seen[0][:, 4:, :1], draw_batch(0).latents[:, :, :1])
    assert seen[1].abs().max() == 0


def test_loss_of_an_absent_prediction(make):
    """A fresh model predicts 0, so the loss is the root mean square of noise - clean: sqrt(2) for unit Gaussians.

    Data and trainer have the same seed here: were their draws equal, the loss would be 0.
    """
    trainer = make()
    assert trainer.loss(draw_batch(0, batch=512)).item() == pytest.approx(2**0.5, rel=0.03)


def test_a_loss_of_ones_own_sees_velocities_and_levels(make):
    """Distances of clean latents: sigma times those of velocities. A fresh model's velocity is 0."""

    def clean_distance(velocity, target, sigma):
        assert velocity.abs().max() == 0
        assert sigma.shape == (512,)
        return ((velocity - target) * sigma.view(-1, 1, 1, 1, 1)).square().mean().sqrt()

    trainer = make(sigma_std=0.01, loss_function=clean_distance)
    assert trainer.loss(draw_batch(0, batch=512)).item() == pytest.approx(0.5 * 2**0.5, rel=0.03)


def test_averages_follow_and_can_be_applied(make):
    trainer = make()
    trainer.run(batches())
    weight = trainer.transformer.time_projection.weight
    own = weight.detach().clone()
    with trainer.ema.applied():
        assert torch.equal(weight, trainer.ema.averages["transformer.time_projection.weight"])
        assert not torch.equal(weight, own)
    assert torch.equal(weight, own)


def test_averages_equal_the_recursion(make):
    trainer = make(ema_decay=0.5)
    average = trainer.ema.averages["transformer.patch_embedding.bias"].clone()
    for step in range(6):
        trainer.train_step(draw_batch(step))
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * trainer.transformer.patch_embedding.bias.detach()
    torch.testing.assert_close(trainer.ema.averages["transformer.patch_embedding.bias"], average)


def test_autocast_stays_close(make):
    losses = [make(autocast_bfloat16=flag).train_step(draw_batch(0)).loss for flag in (False, True)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    trainer, dtypes = make(autocast_bfloat16=True), []
    trainer.transformer.blocks[1].register_forward_pre_hook(lambda module, args: dtypes.append(args[0].dtype))
    trainer.transformer.time_embedding.register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    trainer.loss(draw_batch(0))
    assert dtypes == [torch.float32, torch.bfloat16]


def test_without_text_encoder(tiny):
    model = FSVideoDiT(replace(tiny, num_blocks=2))
    trainer = Trainer(replace(SETTINGS, text_dropout=0.0), model)
    base = draw_batch(0)
    batch = replace(base, text=torch.randn(4, 5, 10), text_mask=None, image_tokens=torch.randn(4, 3, 14))
    assert trainer.train_step(batch).step == 1
    assert {name.split(".")[0] for name in trainer.ema.averages} == {"transformer"}


def test_tokens_can_be_left_out_at_their_own_positions(make):
    """Every other frame; a mutant that lets them count anew finds another loss."""
    batch, own = draw_batch(0), grid_positions((3, 2, 2))
    few = replace(batch, latents=batch.latents[:, :, ::2], condition=batch.condition[:, :, ::2])

    def loss(batch):
        trainer = make()
        nn.init.ones_(trainer.transformer.head.linear.weight)  # zeros at first
        return trainer.loss(batch).item()

    assert loss(replace(batch, positions=own)) == loss(batch)
    assert loss(replace(few, positions=own[:, ::2])) != loss(few)


def test_a_loss_that_is_not_finite_changes_nothing(make):
    trainer = make()
    before = [p.clone() for p in trainer.models.parameters()]
    bad = draw_batch(0)
    bad.latents[0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.train_step(bad)
    assert trainer.step == 0
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.models.parameters(), strict=True))


def test_a_gradient_that_is_not_finite_changes_nothing(make):
    trainer = make()
    before = [p.clone() for p in trainer.models.parameters()]
    trainer.transformer.patch_embedding.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FloatingPointError, match="gradient of step 0"):
        trainer.train_step(draw_batch(0))
    assert trainer.step == 0
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.models.parameters(), strict=True))


def test_a_failed_save_keeps_the_last_one(make, tmp_path, monkeypatch):
    trainer = make()
    trainer.save(tmp_path / "state.pt")
    before = (tmp_path / "state.pt").read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(tmp_path / "state.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == before


def test_settings_are_checked(make, tiny):
    with pytest.raises(ValueError, match="`null_text` is required"):
        Trainer(SETTINGS, FSVideoDiT(tiny))
    for change, name in (
        ({"num_steps": 0}, "num_steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"text_dropout": 1.5}, "text_dropout"),
        ({"warmup_steps": 13}, "warmup_steps"),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            replace(SETTINGS, **change)
    with pytest.raises(ValueError, match="`text_mask`"):
        make().loss(replace(draw_batch(0), text_mask=None))
