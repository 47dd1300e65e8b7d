//! A budget of one hour, day or month: used up evenly from where counting began to its end.

use pointsman_policies::price::{Pace, Period, Span};
use pointsman_policies::units::Micros;
use serde::{Deserialize, Serialize};

use super::book::Counting;
use super::statement::BudgetLine;

/// Spend may run ahead of the even path by this part of the budget where the period begins, by nothing where it ends: a
/// morning's rush is no waste.
const HEAD_START: f64 = 0.02;
/// The even path ends this part of the budget before it: the last requests fit in as well.
const SPARE: f64 = 0.005;
/// Beyond that, each such part makes one more class give way: little enough that the first give way while they can still
/// make good what was spent.
const BAND: f64 = 0.005;
/// Being beyond by as much adds another class in this part of the period. Sooner, and classes would still be called upon
/// when the path is reached again: where one saves a twentieth of what is spent, it takes about a third of the period to
/// see what it did.
const TIME: f64 = 0.3;

/// One period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spent {
    counting: Counting,
    usd: f64,
    pace: Pace,
}

impl Spent {
    /// Goes on to the period in which `now` lies.
    pub(super) fn turn(&mut self, span: Span, now: Micros) {
        if self.counting.turn(span, now) {
            self.usd = 0.0;
        }
    }

    pub(super) fn add(&mut self, usd: f64) {
        self.usd += usd;
    }

    /// Moves the controller on by `step_s`, to lambda `most` at the most.
    pub(super) fn line(
        &mut self,
        now: Micros,
        (period, usd): (Period, f64),
        in_flight_usd: f64,
        (step_s, most): (f64, f64),
    ) -> BudgetLine {
        let budget_usd = usd * self.counting.part();
        let passed = self.counting.passed(now);
        let even_usd = budget_usd * passed;
        let allowed_usd = budget_usd * (HEAD_START + (1.0 - HEAD_START - SPARE) * passed);
        let spent_usd = self.usd + in_flight_usd;
        let over = (spent_usd - allowed_usd) / (budget_usd.max(1e-9) * BAND);
        let lambda = self.pace.step(over, step_s, TIME * self.counting.counted_s(), most);
        let lambda = if spent_usd >= budget_usd { most } else { lambda };
        BudgetLine {
            period,
            usd: budget_usd,
            spent_usd: self.usd,
            in_flight_usd,
            even_usd,
            lambda,
            ends_in_s: self.counting.left_s(now),
        }
    }
}
