"""Bar charts, laid out once and drawn twice: as SVG for web pages, as PNG for everything else. No plotting library.

A layout is a list of boxes and texts with their places; the two painters know nothing of charts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from .pages import Chart

WIDTH = 760
LABEL_WIDTH = 230
VALUE_WIDTH = 90
BAR = 16
GAP = 8
MARGIN = 16
TITLE_HEIGHT = 34
LEGEND_HEIGHT = 24
FONT = 13
TITLE_FONT = 16
LABEL_CHARS = 32
"""A longer name loses its middle: its beginning and its tag tell models apart."""

PNG_SCALE = 2
"""Pixels per unit: sharp on today's screens."""

INK = "#1f2933"
FAINT = "#6b7785"
PAPER = "#ffffff"
COLOURS = ("#2f6f8f", "#d98032")
"""Told apart by people who see no red or green, too."""


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    x: float
    y: float
    """Of the line that the letters stand on."""
    text: str
    anchor: Literal["start", "end"] = "start"
    size: int = FONT
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Drawing:
    height: float
    shapes: list[Box | Text]


def lay_out(chart: Chart) -> Drawing:
    """One chart, as wide as WIDTH. Every bar is written out as well: nobody has to read an axis."""
    shapes: list[Box | Text] = [Text(MARGIN, MARGIN + FONT, chart.title, size=TITLE_FONT)]
    y = float(MARGIN + TITLE_HEIGHT)
    if chart.series:
        x = float(LABEL_WIDTH)
        for name, colour in zip(chart.series, COLOURS, strict=False):
            shapes += [Box(x, y - 2, 12, 12, colour), Text(x + 18, y + 9, shortened(name, LABEL_CHARS))]
            x += (WIDTH - LABEL_WIDTH) / 2
        y += LEGEND_HEIGHT
    values = [value for bars in chart.bars for value in bars.values if value is not None]
    longest = max(values, default=0.0) or 1.0
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN
    for bars in chart.bars:
        middle = y + BAR * len(bars.values) / 2 + FONT / 3
        shapes.append(Text(LABEL_WIDTH - 10, middle, shortened(bars.label, LABEL_CHARS), anchor="end"))
        for value, colour in zip(bars.values, COLOURS, strict=False):
            length = max(1.0, room * value / longest) if value is not None else 0.0
            if length:
                shapes.append(Box(LABEL_WIDTH, y + 1, length, BAR - 2, colour))
            shapes.append(Text(LABEL_WIDTH + length + 6, y + BAR - 4, chart.write(value), colour=FAINT))
            y += BAR
        y += GAP
    return Drawing(y + MARGIN, shapes)


def stacked(drawings: Sequence[Drawing], *, top: float = 0) -> Drawing:
    """All of them below each other, the first `top` below the edge."""
    shapes: list[Box | Text] = []
    y = top
    for drawing in drawings:
        for shape in drawing.shapes:
            if isinstance(shape, Box):
                shapes.append(Box(shape.x, shape.y + y, shape.width, shape.height, shape.colour))
            else:
                shapes.append(Text(shape.x, shape.y + y, shape.text, shape.anchor, shape.size, shape.colour))
        y += drawing.height
    return Drawing(y, shapes)


def shortened(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    head = (chars - 1) // 2
    return f"{text[:head]}…{text[head + 1 - chars :]}"


def svg(drawing: Drawing) -> str:
    """An `<svg>` element that stands in HTML as it is."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {drawing.height:g}" '
        f'width="{WIDTH}" height="{drawing.height:g}" font-family="sans-serif">'
    ]
    for shape in drawing.shapes:
        if isinstance(shape, Box):
            lines.append(
                f'<rect x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}" '
                f'fill="{shape.colour}"/>'
            )
        else:
            lines.append(
                f'<text x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size}" text-anchor="{shape.anchor}" '
                f'fill="{shape.colour}">{escape(shape.text)}</text>'
            )
    return "\n".join([*lines, "</svg>"])


def png(drawing: Drawing) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * PNG_SCALE, round(drawing.height * PNG_SCALE)), PAPER)
    pen = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        x, y = shape.x * PNG_SCALE, shape.y * PNG_SCALE
        if isinstance(shape, Box):
            # Pillow counts the last pixel in
            corner = (x + shape.width * PNG_SCALE - 1, y + shape.height * PNG_SCALE - 1)
            pen.rectangle(((x, y), corner), fill=shape.colour)
        else:
            font = ImageFont.load_default(shape.size * PNG_SCALE)
            pen.text((x, y), shape.text, shape.colour, font, anchor="ls" if shape.anchor == "start" else "rs")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
