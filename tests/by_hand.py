"""Networks one multiplication at a time, and joint steps to try them on."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from comarl.envs.base import make_timestep
from comarl.mixers.base import Joint, mask_unavailable
from comarl.nets.critics import JointValue

KEY = jax.random.key(0)


def relu(x: float) -> float:
    return max(x, 0.0)


def elu(x: float) -> float:
    return x if x > 0 else math.exp(x) - 1


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(x: Sequence[float]) -> list[float]:
    total = sum(math.exp(v) for v in x)
    return [math.exp(v) / total for v in x]


def dot(x: Sequence[float], y: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def network(net: Any, x: np.ndarray) -> np.ndarray:
    """One linear layer, or several with ReLU between them."""
    layers = getattr(net, "layers", (net,))
    for number, layer in enumerate(layers):
        w = np.asarray(layer.weight, float)
        b = np.zeros(w.shape[1]) if layer.bias is None else np.asarray(layer.bias, float)
        x = np.array([sum(x[i] * w[i, j] for i in range(len(x))) + b[j] for j in range(len(b))])
        if number < len(layers) - 1:
            x = np.array([relu(v) for v in x])
    return x


def layer_norm(norm: Any, x: np.ndarray) -> np.ndarray:
    """(x - mean) / √(variance + 1e-5) · scale + shift over the features, the variance being the mean of the squares."""
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    scale, shift = np.asarray(norm.scale, float), np.asarray(norm.shift, float)
    return np.array([(v - mean) / math.sqrt(variance + 1e-5) * a + b for v, a, b in zip(x, scale, shift, strict=True)])


def part(mapped: Any, k: int) -> Any:
    """One of several modules that are kept as one, with a leading axis."""
    return jax.tree.map(lambda x: x[k], mapped)


def joint_value(net: JointValue, state: np.ndarray, hidden: np.ndarray, action: Sequence[int]) -> float:
    """head(relu(state(s) + Σ_i pool(relu(memory(h_i) + e_{i,u_i}))))."""
    seen = network(net.state, state)
    for i, u in enumerate(action):
        memory, embedded = network(net.memory, hidden[i]), np.asarray(net.action[i, u], float)
        seen = seen + network(net.pool, np.array([relu(m + e) for m, e in zip(memory, embedded, strict=True)]))
    return network(net.head, np.array([relu(v) for v in seen]))[0]


def tabled(table: np.ndarray, state_dim: int = 1, memory_dim: int = 1) -> JointValue:
    """A joint value whose values of all joint actions ``[A] * N`` are these, wherever it is asked.

    It has a hidden unit for each joint action: ReLU of the number of agents that do their part, less N - 1.
    """
    n, a = table.ndim, table.shape[0]
    joint_actions = list(itertools.product(range(a), repeat=n))
    net = jax.eval_shape(lambda: JointValue(n, a, state_dim, memory_dim, hidden=len(joint_actions), key=KEY))
    net = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), net)
    part_of = [[[float(u[i] == b) for u in joint_actions] for b in range(a)] for i in range(n)]
    each = jnp.eye(len(joint_actions))
    return eqx.tree_at(
        lambda m: (m.action, m.pool.weight, m.state.bias, m.head.layers[0].weight, m.head.layers[1].weight),
        net,
        (jnp.array(part_of), each, jnp.full(len(joint_actions), 1.0 - n), each, jnp.asarray(table).reshape(-1, 1)),
    )


def random_joint(
    seed: int, *, agents: int, actions: int, state: int, obs: int = 1, hidden: int = 1, all_available: bool = False
) -> Joint:
    """A joint step with some actions not available, none of which is chosen."""
    draw = np.random.default_rng(seed)
    avail = (draw.random((agents, actions)) < 0.6) | all_available
    action = draw.integers(actions, size=agents)
    avail[np.arange(agents), action] = True
    numbers = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)  # noqa: E731
    ts = make_timestep(numbers(agents, obs), numbers(state), avail=jnp.asarray(avail))
    q = mask_unavailable(numbers(agents, actions), ts)
    return Joint(q, jnp.asarray(action, jnp.int32), numbers(agents, hidden), ts)
