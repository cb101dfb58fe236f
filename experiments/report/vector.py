"""A plot's SVG, made fit to stand inside a page.

Colours become the page's own variables, so that a plot follows its light or dark
ground; words take the page's font; marks carry what they stand for.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from experiments.report.palette import GRID, INK, PAPER, Look

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)

HEAT = "heat"  # id of the image of a heat map
CHOSEN = "chosen-"  # prefix of the ids of marks that the keyboard reaches
SCALE = 1.75  # pixels of a page per point of a plot, at most
SURFACES = {"ink": INK, "grid": GRID, "paper": PAPER}


def inline(
    svg: str,
    description: str,
    looks: Mapping[str, Look],
    tips: Mapping[str, str] | None = None,
    prefix: str = "",
) -> str:
    """Turns the SVG of a plot of matplotlib's into an element of a page.

    Args:
      svg: the whole of it.
      description: the plot's text alternative.
      looks: whose colours follow the ground.
      tips: what the elements of these ids say.
      prefix: tells ids of this plot from those of others on the page.
    """
    root = ET.fromstring(svg)
    for child in root.findall(f"{{{SVG}}}metadata"):
        root.remove(child)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib["style"] = f"max-width: {width * SCALE:.0f}px"
    # An image has no parts: what holds marks to read one by one is a group.
    root.attrib |= {"role": "group" if tips else "img", "aria-label": description}
    for element in root.iter():
        _rename(element, tips or {}, prefix)
    text = ET.tostring(root, encoding="unicode")
    for name, look in {**SURFACES, **looks}.items():
        text = re.sub(look.light, f"var(--{name})", text, flags=re.IGNORECASE)
    return re.sub(r"font: ([\d.]+px|[a-z]+ [\d.]+px)[^;\"]*", _font, text)


def _rename(element: ET.Element, tips: Mapping[str, str], prefix: str) -> None:
    """Keeps ids apart that are referred to, drops the others."""
    key = element.attrib.pop("id", "")
    if key in tips:
        element.attrib |= {"data-tip": tips[key]}
        if key.startswith(CHOSEN):
            element.attrib |= {"tabindex": "0", "role": "img", "aria-label": tips[key]}
    elif key == HEAT:
        element.attrib |= {"class": "heat"}
    elif key and element.tag.rpartition("}")[2] in _REFERRED:
        element.attrib["id"] = prefix + key
    reference = f"{{{XLINK}}}href"
    if element.get(reference, "").startswith("#"):
        element.attrib[reference] = "#" + prefix + element.attrib[reference][1:]
    for name in ("clip-path", "style"):
        if "url(#" in element.get(name, ""):
            element.attrib[name] = element.attrib[name].replace(
                "url(#", f"url(#{prefix}"
            )


_REFERRED = ("path", "clipPath", "linearGradient", "marker", "image")


def _font(found: re.Match[str]) -> str:
    weight, _, size = found[1].rpartition(" ")
    return f"font-weight: {weight or 'normal'}; font-size: {size}"
