"""What a spoilt checkpoint, a full disk, or a second process do to a run: nothing."""

import fcntl
import shutil
import subprocess
import sys
import threading

import pytest

from experiments import train
from experiments.cli import ending, folder_of
from experiments.files import RecordError, checksum, write_bytes
from experiments.progress import Display, Interrupted
from experiments.run_folder import Log
from mocked_runs import IMAGES, QUIET, in_a_child, same, small_config, stop_at

pytestmark = pytest.mark.usefixtures("mocked_data")


def config(**changes):
    return small_config(method="ftp", steps=7, save_every=2, **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The record of an uninterrupted run, and the folder of one that was stopped."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("runs")
    with (
        tfds.testing.mock_data(num_examples=IMAGES),
        pytest.MonkeyPatch.context() as patch,
    ):
        whole = train.run(config(), folder / "whole", QUIET)
        stop_at(patch, 5)
        with pytest.raises(Interrupted):
            train.run(config(), folder / "stopped", QUIET)
    return whole, folder / "stopped"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


DAMAGES = {
    "an array cut off": lambda step: truncate(largest(step / "arrays")),
    "an emptied array": lambda step: largest(step / "arrays").write_bytes(b""),
    "a flipped bit": lambda step: flip(largest(step / "arrays")),
    "an edited iterator": lambda step: flip(largest(step / "train")),
    "an empty log": lambda step: largest(step / "log").write_text("{}"),
    "a log that is gone": lambda step: shutil.rmtree(step / "log"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_taken(
    damage, runs, tmp_path, capsys
):
    whole, stopped = runs
    out = shutil.copytree(stopped, tmp_path / "run")
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["4", "5"]
    DAMAGES[damage](out / "checkpoints/5")
    record = train.run(config(), out, Display())
    same(record, whole)
    said = capsys.readouterr().out
    assert f"{out}/checkpoints/5 is damaged or incomplete" in said
    assert said.count("is damaged") == 1


def test_damaged_parameters_are_not_started_from(runs, tmp_path):
    out = shutil.copytree(runs[1].with_name("whole"), tmp_path / "run")
    flip(largest(out / "selected/d"))
    other = small_config(**{"io.weights": str(out)})
    with pytest.raises(RecordError, match=r"run/selected is damaged"):
        train.run(other, tmp_path / "other", QUIET)


def test_only_what_would_be_overwritten_refuses_a_folder(tmp_path):
    for name in (".config.json.123", ".DS_Store", "train.log"):
        (tmp_path / name).write_text("{")
    train.run(small_config(), tmp_path, QUIET)
    assert (tmp_path / "train.log").read_text() == "{"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metrics.json").write_text("{}")
    with pytest.raises(RecordError, match="no run's folder"):
        train.run(small_config(), tmp_path / "other", QUIET)


def test_a_second_process_is_told_who_has_the_folder(tmp_path):
    with (tmp_path / ".lock").open("w") as file:  # what a dead process leaves
        file.write("process 1 on another since yesterday")
    train.run(small_config(), tmp_path, QUIET)
    assert "process 1 on" not in (tmp_path / ".lock").read_text()
    with (tmp_path / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = in_a_child(f"""
            from experiments.cli import ending
            out = pathlib.Path({str(tmp_path)!r})
            sys.exit(ending("job", lambda: train.run(small_config(), out, QUIET)))
        """)
    assert done.returncode == 2
    assert "is in use by process " in done.stderr
    assert " since 2" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def remount(disk, options):
    command = ["mount", "-o", f"remount,{options}", str(disk)]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("left", [2_000, 100_000])  # bytes, for the log, for arrays
def test_a_run_goes_on_when_a_full_disk_has_room_again(left, small_disk, runs):
    filler, out = small_disk / "filler", small_disk / "run"
    filler.write_bytes(bytes(300_000 - left))
    done = in_a_child(f"""
        from experiments.cli import ending
        config = small_config(method="ftp", steps=7, save_every=2)
        out = pathlib.Path({str(out)!r})
        sys.exit(ending("job", lambda: train.run(config, out, QUIET)))
    """)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
    filler.unlink()
    remount(small_disk, "size=20m")
    record = train.run(config(), out, QUIET)
    same(record, runs[0])


def test_a_log_on_a_full_disk_says_so_and_waits_for_nobody(small_disk):
    log = Log(small_disk, 0, None)
    (small_disk / "filler").write_bytes(bytes(290_000))
    losses = {f"loss {i}": 0.5 for i in range(1000)} | {"loss": 0.5}
    with pytest.raises(OSError, match="No space left"):
        log.observe(1, losses, {})
    with pytest.raises(OSError, match="tensorboard cannot be written"):
        log.close()


@pytest.fixture
def hooks(monkeypatch):
    """What `ending` sets for the process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.mark.usefixtures("hooks")
def test_a_run_goes_on_when_a_disk_is_no_longer_read_only(small_disk, runs, capsys):
    out = small_disk / "run"
    remount(small_disk, "size=20m")
    shutil.copytree(runs[1], out)
    remount(small_disk, "ro")
    assert ending("job", lambda: train.run(config(), out, QUIET)) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said
    assert said.count("\n") == 1
    remount(small_disk, "rw")
    same(train.run(config(), out, QUIET), runs[0])


@pytest.mark.usefixtures("hooks")
@pytest.mark.parametrize("out", ["file/run", "x" * 300, "nul\0"])
def test_a_folder_that_cannot_be_is_one_line(out, tmp_path, capsys):
    (tmp_path / "file").touch()
    job = lambda: train.run(small_config(), folder_of(f"{tmp_path}/{out}"), QUIET)
    assert ending("job", job) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_cannot_be_written_whole_is_not_there(small_disk):
    with pytest.raises(OSError, match="No space left"):
        write_bytes(small_disk / "page.html", b"x" * 400_000)
    assert not [*small_disk.iterdir()]


def test_a_checksum_covers_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("1")
    first = checksum(tmp_path)
    (tmp_path / "a/x").rename(tmp_path / "a/y")
    assert checksum(tmp_path) != first
    (tmp_path / "a/y").rename(tmp_path / "a/x")
    assert checksum(tmp_path) == first
    (tmp_path / "a/x").write_text("2")
    assert checksum(tmp_path) != first
