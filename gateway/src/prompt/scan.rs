//! JSON read in one pass over its bytes, without a tree and without a copy: enough for bodies as clients write them.
//! Whatever is unusual (escaped keys, huge or fractional numbers, deep nesting) or wrong is `None`, and left to a parser that
//! can say what is wrong where.

/// Nested deeper than this is unusual.
const DEEPEST: usize = 64;
/// Looked at together, bytes; compilers do so with wide registers.
const STRIDE: usize = 32;
/// Longest number that certainly fits into 64 bits, digits.
const DIGITS: usize = 18;

/// Where reading stands.
#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether there is a control character anywhere, blanks of the JSON included. Where there is none, only quotes and
    /// backslashes are looked for in strings, which goes several times as fast.
    controls: bool,
}

impl<'a> Scan<'a> {
    /// At the beginning of a text.
    pub(super) fn new(text: &'a str) -> Scan<'a> {
        Scan { bytes: text.as_bytes(), at: 0, controls: has_controls(text.as_bytes()) }
    }

    /// The offset of the next byte that is no blank.
    pub(super) fn place(&mut self) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.at
    }

    /// The next byte that is no blank, which stays where it is.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let place = self.place();
        self.bytes.get(place).copied()
    }

    /// Takes this byte, if it is the next that is no blank.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Whether nothing but blanks is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// What has been passed since a place.
    pub(super) fn since(&self, place: usize) -> Option<&'a [u8]> {
        self.bytes.get(place..self.at)
    }

    /// The members of an object: each key, with which the value must be taken.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |scan| {
            let key = scan.plain_string()?;
            scan.take(b':').then_some(())?;
            member(scan, key)
        })
    }

    /// The items of an array, each of which must be taken.
    pub(super) fn array(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b'[', b']', item)
    }

    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open).then_some(())?;
        if self.take(close) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(close) {
                return Some(());
            }
            self.take(b',').then_some(())?;
        }
    }

    /// A string without escapes.
    pub(super) fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"').then_some(())?;
        let rest = self.bytes.get(self.at..)?;
        let length = self.plain(rest);
        (*rest.get(length)? == b'"').then_some(())?;
        self.at += length + 1;
        rest.get(..length)
    }

    /// A string in pieces, its escapes resolved: each with the character behind it, where one was escaped.
    pub(super) fn text(&mut self, mut piece: impl FnMut(&[u8], Option<char>)) -> Option<()> {
        self.take(b'"').then_some(())?;
        let mut long = false;
        loop {
            let rest = self.bytes.get(self.at..)?;
            // After a long piece another is likely.
            let length = if long { special(rest) } else { self.plain(rest) };
            long = !self.controls && length > STRIDE;
            self.at += length + 1;
            let plain = rest.get(..length)?;
            match rest.get(length)? {
                b'"' => {
                    piece(plain, None);
                    return Some(());
                }
                b'\\' => piece(plain, Some(self.escaped()?)),
                _ => return None,
            }
        }
    }

    /// Bytes before the first quote, backslash or control character.
    fn plain(&self, text: &[u8]) -> usize {
        match text.split_at_checked(STRIDE) {
            // Most strings are short, and end before a call of this would have begun.
            Some((first, behind)) if !self.controls => match plain(first) {
                STRIDE => STRIDE + special(behind),
                length => length,
            },
            _ => plain(text),
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        let char = match self.bytes.get(self.at)? {
            byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.escaped_by_number(),
            _ => return None,
        };
        self.at += 1;
        Some(char)
    }

    /// What stands behind `\`: `uXXXX`, or two of them that are one character.
    fn escaped_by_number(&mut self) -> Option<char> {
        let high = self.hex()?;
        let code = match high {
            0xd800..0xdc00 => {
                self.bytes.get(self.at..)?.starts_with(b"\\u").then_some(())?;
                self.at += 1;
                let low = self.hex().filter(|low| (0xdc00..0xe000).contains(low))?;
                0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at + 1..self.at + 5)?;
        self.at += 5;
        digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
    }

    /// A whole number that is not negative.
    pub(super) fn number(&mut self) -> Option<u64> {
        let from = self.place();
        let digits = self.digits();
        let sound = (1..=DIGITS).contains(&digits.len()) && (digits.len() == 1 || !digits.starts_with(b"0"));
        let ends = !matches!(self.bytes.get(self.at), Some(b'.' | b'e' | b'E'));
        if sound && ends {
            return Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
        }
        self.at = from;
        None
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        rest.get(..count).unwrap_or_default()
    }

    /// One of `true`, `false`, `null`.
    pub(super) fn word(&mut self, word: &[u8]) -> bool {
        let place = self.place();
        let there = self.bytes.get(place..).is_some_and(|rest| rest.starts_with(word));
        self.at += if there { word.len() } else { 0 };
        there
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self) -> Option<bool> {
        let yes = self.word(b"true");
        (yes || self.word(b"false")).then_some(yes)
    }

    /// Any value, checked and passed over.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.skip_within(DEEPEST)
    }

    fn skip_within(&mut self, depth: usize) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self.object(|scan, _| scan.skip_within(deeper)),
            b'[' => self.array(|scan| scan.skip_within(deeper)),
            b'"' => self.text(|_, _| ()),
            b't' | b'f' => self.boolean().map(drop),
            b'n' => self.word(b"null").then_some(()),
            _ => self.skip_number(),
        }
    }

    fn skip_number(&mut self) -> Option<()> {
        self.take(b'-');
        let whole = self.digits();
        (whole == b"0" || !(whole.is_empty() || whole.starts_with(b"0"))).then_some(())?;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            (!self.digits().is_empty()).then_some(())?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            // How large an exponent may be is for the other parser to say.
            (1..=2).contains(&self.digits().len()).then_some(())?;
        }
        Some(())
    }
}

/// Bytes before the first quote, backslash or control character.
fn plain(text: &[u8]) -> usize {
    let (strides, _) = text.as_chunks::<STRIDE>();
    let is_plain = |stride: &&[u8; STRIDE]| !stride.iter().fold(false, |any, byte| any | is_special(*byte));
    let from = strides.iter().take_while(is_plain).count() * STRIDE;
    let (words, behind) = text.get(from..).unwrap_or_default().as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return from + place * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    from + words.len() * 8 + behind.iter().position(|byte| is_special(*byte)).unwrap_or(behind.len())
}

/// Bytes before the first quote or backslash, of text without control characters.
fn special(text: &[u8]) -> usize {
    memchr::memchr2(b'"', b'\\', text).unwrap_or(text.len())
}

/// Looked at together for control characters, bytes.
const BLOCK: usize = 512;

fn has_controls(text: &[u8]) -> bool {
    let (blocks, behind) = text.as_chunks::<BLOCK>();
    let least = |bytes: &[u8]| bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    blocks.iter().any(|block| least(block) < 0x20) || least(behind) < 0x20
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The same of eight bytes at once: the lowest bit that is set belongs to the first such byte; what is above it need not be
/// right.
fn specials(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let zero = |word: u64| word.wrapping_sub(EACH) & !word;
    let quote = zero(word ^ (EACH * u64::from(b'"')));
    let backslash = zero(word ^ (EACH * u64::from(b'\\')));
    let control = word.wrapping_sub(EACH * 0x20) & !word;
    (quote | backslash | control) & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_run_is_found_wherever_it_stands() {
        for length in 0..100 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                let mut text = vec![b'a'; length];
                text.extend([special, b'"', 0x80, 0xff]);
                assert_eq!(plain(&text), length);
                let text = format!("\"{}", text[..=length].escape_ascii());
                let scan = Scan::new(&text);
                let expected = text[1..].find(['"', '\\']).unwrap_or(text.len() - 1);
                assert_eq!((scan.controls, scan.plain(&text.as_bytes()[1..])), (false, expected));
            }
            for usual in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                assert_eq!(plain(&vec![usual; length]), length, "{usual:#x}");
            }
        }
    }

    #[test]
    fn control_characters_are_found_wherever_they_stand() {
        for length in [1, 511, 512, 513, 1_300] {
            assert!(!has_controls(&vec![b' '; length]));
            for at in (0..length).step_by(37).chain([length - 1]) {
                let mut text = vec![0xff; length];
                text[at] = 0x1f;
                assert!(has_controls(&text), "{at} of {length}");
            }
        }
        let mut scan = Scan::new("\"0123456789012345678901234567890123456789\n\"");
        assert_eq!(scan.skip(), None);
    }

    #[test]
    fn values_are_passed_over_only_where_they_are_right() {
        #[track_caller]
        fn check(text: &str, expected: bool) {
            let mut scan = Scan::new(text);
            assert_eq!(scan.skip().is_some() && scan.is_at_end(), expected, "{text}");
        }
        check(r#" {"a": [1, -2.5e+7, true, null, "x\n\u00e9\ud83d\ude00"], "b": {} } "#, true);
        check("[0, 0.5, 10, -0]", true);
        for wrong in ["01", "1.", "-", ".5", "1e", "tru", "[1,]", "{\"a\"}", "{\"a\":1,}", "\"\u{1}\"", "[1", "1 2", ""]
        {
            check(wrong, false);
        }
        check(r#""\ud800""#, false);
        check(r#""\ud800\u0041""#, false);
        check(r#""\x""#, false);
        check(&"[".repeat(1_000), false);
    }
}
