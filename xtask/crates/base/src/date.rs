//! Days of the calendar, in UTC: for example `Date::parse("2026-12-30")`, and `parse_last_day("2w",
//! today)`, which is 14 days after `today`.

use std::fmt;

use jiff::ToSpan as _;

/// A day in UTC, displayed as `2026-12-30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(jiff::civil::Date);

impl Date {
    /// Returns the day of a time in seconds since the Unix epoch. Times that the calendar does not
    /// reach (beyond the year 9999) are its last day.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Date {
        let moment = jiff::Timestamp::from_second(seconds);
        let day = moment.map(|moment| jiff::tz::Offset::UTC.to_datetime(moment).date());
        Date(day.unwrap_or(jiff::civil::Date::MAX))
    }

    /// Creates a day; `None` if the calendar has none, e.g. for 2026-02-30.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Date> {
        let (year, month, day) = (year.try_into().ok()?, month.try_into().ok()?, day.try_into());
        jiff::civil::Date::new(year, month, day.ok()?).ok().map(Date)
    }

    /// Parses `2026-12-30`; no other form is accepted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Date> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return None };
        let has_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let has_form = (year.len(), month.len(), day.len()) == (4, 2, 2);
        if !has_form || !parts.iter().all(|part| has_digits(part)) {
            return None;
        }
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    }

    /// Returns the number of days from this day to `other`; negative if `other` is earlier.
    #[must_use]
    pub fn days_until(self, other: Date) -> i64 {
        self.0.until(other.0).map_or(0, |span| i64::from(span.get_days()))
    }

    /// Returns the day `days` days later; `None` beyond the year 9999.
    #[must_use]
    pub fn plus_days(self, days: i64) -> Option<Date> {
        let span = 0.days().try_days(days).ok()?;
        self.0.checked_add(span).ok().map(Date)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Date {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Parses the last day of a period that begins `today`: a number of days (`30d`) or weeks (`2w`), or
/// the day itself (`2026-12-30`). `None` if `text` is of another form or the calendar ends before.
#[must_use]
pub fn parse_last_day(text: &str, today: Date) -> Option<Date> {
    let count = |digits: &str, unit: i64| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = digits.parse().ok().filter(|_| is_number)?;
        today.plus_days(number.checked_mul(unit)?)
    };
    match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(days), _) => count(days, 1),
        (_, Some(weeks)) => count(weeks, 7),
        _ => Date::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_months_and_leap_years() {
        let day = |text: &str| Date::parse(text).unwrap();
        assert_eq!(Date::from_seconds(1_770_000_000), day("2026-02-02"));
        assert_eq!(Date::from_seconds(-1), day("1969-12-31"));
        assert_eq!(Date::from_seconds(i64::MAX), day("9999-12-31"));
        assert_eq!(day("2028-02-28").days_until(day("2028-03-01")), 2);
        assert_eq!(day("2026-12-30").days_until(day("2025-12-30")), -365);
        assert_eq!(day("2026-12-30").plus_days(30), Some(day("2027-01-29")));
        assert_eq!(day("9999-12-30").plus_days(2), None);
        assert!(day("2026-09-30") < day("2026-10-01"));
    }

    #[test]
    fn periods_and_days_are_read_and_nothing_else() {
        let today = Date::parse("2026-11-30").unwrap();
        let read = |text: &str| parse_last_day(text, today).map(|day| day.to_string());
        assert_eq!(read("30d").as_deref(), Some("2026-12-30"));
        assert_eq!(read("2w").as_deref(), Some("2026-12-14"));
        assert_eq!(read("0d").as_deref(), Some("2026-11-30"));
        assert_eq!(read("2026-12-30").as_deref(), Some("2026-12-30"));
        for wrong in [
            "",
            "d",
            "w",
            "30",
            "-1d",
            "+1d",
            "1.5d",
            "30 d",
            "30D",
            "1m",
            "soon",
            "2026-02-30",
            "2026-13-01",
            "26-12-30",
            "20261230",
            "2026-12-30T00:00",
            "99999999999999999999d",
            "9999999d",
            "2026-1-1",
            " 30d",
            "٣d",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
