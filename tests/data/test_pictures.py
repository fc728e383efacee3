"""Pictures of every mode, depth and orientation come out with their true greys and colours.

The files are made here, byte by byte where Pillow cannot write what it can read.
"""

import logging
import os
import struct
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageMode
from tiny import PROJECT

from ldatlib.data import pictures
from ldatlib.data.listing import ENDINGS
from ldatlib.data.load import load_dataset
from ldatlib.data.modes import RULES, Refused, flatten, is_grey, rule_of
from ldatlib.data.pictures import read_pictures
from ldatlib.errors import UserError


def read(*paths, image_size=None):
    """Pixels [N, C, H, W] of files that make a folder of their own."""
    root = paths[0].parent
    splits = {"train": list(paths), "test": [paths[0]]}
    return read_pictures(splits, root, image_size, None)["train"]


def greys(path):
    """Rows of greys of a single grey picture."""
    (image,) = read(path)
    assert image.shape[0] == 1, "grey became colour"
    return image[0].tolist()


def colours(path):
    """Rows of colours of a single picture in colour."""
    (image,) = read(path)
    assert image.shape[0] == 3, "colour became grey"
    return [[tuple(pixel) for pixel in row] for row in image.permute(1, 2, 0).tolist()]


def refusal(*paths, **options):
    with pytest.raises(UserError) as caught:
        read(*paths, **options)
    message = str(caught.value)
    assert "\n" not in message and str(paths[-1]) in message
    return message


def saved(path, array, **options):
    Image.fromarray(np.asarray(array)).save(path, **options)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


def png(depth, colour, rows, *, tRNS=b"", PLTE=b""):
    """A PNG of packed ``rows`` of two pixels in height and width."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 2, 2, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", PLTE), (b"tRNS", tRNS)]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    chunks = (chunk(kind, data) for kind, data in parts if data or kind == b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(data, bits, *, photometric=1, sample_format=1, orientation=1, extra=None):
    """A TIFF of 2x2 pixels with one or, with ``extra``, two samples a pixel, little-endian."""
    samples = 1 if extra is None else 2
    tags = {256: 2, 257: 2, 259: 1, 262: photometric, 274: orientation, 277: samples, 278: 2}
    tags |= {258: bits, 339: sample_format}
    if extra is not None:
        tags |= {338: extra}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {273: start, 279: len(data)}
    out = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in sorted(tags.items()):
        if tag in (258, 339) and samples == 2:
            out += struct.pack("<HHIHH", tag, 3, 2, value, value)
        else:
            out += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
    return out + struct.pack("<I", 0) + data


# --- every mode of Pillow ---------------------------------------------------------------------


def image_of(mode, pixel):
    image = Image.new(mode, (2, 2), pixel)
    if mode in ("P", "PA"):
        image.putpalette([0, 0, 0, 200, 100, 50] + [0] * (3 * 254))
    if mode == "I":
        image.format = "PNG"  # 16 bits there; nothing says so of an image in memory
    return image


# Mode -> a pixel and what it must become.
TRUTH = {
    "1": (1, 255),
    "L": (77, 77),
    "LA": ((100, 51), 224),  # 100 at a fifth, white for the rest
    "La": ((20, 51), 224),  # the same, with the alpha multiplied in
    "P": (1, (200, 100, 50)),
    "PA": ((1, 51), (244, 224, 214)),
    "RGB": ((10, 20, 30), (10, 20, 30)),
    "RGBX": ((10, 20, 30, 0), (10, 20, 30)),
    "RGBA": ((200, 100, 50, 51), (244, 224, 214)),
    "RGBa": ((40, 20, 10, 51), (244, 224, 214)),
    "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
    "YCbCr": ((76, 85, 255), (254, 0, 0)),
    "LAB": ((136, 208, 195), (250, 3, 11)),  # nearly the red of sRGB
    "HSV": ((85, 255, 255), (0, 255, 0)),
    "I;16": (15000, 58),
    "I;16L": (15000, 58),
    "I;16B": (15000, 58),
    "I;16N": (15000, 58),
    "I": (50000, 195),
    "F": (0.3, 76),
}


@pytest.mark.parametrize("mode", TRUTH)
def test_mode(mode):
    pixel, expected = TRUTH[mode]
    image = image_of(mode, pixel)
    found = flatten(image).getpixel((1, 1))
    np.testing.assert_allclose(found, expected, atol=1 if mode in ("LAB", "YCbCr", "RGBa") else 0)
    assert is_grey(image) == isinstance(expected, int)
    assert flatten(image).mode == ("L" if isinstance(expected, int) else "RGB")


def test_every_mode_that_pillow_can_make_has_a_rule_and_a_truth():
    assert set(Image.MODES) == set(RULES) == set(TRUTH)


@pytest.mark.parametrize("mode", ["I;16S", "I;16BS", "I;32", "I;32BS", "BGR;15", "X"])
def test_a_mode_without_a_rule_is_refused_by_name(mode):
    with pytest.raises(Refused, match=f"mode '{mode}', which has no rule; save it as RGB"):
        rule_of(SimpleNamespace(mode=mode, format="PNG"))


def test_the_modes_that_pillow_describes_but_cannot_make():
    """A later Pillow that makes one of them gives it a name here, not a wrong picture."""
    for mode in ("I;16S", "I;32", "I;32B"):
        assert ImageMode.getmode(mode).mode == mode
        with pytest.raises(ValueError):
            Image.new(mode, (2, 2))


# --- depth ------------------------------------------------------------------------------------


def pgm(path, values, maxval, kind="P5"):
    values = np.asarray(values)
    header = f"{kind} {values.shape[1]} {values.shape[0]} {maxval}\n".encode()
    if kind == "P2":
        return written(path, header + " ".join(map(str, values.flat)).encode())
    return written(path, header + values.astype(">u2" if maxval > 255 else "u1").tobytes())


@pytest.mark.parametrize("kind", ["P5", "P2"])
@pytest.mark.parametrize("maxval", [1, 3, 15, 100, 255, 256, 1023, 4095, 65534, 65535])
def test_pgm_is_scaled_by_its_own_white(tmp_path, kind, maxval):
    values = np.linspace(0, maxval, 16).round().astype(int).reshape(4, 4)
    found = greys(pgm(tmp_path / "x.pgm", values, maxval, kind))
    # Half a level for each of the two roundings, to 16 bits and to 8.
    np.testing.assert_allclose(found, values / maxval * 255, atol=0.5 + 255 / 65535)


@pytest.mark.parametrize("maxval", [15, 255, 1023, 65535])
def test_ppm_in_colour_is_scaled_by_its_own_white(tmp_path, maxval):
    values = np.linspace(0, maxval, 48).round().astype(int).reshape(4, 4, 3)
    data = values.astype(">u2" if maxval > 255 else "u1").tobytes()
    found = colours(written(tmp_path / "x.ppm", f"P6 4 4 {maxval}\n".encode() + data))
    np.testing.assert_allclose(found, values / maxval * 255, atol=0.5001)


def test_two_brightnesses_of_16_bits_stay_apart(tmp_path):
    for split, name, k in ((s, n, k) for s in ("train", "test") for n in "ab" for k in range(4)):
        folder = tmp_path / split / name
        folder.mkdir(parents=True, exist_ok=True)
        pgm(folder / f"{k}.pgm", np.full((16, 16), {"a": 15000, "b": 50000}[name]), 65535)
    data = load_dataset("folder", root=tmp_path, val_size=2)
    assert data.channels == 1
    for split in ("train", "val", "test"):
        for label, grey in ((0, 58), (1, 195)):
            assert (data.images[split][data.labels[split] == label] == grey).all()


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_16_bits_are_the_same_in_every_format(tmp_path, name):
    values = np.array([[0, 1000], [40000, 65535]], np.uint16)
    assert greys(saved(tmp_path / name, values)) == [[0, 4], [156, 255]]


def test_8_and_16_bits_in_one_folder(tmp_path):
    dark = saved(tmp_path / "a.png", np.full((2, 2), 10, np.uint8))
    same = saved(tmp_path / "b.png", np.full((2, 2), 2570, np.uint16))
    assert (read(dark, same) == 10).all()


@pytest.mark.parametrize(
    ("depth", "rows", "expected"),
    [
        (1, [b"\x40", b"\x80"], [[0, 255], [255, 0]]),
        (2, [b"\x10", b"\xb0"], [[0, 85], [170, 255]]),
        (4, [b"\x01", b"\xef"], [[0, 17], [238, 255]]),
        (16, [b"\x00\x00\x01\x01", b"\x7f\xff\xff\xff"], [[0, 1], [127, 255]]),
    ],
)
def test_png_of_few_and_many_bits(tmp_path, depth, rows, expected):
    assert greys(written(tmp_path / "x.png", png(depth, 0, rows))) == expected


def test_16_bits_a_channel_keep_the_upper_8(tmp_path):
    rows = [struct.pack(">6H", 0, 256, 65535, 511, 32768, 1), struct.pack(">6H", *[0xABCD] * 6)]
    found = colours(written(tmp_path / "x.png", png(16, 2, rows)))
    assert found == [[(0, 1, 255), (1, 128, 0)], [(171, 171, 171)] * 2]


def test_grey_of_16_bits_with_alpha_is_grey(tmp_path):
    rows = [struct.pack(">4H", 40000, 65535, 40000, 0), struct.pack(">4H", 0, 65535, 65535, 65535)]
    assert greys(written(tmp_path / "x.png", png(16, 4, rows))) == [[156, 255], [0, 255]]


def test_tiff_of_12_bits(tmp_path):
    data = bytes([0x00, 0x08, 0x00, 0x40, 0x0F, 0xFF])  # 0, 2048; 1024, 4095
    assert greys(written(tmp_path / "x.tif", tiff(data, 12))) == [[0, 128], [64, 255]]


@pytest.mark.parametrize(
    ("data", "options", "text"),
    [
        (np.int8([0, 1, 2, -1]), {"bits": 8, "sample_format": 2}, "signed integers"),
        (np.int16([0, 1, 2, -1]), {"bits": 16, "sample_format": 2}, "signed integers"),
        (np.int32([0, 1, 2, -1]), {"bits": 32, "sample_format": 2}, "signed integers"),
        (np.uint32([0, 1, 2, 3]), {"bits": 32}, "integers of 32 bits: which is white"),
        (np.uint16([0, 1, 2, 3]), {"bits": 16, "photometric": 0}, "its white is 0"),
        (
            np.float32([0, 1, 0, 1]),
            {"bits": 32, "photometric": 0, "sample_format": 3},
            "white is 0",
        ),
        (np.float64([0, 1, 0, 1]), {"bits": 64, "sample_format": 3}, "of a kind unknown here"),
    ],
)
def test_tiff_whose_white_is_unknown_is_refused(tmp_path, data, options, text):
    assert text in refusal(written(tmp_path / "x.tif", tiff(data.tobytes(), **options)))


def test_tiff_of_8_bits_whose_white_is_0_is_turned(tmp_path):
    path = written(tmp_path / "x.tif", tiff(bytes([0, 255, 10, 20]), 8, photometric=0))
    assert greys(path) == [[255, 0], [245, 235]]


def test_32_bit_integers_as_pillow_saves_them_are_refused(tmp_path):
    path = saved(tmp_path / "x.tif", np.full((4, 4), 200, np.int32))
    assert "save it with 8" in refusal(path)


def test_decimals_from_0_to_1(tmp_path):
    assert greys(saved(tmp_path / "x.tif", np.full((16, 16), 0.3, np.float32)))[0][0] == 76
    ends = np.float32([[0, 1], [0.5, 1 + 1e-6]])
    assert greys(saved(tmp_path / "y.tif", ends)) == [[0, 255], [128, 255]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "decimals from 0 to 2, where 0 is black and 1 is white"),
        (255.0, "decimals from 0 to 255"),
        (-0.5, "decimals from -0.5 to 0"),
        (1e38, "decimals from 0 to 1e+38"),
        (np.nan, "NaN or infinity"),
        (np.inf, "NaN or infinity"),
        (-np.inf, "NaN or infinity"),
    ],
)
def test_decimals_of_another_scale_are_refused(tmp_path, value, text):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert text in refusal(saved(tmp_path / "x.tif", values))


def test_the_scale_is_of_the_folder_and_not_of_a_picture(tmp_path):
    """A dark picture stays dark, also beside one that reaches white."""
    dark = saved(tmp_path / "a.tif", np.full((4, 4), 0.1, np.float32))
    light = saved(tmp_path / "b.tif", np.full((4, 4), 1.0, np.float32))
    assert (read(dark) == 26).all()
    assert read(dark, light)[:, 0, 0, 0].tolist() == [26, 255]


# --- grey and colour --------------------------------------------------------------------------


def test_one_picture_in_colour_makes_all_colour(tmp_path):
    grey = saved(tmp_path / "a.png", np.full((4, 4), 33, np.uint8))
    colour = saved(tmp_path / "b.png", np.full((4, 4, 3), (1, 2, 3), np.uint8))
    deep = saved(tmp_path / "c.png", np.full((4, 4), 33 * 257, np.uint16))
    assert read(grey, colour, deep)[:, :, 0, 0].tolist() == [[33] * 3, [1, 2, 3], [33] * 3]
    assert read(grey, deep).shape[1] == 1


@pytest.mark.parametrize("name", ["x.png", "x.gif", "x.bmp", "x.tif"])
def test_a_palette_of_greys_is_grey(tmp_path, name):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([9, 9, 9, 80, 80, 80] + [0] * (3 * 254))
    image.putpixel((1, 1), 0)
    image.save(tmp_path / name)
    assert greys(tmp_path / name) == [[80, 80], [80, 9]]


@pytest.mark.parametrize("name", ["x.png", "x.gif", "x.bmp", "x.tif"])
def test_a_palette_of_colours(tmp_path, name):
    image = image_of("P", 1)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / name)
    assert colours(tmp_path / name)[0] == [(0, 0, 0), (200, 100, 50)]


def test_what_a_palette_holds_and_no_pixel_shows_does_not_count(tmp_path):
    image = image_of("P", 0)  # black; the other colour of the palette is orange
    image.save(tmp_path / "x.png")
    assert greys(tmp_path / "x.png") == [[0, 0], [0, 0]]


def test_cmyk_of_a_jpeg(tmp_path):
    """Written inverted and marked as Adobe's, as by every program that writes it."""
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()
    np.testing.assert_allclose(colours(tmp_path / "x.jpg")[4][4], (255, 0, 0), atol=3)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colours_of_a_tiff(tmp_path, mode):
    pixel, expected = TRUTH[mode]
    Image.new(mode, (2, 2), pixel).save(tmp_path / "x.tif")
    np.testing.assert_allclose(colours(tmp_path / "x.tif")[0][0], expected, atol=1)


# --- transparency -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif"])
def test_alpha_is_laid_on_white(tmp_path, name):
    pixels = np.uint8([[[200, 100, 50, 255], [200, 100, 50, 0]], [[200, 100, 50, 51]] * 2])
    options = {"lossless": True, "exact": True} if name == "x.webp" else {}
    found = colours(saved(tmp_path / name, pixels, **options))
    assert found[0] == [(200, 100, 50), (255, 255, 255)] and found[1][0] == (244, 224, 214)


def test_alpha_of_grey(tmp_path):
    pixels = np.uint8([[[100, 255], [100, 0]], [[100, 51], [0, 255]]])
    assert greys(saved(tmp_path / "x.png", pixels)) == [[100, 255], [224, 0]]


@pytest.mark.parametrize(("kind", "grey"), [(0, 100), (2, 100), (1, 20)])
def test_alpha_of_a_grey_tiff(tmp_path, kind, grey):
    """The second sample is alpha (2), alpha that is multiplied in (1), or something else (0)."""
    data = bytes([grey, 51] * 4)
    path = written(tmp_path / "x.tif", tiff(data, 8, extra=kind))
    assert greys(path)[0][0] == (100 if kind == 0 else 224)


@pytest.mark.parametrize("tRNS", [b"\xff\x00", b"\xff\x33"])
def test_transparency_of_a_palette(tmp_path, tRNS):
    content = png(8, 3, [b"\0\1", b"\1\1"], PLTE=bytes([200, 100, 50, 0, 0, 0]), tRNS=tRNS)
    behind = 255 if tRNS[1] == 0 else 204
    assert colours(written(tmp_path / "x.png", content))[0] == [(200, 100, 50), (behind,) * 3]


def test_a_hidden_colour_of_a_palette_does_not_make_it_colour(tmp_path):
    content = png(8, 3, [b"\0\1", b"\1\1"], PLTE=bytes([80, 80, 80, 255, 0, 255]), tRNS=b"\xff\0")
    assert greys(written(tmp_path / "x.png", content)) == [[80, 255], [255, 255]]


def test_transparency_of_a_gif(tmp_path):
    image = image_of("P", 1)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "x.gif", transparency=0)
    assert colours(tmp_path / "x.gif")[0] == [(255, 255, 255), (200, 100, 50)]


@pytest.mark.parametrize(
    ("depth", "key", "rows", "expected"),
    [
        (1, 0, [b"\x40", b"\x80"], [[255, 255], [255, 255]]),
        (1, 1, [b"\x40", b"\x80"], [[0, 255], [255, 0]]),
        (2, 1, [b"\x10", b"\xb0"], [[0, 255], [170, 255]]),
        (4, 14, [b"\x01", b"\xef"], [[0, 17], [255, 255]]),
        (8, 7, [b"\x07\x08", b"\x00\xff"], [[255, 8], [0, 255]]),
        (16, 257, [b"\x01\x01\x01\x02", b"\x00\x00\xff\xff"], [[255, 1], [0, 255]]),
    ],
)
def test_a_transparent_grey_is_white(tmp_path, depth, key, rows, expected):
    content = png(depth, 0, rows, tRNS=struct.pack(">H", key))
    assert greys(written(tmp_path / "x.png", content)) == expected


def test_a_transparent_colour_is_white(tmp_path):
    content = png(8, 2, [b"\1\2\3\1\2\4"] * 2, tRNS=struct.pack(">3H", 1, 2, 3))
    assert colours(written(tmp_path / "x.png", content))[0] == [(255, 255, 255), (1, 2, 4)]


def test_a_transparent_colour_of_16_bits_is_refused(tmp_path):
    content = png(16, 2, [bytes(12)] * 2, tRNS=struct.pack(">3H", 1, 2, 3))
    assert "an alpha channel" in refusal(written(tmp_path / "x.png", content))


# --- orientation, size, frames ----------------------------------------------------------------

# A picture of four quarters as it should be seen, and how it is stored for each orientation.
UPRIGHT = np.kron(np.uint8([[0, 80], [160, 240]]), np.ones((8, 8), np.uint8))
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation])
    path = saved(tmp_path / name, stored, exif=exif, quality=100)
    assert (read(path)[0, 0].numpy().astype(int) - UPRIGHT).__abs__().max() < 4


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_says_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.png", UPRIGHT, exif=exif)
    assert greys(path) == UPRIGHT.tolist()


def test_an_exif_block_that_cannot_be_read_says_nothing(tmp_path):
    path = saved(tmp_path / "x.jpg", UPRIGHT, exif=b"Exif\0\0no such thing", quality=100)
    assert abs(read(path)[0, 0, 0, 0].item()) < 4


def test_orientation_comes_before_the_middle_is_cut_out(tmp_path):
    """Stored on its side: 8 wide and 16 high when seen, of which the middle is kept."""
    seen = np.zeros((16, 8), np.uint8)
    seen[4:12, :4] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "x.png", np.ascontiguousarray(np.rot90(seen)), exif=exif)
    found = read(path, image_size=8)[0, 0]
    assert (found[:, :4] == 200).all() and (found[:, 4:] == 0).all()
    # By the rule for sizes it is no square, whichever way it lies.
    other = saved(tmp_path / "y.png", seen)
    assert read(path, other).shape[2:] == (32, 32)


def test_orientation_of_a_palette_and_of_16_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(STORED[6])
    deep = saved(tmp_path / "a.png", stored.astype(np.uint16) * 257, exif=exif)
    assert greys(deep) == UPRIGHT.tolist()
    Image.fromarray(stored).convert("P").save(tmp_path / "b.png", exif=exif)
    assert greys(tmp_path / "b.png") == UPRIGHT.tolist()


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.webp", "x.png"])
def test_of_several_frames_the_first_is_read(tmp_path, name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    options = {"lossless": True} if name == "x.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    assert colours(tmp_path / name)[3][3] == (200, 0, 0)


def test_a_colour_profile_is_not_applied(tmp_path):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    path = saved(tmp_path / "x.png", np.full((2, 2, 3), (10, 20, 30), np.uint8), icc_profile=lab)
    assert colours(path)[0][0] == (10, 20, 30)


# --- broken pictures --------------------------------------------------------------------------


def test_a_file_of_another_kind(tmp_path):
    assert "none of JPEG, PNG" in refusal(written(tmp_path / "x.png", b"not a picture" * 9))
    assert "it is empty" in refusal(written(tmp_path / "y.png", b""))


def test_what_could_run_a_program_is_not_opened(tmp_path):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    assert "none of JPEG, PNG" in refusal(written(tmp_path / "x.jpg", content))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.bmp", "x.tif", "x.webp", "x.ppm"])
def test_a_file_cut_short(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = saved(tmp_path / name, noise)
    content = path.read_bytes()
    for size in (8, 20, len(content) // 3, len(content) // 2):
        refusal(written(path, content[:size]))


def test_a_picture_bomb_is_refused_by_its_header(tmp_path):
    content = bytearray(png(1, 0, [b"\x40", b"\x80"]))
    for side in (10_000, 50_000):
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            message = refusal(written(tmp_path / "x.png", bytes(content)))
        assert "has more than" in message and "make it smaller" in message


def test_a_strip_that_scaling_would_blow_up_is_refused(tmp_path):
    Image.new("1", (1, 70_000)).save(tmp_path / "x.png")
    assert "too narrow: 1x70000" in refusal(tmp_path / "x.png")


@pytest.mark.parametrize("content", [b"P5 0 4 255\n", b"P6 4 0 255\n"])
def test_a_picture_without_pixels(tmp_path, content):
    assert str(tmp_path / "x.ppm") in refusal(written(tmp_path / "x.ppm", content))


@pytest.mark.parametrize("change", ["other", "colour", "gone", "text"])
def test_a_file_that_changes_while_the_folder_is_read(tmp_path, monkeypatch, change):
    path = saved(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    inspect = pictures._inspect

    def then_change(*arguments):
        result = inspect(*arguments)
        if change == "gone":
            path.unlink()
        elif change == "text":
            path.write_text("not a picture")
        else:
            saved(path, np.full((4, 4) if change == "other" else (4, 4, 3), 9, np.uint8))
            os.utime(path, (1, 1))
        return result

    monkeypatch.setattr(pictures, "_inspect", then_change)
    message = refusal(path)
    assert ("changed while it was read" in message) == (change in ("other", "colour"))


def test_any_error_of_a_decoder_is_one_line(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    for error in (KeyError("a\nb"), struct.error(), IndexError("x"), MemoryError()):

        def fail(image, error=error):
            raise error

        monkeypatch.setattr(pictures, "flatten", fail)
        assert "repair or remove it" in refusal(path)


def test_flipped_bytes_give_a_picture_or_one_line(tmp_path):
    """Whatever is in the file: never a traceback. A fixed sample of a long search."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name in ("x.png", "x.jpg", "x.gif", "x.bmp", "x.tif", "x.webp", "x.ppm"):
        path = saved(tmp_path / name, noise)
        whole = path.read_bytes()
        for _ in range(12):
            content = bytearray(whole)
            for place in random.integers(0, len(content), random.integers(1, 5)):
                content[place] = random.integers(0, 256)
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, on metadata that it cannot read
                try:
                    found = read(path, image_size=8)
                except UserError as error:
                    assert "\n" not in str(error) and str(path) in str(error)
                else:
                    assert found.dtype == torch.uint8


# --- the cache --------------------------------------------------------------------------------


def test_cached_pixels_are_named_by_the_rules(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_WORTH_CACHING", 1)
    path = saved(tmp_path / "x.png", np.full((4, 4), 9, np.uint8))
    cache = tmp_path / "cache"

    def cached():
        read_pictures({"train": [path], "test": [path]}, tmp_path, None, cache)
        return {file.name for file in cache.glob("*.safetensors")}

    first = cached()
    assert len(first) == 1 and cached() == first
    monkeypatch.setattr(pictures, "_inspect", None)
    assert cached() == first  # nothing was decoded again
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "_WORTH_CACHING", 1)
    monkeypatch.setattr(pictures, "RULES_VERSION", pictures.RULES_VERSION + 1)
    assert len(cached()) == 2


def test_the_page_has_every_rule():
    page = (PROJECT / "docs/data.md").read_text(encoding="utf-8")
    for name in (*RULES, *ENDINGS):
        assert f"`{name}`" in page, name


def test_nothing_is_said_of_an_ordinary_folder(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        read(saved(tmp_path / "x.png", np.zeros((4, 4), np.uint8)))
    assert not [record for record in caplog.records if record.name.startswith("ldatlib")]
