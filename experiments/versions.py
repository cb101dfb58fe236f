"""Which versions may numbers depend on?"""

import importlib.metadata

import ftp_optax

PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy")


def versions(*others: str) -> dict[str, str]:
    """Versions of this package, of what every number rests on, and of `others`."""
    found = {name: importlib.metadata.version(name) for name in (*PACKAGES, *others)}
    return {"ftp_optax": ftp_optax.__version__, **found}
