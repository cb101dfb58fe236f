"""The page on convolutional networks, computed again from the records.

A fragment is written here with the numbers that the records give. Each has to be in the
page, and each number of the page in one of them.
"""

import functools

import numpy as np

from experiments.report.frame import paired
from experiments.report.frontier import frontier
from experiments.report.measures import kernels, layers
from study_numbers import (
    CAMVID,
    DIGITS,
    FROZEN,
    MOBILE,
    NEW,
    PROBED,
    RATES,
    STEP,
    apart,
    both,
    both_apart,
    drift,
    group,
    means,
    median_drift,
    new,
    over_start,
    problems,
    radius,
    span,
    spans,
    stuck,
    study,
    trial,
)


def in_short():
    """The table at the top."""
    rates, start = trial(RATES, "ftp"), over_start
    probed = MOBILE.format("probed")
    ft = lambda name: trial(name, "fine-tune")
    yield f"{apart(new('ftp'), new('fine-tune'), 'id', '+')} ID, OOD not clear; at"
    yield f"the higher rate that suits it {both_apart(rates, new('fine-tune'), '+')}"
    yield f"the probe: {both_apart(new('ftp'), new('linear-probe'), '+')}"
    name = MOBILE.format("new")
    gap = apart(trial(name, "ftp"), trial(name, "wise-ft"), "ood", "+")
    yield f"WiSE-FT: {gap} OOD"
    yield f"{apart(trial(probed, 'ftp'), ft(probed), 'id', '+')} ID, OOD not clear"
    yield f"the start: {start(probed, 'ftp', 'ood')} OOD"
    yield f"{start(CAMVID, 'ftp', 'id')} ID over the start"


def pacs_new():
    ftp, tune = new("ftp"), functools.partial(new, stage="tune")
    weak = [
        paired(ftp, new(m), "id").mean
        for m in ("fine-tune", "l2-sp", "mars-sp", "mars-pgm", "wise-ft", "spd")
    ]
    yield f"FTP is {span(weak, 1)} points above fine-tuning"
    yield f"above FTP, by {apart(ftp, new('tpgm'), 'id')} points of ID"
    probe = [apart(new("linear-probe"), new("tpgm"), key) for key in ("ood", "id")]
    yield f"above TPGM in OOD ({probe[0]}) and not clearly in ID ({probe[1]})"
    yield f"probed head has {100 * new('lp-ft').mean('id'):.1f}, from a new one"
    yield f"from a new one {100 * new('fine-tune').mean('id'):.1f}"
    yield f"by a median of {median_drift(new('fine-tune'), 0)} % of its norm"
    first, last = "backbone/conv1/kernel", "backbone/layer3/1/conv2/kernel"
    plain = new("fine-tune")
    yield f"({drift(plain, first, 1)} at the first convolution, {drift(plain, last, 2)}"
    moved = kernels(layers(ftp.records))["drift"].drop([first, "head/kernel"])
    yield f"FTP by {median_drift(ftp)} %, between"
    yield f"between {moved.min():.1g} and {moved.max():.2g} everywhere but at the first"
    yield f"their median is {radius(ftp).median():.2g}, the largest"
    yield f"the largest {radius(ftp).max():.2g}"
    held = sorted(record["leaves"][first]["radius"] for record in ftp.records)
    yield "({:.1g} and {:.1g}; {:.2g} in the third)".format(*held)
    rates = trial(RATES, "ftp")
    yield f"ID validation chooses 1e-2, κ 1: {both(rates)} at 96 pixels"
    gap = both_apart(rates, new("fine-tune"))
    yield f"{apart(rates, ftp, 'id')} points of ID above FTP at 1e-3, {gap}"
    yield f"partial fine-tuning ({both_apart(rates, new('partial'), '+')})"
    yield f"from TPGM ({both_apart(rates, new('tpgm'), '+')})"
    yield f"The probe stays ahead by {both_apart(new('linear-probe'), rates)}"
    counts = stuck(rates)
    yield f"Of {len(radius(rates))} radii {min(counts)} to {max(counts)} have collapsed"
    yield f"At 1e-3 fine-tuning ends at {means(tune('fine-tune', 1e-3))} (ID / OOD)"
    yield f"L2-SP at {means(tune('l2-sp', 1e-3, 0.01))}, SPD at"
    spd = [means(tune("spd", 1e-3, s)) for s in (1.0, 0.3)]
    yield f"SPD at {spd[0]} and {spd[1]}; FTP at"
    held = [tune("ftp", 1e-3, kappa) for kappa in (0.0, 0.5, 1.0)]
    yield f"FTP at {spans(held, 1)}"
    moved = [drift(tune(m, *s), last, 2) for m, *s in (("fine-tune", 1e-3), ("ftp",))]
    yield f"moves by {moved[0]} (the largest L1 norm of a row) under fine-tuning, by"
    yield f"under fine-tuning, by {moved[1]} under FTP"
    yield growth(tune("ftp"))
    yield f"radii move by {tune('tpgm').strength:g} a step, ten times FTP's"
    far = drift(tune("tpgm"), last, 1)
    yield f"the last kernel gets to {far} instead of {moved[1]}"
    recipe = study("pacs-sgd", "")[0].runs["record"][0]["config"]
    yield f"(momentum {recipe['recipe.momentum']:g}, 3e-3"
    sgd = {t.method: means(t) for t in study("pacs-sgd", "")[0].trials}
    yield f"new head, {sgd['fine-tune']}, and FTP with κ 1 ends in the same place,"
    yield f"same place, {sgd['ftp']}."


def growth(found):
    """How radii grow, and where the middle half of them end."""
    (trace,) = (record["trace"] for record in found.records)
    radii = np.array([*trace["radius"].values()]).T
    slopes = [np.median(radii[i]) / trace["step"][i] for i in (0, -1)]
    low, high = np.quantile(radii[-1], [0.25, 0.75])
    return (
        f"grow by a median of {slopes[0]:.3f} a step in the first {trace['step'][0]},"
        f" by {slopes[1]:.3f} in all: after {trace['step'][-1]} steps half of them lie"
        f" between {low:.2f} and {high:.2f}"
    )


def pacs_probed():
    found = group(PROBED)
    clean = [t.mean("id") for t in found.chosen.values()]
    low, high = span(clean, 1).split(" to ")
    yield f"lie within {low} and {high}, the start's is"
    yield f"the start's is {100 * found.start['id'].mean:.1f}, and none"
    yield f"MARS-SP is {over_start(PROBED, 'mars-sp', 'id', '')} points of ID below"
    gap = apart(found.chosen["ftp"], found.chosen["mars-pgm"], "ood")
    yield f"FTP's is {gap} points under that of MARS-PGM"
    runs = [found.chosen["ftp"].runs.iloc[[i]] for i in range(3)]
    shares = [
        100 * kernels(layers(list(run["record"])))["relative"].median() for run in runs
    ]
    yield "by a median of {:.1f}, {:.1f} and {:.1f} % of its norm".format(*shares)
    yield f"fine-tuning at 3e-4 by {median_drift(found.chosen['fine-tune'], 0)} %"
    best = trial(PROBED, "fine-tune", 1e-4, stage="tune")
    top = max(group(PROBED, "tune").trials, key=lambda t: t.mean("ood"))
    assert top is best
    yield f"at 64 pixels, {100 * best.mean('ood'):.1f}, belongs to plain fine-tuning"
    start = trial(PROBED, "linear-probe", stage="tune")
    gap = {d: 100 * apart_mean(best, start, f"domain/{d}") for d in DOMAINS}
    yield (
        f"{gap['sketch']:.1f} points above the start on sketches, {gap['cartoon']:.1f}"
        f" on cartoons, {-gap['art_painting']:.1f} below it on art"
    )


DOMAINS = ("art_painting", "cartoon", "sketch")


def apart_mean(one, other, key):
    return one.mean(key) - other.mean(key)


def mobile():
    name = MOBILE.format("new")
    at, ftp = functools.partial(trial, name), trial(name, "ftp")
    gaps = [
        paired(ftp, at(m), "id").mean
        for m in ("linear-probe", "wise-ft", "l2-sp", "spd")
    ]
    yield f"WiSE-FT, L2-SP and SPD ({span(gaps, 1)} points)"
    yield f"and {apart(ftp, at('tpgm'), 'ood')} points of OOD above TPGM"
    yield f"{apart(at('wise-ft'), ftp, 'ood')} points above FTP; it is the method"
    probed = MOBILE.format("probed")
    plain, other = at("fine-tune"), trial(probed, "fine-tune")
    yield f"{100 * plain.mean('id'):.1f} against {100 * other.mean('id'):.1f}."
    shares = [median_drift(found) for found in (plain, ftp)]
    yield "by a median of {} % of its norm, FTP by {} %".format(*shares)
    ftp, gap = trial(probed, "ftp"), functools.partial(over_start, probed, "ftp")
    mixed = apart(ftp, trial(probed, "wise-ft"), "ood")
    yield f"{gap('ood', '')} points below the start, {mixed} below WiSE-FT"
    yield f"below WiSE-FT, {apart(ftp, trial(probed, 'spd'), 'ood')} below SPD"
    yield f"and {apart(ftp, other, 'id')} above fine-tuning's"
    tuned = group(probed, "tune")
    worst = min(t.mean("id") for t in tuned.chosen.values())
    assert tuned.chosen["ftp"].mean("id") == worst
    begin = 100 * tuned.start["id"].mean
    yield f"worst in ID: {100 * worst:.1f}, under {begin:.1f} for the start"
    still = {g.shared.image_size: g for g in study("pacs-mobilenet-v1-statistics", "")}
    start = lambda g: " / ".join(f"{100 * g.start[k].mean:.1f}" for k in ("id", "ood"))
    begin = {size: start(found) for size, found in still.items()}
    end = {size: means(found.trials[0]) for size, found in still.items()}
    yield f"take the start from {begin['96']} to {end['96']} at 96 pixels"
    yield f"from {begin['64']} to {end['64']} at 64"
    ftp, plain = trial(FROZEN, "ftp"), trial(FROZEN, "fine-tune")
    above = [over_start(FROZEN, "ftp", key, "") for key in ("id", "ood")]
    yield f"FTP at 3e-4, κ 0, has {both(ftp)}, against the start {' / '.join(above)}"
    yield f"fine-tuning at 3e-4 has {both(plain)}."
    frozen = group(FROZEN, "tune")
    yield f"FTP's six settings are at {spans(frozen.of('ftp'))} (one seed)"
    yield f"{spans(tuned.of('ftp'))} without."
    plain, held = (
        [t for t in frozen.of(method) if t.rate >= 1e-3]
        for method in ("fine-tune", "ftp")
    )
    (share,) = {f"{100 * t.mean('id'):.0f}" for t in plain}
    yield f"now falls to {share} % from 1e-3 on"
    yield f"where FTP stands at {spans(held)}"


def camvid():
    found, tuned = group(CAMVID), group(CAMVID, "tune")
    moving = [m for m in found.chosen if m != "linear-probe"]
    gain = {
        key: {m: found.chosen[m].mean(key) - found.start[key].mean for m in moving}
        for key in ("id", "corruption")
    }
    low, high = span(gain["id"].values(), 1).split(" to ")
    yield f"in ID**, by {low} (FTP, TPGM) to {high} points (fine-tuning)"
    ends = [over_start(CAMVID, m, "corruption", "") for m in ("fine-tune", "tpgm")]
    yield f"by {ends[0]} (fine-tuning) to {ends[1]} (TPGM)"
    keys = ("id", "corruption")
    at = lambda m, *s: means(trial(CAMVID, m, *s, stage="tune"), keys)
    yield f"fine-tuning falls to {at('fine-tune', 1e-3)} (ID / corrupted"
    yield f"SPD to {at('spd', 1e-3, 0.3)}, at 3e-4 L2-SP to {at('l2-sp', 3e-4, 0.01)}"
    for method, said in (("ftp", "FTP stands at"), ("tpgm", "TPGM at")):
        yield f"{said} {spans(tuned.of(method), 1, keys)}"
    best = trial(CAMVID, "ftp", 3e-4, 0.5, stage="tune")
    yield f"the best, {100 * best.mean('corruption'):.1f}, at the same ID test"
    counts = {
        k: [stuck(trial(CAMVID, "ftp", r, k, stage="tune"))[0] for r in (3e-4, 1e-3)]
        for k in (0.0, 0.5, 1.0)
    }
    assert counts[0.0] == [0, 0]
    yield "of 32 none at κ 0, {} and {} at κ 0.5".format(*counts[0.5])
    yield "{} and {} at κ 1".format(*counts[1.0])
    yield f"of TPGM's {stuck(trial(CAMVID, 'tpgm', stage='tune'))[0]} at its chosen"


def camvid_corruptions():
    """The metric by severity and by corruption, mean over the methods that train."""
    chosen = {**group(CAMVID).chosen}
    start, moving = chosen.pop("linear-probe"), chosen.values()
    mean = lambda key: 100 * np.mean([t.mean(key) for t in moving])
    keys = [f"severity/{s}" for s in (1, 3, 5)]
    yield "{:.0f} at severity 1, {:.0f} at 3, {:.0f} at 5".format(*map(mean, keys))
    begin = [100 * start.mean(key) for key in keys]
    yield "(the start: {:.0f}, {:.0f}, {:.0f})".format(*begin)
    yield f"costs least ({mean('corruption/brightness'):.0f} on average)"
    noise = {t.method: t.mean("corruption/gaussian_noise") for t in moving}
    yield f"noise most ({span(noise.values())})"
    noise["start"] = start.mean("corruption/gaussian_noise")
    high, low = (
        [noise[m] for m in ms]
        for ms in (("spd", "tpgm", "start"), ("ftp", "fine-tune"))
    )
    gaps = min(high) - max(low), max(high) - min(low)
    yield f"stand {span(gaps, 1)} points above FTP"


def digits():
    ftp = trial(DIGITS, "ftp")
    gaps = [apart(ftp, trial(DIGITS, m), "ood") for m in ("linear-probe", "lp-ft")]
    yield f"{gaps[0]} points above the linear probe and {gaps[1]} above LP-FT"
    high = [t for t in group(DIGITS, "tune").of("ftp") if t.rate == 1e-2]
    every = [x for t in high for x in t.runs["ood"]]
    yield f"at 1e-2, its highest rate, was {span(every)}"
    tuned = {r: trial(DIGITS, "fine-tune", r, stage="tune") for r in (1e-2, 3e-2)}
    yield f"fine-tuning's there is {100 * tuned[1e-2].mean('ood'):.0f}"
    yield f"(and {span(tuned[3e-2].runs['ood'])} at 3e-2)"
    curve = frontier(group(DIGITS)).dropna(subset="alpha").set_index("alpha")
    best = curve.loc[0.3]
    assert curve["shift"].idxmax() == 0.3
    yield f"α 0.3 gives {100 * best['shift']:.1f} at ID {100 * best['id']:.1f}"
    yield f"validation prefers α {curve['id_val'].idxmax():g}"
    yield f"domains ({100 * group(DIGITS).start['ood'].mean:.0f} % OOD)"
    starts = [
        group(name).start["ood"].mean for name in (PROBED, MOBILE.format("probed"))
    ]
    yield f"hard for the start ({span(starts)} % OOD)"


def protocol():
    names = NEW, CAMVID, DIGITS
    last = {name: group(name).runs["record"].iloc[-1] for name in names}
    for name, record in last.items():
        recipe = record["config"]
        batch = (
            f"{recipe['recipe.epochs']} epochs of batch {recipe['recipe.batch_size']}, "
        )
        yield f"{batch if name != DIGITS else 'per seed, '}{record['steps']} steps"
    pacs, camvid, digits = last.values()
    decay = {record["config"]["recipe.weight_decay"] for record in (pacs, camvid)}
    assert decay == {0}
    yield f"except {digits['config']['recipe.weight_decay']:g} on the digits"
    images = pacs["evaluation"]["photo"]["images"]
    # How many are trained on and chosen by is in the preparation of `pacs`.
    yield "train on 1,167 photographs of seven classes, choose on 253"
    yield f"test on {images} others"
    yield "(Li et al. 2017)"
    yield "(Brostow et al. 2009)"
    yield "{} x {} pixels".format(*camvid["config"]["data.image_size"])
    tuned = [group(name, "tune").runs["record"].iloc[-1] for name in names[:2]]
    limits = [record["config"]["evaluation.limit"] for record in tuned]
    yield f"at most {limits[0]:,} test images a domain"
    yield f"all {camvid['evaluation']['clean']['images']} test images"
    yield f"on one seed, {limits[1]} images"
    yield f"if it is below {STEP}, one step of its"
    yield "with a 1 x 1 convolution"


def test_the_prose_says_what_the_records_say():
    parts = (in_short, pacs_new, pacs_probed, mobile, camvid, camvid_corruptions)
    every = [x for part in (*parts, digits, protocol) for x in part()]
    assert problems("convolutional.md", every) == []
