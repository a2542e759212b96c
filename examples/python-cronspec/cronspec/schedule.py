"""A whole cron expression."""

from cronspec.fields import FIELDS, CronError, parse_field


class Schedule:
    """The times that a cron expression names."""

    def __init__(self, expression):
        parts = expression.split()
        if len(parts) != len(FIELDS):
            raise CronError(f"{len(FIELDS)} fields are needed, got {len(parts)}")
        self.expression = " ".join(parts)
        values = [parse_field(part, field) for part, field in zip(parts, FIELDS)]
        self.minutes, self.hours, self.days, self.months, self.weekdays = values
        # A day field that begins with a star does not restrict (POSIX crontab).
        self._any_day = parts[2].startswith("*")
        self._any_weekday = parts[4].startswith("*")

    def matches(self, moment):
        """Whether the minute of `moment` (a datetime) is one of its times."""
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and moment.month in self.months
            and self._day_matches(moment)
        )

    def _day_matches(self, moment):
        day = moment.day in self.days
        weekday = moment.isoweekday() % 7 in self.weekdays
        if self._any_day or self._any_weekday:
            return day and weekday
        # Both restricted: either is enough.
        return day or weekday
