//! What the pages of commands have in common: complete in themselves, no script, no font, no picture from elsewhere; for
//! dark and light screens.

const STYLE: &str = include_str!("page.css");

/// Ends a page.
pub(super) const END: &str = "</main>\n</body>\n</html>\n";

/// The beginning of a page; `more_style` is for this page alone.
pub(super) fn begin(title: &str, more_style: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}{more_style}</style>\n</head>\n<body>\n<main>\n",
        escaped(title)
    )
}

/// As text of HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
