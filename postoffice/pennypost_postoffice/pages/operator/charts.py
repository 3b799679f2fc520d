"""Plots as SVG without a script: lines over time and bars by day. Words and figures stand beside them as text."""

from __future__ import annotations

from collections.abc import Sequence

from pennypost_postoffice.pages.markup import Html, tag

WIDTH, HEIGHT = 600, 120

_THIN = "non-scaling-stroke"

Values = Sequence[float | None]


def figure(
    title: str,
    lines: Sequence[tuple[str, Values]],
    ends: tuple[str, str],
    form: str = "{:,.1f}",
    *,
    bars: bool = False,
) -> Html:
    """A plot of named series, six at most, from left to right; `ends` says when it begins and ends.

    Of one or two the last values stand above it, of more in the legend.
    """
    numbers = [value for _, values in lines for value in values if value is not None]
    top = _round(max(numbers, default=0.0))
    said = "; ".join(f"{name}: {_said(values, form)}" for name, values in lines)
    draw = _bars if bars else _lines
    marks = [draw(values, top, number) for number, (_, values) in enumerate(lines)]
    grid = [
        tag("line", x1=0, x2=WIDTH, y1=HEIGHT * part, y2=HEIGHT * part, class_="grid", vector_effect=_THIN)
        for part in (0, 0.5, 1)
    ]
    svg = tag(
        "svg",
        *grid,
        *marks,
        viewBox=f"0 -2 {WIDTH} {HEIGHT + 4}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{title}, {ends[0]} to {ends[1]}. {said}",
    )
    few = len(lines) <= 2
    legend = tag(
        "span",
        *(
            tag("span", name if few else f"{name} {_last(values, form)}", class_=f"key line{number}")
            for number, (name, values) in enumerate(lines)
        ),
        class_="keys" if few else "keys many",
    )
    now = " · ".join(_last(values, form) for _, values in lines) if few else ""
    return tag(
        "figure",
        tag("figcaption", tag("span", title, class_="name"), tag("span", now, class_="now"), class_="title"),
        tag("div", tag("span", form.format(top), class_="top soft"), svg, class_="plot"),
        tag("div", tag("span", ends[0]), legend, tag("span", ends[1]), class_="ends soft"),
        class_="chart",
    )


def _round(most: float) -> float:
    """The least round number that is not below it; 1 for nothing."""
    if most <= 0:
        return 1.0
    step = 0.001
    while True:
        for factor in (1, 1.5, 2, 3, 4, 5, 6, 8):
            if most <= factor * step:
                return factor * step
        step *= 10


def _said(values: Values, form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "nothing known"
    return f"between {form.format(min(known))} and {form.format(max(known))}, at last {form.format(known[-1])}"


def _last(values: Values, form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(known[-1]) if known else "–"


def _y(value: float, top: float) -> float:
    return round(HEIGHT * (1 - value / top), 1)


def _lines(values: Values, top: float, number: int) -> Html:
    """A line that is broken where nothing is known; a point alone is a short stroke."""
    step = WIDTH / max(1, len(values) - 1)
    path: list[str] = []
    last: float | None = None
    for at, value in enumerate(values):
        if value is not None:
            x, y = round(at * step, 1), _y(value, top)
            alone = last is None and (at + 1 == len(values) or values[at + 1] is None)
            path.append(f"M{x - 1.5} {y}h3" if alone else f"{'M' if last is None else 'L'}{x} {y}")
        last = value
    return tag("path", d="".join(path), class_=f"line line{number}", vector_effect=_THIN)


def _bars(values: Values, top: float, number: int) -> Html:
    step = WIDTH / max(1, len(values))
    wide = step * 0.36
    return Html(
        "".join(
            tag(
                "rect",
                x=round(at * step + step * 0.12 + number * wide, 1),
                y=_y(value, top),
                width=round(wide, 1),
                height=round(HEIGHT - _y(value, top), 1),
                class_=f"bar line{number}",
            )
            for at, value in enumerate(values)
            if value
        )
    )
