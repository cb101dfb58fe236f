"""How far each method moved each layer."""

from experiments.report import layers
from experiments.report.summarise import Group
from experiments.report.table import Cell, Table


def drift(group: Group) -> Table | None:
    """A row for each kernel: how far each method moved it."""
    methods = list(group.methods.values())
    found = [layers.relative_drifts(method.chosen) for method in methods]
    absolute = [layers.drifts(method.chosen) for method in methods]
    names = layers.weights(list(dict.fromkeys(n for by in absolute for n in by)))
    rows = [
        [
            Cell(layers.short(name)),
            *(
                Cell(_drift_text(a.get(name), r.get(name)), r.get(name))
                for a, r in zip(absolute, found, strict=True)
            ),
        ]
        for name in names
    ]
    if not rows:
        return None
    return Table(
        key="drift",
        title="Drift per layer",
        caption="Kernels in forward order: the largest L1 norm of a row of the change,"
        " and in brackets its share of the kernel's own largest row norm at the start,"
        " unless that is zero. Mean over seeds, at the chosen settings.",
        heads=["Layer", *(method.label for method in methods)],
        rows=rows,
    )


def _drift_text(absolute: float | None, relative: float | None) -> str:
    if absolute is None:
        return "–"
    share = "" if relative is None else f" ({relative:.1%})"
    return f"{absolute:.3g}{share}"
