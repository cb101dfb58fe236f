"""Every Python snippet of the README runs, in order, as one program."""

import pathlib
import re

import jax.numpy as jnp
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)


def test_the_first_snippet_needs_jax_and_optax_alone():
    imports = set(re.findall(r"^(?:import|from) (\w+)", SNIPPETS[0], re.M))
    assert imports == {"jax", "optax", "ftp_optax"}


def test_the_snippets_run_and_train(capsys):
    pytest.importorskip("flax", reason="the README shows flax loops")
    names = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, README.name, "exec"), names)
    assert names["radii"](names["state"], names["params"])["body/kernel"] > 0.01
    drift = names["params"]["body"]["kernel"] - names["pretrained"]["body"]["kernel"]
    assert jnp.abs(drift).max() > 1e-3
    assert names["losses"][-1] < names["losses"][0]
    printed = capsys.readouterr().out
    assert "body/kernel: radius" in printed
    assert "(12,)" in printed
