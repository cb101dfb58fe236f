"""Runs mutants against the tests that should notice them: `python -m tests.mutants`.

What it prints, writes and returns is told in the docstring of the package.
"""

import argparse
import hashlib
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.mutants import mutant
from tests.mutants.mutant import ROOT, Mutant

RESULTS = ROOT / ".cache" / "mutants.jsonl"
PATIENCE = 300  # seconds, after which a mutant is taken to hang
KILLED, SURVIVED = "killed", "survived"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", help="parts of a file's name or a phrase")
    parser.add_argument("--package", choices=mutant.packages(), help="default: each")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="those killed before too")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    packages = [arguments.package] if arguments.package else mutant.packages()
    mutants = [
        m
        for package in packages
        for m in mutant.listed(package)
        if not arguments.names or any(name in m.name for name in arguments.names)
    ]
    unfit = [m for m in mutants if not _fits(m)]
    if arguments.list:
        for m in mutants:
            print(f"{m.name}  ({' '.join(m.tests)} -k {m.select!r})")
        return bool(unfit)
    known = set() if arguments.again else _killed_before()
    waiting = [m for m in mutants if m not in unfit and _digest(m) not in known]
    print(f"{len(mutants)} mutants, {len(waiting)} to run", flush=True)
    outcomes = _run(waiting, arguments.jobs) if waiting else {}
    others = [name for name, outcome in outcomes.items() if outcome != KILLED]
    print(f"{len(mutants) - len(unfit) - len(others)} of {len(mutants)} killed")
    for name in others:
        print(f"{outcomes[name]}: {name}")
    return bool(unfit or others)


def _fits(m: Mutant) -> bool:
    try:
        m.made_of(m.source(ROOT).read_text())
        for file in m.test_files:
            (ROOT / file).read_bytes()
    except (ValueError, OSError) as error:
        print(f"{m.name}: {error}", file=sys.stderr)
        return False
    return True


def _run(mutants: list[Mutant], jobs: int) -> dict[str, str]:
    """The outcome of each by its name, printed and kept as they come."""
    digests = list(map(_digest, mutants))  # the checkout may change meanwhile
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.Queue[pathlib.Path] = queue.Queue()
        for i in range(jobs):
            copies.put(_copy(pathlib.Path(folder) / str(i)))
        _refuse_failing(copies.queue[0], mutants)

        def outcome(m: Mutant, digest: str) -> str:
            root, start = copies.get(), time.monotonic()
            source = m.source(root)
            text = source.read_text()
            source.write_text(m.made_of(text))
            try:
                found = _verdict(_pytest(root, m.test_files, m.select))
            except subprocess.TimeoutExpired:
                found = KILLED
            finally:
                source.write_text(text)
                copies.put(root)
            seconds = round(time.monotonic() - start, 1)
            print(f"{found:9}{seconds:6.1f} s  {m.name}", flush=True)
            _keep({"mutant": m.name, "outcome": found, "digest": digest})
            return found

        with ThreadPoolExecutor(jobs) as pool:
            outcomes = pool.map(outcome, mutants, digests)
            return dict(zip([m.name for m in mutants], outcomes, strict=True))


def _copy(root: pathlib.Path) -> pathlib.Path:
    """What git knows of the checkout, or would; compiled programs are shared."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (root / ".cache").symlink_to(ROOT / ".cache")
    return root


def _refuse_failing(root: pathlib.Path, mutants: list[Mutant]) -> None:
    """Tests that fail by themselves would kill every mutant."""
    files = sorted({file for m in mutants for file in m.test_files})
    select = " or ".join(sorted({m.expression for m in mutants}))
    done = _pytest(root, files, select, patience=None)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nThe tests fail without a mutant.")


def _pytest(
    root: pathlib.Path,
    files: Sequence[str],
    select: str,
    patience: float | None = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    # Python trusts what it compiled of a file until the file's date or size changes.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--no-header"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", *files, "-k", select],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
    )


def _verdict(done: subprocess.CompletedProcess[str]) -> str:
    """What pytest's exit status says; only a test that failed kills."""
    verdicts = {0: SURVIVED, 1: KILLED, 2: "not collected", 5: "no test selected"}
    return verdicts.get(done.returncode, f"pytest ended with {done.returncode}")


# ---- What is known -----------------------------------------------------------------


def _digest(m: Mutant) -> str:
    """Of all that its outcome depends on, but for what the tests share."""
    sources = sorted((ROOT / m.package).rglob("*.py"))
    paths = [*sources, *(ROOT / file for file in m.test_files)]
    parts = [repr(m), *(path.read_text() for path in paths)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _killed_before() -> set[str]:
    if not RESULTS.exists():
        return set()
    rows = map(json.loads, RESULTS.read_text().splitlines())
    return {row["digest"] for row in rows if row["outcome"] == KILLED}


def _keep(row: dict[str, str]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
