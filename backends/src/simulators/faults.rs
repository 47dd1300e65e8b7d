//! Faults on demand: what a simulated machine does wrong, how often, parsed from words such as `stall:0.01`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};

/// The longest delay of a first byte that can be asked for.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// One fault: a kind and how often, or how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// `refuse:0.1`: closes the connection without an answer, for this share of requests.
    Refuse(f64),
    /// `error500:0.05`: answers 500.
    Error500(f64),
    /// `overloaded-429:0.1`: answers 429 with Retry-After.
    Overloaded429(f64),
    /// `reset-mid-stream:0.1`: breaks the connection after some of the stream; only streams.
    ResetMidStream(f64),
    /// `stall:0.01`: sends some of the stream, then nothing more; nothing at all where the answer is no stream.
    Stall(f64),
    /// `slow-first-byte:2s`: holds every answer back this long, in real time.
    SlowFirstByte(Duration),
}

impl Fault {
    /// The names that can be asked for.
    pub const NAMES: [&'static str; 6] =
        ["refuse", "error500", "overloaded-429", "reset-mid-stream", "stall", "slow-first-byte"];
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        let (name, amount) = text.split_once(':').ok_or_else(|| FaultError::NoAmount(text.to_owned()))?;
        match name.trim() {
            "refuse" => share(amount).map(Fault::Refuse),
            "error500" => share(amount).map(Fault::Error500),
            "overloaded-429" => share(amount).map(Fault::Overloaded429),
            "reset-mid-stream" => share(amount).map(Fault::ResetMidStream),
            "stall" => share(amount).map(Fault::Stall),
            "slow-first-byte" => delay(amount).map(Fault::SlowFirstByte),
            unknown => Err(FaultError::Unknown(unknown.to_owned())),
        }
    }
}

fn share(text: &str) -> Result<f64, FaultError> {
    let parsed = text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    parsed.ok_or_else(|| FaultError::Share(text.to_owned()))
}

fn delay(text: &str) -> Result<Duration, FaultError> {
    let parsed = humantime::parse_duration(text.trim()).ok().filter(|delay| *delay <= LONGEST_DELAY);
    parsed.ok_or_else(|| FaultError::Delay(text.to_owned()))
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refuse(share) => write!(out, "refuse:{share}"),
            Fault::Error500(share) => write!(out, "error500:{share}"),
            Fault::Overloaded429(share) => write!(out, "overloaded-429:{share}"),
            Fault::ResetMidStream(share) => write!(out, "reset-mid-stream:{share}"),
            Fault::Stall(share) => write!(out, "stall:{share}"),
            Fault::SlowFirstByte(delay) => write!(out, "slow-first-byte:{}", humantime::format_duration(*delay)),
        }
    }
}

/// Why a text names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No colon.
    #[error("`{0}` is not `fault:share`, such as `stall:0.01`")]
    NoAmount(String),
    /// No such fault.
    #[error("unknown fault `{0}`, expected one of {names}", names = Fault::NAMES.join(", "))]
    Unknown(String),
    /// Not a share.
    #[error("`{0}` is not a share of requests from 0 to 1")]
    Share(String),
    /// Not a time.
    #[error("`{0}` is not a delay of up to an hour, such as `2s` or `300ms`")]
    Delay(String),
}

/// Everything a machine does wrong. The default does nothing wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    faults: Vec<Fault>,
}

impl Faults {
    /// From texts such as `refuse:0.1`; of two that name the same fault, both may strike.
    pub fn parse<Text: AsRef<str>>(texts: impl IntoIterator<Item = Text>) -> Result<Faults, FaultError> {
        let faults = texts.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Faults { faults })
    }

    /// These faults.
    pub fn of(faults: Vec<Fault>) -> Faults {
        Faults { faults }
    }

    /// The faults, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// What happens to the next request.
    pub(super) fn draw(&self, random: &mut impl Rng) -> Strike {
        let mut strike = Strike::default();
        for fault in &self.faults {
            let (share, blow) = match *fault {
                Fault::SlowFirstByte(delay) => {
                    strike.delay = strike.delay.max(delay);
                    continue;
                }
                Fault::Refuse(share) => (share, Blow::Refuse),
                Fault::Error500(share) => (share, Blow::Error500),
                Fault::Overloaded429(share) => (share, Blow::Overloaded429),
                Fault::ResetMidStream(share) => (share, Blow::ResetMidStream),
                Fault::Stall(share) => (share, Blow::Stall),
            };
            // Drawn for every fault, so that a seed strikes the same requests whatever struck before.
            let struck = random.random::<f64>() < share;
            if struck && strike.blow.is_none() {
                strike.blow = Some(blow);
            }
        }
        strike
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Strike {
    pub(super) delay: Duration,
    pub(super) blow: Option<Blow>,
}

/// The one fault that strikes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    Refuse,
    Error500,
    Overloaded429,
    ResetMidStream,
    Stall,
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn texts_are_faults_or_say_what_is_wrong_with_them() {
        let table = [
            ("refuse:0.1", "refuse:0.1"),
            ("slow-first-byte:1500ms", "slow-first-byte:1s 500ms"),
            ("stall : 1", "stall:1"),
            ("stall", "`stall` is not `fault:share`, such as `stall:0.01`"),
            ("stall:1.5", "`1.5` is not a share of requests from 0 to 1"),
            ("stall:NaN", "`NaN` is not a share of requests from 0 to 1"),
            ("slow-first-byte:0.1", "`0.1` is not a delay of up to an hour, such as `2s` or `300ms`"),
            (
                "explode:1",
                "unknown fault `explode`, expected one of refuse, error500, overloaded-429, reset-mid-stream, stall, \
                 slow-first-byte",
            ),
        ];
        for (text, expected) in table {
            let shown = text.parse::<Fault>().map_or_else(|error| error.to_string(), |fault| fault.to_string());
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn faults_strike_their_share() {
        let faults = Faults::parse(["refuse:0.2", "stall:0.5", "slow-first-byte:2s"]).expect("three faults");
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let strikes = (0..10_000).map(|_| faults.draw(&mut random)).collect::<Vec<_>>();
        let struck = |blow| strikes.iter().filter(|strike| strike.blow == Some(blow)).count() as f64 / 1e4;
        assert!((struck(Blow::Refuse) - 0.2).abs() < 0.02);
        assert!((struck(Blow::Stall) - 0.8 * 0.5).abs() < 0.02);
        assert!(strikes.iter().all(|strike| strike.delay == Duration::from_secs(2)));
    }
}
