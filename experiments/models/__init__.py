"""Networks, written in flax nnx."""
