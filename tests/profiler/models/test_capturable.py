"""What is repeated for every batch reads nothing from the card and brings nothing to it; what would is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from igniter_opt import InputError
from igniter_opt.profiler.models.capturable import capturable

torch = pytest.importorskip("torch")


def _module(forward: Callable[[Any, Any], Any]) -> Any:
    """Make a module with weights, sizes and places in buffers, as converted ONNX models have them."""

    class Made(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(4, 4))
            self.register_buffer("sizes", torch.tensor([-1, 4]))
            self.register_buffer("places", torch.tensor([2, 0]))

        def forward(self, given: Any) -> Any:
            return forward(self, given)

    return Made().eval()


def operations(module: Any, given: Any) -> list[Any]:
    """Run a module and return the operations that it is made of."""
    found: list[Any] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc, name-defined]
        def __torch_dispatch__(self, function: Any, kinds: Any, values: Any = (), options: Any = None) -> Any:
            found.append(function)
            return function(*values, **(options or {}))

    with torch.no_grad(), Watched():
        module(given)
    return found


def reads_or_brings(function: Any) -> bool:
    """Whether an operation reads values on the processor, or makes a tensor of the processor's data."""
    return torch.Tag.data_dependent_output in function.tags or "lift_fresh" in str(function)


def _reshaped(self: Any, given: Any) -> Any:
    batch = torch.tensor(given.shape)[:1]
    flat = torch.reshape(given, torch.Size(torch.cat([batch, self.sizes[:1]])))
    return torch.reshape(flat @ self.weight, self.sizes.tolist())[:, self.places]


@pytest.mark.parametrize("batch", [1, 4])
def test_sizes_in_tensors_are_read_once(batch: int) -> None:
    inner = _module(_reshaped)
    module = capturable(inner, "made")
    first, other = torch.rand(batch, 2, 2), torch.rand(batch, 2, 2)
    with torch.no_grad():
        module(first)
        assert torch.equal(module(other), inner(other))
        assert torch.equal(module(other.transpose(1, 2)), inner(other.transpose(1, 2)))
    assert any(map(reads_or_brings, operations(inner, other)))
    assert not any(map(reads_or_brings, operations(module, other)))


def test_batches_share_the_weights_and_follow_them() -> None:
    inner = _module(_reshaped)
    module = capturable(inner, "made")
    with torch.no_grad():
        for batch in (1, 4):
            module(torch.rand(batch, 2, 2))
    held = {tensor.data_ptr() for record in module.records.values() for tensor in record.state_dict().values()}
    assert inner.weight.data_ptr() in held
    assert held <= {tensor.data_ptr() for tensor in inner.state_dict().values()}
    given = torch.rand(4, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(module.double()(given), inner(given))


def test_operations_in_place_are_repeated_in_place() -> None:
    def forward(self: Any, given: Any) -> Any:
        total = given.clone()
        total[:, 0].add_(self.weight[0])
        total.relu_()
        return [total, total.sum(dim=1).split(2, dim=1)[1]]

    inner = _module(forward)
    module = capturable(inner, "made")
    with torch.no_grad():
        module(torch.rand(2, 3, 4) - 0.5)
        given = torch.rand(2, 3, 4) - 0.5
        for found, expected in zip(module(given), inner(given), strict=True):
            assert torch.equal(found, expected)


def test_half_precision_reaches_what_is_cast() -> None:
    module = capturable(_module(lambda self, given: given.to(torch.float32) @ self.weight), "made")
    given = torch.ones(2, 4, dtype=torch.uint8)
    with torch.no_grad():
        assert module(given).dtype == torch.float32
        assert module.half()(given).dtype == torch.float16


def _branches(self: Any, given: Any) -> Any:
    return given if given.sum() > 7 else given + 1


def _writes(self: Any, given: Any) -> Any:
    total = torch.zeros(4, 4)
    total[0] = given[0]
    return total + given


def _writes_at_places(self: Any, given: Any) -> Any:
    total = torch.zeros(4, 4)
    total[self.places] = given[:2]
    return total + given


@pytest.mark.parametrize(
    ("forward", "named"),
    [
        (_branches, r"aten\._local_scalar_dense\.default"),
        (lambda self, given: torch.nonzero(given), r"aten\.nonzero\.default"),
        (lambda self, given: given[given > 0.5], r"aten\.index\.Tensor"),
        (lambda self, given: given + len(given.tolist()), r"Tensor\.tolist"),
        (lambda self, given: torch.from_numpy(given.numpy() + 1), r"Tensor\.numpy"),
        (_writes, r"aten\.copy_\.default"),
        (_writes_at_places, r"aten\.index_put_\.default"),
    ],
    ids=["branch", "nonzero", "mask", "tolist", "numpy", "writes", "writes at places"],
)
def test_what_depends_on_values_is_refused(forward: Any, named: str) -> None:
    module = capturable(torch.nn.Sequential(_module(forward)), "net.onnx")
    with pytest.raises(InputError, match=rf"net\.onnx: cannot be captured in a CUDA graph, .* \(0: {named}\); export"):
        module(torch.rand(4, 4))


def test_other_errors_stay_as_they_are() -> None:
    module = capturable(_module(lambda self, given: given @ self.weight), "made")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        module(torch.rand(4, 3))
