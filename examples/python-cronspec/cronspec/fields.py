"""One field of a cron expression, read into the set of its values."""

from dataclasses import dataclass


class CronError(ValueError):
    """An expression that cannot be read; the message names the field."""


@dataclass(frozen=True)
class Field:
    """A field's name and its smallest and largest value."""

    name: str
    low: int
    high: int


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12)
WEEKDAY = Field("day of week", 0, 7)

FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)


def parse_field(text, field):
    """The values that `text` allows, as a frozen set."""
    values = set()
    for part in text.split(","):
        values |= _parse_part(part, field)
    if field is WEEKDAY and 7 in values:
        # Sunday has two numbers.
        values = (values - {7}) | {0}
    return frozenset(values)


def _parse_part(part, field):
    if part == "*":
        return set(range(field.low, field.high + 1))
    return {_number(part, field)}


def _number(text, field):
    if not (text.isascii() and text.isdigit()):
        raise CronError(f"{field.name}: {text!r} is not a number")
    value = int(text)
    if not field.low <= value <= field.high:
        raise CronError(f"{field.name}: {value} is not between {field.low} and {field.high}")
    return value
