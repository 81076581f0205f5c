"""The methods by name, without importing JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from comarl.errors import ComarlError, unknown_name


@dataclasses.dataclass(frozen=True)
class LearnerKind:
    """What values are learned from.

    Attributes:
        summary: in one line.
        source: the paper.
    """

    summary: str
    source: str


LEARNERS = {
    "replay": LearnerKind("sequences of many iterations, a target network", "Mnih et al. 2015; Rashid et al. 2018"),
    "pqn": LearnerKind("each iteration's own sequences, layer normalisation, no target", "Gallici et al. 2024"),
    "ppo": LearnerKind("clipped policy gradients, several epochs of each iteration's own", "Schulman et al. 2017"),
    "a2c": LearnerKind("policy gradients, one update on each iteration's own", "Mnih et al. 2016"),
}

NO_POLICY = "its agents have values and no policy whose gradient could be followed"
OWN_STEPS = "its gradient is that of the policy which took the steps, clipped, over several epochs"
ONE_UPDATE = "its gradient is that of the policy which took the steps, and holds for one update"
REPLAYED = "its critics say what its agents' actions of now would be worth, on steps that earlier policies took"
VALUES = {"ppo": NO_POLICY, "a2c": NO_POLICY}
"""Learners that value-based methods make no sense with."""

Rule = Literal["qlearning", "ppo", "coma", "maddpg", "maac"]
POLICIES: dict[str, tuple[Rule, str]] = {
    "replay": ("maddpg", REPLAYED),
    "ppo": ("ppo", OWN_STEPS),
    "a2c": ("ppo", ONE_UPDATE),
}
"""The usual rule of a method with policies by its one learner, and why it refuses the others."""

VECTORS: tuple[Rule, ...] = ("ppo", "maddpg")
"""Rules whose policies can give vectors; the others sum over an agent's actions, or take the best of them."""


OFF_POLICY: tuple[Rule, ...] = ("maddpg", "maac")
"""Rules whose policies follow critics of replayed steps."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A line of ``comarl list``.

    Attributes:
        summary: how Q_tot is built, in one line.
        source: the paper.
        team_value: whether there is one value for the team, which needs one reward for the team.
        refuses: learners that the method makes no sense with, each with the reason; the first of the others is the
            usual one.
        rule: what its parameters follow, by the name of the file in ``comarl/algos``.
    """

    summary: str
    source: str
    team_value: bool = True
    refuses: Mapping[str, str] = dataclasses.field(default_factory=lambda: VALUES)
    rule: Rule = "qlearning"

    @property
    def values(self) -> bool:
        """Whether agents act by values of their actions, and not by a policy."""
        return self.rule == "qlearning"

    @property
    def continuous(self) -> bool:
        """Whether an agent's action may be a vector."""
        return self.rule in VECTORS

    @property
    def off_policy(self) -> bool:
        """Whether agents have policies that follow critics of replayed steps."""
        return self.rule in OFF_POLICY

    @property
    def learners(self) -> list[str]:
        """The learners it runs with."""
        return [name for name in LEARNERS if name not in self.refuses]


def _policy(summary: str, source: str, learner: str, *, rule: Rule | None = None, team_value: bool = False) -> Method:
    """A method with policies: rewards may be per agent, unless its critic has one value for the team."""
    usual, reason = POLICIES[learner]
    refuses = {name: reason for name in LEARNERS if name != learner}
    return Method(summary, source, team_value, refuses, rule or usual)


METHODS = {
    "iql": Method("independent Q-learners, one loss per agent", "Tan 1993", team_value=False),
    "vdn": Method("Q_tot = Σ Q_i", "Sunehag et al. 2018"),
    "vdn-s": Method("Q_tot = Σ Q_i + V(s)", "Rashid et al. 2018, §6.1"),
    "qmix": Method("Q_tot monotone in every Q_i, weights from the state", "Rashid et al. 2018, 2020"),
    "qmix-ns": Method("QMIX with weights that ignore the state", "Rashid et al. 2018, §6.1"),
    "qmix-lin": Method("Q_tot = Σ |w_i(s)| Q_i + b(s)", "Rashid et al. 2018, §6.1"),
    "qplex": Method("Q_tot = Σ V_i + λ_i(s, u) A_i, every value that is IGM", "Wang et al. 2021"),
    "qatten": Method("Q_tot = Σ_h w_h(s) Σ_i α_{h,i} Q_i, weights by attention", "Yang et al. 2020"),
    "qtran-base": Method("free Q_jt; Σ Q_i + V equal where greedy, no less elsewhere", "Son et al. 2019"),
    "qtran-alt": Method("QTRAN, tighter: holds among each agent's alternatives", "Son et al. 2019"),
    "cw-qmix": Method("QMIX, free Q̂*: what is no better than greedy counts α", "Rashid et al. 2020b"),
    "ow-qmix": Method("QMIX, free Q̂*: what is overestimated counts α", "Rashid et al. 2020b"),
    "joint": Method("one central Q over all joint actions (the upper reference)", "Watkins 1989"),
    "ippo": _policy("agents with policies; each agent's critic sees its observation", "de Witt et al. 2020", "ppo"),
    "mappo": _policy("agents with policies; the critic sees the state", "Yu et al. 2022", "ppo"),
    "ia2c": _policy("IPPO without epochs and clipping", "Papoudakis et al. 2021", "a2c"),
    "maa2c": _policy("MAPPO without epochs and clipping", "Papoudakis et al. 2021", "a2c"),
    "coma": _policy(
        "agents with policies; a central Q credits each one's action",
        "Foerster et al. 2018",
        "a2c",
        rule="coma",
        team_value=True,
    ),
    "maddpg": _policy("policies; each critic sees everything and the joint action", "Lowe et al. 2017", "replay"),
    "ddpg": _policy("policies; critics see the agent's own observation and action", "Lillicrap et al. 2016", "replay"),
    "facmac": _policy(
        "policies; the critic is QMIX over critics of each agent's own action",
        "Peng et al. 2021",
        "replay",
        team_value=True,
    ),
    "maac": _policy("soft policies; critics attend to the other agents", "Iqbal and Sha 2019", "replay", rule="maac"),
}


def with_learner(method: str, learner: str, before: str) -> str:
    """The learner's name after ``before``, or nothing if it is the method's usual one.

    >>> with_learner("qmix", "pqn", "-"), with_learner("mappo", "ppo", "-")
    ('-pqn', '')
    """
    usual = METHODS[method].learners[0] if method in METHODS else "replay"
    return "" if learner == usual else f"{before}{learner}"


def require_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ComarlError: if there is none, with the nearest name.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def require_team_reward(name: str, how: str) -> None:
    """Refuse rewards per agent for a method with one value for the team.

    Raises:
        ComarlError: naming the methods that can.
    """
    if how == "individual" and METHODS[name].team_value:
        able = ", ".join(n for n, m in METHODS.items() if not m.team_value)
        raise ComarlError(
            f"'{name}' learns one value for the team: use --team-reward mean or sum, or a method of {able}"
        )


def require_actions(name: str, env: str, continuous: bool) -> None:
    """Refuse an environment whose actions are vectors for a method that chooses among actions.

    Raises:
        ComarlError: naming the methods that can.
    """
    if continuous and not METHODS[name].continuous:
        able = ", ".join(n for n, m in METHODS.items() if m.continuous)
        raise ComarlError(f"'{name}' chooses among actions, and in {env} they are continuous: use a method of {able}")


def require_common_interest(name: str, env: str, opposed: bool, how: str) -> None:
    """Refuse one reward for all where some agents gain what others lose.

    Raises:
        ComarlError: naming the methods that learn from each agent's own reward, or how this one does.
    """
    if not opposed:
        return
    if METHODS[name].team_value:
        able = ", ".join(n for n, m in METHODS.items() if not m.team_value)
        raise ComarlError(
            f"'{name}' learns one value for the team, and in {env} agents oppose each other: "
            f"use a method of {able}, with --team-reward individual"
        )
    if how != "individual":
        raise ComarlError(
            f"--team-reward {how} makes one reward for all, and in {env} agents oppose each other: "
            "use --team-reward individual"
        )


def require_others(env: str, agents: int, infer_policies: bool) -> None:
    """Refuse guesses of others' policies where there are no others.

    Raises:
        ComarlError: naming the setting.
    """
    if infer_policies and agents == 1:
        raise ComarlError(f"--infer-policies guesses what other agents do, and {env} has a single one: leave it out")


def require_agents(name: str) -> None:
    """Refuse a method whose agents do not act apart.

    Raises:
        ComarlError: for the central reference.
    """
    if name == "joint":
        raise ComarlError("'joint' chooses one joint action from all observations: it has no agents that act apart")


def require_learner(name: str, learner: str) -> None:
    """Refuse a learner that the method makes no sense with.

    Raises:
        ComarlError: with the reason, naming the learners that it runs with.
    """
    method = METHODS[name]
    if learner in method.refuses:
        able = " or ".join(method.learners)
        raise ComarlError(f"'{name}' does not learn with {learner}: {method.refuses[learner]} (use --learner {able})")
