"""IQL, independent Q-learning (Tan 1993): no mixing, one temporal-difference loss per agent."""

from jaxtyping import Array, Float

from comarl.mixers.base import FactoredMixer, Joint


class IQL(FactoredMixer):
    """Each agent's value is its own utility, ``[N]``."""

    def __call__(self, joint: Joint) -> Float[Array, " N"]:
        return joint.chosen
