"""VDN, value-decomposition networks (Sunehag et al. 2018), and its variant with a state value."""

from jaxtyping import Array, Float, PRNGKeyArray

from comarl.mixers.base import FactoredMixer, Joint
from comarl.nets.layers import MLP


class VDN(FactoredMixer):
    """Q_tot = Σ_i Q_i."""

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        return joint.chosen.sum()


class VDNS(FactoredMixer):
    """VDN-S: Q_tot = Σ_i Q_i + V(s), an ablation of QMIX (Rashid et al. 2018, §6.1)."""

    value: MLP

    def __init__(self, state_dim: int, *, embed: int = 32, key: PRNGKeyArray):
        self.value = MLP((state_dim, embed, 1), key=key)

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        return joint.chosen.sum() + self.value(joint.ts.state)[0]
