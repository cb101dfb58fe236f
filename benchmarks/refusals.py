"""Which settings does the library refuse, and why? A new one is one line."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contenders import adamw
from ftp_optax import with_ftp


class Setting(NamedTuple):
    """Arguments of `with_ftp` that do not go together, or not with these params."""

    label: str
    arguments: dict[str, Any]
    dtype: str = "float32"  # of the params


IMPLICIT = {"anchor": "implicit"}
SETTINGS = (
    Setting(
        "anchor='implicit', displacement_dtype='int8'",
        IMPLICIT | {"displacement_dtype": "int8"},
    ),
    Setting(
        "anchor='implicit', displacement_dtype='bfloat16'",
        IMPLICIT | {"displacement_dtype": "bfloat16"},
    ),
    Setting(
        "anchor='implicit', anchor_memory='pinned_host'",
        IMPLICIT | {"anchor_memory": "pinned_host"},
    ),
    Setting("anchor='implicit', bfloat16 params", IMPLICIT, "bfloat16"),
    Setting(
        "displacement_dtype='int8', hypergradient='active'",
        {"displacement_dtype": "int8", "hypergradient": "active"},
    ),
)


def reason(setting: Setting) -> str | None:
    """The first sentence of the error; `None` if the library accepts the setting."""
    # 1/3 is exact in no binary format.
    params = {"kernel": jnp.full((4, 3), 1 / 3, setting.dtype)}
    return why_not(setting.arguments, params)


def why_not(arguments: dict[str, Any], params: Any) -> str | None:
    """Why `with_ftp` cannot run so on these params: the error's first sentence."""
    try:
        tx = with_ftp(adamw(), **arguments)
        state = tx.init(params)
        jax.eval_shape(tx.update, params, state, params)
    except (TypeError, ValueError) as error:
        return first_sentence(str(error))
    return None


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends one, on one line."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."
