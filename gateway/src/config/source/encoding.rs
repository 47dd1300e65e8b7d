//! Text that is not UTF-8: which byte shows it, what it most likely is, and the command that converts it.

use std::path::Path;

use pointsman_policies::language::{Diagnostic, Report, Source};

/// What bytes 0x80 to 0x9F are in Windows-1252; ISO 8859-1 has nothing there that a text would have.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž', '\u{fffd}', //
    '\u{fffd}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{fffd}', 'ž', 'Ÿ',
];

/// What the bytes of a file most likely are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
    /// UTF-8 of which the end is missing.
    Cut,
    /// UTF-8 but for a few bytes.
    Mixed,
    /// One byte a character, with quotes and dashes as Windows writes them.
    Windows1252,
    /// One byte a character.
    Latin1,
    /// No text at all.
    Binary,
}

/// Whether bytes that are UTF-8 were meant as something else: ASCII in UTF-16 is both.
pub(super) fn is_other(text: &str) -> bool {
    utf16(text.as_bytes()).is_some()
}

/// The report of a file whose bytes are no UTF-8 text; its excerpt shows them as they were most likely meant.
pub(super) fn told(path: &Path, bytes: &[u8]) -> Report {
    let guess = guess(bytes);
    let name = path.display().to_string();
    let (text, at) = shown(bytes, guess);
    let mut report = Report::new(Source::new(name, text));
    let file = quoted(path);
    let convert = |encoding: &str| {
        format!("save the file as UTF-8: `iconv -f {encoding} -t UTF-8 {file} > converted && mv converted {file}`")
    };
    let wrong = format!("this is not UTF-8: byte {}", hex(bytes));
    let meant = at.clone().and_then(|at| report.source().text.get(at).map(str::to_owned)).unwrap_or_default();
    let (message, label, help) = match guess {
        Guess::Utf16Le | Guess::Utf16Be => {
            let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
            let unmarked = if guess == Guess::Utf16Le { "UTF-16LE" } else { "UTF-16BE" };
            let first = bytes.iter().take(2).map(|byte| format!("0x{byte:02X}")).collect::<Vec<_>>().join(" ");
            let message = format!("the file is UTF-16, not UTF-8: it begins with {first}");
            (message, None, convert(if marked { "UTF-16" } else { unmarked }))
        }
        Guess::Cut => {
            let help = "it may have been cut short: write its end anew".to_owned();
            ("the file ends in the middle of a character".to_owned(), None, help)
        }
        Guess::Mixed => (wrong, None, "the rest is UTF-8: this was pasted from elsewhere, type it anew".to_owned()),
        Guess::Windows1252 => (wrong, Some(format!("`{meant}` in Windows-1252")), convert("WINDOWS-1252")),
        Guess::Latin1 => (wrong, Some(format!("`{meant}` in ISO 8859-1 (Latin-1)")), convert("ISO-8859-1")),
        Guess::Binary => ("the file is no text".to_owned(), None, "is it the right file?".to_owned()),
    };
    let problem = Diagnostic { span: at, label, ..Diagnostic::error("not-utf8", message) };
    report.push(problem.help(help));
    report
}

fn guess(bytes: &[u8]) -> Guess {
    if let Some(utf16) = utf16(bytes) {
        return utf16;
    }
    if bytes.contains(&0) {
        return Guess::Binary;
    }
    let Err(error) = std::str::from_utf8(bytes) else { return Guess::Binary };
    let (before, after) = bytes.split_at(error.valid_up_to());
    if error.error_len().is_none() {
        return Guess::Cut;
    }
    if !before.is_ascii() || after.utf8_chunks().any(|chunk| !chunk.valid().is_ascii()) {
        return Guess::Mixed;
    }
    if bytes.iter().any(|byte| (0x80..0xa0).contains(byte)) { Guess::Windows1252 } else { Guess::Latin1 }
}

/// By its mark, else by every other byte being 0, as it is where most of a text is ASCII.
fn utf16(bytes: &[u8]) -> Option<Guess> {
    if bytes.starts_with(&[0xff, 0xfe]) {
        return Some(Guess::Utf16Le);
    }
    if bytes.starts_with(&[0xfe, 0xff]) {
        return Some(Guess::Utf16Be);
    }
    let zeros = |odd: usize| bytes.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let most = bytes.len() / 2 * 9 / 10;
    match (zeros(0), zeros(1)) {
        (0, odd) if odd > most => Some(Guess::Utf16Le),
        (even, 0) if even > most => Some(Guess::Utf16Be),
        _ => None,
    }
}

/// The text as it was most likely meant, and the place in it of the first wrong byte, where there is one to show.
fn shown(bytes: &[u8], guess: Guess) -> (String, Option<std::ops::Range<usize>>) {
    let single = |byte: &u8| match byte {
        0x80..=0x9f => WINDOWS_1252.get(usize::from(*byte) - 0x80).copied().unwrap_or('\u{fffd}'),
        _ => char::from(*byte),
    };
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |text| text.len());
    let text: String = match guess {
        Guess::Utf16Le | Guess::Utf16Be | Guess::Binary => return (String::new(), None),
        Guess::Cut | Guess::Mixed => String::from_utf8_lossy(bytes).into_owned(),
        Guess::Windows1252 | Guess::Latin1 => bytes.iter().map(single).collect(),
    };
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    (text, Some(at..at + length))
}

/// The first wrong byte.
fn hex(bytes: &[u8]) -> String {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |text| text.len());
    bytes.get(at).map(|byte| format!("0x{byte:02X}")).unwrap_or_default()
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "-_./+:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(bytes: &[u8]) -> String {
        told(Path::new("my policy.toml"), bytes).render(false)
    }

    #[test]
    fn each_encoding_is_told_with_its_remedy() {
        let utf16 = |swap: bool| {
            let units = "name = \"x\"\n".encode_utf16();
            units.flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
        };
        let texts: Vec<Vec<u8>> = vec![
            b"name = \"x\"\n# caf\xe9 \xfcber\n".to_vec(),
            b"name = \"x\" # \x93quoted\x94\n".to_vec(),
            "# é\n# ".bytes().chain(*b"caf\xe9\n").collect(),
            "# caf\u{e9}".bytes().take(6).collect(),
            [vec![0xff, 0xfe], utf16(false)].concat(),
            utf16(true),
            b"\x1f\x8b\x08\0\0\0\0\0\x01".to_vec(),
        ];
        let told: Vec<String> = texts.iter().map(|bytes| rendered(bytes)).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        error[not-utf8]: this is not UTF-8: byte 0xE9
         --> my policy.toml:2:6
          |
        2 | # café über
          |      ^ `é` in ISO 8859-1 (Latin-1)
          |
          = help: save the file as UTF-8: `iconv -f ISO-8859-1 -t UTF-8 'my policy.toml' > converted && mv converted 'my policy.toml'`

        error[not-utf8]: this is not UTF-8: byte 0x93
         --> my policy.toml:1:14
          |
        1 | name = "x" # “quoted”
          |              ^ `“` in Windows-1252
          |
          = help: save the file as UTF-8: `iconv -f WINDOWS-1252 -t UTF-8 'my policy.toml' > converted && mv converted 'my policy.toml'`

        error[not-utf8]: this is not UTF-8: byte 0xE9
         --> my policy.toml:2:6
          |
        2 | # caf�
          |      ^
          |
          = help: the rest is UTF-8: this was pasted from elsewhere, type it anew

        error[not-utf8]: the file ends in the middle of a character
         --> my policy.toml:1:6
          |
        1 | # caf�
          |      ^
          |
          = help: it may have been cut short: write its end anew

        error[not-utf8]: the file is UTF-16, not UTF-8: it begins with 0xFF 0xFE
        --> my policy.toml
         = help: save the file as UTF-8: `iconv -f UTF-16 -t UTF-8 'my policy.toml' > converted && mv converted 'my policy.toml'`

        error[not-utf8]: the file is UTF-16, not UTF-8: it begins with 0x00 0x6E
        --> my policy.toml
         = help: save the file as UTF-8: `iconv -f UTF-16BE -t UTF-8 'my policy.toml' > converted && mv converted 'my policy.toml'`

        error[not-utf8]: the file is no text
        --> my policy.toml
         = help: is it the right file?
        "#);
    }

    #[test]
    fn any_bytes_are_told() {
        for first in 0..=255_u8 {
            for second in [0, b'a', b'\n', 0x80, 0xc3, 0xe9, 0xff] {
                for bytes in [vec![first, second], vec![b'a', first, second, first], vec![second, first, b'"']] {
                    if std::str::from_utf8(&bytes).is_err() {
                        assert!(rendered(&bytes).contains("error[not-utf8]"), "{bytes:?}");
                    }
                }
            }
        }
    }
}
