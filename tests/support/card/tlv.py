"""BER-TLV as smart cards use it (ISO/IEC 7816-4, 5.2.2): tags of one to three bytes, definite lengths."""

from __future__ import annotations

from collections.abc import Iterator


class MalformedTlv(ValueError):
    """Bytes that are no sequence of TLVs."""


def encode(tag: int, *values: bytes) -> bytes:
    """One TLV around the concatenated values."""
    value = b"".join(values)
    name = tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big")
    if len(value) < 0x80:
        return name + bytes((len(value),)) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return name + bytes((0x80 | len(length),)) + length + value


def parse(data: bytes) -> dict[int, bytes]:
    """The TLVs on this level by tag, in order; the last of equal tags wins. Raises MalformedTlv."""
    return dict(_walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    try:
        while at < len(data):
            start = at
            at += 1
            if data[start] & 0x1F == 0x1F:
                while data[at] & 0x80:
                    at += 1
                at += 1
            tag = int.from_bytes(data[start:at], "big")
            length = data[at]
            at += 1
            if length & 0x80:
                octets = length & 0x7F
                if not 1 <= octets <= 2:
                    raise MalformedTlv("length")
                length = int.from_bytes(data[at : at + octets], "big")
                at += octets
            if at + length > len(data):
                raise MalformedTlv("truncated")
            yield tag, data[at : at + length]
            at += length
    except IndexError:
        raise MalformedTlv("truncated") from None
