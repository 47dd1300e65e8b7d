//! Any bytes as a stream of events: wherever they are cut, the same events come out, none is lost, and each ends at its
//! first blank line. The first four bytes choose the cuts.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pointsman_backends::frames::sse::{Events, data};
use pointsman_fuzz::Chance;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = input.split_first_chunk::<4>() else { return };
    let mut chance = Chance::new(u64::from(u32::from_le_bytes(*seed)));
    let whole = events(bytes, &[bytes.len()]);
    let mut cuts: Vec<usize> = (0..chance.below(8)).map(|_| chance.below(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    assert_eq!(events(bytes, &cuts), whole, "cut at {cuts:?}");
    let each: Vec<usize> = (1..=bytes.len()).collect();
    assert_eq!(events(bytes, &each), whole, "byte by byte");

    let (events, incomplete) = whole;
    let all = events.concat();
    assert_eq!(all, bytes[..bytes.len() - incomplete], "no byte is lost or moved");
    for event in &events {
        let text = &event[..event.len() - 1];
        let blank = |window: &[u8]| window == b"\n\n" || window == b"\r\n\r\n";
        assert!(!text.windows(2).any(blank), "an event ends at its first blank line: {event:?}");
        let value = data(event);
        assert!(!value.contains(&b'\n'), "the value of one line: {value:?}");
        if !value.is_empty() {
            assert!(event.windows(value.len()).any(|window| window == value));
        }
    }
});

fn events(bytes: &[u8], ends: &[usize]) -> (Vec<Vec<u8>>, usize) {
    let (mut events, mut told, mut from) = (Events::default(), Vec::new(), 0);
    for end in ends {
        events.push(Bytes::copy_from_slice(&bytes[from..*end]));
        from = *end;
        while let Some(event) = events.take() {
            told.push(event.to_vec());
        }
    }
    (told, events.incomplete())
}
