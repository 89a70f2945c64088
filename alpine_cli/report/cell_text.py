"""The text of a numeric cell, taken apart: "0.64 [0.62, 0.66] better" is a number and words."""

from __future__ import annotations

import re

__all__ = ["decimals_of", "parted"]

_NUMBER = re.compile(r"[^\[\]A-Za-z]*(pts\b)?(\s?\[[^\[\]A-Za-z]*\])?")


def parted(text: str) -> tuple[str, str]:
    """The number with its unit and interval, and the words after it; either may be empty."""
    found = _NUMBER.match(text)
    number = found[0] if found else ""
    if not any(character.isdigit() for character in number):
        return "", text
    return number.strip(), text[len(number) :].strip()


def decimals_of(text: str) -> int:
    """How many decimals the first number of a text shows, so that a sheet shows as many."""
    found = re.search(r"\d(?:[\d,]*\d)?(?:\.(\d+))?", text)
    return len(found[1]) if found and found[1] else 0
