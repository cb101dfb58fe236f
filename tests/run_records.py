"""Run records with varied numbers, as the training loop leaves them."""

import json
import zlib

import numpy as np

from experiments import studies

LAYERS = [
    f"backbone/{name}/{part}"
    for name in ("conv1", "layer1/0/conv1", "layer1/0/conv2", "layer2/0/conv1")
    for part in ("kernel", "bias")
] + ["head/kernel", "head/bias"]
LABELS = {
    "fine-tune": ("Fine-tuning", None, 0.90, 0.30),
    "linear-probe": ("Linear probe", "C", 0.88, 0.29),
    "l2-sp": ("L2-SP", "lambda", 0.91, 0.31),
    "tpgm": ("TPGM", "radius rate", 0.90, 0.33),
    "spd": ("SPD", "lambda", 0.915, 0.32),
    "wise-ft": ("WiSE-FT", "alpha", 0.92, 0.34),
    "ftp": ("FTP", "kappa", 0.925, 0.36),
}


def figures(group, accuracy):
    return {
        "group": group,
        "accuracy": accuracy,
        "macro_accuracy": accuracy * 0.98,
        "ece": (1 - accuracy) / 4,
        "nll": 2 * (1 - accuracy),
        "images": 100,
    }


def trace_of(rng, layers, radii):
    steps = list(range(10, 210, 10))
    growth = np.linspace(0.1, 1, len(steps))
    trace = {"step": steps, "radius": {}, "drift": {}, "bound": {}}
    trace["loss"] = (2 * np.exp(-3 * growth) + 0.05 * rng.random(len(steps))).tolist()
    for i, path in enumerate(layers):
        scale = 10.0 ** rng.uniform(-8, -1) if i % 3 else 0.05 * (i + 1)
        trace["drift"][path] = (scale * growth * 0.9).tolist()
        if radii and not path.startswith("head"):
            trace["radius"][path] = (scale * growth).tolist()
    return trace


def record(method, rate, strength, seed, *, corruptions=False, start="probed head"):
    label, name, id_mean, ood_mean = LABELS[method]
    # Not `hash`: it differs from process to process.
    key = f"{method} {rate} {strength} {seed} {start}"
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    loss = 0.0 if rate is None else 0.04 * abs(np.log10(rate / 3e-4))
    at = lambda mean, noise=0.01: float(mean - loss + noise * rng.standard_normal())
    evaluation = {"photo": figures("id", at(id_mean))}
    for i, domain in enumerate(("art_painting", "cartoon", "sketch")):
        evaluation[domain] = figures("ood", at(ood_mean + 0.04 * i, 0.02))
    if corruptions:
        for corruption in ("fog", "gaussian_noise"):
            for severity in range(1, 6):
                value = at(id_mean - 0.06 * severity)
                evaluation[f"photo/{corruption}/{severity}"] = figures(
                    "corruption", value
                )
    mean = lambda group: float(
        np.mean([e["accuracy"] for e in evaluation.values() if e["group"] == group])
    )
    radii = method in ("ftp", "tpgm")
    trace = trace_of(rng, LAYERS, radii)
    found = {
        "job": "experiments.train",
        "name": "pacs",
        "method": method,
        "label": label,
        "seed": seed,
        "setting": {"learning_rate": rate, "strength": strength, "strength_name": name},
        "model": "resnet18-trunk",
        "start": start,
        "image_size": 64,
        "config": {
            "start": start,
            "epochs": 4,
            "seed": seed,
            "learning_rate": rate,
            "optimizer": "adamw",
            "data": {"train": "pacs:photo_train", "flip": True},
        },
        "versions": {"jax": "0.10.2", "optax": "0.2.8"},
        "machine": "1 x cpu, 2 cores, Linux x86_64",
        "status": "finished",
        "steps": 200,
        "seconds": 51.5,
        "images_per_second": 160.0,
        "selected": {"epoch": 4, "step": 200},
        "layers": LAYERS,
        "metric": "accuracy",
        "id_val": at(id_mean),
        "evaluation": evaluation,
        "summary": {"id": evaluation["photo"]["accuracy"], "ood": mean("ood")},
        "leaves": {
            path: {
                "drift": trace["drift"][path][-1],
                "radius": trace["radius"].get(path, [None])[-1],
                "bound": None,
                "norm": 0.0 if path.startswith("head") else 1.5,
            }
            for path in LAYERS
        },
        "start_evaluation": {
            "photo": figures("id", 0.87),
            "art_painting": figures("ood", 0.31),
            "cartoon": figures("ood", 0.29),
            "sketch": figures("ood", 0.30),
            "summary": {"id": 0.87, "ood": 0.30},
        },
    }
    if method != "linear-probe":
        found["trace"] = trace
        found["history"] = {
            "epoch": [1, 2, 3, 4],
            "step": [50, 100, 150, 200],
            "loss": [1.2, 0.6, 0.3, 0.2],
            "id_val": [found["id_val"] - d for d in (0.1, 0.04, 0.01, 0.0)],
        }
    if method == "fine-tune":
        alpha = np.linspace(0, 1, 11)
        end = found["summary"]
        found["wise_curve"] = {
            "alpha": alpha.tolist(),
            "id_val": (0.87 + (found["id_val"] - 0.87) * alpha).tolist(),
            "id": (0.87 + (end["id"] - 0.87) * alpha).tolist(),
            "ood": (
                0.30 + (end["ood"] - 0.30) * alpha + 0.12 * alpha * (1 - alpha)
            ).tolist(),
        }
    return found


def run_name(found):
    setting = found["setting"]
    rate, strength = setting["learning_rate"], setting["strength"]
    return f"{found['method']}-{rate}-{strength}-seed{found['seed']}"


def write_run(folder, found, name=None):
    """Writes a record into a directory of its own, which it returns."""
    path = folder / (name or run_name(found))
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(json.dumps(found))
    return path


def read_back(*found, stage=""):
    """The records as a report has them."""
    return [
        {"stage": stage, "run": "", "place": f"{i}", **studies.thinned(each, stage)}
        for i, each in enumerate(found)
    ]


def sweep_of(methods=tuple(LABELS), seeds=(0, 1, 2), **options):
    """The records of six settings at most for each method."""
    for method in methods:
        name = LABELS[method][1]
        rates = (None,) if method == "linear-probe" else (1e-4, 3e-4, 1e-3)
        strengths = (None,) if name is None else (0.0, 1.0)
        if method == "ftp":
            strengths = (0.0, 0.5, 1.0)
        for rate in rates:
            for strength in strengths:
                for seed in seeds:
                    yield record(method, rate, strength, seed, **options)
