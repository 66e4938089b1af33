"""The whole model traces as one graph: no breaks, no recompilation between steps, dynamic sizes in export."""

from dataclasses import replace

import pytest
import torch
from fastvid_dit import grid_positions, sdpa
from torch.export import Dim


class Session:
    """An accelerator-like owner of a bound attention method."""

    def attention(self, q, k, v, site, /):
        return sdpa(q, k, v, site)


def compile_and_compare(model, given, backend, gradients=(True,)):
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=backend)
    session = Session()
    for gradient in gradients:
        with torch.set_grad_enabled(gradient):
            first = compiled(**given, attention=session.attention)
            torch.testing.assert_close(first, model(**given), atol=1e-4, rtol=1e-4)
            with torch.compiler.set_stance("fail_on_recompile"):
                for step in range(3):
                    changed = given | {"timestep": given["timestep"] / (step + 2), "latents": given["latents"] + step}
                    velocity = compiled(**changed, attention=session.attention)
                    torch.testing.assert_close(velocity, model(**changed), atol=1e-4, rtol=1e-4)
    loss = compiled(**given, attention=session.attention).square().mean()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(model.parameters())))


def test_one_graph_and_no_recompilation(build, inputs, tiny):
    compile_and_compare(build(replace(tiny, num_blocks=2)), inputs(), "eager")


@pytest.mark.slow
def test_one_graph_with_checkpointing(build, inputs, tiny):
    model = build(replace(tiny, num_blocks=2))
    model.gradient_checkpointing = True
    compile_and_compare(model, inputs(), "aot_eager")


def test_a_fresh_closure_per_step_does_recompile(build, inputs, tiny):
    """The reason for bound methods; if this no longer raises, the rule in `AttentionOp` can go."""
    torch.compiler.reset()
    compiled = torch.compile(build(replace(tiny, num_blocks=1)), backend="eager", dynamic=False)
    given = inputs()

    def closure(scale):
        return lambda q, k, v, site, /: sdpa(q * scale, k, v, site)

    compiled(**given, attention=closure(1.0))
    with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError, match="recompile"):
        compiled(**given, attention=closure(2.0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while the backend is imported
def test_inductor(build, inputs, tiny):
    compile_and_compare(build(replace(tiny, num_blocks=2)), inputs(), "inductor", gradients=(True, False))


def test_export_with_dynamic_sizes(build, inputs, tiny):
    model, b, t, h, w, n = build(replace(tiny, num_blocks=2)), *map(Dim, ("b", "t", "h", "w", "l"))
    given = inputs() | {"positions": grid_positions((3, 4, 2))}
    video = {0: b, 2: t, 3: h, 4: w}
    dynamic = {
        "latents": video,
        "timestep": {0: b},
        "text": {0: b, 1: n},
        "condition": video,
        "image_tokens": {0: b},
        "positions": {1: t, 2: h, 3: w},
    }
    with torch.no_grad():
        program = torch.export.export(model, (), given, dynamic_shapes=dynamic)
        for size, batch in (((3, 4, 2), 2), ((1, 2, 5), 3), ((4, 3, 3), 1)):
            other = inputs(size=size, batch=batch, seed=7) | {"positions": grid_positions(size) * 0.8}
            other["text"] = other["text"][:, : size[1]]
            torch.testing.assert_close(program.module()(**other), model(**other), atol=1e-5, rtol=1e-4)
