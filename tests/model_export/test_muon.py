"""The optimiser of the backbones: what its steps look like, and that it takes and keeps what AdamW does elsewhere."""

import copy

import pytest
import torch

from model_export.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (12, 12)])
def test_singular_values_come_out_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert float(found.min()) > 0.5
    assert float(found.max()) < 1.35


def test_direction_is_that_of_the_polar_factor() -> None:
    torch.manual_seed(1)
    matrix_OI = torch.randn(8, 20)
    u_OO, _, v_OI = torch.linalg.svd(matrix_OI, full_matrices=False)
    polar_OI = u_OO @ v_OI
    found_OI = orthogonalised(matrix_OI)
    cosine = float((found_OI * polar_OI).sum() / (found_OI.norm() * polar_OI.norm()))
    assert cosine > 0.97


def test_gradients_of_nearly_one_direction_bear_single_precision() -> None:
    torch.manual_seed(5)
    rows_OO, columns_IO = torch.linalg.qr(torch.randn(32, 32))[0], torch.linalg.qr(torch.randn(288, 32))[0]
    matrix_OI = 1e-3 * (rows_OO * torch.logspace(0, -9, 32)) @ columns_IO.T
    exact_OI = orthogonalised(matrix_OI.double())
    assert float((orthogonalised(matrix_OI) - exact_OI).norm() / exact_OI.norm()) < 2e-3


def test_groups_that_are_not_orthogonal_step_as_adamw_does() -> None:
    torch.manual_seed(2)
    ours, theirs = torch.nn.Parameter(torch.ones(5, 3)), torch.nn.Parameter(torch.ones(5, 3))
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01)
    adamw = torch.optim.AdamW([{"params": [theirs], "weight_decay": 0.1}], lr=0.01, betas=(0.9, 0.99))
    for _ in range(5):
        ours.grad = torch.randn(5, 3)
        theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    assert torch.equal(ours, theirs)


def test_kernels_step_with_the_size_of_an_adamw_step_whatever_the_gradient_is() -> None:
    for gain in (1e-3, 1e3):
        kernel = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
        muon = Muon([{"params": [kernel], "weight_decay": 0.0, "orthogonal": True}], lr=0.01)
        kernel.grad = gain * torch.randn(kernel.shape, generator=torch.Generator().manual_seed(3))
        muon.step()
        assert kernel.grad is not None
        rms = float(kernel.detach().square().mean().sqrt())
        assert 0.1 * 0.01 < rms < 0.3 * 0.01


def test_its_state_survives_being_stored() -> None:
    kernels = [torch.nn.Parameter(torch.ones(4, 6)) for _ in range(2)]
    muons = [Muon([{"params": [kernel], "weight_decay": 0.0, "orthogonal": True}], lr=0.01) for kernel in kernels]
    random = torch.Generator().manual_seed(4)
    kernels[0].grad = torch.randn(4, 6, generator=random)
    muons[0].step()
    kernels[1].data.copy_(kernels[0].data)
    muons[1].load_state_dict(copy.deepcopy(muons[0].state_dict()))
    later = torch.randn(4, 6, generator=random)
    for kernel, muon in zip(kernels, muons, strict=True):
        kernel.grad = later.clone()
        muon.step()
    assert torch.equal(kernels[0], kernels[1])


def test_a_closure_is_refused() -> None:
    muon = Muon([{"params": [torch.nn.Parameter(torch.ones(2, 2))], "weight_decay": 0.0}], lr=0.01)
    with pytest.raises(ValueError, match="closure"):
        muon.step(lambda: 0.0)
