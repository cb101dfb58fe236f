"""Weights of the Hugging Face hub, for which a server of this process stands in."""

# ruff: noqa: E402

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

constants = pytest.importorskip("huggingface_hub.constants")

from experiments.models import hub
from experiments.models.weights import WeightsError, load_weights
from tiny_networks import arrays_of, assert_same, tiny

COMMIT = 40 * "a"
REPOSITORIES = {
    "timm/both": ["README.md", "pytorch_model.bin", "model.safetensors"],
    "timm/other": ["config.json", "open_clip.safetensors", "open_clip.bin"],
    "google/arrays": ["flax_model.msgpack", "ViT-B_16.npz", "tf_model.h5"],
    "openai/clip": ["merges.txt", "open_clip_pytorch_model.bin", "pytorch_model.bin"],
    "some/moco": ["README.md", "r-50-1000ep.pth.tar"],
    "some/shards": ["model-1-of-2.safetensors", "model-2-of-2.safetensors"],
    "some/texts": ["README.md"],
    "some/gated": None,
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Lists the files of a repository and serves them; their content is their name."""

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        self.server.requests.append((self.command, self.path))
        path = self.path.removeprefix("/api/models").strip("/")
        organisation, name, *rest = path.split("/")
        revision, *file = rest[1:] or ["main"]
        repository, file = f"{organisation}/{name}", "/".join(file)
        if repository not in REPOSITORIES:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        if REPOSITORIES[repository] is None:
            return self.answer(403, {"X-Error-Code": "GatedRepo"})
        if revision not in ("main", "v1", COMMIT):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        files = REPOSITORIES[repository]
        if self.path.startswith("/api"):
            siblings = [{"rfilename": name} for name in files]
            body = json.dumps({"id": repository, "siblings": siblings})
            return self.answer(200, {}, body.encode())
        if file not in files:
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        body = self.server.contents.get(file, file.encode())
        etag = hashlib.sha256(body).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        return self.answer(200, headers, body, head)

    def answer(self, status, headers, body=b"", head=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        running.requests, running.contents = [], {}
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def local_hub(server, tmp_path, monkeypatch):
    """The library, which reads its environment once, as if it had been imported now."""
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return server


@pytest.mark.parametrize(("spec", "file"), [
    ("hf:timm/both", "model.safetensors"),
    ("hf:timm/both@v1", "model.safetensors"),
    ("hf:timm/both:pytorch_model.bin", "pytorch_model.bin"),
    ("hf:timm/both:pytorch_model.bin@v1", "pytorch_model.bin"),
    ("hf:timm/other", "open_clip.safetensors"),
    ("hf:google/arrays", "ViT-B_16.npz"),
    ("hf:openai/clip", "pytorch_model.bin"),
    ("hf:some/moco", "r-50-1000ep.pth.tar"),
])  # fmt: skip
def test_the_best_file_is_fetched_once(local_hub, monkeypatch, spec, file):
    path = hub.fetch(spec)
    assert path.read_text() == path.name == file
    assert hub.fetch(spec) == path
    fetched = [p for command, p in local_hub.requests if command == "GET"]
    assert len([p for p in fetched if "/resolve/" in p]) == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    count = len(local_hub.requests)
    assert hub.fetch(spec) == path
    assert len(local_hub.requests) == count


REFUSED = {
    "hf:resnet18": "expected hf:organisation/name, then :file and @revision if need be",
    "hf:timm/unknown": "there is no such repository, or it needs a login",
    "hf:timm/both@v9": "the repository has no such revision",
    "hf:timm/both:x.npz": r"expected x\.npz, got README\.md, model\.s",
    "hf:timm/both:x.npz@v9": "the repository has no such revision",
    "hf:some/gated": "access has to be asked for on its page, and a login",
    "hf:some/texts": r"expected model.safetensors or .* got README\.md",
    "hf:some/shards": r"got model-1-of-2\.safetensors, model-2-of-2\.safetensors; name",
}


@pytest.mark.parametrize("spec", REFUSED)
def test_what_cannot_be_fetched_is_refused_in_one_line(local_hub, spec):
    with pytest.raises(WeightsError, match=f"^{spec}: .*{REFUSED[spec]}.*$"):
        hub.fetch(spec)


@pytest.mark.parametrize("spec", ["hf:timm/both", "hf:timm/both:model.safetensors"])
@pytest.mark.parametrize("offline", [True, False])
def test_what_is_not_cached_needs_a_connection(local_hub, monkeypatch, spec, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    local_hub.shutdown()
    local_hub.server_close()
    with pytest.raises(
        WeightsError, match=f"^{spec}: it is not in the cache and the h"
    ):
        hub.fetch(spec)


def test_without_the_library_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match="pip install huggingface_hub"):
        hub.fetch("hf:timm/both")


def test_a_model_is_filled_from_the_hub(local_hub, tmp_path):
    expected = arrays_of(tiny("vit", seed=1))
    np.savez(tmp_path / "x.npz", **expected)
    local_hub.contents["ViT-B_16.npz"] = (tmp_path / "x.npz").read_bytes()
    model = tiny("vit")
    load_weights(model, "hf:google/arrays")
    assert_same(model, expected)


def test_the_environment_says_where_the_hub_is(server, tmp_path):
    code = "from experiments.models import hub; print(hub.fetch('hf:timm/both'))"
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
    }
    run = functools.partial(
        subprocess.run, [sys.executable, "-c", code], check=True, capture_output=True
    )
    first = run(env=environment).stdout
    assert str(tmp_path).encode() in first
    assert run(env=environment | {"HF_HUB_OFFLINE": "1"}).stdout == first
