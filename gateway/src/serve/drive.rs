//! A connection from its first request to its end: asked to end after an age, when the gateway ends, when it has nothing
//! to do for long or memory is short. Asked means that what runs is finished and nothing new is begun.

use std::pin::pin;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use crate::pipeline::Watch;
use crate::telemetry::metrics::Metrics;

/// An HTTP/2 connection on which nothing has run for so long, up to twice that, is asked to end; HTTP/1.1 has
/// `timeouts.head_s` for it.
const IDLE: Duration = Duration::from_secs(150);
/// Ages differ by so much either way, so that connections made together do not end together.
const SPREAD: f64 = 0.1;

/// Who is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Nobody.
    Nobody,
    /// Connections without a request.
    Idle,
    /// All.
    All,
}

/// How long a connection is kept.
pub fn age(limit: Duration) -> Duration {
    limit.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * fastrand::f64())
}

/// Runs a connection to its end. `grace` is how long it still takes requests when it is asked to end, and `answer` the one
/// that is sent over it, where only one can be.
pub async fn drive<C>(
    connection: C,
    (client, metrics): (&Client, &Metrics),
    (age, grace): (Duration, Duration),
    answer: Watch,
    mut closing: watch::Receiver<Closing>,
) -> Result<(), C::Error>
where
    C: GracefulConnection,
{
    let mut connection = pin!(connection);
    let began = Instant::now();
    let ends = began.checked_add(age);
    let mut timer = pin!(sleep_until(next_look(began, ends)));
    let mut seen = client.begun();
    let (mut asked, mut shut) = (false, false);
    let mut deaf = false; // whoever says what is closed has gone, which says nothing
    loop {
        let reason = tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = answer.cut() => {
                metrics.connections().cut("slow-reader");
                return Ok(());
            }
            changed = closing.changed(), if !deaf => {
                deaf = changed.is_err();
                match *closing.borrow_and_update() {
                    Closing::All => Some("shutdown"),
                    Closing::Idle if client.is_idle() => Some("memory"),
                    Closing::Idle | Closing::Nobody => None,
                }
            },
            () = timer.as_mut(), if !shut => {
                if asked {
                    shut = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                let now = Instant::now();
                let idle = client.is_idle() && client.begun() == seen;
                seen = client.begun();
                timer.as_mut().reset(next_look(now, ends));
                match ends.is_some_and(|ends| ends <= now) {
                    true => Some("age"),
                    false => idle.then_some("idle"),
                }
            }
        };
        if let Some(reason) = reason.filter(|_| !asked) {
            asked = true;
            client.end();
            metrics.connections().asked_to_end(reason);
            timer.as_mut().reset(Instant::now() + grace);
        }
    }
}

fn next_look(now: Instant, ends: Option<Instant>) -> Instant {
    let look = now + IDLE;
    ends.map_or(look, |ends| ends.min(look))
}
