"""Teams that act outside training: what they are written to, and how they are played without JAX."""
