"""Causal taps as centred ones: a still video keeps its frames, a moving one does not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import FSAE
from fastvid_vae.conversion.decoder_mode import causal_to_centred
from torch import Tensor


@pytest.mark.parametrize("mode", ["standard", "lite"])
def test_still_latents_decode_as_before(mode: str, build: Callable[..., FSAE], video: Callable[..., Tensor]) -> None:
    causal = build()
    centred = FSAE(replace(causal.config, decoder_mode=mode))  # type: ignore[arg-type]
    centred.load_state_dict(causal_to_centred(causal.state_dict()))
    still = video(1, 4, 1, 3, 2).expand(-1, -1, 4, -1, -1)
    with torch.no_grad():
        assert torch.allclose(centred.decode(still), causal.decode(still), atol=1e-5)
        moving = video(1, 4, 4, 3, 2)
        assert not torch.allclose(centred.decode(moving), causal.decode(moving), atol=1e-3)


def test_the_encoder_is_untouched(build: Callable[..., FSAE]) -> None:
    before = build().state_dict()
    after = causal_to_centred(before)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("encoder."))
