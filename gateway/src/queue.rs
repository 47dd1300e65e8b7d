//! The live queue: requests wait here as futures until flow control sends them, refuses them, or their client leaves.

use std::sync::Arc;
use std::time::Duration;

use pointsman_policies::plan::Hold;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;
use tokio::sync::{Notify, oneshot};

use crate::flow::{Entered, Flow, Released};
use crate::gateway::Gateway;
use crate::record::DecisionRecord;

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Queue {
    flow: Flow<oneshot::Sender<Released<()>>>,
    /// Somebody came to stand in line, or room was made.
    stirred: Notify,
}

impl Queue {
    /// Flow control.
    pub fn flow(&self) -> &Flow<impl Sized> {
        &self.flow
    }

    /// Puts a request in line, or refuses it where holding does not help.
    pub fn enter(&self, made: Arc<DecisionRecord>, hold: Hold, now: Micros) -> Result<Place<'_>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let entered = self.flow.hold(made, hold, sender, now).map_err(|(_, refusal)| refusal)?;
        self.stirred.notify_one();
        Ok(Place { queue: self, entered, receiver })
    }

    /// Room may have been made: a first token came, or a request ended.
    pub fn room_made(&self, now: Micros) {
        if self.flow.held() > 0 {
            tell(self.flow.release(now));
            self.stirred.notify_one();
        }
    }

    /// Looks after those who wait, until it is dropped.
    pub async fn tend(gateway: Arc<Gateway>) {
        let queue = gateway.queue();
        loop {
            let Some(due) = queue.flow.due() else {
                queue.stirred.notified().await;
                continue;
            };
            let wait = due - gateway.fleet().now();
            if wait == Micros(0) {
                tell(queue.flow.tend(gateway.fleet().now()));
                tokio::task::yield_now().await;
            } else {
                // Whatever happens meanwhile may bring the moment nearer.
                let _ = tokio::time::timeout(Duration::from_micros(wait.0), queue.stirred.notified()).await;
            }
        }
    }
}

fn tell(released: Vec<Released<oneshot::Sender<Released<()>>>>) {
    for Released { token, made, outcome, end, moved } in released {
        // Whoever has left meanwhile gives its place on the machine back by dropping it.
        let _ = token.send(Released { token: (), made, outcome, end, moved });
    }
}

/// A request's place in line; given up when it is dropped.
#[derive(Debug)]
pub struct Place<'q> {
    queue: &'q Queue,
    entered: Entered,
    receiver: oneshot::Receiver<Released<()>>,
}

impl Place<'_> {
    /// Requests that stood before it when it came.
    pub fn ahead(&self) -> usize {
        self.entered.ahead
    }

    /// Waits until it is sent to the first endpoint of the plan that was made last, or refused; `None` if nobody looks
    /// after the line any more.
    pub async fn released(mut self) -> Option<Released<()>> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.flow.leave(self.entered.ticket);
    }
}
