from dataclasses import replace

import pytest
import torch
from fastvid_dit import REDUCIO_DIT_XL, AttentionSite, CheckpointError, FSVideoDiT, ReducioDiT, grid_positions, sdpa


def count(config):
    with torch.device("meta"):
        model = ReducioDiT(config)
    condition = 0
    if model.content_frame_embedding is not None:
        condition = sum(p.numel() for p in model.content_frame_embedding.parameters())
    return sum(p.numel() for p in model.parameters()) - condition, condition


def test_published_sizes():
    assert count(REDUCIO_DIT_XL) == (611_330_704, 4_151_808)
    assert count(replace(REDUCIO_DIT_XL, temporal_blocks=True)) == (611_330_704 + 446_390_784, 4_151_808)
    assert count(replace(REDUCIO_DIT_XL, content_frame=None)) == (611_330_704, 0)
    sigma = 16 * 1152 + 16  # as many outputs again
    assert count(replace(REDUCIO_DIT_XL, learn_sigma=True)) == (611_330_704 + sigma, 4_151_808)
    assert count(replace(REDUCIO_DIT_XL, learn_time_scale=True)) == (611_330_704 + 1, 4_151_808)


def test_the_prediction_has_the_size_and_dtype_of_the_latents(build_reducio, reducio_inputs, tiny_reducio):
    for change in ({}, {"content_frame": None, "size_embedding": False}, {"patch_size": (1, 2, 2)}):
        config = replace(tiny_reducio, **change)
        given = reducio_inputs(config)
        noise = build_reducio(config)(**given)
        assert noise.shape == given["latents"].shape
        assert noise.isfinite().all()
        assert noise.std() > 0.01
    config = replace(tiny_reducio, learn_sigma=True)
    assert build_reducio(config)(**reducio_inputs()).shape == (2, 8, 3, 4, 2)


def test_a_fresh_model_predicts_zero(reducio_inputs, tiny_reducio):
    assert ReducioDiT(tiny_reducio)(**reducio_inputs()).abs().max() == 0


def test_fresh_temporal_blocks_change_nothing(build_reducio, reducio_inputs, tiny_reducio):
    """They begin as the identity, and the rest attends within frames only: a clip of one frame sees no difference."""
    plain, model = build_reducio(), ReducioDiT(replace(tiny_reducio, temporal_blocks=True))
    fresh = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("temporal_blocks.")}
    model.load_state_dict(plain.state_dict() | fresh)
    one = reducio_inputs(size=(1, 4, 2))
    torch.testing.assert_close(model(**one), plain(**one), atol=1e-6, rtol=1e-5)
    assert (model(**reducio_inputs()) - plain(**reducio_inputs())).abs().max() > 1e-3
    with torch.no_grad():
        model.temporal_blocks[1].ffn.linear_out.weight.fill_(0.1)
    assert (model(**one) - plain(**one)).abs().max() > 1e-3


def test_batch_entries_do_not_mix(build_reducio, reducio_inputs, tiny_reducio):
    for config in (tiny_reducio, replace(tiny_reducio, temporal_blocks=True)):
        model, given = build_reducio(config), reducio_inputs()
        alone = model(**{name: value[1:] for name, value in given.items()})
        torch.testing.assert_close(model(**given)[1:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["timestep", "text", "semantic", "content", "size"])
def test_every_input_matters(build_reducio, reducio_inputs, name):
    model, given = build_reducio(), reducio_inputs()
    assert (model(**given) - model(**given | {name: given[name].flip(0)})).abs().max() > 1e-3


def test_size_means_height_and_width_and_their_ratio(build_reducio, reducio_inputs):
    model, given = build_reducio(), reducio_inputs()
    square = given | {"size": torch.tensor([[256.0, 256.0]] * 2)}
    wide = given | {"size": torch.tensor([[256.0, 512.0]] * 2)}
    tall = given | {"size": wide["size"].flip(1)}
    outs = [model(**other) for other in (square, wide, tall)]
    assert min((outs[a] - outs[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_masked_text_equals_shorter_text(build_reducio, reducio_inputs, tiny_reducio):
    for config in (tiny_reducio, replace(tiny_reducio, content_frame=None)):
        model, given = build_reducio(config), reducio_inputs(config)
        mask = torch.tensor([[True, True, True, False, False]] * 2)
        masked = model(**given, text_mask=mask)
        short = model(**given | {"text": given["text"][:, :3]})
        torch.testing.assert_close(masked, short, atol=1e-5, rtol=1e-5)
        assert (masked - model(**given)).abs().max() > 1e-3


def test_without_any_word_the_frame_still_counts(build_reducio, reducio_inputs, tiny_reducio):
    model, given, none = build_reducio(), reducio_inputs(), torch.zeros(2, 5, dtype=torch.bool)
    changed = model(**given | {"text": given["text"].flip(0)}, text_mask=none)
    assert torch.equal(model(**given, text_mask=none), changed)
    assert changed.isfinite().all()
    words = replace(tiny_reducio, content_frame=None)
    model, given = build_reducio(words), reducio_inputs(words)
    assert torch.equal(model(**given, text_mask=none), model(**given, text_mask=~none))


@pytest.mark.parametrize("change", [{}, {"temporal_blocks": True}, {"content_frame": None}])
@pytest.mark.parametrize("masked", [True, False])
def test_cached_keys_and_values_change_nothing(build_reducio, reducio_inputs, tiny_reducio, change, masked):
    config = replace(tiny_reducio, **change)
    model, given = build_reducio(config), reducio_inputs(config)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5]) if masked else None
    names = {"text", "semantic", "content"}
    condition = {name: value for name, value in given.items() if name in names} | {"text_mask": mask}
    cache = model.condition_cache(**condition)
    rest = {name: value for name, value in given.items() if name not in names}
    projections = []
    for block in model.blocks:
        block.cross_attention.to_k.register_forward_hook(lambda *_: projections.append(1))
    for step in range(2):  # the same for every step
        later = rest | {"timestep": rest["timestep"] / (step + 1), "latents": rest["latents"] + step}
        assert torch.equal(model(**later, cache=cache), model(**later, **condition))
    assert len(projections) == 2 * config.num_blocks  # none of them with the cache
    other = model.condition_cache(**condition | {"text": condition["text"].flip(0)})
    assert (model(**rest, cache=other) - model(**rest, cache=cache)).abs().max() > 1e-3


@pytest.mark.parametrize("change", [{}, {"temporal_blocks": True}])
def test_attention_is_called_with_its_site(build_reducio, reducio_inputs, tiny_reducio, change):
    config, sites = replace(tiny_reducio, **change), []

    def recording(q, k, v, site, /):
        t, h, w = site.grid
        assert q.shape == k.shape == v.shape == (2 * 24 // (t * h * w), 4, t * h * w, 12)
        sites.append(site)
        return sdpa(q, k, v, site)

    model, given = build_reducio(config), reducio_inputs()
    changed = model(**given, attention=recording)
    grids = [(1, 4, 2), (3, 1, 1)] * 5 if config.temporal_blocks else [(3, 4, 2)] * 5
    assert sites == [AttentionSite(block=i, num_blocks=len(grids), grid=grid) for i, grid in enumerate(grids)]
    assert torch.equal(changed, model(**given))
    assert (model(**given, attention=lambda q, k, v, site, /: v) - changed).abs().max() > 1e-3


def test_two_plus_one_attends_within_frames_and_then_along_time(build_reducio, reducio_inputs, tiny_reducio):
    """A change of one voxel reaches its own frame and its own place within a block, the rest of the clip not."""
    config = replace(tiny_reducio, temporal_blocks=True, num_blocks=1)
    model, given = build_reducio(config), reducio_inputs()
    moved = given["latents"].clone()
    moved[:, :, 1, 2, 1] += 1
    change = (model(**given | {"latents": moved}) - model(**given)).abs().amax(dim=(0, 1)) > 1e-5
    assert change[1].all()
    assert change.all()  # what time brings to the place has been spread over the frame before
    spatial = replace(tiny_reducio, num_blocks=1)
    whole = ReducioDiT(spatial)
    whole.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("temporal_blocks.")})
    model.temporal_blocks = torch.nn.ModuleList([Identity()])
    change = (model(**given | {"latents": moved}) - model(**given)).abs().amax(dim=(0, 1)) > 1e-5
    assert change[1].all()
    assert not change[0].any()
    assert not change[2].any()
    change = (whole(**given | {"latents": moved}) - whole(**given)).abs().amax(dim=(0, 1)) > 1e-5
    assert change.all()


class Identity(torch.nn.Module):
    def forward(self, x, context, site):
        return x


@pytest.mark.parametrize("change", [{}, {"temporal_blocks": True}])
def test_checkpointed_gradients_are_equal_to_the_bit(build_reducio, reducio_inputs, tiny_reducio, change):
    model, given, calls = build_reducio(replace(tiny_reducio, **change)), reducio_inputs(), []

    def counting(q, k, v, site, /):
        calls.append(site.block)
        return sdpa(q, k, v, site)

    gradients, counts = [], []
    for checkpointing in (False, True):
        model.gradient_checkpointing = checkpointing
        model.zero_grad()
        calls.clear()
        model(**given, attention=counting).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        counts.append(len(calls))
    assert counts[1] == 2 * counts[0]  # recomputed, or the test shows nothing
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_parameter_gets_a_gradient(build_reducio, reducio_inputs, tiny_reducio):
    config = replace(tiny_reducio, temporal_blocks=True, learn_time_scale=True, learn_sigma=True)
    model = build_reducio(config)
    model(**reducio_inputs()).square().mean().backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9}
    assert {name for name in silent if not name.endswith("to_k.bias")} == set()  # softmax is blind to that one


def test_bfloat16_weights_keep_time_and_size_in_float32(build_reducio, reducio_inputs, tiny_reducio):
    config = replace(tiny_reducio, temporal_blocks=True, learn_time_scale=True)
    model, given = build_reducio(config), reducio_inputs()
    exact = model(**given)
    model.lower_precision(torch.bfloat16)
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    parts = ("time_embedding", "size_embedding", "time_scale")
    assert kept == {name for name, _ in model.named_parameters() if name.startswith(parts) or "modulation" in name}
    low = model(**given)
    assert low.dtype == torch.float32
    assert 1e-5 < (low - exact).norm() / exact.norm() < 0.1


def test_positions_default_to_the_integer_grid(build_reducio, reducio_inputs):
    model, given, grid = build_reducio(), reducio_inputs(), grid_positions((3, 4, 2))
    assert torch.equal(model(**given), model(**given, positions=grid))
    for axis in range(3):
        scale = torch.ones(3, 1, 1, 1)
        scale[axis] = 0.5
        assert (model(**given, positions=grid * scale) - model(**given)).abs().max() > 1e-3


def test_permuted_frames_with_their_positions_permute_the_noise(build_reducio, reducio_inputs):
    model, given, positions = build_reducio(), reducio_inputs(), grid_positions((3, 4, 2))
    order = torch.tensor([2, 0, 1])
    permuted = given | {"latents": given["latents"][:, :, order]}
    moved = model(**permuted, positions=positions[:, order])
    torch.testing.assert_close(moved, model(**given)[:, :, order], atol=1e-5, rtol=1e-4)
    assert (model(**permuted) - moved).abs().max() > 1e-3


def test_a_learned_time_scale_begins_without_time(build_reducio, reducio_inputs, tiny_reducio):
    model, given = build_reducio(replace(tiny_reducio, learn_time_scale=True)), reducio_inputs()
    assert ReducioDiT(replace(tiny_reducio, learn_time_scale=True)).time_scale == 0
    order = torch.tensor([2, 0, 1])
    for scale in (0.0, 1.0):
        with torch.no_grad():
            model.time_scale.fill_(scale)
        moved = model(**given | {"latents": given["latents"][:, :, order]})
        assert ((moved - model(**given)[:, :, order]).abs().max() < 1e-4) == (scale == 0)


def test_round_trip_is_exact(build_reducio, reducio_inputs, tiny_reducio, tmp_path):
    config = replace(tiny_reducio, temporal_blocks=True, learn_time_scale=True, learn_sigma=True, position_span=8.5)
    model = build_reducio(config)
    model.save_pretrained(tmp_path / "model")
    loaded = ReducioDiT.from_pretrained(tmp_path / "model")
    assert loaded.config == config
    assert torch.equal(loaded(**reducio_inputs()), model(**reducio_inputs()))
    low = ReducioDiT.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert low.patch_embedding.weight.dtype == torch.bfloat16
    assert low.size_embedding.side.linear_in.weight.dtype == torch.float32
    build_reducio(replace(tiny_reducio, content_frame=None)).save_pretrained(tmp_path / "words")
    assert ReducioDiT.from_pretrained(tmp_path / "words").config.content_frame is None
    with pytest.raises(CheckpointError, match="describes 'ReducioDiT'"):
        FSVideoDiT.from_pretrained(tmp_path / "model")
