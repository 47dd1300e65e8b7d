//! Any bytes as a client's connection: the strict reader, hyper behind it and a plain third reader see the same requests,
//! however the bytes are cut, and nothing behind a flaw is ever read as anything but the refused request. The first four
//! bytes choose where the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman::serve::strict::REFUSED_PATH;
use pointsman_fuzz::Chance;
use pointsman_fuzz::connection::{by_hyper, plainly, strictly};

fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = data.split_first_chunk::<4>() else { return };
    if bytes.windows(REFUSED_PATH.len()).any(|window| window == REFUSED_PATH.as_bytes()) {
        return; // what a client may not claim is the pipeline's to tell
    }
    let mut chance = Chance::new(u64::from(u32::from_le_bytes(*seed)));
    let (read, flaw) = strictly(bytes, &[]);
    let cuts: Vec<usize> = (0..chance.below(6)).map(|_| chance.below(bytes.len())).collect();
    let again = strictly(bytes, &cuts);
    // hyper closes a connection on which bytes come at a moment when it expects none: then it has read less, never other.
    let both = read.len().min(again.0.len());
    assert_eq!(again.0[..both], read[..both], "however it is cut, at {cuts:?}");
    assert!(flaw == again.1 || flaw.is_none() || again.1.is_none(), "{flaw:?}, {:?}, cut at {cuts:?}", again.1);

    let refused = |line: &str| line == format!("GET {REFUSED_PATH}");
    let sound: Vec<_> = read.iter().take_while(|read| !refused(&read.line)).cloned().collect();
    assert!(read.len() - sound.len() <= 1, "nothing is read behind what was refused: {read:?}");
    assert!(flaw.is_some() || read.len() == sound.len(), "refused without a flaw: {read:?}");
    for one in &read {
        let inside = one.body.as_ref().is_some_and(|body| body.windows(REFUSED_PATH.len()).any(|part| part == REFUSED_PATH.as_bytes()));
        assert!(!inside, "a flaw that one reader takes for a body: {read:?}");
    }
    if flaw.is_none() {
        let alone = by_hyper(bytes);
        let both = read.len().min(alone.len());
        assert_eq!(alone[..both], read[..both], "without a flaw the strict reader changes nothing");
    }
    let plain = plainly(bytes);
    for (place, one) in sound.iter().enumerate() {
        let Some(other) = plain.get(place) else { panic!("request {place} is there for hyper only: {one:?}") };
        assert_eq!(one.body, other.body.clone().filter(|_| one.body.is_some()), "bodies end at the same byte: {one:?}, {other:?}");
        let target = other.line.split(' ').nth(1).unwrap_or_default();
        let same = one.line == other.line || !target.starts_with('/');
        assert!(same, "the same request line: {one:?}, {other:?}");
    }
});
