import pytest
import torch
from fastvid_vae.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonal_pushes_singular_values_towards_one(shape: tuple[int, int]) -> None:
    # Known singular values: Newton-Schulz lifts none from zero, so the smallest is a tenth of the largest.
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    result = orthogonal(left * torch.linspace(10.0, 1.0, min(shape)) @ right)
    values = torch.linalg.svdvals(result)
    assert result.shape == shape
    assert values.min() > 0.6
    assert values.max() < 1.3
    core = left.T @ result @ right.T
    torch.testing.assert_close(core, core.diagonal().diag(), atol=1e-4, rtol=0)  # the singular vectors stay


@pytest.mark.parametrize("shape", [(8, 4, 1, 3, 3), (64, 4, 1, 1, 1)])
@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_a_step_is_as_large_whatever_the_gradient(shape: tuple[int, ...], size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.nn.Parameter(torch.zeros(shape))
    kernel.grad = size * torch.randn(shape, generator=generator)
    Muon([kernel], lr=0.1).step()
    rows, columns = kernel.flatten(1).shape
    values = torch.linalg.svdvals(kernel.detach().flatten(1)) / (0.1 * max(1.0, rows / columns) ** 0.5)
    assert kernel.shape == shape
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (kernel.detach() * kernel.grad).sum() < 0  # downhill


def test_parameters_without_a_gradient_stay() -> None:
    kernel = torch.nn.Parameter(torch.ones(4, 4, 1, 1, 1))
    optimizer = Muon([kernel], lr=0.1)
    optimizer.step()
    assert torch.equal(kernel, torch.ones_like(kernel))
    assert not optimizer.state


def test_kernels_keep_their_norm_and_zero_ones_may_grow() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.nn.Parameter(0.1 * torch.randn(8, 4, 1, 3, 3, generator=generator))
    zero = torch.nn.Parameter(torch.zeros(8, 4, 1, 1, 1))
    before, optimizer = kernel.detach().clone(), Muon([kernel, zero], lr=0.3)
    for _ in range(5):
        kernel.grad, zero.grad = torch.randn_like(kernel), torch.randn_like(zero)
        optimizer.step()
    assert kernel.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    assert (kernel - before).norm() > 0.5 * before.norm()
    assert zero.norm() > 0.3
