"""Run records with varied numbers, as the training loop leaves them."""

import json
import zlib

import numpy as np

from experiments import studies
from experiments.methods import METHODS
from experiments.tasks.task import Metric

LAYERS = [
    f"backbone/{name}/{part}"
    for name in ("conv1", "layer1/0/conv1", "layer1/0/conv2", "layer2/0/conv1")
    for part in ("kernel", "bias")
] + ["head/kernel", "head/bias"]
START = {"photo": 0.87, "art_painting": 0.31, "cartoon": 0.29, "sketch": 0.30}
STEPS = list(range(10, 210, 10))


def figures(group, accuracy):
    return {
        "group": group,
        "accuracy": accuracy,
        "macro_accuracy": accuracy * 0.98,
        "ece": (1 - accuracy) / 4,
        "nll": 2 * (1 - accuracy),
    }


def measured(accuracies):
    return {
        k: figures("id" if k == "photo" else "ood", v) for k, v in accuracies.items()
    }


def record(method, rate, strength, seed, *, corruptions=False, start="probed head"):
    kind = METHODS[method].strength
    # Not `hash`: it differs from process to process.
    rng = np.random.default_rng(
        zlib.crc32(f"{method} {rate} {strength} {seed}".encode())
    )
    at = lambda mean, noise=0.01: float(mean + noise * rng.standard_normal())
    accuracies = {name: at(value + 0.03) for name, value in START.items()}
    evaluation = measured(accuracies)
    for name in ("fog", "gaussian_noise") if corruptions else ():
        for severity in range(1, 6):
            found = figures("corruption", at(0.9 - 0.06 * severity))
            evaluation[f"photo/{name}/{severity}"] = found
    reached = {path: 0.05 * (i + 1) for i, path in enumerate(LAYERS)}
    held = LAYERS[:-2] if method in ("ftp", "tpgm") else []
    growth = np.linspace(0.1, 1, len(STEPS))
    found = {
        "job": "experiments.train",
        "name": "pacs",
        "method": method,
        "label": METHODS[method].label,
        "seed": seed,
        "setting": {
            "learning_rate": rate,
            "strength": strength,
            "strength_name": kind and kind.name,
        },
        "model": "resnet18-trunk",
        "start": start,
        "image_size": 64,
        "config": {
            "seed": seed,
            "data": {"train": "pacs:photo_train", "flip": True},
            "model": {"start": start},
            "recipe": {"epochs": 4, "optimizer": "adamw"},
            "method": {"name": method, "learning_rate": rate},
        },
        "versions": {"jax": "0.10.2", "optax": "0.2.8"},
        "machine": "1 x cpu, 2 cores, Linux x86_64",
        "status": "finished",
        "seconds": 51.5,
        "layers": LAYERS,
        "metric": Metric("accuracy")._asdict(),
        "id_val": at(0.9),
        "evaluation": evaluation,
        "leaves": {
            path: {
                "drift": 0.9 * reached[path],
                "radius": reached[path] if path in held else None,
                "bound": None,
                "norm": 0.0 if path.startswith("head") else 1.5,
            }
            for path in LAYERS
        },
        "start_evaluation": {"evaluation": measured(START)},
    }
    if method != "linear-probe":
        found["trace"] = {
            "step": STEPS,
            "loss": np.exp(-3 * growth).tolist(),
            "radius": {path: (reached[path] * growth).tolist() for path in held},
        }
        found["history"] = {
            "epoch": [1, 2, 3, 4],
            "step": [50, 100, 150, 200],
            "loss": [1.2, 0.6, 0.3, 0.2],
            "id_val": [found["id_val"] - d for d in (0.1, 0.04, 0.01, 0.0)],
        }
    if method == "fine-tune":
        alpha = np.linspace(0, 1, 11)
        found["wise_curve"] = {
            "alpha": alpha.tolist(),
            "id_val": (0.87 + (found["id_val"] - 0.87) * alpha).tolist(),
            "id": (0.87 + (accuracies["photo"] - 0.87) * alpha).tolist(),
            "ood": (0.30 + 0.12 * alpha * (1 - alpha)).tolist(),
        }
    return found


ATTACK = (
    "'\"><img src=x onerror=alert(1)></script><script>alert(1);"
    "document.body.id='owned'</script>|`$x$ $\\frac{ a\\1b [a](b) ${title} &amp;"
)


def hostile(found):
    """The same run under names that try to be markup; tests keep their number."""
    for key in ("name", "model", "start", "machine"):
        found[key] = f"{key} {ATTACK}"
    found["config"]["model"].pop("start")
    found["metric"]["unit"] += ATTACK
    found["label"] = ATTACK
    named = lambda entries: {f"{ATTACK}{k}": v for k, v in entries.items()}
    found["evaluation"], found["leaves"] = map(
        named, (found["evaluation"], found["leaves"])
    )
    found["layers"] = [f"{ATTACK}{name}" for name in found["layers"]]
    if radii := found.get("trace", {}).get("radius"):
        found["trace"]["radius"] = named(radii)
    return found


def write_run(folder, found, name=None):
    """Writes a record into a directory of its own, which it returns."""
    path = folder / (name or f"{found['method']}-{found['seed']}")
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(json.dumps(found))
    return path


def read_back(*found, stage=""):
    """The records as a report has them."""
    return [
        {"stage": stage, "run": "", "place": f"{i}", **studies.thinned(each, stage)}
        for i, each in enumerate(found)
    ]
