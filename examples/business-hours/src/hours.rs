//! Hours of the week.

use std::str::FromStr;

use serde::Deserialize;

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time of day, written `22:30`, in minutes since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Time(u32);

/// Hours that come back: on the days named they begin, and may end on the next.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Hours {
    from: Time,
    /// How long, in minutes.
    length: u32,
    days: Vec<Day>,
}

/// As the operator writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    from: Time,
    to: Time,
    /// On which days they begin; every day unless given.
    #[serde(default = "every_day")]
    days: Vec<Day>,
}

fn every_day() -> Vec<Day> {
    vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun]
}

impl TryFrom<Written> for Hours {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let length = (written.to.0 + DAY - written.from.0) % DAY;
        if length == 0 {
            return Err("there is no time between `from` and `to`".to_owned());
        }
        if written.days.is_empty() {
            return Err("`days` names no day; leave it out for every day".to_owned());
        }
        Ok(Self { from: written.from, length, days: written.days })
    }
}

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(Self(hour * 60 + minute))
        });
        parsed.ok_or_else(|| format!("{text:?} is no time of day: write one such as \"22:30\""))
    }
}

/// A minute of the week, counted from Monday's midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    /// That of a number of seconds since 1970, which began on a Thursday.
    pub(crate) const fn since_epoch(seconds: u64) -> Self {
        let minutes = seconds / 60 + 3 * DAY as u64;
        Self((minutes % WEEK as u64) as u32)
    }
}

impl Hours {
    /// How many minutes until they begin; 0 within them.
    pub(crate) fn minutes_until(&self, now: Moment) -> u32 {
        let begins = self.days.iter().map(|day| *day as u32 * DAY + self.from.0);
        let until = begins.map(|begin| {
            let since = (now.0 + WEEK - begin) % WEEK;
            if since < self.length { 0 } else { WEEK - since }
        });
        until.min().unwrap_or(WEEK)
    }
}

#[cfg(test)]
impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (day, time) = text.split_once(' ').ok_or("no day")?;
        let day: Day = serde_json::from_value(day.into()).map_err(|error| error.to_string())?;
        Ok(Self(day as u32 * DAY + time.parse::<Time>()?.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(hours: &str, now: &str) -> u32 {
        let hours: Hours = serde_json::from_str(hours).unwrap();
        hours.minutes_until(now.parse().unwrap())
    }

    #[test]
    fn hours_begin_on_their_days_and_may_end_on_the_next() {
        let weekend = r#"{ "from": "22:00", "to": "05:00", "days": ["sat", "sun"] }"#;
        for (now, minutes) in [
            ("sat 21:00", 60),
            ("sat 22:00", 0),
            ("sun 04:59", 0),
            ("sun 05:00", 17 * 60),
            ("mon 04:00", 0),
            ("mon 05:00", 5 * DAY + 17 * 60),
        ] {
            assert_eq!(until(weekend, now), minutes, "{now}");
        }
    }

    #[test]
    fn seconds_since_1970_are_a_minute_of_the_week() {
        // `date --utc --date @SECONDS` says which.
        for (seconds, moment) in [(0, "thu 00:00"), (1_700_000_000, "tue 22:13"), (86_399, "thu 23:59")] {
            assert_eq!(Moment::since_epoch(seconds), moment.parse().unwrap(), "{seconds}");
        }
    }
}
