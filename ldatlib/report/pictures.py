"""Pictures in the text of a page, as ``data:`` addresses: whoever shows one asks nobody.

They are WebP without loss, which every browser shows, at half the size of a PNG.
"""

import base64
import io

from PIL import Image
from torch import Tensor

# Pixels of a side at least, so that a browser does not blur a small image.
_SIDE = 64
# One transparent pixel, where there is no image to show.
NOTHING = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def uri_of_png(content: bytes) -> str:
    """A PNG file's picture, the same pixels."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return _uri(picture)


def uri_of_image(image: Tensor) -> str:
    """An image [C, H, W] in [0, 1], of 1 or 3 channels; what is outside is cut.

    Small images are made larger by whole factors, without blur.
    """
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    factor = max(-(-_SIDE // max(picture.size)), 1)
    size = (picture.width * factor, picture.height * factor)
    return _uri(picture.resize(size, Image.Resampling.NEAREST))


def _uri(picture: Image.Image) -> str:
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()
