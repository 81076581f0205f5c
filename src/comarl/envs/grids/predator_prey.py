"""Punished predator-prey: hunting pays only together, and trying alone costs (Böhmer et al. 2020, §5.1).

The task of the comparisons of QTRAN, QPLEX and weighted QMIX, with the rules and settings that are public with deep
coordination graphs and weighted QMIX (``stag_hunt``, ``pred_prey_punish``).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep
from comarl.envs.grids.moves import walk
from comarl.envs.scene import Figure, Item, Scene, places
from comarl.types import EnvSpec, TimeStep

SIZE, PREDATORS, PREY, SIGHT = 10, 8, 8, 2
NEEDED, REWARD = 2, 10.0
STEPS = 200
MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [0, 0], [0, 0]])
"""Rows and columns of the actions."""

NAMES = ("right", "down", "left", "up", "stay", "catch")
STAY, CATCH = 4, 5
NOWHERE = 2 * SIZE
"""Row and column of those who are gone: far from every place of the grid."""


class HuntState(NamedTuple):
    """Places of predators and prey, the transitions so far, and the reward for the last one."""

    predators: Int[Array, "N 2"]
    prey: Int[Array, "M 2"]
    time: Int[Array, ""]
    reward: Float[Array, ""]


class PredatorPrey(ObservedEnv):
    """Eight predators hunt eight prey on a grid of 10 x 10 places with a rim.

    - All begin in different places, drawn uniformly. No two are ever in one place.
    - Actions: *right*, *down*, *left*, *up*, *stay*, *catch*. Walking over the rim is masked, and catching where no
      prey is beside the predator (above, below, left or right). Who would walk into another stays.
    - Predators move one after another in random order. Then each prey has its turn, in random order: if two or more
      predators beside it *catch*, it is gone and so are they, and the team gets 10; if one does, it stays and the team
      gets the punishment. A prey that is not caught moves to one of the free places beside it, drawn uniformly.
    - The episode terminates when all prey or all predators are gone, and is truncated after 200 steps.
    - A predator observes for each of the 5 x 5 places around it, row by row, whether a predator (also itself) and
      whether a prey is there; nothing if it is gone. It does not see the rim. The state is the same for the whole grid.
      (The public version has a third feature, for hares, of which there are none.)

    Every capture takes at least two predators: four captures, a return of 40, are the most there can be. The reward
    is shared by the team. The outcome ``caught`` is the number of prey that were caught.

    Args:
        name: the name in the registry.
        punishment: the reward for catching alone, not above 0.
    """

    def __init__(self, name: str, punishment: float):
        self.punishment = punishment
        self.spec = EnvSpec(
            name=name,
            num_agents=PREDATORS,
            obs_dim=(2 * SIGHT + 1) ** 2 * 2,
            state_dim=SIZE**2 * 2,
            num_actions=len(MOVES),
            max_episode_steps=STEPS,
            outcomes=("caught",),
        )

    def begin(self, key: PRNGKeyArray) -> HuntState:
        drawn = jax.random.permutation(key, SIZE**2)[: PREDATORS + PREY]
        places = jnp.stack([drawn // SIZE, drawn % SIZE], axis=-1).astype(jnp.int32)
        return HuntState(places[:PREDATORS], places[PREDATORS:], jnp.zeros((), jnp.int32), jnp.zeros(()))

    def advance(self, state: HuntState, action: Int[Array, " N"], key: PRNGKeyArray) -> HuntState:
        predators_key, prey_key = jax.random.split(key)
        order = jax.random.permutation(predators_key, PREDATORS)
        steps = jnp.asarray(MOVES, jnp.int32)[action]
        predators = walk(state.predators, steps, order, ~_map(state.prey))
        predators, prey, reward = self._hunt(predators, state.prey, action == CATCH, prey_key)
        return HuntState(predators, prey, state.time + 1, reward)

    def observe(self, state: HuntState) -> TimeStep:
        windows = jnp.stack([_around(state.predators, state.predators), _around(state.predators, state.prey)], axis=-1)
        hunting, hunted = _inside(state.predators), _inside(state.prey)
        return make_timestep(
            (windows & hunting[:, None, None, None]).reshape(PREDATORS, -1).astype(jnp.float32),
            jnp.stack([_map(state.predators), _map(state.prey)], axis=-1).reshape(-1).astype(jnp.float32),
            avail=_available(state),
            reward=state.reward,
            terminated=~hunting.any() | ~hunted.any(),
            truncated=state.time >= STEPS,
            first=state.time == 0,
        )

    def outcome(self, state: HuntState) -> dict[str, Float[Array, ""]]:
        return {"caught": (~_inside(state.prey)).sum(dtype=jnp.float32)}

    def heuristics(self) -> dict[str, Any]:
        return {"heuristic": Hunters()}

    def scene(self, state: HuntState) -> Scene:
        prey = [place for place in places(state.prey) if place[0] < SIZE]
        return Scene(
            size=(SIZE, SIZE),
            agents=tuple(Figure(place if place[0] < SIZE else None) for place in places(state.predators)),
            items=tuple(Item("prey", place) for place in prey),
            actions=NAMES,
            caption=f"{PREY - len(prey)} caught",
        )

    def _hunt(
        self, predators: Int[Array, "N 2"], prey: Int[Array, "M 2"], catching: Bool[Array, " N"], key: PRNGKeyArray
    ) -> tuple[Int[Array, "N 2"], Int[Array, "M 2"], Float[Array, ""]]:
        """The prey's turns: predators and prey after them, and the reward."""
        order_key, move_key = jax.random.split(key)
        preferences = jax.random.uniform(move_key, (PREY, 4))

        def turn(now: tuple[Array, Array, Array], one: Int[Array, ""]) -> tuple[tuple[Array, Array, Array], None]:
            predators, prey, reward = now
            place = prey[one]
            catchers = catching & _beside(predators, place[None])[:, 0]
            caught = catchers.sum() >= NEEDED
            predators = jnp.where((caught & catchers)[:, None], NOWHERE, predators)
            moved = _flee(place, jnp.concatenate([predators, prey]), preferences[one])
            prey = prey.at[one].set(jnp.where(caught, NOWHERE, moved))
            alone = catchers.any() & ~caught
            return (predators, prey, reward + REWARD * caught + self.punishment * alone), None

        order = jax.random.permutation(order_key, PREY)
        return jax.lax.scan(turn, (predators, prey, jnp.zeros(())), order)[0]


class Hunters:
    """A script for :class:`PredatorPrey`: wait beside prey, and catch it when another predator is beside it, too.

    Each predator acts on its own observation. Both see each other then, and both catch. Who sees prey walks to the
    nearest one; who sees none walks at random.
    """

    def initial_carry(self) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(
        self, carry: tuple[()], ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[tuple[()], Int[Array, " N"]]:
        """The team's actions ``[N]``; ties are drawn with ``key``, exploring or not."""
        del explore
        ties = jax.random.uniform(key, ts.avail.shape, maxval=0.01)
        liked = jax.vmap(_liking)(ts.obs) + ties
        return carry, jnp.argmax(jnp.where(ts.avail, liked, -jnp.inf), axis=-1).astype(jnp.int32)


def _liking(obs: Float[Array, " D"]) -> Float[Array, " A"]:
    """How much a scripted predator likes each action."""
    width = 2 * SIGHT + 1
    window = obs.reshape(width, width, 2) > 0
    others, prey = window[..., 0].at[SIGHT, SIGHT].set(False), window[..., 1]
    rows, columns = np.mgrid[-SIGHT : SIGHT + 1, -SIGHT : SIGHT + 1]
    near = prey & (np.abs(rows) + np.abs(columns) == 1)
    padded = jnp.pad(others, 1)
    company = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    # From the place of each move: how far the nearest prey is, in steps, and whether somebody is there.
    far = [np.abs(rows - row) + np.abs(columns - column) for row, column in MOVES[:STAY]]
    distance = jnp.stack([jnp.where(prey, d, 2 * width).min() for d in far])
    blocked = jnp.stack([(others | prey)[SIGHT + row, SIGHT + column] for row, column in MOVES[:STAY]])
    walking = -0.05 * distance - blocked
    staying = jnp.where(near.any(), 1.0, -1.0)
    catching = jnp.where((near & company).any(), 2.0, -9.0)
    return jnp.concatenate([walking, staying[None], catching[None]])


def _flee(place: Int[Array, " 2"], others: Int[Array, "K 2"], preferences: Float[Array, " 4"]) -> Int[Array, " 2"]:
    """The preferred one of the free places beside ``place``, or ``place`` if there is none."""
    targets = place[None] + jnp.asarray(MOVES[:STAY], jnp.int32)
    taken = (targets[:, None] == others[None]).all(-1).any(-1)
    free = _inside(targets) & ~taken
    return jnp.where(free.any(), targets[jnp.argmax(jnp.where(free, preferences, -1.0))], place)


def _available(state: HuntState) -> Bool[Array, "N A"]:
    """Moves within the grid, staying, and catching beside prey; only staying for those who are gone."""
    hunting = _inside(state.predators)
    targets = state.predators[:, None] + jnp.asarray(MOVES[:STAY], jnp.int32)[None]
    moves = _inside(targets)
    beside = _beside(state.predators, state.prey).any(-1)
    live = jnp.concatenate([moves, jnp.ones((PREDATORS, 1), bool), beside[:, None]], axis=-1)
    return jnp.where(hunting[:, None], live, jnp.asarray(np.arange(len(MOVES)) == STAY)[None])


def _inside(places: Int[Array, "*K 2"]) -> Bool[Array, "*K"]:
    """Whether a place is in the grid."""
    return ((places >= 0) & (places < SIZE)).all(-1)


def _beside(some: Int[Array, "N 2"], others: Int[Array, "M 2"]) -> Bool[Array, "N M"]:
    """Whether one is above, below, left or right of the other."""
    return jnp.abs(some[:, None] - others[None]).sum(-1) == 1


def _map(places: Int[Array, "K 2"]) -> Bool[Array, "R C"]:
    """Where on the grid somebody is."""
    # As a product of one-hot rows and columns, in which those outside the grid are all zeros.
    rows, columns = jax.nn.one_hot(places[:, 0], SIZE), jax.nn.one_hot(places[:, 1], SIZE)
    return jnp.einsum("kr,kc->rc", rows, columns) > 0


def _around(middles: Int[Array, "N 2"], places: Int[Array, "K 2"]) -> Bool[Array, "N R C"]:
    """Where in the window around each of ``middles`` somebody is."""
    offsets = places[None] - middles[:, None] + SIGHT
    rows, columns = (jax.nn.one_hot(offsets[..., axis], 2 * SIGHT + 1) for axis in (0, 1))
    return jnp.einsum("nkr,nkc->nrc", rows, columns) > 0


def make(variant: str) -> PredatorPrey:
    """The task ``predator-prey/p-<cost of catching alone>``."""
    return PredatorPrey(f"predator-prey/{variant}", 0.0 - float(variant.removeprefix("p-")))
