//! What changes between two texts that differ little, line by line.

use std::fmt::Write as _;

/// Lines looked ahead for the next that is the same.
const MAX_LINES_AHEAD: usize = 40;

/// Every run of lines that differ, with its place in the old text; `-` before what goes, `+` before what comes.
pub(super) fn shown(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut told = String::new();
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if old.get(left) == new.get(right) {
            (left, right) = (left + 1, right + 1);
            continue;
        }
        let (gone, come) = next_same(old.get(left..).unwrap_or_default(), new.get(right..).unwrap_or_default());
        let _ = writeln!(told, "{name}:{}", left + 1);
        for line in old.iter().skip(left).take(gone) {
            let _ = writeln!(told, "{}", format!("- {}", visible(line)).trim_end());
        }
        for line in new.iter().skip(right).take(come) {
            let _ = writeln!(told, "{}", format!("+ {line}").trim_end());
        }
        (left, right) = (left + gone, right + come);
    }
    told
}

/// How many lines to pass over on each side to come to the nearest that is the same on both.
fn next_same(old: &[&str], new: &[&str]) -> (usize, usize) {
    let most = MAX_LINES_AHEAD.min(old.len() + new.len());
    for passed in 1..=most {
        for gone in (0..=passed).rev() {
            let come = passed - gone;
            let same = old.get(gone).zip(new.get(come)).is_some_and(|(old, new)| old == new);
            if same {
                return (gone, come);
            }
        }
    }
    (old.len(), new.len())
}

/// Blanks at the end of a line are nothing to see otherwise.
fn visible(line: &str) -> String {
    let bare = line.trim_end();
    let end = line.get(bare.len()..).unwrap_or_default();
    let mark = |c| if c == '\t' { '→' } else { '·' };
    format!("{bare}{}", end.chars().filter(|c| *c != '\r').map(mark).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_lines_are_shown_with_their_place() {
        #[track_caller]
        fn check(old: &str, new: &str, expected: &str) {
            assert_eq!(shown("a.toml", old, new), expected);
        }
        check("a\nb\n", "a\nb\n", "");
        check("a\nb  \nc\n", "a\nb\nc\n", "a.toml:2\n- b··\n+ b\n");
        check("a\n\n\nb\n", "a\n\nb\n", "a.toml:3\n-\n");
        check("a\nb", "a\nb\n", "a.toml:3\n+\n");
        check("a\nc", "a\nb\nc", "a.toml:2\n+ b\n");
        check("1\nx\n2\n3\ny\n", "1\nX\n2\n3\nY\n", "a.toml:2\n- x\n+ X\na.toml:5\n- y\n+ Y\n");
    }
}
