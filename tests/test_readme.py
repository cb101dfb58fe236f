"""Every Python snippet of README and documentation runs, each page as one program."""

import contextlib
import functools
import io
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
MADE = ("_build", "studies")  # folders that building the documentation leaves
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if not set(MADE) & set(page.relative_to(DOCS).parts)
]


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    """What pages write is written here."""
    with contextlib.chdir(tmp_path_factory.mktemp("pages")):
        yield


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


@functools.cache
def run(page):
    """The names that a page's snippets leave behind, and what they print."""
    text = page.read_text("utf-8")
    if page != README and "flax import" in text:
        pytest.importorskip("flax", reason=f"{page.name} shows flax loops")
    # A page that tells of the first snippet goes on with its names.
    goes_on = "first snippet" in " ".join(text.split())
    names = dict(run(README)[0]) if goes_on else {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for snippet in snippets(page):
            exec(compile(snippet, page.name, "exec"), names)
    return names, printed.getvalue()


def titles(text):
    """The headings of a page, with the names that links call them by."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    slug = lambda title: re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return {slug(title): title for title in headings}


# ---- The README --------------------------------------------------------------------


def test_the_readme_is_read_in_minutes():
    assert len(README.read_text("utf-8")) <= 7500


def test_the_first_snippet_needs_jax_and_optax_alone():
    imports = set(re.findall(r"^(?:import|from) (\w+)", snippets(README)[0], re.M))
    assert imports == {"jax", "optax", "ftp_optax"}


def test_the_first_snippet_trains():
    names, printed = run(README)
    assert names["radii"](names["state"], names["params"])["body/kernel"] > 0.01
    drift = names["params"]["body"]["kernel"] - names["pretrained"]["body"]["kernel"]
    assert jnp.abs(drift).max() > 1e-3
    assert "body/kernel" in printed


def test_the_links_of_the_readme_lead_to_files_and_headings():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text("utf-8"))
    assert len(links) > 15
    for link in links:
        path, _, heading = link.partition("#")
        assert (ROOT / path).is_file(), link
        if heading:
            assert heading in titles((ROOT / path).read_text("utf-8")), link


# ---- The pages ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem) for page in PAGES if snippets(page)]
)
def test_the_snippets_of_a_page_run(page):
    names, _ = run(page)
    assert names


def test_no_two_pages_have_one_title():
    first = [next(iter(titles(page.read_text("utf-8")).values())) for page in PAGES]
    assert len(set(first)) == len(first) > 20


def test_the_guide_prints_each_radius_and_hands_the_gradient_to_a_link():
    names, printed = run(DOCS / "guide.md")
    assert "body/kernel: radius" in printed
    step = names["updates"]  # the first, which leaves what is constrained in its place
    assert jnp.abs(step["body"]["kernel"]).max() < 1e-6
    assert jnp.abs(step["head"]["kernel"]).max() > 1e-3


def test_the_loops_of_the_recipes_train():
    names, _ = run(DOCS / "recipes.md")
    assert names["losses"][-1] < names["losses"][0]
    assert names["train_state"].step == 1
    for path, radius in names["radii"](names["eqx_state"], names["eqx_params"]).items():
        assert radius > 0.01, path


def test_the_chain_of_big_vision_trains_within_its_radii():
    names, _ = run(DOCS / "recipes.md")
    (radius,) = names["radii"](names["bv_state"], names["bv_params"]).values()
    body, head = (names["bv_params"][part]["kernel"] for part in ("body", "head"))
    drift = jnp.abs(body - names["pretrained"]["body"]["kernel"]).sum(0).max()
    assert 1e-3 < drift <= radius * (1 + 1e-4)
    assert jnp.abs(head - names["params"]["head"]["kernel"]).max() > 1e-2


@pytest.mark.parametrize("page", ["recipes.md", "monitoring.md"])
def test_a_page_prints_what_it_says(page):
    _, printed = run(DOCS / page)
    code = "".join(snippets(DOCS / page))
    said = re.findall(r"^print\(.*\)  # (.*)$", code, re.M)
    assert printed.splitlines() == said != []


def test_a_loop_under_jit_writes_its_radii_for_tensorboard():
    run(DOCS / "monitoring.md")
    (events,) = pathlib.Path("runs/radii").iterdir()
    assert events.read_bytes().count(b"radius/body/kernel") == 10


def test_the_step_that_schedules_are_read_by_counts_the_updates():
    assert run(DOCS / "monitoring.md")[0]["step"] == 20


def test_accumulated_micro_batches_train_as_the_whole_batch():
    names, _ = run(DOCS / "monitoring.md")
    trees = [
        (params, names["radii"](state, params))
        for params, state in (
            (names["halved"], names["halved_state"]),
            (names["whole"], names["whole_state"]),
        )
    ]
    for halved, whole in zip(*map(jax.tree.leaves, trees), strict=True):
        assert jnp.allclose(halved, whole, rtol=1e-3, atol=1e-5)
        assert jnp.abs(whole).max() > 1e-2


@pytest.mark.parametrize("name", ["again", "slim"])
def test_a_checkpoint_comes_back_whole(name):
    names, _ = run(DOCS / "monitoring.md")
    restored = names[name], names[f"{name}_state"]
    saved = names["whole"], names["whole_state"]
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for one, other in zip(*map(jax.tree.leaves, (restored, saved)), strict=True):
        assert (one == other).all()
    assert names["optax"].tree.get(names["saved"], "anchor") is None


def test_a_state_has_the_shardings_of_its_params():
    names, _ = run(DOCS / "devices.md")
    specs = names["optax"].tree.get(names["state_specs"], "anchor")
    assert specs["body"]["kernel"] == names["P"](None, "model")


def test_the_snippet_of_tpgm_trains_radii_and_projects_onto_them():
    names, _ = run(DOCS / "methods" / "tpgm.md")
    (radius,) = names["radii"](names["radius_state"], names["params"]).values()
    drift = names["params"]["body"]["kernel"] - names["pretrained"]["body"]["kernel"]
    assert 0.0 < jnp.abs(drift).sum(0).max() <= radius * (1 + 1e-5)


def test_the_recipe_of_a_linear_probe_trains_the_head_alone():
    names, _ = run(DOCS / "methods" / "linear_probe.md")
    params = {"body": {"kernel": jnp.ones((2, 2))}, "head": {"bias": jnp.ones(2)}}
    updates, _ = names["probe"].update(params, names["probe"].init(params), params)
    assert not updates["body"]["kernel"].any()
    assert updates["head"]["bias"].all()


def test_the_recipe_for_a_train_step_prints_what_the_page_says():
    _, printed = run(DOCS / "performance.md")
    passes, copies = printed.split()
    (recipe,) = snippets(DOCS / "performance.md")
    said = re.findall(r": ([\d.]+)$", recipe, re.M)
    assert [f"{float(passes):.2f}", copies] == said
