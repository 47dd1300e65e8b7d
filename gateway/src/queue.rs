//! The live queue: requests wait here as futures until flow control sends them, refuses them, or their client leaves.

use std::sync::Arc;
use std::time::Duration;

use pointsman_backends::fleet::Dispatched;
use pointsman_policies::plan::Hold;
use pointsman_policies::refusal::Refusal;
use pointsman_policies::units::Micros;
use tokio::sync::{Notify, oneshot};

use crate::flow::{Flow, Released, TICK};
use crate::gateway::Gateway;
use crate::record::DecisionRecord;

/// What a request that waits is told.
type Told = (Arc<DecisionRecord>, Result<Dispatched, Refusal>);

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Queue {
    flow: Flow<oneshot::Sender<Told>>,
    someone: Notify,
}

impl Queue {
    /// Flow control.
    pub fn flow(&self) -> &Flow<impl Sized> {
        &self.flow
    }

    /// Holds a request until it is sent to the first endpoint of the plan that is returned, or refused. A client that
    /// leaves meanwhile takes it along.
    pub async fn wait(&self, made: Arc<DecisionRecord>, hold: Hold, now: Micros) -> Told {
        let (sender, receiver) = oneshot::channel();
        let ticket = match self.flow.hold(Arc::clone(&made), hold, sender, now) {
            Ok(ticket) => ticket,
            Err((_, refusal)) => return (made, Err(refusal)),
        };
        self.someone.notify_one();
        let _place = Place { queue: self, ticket };
        receiver.await.unwrap_or((made, Err(Refusal::Saturated { retry_in_ms: 1_000.0 })))
    }

    /// Room may have been made: a first token came, or a request ended.
    pub fn room_made(&self, now: Micros) {
        if self.flow.held() > 0 {
            tell(self.flow.release(now));
        }
    }

    /// Looks after those who wait, until it is dropped.
    pub async fn tend(gateway: Arc<Gateway>) {
        let queue = gateway.queue();
        loop {
            if queue.flow.held() == 0 {
                queue.someone.notified().await;
            }
            tokio::time::sleep(Duration::from_micros(TICK.0)).await;
            tell(queue.flow.tend(gateway.fleet().now()));
        }
    }
}

fn tell(released: Vec<Released<oneshot::Sender<Told>>>) {
    for Released { token, made, outcome } in released {
        // Whoever has left meanwhile gives its place back by dropping it.
        let _ = token.send((made, outcome));
    }
}

/// A request's place in the queue; given up when it is dropped.
struct Place<'q> {
    queue: &'q Queue,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.flow.leave(self.ticket);
    }
}
