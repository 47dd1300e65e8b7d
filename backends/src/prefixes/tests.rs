//! What is believed of prefix caches.

use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::prefix::of_blocks;

use super::shard::HOLDERS_PER_BLOCK;
use super::*;

fn caches(prefixes: &Prefixes, memory_tokens: &[u64]) -> Vec<Cache> {
    let made = memory_tokens.iter().map(|tokens| {
        let cache = prefixes.cache();
        cache.memory_tokens.store(*tokens, Ordering::Relaxed);
        cache.truth.lock().expect_of(HardwareKind::Gpu);
        cache
    });
    made.collect()
}

fn prompt(blocks: &[u64]) -> (Prefix, u64) {
    let tokens = blocks.len() as u64 * 512;
    (of_blocks(blocks, 512, tokens), tokens)
}

#[test]
fn each_endpoint_holds_what_it_was_sent() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[10_000, 10_000, 10_000]);
    let held = |blocks: &[u64]| {
        let (prefix, tokens) = prompt(blocks);
        held_by(&prefixes, &prefix, tokens, caches.iter())
    };
    let send = |blocks: &[u64], to: usize| {
        let (prefix, tokens) = prompt(blocks);
        prefixes.sent(&prefix, &caches[to], tokens, 0).claimed_tokens
    };
    assert_eq!((held(&[1, 2, 3]), held(&[])), (vec![], vec![]));
    assert_eq!(send(&[1, 2, 3], 0), 0);
    assert_eq!(send(&[1, 2, 3, 4], 0), 3 * 512, "what was claimed before");
    assert_eq!(send(&[1, 7], 1), 0);
    assert_eq!(held(&[1, 2, 3, 9]), [3 * 512, 512, 0]);
    assert_eq!(held(&[2, 3]), [0_u64; 0], "what comes before is in the hash");
}

#[test]
fn what_no_longer_fits_is_forgotten_the_least_recently_used_first() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[2_048]);
    let send = |blocks: &[u64]| {
        let (prefix, tokens) = prompt(blocks);
        let booked = prefixes.sent(&prefix, &caches[0], tokens, 0);
        prefixes.was_read(&prefix, &caches[0], booked);
    };
    let held = |block: u64| {
        let (prefix, tokens) = prompt(&[block]);
        held_by(&prefixes, &prefix, tokens, caches.iter()).first().copied().unwrap_or(0)
    };
    (1..5).for_each(|block| send(&[block]));
    send(&[1]);
    send(&[5]);
    send(&[6]);
    assert_eq!([1, 2, 3, 4, 5, 6].map(held), [512, 0, 512, 512, 512, 512]);
    send(&[7]);
    assert_eq!([1, 2, 3, 4, 5, 6, 7].map(held), [512, 0, 0, 512, 512, 512, 512]);
}

#[test]
fn an_engine_that_keeps_less_is_believed_less_and_one_that_keeps_nothing_is_not() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[100_000, 100_000]);
    let (prefix, tokens) = prompt(&(0..20).collect::<Vec<_>>());
    for cache in &caches {
        prefixes.sent(&prefix, cache, tokens, 0);
    }
    for _ in 0..100 {
        caches[0].answered(tokens, Some(tokens / 2));
        caches[1].answered(tokens, Some(0));
    }
    let held = held_by(&prefixes, &prefix, tokens, caches.iter());
    assert!((tokens * 45 / 100..tokens * 55 / 100).contains(&held[0]), "{held:?}");
    assert_eq!(held[1], 0);
    (0..200).for_each(|_| caches[1].answered(tokens, Some(tokens)));
    assert!(held_by(&prefixes, &prefix, tokens, caches.iter())[1] > tokens * 9 / 10, "it was switched on");
}

#[test]
fn a_prompt_that_is_refused_is_taken_back_and_nothing_else_is() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[100_000, 100_000]);
    let send = |blocks: &[u64], to: usize| {
        let (prefix, tokens) = prompt(blocks);
        prefixes.sent(&prefix, &caches[to], tokens, 100)
    };
    let held = |blocks: &[u64]| {
        let (prefix, tokens) = prompt(blocks);
        held_by(&prefixes, &prefix, tokens, caches.iter())
    };
    let begun = prompt(&[1, 2]).0;
    prefixes.was_read(&begun, &caches[0], send(&[1, 2], 0));
    let booked = send(&[1, 2, 3, 4], 0);
    assert_eq!(held(&[1, 2, 3, 4]), [4 * 512, 0], "until it is known what becomes of it");
    prefixes.take_back(&prompt(&[1, 2, 3, 4]).0, &caches[0], booked);
    assert_eq!(held(&[1, 2, 3, 4]), [2 * 512, 0]);

    let (one, other) = (send(&[7, 8], 1), send(&[7, 8], 1));
    assert_eq!((one.claimed_tokens, other.claimed_tokens), (0, 2 * 512), "it is best sent after the other");
    [one, other].into_iter().for_each(|booked| prefixes.take_back(&prompt(&[7, 8]).0, &caches[1], booked));
    assert_eq!(held(&[7, 8]), [0_u64; 0], "both were refused");

    let (one, other) = (send(&[7, 8], 1), send(&[7, 8], 1));
    prefixes.was_read(&prompt(&[7, 8]).0, &caches[1], other);
    prefixes.take_back(&prompt(&[7, 8]).0, &caches[1], one);
    assert_eq!(held(&[7, 8]), [0, 2 * 512], "the other was read");
}

#[test]
fn a_machine_that_refuses_much_does_not_lose_what_it_has() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[2_048]);
    let (own, tokens) = prompt(&[1]);
    prefixes.was_read(&own, &caches[0], prefixes.sent(&own, &caches[0], tokens, 0));
    for block in 0..10_000 {
        let (other, tokens) = prompt(&[100 + block]);
        prefixes.take_back(&other, &caches[0], prefixes.sent(&other, &caches[0], tokens, 500));
    }
    assert_eq!(held_by(&prefixes, &own, tokens, caches.iter()), [512]);
    assert!(known(&prefixes) < 10 && prefixes.young.load(Ordering::Relaxed) < 10, "{}", known(&prefixes));
}

#[test]
fn a_machine_that_was_started_again_has_nothing() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[100_000, 100_000]);
    let (prefix, tokens) = prompt(&[1, 2, 3]);
    caches.iter().for_each(|cache| prefixes.was_read(&prefix, cache, prefixes.sent(&prefix, cache, tokens, 0)));
    caches[0].forget();
    assert_eq!(held_by(&prefixes, &prefix, tokens, caches.iter()), [0, tokens]);
    prefixes.sent(&prefix, &caches[0], tokens, 0);
    assert_eq!(held_by(&prefixes, &prefix, tokens, caches.iter()), [tokens, tokens]);
}

#[test]
fn who_never_tells_is_believed_by_half_until_its_engine_reports_hits() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[1_000_000]);
    let cache = &caches[0];
    let (prefix, tokens) = prompt(&(0..20).collect::<Vec<_>>());
    let answer = |found| cache.answered(prefixes.sent(&prefix, cache, tokens, 0).claimed_tokens, found);
    answer(None);
    assert_eq!(cache.truth(), 1.0);
    (0..40).for_each(|_| answer(None));
    assert_eq!(cache.truth(), 0.5);
    cache.reported(0.0);
    assert_eq!(cache.truth(), 0.0, "it keeps nothing");
    for _ in 0..200 {
        answer(None);
        cache.reported(0.8);
    }
    assert!((0.75..0.85).contains(&cache.truth()), "{}", cache.truth());
    answer(Some(tokens));
    let told = cache.truth();
    cache.reported(0.0);
    assert_eq!(cache.truth(), told, "where answers tell, they know better");
}

/// How much the index knows.
fn known(prefixes: &Prefixes) -> usize {
    prefixes.shards.iter().map(|shard| shard.lock().len()).sum()
}

#[test]
fn the_index_is_bounded_though_all_prompts_begin_alike() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[1 << 40]);
    let held = |conversation: u64| {
        let (prefix, tokens) = prompt(&[0, 1, conversation]);
        held_by(&prefixes, &prefix, tokens, caches.iter()).first().copied().unwrap_or(0)
    };
    let sent = LEAST_BLOCKS as u64 * 3;
    for conversation in (10..).take(sent as usize) {
        let (prefix, tokens) = prompt(&[0, 1, conversation]);
        prefixes.sent(&prefix, &caches[0], tokens, 0);
    }
    let kept = known(&prefixes);
    assert!((LEAST_BLOCKS..=2 * LEAST_BLOCKS).contains(&kept), "{kept}");
    assert_eq!(held(9 + sent), 3 * 512, "the newest");
    assert_eq!(held(9 + sent - LEAST_BLOCKS as u64 / 2), 3 * 512, "one that is not the newest");
    assert_eq!(held(10), 2 * 512, "the oldest, but for what all begin with");
}

#[test]
fn the_index_grows_with_the_fleet_up_to_a_bound() {
    for (endpoints, most) in [(1, LEAST_BLOCKS), (40, 40 * BLOCKS_PER_ENDPOINT), (2_000, MOST_BLOCKS)] {
        let prefixes = Prefixes::default();
        let caches = caches(&prefixes, &vec![1; endpoints]);
        assert_eq!(prefixes.most_blocks(), most);
        drop(caches);
        assert_eq!(prefixes.most_blocks(), LEAST_BLOCKS, "they are gone");
    }
}

#[test]
fn a_number_is_used_again_without_what_was_known_of_it() {
    let prefixes = Prefixes::default();
    let mut caches = caches(&prefixes, &[u64::MAX]);
    let (prefix, tokens) = prompt(&[1]);
    prefixes.sent(&prefix, &caches[0], tokens, 0);
    caches.clear();
    let next = prefixes.cache();
    assert_eq!((next.number, held_by(&prefixes, &prefix, tokens, std::iter::once(&next)).len()), (0, 0));
}

#[test]
fn any_order_of_events_leaves_what_a_plain_list_would() {
    for seed in 0..30_u64 {
        let prefixes = Prefixes::default();
        let caches = caches(&prefixes, &[1 << 30; 5]);
        let mut draw = seed;
        let mut random = |below: u64| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (draw >> 33) % below
        };
        let mut read: Vec<Vec<Vec<u64>>> = vec![Vec::new(); caches.len()];
        for _ in 0..300 {
            let blocks: Vec<u64> = (0..=random(4)).map(|depth| depth * 10 + random(2)).collect();
            let to = random(5) as usize;
            let (prefix, tokens) = prompt(&blocks);
            let booked = prefixes.sent(&prefix, &caches[to], tokens, 1);
            if random(2) == 0 {
                prefixes.take_back(&prefix, &caches[to], booked);
            } else {
                prefixes.was_read(&prefix, &caches[to], booked);
                read[to].push(blocks.clone());
            }
            let held = held_by(&prefixes, &prefix, tokens, caches.iter());
            for (cache, read) in read.iter().enumerate() {
                let same = |other: &Vec<u64>| blocks.iter().zip(other).take_while(|(a, b)| a == b).count() as u64;
                let most = read.iter().map(same).max().unwrap_or(0) * 512;
                assert_eq!(held.get(cache).copied().unwrap_or(0), most, "seed {seed}: {blocks:?} at {cache}");
            }
        }
    }
}

/// What each of these caches is believed to hold of a prompt, tokens; nothing where none does.
fn held_by<'c>(
    prefixes: &Prefixes,
    prefix: &Prefix,
    tokens: u64,
    caches: impl Iterator<Item = &'c Cache> + Clone,
) -> Vec<u64> {
    let known = |number| caches.clone().enumerate().find(|(_, cache)| cache.number == number);
    let held = prefixes.held(prefix, tokens, known);
    let of = |endpoint| held.iter().find(|cached| cached.endpoint == endpoint).map_or(0, |cached| cached.tokens);
    if held.is_empty() { Vec::new() } else { (0..caches.count()).map(of).collect() }
}

#[test]
fn of_those_who_hold_what_everybody_begins_with_some_are_forgotten_the_last_never() {
    let prefixes = Prefixes::default();
    let caches = caches(&prefixes, &[1 << 20; 3 * HOLDERS_PER_BLOCK]);
    let (prefix, tokens) = prompt(&[1, 2, 3]);
    for (at, cache) in caches.iter().enumerate() {
        prefixes.sent(&prefix, cache, tokens, 0);
        let told = held_by(&prefixes, &prefix, tokens, caches.iter());
        let holders = told.iter().filter(|tokens| **tokens > 0).count();
        assert_eq!((told[at], holders), (tokens, (at + 1).min(HOLDERS_PER_BLOCK)), "{at}");
    }
}
