"""Decoding in a TensorFlow graph: encoded images as pixels, in training and in every signature of an export.

What is refused, what is upright and what transparency means is in `adaptation.data.decoding`, which does the same for
the check of new images, the report and the contact sheets; its patterns are used here.
"""

from __future__ import annotations

import tensorflow as tf

from adaptation.data import decoding

_UPRIGHT = b"\x01"
_AXES = (0, 1)


def decode_pixels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Return an encoded image (string) as pixels (uint8 [height, width, channels]), upright, over white.

    The errors, when the graph runs, are tf.errors.InvalidArgumentError: the image is no JPEG or PNG, or damaged.
    """
    ordinary = _matches(tf.strings.substr(image, 0, decoding.ORDINARY_BYTES), decoding.ORDINARY)
    # Not inlined: TensorFlow would pass over each of its operations for every ordinary image.
    decode_any = tf.function(_decode_any, autograph=False, experimental_attributes={"_noinline": True})
    return tf.cond(ordinary, lambda: _decode(image, channels), lambda: decode_any(image, channels))


def _matches(text: tf.Tensor, pattern: str) -> tf.Tensor:
    return tf.strings.regex_full_match(text, pattern)


def _decode(image: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.io.decode_image(image, channels=channels, expand_animations=False)


def _decode_any(image: tf.Tensor, channels: int) -> tf.Tensor:
    is_jpeg, is_png = _starts(image, decoding.JPEG), _starts(image, decoding.PNG)
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, ["is no JPEG or PNG image"])]):
        return tf.cond(is_png, lambda: _decode_png(image, channels), lambda: _decode_jpeg(image, channels))


def _starts(image: tf.Tensor, with_bytes: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(image, 0, len(with_bytes)), with_bytes)


def _decode_jpeg(image: tf.Tensor, channels: int) -> tf.Tensor:
    head = tf.strings.substr(image, 0, decoding.EXIF_HEAD)
    return _upright(_decode_colours(image, channels), _after(head, decoding.EXIF_MARKS[decoding.JPEG]))


def _decode_colours(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Return the pixels; libjpeg does not make grey of CMYK."""
    if channels != 1:
        return _decode(image, channels)
    is_cmyk = tf.equal(tf.io.extract_jpeg_shape(image)[2], 4)
    return tf.cond(is_cmyk, lambda: _grey(tf.cast(_decode(image, 3), tf.int32)), lambda: _decode(image, 1))


def _decode_png(image: tf.Tensor, channels: int) -> tf.Tensor:
    head = tf.strings.split(image, decoding.PIXELS, maxsplit=1)[0]
    unkeyed = tf.debugging.Assert(~_matches(head, decoding.KEYED_16), ["has a transparent colour of 16 bits"])
    with tf.control_dependencies([unkeyed]):
        transparent = _matches(head, decoding.TRANSPARENT)
    pixels = tf.cond(transparent, lambda: _over_white(_decode(image, 4), channels), lambda: _decode(image, channels))
    return _upright(pixels, _after(head, decoding.EXIF_MARKS[decoding.PNG]))


def _over_white(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """Return colours with transparency (uint8 [height, width, 4]) over white, as colours or grey."""
    values = tf.cast(pixels, tf.int32)
    colours, alpha = values[..., :3], values[..., 3:]
    over = (colours * alpha + 255 * (255 - alpha) + 127) // 255
    return _grey(over) if channels == 1 else tf.cast(over, tf.uint8)


def _grey(colours: tf.Tensor) -> tf.Tensor:
    """Return the luminance of colours (int32 [height, width, 3]; source: ITU-R BT.601)."""
    weighted = tf.reduce_sum(colours * [19595, 38470, 7471], axis=-1, keepdims=True)
    return tf.cast((weighted + 2**15) // 2**16, tf.uint8)


def _after(text: tf.Tensor, mark: bytes) -> tf.Tensor:
    """Return what follows the first place of a mark; empty if there is none."""
    return tf.strings.reduce_join(tf.strings.split(text, mark, maxsplit=1)[1:])


def _upright(pixels: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    directory = tf.strings.substr(exif, 0, decoding.EXIF_BYTES)
    found = tf.strings.regex_replace(directory, f"^{decoding.ORIENTATION}$", r"\1\2")
    known = tf.where(tf.equal(tf.strings.length(found), 1), found, _UPRIGHT)
    turn = tf.cast(tf.io.decode_raw(known, tf.uint8)[0], tf.int32) - 1
    exchanged = tf.gather([exchanged for exchanged, _ in decoding.TURNS], turn)
    reversed_axes = tf.gather([[axis in axes for axis in _AXES] for _, axes in decoding.TURNS], turn)
    straight = tf.cond(exchanged, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: tf.identity(pixels))
    return tf.reverse(straight, tf.boolean_mask(_AXES, reversed_axes))  # no switch_case: Transform cannot read one
