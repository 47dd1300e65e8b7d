//! A customer's account with a provider: its limits count for all machines behind it together, whichever is asked.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_policies::units::Micros;
use tokio::time::Instant;

use super::engine::{Job, Refused};
use crate::lease::{Limiter, RateLimits, Reservation};

/// An account. Clones are the same account.
#[derive(Clone, Debug)]
pub struct Account {
    limiter: Arc<Mutex<Limiter>>,
    opened: Instant,
}

impl Account {
    /// A new account, nothing used of its limits. They are of real time, however fast its machines run.
    pub fn new(limits: RateLimits) -> Account {
        Account { limiter: Arc::new(Mutex::new(Limiter::new(limits))), opened: Instant::now() }
    }

    fn now(&self) -> Micros {
        Micros(self.opened.elapsed().as_micros() as u64)
    }
}

/// What one machine has taken off an account for the jobs it runs.
#[derive(Debug, Default)]
pub(super) struct Taken {
    account: Option<Account>,
    jobs: HashMap<u64, Open>,
}

/// A job's reservation, and what it uses if it runs to its end.
#[derive(Debug)]
struct Open {
    reservation: Reservation,
    prompt_tokens: u64,
    answer_tokens: u64,
}

impl Taken {
    pub(super) fn off(account: Option<Account>) -> Taken {
        Taken { account, jobs: HashMap::new() }
    }

    /// Takes what a job needs, or leaves the account as it is and tells how long to wait.
    pub(super) fn take(&mut self, id: u64, job: &Job) -> Result<(), Refused> {
        let Some(account) = &self.account else { return Ok(()) };
        let (prompt, answer) = (job.prompt_tokens, job.reserved_output_tokens);
        let taken = account.limiter.lock().try_take(account.now(), prompt, answer);
        let reservation =
            taken.map_err(|short| Refused::RateLimited { limit: short.limit, retry_after: short.retry_after })?;
        self.jobs.insert(id, Open { reservation, prompt_tokens: prompt, answer_tokens: job.output_tokens });
        Ok(())
    }

    /// The machine did not take the job.
    pub(super) fn give_back(&mut self, id: u64) {
        if let Some((account, open)) = self.account.as_ref().zip(self.jobs.remove(&id)) {
            account.limiter.lock().give_back(account.now(), open.reservation);
        }
    }

    /// A job has ended: what it used counts, no longer what it might have used. Of one that was cut short, the tokens of
    /// its answer that were made by then.
    pub(super) fn settle(&mut self, id: u64, cut_after: Option<u64>) {
        if let Some((account, open)) = self.account.as_ref().zip(self.jobs.remove(&id)) {
            let used = open.prompt_tokens + cut_after.unwrap_or(open.answer_tokens);
            account.limiter.lock().settle(account.now(), open.reservation, used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_one_account_have_its_limits_together() {
        let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(1_000.0), reserves_output: true };
        let account = Account::new(limits);
        let (mut one, mut other) = (Taken::off(Some(account.clone())), Taken::off(Some(account)));
        let job = Job { prompt_tokens: 100, output_tokens: 300, reserved_output_tokens: 500, ..Job::default() };
        assert_eq!(one.take(1, &job), Ok(()));
        let refused = other.take(1, &job);
        assert!(matches!(refused, Err(Refused::RateLimited { .. })), "600 of 1,000 are taken: {refused:?}");
        one.settle(1, None);
        assert_eq!(other.take(2, &job), Ok(()), "400 were used");
        other.give_back(2);
        assert_eq!(one.take(3, &job), Ok(()), "the other machine did not take it");
        one.settle(3, Some(50));
        let small = Job { reserved_output_tokens: 350, ..job.clone() };
        assert_eq!(other.take(4, &small), Ok(()), "550 are used; 100 and 350 are as much as is left");
        assert!(one.take(5, &small).is_err());
    }
}
