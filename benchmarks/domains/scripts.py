"""Letters by script, drawn from Debian's Noto fonts: serif and sans, in all weights, widths and styles there are."""

import hashlib
import itertools
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.domains.domain import Domain, Source, split_by_hash
from benchmarks.domains.packages import Packages, UnavailableSourceError

NAME: Final = "scripts"
PACKAGES: Final = ("fonts-noto-core", "fonts-noto-extra")
FOLDER: Final = Path("usr/share/fonts/truetype/noto")
SIDE: Final = 64
FONT_SIZE: Final = 44  # pixels an em
INK_SIDE: Final = 56  # letters that are larger are drawn smaller
MIN_IMAGES: Final = 20
MAX_IMAGES: Final = 400
# What a font's name has around that of its script: NotoSansTamil, NotoSerifTamilSlanted, NotoKufiArabic.
STYLES: Final = ("Sans", "Serif", "Kufi", "Naskh", "Nastaliq", "Rashi", "Looped", "Traditional")
ENDINGS: Final = ("Slanted", "Unjoined", "Supplement", "Display", "Mono")
# Their letters are those of no script of their own.
NO_SCRIPTS: Final = frozenset({"IndicSiyaqNumbers", "Math", "Music", "SignWriting", "Symbols", "Symbols2"})
# Fonts that are named for no script have three, by the first word of a letter's name.
UNNAMED: Final = {"LATIN": "Latin", "GREEK": "Greek", "CYRILLIC": "Cyrillic"}

Letter = tuple[Path, str]
"""A letter and the font to draw it with."""


def build(packages: Packages) -> Domain:
    """Return the domain: of each script with 20 drawings or more, at most 400, by all its fonts and of all its letters.

    Raises:
        UnavailableSourceError: The packages cannot be had, or have no such fonts.
    """
    unpacked = [packages.debian(name) for name in PACKAGES]
    fonts = sorted(path for package in unpacked for path in (package.root / FOLDER).glob("*.[ot]tf"))
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    classes: list[str] = []
    for script, letters in sorted(letters_by_script(fonts).items()):
        drawn = drawings(script, letters)
        if len(drawn) >= MIN_IMAGES:
            labels += [len(classes)] * len(drawn)
            images += drawn
            classes.append(script)
    if not classes:
        expected = f"those of {' and '.join(PACKAGES)}"
        raise UnavailableSourceError("the fonts draw no script", got=f"{len(fonts)} fonts", expected=expected)
    return Domain(
        name=NAME,
        shows="letters, black on white, by the weights and styles of many fonts; a class is a script",
        arrays={"x": np.stack(images), "y": np.array(labels), "classes": np.array(classes)},
        sources=tuple(
            Source(package=name, version=package.version, license="SIL Open Font License 1.1")
            for name, package in zip(PACKAGES, unpacked, strict=True)
        ),
        split=split_by_hash(NAME, classes),
    )


def letters_by_script(fonts: Sequence[Path]) -> dict[str, list[Letter]]:
    """Return the letters that fonts have of the scripts that they are named for: no digits, no signs of other scripts.

    A font's own letters are those whose names in Unicode begin with the word that most of them begin with.
    """
    found: dict[str, list[Letter]] = defaultdict(list)
    for path in fonts:
        script = script_of(path)
        words = {} if script is None else _first_words(path)
        own = {word: script for word, _ in Counter(words.values()).most_common(1)} if script else UNNAMED
        for letter, word in sorted(words.items()):
            if word in own:
                found[own[word]].append((path, letter))
    return found


def script_of(font: Path) -> str | None:
    """Return the script that a font is named for; "" where its name has none, None where its letters are no script's.

    Fonts for user interfaces are left out: they draw the same letters as others.
    """
    family = font.stem.partition("-")[0].removeprefix("Noto")
    for style in STYLES:
        family = family.removeprefix(style)
    for ending in ENDINGS:
        family = family.removesuffix(ending)
    if family in NO_SCRIPTS or family.endswith("UI"):
        return None
    if family.startswith("Tifinagh"):  # a font for each region
        return "Tifinagh"
    return "Arabic" if family == "Urdu" else family


def drawings(script: str, letters: Sequence[Letter]) -> list[NDArray[np.uint8]]:
    """Return gray images [64, 64] of at most 400 letters, the first by the hash of script, font and letter."""

    def draw_order(item: Letter) -> bytes:
        return hashlib.sha256(f"{script}/{item[0].stem}/{item[1]}".encode()).digest()

    @cache
    def font_of(path: Path, size: int) -> ImageFont.FreeTypeFont:
        # The basic layout draws the same on every machine; shaping would take a library that not all have.
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)

    def drawn() -> Iterator[NDArray[np.uint8]]:
        for path, letter in sorted(letters, key=draw_order):
            ink = ink_of(letter, font_of(path, FONT_SIZE))
            if ink is not None and max(ink.size) > INK_SIDE:
                ink = ink_of(letter, font_of(path, FONT_SIZE * INK_SIDE // max(ink.size)))
            if ink is not None:
                yield in_the_middle(ink)

    return list(itertools.islice(drawn(), MAX_IMAGES))


def ink_of(letter: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """Return a letter in white on black, cut to its ink; None where it has none."""
    left, top, right, bottom = font.getbbox(letter)
    drawn = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(drawn).text((1 - left, 1 - top), letter, fill=255, font=font)
    box = drawn.getbbox()
    return None if box is None else drawn.crop(box)


def in_the_middle(ink: Image.Image) -> NDArray[np.uint8]:
    """Return ink as black in the middle of a white image, uint8 [64, 64]."""
    image = Image.new("L", (SIDE, SIDE))
    image.paste(ink, ((SIDE - ink.width) // 2, (SIDE - ink.height) // 2))
    return 255 - np.asarray(image)


def _first_words(font: Path) -> dict[str, str]:
    """Return the first word of the Unicode name of each letter of a font that has one."""
    letters = [chr(code) for code in FT2Font(font).get_charmap() if unicodedata.category(chr(code)).startswith("L")]
    return {letter: name.split()[0] for letter in letters if (name := unicodedata.name(letter, ""))}
