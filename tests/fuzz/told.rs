//! What must hold of every report: it is the same each time, its places lie in the text, and it can be shown.

use pointsman_policies::language::Report;

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
