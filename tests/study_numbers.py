"""The numbers of the studies, as the pages of results write them."""

import functools
import math
import pathlib
import re

import numpy as np
import pytest

from experiments import studies
from experiments.report.frame import groups, paired
from experiments.report.measures import collapsed, kernels, layers
from experiments.statistics import interval

RESULTS = pathlib.Path(__file__).parent.parent / "docs" / "results"
NEW, PROBED = "pacs-resnet18-trunk-new", "pacs-resnet18-trunk-probed"
RATES, KAPPA = "pacs-ftp-rates-new", "pacs-kappa-{}"
MOBILE, FROZEN = "pacs-mobilenet-v1-{}", "pacs-mobilenet-v1-frozen"
CAMVID, DIGITS = "camvid-probed", "digits-study"


METHODS = {  # as the pages call them
    "fine-tuning": "fine-tune",
    "linear probe": "linear-probe",
    "LP-FT": "lp-ft",
    "TPGM": "tpgm",
    "partial": "partial",
    "FTP": "ftp",
    "MARS-PGM": "mars-pgm",
    "MARS-SP": "mars-sp",
    "SPD": "spd",
    "L2-SP": "l2-sp",
    "WiSE-FT": "wise-ft",
}


def tables(page):
    """The tables of a page: rows of cells, the heads first."""
    text = (RESULTS / page).read_text("utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [
            [c.strip() for c in r.strip("|").split("|")] for r in block.splitlines()
        ]
        yield [rows[0], *rows[2:]]


def numbers(text):
    return [float(x) for x in re.findall(r"\d[\d.]*(?:e-\d+)?", text)]


@functools.cache
def study(name, stage):
    """The group of a stage; "tune", "final", or "" of single runs."""
    file = RESULTS / f"{name}.jsonl"
    found = [r | {"place": r["run"]} for r in studies.read(file) if r["stage"] == stage]
    return groups(found)


def group(name, stage="final"):
    (found,) = study(name, stage)
    return found


def trial(name, method, *setting, stage="final"):
    """The chosen setting of a method, or that of the given rate and strength."""
    found = group(name, stage)
    if not setting:
        return found.chosen[method]
    wanted = [math.nan if x is None else x for x in (*setting, None)[:2]]
    same = lambda t: np.array_equal([t.rate, t.strength], wanted, equal_nan=True)
    (only,) = [t for t in found.of(method) if same(t)]
    return only


def words(value, sign=""):
    """As the pages write an interval of shares."""
    mean = f"{100 * value.mean:{sign}.1f}".replace("-", "−")
    if math.isnan(value.half_width) or value.half_width < 1e-12:
        return mean
    return f"{mean} ± {100 * value.half_width:.1f}"


def means(found, keys=("id", "ood"), digits=1):
    """`89.3 / 25.3`."""
    return " / ".join(f"{100 * found.mean(key):.{digits}f}" for key in keys)


def both(found, keys=("id", "ood")):
    """`89.3 ± 1.5 / 25.3 ± 4.0`."""
    return " / ".join(words(found.get(key)) for key in keys)


def apart(one, other, key, sign=""):
    """The paired difference; without a sign, its size."""
    found = paired(one, other, key)
    return words(found, sign) if sign else words(found._replace(mean=abs(found.mean)))


def both_apart(one, other, sign=""):
    """What is `apart` in ID and in OOD."""
    return " / ".join(apart(one, other, key, sign) for key in ("id", "ood"))


def check_methods(page, study, names, keys, against, place=0):
    """Fails unless a table of a page has what was chosen of every method.

    Args:
      page: a row is a method, its setting, the `keys`, and FTP's lead in `against`.
      study: its name.
      names: the methods by what the page calls them.
      place: of the table among those of the page.
    """
    chosen = group(study).chosen
    _, *rows = [*tables(page)][place]
    assert {names[row[0]] for row in rows} == {*chosen}
    for name, setting, *cells, lead in rows:
        own, ftp = chosen[names[name]], chosen["ftp"]
        wanted = [x for x in (own.rate, own.strength) if not math.isnan(x)]
        assert numbers(setting) == pytest.approx(wanted), name
        assert cells == [words(own.get(key)) for key in keys], name
        assert lead == ("" if own is ftp else apart(ftp, own, against, "+")), name


def over_start(name, method, key, sign="+"):
    """A method minus its start, run by run."""
    found, begin = trial(name, method), group(name).start[key].mean
    value = interval([v - begin for v in found.runs[key]])
    return words(value, sign) if sign else words(value._replace(mean=abs(value.mean)))


STEP = 0.01  # of the radius optimizer; a radius below it has collapsed


def stuck(found, below=STEP):
    """How many radii have collapsed, run by run."""
    return collapsed(found.records, below)


def median_drift(found, digits=1):
    """The median over the kernels of the drift in per cent of their norm."""
    return f"{100 * kernels(layers(found.records))['relative'].median():.{digits}f}"


def drift(found, layer, digits):
    return f"{layers(found.records).loc[layer, 'drift']:.{digits}g}"


def radius(found):
    return layers(found.records)["radius"].dropna()


def span(values, digits=0):
    """`86 to 94`."""
    low, high = (f"{100 * x:.{digits}f}" for x in (min(values), max(values)))
    return f"{low} to {high}"


def spans(trials, digits=0, keys=("id", "ood")):
    """`86 to 94 / 25 to 31`, over the means of settings."""
    return " / ".join(span([t.mean(key) for t in trials], digits) for key in keys)


def loss(found):
    """The mean training loss of the first epoch, over seeds."""
    return np.mean([record["history"]["loss"][0] for record in found.records])


def new(method, *setting, stage="final"):
    return trial(NEW, method, *setting, stage=stage)


# Numbers that are no measurement: settings, sizes of images, orders of seeds and names.
SETTINGS = re.compile(
    r"\de-\d+|(?:κ|kappa|α|C)(?: =|\*\*:)? ?[\d.]+(?:(?:, | and | or )[\d.]+)*"
    r"|(?:64|96) pixels|at (?:64|96)\b|counts: 1 all, 0 nothing|radius rate [\d.]+"
    r"|one seed each at 64|κ to 1|near 0 and|to move; 1 where|95 % interval|are 95 %"
    r"|severity 3|settings; 0.5 at"
)


def prose(page):
    """A page without what `test_tables` checks, its commands, links and line ends."""
    text = (RESULTS / page).read_text("utf-8").partition("## Run it again")[0]
    checked = (
        r"^\| (?:method|learning rate|radius rate|from|\| new head)\b.*\n(?:\|.*\n)*"
    )
    text = re.sub(checked, "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)|\{toctree\}[^`]*|`[^`]*`", r"\1", text)
    lines = text.splitlines()
    return " ".join(" ".join(x for x in lines if x[:4] != "    ").split())


def problems(page, fragments):
    """Fragments that are not in the page, and numbers of the page that are in none."""
    text = prose(page)
    fragments = [" ".join(fragment.split()) for fragment in fragments]
    told = [m.span() for x in fragments for m in re.finditer(re.escape(x), text)]
    told += [m.span() for m in SETTINGS.finditer(text)]
    inside = lambda m: any(a <= m.start() and m.end() <= b for a, b in told)
    numbers = re.finditer(r"(?<![\w.-])\d+(?:[.,]\d+)*(?![\w-])", text)
    untold = [text[m.start() - 40 : m.end() + 20] for m in numbers if not inside(m)]
    return [x for x in fragments if x not in text] + untold
