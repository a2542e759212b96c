import unittest
from datetime import datetime

from cronspec import CronError, Schedule


class Matching(unittest.TestCase):
    def test_table(self):
        # Expression, moment, whether it matches. 2026-03-01 is a Sunday.
        rows = [
            ("* * * * *", datetime(2026, 3, 1, 12, 34), True),
            ("34 12 * * *", datetime(2026, 3, 1, 12, 34), True),
            ("35 12 * * *", datetime(2026, 3, 1, 12, 34), False),
            ("0,34 * * * *", datetime(2026, 3, 1, 12, 34), True),
            ("* * * * 0", datetime(2026, 3, 1), True),
            ("* * * * 7", datetime(2026, 3, 1), True),
            ("* * * * 1", datetime(2026, 3, 1), False),
            ("* * 1 4 *", datetime(2026, 3, 1), False),
            ("* * 13 * 0", datetime(2026, 3, 1), True),
            ("* * 13 * 0", datetime(2026, 3, 13), True),
            ("* * 13 * 0", datetime(2026, 3, 14), False),
        ]
        for expression, moment, want in rows:
            with self.subTest(expression=expression, moment=moment):
                self.assertEqual(Schedule(expression).matches(moment), want)


class Errors(unittest.TestCase):
    def test_messages_name_the_field(self):
        rows = [
            ("", "5 fields are needed, got 0"),
            ("* * * *", "5 fields are needed, got 4"),
            ("60 * * * *", "minute: 60 is not between 0 and 59"),
            ("* * 0 * *", "day of month: 0"),
            ("* * * x *", "month: 'x' is not a number"),
            ("1,,2 * * * *", "minute: '' is not a number"),
        ]
        for expression, want in rows:
            with self.subTest(expression=expression):
                with self.assertRaises(CronError) as caught:
                    Schedule(expression)
                self.assertIn(want, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
