"""Experiments that show what fast trainable projection buys, on real data."""
