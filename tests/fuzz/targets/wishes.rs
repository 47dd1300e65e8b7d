//! Any lines as headers in which callers say what they want: what is understood lies within its bounds, is given once, and
//! does not depend on headers that say nothing of it.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pointsman::pipeline::Wishes;
use pointsman_policies::wishes::{DEADLINE, ITL, LONGEST_MS, SESSION, TENANT, TTFT};

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    let known: Vec<&'static str> =
        DEADLINE.iter().chain(&TTFT).chain(&ITL).chain(&SESSION).chain(&TENANT).copied().collect();
    for line in input.split(|byte| *byte == b'\n') {
        let Some((choice, value)) = line.split_first() else { continue };
        let name = known[usize::from(*choice) % known.len()];
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(HeaderName::from_static(name), value);
    }
    let read = Wishes::read(&headers);
    let mut more = headers.clone();
    more.append("x-nothing-of-it", HeaderValue::from_static("12"));
    let again = Wishes::read(&more);
    assert_eq!(format!("{again:?}"), format!("{read:?}"), "others change nothing");
    let Ok(wishes) = read else { return };
    for time in [wishes.deadline_ms, wishes.slo_ttft_ms, wishes.slo_itl_ms].into_iter().flatten() {
        assert!(time.is_finite() && (0.0..=LONGEST_MS as f64).contains(&time), "{time}");
    }
    for name in [&wishes.session, &wishes.tenant] {
        assert!(name.len() <= 256 && name.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte)), "{name:?}");
    }
});
