//! The command that explains one request of a log, ready for a shell.

use std::fmt::Write as _;
use std::path::Path;

use super::Arguments;

/// The command that explains one of them.
pub(super) fn explain(log: &Path, id: &str, arguments: &Arguments) -> String {
    let mut command = format!("pointsman explain --log {} --id {}", quoted(&log.to_string_lossy()), quoted(id));
    let named = [("--policy", &arguments.policy), ("--portfolio", &arguments.portfolio)];
    for (flag, path) in named.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))) {
        let _ = write!(command, " {flag} {}", quoted(&path.to_string_lossy()));
    }
    command
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '=' | '+' | ',');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_each_for_one_word() {
        assert_eq!(quoted("logs/demo.log"), "logs/demo.log");
        assert_eq!(quoted("my log"), "'my log'");
        assert_eq!(quoted("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(quoted(""), "''");
    }
}
