"""What a user typed wrong, in the words of the house: typer's usage errors as one plain message.

    typer    Invalid value for '--limit': Input should be greater than or equal to 1
    here     --limit: must be at least 1 (got '-3')

The command line then shows them as it shows every other error. Typer carries its own copy of click
since 0.20-odd and had none before, so errors are told by what they can do, not by their class.
"""

from __future__ import annotations

from typing import Any

__all__ = ["usage_message"]

# Of pydantic, which typer checks values with: type of the error -> what is wanted, as a template.
_WANTED = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be above {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be below {lt:g}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
}


def usage_message(error: BaseException) -> str | None:
    """The message of a usage error and where help is; None for anything else.

    Help that is shown for want of arguments is no error and gives None, too.
    """
    if type(error).__name__ == "NoArgsIsHelpError" or not hasattr(error, "format_message"):
        return None
    text = _bad_value(error) or str(error.format_message())
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return text
    return f"{text}\n`{context.command_path} --help` explains the options"


def _bad_value(error: Any) -> str | None:
    """ "--limit: must be at least 1 (got '-3')"; None if the error is not of one value."""
    parameter = getattr(error, "param", None)
    if parameter is None or not getattr(error, "message", ""):
        return None
    names = list(getattr(parameter, "opts", ()))
    name = max(names, key=len) if names else str(parameter.name)
    cause = error.__cause__
    found = cause.errors() if hasattr(cause, "errors") else []
    if not found:
        return f"{name}: {error.message}"
    wanted = _WANTED.get(found[0]["type"])
    said = found[0]["msg"] if wanted is None else wanted.format(**found[0].get("ctx", {}))
    return f"{name}: {said} (got {found[0]['input']!r})"
