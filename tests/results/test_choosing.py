"""The prose on choosing kappa and the rate, computed again from the records."""

import functools

from experiments.methods import METHODS
from study_numbers import (
    CAMVID,
    DIGITS,
    FROZEN,
    KAPPA,
    MOBILE,
    PROBED,
    RATES,
    STEP,
    apart,
    both,
    both_apart,
    group,
    loss,
    means,
    new,
    problems,
    radius,
    span,
    stuck,
    tables,
    trial,
    words,
)


def choosing():
    tune = functools.partial(trial, stage="tune")
    grid, rates = KAPPA.format("new"), trial(RATES, "ftp")
    lost = tune(grid, "fine-tune", 1e-2).mean("id")
    yield f"leaves fine-tuning with {100 * lost:.0f} %"
    high = [tune(grid, "ftp", 1e-2, kappa) for kappa in (0.0, 0.5, 1.0)]
    best = [100 * new(m, stage="tune").mean("id_val") for m in ("fine-tune", "ftp")]
    yield f"{span([t.mean('id_val') for t in high])} %, against {best[0]:.0f} for"
    yield f"fine-tuning's best and {best[1]:.0f} for the best of the two rates"
    counts = [stuck(t)[0] for t in high[1:]]
    count = len(radius(high[0]))
    yield f"({counts[0]} and {counts[1]} of {count} radii have collapsed)"
    yield f"a linear probe, {means(new('linear-probe', stage='tune'))}."
    gap = both_apart(rates, new("fine-tune"))
    yield f"it is {both(rates)} (1e-2, κ 1), {gap} above"
    yield f"and {apart(rates, new('ftp'), 'id')} of ID above FTP at 1e-3"
    yield f"*collapsed* if it is below {STEP} there"
    yield f"radii, of {len(radius(trial(PROBED, 'ftp')))}:"
    yield f"a rate of {METHODS['ftp-fast'].label.split()[-1]} lets them"
    grid = KAPPA.format("probed")
    yield f"mean loss of the first epoch is {loss(tune(PROBED, 'ftp')):.1f}"
    every = group(grid, "tune").of("ftp")
    spans = [span([t.mean(key) for t in every]).split(" to ") for key in ("id", "ood")]
    yield "within {} and {} % of ID and {} and {} % of OOD".format(*spans[0], *spans[1])
    yield f"The start has {means(tune(PROBED, 'linear-probe'))}: with"
    start = f"{100 * group(PROBED).start['id'].mean:.1f}"
    yield f"({words(trial(PROBED, 'ftp').get('id'))} against {start} for the start)"
    batch, frozen = (
        {k: [tune(name, "ftp", r, k) for r in (3e-4, 1e-3)] for k in (0.5, 1.0)}
        for name in (MOBILE.format("probed"), FROZEN)
    )
    counts = [
        sorted(stuck(t)[0] for t in ts) for g in (batch, frozen) for ts in g.values()
    ]
    yield f"a loss of {loss(batch[0.5][0]):.1f} in the first epoch"
    yield f"and of {loss(frozen[0.5][0]):.1f} where those"
    assert counts[0] == [0, 0]
    yield f"of {len(radius(batch[0.5][0]))} radii none collapses with κ 0.5"
    yield "{} and {} in the second; with".format(*counts[2])
    yield "with κ 1 it is {} and {}, {} and {}".format(*counts[1], *counts[3])
    held = tune(PROBED, "tpgm", 3e-3, 0.01)
    yield f"({stuck(held)[0]} of {len(radius(held))} radii at 3e-3)"
    exact = tune("pacs-variants-probed", "ftp-active", 1e-3, 1.0)
    held = tune(PROBED, "ftp", 1e-3, 1.0)
    yield f"({stuck(exact, 1e-6)[0]} of 32 radii below 1e-6 with κ 1,"
    yield f"with κ 1, {stuck(held, 1e-6)[0]} in the published form)"


def ratios():
    """How many times fine-tuning's rate ID validation chose for FTP."""
    rate = lambda name, method: trial(name, method).rate
    names = (PROBED, CAMVID, DIGITS, MOBILE.format("new"), FROZEN)
    plain = new("fine-tune").rate
    times = [new("ftp").rate / plain, rate(RATES, "ftp") / plain]
    times += [rate(name, "ftp") / rate(name, "fine-tune") for name in names]
    a, b, c, d, e, f, g = (f"{x:.0f}" for x in times)
    assert (c, f) == (d, g)
    yield f"{a} to {b} on this trunk from a new head, {c} from a probed one and"
    yield f"{e} on the digits; {f} on MobileNetV1 (a third"
    name = MOBILE.format("probed")
    assert rate(name, "ftp") / rate(name, "fine-tune") < 0.34


RADII = "digits-radii-{}"
STEPS, RADIUS_RATES = (60, 600, 6000), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def with_radii(steps, rate):
    return trial(RADII.format(steps), "ftp-rate", 3e-3, rate, stage="tune")


def test_the_table_of_radius_rates():
    _, *rows, last = [*tables("choosing.md")][3]
    assert [float(row[0]) for row in rows] == [*RADIUS_RATES]
    for rate, *cells in rows:
        assert cells == [means(with_radii(n, float(rate))) for n in STEPS]
    plain = [group(RADII.format(n), "tune").chosen["fine-tune"] for n in STEPS]
    assert last[1:] == [means(found) for found in plain]


def radius_rates():
    yield "0.01, the default, from a thousand"
    yield "0.03 to 0.1 in shorter runs, where 0.01 holds layers near"
    yield "(6,000 steps: one)"
    equal = {100 * with_radii(*x).mean("ood") for x in ((60, 1e-2), (600, 1e-3))}
    (both_end,) = {f"{x:.1f}" for x in equal}
    yield f"0.01 x 60 and 0.001 x 600 both end at {both_end} OOD"
    chosen = [group(RADII.format(n), "tune").chosen["ftp-rate"] for n in STEPS]
    yield "chose {:g}, {:g} and {:g}".format(*(found.strength for found in chosen))
    seeds = [len(with_radii(n, 1e-2).records) for n in STEPS]
    assert seeds == [3, 3, 1]


def test_the_prose_says_what_the_records_say():
    assert problems("choosing.md", [*choosing(), *ratios(), *radius_rates()]) == []
