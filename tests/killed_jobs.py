"""Small jobs that go on from what a kill before any change of a file would leave.

    LD_PRELOAD=killed_jobs.so python -m killed_jobs JOB FOLDER NTH

runs a job once, its folder copied before every NTH change of a file in it, and starts
it again from each copy that differs from those before it. Prints a JSON object a line:
first the changes that the whole job makes, then each copy from which a start failed or
ended with other figures, then the number of starts. A start is a fork of this process,
which has imported what the jobs need, and in which jax has not begun.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import shutil
import sys
import traceback

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorboardX  # noqa: F401  (a job imports it late, and it takes seconds)
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from drawn_images import draw_folder
from experiments import quickstart, records, studies, sweep, train
from experiments.data import digits, sources
from experiments.report.__main__ import main as report
from mocked_runs import IMAGES, QUIET, small_config
from run_records import record, write_run

TIMES = ("seconds", "images_per_second", "machine")
TIMED = (f"{records.SELECTED}.sha256", records.DIGESTS)  # of files that hold times

# ---- Jobs: each leaves all it makes in `out`; what it reads is beside it -------------


def a_training(out):
    config = small_config(method="ftp", optimizer="sgd", steps=2, save_every=1)
    train.run(config, out, QUIET)


def a_sweep(out):
    config = ConfigDict({"tune": {}, "final": {}, "tune_seeds": (0,)})
    config.final_seeds = (0, 1)  # one that tuned, and another
    config.run = small_config(optimizer="sgd", steps=1)
    config.settings = {"fine-tune": ((1e-3, None),), "wise-ft": ((1e-3, 0.5),)}
    config.methods = tuple(config.settings)
    sweep.sweep(config, out, QUIET)


def a_quickstart(out):
    methods = ("linear-probe", "ftp")
    quickstart.SETTINGS = {k: quickstart.SETTINGS[k][:1] for k in methods}
    of = quickstart.digits.get_config

    def small(part):
        config = of(part)
        run = config.run if part == "study" else config
        tests = {name: f"digits:{name}" for name in (digits.CLEAN, *digits.KEPT[:1])}
        run.evaluation.tests = ConfigDict(tests)
        run.evaluation.wise_alphas = ()
        run.data.validation = "digits:val"
        return config

    quickstart.digits.get_config = small
    quickstart.quickstart(1, out, True, QUIET)


def a_preparation(out):
    sources.open_source("image_folder:train", out, out.with_name("images"))


def a_report(out):
    assert report([str(out.with_name("runs")), "--out", str(out)]) == 0


JOBS = {
    job.__name__.removeprefix("a_"): job
    for job in (a_training, a_sweep, a_quickstart, a_preparation, a_report)
}


def lay_out(folder):
    """What the jobs read."""
    draw_folder(folder / "images", {"train": {"cat": 2, "dog": 1}})
    write_run(folder / "runs", record("linear-probe", None, 1.0, 0))
    digits.splits()  # drawn once, by none of the starts


# ---- What must be the same, however often a job was killed --------------------------


def figures(out):
    """Digests of all files that a job leaves in the end, times and machine apart."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if visible(p.relative_to(out))):
        name = str(path.relative_to(out))
        if path.is_dir():
            found[name] = arrays(path) if path.name == records.SELECTED else ""
        elif path.name == records.METRICS:
            found[name] = digest(json.dumps(untimed(json.loads(path.read_text()))))
        elif path.name == studies.FILE:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = digest(json.dumps([*map(untimed, lines)]))
        else:
            timed = path.name in TIMED or (out / studies.FILE).exists()
            found[name] = "" if timed else digest(path.read_bytes())
    return found


def visible(path):
    """Not what TensorBoard is shown, not what is hidden, not how `selected` is kept."""
    inner = path.parts[:-1]
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and not {"tensorboard", records.SELECTED} & {*inner}


def untimed(content):
    return {k: v for k, v in content.items() if k not in TIMES}


def digest(content):
    content = content if isinstance(content, bytes) else content.encode()
    return hashlib.sha256(content).hexdigest()[:16]


def arrays(folder):
    with ocp.StandardCheckpointer() as checkpointer:
        content = checkpointer.restore(folder.absolute())
    leaves = [np.asarray(x) for x in jax.tree.leaves(content)]
    return digest(b"".join(x.tobytes() for x in leaves))


# ---- Kills ---------------------------------------------------------------------------


def started(job, out, copies=None, nth=1):
    """Runs a job in a fork, which copies its folder if there is a place for that.

    Returns:
      The exit status, and what the job left and how many changes it made, if it ended.
    """
    told = out.with_name("told.json")
    told.unlink(missing_ok=True)
    if not (child := os.fork()):
        status = 1
        with contextlib.suppress(BaseException):
            os.dup2(2, 1)
            try:
                begin_jax()
                shim = ctypes.CDLL(None)
                if copies:
                    places = map(os.fsencode, (out, copies))
                    shim.copy_before_changes(*places, ctypes.c_long(nth))
                JOBS[job](out)
                changes = shim.stop_copying()
                told.write_text(json.dumps([figures(out), changes]))
                status = 0
            except BaseException:
                traceback.print_exc()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, *(json.loads(told.read_text()) if status == 0 else (None, 0))


def begin_jax():
    cache = pathlib.Path(__file__).parents[1] / ".cache" / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def main(job, folder, nth):
    folder = pathlib.Path(folder)
    lay_out(folder)
    out, copies = folder / "out", folder / "copies"
    copies.mkdir()
    status, whole, changes = started(job, out, copies, int(nth))
    say(changes=changes, status=status)
    seen = set()
    for copy in sorted(copies.iterdir(), key=lambda path: int(path.name)):
        paths = sorted(copy.rglob("*"))
        held = [(p.relative_to(copy), p.is_file() and p.read_bytes()) for p in paths]
        content = digest(repr(held))
        if content not in seen:
            shutil.rmtree(out, ignore_errors=True)
            copy.rename(out)
            status, found, _ = started(job, out)
            if status or found != whole:
                found = found or {}
                names = sorted({*whole, *found})
                differ = [k for k in names if whole.get(k) != found.get(k)]
                say(change=int(copy.name), status=status, differ=differ)
        seen.add(content)
    say(starts=len(seen))


def say(**line):
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    with tfds.testing.mock_data(num_examples=IMAGES):
        main(*sys.argv[1:])
