"""Layer memory: keys and values of a block read a learned mix of all earlier states of the residual stream.

Block i (0-based, i >= 1) sees X_0 (the embedded tokens) to X_i (the output of block i - 1). A linear router on the
query's own input gives each token one weight per state; the weights sum to 1. Source: FSVideo, section 2.3, equations
6 to 8 (the router there is called R_l; it maps d channels to l states per token). Block 0 has one state and no router.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

States = tuple[Float[Tensor, "b n d"], ...] | Float[Tensor, "states b n d"]
"""The states a block reads: separate tensors (autograd, compile, export) or the filled part of one buffer."""


class LayerMemory:
    """The states of one forward pass, oldest first.

    Separate tensors where gradients or a traced graph are wanted: what autograd saves anyway, so they cost nothing.
    One preallocated buffer in eager inference, so that a block reads all of it in one pass and memory does not creep.
    """

    def __init__(self, buffer: Float[Tensor, "states b n d"] | None) -> None:
        self._buffer = buffer
        self._separate: tuple[Tensor, ...] = ()
        self._count = 0

    def append(self, state: Float[Tensor, "b n d"]) -> None:
        """Remember one more state; with a buffer it is copied into the next slot."""
        if self._buffer is None:
            self._separate = (*self._separate, state)
        else:
            self._buffer[self._count].copy_(state)
        self._count += 1

    @property
    def states(self) -> States:
        """All states so far."""
        return self._separate if self._buffer is None else self._buffer[: self._count]


def allocate_memory(num_states: int, tokens: Float[Tensor, "b n d"]) -> LayerMemory:
    """An empty memory fit for the mode we run in; `num_states` is the most it will hold."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return LayerMemory(None)
    return LayerMemory(tokens.new_empty(num_states, *tokens.shape))


def route(router: nn.Linear, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, "b n states"]:
    """Weights of the states for every token: softmax in float32, rows sum to 1."""
    logits: Tensor = router(hidden)
    return logits.float().softmax(dim=-1)


def mix(states: States, weights: Float[Tensor, "b n states"]) -> Float[Tensor, "b n d"]:
    """Sum of the states, weighted per token, in float32.

    Separate states accumulate in float32; a buffer is read in one matrix product, with weights rounded to its dtype.
    """
    if isinstance(states, Tensor):
        rows = weights.unsqueeze(-2).to(states.dtype)  # b n 1 states
        return torch.matmul(rows, rearrange(states, "states b n d -> b n states d")).squeeze(-2).float()
    mixed = states[0] * weights[..., 0:1]
    for index in range(1, len(states)):
        mixed = torch.addcmul(mixed, states[index], weights[..., index : index + 1])
    return mixed


def init_router_from_scratch(router: nn.Linear) -> None:
    """W ~ N(0, 0.02), b = 0: a nearly uniform mix, for a model that is trained from its first step."""
    nn.init.normal_(router.weight, std=0.02)
    nn.init.zeros_(router.bias)


def init_router_for_pretrained(router: nn.Linear, *, leak: float) -> None:
    """W = 0, b = (0, ..., 0, beta): the predecessor keeps weight 1 - leak, the rest share `leak` evenly.

    beta = ln((states - 1) (1 - leak) / leak). A leak of 0.01 barely changes a pretrained model and leaves the router a
    gradient; much smaller ones kill it. For an exact identity use `init_router_as_identity`.

    Raises:
        ValueError: `leak` outside (0, 1).
    """
    if not 0 < leak < 1:
        raise ValueError(f"`leak` must lie strictly between 0 and 1, got {leak}; 0.01 is the usual value")
    _set_predecessor_bias(router, math.log((router.out_features - 1) * (1 - leak) / leak))


def init_router_as_identity(router: nn.Linear) -> None:
    """W = 0 and a predecessor bias of 30: the plain stack to the last bit of float32, but without gradient."""
    _set_predecessor_bias(router, 30.0)


def _set_predecessor_bias(router: nn.Linear, beta: float) -> None:
    nn.init.zeros_(router.weight)
    nn.init.zeros_(router.bias)
    with torch.no_grad():
        router.bias[-1] = beta
