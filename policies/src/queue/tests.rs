//! The order of the line, and what decisions are told of it.

use super::*;

const NOW: Micros = Micros::from_secs(1_000);
const LONG: Micros = Micros::from_secs(600);

/// One of pool 0 that came now and is due after so many milliseconds.
fn held(ticket: u64, priority: i32, due_ms: u64) -> Held {
    Held {
        ticket,
        pool: 0,
        priority,
        shed_order: None,
        tenant: 0,
        since: NOW + Micros(ticket),
        due: NOW + Micros(due_ms * 1_000),
        input_tokens: 100,
        output_tokens: 10,
    }
}

fn queue(all: impl IntoIterator<Item = Held>) -> Queue {
    let mut queue = Queue::default();
    all.into_iter().for_each(|held| queue.hold(NOW, held));
    queue
}

/// The order in which a pool's requests go, as their tickets.
fn order(queue: &mut Queue, now: Micros) -> Vec<u64> {
    let next = || {
        let next = queue.next(now, 0)?;
        queue.sent(now, &next);
        queue.remove(next.ticket).map(|held| held.ticket)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn higher_classes_go_first_and_in_a_class_who_is_due_soonest() {
    let mut queue = queue([held(1, 0, 10), held(2, 30, 900), held(3, 30, 300), held(4, 20, 50)]);
    assert_eq!(order(&mut queue, NOW), [3, 2, 4, 1]);
    assert!(queue.is_empty() && queue.pools().is_empty());
}

#[test]
fn who_has_lost_its_promise_goes_after_those_who_have_not_and_what_may_be_shed_comes_last() {
    let shed = Held { shed_order: Some(0), ..held(4, 90, 900) };
    let mut queue = queue([held(1, 30, 10), held(2, 0, 900), held(3, 20, 900), shed]);
    assert_eq!(order(&mut queue, NOW + Micros(20_000)), [3, 2, 1, 4]);
}

#[test]
fn one_release_in_so_many_goes_to_whoever_has_waited_longest() {
    let old = Held { since: NOW, ..held(999, 0, 900_000) };
    let mut queue = queue((1..=60).map(|ticket| held(ticket, 30, 500)).chain([old]));
    let order = order(&mut queue, NOW);
    assert_eq!(order.iter().position(|ticket| *ticket == 999), Some(AGING as usize - 1), "{order:?}");
}

#[test]
fn a_plain_line_goes_in_the_order_of_coming_and_nobody_who_comes_later_overtakes_anybody() {
    let mut queue = Queue::new(Order::Coming);
    let spare = Held { shed_order: Some(0), tenant: 7, ..held(1, 0, 10) };
    let all = [spare, held(2, 30, 900), Held { tenant: 7, ..held(3, 30, 300) }, held(4, 20, 5)];
    all.into_iter().for_each(|held| queue.hold(NOW, held));
    queue.passed(NOW, 7, 100_000, 0);
    let later = NOW + Micros(20_000);
    assert_eq!((queue.ahead(3), queue.lost(later, LONG, 9), queue.least()), (2, Vec::new(), None));
    let priorities = |waiting: Vec<Waiting>| waiting.iter().map(|one| (one.priority, one.requests)).collect::<Vec<_>>();
    assert_eq!(priorities(queue.waiting(later, None)), [(i32::MAX, 4)]);
    assert_eq!(priorities(queue.waiting(later, Some(3))), [(i32::MAX, 2)]);
    assert_eq!(order(&mut queue, later), [1, 2, 3, 4]);
}

/// The one that is given its turn by its age alone sees nobody before it, or it would be held again for ever.
#[test]
fn whose_turn_it_is_has_nobody_before_it() {
    let old = Held { since: NOW, ..held(9, 10, 900_000) };
    let mut queue = queue([old, held(1, 30, 500), held(2, 10, 300), held(3, 0, 800)]);
    queue.pools.get_mut(&0).unwrap().releases = AGING - 1;
    let next = queue.next(NOW, 0).unwrap();
    assert_eq!(next.ticket, 9);
    let priorities = |waiting: Vec<Waiting>| waiting.iter().map(|waiting| waiting.priority).collect::<Vec<_>>();
    assert_eq!(priorities(queue.waiting(NOW, Some(9))), [30, 10, 0], "as one that only asks");
    assert_eq!(priorities(queue.waiting_behind(NOW, &next)), [0]);
}

#[test]
fn a_tenant_beyond_its_share_waits_until_the_others_have_had_theirs() {
    let of = |ticket: u64, tenant| Held { tenant, ..held(ticket, 0, ticket) };
    let mut greedy_first = queue((1..=6).map(|ticket| of(ticket, 7)).chain((11..=13).map(|ticket| of(ticket, 8))));
    greedy_first.passed(NOW, 7, 1_000, 500);
    assert_eq!(order(&mut greedy_first, NOW)[..3], [11, 12, 13], "the other has had nothing");

    // 2000 against 120 is beyond a share, a thousandth of it is not.
    for (charged, now, expected) in [(NOW, NOW, [11, 1]), (NOW, NOW + LONG, [1, 11])] {
        let of = |ticket, tenant| Held { due: NOW + LONG + Micros(ticket), ..of(ticket, tenant) };
        let mut queue = queue([of(1, 7), of(11, 8)]);
        queue.passed(charged, 7, 1_000, 500);
        queue.passed(now, 8, 100, 10);
        assert_eq!(order(&mut queue, now), expected);
    }
}

#[test]
fn a_request_stands_in_one_line_and_leaves_nothing_behind() {
    let mut queue = queue([held(1, 0, 100)]);
    queue.hold(NOW, Held { pool: 3, ..held(1, 0, 80) });
    assert_eq!((queue.len(), queue.pools()), (1, vec![3]));
    assert_eq!(queue.next(NOW, 0), None);
    assert_eq!(queue.remove(1).map(|held| held.pool), Some(3));
    assert_eq!(queue.remove(1), None);
    assert!(queue.waiting(NOW, None).is_empty() && queue.everyone().next().is_none());
}

#[test]
fn decisions_see_what_goes_before_them() {
    let mut queue = queue([held(1, 30, 100), held(2, 30, 200), held(3, 30, 300), held(4, 0, 50)]);
    let sum = |waiting: &Waiting| (waiting.priority, waiting.requests, waiting.input_tokens, waiting.least_slack_ms);
    let seen: Vec<_> = queue.waiting(NOW, None).iter().map(sum).collect();
    assert_eq!(seen, [(30, 3, 300, Some(100.0)), (0, 1, 100, Some(50.0))], "one that comes now");
    let seen: Vec<_> = queue.waiting(NOW, Some(2)).iter().map(sum).collect();
    assert_eq!(seen, [(30, 1, 100, Some(100.0)), (0, 1, 100, Some(50.0))], "one that stands second");
    assert_eq!((queue.ahead(1), queue.ahead(3), queue.ahead(4)), (0, 2, 3));
    let late = queue.waiting(NOW + Micros(150_000), Some(1)).iter().map(sum).collect::<Vec<_>>();
    assert!(late.contains(&(i32::MIN, 1, 100, None)), "who is late goes after all others: {late:?}");
}

#[test]
fn who_is_lost_is_given_up_and_others_are_decided_again_as_their_slack_halves() {
    let shed = |ticket, due_ms| Held { shed_order: Some(0), ..held(ticket, 0, due_ms) };
    let mut queue = queue([held(1, 0, 30), held(2, 0, 5), held(3, 0, 500), shed(4, 5), shed(5, 500)]);
    let now = NOW + Micros(10_000);
    let tickets = |held: Vec<Held>| held.iter().map(|held| held.ticket).collect::<Vec<_>>();
    assert_eq!(tickets(queue.to_review(now, 16)), [0; 0], "not yet");
    assert_eq!(tickets(queue.to_review(NOW + Micros(20_000), 16)), [1, 2, 4], "the least time between two looks");
    assert_eq!(tickets(queue.to_review(NOW + Micros(250_000), 1)).len(), 1, "no more at once than asked for");
    assert_eq!(
        queue.lost(now, LONG, 9).iter().map(|(held, old)| (held.ticket, *old)).collect::<Vec<_>>(),
        [(4, false)]
    );
    assert_eq!(queue.lost(NOW + LONG + LONG, LONG, 2).len(), 2, "no more at once than asked for");
    let lost = queue.lost(NOW + LONG + LONG, LONG, 9);
    assert!(lost.len() == 5 && lost.iter().all(|(_, old)| *old), "nobody is held for ever: {lost:?}");
    assert_eq!(queue.least().map(|held| held.ticket), Some(5), "of what may be shed, what is due last");
}

/// In a long overload most are late: each is looked at a few times, not twice a second for ever.
#[test]
fn the_later_somebody_is_the_more_seldom_he_is_decided_again() {
    let mut queue = queue([held(1, 0, 100)]);
    let looks = (0..100_000).filter(|ms| !queue.to_review(NOW + Micros(ms * 1_000), 16).is_empty()).count();
    assert!((10..25).contains(&looks), "{looks} in 100 s");
}

/// Who goes last is late first: so what is to be shed first goes last, whatever its priority.
#[test]
fn what_is_shed_first_goes_last_and_gives_its_place_up_first() {
    let shed = |ticket, pool, priority, order| Held { pool, shed_order: Some(order), ..held(ticket, priority, 500) };
    let mut queue = queue([shed(1, 0, 5, 1), shed(2, 0, 0, 2), shed(3, 0, 9, 1), held(4, -5, 500), shed(5, 1, 7, 2)]);
    let given_up = std::iter::from_fn(|| {
        let least = queue.clone().least()?;
        queue.remove(least.ticket).map(|held| held.ticket)
    });
    assert_eq!(given_up.collect::<Vec<_>>(), [1, 3, 2, 5], "by order, then by priority, in all pools; others never");
    let mut queue = self::queue([shed(1, 0, 5, 1), shed(2, 0, 0, 2), shed(3, 0, 9, 1), held(4, -5, 500)]);
    assert_eq!(order(&mut queue, NOW), [4, 2, 3, 1]);
}
