//! What is told to everyone who watches: made once, kept for those who come back, the oldest dropped. Watchers read at their
//! own pace; nobody waits for them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Messages that are kept for watchers that are behind: some minutes of ticks.
const MOST_MESSAGES: usize = 256;
/// Watchers at once; each costs a look at every new row.
pub const MOST_WATCHERS: usize = 64;

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Counts the messages.
    pub id: u64,
    /// What kind it is.
    pub event: &'static str,
    /// JSON.
    pub json: Arc<str>,
}

/// Messages and those who wait for them.
#[derive(Debug)]
pub struct Feed {
    messages: Mutex<(u64, VecDeque<Message>)>,
    changed: watch::Sender<()>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { messages: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Feed {
    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.changed.receiver_count() > 0
    }

    /// Learns of everything new; `None` where too many do already.
    pub fn watch(&self) -> Option<watch::Receiver<()>> {
        (self.changed.receiver_count() < MOST_WATCHERS).then(|| self.changed.subscribe())
    }

    /// Tells everyone.
    pub fn tell(&self, event: &'static str, json: String) {
        let mut messages = self.messages.lock();
        let (last, kept) = &mut *messages;
        *last += 1;
        kept.push_back(Message { id: *last, event, json: json.into() });
        if kept.len() > MOST_MESSAGES {
            kept.pop_front();
        }
    }

    /// Lets watchers look for what is new.
    pub fn wake(&self) {
        self.changed.send_replace(());
    }

    /// The number of the last message.
    pub fn last(&self) -> u64 {
        self.messages.lock().0
    }

    /// Messages after one, and how many of those are forgotten.
    pub fn after(&self, id: u64) -> (Vec<Message>, u64) {
        let messages = self.messages.lock();
        let (last, kept) = &*messages;
        let new: Vec<Message> = kept.iter().filter(|message| message.id > id).cloned().collect();
        let missing = last.saturating_sub(id).saturating_sub(new.len() as u64);
        (new, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_gets_what_is_kept_and_is_told_of_the_rest() {
        let feed = Feed::default();
        for _ in 0..MOST_MESSAGES + 10 {
            feed.tell("tick", "{}".to_owned());
        }
        let (new, missing) = feed.after(feed.last() - 2);
        assert_eq!((new.len(), new[0].id, missing), (2, feed.last() - 1, 0));
        let (new, missing) = feed.after(3);
        assert_eq!((new.len(), missing), (MOST_MESSAGES, 7));
        let (new, missing) = feed.after(u64::MAX);
        assert_eq!((new.len(), missing), (0, 0), "of another process");
    }

    #[test]
    fn watchers_are_bounded() {
        let feed = Feed::default();
        assert!(!feed.is_watched());
        let watchers: Vec<_> = (0..MOST_WATCHERS).map(|_| feed.watch().unwrap()).collect();
        assert!(feed.watch().is_none());
        drop(watchers);
        assert!(feed.watch().is_some());
    }
}
