"""The faults of public code, as changes of ours: each makes a test of test_faults_of_public_code.py fail."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One line of the source made wrong.

    Attributes:
        test: the test that must fail; of ``test_faults_of_public_code.py`` unless another file of tests is named.
        file: under ``src/comarl``.
        right: what stands there, once.
        wrong: what is put in its place.
        where: tells faults of one test apart.
    """

    test: str
    file: str
    right: str
    wrong: str
    where: str = ""


LOADED = "return jax.device_put(jax.tree.unflatten(jax.tree.structure(like), arrays), here, may_alias=False)"
FORGOTTEN = LOADED.replace("return", "state =") + "; return "
BLANK = "jax.tree.map(jax.numpy.zeros_like, {})"
RESET = "return (inner, ts.last), ts"
RETURNS = "actors.returns + ts.reward"

FAULTS = [
    Fault(
        "test_time_limit_recorded_as_terminal",
        "envs/base.py",
        "discount=1.0 - ended.astype(jnp.float32)",
        "discount=1.0 - (ended | jnp.asarray(truncated, bool)).astype(jnp.float32)",
        "by environments",
    ),
    Fault(
        "test_time_limit_recorded_as_terminal",
        "algos/qlearning.py",
        "self.gamma * after.discount",
        "self.gamma * ~after.last",
        "by the learner",
    ),
    Fault(
        "test_value_added_after_termination",
        "algos/qlearning.py",
        "self.gamma * after.discount",
        "self.gamma * jnp.ones_like(after.discount)",
    ),
    Fault(
        "test_auto_reset_boundary_learned_across",
        "algos/sequences.py",
        "jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(mask.sum(), 1)",
        "jnp.mean(x)",
        "in the loss",
    ),
    Fault(
        "test_auto_reset_boundary_learned_across",
        "returns.py",
        "jnp.where(last, v, (1 - lambda_) * v + lambda_ * g_t)",
        "((1 - lambda_) * v + lambda_ * g_t)",
        "in the return",
    ),
    Fault(
        "test_last_reward_lost",
        "envs/wrappers.py",
        RESET,
        "return (inner, ts.last), ts._replace(reward=select(ts.last, 0.0 * ts.reward, ts.reward))",
        "in the trajectory",
    ),
    Fault(
        "test_last_reward_lost",
        "training/ondevice.py",
        RETURNS,
        "actors.returns + jnp.where(ts.last[:, None], 0.0, ts.reward)",
        "in what is reported",
    ),
    Fault(
        "test_last_reward_lost",
        "training/evaluate.py",
        "now.returns + ts.reward",
        "now.returns + jnp.where(ts.last, 0.0, ts.reward)",
        "in evaluation",
    ),
    Fault(
        "test_masks_missing_in_the_double_q_argmax",
        "algos/qlearning.py",
        "best = jnp.argmax(q[1:]",
        "best = jnp.argmax(out.q[1:]",
    ),
    Fault(
        "test_double_q_is_double",
        "algos/qlearning.py",
        "best = jnp.argmax(q[1:]",
        "best = jnp.argmax(target_q[1:]",
    ),
    Fault(
        "test_masks_missing_in_epsilon_greedy",
        "algos/qlearning.py",
        "jnp.where(ts.avail, rank, -1.0)",
        "rank",
    ),
    Fault(
        "test_masks_missing_in_qtran_alt",
        "algos/qlearning.py",
        "Joint(q[:-1],",
        "Joint(out.q[:-1],",
        "in the loss",
    ),
    Fault(
        "test_masks_missing_in_qtran_alt",
        "algos/qlearning.py",
        "Joint(target_q[1:],",
        "Joint(target_out.q[1:],",
        "in the target",
    ),
    Fault(
        "test_masks_missing_in_qtran_alt",
        "mixers/qtran.py",
        "jnp.where(joint.ts.avail, gap, jnp.inf).min(-1)",
        "gap.min(-1)",
        "in the least gap",
    ),
    Fault(
        "test_attention_neither_trained_nor_copied",
        "mixers/qatten.py",
        "head(joint.ts.state, units))(self.heads)",
        "head(joint.ts.state, units))(jax.lax.stop_gradient(self.heads))",
        "not trained",
    ),
    Fault(
        "test_attention_neither_trained_nor_copied",
        "algos/qlearning.py",
        "        return Update(QState(online, target, optimiser, updates), metrics, error)",
        "        target = eqx.tree_at(lambda nets: nets.mixer.heads, target, state.target.mixer.heads)\n"
        "        return Update(QState(online, target, optimiser, updates), metrics, error)",
        "not copied",
    ),
    Fault(
        "test_next_done_read_from_the_previous_dones",
        "algos/qlearning.py",
        "self._targets(after, v)",
        "self._targets(after._replace(discount=before.discount), v)",
    ),
    Fault(
        "test_recurrent_state_not_reset",
        "nets/cells.py",
        "return jnp.where(first.reshape(first.shape + (1,) * (memory.ndim - first.ndim)), 0.0, memory)",
        "return memory",
        "of the cell",
    ),
    Fault(
        "test_recurrent_state_not_reset",
        "nets/agents.py",
        "jnp.where(ts.first[..., None, None], 0.0, done)",
        "done",
        "of the last action",
    ),
    Fault(
        "test_time_and_agent_axes_swapped",
        "nets/agents.py",
        "x = self._inputs(ts, last_action)",
        "x = self._inputs(ts, last_action); x = x.swapaxes(0, -2).reshape(x.shape)",
    ),
    Fault(
        "test_vmapped_seeds_sharing_one_initialisation",
        "training/ondevice.py",
        " learner.algorithm.init(learner_key)",
        " learner.algorithm.init(jax.random.key(0))",
    ),
    Fault(
        "test_elementwise_clipping",
        "experiments/build.py",
        "optax.clip_by_global_norm(config.grad_clip), rules[config.optimiser]",
        "optax.clip(config.grad_clip), rules[config.optimiser]",
    ),
    Fault(
        "test_clipping_after_the_optimiser",
        "experiments/build.py",
        "optax.clip_by_global_norm(config.grad_clip), rules[config.optimiser]",
        "rules[config.optimiser], optax.clip_by_global_norm(config.grad_clip)",
    ),
    Fault(
        "test_target_network_initialised_from_another_key",
        "algos/qlearning.py",
        "else jax.tree.map(jnp.copy, online)",
        "else Networks(self.make_agent(mixer_key), self.make_mixer(agent_key))",
    ),
    Fault(
        "test_evaluation_sampling_in_place_of_greedy",
        "training/ondevice.py",
        "play(self.env, policy, evaluation_keys(self.episodes))",
        "play(self.env, policy, evaluation_keys(self.episodes), explore=True)",
    ),
    Fault(
        "test_padding_in_reward_statistics",
        "algos/sequences.py",
        "jnp.maximum(mask.sum(), 1)",
        "mask.size",
        "in the divisor",
    ),
    Fault(
        "test_padding_in_reward_statistics",
        "algos/qlearning.py",
        "{name: masked_mean(x, real) for",
        "{name: jnp.mean(x) for",
        "in what is reported",
    ),
    Fault(
        "test_first_observation_after_an_auto_reset_blanked",
        "envs/wrappers.py",
        RESET,
        "return (inner, ts.last), ts._replace(obs=select(over, 0.0 * ts.obs, ts.obs))",
    ),
    Fault(
        "test_terminal_observations_thrown_away",
        "envs/wrappers.py",
        RESET,
        "return (inner, ts.last), ts._replace(obs=select(ts.last, self.env.reset(key)[1].obs, ts.obs))",
    ),
    Fault(
        "test_training_metrics_averaged_over_stale_values",
        "training/seeds.py",
        "ended = np.asarray(log.finished.ended)",
        "ended = np.ones_like(log.finished.ended)",
        "of episodes",
    ),
    Fault(
        "test_training_metrics_averaged_over_stale_values",
        "training/learner.py",
        "jnp.full(x.shape, jnp.nan, x.dtype)",
        "jnp.zeros(x.shape, x.dtype)",
        "of the loss",
    ),
    Fault(
        "test_evaluation_favours_short_episodes",
        "training/evaluate.py",
        "return ~now.ts.last.all()",
        "return ~now.ts.last.all() & (now.length.max() < 3)",
    ),
    Fault(
        "test_win_rate_above_one",
        "training/evaluate.py",
        "length=end.length, outcome=outcome)",
        "length=end.length, outcome={name: x * end.length for name, x in outcome.items()})",
        "in evaluation",
    ),
    Fault(
        "test_win_rate_above_one",
        "training/seeds.py",
        "name: np.asarray(x)[ended]",
        "name: np.asarray(x).reshape(-1)",
        "in training",
    ),
    Fault(
        "test_environment_chosen_by_a_substring",
        "envs/registry.py",
        "    family = _require_family(name)\n",
        "    name = next((n for n in names() if name.lower() in n or n in name), name)\n"
        "    family = _require_family(name)\n",
        "of the variant",
    ),
    Fault(
        "test_environment_chosen_by_a_substring",
        "envs/registry.py",
        '    family = FAMILIES.get(name.partition("/")[0])\n    if name in names() or (',
        '    family = next((FAMILIES[f] for f in FAMILIES if f in name.partition("/")[0]), None)\n'
        '    if (family and name.partition("/")[2] in family.variants) or (',
        "of the family",
    ),
    Fault(
        "test_same_seed_different_result",
        "training/ondevice.py",
        "jax.random.fold_in(jax.random.key(seed), iteration + 1)",
        "jax.random.fold_in(jax.random.key(__import__('time').time_ns() % 2**31), iteration + 1)",
        "in training",
    ),
    Fault(
        "test_same_seed_different_result",
        "training/ondevice.py",
        "jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))",
        "jax.random.split(jax.random.key(__import__('time').time_ns() % 2**31))",
        "in the beginning",
    ),
    Fault(
        "test_resume_that_restores_weights_alone[optimiser]",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN
        + f"state._replace(learner=state.learner._replace(optimiser={BLANK.format('state.learner.optimiser')}))",
    ),
    Fault(
        "test_resume_that_restores_weights_alone[targets]",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN + "state._replace(learner=state.learner._replace(target=state.learner.online))",
    ),
    Fault(
        "test_resume_that_restores_weights_alone[buffer]",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN + f"state._replace(memory={BLANK.format('state.memory')})",
    ),
    Fault(
        "test_epsilon_goes_on_where_it_was",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN + "state._replace(iteration=state.iteration * 0)",
    ),
    Fault(
        "test_resume_that_restores_weights_alone[rng]",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN + "state._replace(seed=state.seed + 1)",
    ),
    Fault(
        "test_resume_that_restores_weights_alone[actors]",
        "training/checkpoint.py",
        LOADED,
        FORGOTTEN + f"state._replace(actors={BLANK.format('state.actors')})",
    ),
    Fault(
        "test_scores_divided_or_summed_without_saying_so",
        "training/ondevice.py",
        RETURNS,
        "actors.returns + ts.reward.mean(-1, keepdims=True)",
        "in training",
    ),
    Fault(
        "test_scores_divided_or_summed_without_saying_so",
        "training/evaluate.py",
        "now.returns + ts.reward",
        "now.returns + ts.reward.sum()",
        "in evaluation",
    ),
    Fault(
        "test_scores_divided_or_summed_without_saying_so",
        "returns.py",
        "return reward.mean(-1)",
        "return reward.sum(-1)",
        "in what is learned",
    ),
    Fault(
        "test_scores_divided_or_summed_without_saying_so",
        "experiments/scores.py",
        'returns.sum(-1) if config.learner.team_reward == "sum" else returns.mean(-1)',
        "returns.sum(-1)",
        "in what is printed",
    ),
]
