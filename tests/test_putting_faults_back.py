"""Do the tests notice? Each fault is put back into a copy of the source, and its test must fail.

The faults are those of test_faults_of_public_code.py, and slips that the equations of the factorisation family, PQN and
the options of replay invite, which the tests beside each module are there for. ``make test-faults``; minutes, so not
part of ``make test``, which sees to it that every line quoted here still stands in the source.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SUITE = "test_faults_of_public_code.py"


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


LOADED = "return checkpointer.restore(path.absolute(), shapes)"
FORGOTTEN = "state = checkpointer.restore(path.absolute(), shapes); return "
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
        "return (inner, ts.last), ts._replace(reward=jnp.where(ts.last, 0.0, ts.reward))",
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
        "self.learner.algorithm.init(learner_key)",
        "self.learner.algorithm.init(jax.random.key(0))",
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
        "{name: masked_mean(x, ~before.last) for",
        "{name: jnp.mean(x) for",
        "in what is reported",
    ),
    Fault(
        "test_first_observation_after_an_auto_reset_blanked",
        "envs/wrappers.py",
        RESET,
        "return (inner, ts.last), ts._replace(obs=jnp.where(over, 0.0, ts.obs))",
    ),
    Fault(
        "test_terminal_observations_thrown_away",
        "envs/wrappers.py",
        RESET,
        "return (inner, ts.last), ts._replace(obs=jnp.where(ts.last, self.env.reset(key)[1].obs, ts.obs))",
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
        "    if name not in names():\n",
        "    name = next((n for n in names() if name.lower() in n or n in name), name)\n    if name not in names():\n",
        "of the variant",
    ),
    Fault(
        "test_environment_chosen_by_a_substring",
        "envs/registry.py",
        '    if name not in names():\n        raise _unknown(name)\n    family, _, variant = name.partition("/")\n',
        '    family, _, variant = name.partition("/")\n'
        '    family = next((f for f in FAMILIES if f in family), "")\n'
        "    if not family or variant not in FAMILIES[family].variants:\n        raise _unknown(name)\n",
        "of the family",
    ),
    Fault(
        "test_same_seed_different_result",
        "training/ondevice.py",
        "jax.random.fold_in(jax.random.key(run.seed), run.iteration + 1)",
        "jax.random.fold_in(jax.random.key(__import__('time').time_ns() % 2**31), run.iteration + 1)",
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


QPLEX, QATTEN, QTRAN, WQMIX = (f"mixers/test_{name}.py::test_" for name in ("qplex", "qatten", "qtran", "wqmix"))
EVERY_MIXER = "mixers/test_properties.py::test_"
COMA = "algos/test_coma.py::test_"
SERIES = "training/test_checkpoint.py::test_"
MAAC = "algos/test_maac.py::test_"
INFERRING = "algos/test_inferring.py::test_"
ENSEMBLE = "nets/test_ensemble.py::test_"
ATTENTION_CRITIC = "nets/test_attention_critic.py::test_"

SLIPS = [
    Fault(
        f"{QPLEX}beside_the_advantages_utilities_learn_as_in_vdn",
        "mixers/qplex.py",
        "jax.lax.stop_gradient(q - v) if self.stop_gradient else q - v",
        "q - v",
    ),
    Fault(
        f"{QPLEX}it_is_its_equation",
        "mixers/qplex.py",
        "(self.attention(joint).sum(0) - 1) * advantage",
        "self.attention(joint).sum(0) * advantage",
    ),
    Fault(
        f"{EVERY_MIXER}every_parameter_is_learned[qplex]",
        "mixers/qplex.py",
        "w * joint.chosen + b, w * joint.best + b",
        "joint.chosen, joint.best",
        "without the map by the state",
    ),
    Fault(f"{EVERY_MIXER}igm[qplex]", "mixers/qplex.py", "jnp.abs(self.w(s)) + POSITIVE", "self.w(s)"),
    Fault(
        f"{QATTEN}it_is_its_equation", "mixers/qatten.py", "scaled = logits / KEY_SIZE**0.5", "scaled = logits", "scale"
    ),
    Fault(f"{QATTEN}it_is_its_equation", "mixers/qatten.py", "(scaled, axis=-1)", "(scaled, axis=0)", "over the heads"),
    Fault(
        f"{QATTEN}loss_holds_the_squares_of_the_unscaled_logits",
        "mixers/qatten.py",
        "(logits**2).mean(-1).sum()",
        "(logits**2 / KEY_SIZE).mean(-1).sum()",
    ),
    Fault(
        f"{EVERY_MIXER}monotone_in_every_utility[qatten]", "mixers/qatten.py", "jnp.abs(self.w(s)) * q", "self.w(s) * q"
    ),
    Fault(
        f"{QTRAN}q_jt_learns_from_the_target_alone_and_utilities_from_q_jt_alone",
        "mixers/qtran.py",
        "jax.lax.stop_gradient(self.central(greedy))",
        "self.central(greedy)",
    ),
    Fault(
        f"{QTRAN}losses_are_their_equations", "mixers/qtran.py", "jnp.minimum(self(joint)", "jnp.maximum(self(joint)"
    ),
    Fault(
        f"{QTRAN}losses_are_0_exactly_where_the_conditions_hold_and_then_igm_holds",
        "mixers/qtran.py",
        "central = self.joint_value.alternatives(joint.ts.state, joint.hidden, joint.action)",
        "central = self.central(joint)",
        "the others' values left out of the least gap",
    ),
    Fault(f"{QTRAN}values_of_a_joint_action", "mixers/base.py", "return self.central(joint)", "return self(joint)"),
    Fault(f"{WQMIX}values_of_a_joint_action", "mixers/base.py", "return self.central(joint)", "return self(joint)"),
    Fault(f"{WQMIX}weights", "mixers/wqmix.py", "return q_tot < y", "return q_tot > y", "turned round"),
    Fault(
        f"{WQMIX}weights",
        "mixers/wqmix.py",
        "self.central(joint._replace(action=greedy))",
        "self.central(joint)",
        "against what was done",
    ),
    Fault(
        f"{WQMIX}weights",
        "mixers/wqmix.py",
        "(joint.action == greedy).all()",
        "(joint.action == greedy).any()",
        "one agent is greedy",
    ),
    Fault(
        f"{WQMIX}weights",
        "mixers/wqmix.py",
        "w * (q_tot - y) ** 2 + (central - y) ** 2",
        "w * ((q_tot - y) ** 2 + (central - y) ** 2)",
        "on both losses",
    ),
    Fault(
        "nets/test_agents.py::test_the_network_by_hand[layer norm]",
        "nets/agents.py",
        "encoded = self.norms[0](encoded)",
        "encoded = jax.nn.relu(encoded)",
    ),
    Fault(
        "nets/test_agents.py::test_what_the_memory_carries_on_is_not_normalised",
        "nets/agents.py",
        "hidden = self.norms[1](hidden)",
        "memory = hidden = self.norms[1](hidden)",
    ),
    Fault(
        "memory/test_onpolicy.py::test_epochs_and_iterations_are_shuffled_apart",
        "memory/onpolicy.py",
        "jax.random.split(key, epochs)",
        "jnp.stack([key] * epochs)",
    ),
    Fault(
        "memory/test_onpolicy.py::test_every_sequence_exactly_once_an_epoch[3]",
        "memory/onpolicy.py",
        "lambda x: x[env], whole.carry",
        "lambda x: x[: env.size], whole.carry",
    ),
    Fault(
        "memory/test_replay.py::test_probabilities_and_weights_by_hand",
        "memory/replay.py",
        "weight / weight.max()",
        "weight / weight.mean()",
    ),
    Fault(
        "memory/test_replay.py::test_errors_of_a_sequence_are_mixed",
        "memory/replay.py",
        "    error = jnp.where(real, error, 0.0)\n",
        "",
    ),
    Fault(
        "algos/test_qlearning.py::test_burn_in_is_stepping_there_and_learning_from_the_rest[3]",
        "algos/sequences.py",
        "AgentCarry(jax.lax.stop_gradient(memory), action[k - 1])",
        "AgentCarry(memory, action[k - 1])",
    ),
    Fault(
        "algos/test_qlearning.py::test_without_the_stored_state_sequences_begin_with_an_empty_memory",
        "algos/sequences.py",
        "if not stored_state:",
        "if stored_state:",
    ),
    Fault(
        "algos/test_probes.py::test_prioritised_replay_learns_the_mean",
        "memory/replay.py",
        "weight / weight.max()",
        "jnp.ones(batch_size)",
        "without weights",
    ),
    Fault(
        "algos/test_probes.py::test_prioritised_replay_learns_the_mean",
        "training/learner.py",
        "self.memory.reprioritise(learning.priority, batch.where, error)",
        "learning.priority",
        "the memory is told nothing",
    ),
    Fault(
        "algos/test_probes.py::test_sequences_begin_with_a_memory[stored state]",
        "algos/sequences.py",
        "if not stored_state:",
        "if True:",
    ),
    Fault(
        "algos/test_probes.py::test_sequences_begin_with_a_memory[burn-in]",
        "algos/sequences.py",
        "AgentCarry(jax.lax.stop_gradient(memory), action[k - 1])",
        "AgentCarry(carry.memory, action[k - 1])",
    ),
    Fault(
        f"{COMA}loss_is_its_equation",
        "algos/coma.py",
        "counterfactual_advantage(q, log_p, action))",
        "counterfactual_advantage(q, log_probabilities(logits, ts.avail), action))",
        "a baseline without the floor",
    ),
    Fault(
        f"{COMA}targets_are_lambda_returns_of_the_actions_taken[hard]",
        "algos/coma.py",
        "v[1:], after.last",
        "v[:-1], after.last",
    ),
    Fault(
        f"{COMA}the_actor_follows_the_fitted_critic",
        "algos/coma.py",
        "q = critic.online(*steps)",
        "q = state.critic.online(*steps)",
    ),
    Fault(
        f"{COMA}the_critic_learns_from_the_last_step_to_the_first[3]",
        "algos/coma.py",
        "(steps, target), reverse=True)",
        "(steps, target))",
    ),
    Fault(
        "nets/test_critics.py::test_an_agents_row_has_the_others_actions_and_not_its_own",
        "nets/critics.py",
        "jnp.where(others, self._one_hot(action)[..., None, :, :], 0.0)",
        "jnp.where(others | True, self._one_hot(action)[..., None, :, :], 0.0)",
    ),
    Fault(
        "algos/test_ppo.py::test_before_the_first_update_the_gradient_is_that_of_a2c",
        "algos/ppo.py",
        "deciding = real & pi.undecided",
        "deciding = real",
        "agents without a choice in the advantages' mean",
    ),
    Fault(
        "algos/test_ppo.py::test_advantages_are_the_sums_of_td_errors[sum]",
        "algos/ppo.py",
        "v = self._scale(state).restore(value)",
        "v = value",
        "values left in the critic's units",
    ),
    Fault(
        "algos/test_ppo.py::test_advantages_are_the_sums_of_td_errors[individual]",
        "algos/ppo.py",
        "Notes(pi.log_prob(trajectory.action), v[:-1], target - v[:-1], target)",
        "Notes(pi.log_prob(trajectory.action), v[:-1], target - v[1:], target)",
        "the value of the step arrived at",
    ),
    Fault(
        "algos/test_ppo.py::test_values_count_no_further_than_the_clip_and_the_larger_error_counts",
        "algos/ppo.py",
        "return jnp.maximum(error, (near - target) ** 2)",
        "return jnp.minimum(error, (near - target) ** 2)",
        "the smaller error",
    ),
    Fault(
        "algos/test_ppo.py::test_notes_are_what_the_agents_thought_when_they_acted",
        "algos/ppo.py",
        "critic = self.networks.critic(carry.critic, ts)[0] if explore else carry.critic",
        "critic = carry.critic",
        "the critic's memory stands still",
    ),
    Fault(
        "algos/test_value_scale.py::test_moments_are_those_of_the_weighted_mixture",
        "algos/value_scale.py",
        "share * step**2",
        "0 * step**2",
        "means that moved",
    ),
    Fault(
        "algos/test_maddpg.py::test_targets_and_the_critics_loss_equal_the_slow_ones",
        "algos/maddpg.py",
        "real = per_agent(~before.last, y)",
        "real = per_agent(~batch.trajectory.ts.last[1 + self.burn_in :], y)",
        "terminal transitions dropped",
    ),
    Fault(
        "algos/test_maddpg.py::test_targets_and_the_critics_loss_equal_the_slow_ones",
        "algos/maddpg.py",
        "outputs = self.outputs(target.actor, batch.trajectory)[1:]",
        "outputs = self.outputs(target.actor, batch.trajectory)[:-1]",
        "target policies one step late",
    ),
    Fault(
        "algos/test_maddpg.py::test_an_update_is_a_step_of_the_critics_and_then_one_of_the_actors_and_targets_follow",
        "algos/offpolicy.py",
        "state.online if state.target is None else state.target, batch",
        "state.online, batch",
        "targets of the online networks",
    ),
    Fault(
        "algos/test_maddpg.py::test_an_actor_climbs_its_own_critic_through_its_own_action_alone[0]",
        "algos/maddpg.py",
        "value = critic[0](before, done, self.actions.soft(outputs, before.avail, key))",
        "value = critic[0](before, self.actions.soft(outputs, before.avail, key))",
        "through the others' actions",
    ),
    Fault(
        "algos/test_maddpg.py::test_soft_actions_are_where_the_gradient_passes_and_hard_ones_elsewhere[False]",
        "algos/relaxed.py",
        "return jax.nn.one_hot(self.draw(outputs, avail, key), outputs.shape[-1])",
        "return self.soft(outputs, avail, key)",
        "soft actions in the target",
    ),
    Fault(
        f"{INFERRING}guesses_become_the_frequencies_and_flatter_ones_with_the_bonus[0.5]",
        "algos/inferring.py",
        "wanted += self.guess_entropy * self",
        "wanted -= self.guess_entropy * self",
        "the sign of the guesses' entropy",
    ),
    Fault(
        f"{INFERRING}targets_ask_guesses_of_the_others_and_the_own_policy",
        "nets/inferred.py",
        "return x[..., self._pairs()[1], :]",
        "return x[..., self._pairs()[0], :]",
        "guesses of the others from the own observation",
    ),
    Fault(
        f"{INFERRING}guesses_and_critics_keep_out_of_each_others_way",
        "algos/inferring.py",
        '"guesses" if guesses in path else "others"',
        '"others"',
        "guesses clipped for the critics' gradient",
    ),
    Fault(
        f"{ENSEMBLE}every_step_is_the_sub_policys_in_use_with_its_own_memory",
        "nets/ensemble.py",
        "lambda x: _of(x, which[-1])",
        "lambda x: _of(x, which[0])",
        "the memory of a sub-policy whose turn is over",
    ),
    Fault(
        f"{ENSEMBLE}each_learns_from_its_own_steps_alone",
        "nets/ensemble.py",
        "return jnp.where(used[..., None], x, 0.0).sum(0)",
        "y = jnp.where(used[..., None], x, 0.0).sum(0); return y + x.mean(0) - jax.lax.stop_gradient(x.mean(0))",
        "a gradient for those who did not act",
    ),
    Fault(
        f"{ENSEMBLE}draws_are_uniform_and_independent_of_other_agents_and_episodes",
        "nets/ensemble.py",
        "(self.agents.num_agents,), 0, self.size)",
        "(1,), 0, self.size).repeat(self.agents.num_agents)",
        "one draw for all agents",
    ),
    Fault(
        f"{ENSEMBLE}what_was_done_is_what_the_replayed_sub_policies_would_have_done",
        "nets/ensemble.py",
        "jnp.where(turns.episode == 0, drawn, turns.seed)",
        "drawn",
        "a new seed at every step",
    ),
    Fault(
        f"{ATTENTION_CRITIC}an_agents_values_depend_on_the_others_actions_and_not_on_its_own",
        "nets/attention_critic.py",
        "itself = jax.nn.leaky_relu(_each(self.encoder, seen))",
        "itself = jax.nn.leaky_relu(_each(self.encoder, seen)) + action[..., None]",
        "the own action is seen",
    ),
    Fault(
        f"{ATTENTION_CRITIC}attention_is_shared_out_among_the_others[False]",
        "nets/attention_critic.py",
        "jnp.where(others, logits / features**0.5, IMPOSSIBLE)",
        "logits / features**0.5",
        "a share for the agent itself",
    ),
    Fault(
        f"{ATTENTION_CRITIC}it_is_its_equation[agent-False]",
        "nets/attention_critic.py",
        "features = self.value.weight.shape[-1] // self.heads",
        "features = self.value.weight.shape[-1]",
        "the scale of one wide head",
    ),
    Fault(
        f"{MAAC}expected_gradient_is_that_of_soft_returns",
        "algos/maac.py",
        "jax.lax.stop_gradient(self.entropy_temperature * log_pi - advantage)",
        "jax.lax.stop_gradient(-self.entropy_temperature * log_pi - advantage)",
        "the sign of the entropy",
    ),
    Fault(
        f"{MAAC}expected_gradient_is_that_of_soft_returns",
        "algos/maac.py",
        "jax.lax.stop_gradient(self.entropy_temperature * log_pi - advantage)",
        "(self.entropy_temperature * log_pi - advantage)",
        "the gradient of the score",
    ),
    Fault(
        f"{MAAC}a_baseline_spares_variance",
        "algos/maac.py",
        "advantage = counterfactual_advantage(critic(before, drawn).q, log_p, drawn)",
        "advantage = chosen(critic(before, drawn).q, drawn)",
        "no baseline",
    ),
    Fault(
        f"{MAAC}targets_are_soft_returns[0.0]",
        "algos/maac.py",
        "v = chosen(target.critic(after, drawn).q, drawn) - self.entropy_temperature * chosen(log_p[1:], drawn)",
        "v = chosen(target.critic(after, drawn).q, drawn)",
        "no entropy in the targets",
    ),
    Fault(
        f"{MAAC}targets_are_soft_returns[0.6]",
        "algos/maac.py",
        "earned = -self.entropy_temperature * chosen(log_p[:-1], action)",
        "earned = jnp.zeros(action.shape)",
        "no entropy on the way",
    ),
    Fault(
        f"{MAAC}an_update_is_a_step_of_the_critics_and_then_one_of_the_actors_and_targets_follow",
        "algos/maac.py",
        "return share_attention(gradient)",
        "return gradient",
        "attention moves as fast as all agents together",
    ),
    Fault(
        "algos/test_stochastic.py::test_evaluation_is_greedy_whatever_the_key",
        "algos/stochastic.py",
        "self.acting.draw(out.q, ts.avail, key) if explore else self.acting.greedy(out.q, ts.avail)",
        "self.acting.draw(out.q, ts.avail, key)",
        "sampling left on in evaluation",
    ),
    Fault(
        "nets/test_distributions.py::test_a_gaussian_is_scipys_over_the_components_that_there_are",
        "nets/distributions.py",
        "return self._own(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)",
        "return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)",
        "padded components counted in the log-probability",
    ),
    Fault(
        "algos/test_relaxed.py::test_vectors_are_a_tanh_with_noise_only_where_they_explore",
        "algos/relaxed.py",
        "return jnp.where(avail, jnp.tanh(outputs), 0.0)",
        "return jnp.where(avail, outputs, 0.0)",
        "tanh left out",
    ),
    Fault(
        "algos/test_relaxed.py::test_soft_draws_are_done_as_they_are_and_greedy_is_a_corner",
        "algos/relaxed.py",
        "return jnp.where(avail, 2.0 * y - 1.0, 0.0)",
        "return jnp.where(avail, y, 0.0)",
        "shares in [0, 1]",
    ),
    Fault(
        "algos/test_continuous.py::test_the_previous_vector_is_seen_as_it_is",
        "types.py",
        "return action if jnp.issubdtype(action.dtype, jnp.floating) else jax.nn.one_hot(action, num_actions)",
        "return jax.nn.one_hot(action.argmax(-1) if action.dtype == jnp.float32 else action, num_actions)",
        "a vector taken for an index",
    ),
    Fault(
        "envs/adapters/test_jaxmarl.py::test_continuous_worlds_do_what_the_discrete_ones_do_at_their_corners",
        "envs/adapters/jaxmarl.py",
        "share = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0",
        "share = jnp.clip(action, -1.0, 1.0)",
        "not stretched to [0, 1]",
    ),
    Fault(
        f"{SERIES}arrays_that_were_altered_are_found_out",
        "training/checkpoint.py",
        'if digest(state) != about["digest"]:',
        'if digest(state) == "":',
    ),
    Fault(f"{SERIES}the_latest_and_the_best_are_kept", "training/checkpoint.py", "if step != best:", "if step:"),
    Fault(
        "training/test_logging.py::test_what_will_be_written_again_is_cut_and_the_rest_stays_to_the_letter",
        "training/logging.py",
        "steps <= reached.get(seed, 0)",
        "steps <= 2 * reached.get(seed, 0)",
    ),
    Fault(
        "training/test_stopping.py::test_no_chunk_is_begun_that_would_end_too_late",
        "training/stopping.py",
        "if now + took > self._until:",
        "if now > self._until:",
    ),
]


def name_of(fault: Fault) -> str:
    return " ".join(filter(None, (fault.test, fault.where)))


def copy_of_the_project(folder: Path) -> Path:
    """The source, to be spoilt, and its tests."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Tests, on the source of that folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.faults
def test_without_a_fault_the_copy_passes(tmp_path: Path) -> None:
    done = run(copy_of_the_project(tmp_path), SUITE, *dict.fromkeys(slip.test for slip in SLIPS))
    assert done.returncode == 0, done.stdout


@pytest.mark.faults
@pytest.mark.parametrize("fault", [*FAULTS, *SLIPS], ids=name_of)
def test_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    file = copy_of_the_project(tmp_path) / "src" / "comarl" / fault.file
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    done = run(tmp_path, fault.test if fault in SLIPS else f"{SUITE}::{fault.test}")
    assert done.returncode == 1, done.stdout
    # A wrong number or a missing refusal, not a program that no longer runs.
    assert re.search(r"^E +(AssertionError|assert |Failed: DID NOT RAISE)", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("fault", [*FAULTS, *SLIPS], ids=name_of)
def test_what_is_quoted_stands_in_the_source(fault: Fault) -> None:
    """Once. If a line has moved on, quote it anew."""
    assert (ROOT / "src" / "comarl" / fault.file).read_text(encoding="utf-8").count(fault.right) == 1


@pytest.mark.parametrize("slip", SLIPS, ids=name_of)
def test_who_must_notice_is_there(slip: Fault) -> None:
    file, test = slip.test.split("[")[0].split("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_every_fault_is_put_back() -> None:
    """No test of the suite is left out (the first part of resuming is the weights themselves, which nobody forgets)."""
    suite = (ROOT / "tests" / SUITE).read_text(encoding="utf-8")
    tests = set(re.findall(r"^def (test_\w+)", suite, re.MULTILINE))
    assert {fault.test.split("[")[0] for fault in FAULTS} == tests
