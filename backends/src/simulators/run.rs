//! Steps of a batch that follow one another while nobody joins or leaves: their ends by arithmetic, not one by one.

use pointsman_policies::units::Micros;

/// Steps under way. Each is longer than the one before it by what everybody's token added to the KV memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    started: Micros,
    steps: u64,
    ends: Micros,
    first_ms: f64,
    growth_ms: f64,
}

impl Run {
    pub(super) fn new(started: Micros, steps: u64, first_ms: f64, growth_ms: f64) -> Run {
        let mut run = Run { started, steps: steps.max(1), ends: started, first_ms, growth_ms };
        run.ends = run.end_of(run.steps);
        run
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn ends(&self) -> Micros {
        self.ends
    }

    /// Steps that have ended by a moment.
    pub(super) fn done_by(&self, at: Micros) -> u64 {
        if at >= self.ends {
            return self.steps;
        }
        let ms = (at - self.started).as_ms();
        // Of first * k + growth * k (k - 1) / 2 = ms; in a form that holds for a growth of zero as well.
        let half = self.first_ms - self.growth_ms / 2.0;
        let guess =
            2.0 * ms / (half + (half * half + 2.0 * self.growth_ms * ms).max(0.0).sqrt()).max(f64::MIN_POSITIVE);
        let mut done = (guess as u64).min(self.steps);
        while done > 0 && self.end_of(done) > at {
            done -= 1;
        }
        while done < self.steps && self.end_of(done + 1) <= at {
            done += 1;
        }
        done
    }

    /// Ends it with the first step that ends at a moment or after it.
    pub(super) fn cut(&mut self, at: Micros) {
        let before = Micros(at.0.saturating_sub(1));
        if before < self.ends {
            self.steps = (self.done_by(before) + 1).min(self.steps);
            self.ends = self.end_of(self.steps);
        }
    }

    fn end_of(&self, step: u64) -> Micros {
        let k = step as f64;
        let ms = self.first_ms * k + self.growth_ms * k * (k - 1.0) / 2.0;
        // No step takes no time at all.
        self.started + Micros::from_ms(ms).max(Micros(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_done_are_those_whose_end_has_come() {
        // (steps, first ms, growth ms)
        for (steps, first_ms, growth_ms) in [(1, 5.0, 0.0), (150, 12.7, 0.000_32), (4000, 0.4, 0.05), (7, 1e-9, 0.0)] {
            let run = Run::new(Micros(500), steps, first_ms, growth_ms);
            assert_eq!((run.done_by(Micros(0)), run.done_by(run.ends())), (0, steps));
            for step in 1..=steps {
                let end = run.end_of(step);
                assert_eq!(run.done_by(end), step, "{steps} x {first_ms} + {growth_ms}");
                assert_eq!(run.done_by(end - Micros(1)), step - 1, "{steps} x {first_ms} + {growth_ms}");
            }
        }
    }

    #[test]
    fn a_run_is_cut_at_the_end_of_the_step_under_way() {
        // (cut at, steps left); steps end at 1.01, 1.02, 1.03 s ...
        for (at_ms, steps) in [(0.0, 1), (1005.0, 1), (1010.0, 1), (1010.1, 2), (1055.0, 6), (1100.0, 10), (9e9, 10)] {
            let mut run = Run::new(Micros::from_secs(1), 10, 10.0, 0.0);
            run.cut(Micros::from_ms(at_ms));
            assert_eq!((run.steps(), run.ends()), (steps, Micros::from_ms(1000.0 + 10.0 * steps as f64)), "{at_ms}");
        }
    }
}
