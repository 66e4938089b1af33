"""A figure of curves as SVG, which needs no library and shows its changes line by line."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 110, 20, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
TICKS = 5


def draw(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Curves by name; `x` and `y` say what the axes are."""
    points = [point for curve in curves.values() for point in curve]
    low = (min(p[0] for p in points), min(p[1] for p in points))
    high = (max(p[0] for p in points), max(p[1] for p in points))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        share = [(v - a) / ((b - a) or 1) for v, a, b in zip(point, low, high, strict=True)]
        return LEFT + share[0] * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share[1] * (HEIGHT - TOP - BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for i in range(TICKS + 1):
        value = [a + (b - a) * i / TICKS for a, b in zip(low, high, strict=True)]
        right, down = place((value[0], value[1]))
        lines.append(f'<path d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{value[1]:.4g}</text>')
        lines.append(f'<text x="{right:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value[0]:.4g}</text>')
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in map(place, curve))
        last = place(curve[-1])
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{last[0] + 6:.1f}" y="{last[1] + 4:.1f}" fill="{colour}">{name}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{x}</text>')
    lines.append(f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{y}</text>')
    return "\n".join([*lines, "</svg>", ""])
