"""The seal: 拡散 as two 16x16 bitmaps of the public-domain Shinonome font, as in the data of the demo."""

KAKU = "10101010101011ff7d0011101110111011101d10712412241242125e15e13801"
SAN = "122012207f20123f12247fc400443ea422243e2822183e102228224422822701"
_SIDE, _MARGIN, _GAP = 16, 4, 2


def seal(*glyphs: str, colour: str = "currentColor") -> str:
    """White glyphs on one colour, from top to bottom as on a stamp; 拡散 unless others are given."""
    glyphs = glyphs or (KAKU, SAN)
    width, height = _SIDE + 2 * _MARGIN, len(glyphs) * (_SIDE + _GAP) - _GAP + 2 * _MARGIN
    ink = "".join(
        _path(glyph, _MARGIN, _MARGIN + place * (_SIDE + _GAP)) for place, glyph in enumerate(glyphs)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="seal" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="拡散"><rect width="{width}" height="{height}" rx="2.5" fill="{colour}"/>'
        f'<path fill="#fff" d="{ink}"/></svg>'
    )


def _path(glyph: str, left: int, top: int) -> str:
    """One stroke for each run of dark pixels in a row; a glyph is four hexadecimal digits a row."""
    strokes = []
    for y in range(_SIDE):
        bits = f"{int(glyph[4 * y : 4 * y + 4], 16):016b}"
        x = 0
        while (x := bits.find("1", x)) >= 0:
            length = len(bits[x:]) - len(bits[x:].lstrip("1"))
            strokes.append(f"M{left + x} {top + y}h{length}v1h-{length}z")
            x += length
    return "".join(strokes)
