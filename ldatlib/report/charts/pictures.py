"""Images for charts: small PNGs in the text of the page."""

import base64
import io

from PIL import Image
from torch import Tensor

# Pixels of a side at least, so that a browser does not blur a small image.
_SIDE = 64


def data_uri(image: Tensor) -> str:
    """A PNG of an image [C, H, W] in [0, 1], of 1 or 3 channels; what is outside is cut.

    As a ``data:`` address: a page that shows it asks nobody. Small images are made larger by whole
    factors, without blur.
    """
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    factor = max(-(-_SIDE // max(picture.size)), 1)
    # Few colours compress well, and larger pixels cost next to nothing.
    large = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    written = io.BytesIO()
    large.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
