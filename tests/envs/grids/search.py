"""The best plan for a game in which agents move one after another: a search over single moves."""

import heapq
from collections.abc import Callable
from typing import NamedTuple, TypeVar

S = TypeVar("S")


class Best(NamedTuple):
    """What no play exceeds.

    Attributes:
        value: the highest return.
        steps: joint steps of the shortest plan that has it.
    """

    value: int
    steps: int


def search(
    start: S,
    agents: int,
    turn: Callable[[S, int, int], tuple[S, int]],
    bound: Callable[[S], int],
    over: Callable[[S], bool],
) -> Best:
    """A* over single moves; as each agent moves after the one before it, a joint step is a path of N of them.

    An episode that a time limit cuts returns no more than the value either: what is paid until then is at most what
    is paid and bounded, and that is never above it when the search ends.

    Args:
        start: where the game begins.
        agents: how many move in turn.
        turn: the state and the reward after an agent's action (0 to 4).
        bound: the most that can still be paid from a state on; it falls by at least the reward in every turn.
        over: whether the game has ended, asked after a whole joint step.
    """
    best = {(start, 0): (-bound(start), 0)}
    queue = [(*best[start, 0], 0, start, 0)]
    pushed = 0
    while True:
        cost, turns, _, state, agent = heapq.heappop(queue)
        if (cost, turns) > best[state, agent]:
            continue
        if agent == 0 and over(state):
            return Best(-cost, turns // agents)
        for action in range(5):
            after, reward = turn(state, agent, action)
            node = (after, (agent + 1) % agents)
            # Minus what has been paid, minus what can still be.
            reached = (cost + bound(state) - reward - bound(after), turns + 1)
            assert reached[0] >= cost
            if node not in best or reached < best[node]:
                best[node] = reached
                pushed += 1
                heapq.heappush(queue, (*reached, pushed, *node))
