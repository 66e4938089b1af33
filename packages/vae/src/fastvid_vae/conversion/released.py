"""State dicts as training runs leave them: their wrappings, and whether they fit a model of ours."""

from collections.abc import Mapping

from torch import Tensor

StateDict = dict[str, Tensor]

PARALLEL = "module."
LOSS = "loss."
NAMES_SHOWN = 10


def bare(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The tensors of the model alone: no leading `module.`, no discriminator and perceptual loss (`loss.`)."""
    named = {name.removeprefix(PARALLEL): tensor for name, tensor in state_dict.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(LOSS)}


def fitted(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> StateDict:
    """`tensors` in the order of `like`.

    Raises:
        ValueError: tensors are missing, left over or of another shape.
    """
    missing, left = sorted(like.keys() - tensors.keys()), sorted(tensors.keys() - like.keys())
    if missing or left:
        raise ValueError(
            f"`state_dict` does not fit `config`: missing {missing[:NAMES_SHOWN]}, left over {left[:NAMES_SHOWN]}"
        )
    wrong = [
        f"{name} {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in like.items()
        if tensors[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"`state_dict`: misshapen tensors {wrong[:NAMES_SHOWN]}")
    return {name: tensors[name] for name in like}
