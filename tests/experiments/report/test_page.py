"""The page in a real browser: it renders, reports no error, and answers clicks."""

import json
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra `experiments`")
plt = pytest.importorskip("matplotlib.pyplot", reason="needs the extra `experiments`")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs one of {', '.join(NAMES)} to look at the page"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
    "--v=0",
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


def test_an_error_of_the_page_would_be_seen(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><script>nothing.there()</script>")
    _, console = browse(broken, tmp_path / "profile", "--dump-dom")
    assert any("ReferenceError" in line for line in console)


PROBE = """
<script>
window.onload = () => {
  const found = {};
  const table = document.querySelector(".sortable");
  const rows = () => [...table.tBodies[0].rows];
  const column = (i) => rows().map((row) => row.children[i].dataset.value);
  const heads = [...table.tHead.rows[0].cells];
  const ood = heads.findIndex((head) => head.textContent === "OOD");
  heads[ood].firstElementChild.click();
  found.falling = column(ood).map(Number);
  found.sort = heads[ood].getAttribute("aria-sort");
  heads[ood].firstElementChild.click();
  found.rising = column(ood).map(Number);

  const select = document.querySelector(".heatmaps select");
  const maps = [...document.querySelectorAll(".heatmap")];
  found.before = maps.map((map) => map.hidden);
  select.value = "1";
  select.dispatchEvent(new Event("change"));
  found.after = maps.map((map) => map.hidden);

  const tip = document.getElementById("tip");
  const at = (element, kind, x, y) => {
    const box = element.getBoundingClientRect();
    element.dispatchEvent(new PointerEvent(kind, {
      clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
  };
  const mark = document.querySelector('[data-tip^="FTP, chosen"]');
  at(mark, "pointerenter", 0.5, 0.5);
  found.mark = [tip.hidden, tip.textContent, mark.getAttribute("tabindex")];
  at(mark, "pointerleave", 0.5, 0.5);
  found.hidden = tip.hidden;
  at(maps[1].querySelector(".heat"), "pointermove", 0.01, 0.99);
  found.heat = tip.textContent;
  found.unnamed = [...document.querySelectorAll(".plot svg")].filter(
    (svg) => !svg.getAttribute("aria-label")).length;
  document.title = JSON.stringify(found);
};
</script>
"""


def test_tables_sort_and_marks_and_heat_maps_say_what_they_show(page, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    dom, console = browse(probed, tmp_path / "profile", "--dump-dom")
    assert console == []
    title = dom.split("<title>")[1].split("</title>")[0]
    found = json.loads(title.replace("&gt;", ">").replace("&amp;", "&"))
    assert found["falling"] == sorted(found["falling"], reverse=True)
    assert found["rising"] == sorted(found["falling"])
    assert found["sort"] == "descending"
    assert found["before"] == [False, True, True, True, True, True]
    assert found["after"] == [True, False, True, True, True, True]
    assert found["mark"][0] is False
    assert found["mark"][1].startswith("FTP, chosen: 3e-4, κ")
    assert found["mark"][2] == "0"
    assert found["hidden"] is True
    assert found["heat"].startswith("layer2/0/conv1/bias, step 10: radius ")
    assert found["unnamed"] == 0


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_not_wider_than_its_window(page, tmp_path, width):
    # A browser's own window has a least width; a frame inside it has none.
    source = json.dumps(page.read_text()).replace("</", "<\\/")
    frame = tmp_path / "frame.html"
    frame.write_text(f"""<!doctype html>
<iframe id="frame" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const inside = frame.contentDocument;
  for (const fold of inside.querySelectorAll("details")) fold.open = true;
  const element = inside.documentElement;
  document.title = JSON.stringify([element.clientWidth, element.scrollWidth]);
}};
frame.srcdoc = {source};
</script>""")
    dom, console = browse(frame, tmp_path / "profile", "--dump-dom")
    assert console == []
    inner, needed = json.loads(dom.split("<title>")[1].split("</title>")[0])
    assert inner == pytest.approx(width, abs=20)  # less a scroll bar
    assert needed <= inner
