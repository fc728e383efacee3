"""README's pictures of a run's report.html: its first screen, and the threshold explorer moving.

    python tools/pictures.py                of runs/demo -> docs/images/report.png, explorer.gif
    python tools/pictures.py --folder DIR   of another run

Taken in chromium, without a network; the slider is moved as a reader would, and the page counts.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

IMAGES = PROJECT / "docs" / "images"
# Both together: a clone and a page should not wait for them.
MOST_BYTES = 1_000_000
# To the end of the report's first figure.
WIDTH, HEIGHT = 1280, 1052
COLOURS, NEARLY_WHITE = 256, 248
# Places of the slider between its ends, out and back, and how long each is seen.
FRAMES, MILLISECONDS, REST = 15, 110, 1200
# The part of the slider that is shown: outside it all images are accepted, or none.
FROM, TO = 0.15, 0.85
# White around the explorer, in pixels.
MARGIN = 10


def few_colours(images: Sequence[Any]) -> list[Any]:
    """All images with one palette, so that what stands still has the same bytes in all."""
    from PIL import Image

    width, height = images[0].size
    shown = [images[0], images[len(images) // 2], images[-1]]
    sheet = Image.new("RGB", (width, height * len(shown)))
    for place, image in enumerate(shown):
        sheet.paste(image, (0, place * height))
    palette = sheet.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    # Each is a mean, that of white and what is nearly so not quite white.
    means = palette.getpalette() or []
    triples = [means[place : place + 3] for place in range(0, len(means), 3)]
    whitened = [[255] * 3 if min(triple) >= NEARLY_WHITE else triple for triple in triples]
    palette.putpalette([value for triple in whitened for value in triple])
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def image_of(taken: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(taken)).convert("RGB")


def first_screen(page) -> Any:
    """What a reader sees first."""
    page.evaluate("scrollTo(0, 0)")
    return image_of(page.screenshot())


def explorer(page) -> list[Any]:
    """The explorer while its slider goes from the left to the right and back."""
    box = page.locator("#threshold")
    box.evaluate("box => { box.closest('details').open = true; }")
    box.scroll_into_view_if_needed()
    around = box.bounding_box()
    clip = {
        "x": around["x"] - MARGIN,
        "y": around["y"] - MARGIN,
        "width": around["width"] + MARGIN,
        "height": around["height"] + 2 * MARGIN,
    }
    slider = box.locator("input[name=place]")
    lowest, highest = (int(slider.get_attribute(name)) for name in ("min", "max"))
    span = highest - lowest
    places = [FROM + (TO - FROM) * step / FRAMES for step in range(FRAMES + 1)]
    found = []
    for place in places:
        slider.evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }",
            round(lowest + place * span),
        )
        page.wait_for_timeout(80)
        found.append(image_of(page.screenshot(clip=clip)))
    return [*found, *found[-2:0:-1]]


def cropped(images: Sequence[Any]) -> list[Any]:
    """Without the white on the right and below that all of them have."""
    from PIL import Image, ImageChops

    white = Image.new("RGB", images[0].size, "white")
    boxes = (ImageChops.difference(image, white).getbbox() for image in images)
    ends = [box for box in boxes if box]
    right = min(max(end[2] for end in ends) + MARGIN, images[0].width)
    low = min(max(end[3] for end in ends) + MARGIN, images[0].height)
    return [image.crop((0, 0, right, low)) for image in images]


def take(report: Path) -> tuple[Any, list[Any]]:
    """The first screen, and the frames of the explorer."""
    from playwright.sync_api import sync_playwright

    from ldatlib.errors import UserError

    if not report.is_file():
        raise UserError(f"no {report}: python runner.py makes it")
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("no chromium on the PATH (apt install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.context.set_offline(True)
        page.goto(report.resolve().as_uri())
        page.locator("html[data-charts-drawn]").wait_for()
        if not page.locator("#threshold input[name=place]").count():
            raise UserError(f"{report} has no threshold explorer: python runner.py --only 08 10")
        found = first_screen(page), cropped(explorer(page))
        browser.close()
    return found


def main() -> int:
    from ldatlib.errors import UserError

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=PROJECT / "runs" / "demo", metavar="DIR")
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="DIR", help="docs/images")
    options = parser.parse_args()
    try:
        screen, frames = take(options.folder / "report.html")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    paths = options.out / "report.png", options.out / "explorer.gif"
    few_colours([screen])[0].save(paths[0], optimize=True)
    first, *rest = few_colours(frames)
    shown = [MILLISECONDS] * len(frames)
    shown[0] = shown[FRAMES] = REST
    first.save(paths[1], save_all=True, append_images=rest, duration=shown, loop=0, optimize=True)
    size = sum(path.stat().st_size for path in paths)
    print(", ".join(f"{path.name} {path.stat().st_size / 1000:.0f} kB" for path in paths))
    if size > MOST_BYTES:
        print(f"together more than {MOST_BYTES / 1e6:g} MB", file=sys.stderr)
    return int(size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
