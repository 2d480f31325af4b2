//! Connections to a backend that is gone are cut in maintenance hours alone. Outside of them they have time to end by
//! themselves: until the hours begin, an hour at most.
//!
//! A plugin has no clock. This one reads the node's from a directory that the operator grants it under the name `clock`:
//! the hardware clock, as the kernel shows it in sysfs, or any folder with a file `since_epoch` that holds the seconds
//! since 1970, in UTC. A replay asks at another time than the recording, and may be answered otherwise.

mod hours;

use netloom_sdk::{host::files, prelude::*};
use serde::Deserialize;

use crate::hours::{Hours, Moment};

/// The directory's name in the grant, and the file in it.
const CLOCK: (&str, &str) = ("clock", "since_epoch");
/// The longest that a reap may wait, in minutes.
const LONGEST_GRACE: u32 = 60;

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// When connections may be cut, in UTC.
    maintenance: Vec<Hours>,
    /// Minutes that connections have outside of these hours, at most; 60 unless given.
    #[serde(default = "longest_grace")]
    grace_minutes: u32,
}

const fn longest_grace() -> u32 {
    LONGEST_GRACE
}

#[plugin(socket_reap, lifecycle)]
#[derive(Default)]
struct BusinessHours {
    maintenance: Vec<Hours>,
    grace_minutes: u32,
}

impl Lifecycle for BusinessHours {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.maintenance.is_empty() {
            return Err(
                "`maintenance` has no hours, so that nothing would ever be cut in them: give it some, such \
                        as [{ from = \"22:00\", to = \"05:00\" }]"
                    .to_owned(),
            );
        }
        if config.grace_minutes > LONGEST_GRACE {
            return Err(format!("`grace_minutes` is more than {LONGEST_GRACE}, the longest a reap may wait"));
        }
        self.maintenance = config.maintenance;
        self.grace_minutes = config.grace_minutes;
        Ok(())
    }

    fn health(&mut self) -> Result<(), String> {
        now().map(drop)
    }
}

impl SocketReap for BusinessHours {
    fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
        if event.reason == ReapReason::Requested {
            // Whoever asks for it by hand means it.
            return PlanDecision::Abstain;
        }
        let now = now().inspect_err(|why| warn!("{why}; connections get all the time there is")).ok();
        self.plan_at(now).into()
    }
}

impl BusinessHours {
    /// The plan at a moment; without one, as if it were outside of all hours.
    fn plan_at(&self, now: Option<Moment>) -> ReapPlan {
        let until = now.and_then(|now| self.maintenance.iter().map(|hours| hours.minutes_until(now)).min());
        let minutes = until.unwrap_or(self.grace_minutes).min(self.grace_minutes);
        ReapPlan { grace_ms: minutes * 60_000, ..ReapPlan::connected(ReapAction::Destroy) }
    }
}

fn now() -> Result<Moment, String> {
    let (directory, file) = CLOCK;
    let bytes = files::read(directory, file).map_err(|error| {
        format!(
            "the clock cannot be read ({error:?}): grant the directory `{directory}`, such as /sys/class/rtc/rtc0"
        )
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let seconds = text.trim().parse().map_err(|_| {
        format!("the clock's {file} is {:?}: it has to be the seconds since 1970", text.trim())
    })?;
    Ok(Moment::since_epoch(seconds))
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, backend, event, node};

    use super::*;

    const NIGHTS: &str = r#"{ "maintenance": [{ "from": "22:00", "to": "05:00" }], "grace_minutes": 30 }"#;

    fn nights() -> BusinessHours {
        let mut plugin = BusinessHours::default();
        testing::init(&mut plugin, NIGHTS).unwrap();
        plugin
    }

    fn grace(at: &str) -> u32 {
        nights().plan_at(Some(at.parse().unwrap())).grace_ms
    }

    #[test]
    fn in_the_hours_connections_are_cut_at_once() {
        for at in ["mon 22:00", "mon 23:59", "tue 00:00", "tue 04:59"] {
            assert_eq!(grace(at), 0, "{at}");
        }
    }

    #[test]
    fn outside_of_them_connections_have_time_until_the_hours_begin_or_as_configured() {
        assert_eq!(grace("mon 12:00"), 30 * 60_000);
        assert_eq!(grace("mon 05:00"), 30 * 60_000);
        assert_eq!(grace("mon 21:50"), 10 * 60_000);
    }

    #[test]
    fn without_a_clock_it_is_outside() {
        assert_eq!(nights().plan_at(None).grace_ms, 30 * 60_000);
    }

    #[test]
    fn an_operator_is_obeyed() {
        let event = event(ReapReason::Requested, [backend("10.0.0.7:443")]);
        assert_eq!(nights().plan(&node(), &event), PlanDecision::Abstain);
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_the_way_to_the_value() {
        for (config, wanted) in [
            (r#"{ "maintenance": [] }"#, "has no hours"),
            (r#"{ "maintenance": [{ "from": "22:00", "to": "25:00" }] }"#, "`maintenance[0].to`"),
            (r#"{ "maintenance": [{ "from": "22:00", "to": "05:00", "days": ["mo"] }] }"#, "days[0]"),
            (r#"{ "maintenance": [{ "from": "22:00", "to": "22:00" }] }"#, "no time between"),
            (
                r#"{ "maintenance": [{ "from": "22:00", "to": "05:00" }], "grace_minutes": 61 }"#,
                "more than 60",
            ),
        ] {
            let error = testing::init(&mut BusinessHours::default(), config).unwrap_err();
            assert!(error.contains(wanted), "{config}: {error}");
        }
    }
}
