//! Connects to whichever of a name's addresses answers first: each next one is begun a little after the one before, or at
//! once where that failed, so that one dead address costs a quarter of a second and not the whole limit (RFC 8305).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// From one address to the next: what RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// A name with more addresses is tried at these, which is as many as fit into the usual limit.
const MOST_ADDRESSES: usize = 8;

/// The first connection of those that `connect` makes. An error is the last address's own.
pub(super) async fn first<T, Work>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> Work,
) -> io::Result<T>
where
    Work: Future<Output = io::Result<T>>,
{
    staggered(addresses, STAGGER, connect).await
}

async fn staggered<T, Work>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    stagger: Duration,
    connect: impl Fn(SocketAddr) -> Work,
) -> io::Result<T>
where
    Work: Future<Output = io::Result<T>>,
{
    let mut waiting = in_turn(addresses);
    let mut running: Vec<Pin<Box<Work>>> = Vec::new();
    let mut last = io::Error::other("the name has no address");
    let mut due = Box::pin(tokio::time::sleep(stagger));
    poll_fn(move |context| {
        loop {
            let (mut won, mut failed) = (None, running.is_empty());
            running.retain_mut(|attempt| match attempt.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(connection)) => {
                    won = Some(connection);
                    false
                }
                Poll::Ready(Err(error)) => {
                    last = error;
                    failed = true;
                    false
                }
            });
            if let Some(connection) = won {
                return Poll::Ready(Ok(connection));
            }
            let next = match waiting.is_empty() {
                true => None,
                false if failed || due.as_mut().poll(context).is_ready() => waiting.pop_front(),
                false => None,
            };
            match next {
                Some(address) => {
                    running.push(Box::pin(connect(address)));
                    due.as_mut().reset(Instant::now() + stagger);
                }
                None if running.is_empty() => {
                    return Poll::Ready(Err(std::mem::replace(&mut last, io::ErrorKind::NotConnected.into())));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// The addresses with their families taking turns, the resolver's first choice first.
fn in_turn(addresses: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.into_iter().collect();
    let first_family = all.first().is_some_and(SocketAddr::is_ipv6);
    let (own, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|address| address.is_ipv6() == first_family);
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let pair = [own.next(), other.next()];
        if pair == [None, None] || turns.len() >= MOST_ADDRESSES {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::sync::Notify;

    use super::*;

    /// What becomes of an address.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Answers,
        /// Once another has been begun.
        AnswersLate,
        Fails,
        Nothing,
    }

    const AT_ONCE: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3_600);

    /// Which address wins, and which were begun.
    async fn race(stagger: Duration, addresses: &[(&str, Does)]) -> (Option<String>, Vec<String>) {
        let (begun, another) = (RefCell::new(Vec::new()), Notify::new());
        let list: Vec<(SocketAddr, Does)> =
            addresses.iter().map(|(text, does)| (text.parse().unwrap(), *does)).collect();
        let connect = |address: SocketAddr| {
            if !begun.borrow().is_empty() {
                another.notify_one();
            }
            begun.borrow_mut().push(address.to_string());
            let does = list.iter().find(|(known, _)| *known == address).unwrap().1;
            let another = &another;
            async move {
                match does {
                    Does::Nothing => std::future::pending().await,
                    Does::AnswersLate => another.notified().await,
                    Does::Answers => {}
                    Does::Fails => return Err(io::Error::other(address.to_string())),
                }
                Ok(address.to_string())
            }
        };
        let won = staggered(list.iter().map(|(address, _)| *address), stagger, connect).await.ok();
        (won, begun.into_inner())
    }

    const A: &str = "[::1]:1";
    const B: &str = "127.0.0.1:1";
    const C: &str = "[::2]:1";

    #[tokio::test]
    async fn a_dead_address_does_not_hold_up_the_next() {
        let (won, begun) = race(AT_ONCE, &[(A, Does::Nothing), (B, Does::Nothing), (C, Does::Answers)]).await;
        assert_eq!((won.as_deref(), begun.len()), (Some(C), 3));
    }

    #[tokio::test]
    async fn a_refused_one_is_followed_at_once() {
        let (won, begun) = race(NEVER, &[(A, Does::Fails), (B, Does::Answers), (C, Does::Nothing)]).await;
        assert_eq!((won.as_deref(), begun), (Some(B), vec![A.to_owned(), B.to_owned()]));
    }

    #[tokio::test]
    async fn a_slow_one_may_still_win_and_a_quick_one_is_alone() {
        let (won, begun) = race(AT_ONCE, &[(A, Does::AnswersLate), (B, Does::Nothing)]).await;
        assert_eq!((won.as_deref(), begun.len()), (Some(A), 2));
        let (won, begun) = race(NEVER, &[(A, Does::Answers), (B, Does::Answers)]).await;
        assert_eq!((won.as_deref(), begun), (Some(A), vec![A.to_owned()]));
    }

    #[tokio::test]
    async fn where_all_fail_it_is_an_error_and_without_addresses_too() {
        let (won, begun) = race(NEVER, &[(A, Does::Fails), (B, Does::Fails)]).await;
        assert_eq!((won, begun.len()), (None, 2));
        assert_eq!(race(NEVER, &[]).await, (None, vec![]));
    }

    #[test]
    fn families_take_turns() {
        let turns = in_turn([A, C, B].map(|text| text.parse().unwrap()));
        assert_eq!(turns, [A, B, C].map(|text| text.parse::<SocketAddr>().unwrap()));
        let many = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(in_turn(many).len(), MOST_ADDRESSES);
    }
}
