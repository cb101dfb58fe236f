"""Which file may import which: arrows point downwards only."""

import ast
import functools
import pathlib
import re

import experiments

ROOT = pathlib.Path(next(iter(experiments.__path__)))
# From the top down: a room imports those that come after it, never one before.
ROOMS = (
    *("sweep", "studies", "plan", "train", "setup", "cli", "progress", "start"),
    *("evaluation", "run_folder", "schema", "step", "optimizer", "records", "tasks"),
    *("methods", "models", "configs", "data", "files"),
)


@functools.cache
def imported(name):
    """The modules of the harness that a module imports when it is loaded."""
    found = set()
    # What a function imports when it is called is not loaded with the module.
    for node in ast.parse(file_of(name).read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {module for module in named if is_ours(module)}
            found |= modules or {node.module}
            # What is taken from a package itself needs its own file too.
            found |= {node.module} if modules != named else set()
    return found


def is_ours(name):
    return name.split(".")[0] == "experiments" and file_of(name) is not None


def file_of(name):
    path = ROOT.parent.joinpath(*name.split("."))
    files = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in files if file.exists()), None)


def closure(name):
    """All that loading a module loads of the harness."""
    seen, waiting = set(), [name]
    while waiting:
        if (module := waiting.pop()) not in seen:
            seen.add(module)
            waiting += [m for m in imported(module) if is_ours(m)]
    return seen


def modules(*folders):
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    names = [f.relative_to(ROOT.parent).with_suffix("").as_posix() for f in files]
    return [n.replace("/", ".").removesuffix(".__init__") for n in names]


def test_data_and_configurations_know_no_jax_and_nothing_above_them():
    for name in modules("data", "configs"):
        for module in closure(name):
            libraries = {other.split(".")[0] for other in imported(module)}
            assert not libraries & {"jax", "flax", "optax", "ftp_optax"}, module
        rooms = {m.split(".")[1] for m in closure(name) if m != "experiments"}
        assert rooms <= {"data", "configs"}, name


def test_the_harness_does_not_import_the_demo_or_the_report():
    demo = ("experiments.quickstart", "experiments.report")
    for name in closure("experiments.sweep"):
        assert not name.startswith(demo)


def test_no_import_runs_back_up():
    for name in closure("experiments.sweep") - {"experiments"}:
        for other in filter(is_ours, imported(name)):
            here, there = (
                ROOMS.index(module.split(".")[1]) for module in (name, other)
            )
            assert here <= there, f"{name} imports {other}"


def test_no_import_goes_in_a_circle():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(filter(is_ours, imported(name))):
            visit(other)
        done.add(path.pop())

    visit("experiments.sweep")


def test_one_training_run_is_read_downwards_in_thirty_files():
    read = closure("experiments.train")
    # Of networks and of tasks one reads that which is trained.
    others = [
        [m for m in read if re.search(rf"^{name}\b", file_of(m).read_text(), re.M)]
        for name in ("NETWORKS", "TASK")
    ]
    assert len(read) - sum(len(kind) - 1 for kind in others) <= 30, sorted(read)
