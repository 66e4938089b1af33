import itertools
from dataclasses import replace

import pytest
import torch
from fastvid_dit import FSVIDEO_14B, WAN21_I2V_14B, AttentionSite, FSVideoDiT, grid_positions, sdpa
from fastvid_dit.config import RefinerMask
from fastvid_dit.layer_memory import init_router_as_identity

MASK = RefinerMask(error_low=0.1, error_high=0.5)


def count(config):
    with torch.device("meta"):
        model = FSVideoDiT(config)
    routers = sum(p.numel() for name, p in model.named_parameters() if "memory_router" in name)
    return sum(p.numel() for p in model.parameters()), routers


def test_published_sizes():
    assert count(WAN21_I2V_14B) == (16_394_878_784, 0)
    assert count(FSVIDEO_14B) == (16_395_800_448 + 4_194_099, 4_194_099)
    assert count(replace(FSVIDEO_14B, layer_memory=False)) == (16_395_800_448, 0)


def test_velocity_has_the_shape_and_dtype_of_the_latents(build, inputs, tiny):
    for config in (tiny, replace(tiny, image_width=None, mask_channels=1), replace(tiny, patch_size=(1, 2, 2))):
        given = inputs(config)
        velocity = build(config)(**given)
        assert velocity.shape == given["latents"].shape
        assert velocity.isfinite().all()
        assert velocity.std() > 0.01


def test_a_fresh_model_predicts_zero(inputs, tiny):
    assert FSVideoDiT(tiny)(**inputs()).abs().max() == 0


def test_a_fresh_correction_leads_to_the_condition(inputs, tiny):
    given = inputs()
    velocity = FSVideoDiT(replace(tiny, refiner_mask=MASK, prediction="correction"))(**given)
    sigma = given["timestep"].view(-1, 1, 1, 1, 1) / 1000
    assert torch.allclose(given["latents"] - sigma * velocity, given["condition"][:, 4:], atol=1e-5)


def test_a_correction_is_what_the_head_adds_to_the_condition(build, inputs, tiny):
    given, refiner = inputs(), replace(tiny, refiner_mask=MASK)
    head = build(refiner)(**given)
    velocity = build(replace(refiner, prediction="correction"))(**given)
    clean = given["latents"] - given["timestep"].view(-1, 1, 1, 1, 1) / 1000 * velocity
    assert torch.allclose(clean, given["condition"][:, 4:] + head, atol=1e-4)


def test_batch_entries_do_not_mix(build, inputs):
    model, given = build(), inputs()
    together = model(**given)
    alone = model(**{name: value[1:] for name, value in given.items()})
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["timestep", "text", "condition", "image_tokens"])
def test_every_input_matters(build, inputs, name):
    model, given = build(), inputs()
    assert (model(**given) - model(**given | {name: given[name].flip(0)})).abs().max() > 1e-3


def test_masked_text_equals_shorter_text(build, inputs):
    model, given = build(), inputs()
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    masked = model(**given, text_mask=mask)
    short = model(**given | {"text": given["text"][:, :3]})
    torch.testing.assert_close(masked, short, atol=1e-5, rtol=1e-5)
    assert (masked - model(**given)).abs().max() > 1e-3


def test_a_row_without_text_attends_to_its_padding(build, inputs):
    model, given = build(), inputs()
    empty = torch.zeros(2, 5, dtype=torch.bool)
    assert torch.equal(model(**given, text_mask=empty), model(**given, text_mask=~empty))


def test_attention_is_called_once_per_block_with_its_site(build, inputs, tiny):
    sites = []

    def recording(q, k, v, site, /):
        assert q.shape == k.shape == v.shape == (2, tiny.num_heads, 24, tiny.width // tiny.num_heads)
        sites.append(site)
        return sdpa(q, k, v, site)

    model, given = build(), inputs()
    changed = model(**given, attention=recording)
    assert sites == [AttentionSite(block=i, num_blocks=4, grid=(3, 4, 2)) for i in range(4)]
    assert torch.equal(changed, model(**given))
    assert (model(**given, attention=lambda q, k, v, site, /: v) - changed).abs().max() > 1e-3


def test_positions_default_to_the_integer_grid(build, inputs):
    model, given = build(), inputs()
    grid = grid_positions((3, 4, 2))
    assert torch.equal(model(**given), model(**given, positions=grid))
    shifted = model(**given, positions=grid + 5.5)  # RoPE is relative
    torch.testing.assert_close(model(**given), shifted, atol=1e-4, rtol=1e-4)
    assert (model(**given, positions=grid * 0.5) - shifted).abs().max() > 1e-3


def test_permuted_frames_with_their_positions_permute_the_velocity(build, inputs):
    model, given = build(), inputs()
    positions = grid_positions((3, 4, 2)) * torch.tensor([1.7, 1.0, 1.0]).view(3, 1, 1, 1)
    order = torch.tensor([2, 0, 1])
    permuted = given | {name: given[name][:, :, order] for name in ("latents", "condition")}
    moved = model(**permuted, positions=positions[:, order])
    torch.testing.assert_close(moved, model(**given, positions=positions)[:, :, order], atol=1e-5, rtol=1e-4)
    wrong = model(**permuted, positions=positions)  # mutant: positions that stay behind
    assert (wrong - moved).abs().max() > 1e-3


def test_each_block_may_have_positions_of_its_own(build, inputs):
    model, given = build(), inputs()
    near, far = grid_positions((3, 4, 2)), grid_positions((3, 4, 2)) * torch.tensor([3.0, 1.0, 1.0]).view(3, 1, 1, 1)
    count = model.config.num_blocks
    same = model(**given, positions=torch.stack([near] * count))
    assert torch.equal(same, model(**given, positions=near))
    first, last = torch.stack([far] + [near] * (count - 1)), torch.stack([near] * (count - 1) + [far])
    results = [model(**given, positions=positions) for positions in (near, first, last)]
    for one, other in itertools.combinations(results, 2):  # mutants: the first block's for all, or the last one's
        assert (one - other).abs().max() > 1e-4


def test_positions_of_too_few_blocks_are_refused(build, inputs):
    model, given = build(), inputs()
    near = grid_positions((3, 4, 2))
    with pytest.raises(ValueError, match=f"`positions` has size 1 on axis 0, need {model.config.num_blocks}"):
        model(**given, positions=near[None])
    with pytest.raises(ValueError, match=r"`positions` has 3 axes .* need 4"):
        model(**given, positions=near[0])


@pytest.mark.parametrize("memory_norm", ["post", "pre"])
def test_identity_routers_equal_the_plain_stack(build, inputs, tiny, memory_norm):
    config = replace(tiny, memory_norm=memory_norm, num_blocks=6)
    model, plain = build(config), FSVideoDiT(replace(config, layer_memory=False))
    for block in model.blocks[1:]:
        init_router_as_identity(block.memory_router)
    state = {name: value for name, value in model.state_dict().items() if "memory_router" not in name}
    plain.load_state_dict(state)
    model, plain, given = model.double(), plain.double(), inputs(config)
    given = {name: value.double() for name, value in given.items()}
    expected = plain(**given)
    assert (model(**given) - expected).norm() / expected.norm() < 1e-6
    with torch.no_grad():
        model.blocks[3].memory_router.bias[-1] = 5  # mutant: a bias that leaks
    assert (model(**given) - expected).norm() / expected.norm() > 1e-5


@pytest.mark.parametrize("memory_norm", ["post", "pre"])
def test_inference_buffer_equals_separate_states(build, inputs, tiny, memory_norm):
    model, given = build(replace(tiny, memory_norm=memory_norm)), inputs()
    trained = model(**given)
    with torch.no_grad():
        torch.testing.assert_close(model(**given), trained, atol=1e-5, rtol=1e-5)


def test_memory_norms_differ(build, inputs, tiny):
    post, pre = build(tiny), build(replace(tiny, memory_norm="pre"))
    assert (post(**inputs()) - pre(**inputs())).abs().max() > 1e-3


def test_memory_weights_on_request(build, inputs, tiny):
    model, given, weights = build(), inputs(), []
    assert torch.equal(model(**given, memory_weights=weights), model(**given))
    assert [tuple(w.shape) for w in weights] == [(2, 24, sources) for sources in (2, 3, 4)]
    for w in weights:
        assert w.dtype == torch.float32
        torch.testing.assert_close(w.sum(-1), torch.ones(2, 24))
    plain = []
    build(replace(tiny, layer_memory=False))(**given, memory_weights=plain)
    assert plain == []


def test_memory_reaches_every_earlier_state(build, inputs):
    """A gradient flows from the last block's mix to every router source: nothing is cut off by a stale state."""
    model, given, weights = build(), inputs(), []
    model(**given, memory_weights=weights)
    for w in weights:
        assert (w > 1e-6).all()
    state = model.blocks[-1].memory_router
    with torch.no_grad():
        state.weight.zero_()
        state.bias.copy_(torch.tensor([30.0, 0.0, 0.0, 0.0]))  # the last block reads only X_0
    only_first = model(**given)
    with torch.no_grad():
        state.bias.copy_(torch.tensor([0.0, 30.0, 0.0, 0.0]))
    assert (model(**given) - only_first).abs().max() > 1e-4


@pytest.mark.parametrize("layer_memory", [True, False])
def test_checkpointed_gradients_are_equal_to_the_bit(build, inputs, tiny, layer_memory):
    model, given = build(replace(tiny, layer_memory=layer_memory)), inputs()
    calls = []

    def counting(q, k, v, site, /):
        calls.append(site.block)
        return sdpa(q, k, v, site)

    gradients = []
    for checkpointing in (False, True):
        model.gradient_checkpointing = checkpointing
        model.zero_grad()
        calls.clear()
        model(**given, attention=counting).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        assert len(calls) == (8 if checkpointing else 4)  # recomputed, or the test shows nothing
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(g.isfinite().all() for g in gradients[0])


def test_every_parameter_gets_a_gradient(build, inputs):
    model = build()
    model(**inputs()).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_bfloat16_weights_keep_the_timestep_in_float32(build, inputs):
    model, given = build(), inputs()
    exact = model(**given)
    model.lower_precision(torch.bfloat16)
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert kept == {
        name for name, _ in model.named_parameters() if name.startswith("time_embedding") or "modulation" in name
    }
    streams = []
    model.blocks[2].register_forward_pre_hook(lambda module, args: streams.append(args[0].dtype))
    low = model(**given)
    assert low.dtype == torch.float32
    assert streams == [torch.bfloat16]
    assert 1e-5 < (low - exact).norm() / exact.norm() < 0.1


def test_first_frame_condition(build, tiny):
    model = build()
    image = torch.randn(2, 4, 1, 3, 5)
    condition = model.first_frame_condition(image, 4)
    assert condition.shape == (2, 8, 4, 3, 5)
    assert torch.equal(condition[:, :4, 0], torch.ones(2, 4, 3, 5))
    assert torch.equal(condition[:, 4:, :1], image)
    assert condition[:, :, 1:].abs().max() == 0
    assert model.first_frame_condition(image, 1).shape == (2, 8, 1, 3, 5)
    one = build(replace(tiny, mask_channels=1)).first_frame_condition(image, 2)
    assert one.shape == (2, 5, 2, 3, 5)
    for frames, message in ((0, "got 0"), (-1, "got -1")):
        with pytest.raises(ValueError, match=f"`num_latent_frames`.*{message}"):
            model.first_frame_condition(image, frames)
    with pytest.raises(ValueError, match="`image_latents`"):
        model.first_frame_condition(torch.randn(2, 4, 2, 3, 5), 4)
    with pytest.raises(ValueError, match="`image_latents`"):
        model.first_frame_condition(torch.randn(2, 3, 1, 3, 5), 4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("latents", (2, 5, 3, 4, 2)),
        ("latents", (2, 4, 3, 4)),
        ("latents", (2, 4, 0, 4, 2)),
        ("timestep", (3,)),
        ("timestep", ()),
        ("text", (2, 5, 11)),
        ("text", (3, 5, 10)),
        ("text", (2, 10)),
        ("text_mask", (2, 4)),
        ("condition", (2, 8, 2, 4, 2)),
        ("condition", (2, 5, 3, 4, 2)),
        ("condition", (1, 8, 3, 4, 2)),
        ("image_tokens", (2, 3, 13)),
        ("image_tokens", (1, 3, 14)),
        ("positions", (3, 3, 4, 3)),
        ("positions", (2, 3, 4, 2)),
    ],
)
def test_wrong_shapes_are_named(build, inputs, name, shape):
    given = inputs() | {name: torch.ones(shape, dtype=torch.bool if name == "text_mask" else torch.float32)}
    with pytest.raises(ValueError, match=f"`{name}`"):
        build()(**given)


def test_image_tokens_must_fit_the_model(build, inputs, tiny):
    given = inputs()
    with pytest.raises(ValueError, match="`image_tokens` is required"):
        build()(**given | {"image_tokens": None})
    with pytest.raises(ValueError, match="`image_tokens` must be None"):
        build(replace(tiny, image_width=None))(**given)


def test_sizes_must_fit_the_patch(build, inputs, tiny):
    config = replace(tiny, patch_size=(1, 2, 2))
    with pytest.raises(ValueError, match="5 rows, need a multiple of 2; nearest: 4, 6"):
        build(config)(**inputs(config, size=(2, 5, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 50}, "`width` .*got 50; nearest legal values: 48, 56"),
        ({"width": 16}, "`width` .*got 16; nearest legal values: 24, 32"),
        ({"frequency_width": 15}, "`frequency_width`"),
        ({"mask_channels": 2}, "`mask_channels` must be 1 or 4, got 2"),
        ({"num_blocks": 0}, "`num_blocks` must be at least 1 and at most 1024, got 0"),
        ({"num_heads": 2.0}, "`num_heads` must be a whole number, got 2.0"),
        ({"num_blocks": True}, "`num_blocks` must be a whole number, got True"),
        ({"num_blocks": 10**9}, "`num_blocks` must be .* at most 1024, got 1000000000"),
        ({"width": 2**40}, "`width` must be .* at most 1048576"),
        ({"norm_eps": float("nan")}, "need finite `norm_eps`"),
        ({"rope_theta": float("inf")}, "need finite .*`rope_theta`"),
        ({"patch_size": (1, 0, 1)}, "`patch_size"),
        ({"patch_size": (1, 1)}, "`patch_size"),
        ({"image_width": 0}, "`image_width`"),
        ({"memory_norm": "mid"}, "`memory_norm`"),
        ({"norm_eps": 0.0}, "`norm_eps`"),
        ({"prediction": "noise"}, "`prediction` must be 'velocity' or 'correction', got 'noise'"),
        ({"prediction": "correction"}, "`refiner_mask` is None"),
    ],
)
def test_config_names_what_is_wrong(tiny, change, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny, **change)
