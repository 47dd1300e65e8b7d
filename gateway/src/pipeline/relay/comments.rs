//! Comments that tell what became of a stream here: a machine's own could be taken for them.

use bytes::Bytes;

/// How they begin.
const OWN_COMMENT: &[u8] = b"x-pointsman-";

/// An event without comments that none but this gateway makes; `None` where it is nothing else.
pub(super) fn without_own_comments(event: Bytes) -> Option<Bytes> {
    let own = |line: &[u8]| {
        let comment = line.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        comment.is_some_and(|comment| comment.starts_with(OWN_COMMENT))
    };
    let lines = || event.split_inclusive(|byte| matches!(byte, b'\n' | b'\r'));
    if !lines().any(own) {
        return Some(event);
    }
    let (mut left, mut half_cut) = (Vec::with_capacity(event.len()), false);
    for line in lines() {
        let of_last = std::mem::take(&mut half_cut) && line == b"\n";
        if own(line) {
            half_cut = line.ends_with(b"\r");
        } else if !of_last {
            left.extend_from_slice(line);
        }
    }
    (!left.trim_ascii().is_empty()).then(|| Bytes::from(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_in_the_name_of_the_gateway_are_left_out_and_nothing_else() {
        #[track_caller]
        fn check(event: &'static str, expected: Option<&str>) {
            let left = without_own_comments(Bytes::from_static(event.as_bytes()));
            assert_eq!(left.as_deref(), expected.map(str::as_bytes), "{event:?}");
        }
        check(": x-pointsman-continued: 1\n\n", None);
        check(":x-pointsman-continued: 1\r\n\r\n", None);
        check(": ping\r: x-pointsman-continued: 1\r\r", Some(": ping\r\r"));
        check(": x-pointsman-continued: 1\r\ndata: {}\r\n\r\n", Some("data: {}\r\n\r\n"));
        check("id: 7\ndata: : x-pointsman-a\n\n", Some("id: 7\ndata: : x-pointsman-a\n\n"));
        check(": x-points\ndata: 1\n\n", Some(": x-points\ndata: 1\n\n"));
    }
}
