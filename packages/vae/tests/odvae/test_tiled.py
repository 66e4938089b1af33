"""Groups in time, tiles in space and chunks: what they cover, what they cost, and that they are taken by themselves."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from fastvid_vae import ODVAE, ODVAE_VARIANT_1, ODVAE_VARIANT_4, psnr
from fastvid_vae.odvae import memory, passes
from fastvid_vae.odvae.passes import plan_groups
from fastvid_vae.tiling import Tiling
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

Video = Callable[..., Tensor]


@given(length=st.integers(1, 300), size=st.integers(2, 40))
def test_groups_share_one_frame_and_cover_all(length: int, size: int) -> None:
    groups = plan_groups(length, size)
    assert groups[0][0] == 0
    assert groups[-1][1] == length - 1
    assert all(before[1] == after[0] for before, after in pairwise(groups))
    assert all(last - first == size - 1 for first, last in groups[:-1])
    assert all(1 <= last - first < size for first, last in groups) or length == 1


@pytest.mark.parametrize(
    ("length", "size", "starts"),
    [(25, 9, [0, 8, 16]), (24, 9, [0, 8, 16]), (9, 9, [0]), (25, 16, [0, 15]), (17, 9, [0, 8]), (1, 9, [0])],
)
def test_groups_of_the_released_code(length: int, size: int, starts: list[int]) -> None:
    assert [first for first, _ in plan_groups(length, size)] == starts


@torch.no_grad()
def test_a_group_is_a_video_of_its_own(build: Callable[..., ODVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 21, 16, 16)
    with model.tiled(spatial=None, temporal=9):
        latents = model.encode(frames)
        decoded = model.decode(latents)
    for i, first in enumerate((0, 8, 16)):
        alone = model.encode(frames[:, :, first : first + 9])
        own = latents[:, :, 2 * i + (i > 0) : 2 * i + 3]
        assert torch.equal(alone[:, :, 1 if i else 0 :], own)
        again = model.decode(latents[:, :, 2 * i : 2 * i + 3])
        assert torch.equal(again[:, :, 1 if i else 0 :], decoded[:, :, first + (i > 0) : first + 9])


@torch.no_grad()
def test_groups_of_convolutions_alone_differ_only_by_their_past(build: Callable[..., ODVAE], video: Video) -> None:
    """Without norms, a group differs from the whole by what its first frame is taken for: a still past."""
    model = build()
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    still = video(1, 3, 1, 16, 16).expand(-1, -1, 21, -1, -1)
    with model.tiled(spatial=None, temporal=9):
        assert torch.allclose(model.encode(still), ODVAE.encode(model, still), atol=1e-6)
        tiled = model.encode(still)
    assert torch.allclose(tiled, model.encode(still), atol=1e-5)


CHUNKS = [[21], [1] * 21, [9, 8, 4], [10, 3, 8], [2, 19]]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("layout", ["even", "overhang"])
@torch.no_grad()
def test_chunks_joined_are_the_groups(
    chunks: list[int], layout: str, build: Callable[..., ODVAE], video: Video
) -> None:
    model, frames = build(), video(1, 3, 21, 20, 36)
    with model.tiled(spatial=16, temporal=9, overlap=0.5, layout=layout):  # type: ignore[arg-type]
        expected = model.encode(frames)
        pieces = [*model.encode_chunks(iter(frames.split(chunks, dim=2)))]
        assert torch.equal(torch.cat(pieces, dim=2), expected)
        assert [piece.shape[2] for piece in pieces] == [3, 2, 1]
        for sizes in ([6], [1] * 6, [2, 4]):
            found = [*model.decode_chunks(iter(expected.split(sizes, dim=2)))]
            assert torch.equal(torch.cat(found, dim=2), model.decode(expected))
            assert [piece.shape[2] for piece in found] == [9, 8, 4]


def test_between_groups_no_more_than_the_shared_frame_is_held() -> None:
    """A chunk is let go once its groups are made; mutant: a view, which keeps all of it."""
    direction = passes.encoding(lambda frames: frames[:, :, ::4, ::8, ::8], (4, 8, 8))
    pieces = passes.Pieces(tiling=Tiling(time=3, height=None, width=None, overlap=0.0), layout="even")
    stream = passes.in_stream([torch.zeros(1, 3, 401, 8, 8)], direction, lambda _: pieces, lambda frames: frames)
    for _ in range(20):
        next(stream)
    held = stream.gi_frame.f_locals["held"]  # type: ignore[attr-defined]
    assert held.untyped_storage().nbytes() == held.nbytes


@pytest.mark.parametrize("num_frames", [1, 2, 8, 9, 10])
@torch.no_grad()
def test_short_videos_in_chunks(num_frames: int, build: Callable[..., ODVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, num_frames, 13, 16)
    for layout in ("even", "overhang"):
        with model.tiled(spatial=16, temporal=9, layout=layout):  # type: ignore[arg-type]
            found = torch.cat([*model.encode_chunks(frames.split(1, dim=2))], dim=2)
            assert torch.equal(found, model.encode(frames))


@torch.no_grad()
def test_a_lost_frame_between_groups_is_seen(
    build: Callable[..., ODVAE], video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: groups that follow one another instead of sharing a frame."""
    model, frames = build(), video(1, 3, 21, 16, 16)
    with model.tiled(spatial=None, temporal=9):
        expected = model.encode(frames)
        monkeypatch.setattr(passes, "plan_groups", lambda length, size: [(0, 2), (3, 5)])
        assert model.encode(frames).shape != expected.shape


def test_chunks_hold_one_group_at_a_time(
    build: Callable[..., ODVAE], live_bytes: Callable[[Callable[[], object]], int]
) -> None:
    """Memory does not grow with the number of frames; whole, it does. On the meta device, at full width."""
    with torch.device("meta"):
        model = ODVAE(replace(ODVAE_VARIANT_4, num_blocks=1))

    def encode(num_frames: int) -> Callable[[], object]:
        def work() -> None:
            with model.tiled(spatial=None, temporal=9):
                for _ in model.encode_chunks(
                    torch.empty(1, 3, 4, 32, 32, device="meta") for _ in range(num_frames // 4)
                ):
                    pass

        return work

    def decode(num_frames: int) -> Callable[[], object]:
        def work() -> None:
            with model.tiled(spatial=None, temporal=9):
                chunks = (torch.empty(1, 4, 1, 4, 4, device="meta") for _ in range(num_frames // 4))
                for _ in model.decode_chunks(chunks):
                    pass

        return work

    for way in (encode, decode):
        short, long = (live_bytes(way(num_frames)) for num_frames in (32, 128))
        assert long == short
    whole = [live_bytes(lambda n=n: model.encode(torch.empty(1, 3, n, 32, 32, device="meta"))) for n in (33, 129)]  # type: ignore[misc]
    assert whole[1] > 3.5 * whole[0]


@torch.no_grad()
def test_no_slivers(build: Callable[..., ODVAE], video: Video) -> None:
    """Ten cells in tiles of four are three; a picture as large as a tile is one. The released code adds slivers."""
    model, seen = build(), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[4]))
    for cells, layout, sizes in (
        (10, "even", [4, 4, 4]),
        (10, "overhang", [4, 4, 4, 1]),
        (4, "even", [4]),
        (4, "overhang", [4, 1]),
    ):
        seen.clear()
        with model.tiled(spatial=(None, 32), temporal=5, overlap=0.25, layout=layout):  # type: ignore[arg-type]
            model.decode(video(1, 4, 3, 2, cells))
        assert seen == sizes * 2
    seen.clear()
    with model.tiled(spatial=(None, 32), temporal=5, overlap=0.25, layout="overhang"):
        model.decode(video(1, 4, 2, 2, 4))
    assert seen == [4]  # but not where the frames are one group as well: then the released code does not tile


@torch.no_grad()
def test_tiling_is_lossy_in_time_and_in_space(build: Callable[..., ODVAE], video: Video) -> None:
    """What the docstring calls lossy, measured: norms see pieces, so that no overlap makes tiled equal to whole."""
    model = build()
    frames = nn.functional.interpolate(video(1, 3, 5, 6, 6), (33, 48, 48), mode="trilinear")
    latents = model.encode(frames)
    whole = model.decode(latents)
    for settings in ({"spatial": None, "temporal": 17}, {"spatial": 32, "temporal": None, "overlap": 0.5}):
        with model.tiled(**settings):  # type: ignore[arg-type]
            lost = float((model.encode(frames) - latents).abs().max() / latents.abs().max())
            distance = float(psnr(model.decode(latents), whole))
        assert 1e-4 < lost < 1
        assert 10 < distance < 60


@torch.no_grad()
def test_nothing_stays_on_the_model(build: Callable[..., ODVAE], video: Video) -> None:
    model, frames = build(), video(1, 3, 9, 24, 24)
    whole, before = model.encode(frames), {**vars(model)}
    with model.tiled(spatial=16, temporal=5, overlap=0.25):
        tiled = model.encode(frames)
        with model.tiled(spatial=None, temporal=None):
            assert torch.equal(model.encode(frames), whole)
        assert torch.equal(model.encode(frames), tiled)
    assert not torch.equal(tiled, whole)
    with pytest.raises(KeyError), model.tiled(spatial=16):
        raise KeyError
    assert vars(model) == before
    assert torch.equal(model.encode(frames), whole)


@torch.no_grad()
def test_large_videos_are_taken_apart_by_themselves(
    build: Callable[..., ODVAE], video: Video, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In time, then in space, then into the shortest groups; nothing fits a budget of one byte, and that is said."""
    model, frames, seen = build(), video(1, 3, 41, 24, 24), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    cost = memory.encoder_bytes(model.config, itemsize=4)
    monkeypatch.setattr(memory, "TILE_PIXELS", (16,))
    for budget, pieces in (
        (41 * 24 * 24 * cost, [(41, 24, 24)]),
        (33 * 24 * 24 * cost, [(33, 24, 24), (9, 24, 24)]),
        (17 * 24 * 24 * cost, [(17, 24, 24), (17, 24, 24), (9, 24, 24)]),
        (9 * 24 * 24 * cost, [*[(17, 16, 16)] * 8, *[(9, 16, 16)] * 4]),  # mutant: groups of 9 frames, whole
        (9 * 16 * 16 * cost, [(9, 16, 16)] * 20),
    ):
        seen.clear()
        caplog.clear()
        monkeypatch.setattr(memory, "BUDGET", budget)
        latents = model.encode(frames)
        assert seen == pieces
        assert latents.shape == (1, 4, 11, 3, 3)
        assert ("exceed the memory budget" in caplog.text) is (len(pieces) > 1)
    seen.clear()
    model.encode(frames.repeat(2, 1, 1, 1, 1))  # mutant: the budget is that of one video of the batch
    assert seen == [(5, 16, 16)] * 40
    monkeypatch.setattr(memory, "BUDGET", 1)
    model.decode(latents)
    assert "even in pieces this needs" in caplog.text


@pytest.mark.parametrize("variant", [ODVAE_VARIANT_1, ODVAE_VARIANT_4])
def test_a_pass_needs_no_more_than_the_formula(
    variant: object, live_bytes: Callable[[Callable[[], object]], int]
) -> None:
    """Counted tensor by tensor on the meta device, and no more than two fifths below."""
    with torch.device("meta"):
        model = ODVAE(variant)  # type: ignore[arg-type]
    frames, latents = torch.empty(1, 3, 9, 64, 64, device="meta"), torch.empty(1, 4, 3, 8, 8, device="meta")
    for work, cost in (
        (lambda: model.encode(frames), memory.encoder_bytes),
        (lambda: model.decode(latents), memory.decoder_bytes),
    ):
        estimate = 9 * 64 * 64 * cost(model.config, itemsize=4)
        assert 0.6 * estimate < live_bytes(work) < estimate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial": 20}, r"`spatial` is 20; expected 0 \+ a multiple of 8 \(nearest legal values: 16 and 24\)"),
        ({"temporal": 32}, r"`temporal` is 32; expected 1 \+ a multiple of 4 \(nearest legal values: 29 and 33\)"),
        ({"temporal": 1}, r"`temporal` is 1; groups share a frame.*\(nearest legal values: 5 and 9\)"),
        ({"temporal": True}, r"`temporal` is True; expected a whole number"),
        ({"overlap": 0.75}, r"`overlap` is 0.75; expected 0 to 0.5"),
        ({"spatial": 8}, r"`spatial` is one latent cell"),
        ({"layout": "odd"}, r"`layout` is 'odd'; expected 'even', 'overhang'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str, build: Callable[..., ODVAE]) -> None:
    with pytest.raises(ValueError, match=message), build().tiled(**settings):  # type: ignore[arg-type]
        pass


@torch.no_grad()
def test_chunks_that_are_no_video_are_refused(build: Callable[..., ODVAE], video: Video) -> None:
    model = build()
    with pytest.raises(ValueError, match="`chunks` holds nothing"):
        [*model.encode_chunks([])]
    with pytest.raises(ValueError, match=r"`chunks` changes: `chunks` of shape \(1, 3, 1, 8, 8\), then of"):
        [*model.encode_chunks([video(1, 3, 1, 8, 8), video(1, 3, 1, 8, 7)])]
    with pytest.raises(ValueError, match="`latents` has shape"):
        [*model.decode_chunks([video(1, 3, 1, 8, 8)])]
    with (
        pytest.raises(ValueError, match="`temporal` is None; a video that arrives in chunks"),
        model.tiled(temporal=None),
    ):
        [*model.encode_chunks([video(1, 3, 1, 8, 8)])]
