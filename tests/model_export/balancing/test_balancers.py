"""Balancers: hand-computed scalars and gradients, and what they may remember when."""

import doctest
import importlib

import pytest
import torch

from model_export.balancing import (
    BALANCER_NAMES,
    Balancer,
    EqualBalancer,
    FamoBalancer,
    LogBalancer,
    UncertaintyBalancer,
    balancer_by_name,
)


def gradient(balancer: Balancer, losses_E: torch.Tensor) -> torch.Tensor:
    (found_E,) = torch.autograd.grad(balancer(losses_E), losses_E)
    return found_E


@pytest.fixture(params=BALANCER_NAMES)
def balancer(request: pytest.FixtureRequest) -> Balancer:
    return balancer_by_name(request.param)


def test_equal_divides_by_the_mean_of_the_starting_losses() -> None:
    balancer = EqualBalancer()
    balancer.update(torch.tensor([1.0, 6.0]))
    balancer.update(torch.tensor([3.0, 10.0]))
    # starts are 2 and 8: (1 / 2 + 4 / 8) / 2
    assert balancer(torch.tensor([1.0, 4.0])).item() == pytest.approx(0.5)


def test_equal_is_the_mean_before_any_update() -> None:
    assert EqualBalancer()(torch.tensor([1.0, 4.0])).item() == pytest.approx(2.5)


def test_equal_gives_each_task_the_gradient_of_its_share() -> None:
    balancer, losses_E = EqualBalancer(), torch.tensor([1.0, 4.0], requires_grad=True)
    balancer.update(torch.tensor([2.0, 8.0]))
    torch.testing.assert_close(gradient(balancer, losses_E), torch.tensor([1 / 4, 1 / 16]))


def test_equal_keeps_its_start_after_twenty_updates() -> None:
    balancer = EqualBalancer()
    for _ in range(20):
        balancer.update(torch.tensor([2.0, 4.0]))
    balancer.update(torch.tensor([2000.0, 4000.0]))
    assert balancer(torch.tensor([2.0, 4.0])).item() == pytest.approx(1.0)


def test_equal_does_not_divide_by_a_task_that_starts_solved() -> None:
    balancer = EqualBalancer()
    balancer.update(torch.tensor([0.0, 1.0]))
    assert balancer(torch.tensor([1e-4, 1.0])).item() == pytest.approx(1.0)


def test_log_weighs_each_task_with_its_inverse_loss() -> None:
    losses_E = torch.tensor([0.5, 0.04], requires_grad=True)
    assert LogBalancer()(losses_E).item() == pytest.approx((-0.693147 - 3.218876) / 2, abs=2e-4)
    torch.testing.assert_close(
        gradient(LogBalancer(), losses_E), torch.tensor([1 / 0.5, 1 / 0.04]) / 2, rtol=1e-3, atol=0
    )


def test_log_stays_finite_when_a_task_is_solved() -> None:
    losses_E = torch.tensor([0.0, 1.0], requires_grad=True)
    assert gradient(LogBalancer(), losses_E).isfinite().all()


def test_uncertainty_weighs_with_half_the_inverse_variance() -> None:
    balancer, losses_E = UncertaintyBalancer(), torch.tensor([1.0, 4.0], requires_grad=True)
    torch.testing.assert_close(gradient(balancer, losses_E), torch.tensor([0.25, 0.25]))
    # Adam's first step is its rate, along -(1 - L) / 2: not at all for L = 1, up by 0.05 for L = 4
    balancer.update(losses_E)
    torch.testing.assert_close(gradient(balancer, losses_E), torch.tensor([0.25, 0.25 * 0.951229]))
    assert balancer(losses_E).item() == pytest.approx((0.5 * 1 + 0.5 * (0.951229 * 4 + 0.05)) / 2)


def test_uncertainty_learns_the_size_of_each_loss() -> None:
    balancer, losses_E = UncertaintyBalancer(), torch.tensor([0.05, 3.0])
    for _ in range(400):
        balancer.update(losses_E)
    torch.testing.assert_close(balancer.state()["value_E"].exp(), losses_E, rtol=0.05, atol=0)


def test_famo_begins_as_the_inverse_losses_in_shares() -> None:
    losses_E = torch.tensor([0.5, 0.1, 0.25], requires_grad=True)
    # 1 / L is 2, 10 and 4, of 16 in all
    torch.testing.assert_close(
        gradient(FamoBalancer(), losses_E), torch.tensor([2.0, 10.0, 4.0]) / 16, rtol=1e-3, atol=0
    )


def test_famo_gives_weight_to_the_task_that_improves_least() -> None:
    balancer, losses_E = FamoBalancer(), torch.tensor([1.0, 1.0], requires_grad=True)
    balancer.update(torch.tensor([1.0, 1.0]))
    balancer.update(torch.tensor([0.5, 0.9]))
    # delta = z (gain - mean gain), z = 1/2: opposite signs, so that Adam's first step moves w by -0.025 and +0.025
    torch.testing.assert_close(balancer.state()["value_E"], torch.tensor([-0.025, 0.025]))
    # softmax of these: 0.487503 and 0.512497
    torch.testing.assert_close(gradient(balancer, losses_E), torch.tensor([0.487503, 0.512497]))


def test_famo_keeps_its_weights_while_all_tasks_improve_alike() -> None:
    balancer = FamoBalancer()
    for step in range(5):
        balancer.update(torch.tensor([8.0, 8.0]) * 0.5**step)
    torch.testing.assert_close(balancer.state()["value_E"], torch.zeros(2))


def test_famo_stays_finite_when_a_task_is_solved() -> None:
    balancer, losses_E = FamoBalancer(), torch.tensor([0.0, 1.0], requires_grad=True)
    balancer.update(torch.tensor([1.0, 1.0]))
    balancer.update(losses_E)
    assert gradient(balancer, losses_E).isfinite().all()


def test_calling_changes_nothing(balancer: Balancer) -> None:
    losses_E = torch.rand(5) + 0.1
    balancer.update(losses_E)
    before, first = repr(balancer), balancer(2 * losses_E)
    balancer(9 * losses_E)
    assert repr(balancer) == before
    assert balancer(2 * losses_E) == first


def test_reset_forgets_everything(balancer: Balancer) -> None:
    losses_E = torch.tensor([1.0, 3.0])
    fresh = balancer(losses_E)
    balancer.update(torch.tensor([7.0, 5.0]))
    balancer.reset()
    assert balancer(losses_E) == fresh
    assert balancer.state() == {}


def test_state_carries_the_memory_over(balancer: Balancer) -> None:
    balancer.update(torch.tensor([7.0, 5.0]))
    balancer.update(torch.tensor([6.0, 5.5]))
    other = type(balancer)()
    other.restore(balancer.state())
    losses_E = torch.tensor([1.0, 3.0])
    assert other(losses_E) == balancer(losses_E)
    assert repr(other) == repr(balancer)
    for memory in (other, balancer):
        memory.update(torch.tensor([2.0, 4.0]))
    assert other(losses_E) == balancer(losses_E)


def test_log_refuses_the_memory_of_another() -> None:
    with pytest.raises(ValueError, match="start_E"):
        LogBalancer().restore({"start_E": torch.ones(2)})


def test_no_task_may_lose_by_a_smaller_loss(balancer: Balancer) -> None:
    balancer.update(torch.tensor([1.0, 2.0, 3.0]))
    losses_E = torch.tensor([0.9, 1.0, 0.2], requires_grad=True)
    assert (gradient(balancer, losses_E) > 0).all()


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)])
def test_losses_of_another_shape_are_refused(balancer: Balancer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="losses_E"):
        balancer(torch.ones(shape))


@pytest.mark.parametrize("name", ["equal", "uncertainty", "famo"])
def test_the_number_of_tasks_may_not_change(name: str) -> None:
    balancer = balancer_by_name(name)
    balancer.update(torch.ones(3))
    with pytest.raises(ValueError, match=r"Found \[2\]"):
        balancer(torch.ones(2))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="equal, log, uncertainty, famo. Found 'pcgrad'"):
        balancer_by_name("pcgrad")


@pytest.mark.parametrize("module", ["equal", "log", "uncertainty", "famo"])
def test_examples_in_docstrings_run(module: str) -> None:
    found = importlib.import_module(f"model_export.balancing.{module}")
    result = doctest.testmod(found, extraglobs={"torch": torch})
    assert (result.failed, result.attempted > 0) == (0, True)
