"""State dicts have exactly the tensors and shapes that are wanted, or are refused."""

from collections.abc import Iterable, Mapping

from torch import Tensor


def require_same_keys(given: Iterable[str], wanted: Iterable[str]) -> None:
    """Raise a `ValueError` that lists the names which are missing or too many."""
    missing, unexpected = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unexpected:
        raise ValueError(f"`state_dict`: missing tensors {missing[:10]}, unexpected tensors {unexpected[:10]}")


def require_same_shapes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise a `ValueError` that lists the tensors of another shape; both have the same names."""
    wrong = [
        f"{name} {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in given.items()
        if tensor.shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(f"`state_dict`: misshapen tensors {wrong[:10]}")
