"""Weights that are published on the Hugging Face hub, kept in its usual cache."""

import fnmatch
import pathlib
import re
from collections.abc import Sequence

from experiments.models.files import WeightsError

PREFIX = "hf:"
FORM = "hf:organisation/name, then :file and @revision if need be"
# The first pattern that a file of the repository matches decides.
PREFERRED = (
    *("model.safetensors", "*.safetensors", "*.npz", "pytorch_model.bin"),
    *("*.bin", "*.pt", "*.pth", "*.pth.tar"),
)
# What is said of an error of the hub's library; the first that fits.
REASONS = {
    "GatedRepoError": "access has to be asked for on its page, and a login",
    "RepositoryNotFoundError": "there is no such repository, or it needs a login",
    "RevisionNotFoundError": "the repository has no such revision",
    "LocalEntryNotFoundError": "it is not in the cache and the hub is out of reach",
}


def fetch(spec: str) -> pathlib.Path:
    """The path of a published file of weights, which is fetched unless it is cached.

    Args:
      spec: `hf:organisation/name`, of which the file that `PREFERRED` likes best is
        taken, or `hf:organisation/name:file`; a branch, tag or commit after `@`.

    Raises:
      WeightsError: the hub cannot be reached and the file is not in the cache, or there
        is no such repository or file.
    """
    repository, file, revision = parsed(spec)
    try:
        import huggingface_hub
    except ImportError as error:
        raise WeightsError(
            f"{spec}: pip install huggingface_hub to fetch it"
        ) from error
    try:
        files, cached = _files(repository, revision)
        return pathlib.Path(
            huggingface_hub.hf_hub_download(
                repository,
                _chosen(spec, files, [file] if file else PREFERRED),
                revision=revision,
                local_files_only=cached,
            )
        )
    except WeightsError:
        raise
    except Exception as error:  # of the hub, of the network, of the disk
        kinds = {kind.__name__ for kind in type(error).__mro__}
        known = [reason for name, reason in REASONS.items() if name in kinds]
        (reason, *_) = (*known, *str(error).splitlines(), type(error).__name__)
        raise WeightsError(f"{spec}: {reason}.") from error


def parsed(spec: str) -> tuple[str, str | None, str | None]:
    """Repository, file and revision that a spec names.

    Raises:
      WeightsError: it is of another form.
    """
    parts = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?::([^@]+))?(?:@(.+))?", spec)
    if parts is None:
        raise WeightsError(f"{spec}: expected {FORM}.")
    repository, file, revision = parts.groups()
    return repository, file, revision


def _files(repository: str, revision: str | None) -> tuple[list[str], bool]:
    """Those of the repository; or, without a connection, those in the cache, and so."""
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    try:
        siblings = api.model_info(repository, revision=revision).siblings or ()
        return [sibling.rfilename for sibling in siblings], False
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except Exception:  # there are many ways of not reaching a server
        folder = pathlib.Path(
            api.snapshot_download(repository, revision=revision, local_files_only=True)
        )
        return [p.relative_to(folder).as_posix() for p in folder.rglob("*.*")], True


def _chosen(spec: str, files: Sequence[str], patterns: Sequence[str]) -> str:
    fitting = [sorted(fnmatch.filter(files, pattern)) for pattern in patterns]
    best = next(filter(None, fitting), [])
    if len(best) == 1:
        return best[0]
    raise WeightsError(
        f"{spec}: expected {' or '.join(patterns)}, got"
        f" {', '.join((best or sorted(files))[:8])}; name one: {FORM}."
    )
