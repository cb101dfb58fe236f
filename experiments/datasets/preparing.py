"""Prepares a folder of images once, as array_record files that are read at random.

Everything is written to a staging folder, read back and counted, and only then moved to
its place: a prepared copy that was interrupted is never taken for a whole one. What a
killed process leaves behind, `.preparing-*` in the data folder, can be removed.
"""

import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from experiments.datasets.errors import DataError
from experiments.datasets.folders import (
    SUFFIXES,
    Listing,
    Picture,
    fingerprint,
    passed_over,
    read_image,
)


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Reads a folder that the user has; nothing is ever downloaded or changed there.

    A subclass says what it makes (`_info`), what a folder holds (`listing`) and, if it
    has no labels, what an example is (`example`).

    Attributes:
      LAYOUT: of the folder, for messages.
      ALIASES: other names of splits, or of sums of splits.
      advance: called after every image that was prepared.
    """

    LAYOUT: str
    ALIASES: ClassVar[dict[str, str]] = {}
    advance: Callable[[], None] = staticmethod(lambda: None)

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
            found = Counter(names[record["label"]] for record in records)
            expected = Counter(str(picture.target) for picture in pictures)
        else:
            found, expected = len(list(records)), len(pictures)
        if found != expected:
            raise DataError(
                f"{builder.name} was prepared with {found} images in {split}, but the "
                f"folder holds {expected}. Did it change meanwhile? Start again."
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
