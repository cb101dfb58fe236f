r"""Records the golden trajectories again, from a clone of the published code.

    git clone https://github.com/GT-RIPL/FTP CLONE
    python tests/golden/record.py CLONE [--write]

Feeds the initial tensors and the gradients in each file to the clone's `AdamP` and
`SGDP`, compares what comes out with what the file holds, and, with `--write`, puts it
there, with the clone's commit and the version of torch in its `meta`. The `meta` of the
files as they are name those with which they agree to 2e-7. Needs torch and NumPy.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent
OPTIMIZERS = {"adamw": ("AdamP", ()), "sgd": ("SGDP", ("momentum", "nesterov"))}


def published(clone: pathlib.Path) -> ModuleType:
    """The module `util/FTP.py` of the clone."""
    spec = importlib.util.spec_from_file_location("published", clone / "util/FTP.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(module: ModuleType, file: dict[str, Any], meta: dict[str, Any]) -> None:
    """Puts `param/...` and `radius` of a run of the published code into the file."""
    import torch  # not needed to collect the tests of this folder

    tensors = {
        key.removeprefix("init/"): torch.nn.Parameter(torch.tensor(value))
        for key, value in file.items()
        if key.startswith("init/")
    }
    name, options = OPTIMIZERS[meta["optimizer"]]
    optimizer = getattr(module, name)(
        [
            {
                "params": list(tensors.values()),
                "pre": [p.detach().clone() for p in tensors.values()],
                "name": list(tensors),
            }
        ],
        lr=meta["lr"],
        weight_decay=meta["weight_decay"],
        k=meta["kappa"],
        exclude_set=set(meta["exclude"]),
        **{option: meta[option] for option in options},
    )
    seen: dict[str, list[np.ndarray]] = {key: [] for key in tensors}
    radii = []
    for t in range(meta["steps"]):
        for key, tensor in tensors.items():
            tensor.grad = torch.tensor(file[f"grad/{key}"][t])
        optimizer.step()
        for key, tensor in tensors.items():
            seen[key].append(tensor.detach().numpy().copy())
        radii.append([float(gamma) for gamma in optimizer.ftp.gamma_buff])
    file |= {f"param/{key}": np.stack(values) for key, values in seen.items()}
    file["radius"] = np.asarray(radii, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=pathlib.Path, help="of the published code")
    parser.add_argument("--write", action="store_true", help="put what comes out there")
    args = parser.parse_args()
    module = published(args.clone)
    git = ["git", "-C", str(args.clone), "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path) as stored:
            file = {key: stored[key] for key in stored}
        before = dict(file)
        meta = json.loads(str(file["meta"]))
        record(module, file, meta)
        recorded = [key for key in file if key == "radius" or key.startswith("param/")]
        worst = max(np.abs(file[key] - before[key]).max() for key in recorded)
        print(f"{path.name}: differs by at most {worst:.1e}")
        if args.write:
            meta |= {"commit": commit.strip(), "torch": version("torch")}
            np.savez_compressed(path, **(file | {"meta": json.dumps(meta)}))


if __name__ == "__main__":
    main()
