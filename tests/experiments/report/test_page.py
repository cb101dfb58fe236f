"""The page in a real browser: it renders, sorts by keyboard, and runs nothing else."""

import html
import json
import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.report.__main__ import main
from run_records import ATTACK, hostile, record, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs one of {', '.join(NAMES)} to look at the page"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-dev-shm-usage", "--v=0"),
    *("--virtual-time-budget=5000", "--enable-logging=stderr"),
)


def browse(page, profile, *flags):
    """Opens a page; returns what it printed, and the lines of its console."""
    found = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    return found.stdout, console


def answer(page, tmp_path, script):
    """What a script leaves in `found` once the page has loaded."""
    probed = tmp_path / "probed.html"
    code = f"onload = () => {{ const found = {{}}; {script}"
    code += "; document.title = JSON.stringify(found); }"
    probed.write_text(f"{page.read_text()}<script>{code}</script>")
    dom, console = browse(probed, tmp_path / "profile", "--dump-dom")
    assert console == []
    return json.loads(dom.split("<title>")[1].split("</title>")[0])


@pytest.fixture(scope="module")
def page(swept):
    return swept / "report" / "index.html"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_renders_without_errors(page, tmp_path, dark):
    picture = tmp_path / "page.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    flags = ("--window-size=1200,1600", f"--screenshot={picture}", *scheme)
    _, console = browse(page, tmp_path / "profile", *flags)
    assert console == []
    image = plt.imread(picture)[..., :3]
    assert image.shape == (1600, 1200, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100  # not blank
    assert (image.mean() < 0.5) == dark


SORT = """
const table = document.querySelector("table");
const heads = [...table.tHead.rows[0].cells];
const ood = heads.findIndex((head) => head.textContent === "OOD");
const rows = table.tBodies[0].rows;
const column = () => [...rows].map((row) => row.cells[ood].textContent);
const button = heads[ood].firstElementChild;
button.focus();
found.focused = document.activeElement === button;
button.click();
found.falling = column().map(parseFloat);
found.sort = heads[ood].getAttribute("aria-sort");
button.click();
found.rising = column().map(parseFloat);
found.loaded = [...document.images].every((image) => image.naturalWidth > 300)
"""


def test_tables_sort_by_a_button_and_the_plots_are_there(page, tmp_path):
    found = answer(page, tmp_path, SORT)
    assert found["focused"]
    assert found["falling"] == sorted(found["falling"], reverse=True)
    assert found["rising"] == sorted(found["falling"])
    assert found["sort"] == "descending"
    assert found["loaded"]


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_not_wider_than_its_window(page, tmp_path, width):
    # A browser's own window has a least width; a frame inside it has none.
    frame = tmp_path / "frame.html"
    frame.write_text("<!doctype html><title></title>")
    source = json.dumps(page.read_text()).replace("</", r"<\/")
    script = f"""
    const frame = document.createElement("iframe");
    frame.style = "border: 0; width: {width}px; height: 800px";
    document.body.append(frame);
    frame.contentDocument.write({source});
    for (const fold of frame.contentDocument.querySelectorAll("details"))
      fold.open = true;
    const element = frame.contentDocument.documentElement;
    found.widths = [element.clientWidth, element.scrollWidth];"""
    inner, needed = answer(frame, tmp_path, script)["widths"]
    assert inner == pytest.approx(width, abs=20)  # less a scroll bar
    assert needed <= inner


def test_a_hostile_record_runs_nothing(tmp_path):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        write_run(tmp_path, hostile(record(method, 1e-3, strength, 0)))
    assert main([str(tmp_path)]) == 0
    script = """
    found.id = document.body.id;
    found.scripts = document.scripts.length;
    found.images = [...document.images].map((i) => i.src.slice(0, 5));
    found.handlers = document.querySelectorAll("[onerror]").length;
    found.text = document.querySelector("h2").textContent"""
    seen = answer(tmp_path / "report" / "index.html", tmp_path, script)
    assert (seen["id"], seen["handlers"]) == ("", 0)
    assert seen["scripts"] == 2  # the page's own and this one
    assert set(seen["images"]) == {"data:"}
    assert ATTACK in html.unescape(seen["text"])
