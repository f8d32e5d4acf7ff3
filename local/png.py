"""A note inside a PNG file, which says what the picture was made from."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"Source\0"


def note(png: bytes) -> str | None:
    """Return the note of a picture, or None if it has none."""
    found = (content for kind, content in _chunks(png) if kind == b"tEXt" and content.startswith(_KEYWORD))
    return next((content.removeprefix(_KEYWORD).decode("latin-1") for content in found), None)


def with_note(png: bytes, text: str) -> bytes:
    """Return the picture with a note added as a tEXt chunk at its end."""
    content = b"tEXt" + _KEYWORD + text.encode("latin-1")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert png.startswith(_SIGNATURE)
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12
