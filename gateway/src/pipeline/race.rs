//! A first attempt and, where it is slow, another beside it.

use std::time::Duration;

use pointsman_policies::hedge::Hedge;
use pointsman_policies::plan::Attempt;

use super::failure::Failure;
use super::forward::{Tries, Won};
use super::settle::OpenRecord;
use crate::gateway::Gateway;
use crate::record::{OUTRUN, Record};
use crate::snapshot::Target;

/// Waits for the first attempt as long as a hedge's plan says, then for it and another. Whoever is outrun is let go; that
/// says nothing against it.
pub(super) async fn race<'s>(
    tries: &mut Tries<'s>,
    (place, target, first): (usize, Target<'s>, impl Future<Output = Result<Won<'s>, Failure>>),
    (attempt, hedge): (&Attempt, Hedge),
    record: &mut OpenRecord,
) -> Result<Won<'s>, ()> {
    let mut first = std::pin::pin!(first);
    let after = Duration::try_from_secs_f64(hedge.after_ms / 1e3).unwrap_or(Duration::MAX);
    if let Ok(tried) = tokio::time::timeout(after, &mut first).await {
        return tried.map_err(|failure| tries.note(place, target, failure, record));
    }
    let other = tries.snapshot.target(hedge.endpoint).filter(|other| !other.live.lacks(&record.model));
    let other = other.filter(|_| affordable(tries.gateway, record));
    let Some(other) = other else {
        return first.await.map_err(|failure| tries.note(place, target, failure, record));
    };
    let beside = tries.begin(hedge.endpoint, &other, record);
    if let Some(attempt) = record.attempts.get_mut(beside) {
        attempt.hedge = true;
    }
    let second = Attempt { endpoint: hedge.endpoint, ..*attempt };
    let mut second = std::pin::pin!(tries.attempt(&second, None, other, record));
    let (tried, by_first) = tokio::select! {
        biased;
        tried = &mut first => (tried, true),
        tried = &mut second => (tried, false),
    };
    let ((ended, at), rest) = if by_first { ((place, target), beside) } else { ((beside, other), place) };
    match tried {
        Ok(won) => {
            outrun(record, rest);
            Ok(won)
        }
        Err(failure) => {
            tries.note(ended, at, failure, record);
            let (tried, last, at) = if by_first { (second.await, beside, other) } else { (first.await, place, target) };
            tried.map(|won| last_of(record, last, won)).map_err(|failure| tries.note(last, at, failure, record))
        }
    }
}

/// Whether the route's budget has what a second attempt costs; takes it.
fn affordable(gateway: &Gateway, record: &Record) -> bool {
    record.decision.as_ref().is_some_and(|made| gateway.route_accounts().hedge(made))
}

/// The attempt that answers stands last in the record.
fn last_of<'s>(record: &mut Record, place: usize, won: Won<'s>) -> Won<'s> {
    if place < record.attempts.len() {
        let attempt = record.attempts.remove(place);
        record.attempts.push(attempt);
    }
    won
}

/// Another answered first: it is let go where it stands.
fn outrun(record: &mut Record, place: usize) {
    let ended = record.elapsed();
    if place >= record.attempts.len() {
        return;
    }
    let mut attempt = record.attempts.remove(place);
    attempt.ended = ended;
    attempt.failure = Some("another attempt answered first".to_owned());
    attempt.cause = OUTRUN;
    let answered = record.attempts.len().saturating_sub(1);
    record.attempts.insert(answered, attempt);
}
