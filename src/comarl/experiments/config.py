"""The configuration of a run: frozen dataclasses whose field docs become ``--help``.

Nothing here imports JAX, so that the command line answers at once. Field names are unique over all groups, so
that they are flags (``--lr``) and keyword arguments (``lr=``) without prefixes.
"""

import dataclasses
import math
import re
import typing
from pathlib import Path
from typing import Any, Literal

from comarl.errors import ComarlError, unknown_name
from comarl.experiments.methods import with_learner


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """The agents' network."""

    cell: Literal["gru", "lstm", "mingru", "mlp"] = "gru"
    """Memory: a GRU, an LSTM, a minGRU (its gate sees the input alone), or none."""
    hidden: int = 64
    """Width of encoder and memory."""
    last_action: bool = True
    """Whether an agent sees its own last action."""
    agent_id: bool = True
    """Whether an agent sees its own index."""
    sharing: Literal["shared", "agent", "type"] = "shared"
    """One set of parameters for all agents, one per agent, or one per type of agent."""
    layer_norm: bool = False
    """Normalise the encoder and the memory's output over their features."""


@dataclasses.dataclass(frozen=True)
class MixerConfig:
    """The mixer; methods without a mixing network ignore it."""

    embed: int = 32
    """Width of the mixing network (QMIX and its kin; Qatten's state value)."""
    hyper_layers: Literal[1, 2] = 2
    """Layers of each of QMIX's hypernetworks: 1 as in the ICML paper, 2 as in JMLR and PyMARL."""
    hyper_hidden: int = 64
    """Hidden width of a hypernetwork of more than one layer (Qatten: of queries and head weights)."""
    mixer_scale: float = 1.0
    """What the mixer's initial parameters are multiplied by."""
    kernels: int = 4
    """QPLEX: how many products make λ."""
    kernel_layers: Literal[1, 2, 3] = 1
    """QPLEX: layers of the networks in each product."""
    stop_gradient: bool = True
    """QPLEX: the advantages that λ weighs are constants."""
    heads: int = 4
    """Qatten: heads."""
    weighted_heads: bool = True
    """Qatten: heads have weights from the state, else all count alike."""
    nonlinear_keys: bool = False
    """Qatten: an agent's utility is part of its key."""
    mask_dead: bool = False
    """Qatten: agents with a single available action get no weight."""
    logit_penalty: float = 1e-3
    """Qatten: weight of the squared attention logits in the loss."""
    joint_hidden: int = 64
    """QTRAN, weighted QMIX: width of the unrestricted joint value."""
    state_value: bool = True
    """QTRAN: with V(s), which stands for what agents do not observe."""
    opt_weight: float = 1.0
    """QTRAN: weight of the loss at the greedy joint action."""
    nopt_weight: float = 0.1
    """QTRAN: weight of the loss elsewhere."""
    alpha: float = 0.1
    """Weighted QMIX: the weight of the lesser joint actions."""


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """Learning."""

    learner: Literal["replay", "pqn", "ppo", "a2c"] = "replay"
    """From replayed sequences; Q-learning from each iteration's own alone (pqn); policy gradients over several epochs
    (ppo) or one (a2c). The defaults depend on it."""
    optimiser: Literal["rmsprop", "adam", "radam"] = "adam"
    """RMSprop (α .99, ε 1e-5) as in PyMARL, Adam, or rectified Adam."""
    lr: float = 5e-4
    """Learning rate."""
    lr_decay: float = 1.0
    """What is left of the learning rate at the end of training; 1 keeps it."""
    lr_schedule: Literal["exponential", "linear"] = "exponential"
    """How the learning rate falls to what --lr-decay leaves of it."""
    grad_clip: float = 10.0
    """The gradient's global norm is clipped to this."""
    gamma: float = 0.99
    """Discount γ."""
    returns: Literal["td_lambda", "n_step"] = "td_lambda"
    """Targets: λ-returns, or n-step returns."""
    td_lambda: float = 0.6
    """λ of the λ-returns and of generalised advantages; 0 gives one-step targets."""
    n_step: int = 5
    """Rewards in an n-step return."""
    team_reward: Literal["mean", "sum", "individual"] = "mean"
    """How the learned (and scored) reward is formed from the agents' rewards."""
    stored_state: bool = True
    """Begin a sequence with the agents' memory as it was when collected, rather than with an empty one."""
    burn_in: int = 0
    """Steps at the start of a sequence that warm the agents' memory up and are not learned from."""
    target_update: Literal["hard", "soft", "none"] = "hard"
    """Copy the target network every so often, move it a little at every update, or have none."""
    target_interval: int = 200
    """Updates between hard copies (counted in updates, not episodes)."""
    target_tau: float = 0.01
    """Share of the online network in a soft update."""
    epsilon_start: float = 1.0
    """ε of the exploration at the start."""
    epsilon_end: float = 0.05
    """ε at the end of the annealing."""
    epsilon_steps: int = 50_000
    """Environment steps over which ε is annealed linearly."""
    replay: Literal["uniform", "prioritised"] = "uniform"
    """Draw replayed sequences uniformly, or in proportion to their last error."""
    priority_alpha: float = 0.6
    """Exponent α of the priorities; 0 draws uniformly (prioritised)."""
    priority_beta: float = 0.4
    """Exponent β of the importance weights at the start; it grows to 1 over training (prioritised)."""
    buffer_steps: int = 200_000
    """Environment steps kept (replay)."""
    batch_size: int = 32
    """Sequences in a batch, for each of an agent's policies (replay)."""
    replay_part: int = 0
    """Transitions that are drawn of a sequence; 0 draws all of it (replay, agents without memory or last action)."""
    updates: int = 8
    """Updates per iteration (replay)."""
    epochs: int = 2
    """Times that an iteration's sequences are gone through (pqn, ppo)."""
    minibatches: int = 4
    """Equal parts that the sequences are shuffled into, an update each (pqn, ppo)."""
    learning_starts: int = 5_000
    """Environment steps before the first update."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Policies and their critics; Q-learning ignores it, and COMA all but the entropy bonus and its critic's width."""

    clip: float = 0.2
    """Probability ratios count no further than 1 ± this."""
    value_clip: float = 0.2
    """Values count no further from the old ones than this, in units of their spread; 0 has no limit."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    """Weight of the values' squared error."""
    value_norm: bool = True
    """Regress values on targets of mean 0 and variance 1."""
    critic_sees: Literal["observations", "state"] = "observations"
    """MADDPG: what critics see beside the joint action, all observations or the state."""
    twin: bool = False
    """MADDPG, DDPG, FACMAC: two critics of each agent, whose lesser value makes the targets (MATD3)."""
    gumbel_temperature: float = 1.0
    """MADDPG, DDPG, FACMAC: temperature of the soft actions that the policies' gradient goes through."""
    straight_through: bool = False
    """MADDPG, DDPG, FACMAC: the critic is shown hard actions there, with the soft ones' gradient."""
    logit_weight: float = 1e-3
    """MADDPG, DDPG, FACMAC, MAAC: weight of the policies' mean squared logits (before the tanh, of vectors)."""
    vector_policy: Literal["tanh", "softmax"] = "tanh"
    """MADDPG, DDPG, FACMAC: continuous actions are a tanh with noise, or a soft draw (Gumbel-softmax) itself."""
    exploration_noise: float = 0.1
    """MADDPG, DDPG, FACMAC: standard deviation of the noise on tanh actions."""
    infer_policies: bool = False
    """MADDPG: targets ask each agent's guesses of the others' policies, fitted to what these did."""
    guess_entropy: float = 1e-3
    """MADDPG: weight of the guesses' entropy in their loss."""
    sub_policies: int = 1
    """MADDPG, DDPG, FACMAC, MAAC: policies of each agent, of which it draws one for each episode."""
    critic_hidden: int = 128
    """COMA, MAAC: width of the critic's layers."""
    critic_heads: int = 4
    """MAAC: heads of the critic's attention, which share its width."""
    uniform_attention: bool = False
    """MAAC: critics attend to all others alike (the paper's ablation)."""
    attention_penalty: float = 1e-3
    """MAAC: weight of the critic's mean squared attention logits, summed over the heads."""
    entropy_temperature: float = 0.01
    """MAAC: α, the reward for each nat of the policy's entropy (one over the authors' reward scale)."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What is run, for how long, and where results go."""

    method: str = "qmix"
    """What is learned ('comarl list' shows all)."""
    env: str = "smax/3m"
    """Where ('comarl list' shows all, or MODULE:FUNCTION of your own)."""
    seeds: int = 1
    """How many seeds are trained."""
    seed: int = 0
    """The first seed; the others follow it."""
    steps: int = 1_000_000
    """Environment steps per seed."""
    num_envs: int = 32
    """Environments side by side."""
    length: int = 64
    """Steps collected per environment and iteration; the length of a replayed sequence."""
    workers: int = 2
    """Processes that step a Python environment; 0 steps it in the learner's own. The result does not depend on it."""
    actors: str | None = None
    """Python environments: the Ray on whose machines the workers are, in place of processes of this one (auto,
    HOST:PORT or ray://HOST:PORT; local starts one here)."""
    cpu_devices: int = 1
    """On a CPU: devices that its cores are seen as. If there are more than seeds, each seed's environments, replay and
    batches are shared out among them: the same result to rounding."""
    asynchronous: bool = False
    """Python environments, replay: collect while learning from what came before, with a policy that lags behind.
    The same seed does not give the same result again."""
    eval_every: int = 100_000
    """Environment steps between evaluations."""
    eval_episodes: int = 128
    """Episodes per evaluation."""
    run: Path | None = None
    """Folder of the results; runs/METHOD-ENV if left out (runs/METHOD-LEARNER-ENV if the learner is not the usual)."""
    agent: AgentConfig = AgentConfig()
    mixer: MixerConfig = MixerConfig()
    learner: LearnerConfig = LearnerConfig()
    policy: PolicyConfig = PolicyConfig()
    tensorboard: bool = False
    """Write TensorBoard files too (needs the extra 'tensorboard')."""
    overwrite: bool = False
    """Replace what the run folder holds."""
    resume: bool = False
    """Go on with the run that the folder holds, bit for bit; begin it if there is none."""
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints of a seed, at least; they are made after evaluations."""
    keep: int = 2
    """Checkpoints kept of each seed: the latest so many, and the one with the best evaluation."""
    max_time: str = ""
    """Save and stop before so much time has passed, such as 90s, 45m or 1h30m; without a limit if left out."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        learner = with_learner(self.method, self.learner.learner, "-")
        return self.run or Path("runs") / f"{self.method}{learner}-{self.env.replace('/', '-').replace(':', '-')}"


NOT_RECORDED = (
    *("run", "tensorboard", "overwrite", "resume", "checkpoint_every", "keep", "max_time"),
    *("workers", "actors"),
)
"""Settings on which no result depends: where and how it comes about, how often it is saved, for how long at a time."""

MAX_COUNT = 2**31
"""No count is as large: they are 32-bit integers in the compiled program."""

GROUPS: dict[str, type] = {"agent": AgentConfig, "mixer": MixerConfig, "learner": LearnerConfig, "policy": PolicyConfig}


def setting_names() -> dict[str, str | None]:
    """Every setting with the group it stands in (None: the run itself)."""
    own: dict[str, str | None] = {f.name: None for f in dataclasses.fields(RunConfig) if f.name not in GROUPS}
    return own | {f.name: group for group, c in GROUPS.items() for f in dataclasses.fields(c)}


def with_settings(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """``config`` with some settings changed, by their flat names.

    Raises:
        ComarlError: for an unknown name or a value of the wrong type.

    >>> with_settings(RunConfig(), {"lr": 1e-3, "seeds": 3}).learner.lr
    0.001
    """
    groups = setting_names()
    changes: dict[str | None, dict[str, Any]] = {}
    for name, value in settings.items():
        if name not in groups:
            raise unknown_name("setting", name, groups)
        owner = GROUPS[groups[name] or ""] if groups[name] else RunConfig
        changes.setdefault(groups[name], {})[name] = _typed(name, value, typing.get_type_hints(owner)[name])
    top = changes.pop(None, {})
    nested = {g: dataclasses.replace(getattr(config, g), **c) for g, c in changes.items() if g}
    return dataclasses.replace(config, **top, **nested)


def _typed(name: str, value: Any, expected: Any) -> Any:
    if typing.get_origin(expected) is Literal:
        if value not in typing.get_args(expected):
            choices = ", ".join(map(str, typing.get_args(expected)))
            raise ComarlError(f"{name}={value!r}: choose one of {choices}")
        return value
    if expected == Path | None:
        if not isinstance(value, str | Path | None):
            raise ComarlError(f"{name}={value!r}: expected a path")
        return None if value is None else Path(value)
    if expected == str | None:
        if not isinstance(value, str | None):
            raise ComarlError(f"{name}={value!r}: expected a text")
        return value
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ComarlError(f"{name}={str(value)[:9]}…: too large for a number") from error
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ComarlError(f"{name}={value!r}: expected {expected.__name__}")
    return value


def seconds_of(time: str) -> float:
    """A span of time in seconds; infinite if it is empty.

    Raises:
        ComarlError: if it is not hours, minutes and seconds, in this order.

    >>> seconds_of("90s"), seconds_of("2h"), seconds_of("1h30m"), seconds_of("")
    (90.0, 7200.0, 5400.0, inf)
    """
    if not time:
        return math.inf
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", time, re.ASCII)
    if not parts or len(time) > MAX_TIME:
        raise ComarlError(f"max_time='{time}': write hours, minutes and seconds, such as 2h, 45m, 90s or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return float((hours * 60 + minutes) * 60 + seconds)


MAX_TIME = 20
"""Characters of a span of time: more than anyone waits for."""


def to_json(config: RunConfig) -> dict[str, Any]:
    """What determines a run's result, as plain data: without the settings that are :data:`NOT_RECORDED`."""
    data = dataclasses.asdict(config)
    for name in NOT_RECORDED:
        del data[name]
    return data


def from_json(data: dict[str, Any]) -> RunConfig:
    """The configuration that :func:`to_json` wrote.

    Raises:
        ComarlError: if a field is unknown or has the wrong type, or says where to write: a file must not.
    """
    flat = {k: v for k, v in data.items() if k not in GROUPS}
    for group in GROUPS:
        flat |= data.get(group, {})
    for name in NOT_RECORDED:
        if name in flat:
            raise ComarlError(f"'{name}' is no part of a recorded configuration: take it out")
    return with_settings(RunConfig(), flat)
