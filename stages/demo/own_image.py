"""An image file of the user's, of any size, as an array; everything that can be wrong with it said in one line."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.core.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
LARGEST_MP = 50.0  # megapixels: 150 MB once decoded
THEN = "give a JPEG, PNG, WebP or BMP file, as in `fastdrive prune photo.jpg`"


def read_own(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The first picture of `path`, RGB, turned as its camera says.

    Raises DataError for a file that is missing, no image, cut short, over LARGEST_MP, or of more than 8 bits a colour.
    """
    if not path.is_file():
        came = "a folder" if path.is_dir() else "no such file"
        raise DataError(expected=f"the image {path}", got=came, fix=THEN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is judged below
            image = Image.open(path, formats=FORMATS)
        with image:
            _check(image, path)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error)) from error
    except UnidentifiedImageError as error:
        raise DataError(expected=f"an image in {path}", got="a file that is none", fix=THEN) from error
    except (OSError, SyntaxError) as error:
        raise DataError(expected=f"a whole image in {path}", got=str(error), fix=THEN) from error


def _check(image: Image.Image, path: Path) -> None:
    W, H = image.size
    if W * H > LARGEST_MP * 1e6:
        raise _too_large(path, f"{W} x {H}, {W * H / 1e6:.0f} MP")
    if image.mode.startswith(("I", "F")):
        came = f"mode {image.mode}"
        raise DataError(expected=f"8 bits a colour in {path}", got=came, fix=THEN)


def _too_large(path: Path, came: str) -> DataError:
    then = "save a smaller copy (the tower sees a small one anyway) and run `fastdrive prune smaller.jpg`"
    return DataError(expected=f"at most {LARGEST_MP:.0f} megapixels in {path}", got=came, fix=then)
