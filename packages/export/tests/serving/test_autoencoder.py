"""Decoding and upsampling by engines: what goes in and out, and what no engine takes."""

import logging

import pytest
import torch
from fastvid_export import (
    AxisRange,
    EngineAutoencoder,
    EngineError,
    EngineUpsampler,
    decoder_exportable,
    upsampler_exportable,
)
from torch import Tensor, nn

from .served import Autoencoder, loaded

LATENTS = torch.randn(1, 4, 3, 2, 3, generator=torch.Generator().manual_seed(0))
REFERENCE = torch.rand(1, 3, 7, 10, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Upsampler(nn.Module):
    latent_channels = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(4, 4, 1)

    def forward(self, latents: Tensor) -> Tensor:
        return self.conv(latents).repeat_interleave(2, -1).repeat_interleave(2, -2)


def served(eager: Autoencoder, *, reference: bool = True, fallback: str = "error") -> EngineAutoencoder:
    exportable = decoder_exportable(eager, reference=reference)
    engine = loaded(exportable, t=AxisRange(minimum=1, example=3, maximum=4))
    return EngineAutoencoder(eager, engine, fallback=fallback)  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_frames", "size"), [(None, None), (4, (7, 10)), (1, (1, 12)), (5, (8, 12))])
def test_the_same_as_eager_and_without_it(num_frames: int | None, size: tuple[int, int] | None) -> None:
    eager = Autoencoder()
    with torch.no_grad():
        expected = eager.decode(LATENTS, reference=REFERENCE, num_frames=num_frames, size=size)
    eager.eager_calls = 0
    frames = served(eager).decode(LATENTS, reference=REFERENCE, num_frames=num_frames, size=size)
    torch.testing.assert_close(frames, expected)
    assert eager.eager_calls == 0


def test_types_are_those_of_the_engine_and_of_the_latents() -> None:
    frames = served(Autoencoder()).decode(LATENTS.half(), reference=REFERENCE.half())
    assert frames.dtype == torch.float16


def test_a_reference_more_or_less_is_refused() -> None:
    with pytest.raises(EngineError, match=r"missing: \['reference'\]"):
        served(Autoencoder()).decode(LATENTS)
    with pytest.raises(EngineError, match=r"unknown: \['reference'\]"):
        served(Autoencoder(), reference=False).decode(LATENTS, reference=REFERENCE)
    with pytest.raises(EngineError, match=r"`reference` is \(9, 10\), larger than the video of \(8, 12\)"):
        served(Autoencoder()).decode(LATENTS, reference=torch.zeros(1, 3, 9, 10))


@pytest.mark.parametrize(("num_frames", "size"), [(6, None), (5, (9, 12)), (5, (8, 13))])
def test_more_than_the_latents_hold_is_refused(num_frames: int, size: tuple[int, int] | None) -> None:
    with pytest.raises(EngineError, match=r"more than the latents hold: 5 frames of \(8, 12\)"):
        served(Autoencoder()).decode(LATENTS, reference=REFERENCE, num_frames=num_frames, size=size)


def test_too_long_a_video_is_refused_or_decoded_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    eager, long = Autoencoder(), LATENTS.repeat(1, 1, 2, 1, 1)
    with pytest.raises(EngineError, match=r"not built for t = 6 \(1 to 4\)"):
        served(eager).decode(long, reference=REFERENCE)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        frames = served(eager, fallback="eager").decode(long, reference=REFERENCE, num_frames=9)
        assert torch.equal(frames, eager.decode(long, reference=REFERENCE, num_frames=9))
    assert "the decoder runs eagerly, without its engine" in caplog.text


def test_the_rest_is_the_autoencoders_own() -> None:
    eager = Autoencoder()
    engine = served(eager)
    assert (engine.stride, engine.latent_channels, engine.takes_reference) == ((2, 4, 4), 4, True)
    assert engine.num_latent_frames(5) == 3
    frames = torch.zeros(1, 3, 5, 8, 12)
    assert torch.equal(engine.encode(frames), eager.encode(frames))
    assert set(engine.records) == {"decoder"}
    with pytest.raises(ValueError, match="an engine cannot be saved as a checkpoint"):
        engine.save_pretrained("anywhere")


def test_upsampling() -> None:
    eager = Upsampler().eval()
    engine = EngineUpsampler(eager, loaded(upsampler_exportable(eager), h=AxisRange(minimum=2, example=4, maximum=9)))
    with torch.no_grad():
        assert torch.equal(engine(LATENTS), eager(LATENTS))
        lenient = EngineUpsampler(eager, loaded(upsampler_exportable(eager)), fallback="eager")
        assert torch.equal(lenient(LATENTS), eager(LATENTS))
    assert engine.latent_channels == 4
    assert set(engine.records) == {"upsampler"}
    with pytest.raises(EngineError, match="not built for h = 1"):
        engine(LATENTS[..., :1, :])
    with pytest.raises(ValueError, match="an engine cannot be saved as a checkpoint"):
        engine.save_pretrained("anywhere")
