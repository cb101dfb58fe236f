"""Every Python snippet of the README runs, in order, as one program; a recipe too."""

import pathlib
import re

import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"


def snippets(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)


SNIPPETS = snippets(README)


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


def test_the_recipe_of_a_linear_probe_trains_the_head_alone():
    (recipe,) = snippets(ROOT / "docs" / "methods" / "linear_probe.md")
    names = {}
    exec(compile(recipe, "linear_probe.md", "exec"), names)
    params = {"body": {"kernel": jnp.ones((2, 2))}, "head": {"bias": jnp.ones(2)}}
    updates, _ = names["probe"].update(params, names["probe"].init(params), params)
    assert not updates["body"]["kernel"].any()
    assert updates["head"]["bias"].all()


def test_the_recipe_for_a_train_step_prints_what_the_page_says(capsys):
    (recipe,) = snippets(ROOT / "docs" / "performance.md")
    exec(compile(recipe, "performance.md", "exec"), {})
    passes, copies = capsys.readouterr().out.split()
    said = re.findall(r": ([\d.]+)$", recipe, re.M)
    assert [f"{float(passes):.2f}", copies] == said
