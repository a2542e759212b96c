//! When a provider says that it will serve again.

use std::sync::LazyLock;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use regex::{Captures, Regex};

/// Resets further away are a misunderstanding; the longest quotas are monthly.
const FURTHEST: SignedDuration = SignedDuration::from_hours(32 * 24);
/// A clock time that passed no longer ago than this means now, not tomorrow.
const JUST_NOW: SignedDuration = SignedDuration::from_mins(10);

static EPOCH: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)(?:\||reset[a-z_ ]*["']?\s*[:=]?\s*["']?)(\d{10}|\d{13})\b"#));

static INSTANT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)"));

static SPAN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"(?i)(?:\b(?:in|after)|retry-?delay)\W{1,6}"#,
        r"((?:\d{1,9}(?:\.\d{1,9})?\s*(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b?[\s,]*(?:and\s+)?)+)",
    ))
});

static SPAN_PART: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)"));

static RETRY_AFTER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?i)retry[-_ ]?after\W{1,4}(\d{1,9})\b"#));

static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\b(?:resets?|again|available|until)(?:\s+(?:at|on))?\s+",
        r"(?:(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+(?:at\s+)?)?",
        r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?",
        r"(?:,?\s+(?P<year>20\d\d))?,?\s+(?:at\s+)?)?",
        r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>am|pm)?\b",
        r"(?:\s*\((?P<zone>[A-Za-z][A-Za-z0-9_+\-/]{0,60})\)|\s*(?P<utc>UTC|GMT))?",
    ))
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a literal")
}

/// Finds the time in a refusal's words. Clock times without a zone are UTC, as in a sandbox; none for a
/// zone that does not exist and for times that make no sense.
pub(crate) fn time(message: &str, now: Timestamp) -> Option<Timestamp> {
    let found =
        epoch(message).or_else(|| instant(message)).or_else(|| after(message, now)).or_else(|| clock(message, now))?;
    let ahead = found.duration_since(now);
    (ahead <= FURTHEST && ahead >= -FURTHEST).then_some(found)
}

fn epoch(message: &str) -> Option<Timestamp> {
    let digits = &EPOCH.captures(message)?[1];
    let number: i64 = digits.parse().ok()?;
    if digits.len() == 13 { Timestamp::from_millisecond(number).ok() } else { Timestamp::from_second(number).ok() }
}

fn instant(message: &str) -> Option<Timestamp> {
    INSTANT.find(message)?.as_str().parse().ok()
}

fn after(message: &str, now: Timestamp) -> Option<Timestamp> {
    let seconds = match SPAN.captures(message) {
        Some(found) => SPAN_PART.captures_iter(&found[1]).map(|part| part_seconds(&part)).sum::<Option<f64>>()?,
        None => RETRY_AFTER.captures(message)?[1].parse().ok()?,
    };
    now.checked_add(SignedDuration::try_from_secs_f64(seconds.ceil()).ok()?).ok()
}

fn part_seconds(part: &Captures<'_>) -> Option<f64> {
    let number: f64 = part[1].parse().ok()?;
    let unit = part[2].to_ascii_lowercase();
    let factor = match unit.as_str() {
        "ms" => 0.001,
        u if u.starts_with("milli") => 0.001,
        u if u.starts_with('s') => 1.0,
        u if u.starts_with('m') => 60.0,
        u if u.starts_with('h') => 3600.0,
        u if u.starts_with('d') => 86_400.0,
        _ => 0.0,
    };
    Some(number * factor)
}

fn clock(message: &str, now: Timestamp) -> Option<Timestamp> {
    CLOCK.captures_iter(message).find_map(|found| one_clock(&found, now))
}

fn one_clock(found: &Captures<'_>, now: Timestamp) -> Option<Timestamp> {
    let part = |name: &str| found.name(name).map(|m| m.as_str());
    if part("minute").is_none() && part("half").is_none() {
        // "again 3 times" is no time.
        return None;
    }
    let mut hour: i8 = part("hour")?.parse().ok()?;
    if let Some(half) = part("half") {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if half.eq_ignore_ascii_case("pm") { 12 } else { 0 };
    }
    let minute: i8 = part("minute").map_or(Some(0), |m| m.parse().ok())?;
    let time = Time::new(hour, minute, 0, 0).ok()?;
    let zone = match part("zone") {
        Some(name) if matches!(name.to_ascii_uppercase().as_str(), "UTC" | "GMT" | "Z") => TimeZone::UTC,
        Some(name) => TimeZone::get(name).ok()?,
        None => TimeZone::UTC,
    };
    let here = now.to_zoned(zone.clone());
    let on = |date: Date| date.to_datetime(time).to_zoned(zone.clone()).ok();
    let earliest = here.checked_sub(JUST_NOW).ok()?;
    let at = if let Some(month) = part("month") {
        let (month, day) = (month_number(month)?, part("day")?.parse().ok()?);
        let year: i16 = part("year").map_or(Some(here.year()), |y| y.parse().ok())?;
        let at = on(Date::new(year, month, day).ok()?)?;
        // Without a year, January said in December is the next one.
        let next = part("year").is_none() && at < earliest.checked_sub(180.days()).ok()?;
        if next { on(Date::new(year + 1, month, day).ok()?)? } else { at }
    } else if let Some(weekday) = part("weekday") {
        let wanted = weekday_of(weekday)?;
        first_from(
            &earliest,
            (0..=7).filter_map(|days| here.date().checked_add(days.days()).ok()).filter(|d| d.weekday() == wanted),
            on,
        )?
    } else {
        first_from(&earliest, [Some(here.date()), here.date().tomorrow().ok()].into_iter().flatten(), on)?
    };
    Some(at.timestamp())
}

fn first_from(
    earliest: &Zoned,
    dates: impl Iterator<Item = Date>,
    on: impl Fn(Date) -> Option<Zoned>,
) -> Option<Zoned> {
    dates.filter_map(on).find(|at| at >= earliest)
}

fn month_number(name: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let index = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(name))?;
    i8::try_from(index + 1).ok()
}

fn weekday_of(name: &str) -> Option<Weekday> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let index = DAYS.iter().position(|d| d.eq_ignore_ascii_case(name))?;
    Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        // A Saturday; 20:00 in Berlin.
        let now: Timestamp = "2026-11-21T19:00:00Z".parse().unwrap();
        let rows = [
            ("5-hour limit reached ∙ resets 3pm (Europe/Berlin)", Some("2026-11-22T14:00:00Z")),
            ("resets 9:30pm (Europe/Berlin)", Some("2026-11-21T20:30:00Z")),
            ("You've hit your session limit · resets 8pm (Europe/Berlin)", Some("2026-11-21T19:00:00Z")),
            ("resets 7:55pm (Europe/Berlin)", Some("2026-11-21T18:55:00Z")),
            ("weekly limit reached, resets Nov 24, 10am (America/New_York)", Some("2026-11-24T15:00:00Z")),
            ("resets Monday 6am (UTC)", Some("2026-11-23T06:00:00Z")),
            ("resets Saturday at 6pm (UTC)", Some("2026-11-28T18:00:00Z")),
            ("limit resets at 23:15 UTC", Some("2026-11-21T23:15:00Z")),
            ("try again at 11:05 PM.", Some("2026-11-21T23:05:00Z")),
            ("or try again at Dec 4th, 2026 3:05 PM.", Some("2026-12-04T15:05:00Z")),
            ("resets Jan 2, 3pm (Asia/Tokyo)", None),
            ("Claude AI usage limit reached|1795300000", Some("2026-11-21T22:26:40Z")),
            (r#"{"resets_at": 1795300000}"#, Some("2026-11-21T22:26:40Z")),
            ("resetsAt=1795300000123", Some("2026-11-21T22:26:40.123Z")),
            ("Please retry in 38.02s.", Some("2026-11-21T19:00:39Z")),
            (r#""retryDelay": "41s""#, Some("2026-11-21T19:00:41Z")),
            ("Your quota will reset after 5h12m3s.", Some("2026-11-22T00:12:03Z")),
            ("try again in 2 days 4 hours 1 minute", Some("2026-11-23T23:01:00Z")),
            ("Please try again in 1.5s", Some("2026-11-21T19:00:02Z")),
            ("try again in 250ms", Some("2026-11-21T19:00:01Z")),
            ("retry-after: 120", Some("2026-11-21T19:02:00Z")),
            ("resets at 2026-11-22T01:02:03Z", Some("2026-11-22T01:02:03Z")),
            ("resets 3pm (Mars/Olympus)", None),
            ("resets 13pm", None),
            ("resets 25:00", None),
            ("Try again 3 times", None),
            ("try again later", None),
            ("retry in 999999999 days", None),
            ("resets 9999999999", None),
            ("", None),
        ];
        for (message, want) in rows {
            let want: Option<Timestamp> = want.map(|w| w.parse().unwrap());
            assert_eq!(time(message, now), want, "{message}");
        }
    }
}
