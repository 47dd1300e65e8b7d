//! What came out of a scenario: the ledger, figures with what was promised of them, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::ledger::Ledger;

/// Of all requests of the load.
const SLOWEST: &str = "slowest of all, s";

/// What is promised of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Promise {
    /// Nothing; it is worth knowing.
    None,
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

#[derive(Clone, Debug)]
struct Figure {
    what: String,
    value: f64,
    promise: Promise,
}

impl Figure {
    fn kept(&self) -> bool {
        match self.promise {
            Promise::None => true,
            Promise::AtMost(bound) => self.value <= bound,
            Promise::AtLeast(bound) => self.value >= bound,
        }
    }
}

/// What came out of one scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    ledger: Ledger,
    figures: Vec<Figure>,
    skipped: Option<String>,
}

impl Report {
    /// One that could not run here, and why; it proves nothing.
    pub(crate) fn skipped(why: &str) -> Report {
        Report { skipped: Some(why.to_owned()), ..Report::default() }
    }

    /// Books requests. None may be lost, and none go wrong.
    pub(crate) fn book(&mut self, ledger: Ledger) {
        self.ledger.add(ledger);
    }

    /// A figure, and what is promised of it.
    pub(crate) fn figure(&mut self, what: &str, value: f64, promise: Promise) {
        self.figures.push(Figure { what: what.to_owned(), value, promise });
    }

    /// A count of what must not be.
    pub(crate) fn none(&mut self, what: &str, count: u64) {
        self.figure(what, count as f64, Promise::AtMost(0.0));
    }

    /// Whether everything that was promised was kept.
    pub(crate) fn kept(&self) -> bool {
        self.skipped.is_some()
            || (self.ledger.left() == 0 && self.ledger.wrong == 0 && self.figures.iter().all(Figure::kept))
    }

    /// Why it did not run, if it did not.
    pub(crate) fn why_skipped(&self) -> Option<&str> {
        self.skipped.as_deref()
    }

    /// Its rows of the table.
    pub(crate) fn rows(&self, name: &str, seconds: f64) -> String {
        if let Some(why) = &self.skipped {
            return format!("skipped {name}: {why}\n");
        }
        let Ledger { sent, ok, refused, .. } = self.ledger;
        let verdict = if self.kept() { "ok" } else { "not ok" };
        let mut text = format!(
            "{verdict} {name}: {sent} sent = {ok} ok + {refused} refused + {} failed, {} left; {seconds:.0} s\n",
            self.ledger.failed(),
            self.ledger.left()
        );
        if self.ledger.slowest > Duration::ZERO {
            let _ = writeln!(text, "    {:<52} {:>10.1}", SLOWEST, self.ledger.slowest.as_secs_f64());
        }
        for figure in &self.figures {
            let bound = match figure.promise {
                Promise::None => String::new(),
                Promise::AtMost(bound) => format!(", at most {bound}"),
                Promise::AtLeast(bound) => format!(", at least {bound}"),
            };
            let broken = if figure.kept() { "" } else { "  <- BROKEN" };
            let _ = writeln!(text, "    {:<52} {:>10.1}{bound}{broken}", figure.what, figure.value);
        }
        for (words, count) in &self.ledger.words {
            let _ = writeln!(text, "    {count} x {words}");
        }
        text
    }

    /// As JSON.
    pub(crate) fn json(&self, seconds: f64) -> Value {
        let mut figures: Map<String, Value> =
            self.figures.iter().map(|figure| (figure.what.clone(), json!(figure.value))).collect();
        if self.ledger.slowest > Duration::ZERO {
            figures.insert(SLOWEST.to_owned(), json!(self.ledger.slowest.as_secs_f64()));
        }
        json!({
            "kept": self.kept(),
            "skipped": self.skipped,
            "seconds": seconds,
            "sent": self.ledger.sent,
            "ok": self.ledger.ok,
            "refused": self.ledger.refused,
            "failed": self.ledger.failed(),
            "left": self.ledger.left(),
            "words": self.ledger.words,
            "figures": figures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ended;

    #[test]
    fn a_promise_that_is_broken_is_told() {
        let mut report = Report::default();
        report.figure("KiB a stream", 47.0, Promise::AtMost(48.0));
        report.figure("goodput, %", 93.0, Promise::AtLeast(90.0));
        assert!(report.kept());
        report.none("streams moved", 1);
        assert!(
            !report.kept()
                && report.rows("x", 1.0).contains("streams moved")
                && report.rows("x", 1.0).starts_with("not ok")
        );

        let mut wrong = Ledger::default();
        wrong.book(&Ended::Wrong("lost".to_owned()));
        let mut report = Report::default();
        report.book(wrong);
        assert!(!report.kept(), "a request that went wrong is enough");
        let mut report = Report::default();
        report.book(Ledger { sent: 1, ..Ledger::default() });
        assert!(!report.kept(), "so is one that nobody knows of");
    }
}
