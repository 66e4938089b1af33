"""One graph without breaks, no recompilation between steps, dynamic sizes in export; with and without the cache."""

from dataclasses import replace

import pytest
import torch
from fastvid_dit import grid_positions, sdpa
from torch.export import Dim


class Session:
    """An accelerator-like owner of a bound attention method."""

    def attention(self, q, k, v, site, /):
        return sdpa(q, k, v, site)


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.slow)])
@torch.no_grad()
def test_one_graph_and_no_recompilation(build_reducio, reducio_inputs, tiny_reducio, cached):
    torch.compiler.reset()
    model, given = build_reducio(replace(tiny_reducio, num_blocks=2)), reducio_inputs()
    if cached:
        condition = {name: given.pop(name) for name in ("text", "semantic", "content")}
        given["cache"] = model.condition_cache(**condition)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    session = Session()
    torch.testing.assert_close(compiled(**given, attention=session.attention), model(**given), atol=1e-4, rtol=1e-4)
    with torch.compiler.set_stance("fail_on_recompile"):
        for step in range(3):
            later = given | {"timestep": given["timestep"] / (step + 2), "latents": given["latents"] + step}
            noise = compiled(**later, attention=session.attention)
            torch.testing.assert_close(noise, model(**later), atol=1e-4, rtol=1e-4)


@pytest.mark.slow  # the contracts export the same model to ONNX
@pytest.mark.parametrize("temporal_blocks", [False, True])
def test_export_with_dynamic_sizes(build_reducio, reducio_inputs, tiny_reducio, temporal_blocks):
    model = build_reducio(replace(tiny_reducio, num_blocks=2, temporal_blocks=temporal_blocks))
    b, t, h, w, n = map(Dim, ("b", "t", "h", "w", "l"))
    given = reducio_inputs() | {"positions": grid_positions((3, 4, 2))}
    dynamic = {
        "latents": {0: b, 2: t, 3: h, 4: w},
        "timestep": {0: b},
        "text": {0: b, 1: n},
        "size": {0: b},
        "semantic": {0: b},
        "content": {0: b, 2: 4 * h, 3: 4 * w},
        "positions": {1: t, 2: h, 3: w},
    }
    with torch.no_grad():
        program = torch.export.export(model, (), given, dynamic_shapes=dynamic)
        for size, batch in (((3, 4, 2), 2), ((1, 2, 5), 3), ((4, 3, 3), 1)):
            other = reducio_inputs(size=size, batch=batch, seed=7) | {"positions": grid_positions(size) * 0.8}
            other["text"] = other["text"][:, : size[1]]
            torch.testing.assert_close(program.module()(**other), model(**other), atol=1e-5, rtol=1e-4)
