"""Write letters and digits, drawn from the fonts that come with matplotlib, as a zip of class folders of PNG files.

62 classes of 120 gray images of 32x32 pixels; place, size, rotation, thickness and contrast are drawn at random, and
the same each time. A meta-run can learn from them without a download.

usage: python examples/glyphs.py OUT.zip
"""

import io
import string
import sys
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

NUM_IMAGES = 120
SIDE = 32
SCALE = 3  # drawn so many times larger, then shrunk: smooth edges at any angle
FAMILIES = ("DejaVu", "STIXGeneral", "cmb", "cmmi", "cmr", "cmss", "cmti", "cmtt")  # those of symbols are left out
CLASSES = {
    **{f"digit_{glyph}": glyph for glyph in string.digits},
    **{f"lower_{glyph}": glyph for glyph in string.ascii_lowercase},
    **{f"upper_{glyph.lower()}": glyph for glyph in string.ascii_uppercase},
}


def fonts() -> list[Path]:
    """Return the fonts that draw every class: each family of text that has all of the glyphs."""
    paths = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    wanted = set(map(ord, CLASSES.values()))
    return [path for path in paths if path.name.startswith(FAMILIES) and wanted <= FT2Font(path).get_charmap().keys()]


def draw(glyph: str, font: Path, generator: np.random.Generator) -> Image.Image:
    """Return one image of a glyph."""
    side = SIDE * SCALE
    letter = ImageFont.truetype(font, size=int(generator.uniform(0.5, 0.9) * side))
    thickness = int(generator.integers(0, SCALE + 1))
    ink = Image.new("L", (side, side))
    place = side / 2 + generator.uniform(-0.1, 0.1, size=2) * side
    ImageDraw.Draw(ink).text(tuple(place), glyph, fill=255, font=letter, anchor="mm", stroke_width=thickness)
    ink = ink.rotate(generator.uniform(-20, 20), Image.Resampling.BILINEAR).resize((SIDE, SIDE), Image.Resampling.BOX)
    dark, light = generator.uniform(0, 100), generator.uniform(155, 255)
    paper, pen = (dark, light) if generator.random() < 0.5 else (light, dark)
    pixels = paper + (pen - paper) * np.asarray(ink, dtype=np.float64) / 255
    return Image.fromarray(pixels.round().astype(np.uint8))


def main() -> None:
    """Write the archive that the command line names."""
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    usable = fonts()
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(out, "w") as archive:
        for name, glyph in CLASSES.items():
            for number in range(NUM_IMAGES):
                png = io.BytesIO()
                draw(glyph, usable[number % len(usable)], generator).save(png, "PNG")
                # Without the time of day the same images are the same archive, which a service keeps once.
                archive.writestr(zipfile.ZipInfo(f"{name}/{number:03d}.png"), png.getvalue())
    print(f"{out}: {len(CLASSES) * NUM_IMAGES} images in {len(CLASSES)} classes, drawn from {len(usable)} fonts")


if __name__ == "__main__":
    main()
