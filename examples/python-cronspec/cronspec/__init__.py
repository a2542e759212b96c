"""Cron expressions: five fields that say when something runs."""

from cronspec.fields import CronError
from cronspec.schedule import Schedule

__all__ = ["CronError", "Schedule"]
