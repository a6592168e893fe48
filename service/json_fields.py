"""A JSON object of the wire, read field by field: strict about types and ranges, and each refusal names its field."""

import json
from typing import Any, Final

from service.errors import ErrorCode, WireError
from service.wire_messages import Limits

REMEDY: Final = "Compare the message with docs/protocol.md."


class Fields:
    """One JSON object that is read field by field; each wrong field raises a WireError that names it."""

    __slots__ = ("_object", "_where", "sequence")

    def __init__(self, value: object, where: str, sequence: int | None = None) -> None:
        if not isinstance(value, dict):
            raise WireError(ErrorCode.FIELD, f"{where} should be an object.", show(value), REMEDY, sequence)
        self._object: dict[str, Any] = value
        self._where = where
        self.sequence = sequence

    def only(self, *names: str) -> None:
        """Refuses fields that the protocol does not know."""
        for name in self._object:
            if name not in names:
                raise WireError(
                    ErrorCode.FIELD,
                    f"{self._where} should have the fields {', '.join(names)}.",
                    f"also {show(name)}",
                    REMEDY,
                    self.sequence,
                )

    def refuse(self, name: str, should: str, value: object, code: ErrorCode = ErrorCode.FIELD) -> WireError:
        """The error that says what a field should be."""
        return WireError(code, f"`{name}` of {self._where} should be {should}.", show(value), REMEDY, self.sequence)

    def __contains__(self, name: str) -> bool:
        return name in self._object

    def items(self) -> list[tuple[str, Any]]:
        """All fields, for objects whose names are data."""
        return list(self._object.items())

    def any(self, name: str) -> Any:
        """A field of any type; refused when it is absent."""
        if name not in self._object:
            raise WireError(
                ErrorCode.FIELD, f"{self._where} should have a field `{name}`.", "none", REMEDY, self.sequence
            )
        return self._object[name]

    def text(self, name: str) -> str:
        """A text."""
        value = self.any(name)
        if not isinstance(value, str):
            raise self.refuse(name, "a text", value)
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]; 1.0 and true are not one."""
        value = self.any(name)
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(name, f"a whole number from {low} to {high}", value)
        return value

    def number(self, name: str, low: float = -3.4e38, high: float = 3.4e38) -> float:
        """A finite number in [low, high]; true is not one."""
        value = self.any(name)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.refuse(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def inner(self, name: str) -> "Fields":
        """An object inside this one."""
        return Fields(self.any(name), f"`{name}` of {self._where}", self.sequence)


def load_object(text: str, limits: Limits | None) -> Fields:
    """The JSON object in a text message; raises WireError for other text, NaN, or more bytes than the limits allow."""
    if limits is not None and len(text) > limits.max_message_bytes:
        raise WireError(
            ErrorCode.TOO_LARGE,
            f"A message should have at most {limits.max_message_bytes} bytes.",
            f"{len(text)}",
            "Send smaller images, or JPEG.",
        )
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(ErrorCode.JSON, "A text message should be JSON.", show(str(error)), REMEDY) from None
    if not isinstance(value, dict):
        raise WireError(ErrorCode.JSON, "A text message should be a JSON object.", show(value), REMEDY)
    return Fields(value, "the message")


def is_json(text: str) -> bool:
    """Whether a text is JSON of any type; NaN and infinities are not."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def dump_object(message: dict[str, Any]) -> str:
    """The object as compact ASCII JSON; raises ValueError for a number that is not finite."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def show(value: object) -> str:
    """A value of the client in a few ASCII letters: it may hold lone surrogates, be nested, or have megabytes."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    shown = ascii(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
