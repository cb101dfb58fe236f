"""Which images a folder holds, and how it is prepared once, to be read at random.

Everything is written to a staging folder, read back and counted, and only then moved to
its place: a prepared copy that was interrupted is never taken for a whole one. What a
killed process leaves behind, `.preparing-*` in the data folder, can be removed.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from experiments.data import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class Picture(NamedTuple):
    """One image of a folder and what it is of.

    Attributes:
      path: of the image.
      target: a class name, or the path of a mask.
    """

    path: Path
    target: str | Path


Listing = dict[str, list[Picture]]  # by split


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return sorted(
        p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")
    )


def images(folder: Path) -> list[Path]:
    """The images of a folder, sorted; other files are passed over.

    Raises:
      DataError: if there are none, or one is a link to nothing.
    """
    files = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not files:
        raise DataError(
            f"{folder} holds no images ({', '.join(SUFFIXES)}). Add some or remove "
            "the folder."
        )
    if broken := next((p for p in files if not p.exists()), None):
        raise DataError(
            f"{broken} is a link to {broken.readlink()}, which is not there. Mend or "
            "remove it."
        )
    return files


def passed_over(listing: Listing) -> list[Path]:
    """Visible files, in and below the folders of what is listed, that are not."""
    listed = {
        file
        for pictures in listing.values()
        for picture in pictures
        for file in picture
        if isinstance(file, Path)
    }
    return sorted(
        path
        for folder in {file.parent for file in listed}
        for path in folder.rglob("*")
        if path not in listed
        and path.is_file()
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def require_folders(root: Path, names: Iterable[str], layout: str) -> None:
    """Raises a `DataError` that shows the layout if a folder of `root` is missing."""
    missing = [name for name in names if not (root / name).is_dir()]
    if missing:
        raise DataError(
            f"{root} has no folder {', '.join(missing)}. Expected the layout {layout}; "
            "give the folder that holds it as source_dir."
        )


def fingerprint(listing: Listing, root: Path) -> str:
    """Eight hex digits of the names and sizes of all files, and what they are of."""
    digest = hashlib.sha256()
    for split, pictures in sorted(listing.items()):
        for path, target in pictures:
            files = [path] if isinstance(target, str) else [path, target]
            for file in files:
                name = file.relative_to(root).as_posix()
                digest.update(f"{split} {name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:8]


def read_image(path: Path) -> bytes:
    """The bytes of an image file that decodes from beginning to end.

    Raises:
      DataError: if it does not.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} is not an image that can be read ({error}). Replace or remove it."
        ) from error
    return path.read_bytes()


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Reads a folder that the user has; nothing is ever downloaded or changed there.

    A subclass says what it makes (`_info`), what a folder holds (`listing`) and, if it
    has no labels, what an example is (`example`).

    Attributes:
      FOLDER: "once", to prepare from; "as it is", at every start; "none", if images
        are drawn.
      LAYOUT: of the folder, for messages.
      ALIASES: other names of splits, or of sums of splits.
      advance: called after every image that was prepared.
    """

    FOLDER: ClassVar[Literal["once", "as it is", "none"]] = "once"
    LAYOUT: str
    ALIASES: ClassVar[dict[str, str]] = {}
    advance: Callable[[], None] = staticmethod(lambda: None)

    @classmethod
    def config_of(cls, root: Path) -> tfds.core.BuilderConfig | None:
        """What tells a folder from others, of data that is called after it."""
        del root
        return None

    def listing(self, root: Path) -> Listing:
        """The images of every split.

        Raises:
          DataError: if the folder is laid out otherwise.
        """
        raise NotImplementedError  # each data set has its own

    def example(self, picture: Picture) -> dict[str, Any]:
        """The features of one image.

        Raises:
          DataError: if it cannot be read.
        """
        return {"image": read_image(picture.path), "label": picture.target}

    def mark(self, listing: Listing, root: Path) -> str:
        """Tells this folder from others, and from itself when it has changed."""
        return fingerprint(listing, root)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir)
        listing = self.listing(root)
        metadata: Any = self.info.metadata
        metadata["fingerprint"] = self.mark(listing, root)
        return {
            split: self._generate_examples(pictures, root)
            for split, pictures in listing.items()
        }

    def _generate_examples(
        self, pictures: list[Picture], root: Path
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for picture in pictures:
            yield picture.path.relative_to(root).as_posix(), self.example(picture)
            self.advance()


def is_prepared(place: Path) -> bool:
    """Whether a folder holds a prepared copy that is whole."""
    return (place / "dataset_info.json").exists()


def prepare(
    make_builder: Callable[[Path], FolderBuilder],
    source_dir: Path,
    place: Path,
    data_dir: Path,
) -> None:
    """Prepares the images in `source_dir`.

    Args:
      make_builder: makes the builder that keeps its data in a folder.
      source_dir: is only read.
      place: of the prepared copy, where the builder will look for it.
      data_dir: above `place`; the staging folder is made here.

    Raises:
      DataError: if the folder is laid out otherwise, an image cannot be read, or the
        copy does not hold what the folder holds.
    """
    if place.exists() and not is_prepared(place):
        raise DataError(f"{place} is an unfinished copy. Remove it and start again.")
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=data_dir) as staging:
        builder = make_builder(Path(staging))
        listing = builder.listing(source_dir)
        if empty := [split for split, pictures in listing.items() if not pictures]:
            raise DataError(
                f"{source_dir} holds too few images: none for {', '.join(empty)}."
            )
        if others := passed_over(listing):
            print(
                f"Note: {len(others)} files in {source_dir} are passed over, "
                f"{others[0].relative_to(source_dir)} first. Images are "
                f"{', '.join(SUFFIXES)}, and in no deeper folder than the others.",
                file=sys.stderr,
            )
        config = tfds.download.DownloadConfig(manual_dir=source_dir)
        tfds.disable_progress_bar()  # ours counts images, over all splits
        total = sum(map(len, listing.values()))
        with (
            _progress(f"Preparing {builder.name}", total) as builder.advance,
            contextlib.redirect_stdout(None),  # TFDS announces the staging folder
        ):
            builder.download_and_prepare(download_config=config)
        check_counts(builder, listing)

        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(builder.data_path, place)
        except OSError:
            if not is_prepared(place):  # else another process was faster
                raise


def check_counts(builder: Any, listing: Listing) -> None:
    """Raises a `DataError` unless each split and class holds what the folder holds."""
    features = builder.info.features
    encoded = {name: tfds.decode.SkipDecoding() for name in features if name != "label"}
    for split, pictures in listing.items():
        records = builder.as_data_source(split, decoders=encoded)
        if "label" in features:
            names = features["label"].names
            prepared = Counter(names[record["label"]] for record in records)
            expected = Counter(str(picture.target) for picture in pictures)
        else:
            prepared, expected = len(list(records)), len(pictures)
        if prepared != expected:
            raise DataError(
                f"{builder.name} was prepared with {prepared} images in {split}, but "
                f"the folder holds {expected}. Did it change meanwhile? Start again."
            )


@contextlib.contextmanager
def _progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr when that is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
