"""Turning pydantic's findings into messages a user can act on.

One line per invalid field, `SOURCE: FIELD: WHAT IS WRONG (got VALUE)`, in the order of the
fields; an unknown field is answered with the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from alpine_cli.config.source import FieldPath, Settings

__all__ = ["InvalidFieldsError", "explain"]

_LIMITS = {
    "greater_than": ("must be > {}", "gt"),
    "greater_than_equal": ("must be >= {}", "ge"),
    "less_than": ("must be < {}", "lt"),
    "less_than_equal": ("must be <= {}", "le"),
}
_PLAIN = {
    "missing": "is required",
    "finite_number": "must be finite",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "model_type": "must be a section of fields",
    "dataclass_type": "must be a section of fields",
}
_UNKNOWN = "extra_forbidden"


class InvalidFieldsError(ValueError):
    """Several invalid fields of one section, found by a validator that pydantic asked only once."""

    def __init__(self, errors: Sequence[tuple[FieldPath, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in errors))
        self.errors = errors


def explain(
    error: ValidationError,
    settings: Settings,
    fields: Mapping[str, str],
    option_flag: Callable[[str], str],
) -> str:
    """All findings of `error`, one per line.

    Args:
        error: what pydantic found.
        settings: the merged settings; gives each field its source.
        fields: every known field by dotted name.
        option_flag: names the command-line option of a field, to say how to give a missing one.
    """
    return "\n".join(_lines(error, settings, fields, option_flag))


def _lines(
    error: ValidationError,
    settings: Settings,
    fields: Mapping[str, str],
    option_flag: Callable[[str], str],
) -> Iterator[str]:
    for path, kind, text in _findings(error):
        name = ".".join(path)
        origin = settings.origin_of(path)
        if kind == _UNKNOWN:
            text = f"unknown field; {_nearest(name, fields)}"
        elif kind == "missing":
            text = f"is required; give {option_flag(name)} or the field {name!r} of a config file"
        else:
            text = f"{text}{_got(text, settings.get(path))}"
        if origin == option_flag(name):
            yield f"{origin}: {text}"
        else:
            yield f"{origin}: {name}: {text}" if origin else f"{name}: {text}"


def _findings(error: ValidationError) -> Iterator[tuple[FieldPath, str, str]]:
    for finding in error.errors(include_url=False):
        path = tuple(str(part) for part in finding["loc"])
        kind, context = finding["type"], finding.get("ctx") or {}
        cause = context.get("error")
        if isinstance(cause, InvalidFieldsError):
            for below, text in cause.errors:
                yield path + below, text if text == _UNKNOWN else "value_error", text
        elif kind in _LIMITS:
            template, key = _LIMITS[kind]
            yield path, kind, template.format(context[key])
        elif cause is not None:
            yield path, kind, str(cause)
        elif kind == "literal_error":
            allowed = context["expected"].replace("'", "").replace(" or ", ", ")
            yield path, kind, f"must be one of {allowed}"
        else:
            yield path, kind, _PLAIN.get(kind, finding["msg"])


def _got(text: str, value: Any) -> str:
    # Some validators already name the value; once is enough. A bound that equals it does not.
    named = "(got " in text or (isinstance(value, str) and repr(value) in text)
    return "" if named else f" (got {value!r})"


def _nearest(name: str, fields: Mapping[str, str]) -> str:
    """`train.epcohs` → train.epochs; a bare `lr` → train.lr; else the fields of that section."""
    section, _, leaf = name.rpartition(".")
    elsewhere = [known for known in fields if known.rpartition(".")[2] == leaf]
    if elsewhere:
        return f"did you mean {elsewhere[0]!r}?"
    if section:
        siblings = [known.rpartition(".")[2] for known in fields if known.startswith(f"{section}.")]
    else:
        siblings = list(dict.fromkeys(known.partition(".")[0] for known in fields))
    close = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6)
    if close:
        return f"did you mean {'.'.join(filter(None, (section, close[0])))!r}?"
    return f"known here: {', '.join(siblings) or 'none'}"
