"""Emoji by category: what two vendors with open licenses draw for each emoji of a subcategory of Unicode's."""

from collections import Counter
from typing import Final

import numpy as np
from pydantic import BaseModel, TypeAdapter

from benchmarks.domains.domain import Domain, Source, split_by_hash
from benchmarks.domains.marks import CIFAR10, FASHION_MNIST
from benchmarks.domains.packages import Packages, files_below
from workers.tasks.decoding import decode_square

NAME: Final = "emoji"
VERSION: Final = "16.0.0"
SIDE: Final = 64
MAX_PIXELS: Final = 1 << 20
MIN_IMAGES: Final = 20
# Package by vendor. The other vendors' pictures in these packages' family have no open license.
VENDORS: Final = {"google": "Apache 2.0 (Noto Emoji)", "twitter": "CC BY 4.0 (Twemoji)"}
# Keycaps are digits on keys, and digits stay unseen; a tone of skin is no picture.
LEFT_OUT: Final = frozenset({"keycap", "skin-tone"})
NAMESAKES: Final = {
    CIFAR10: (
        *("animal-amphibian", "animal-bird", "animal-mammal", "cat-face"),
        *("transport-air", "transport-ground", "transport-water"),
    ),
    FASHION_MNIST: ("clothing",),
}


class Emoji(BaseModel):
    """What the package's list says of an emoji; its other fields are not needed."""

    subcategory: str
    image: str
    sort_order: int
    has_img_google: bool
    has_img_twitter: bool


def build(packages: Packages) -> Domain:
    """Return the domain: subcategories with 20 images or more, each emoji without its variants in tones of skin."""
    archives = {vendor: packages.npm(f"emoji-datasource-{vendor}", VERSION) for vendor in VENDORS}
    (document,) = files_below(archives["google"], "package/emoji.json").values()
    listed = sorted(TypeAdapter(list[Emoji]).validate_json(document), key=lambda emoji: emoji.sort_order)
    drawn = [
        (emoji.subcategory, vendor, emoji.image)
        for emoji in listed
        if emoji.subcategory not in LEFT_OUT
        for vendor, has_it in (("google", emoji.has_img_google), ("twitter", emoji.has_img_twitter))
        if has_it
    ]
    counts = Counter(subcategory for subcategory, _, _ in drawn)
    classes = sorted(name for name, count in counts.items() if count >= MIN_IMAGES)
    chosen = [item for item in drawn if item[0] in set(classes)]
    files = {vendor: files_below(path, f"package/img/{vendor}/{SIDE}/") for vendor, path in archives.items()}
    pictures = [decode_square(files[vendor][image], SIDE, max_pixels=MAX_PIXELS) for _, vendor, image in chosen]
    return Domain(
        name=NAME,
        shows="emoji of two vendors; a class is a subcategory of Unicode's",
        arrays={
            "x": np.stack([np.asarray(picture) for picture in pictures]),
            "y": np.array([classes.index(subcategory) for subcategory, _, _ in chosen]),
            "classes": np.array(classes),
        },
        sources=tuple(
            Source(package=f"emoji-datasource-{vendor}", version=VERSION, license=license_)
            for vendor, license_ in VENDORS.items()
        ),
        split=split_by_hash(NAME, classes),
        marks={mark: tuple(name for name in names if name in set(classes)) for mark, names in NAMESAKES.items()},
    )
