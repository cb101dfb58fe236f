"""One mutant: how it is written in a list, and how it is made in a copy."""

import pathlib
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


class Mutant(NamedTuple):
    package: str
    file: str  # in the package
    breaks: str
    tests: list[str]  # files in tests/, without their ending
    select: str  # of pytest -k
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.file}: {self.breaks}"

    @property
    def test_files(self) -> list[str]:
        return [f"tests/{test}.py" for test in self.tests]

    @property
    def expression(self) -> str:
        """What selects its tests, of whatever files."""
        files = " or ".join(pathlib.PurePath(test).name for test in self.tests)
        return f"(({files}) and ({self.select}))"

    def source(self, root: pathlib.Path) -> pathlib.Path:
        return root / self.package / self.file

    def made_of(self, text: str) -> str:
        """The text of its file, with the mistake in it.

        Raises:
          ValueError: the old text is not there exactly once, or Python cannot read the
            new one.
        """
        if (count := text.count(self.old)) != 1 or self.new == self.old:
            raise ValueError(f"its old text is there {count} times, expected once")
        text = text.replace(self.old, self.new)
        try:
            compile(text, self.file, "exec")
        except SyntaxError as error:
            raise ValueError(f"it is no Python: {error}") from error
        return text


def packages() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.txt"))


def listed(package: str) -> list[Mutant]:
    """The mutants of a package, in the order of its list."""
    mutants, file = [], ""
    for line in (HERE / f"{package}.txt").read_text().splitlines():
        if line.startswith("["):
            file = line.strip("[]")
        elif line.startswith(("- ", "+ ")):
            mutants[-1] = _with_line(mutants[-1], line)
        elif line and not line.startswith("#"):
            breaks, tests = line.split(" @ ")
            files, select = tests.split(" -k ")
            mutants.append(Mutant(package, file, breaks, files.split(), select, "", ""))
    return mutants


def _with_line(mutant: Mutant, line: str) -> Mutant:
    field = "old" if line[0] == "-" else "new"
    lines = [*getattr(mutant, field).splitlines(), line[2:]]
    return mutant._replace(**{field: "\n".join(lines)})
