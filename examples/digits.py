"""Write scikit-learn's digits, 1,797 grey images of 8x8 pixels, as a zip of class folders of PNG files.

usage: python examples/digits.py OUT.zip
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def main() -> None:
    """Write the archive that the command line names."""
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    with zipfile.ZipFile(out, "w") as archive:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            png = io.BytesIO()
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(png, "PNG")
            archive.writestr(f"{label}/{number:04d}.png", png.getvalue())
    print(f"{out}: {len(digits.target)} images in {len(digits.target_names)} classes")


if __name__ == "__main__":
    main()
