"""Data sets and the shifts that are applied to them."""
