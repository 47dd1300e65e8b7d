//! What must hold of every report: it is the same each time, its places lie in the text, and it can be shown; and of
//! every text that is formatted.

use pointsman_policies::language::{Report, Source, differences, format};

/// Panics where a report is not sound.
pub fn sound(report: &Report) {
    let text = &report.source().text;
    for one in report {
        assert!(!one.message.is_empty(), "a diagnostic without a message: {one:?}");
        let Some(span) = &one.span else { continue };
        assert!(span.start <= span.end && span.end <= text.len(), "{span:?} is outside of the text: {one:?}");
        let whole = text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
        assert!(whole, "{span:?} cuts a character: {one:?}");
    }
    let shown = report.render(text.len() % 2 == 0);
    assert_eq!(shown.is_empty(), report.is_empty(), "what there is to tell is shown");
    assert_eq!(report.records().len(), report.len());
}

/// Panics where two reports on one text differ.
pub fn same(one: &Report, other: &Report) {
    assert_eq!(one.iter().collect::<Vec<_>>(), other.iter().collect::<Vec<_>>(), "the same text is told the same");
}

/// Panics where formatting a text changes what it says, or is not done at once. Whether it is TOML at all is its own to
/// tell.
pub fn formats(text: &str) {
    match format(Source::new("fuzzed.toml", text)) {
        Ok(formatted) => {
            let again = format(Source::new("fuzzed.toml", formatted.as_str()));
            let again = again.unwrap_or_else(|report| panic!("what was formatted is no TOML: {report}"));
            assert_eq!(formatted, again, "formatting once is enough");
            let changed = differences(text, &formatted);
            assert!(changed.is_ok_and(|changed| changed.is_empty()), "formatting changes no meaning");
        }
        Err(report) => {
            sound(&report);
            let syntax = report.iter().all(|one| one.code == "toml-syntax" || one.code == "too-large");
            assert!(syntax, "formatting would change something: {report}");
        }
    }
}
