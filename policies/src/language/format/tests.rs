//! Formatting: what it changes, what it leaves, and that it does so once.

use super::*;

fn formatted(text: &str) -> String {
    format(Source::new("a.toml", text)).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(formatted(text), expected);
    assert_eq!(formatted(expected), expected, "once is enough");
}

#[test]
fn lines_are_spaced() {
    check("a=1", "a = 1\n");
    check("\n\n  a   =\t1   # one\n\n\n\nb.c . d=2#two\n\n", "a = 1   # one\n\nb.c.d = 2 #two\n");
    check("a = 1\n[ t . 'x y' ]  # t\nb = 2\n\n\n[[u]]\n[[u]]\n", "a = 1\n\n[t.'x y']  # t\nb = 2\n\n[[u]]\n\n[[u]]\n");
    check("a = 1\n# of t\n[t]\n# of b\nb = 2\n# last", "a = 1\n\n# of t\n[t]\n# of b\nb = 2\n# last\n");
    check("[p.a]\n[p.a.m.x]\n\n\n[p.a.m.y]\n[p.b]\n", "[p.a]\n[p.a.m.x]\n\n[p.a.m.y]\n\n[p.b]\n");
    check("\u{feff}a = 1\r\n\r\n\r\n\r\nb=2\r\n", "a = 1\r\n\r\nb = 2\r\n");
    check("", "");
    check("\n \n", "");
    check("d = 1979-05-27 07:32:00.5\nf = -1.5\nn = nan\n", "d = 1979-05-27 07:32:00.5\nf = -1.5\nn = nan\n");
}

#[test]
fn brackets_are_spaced() {
    check("a=[ 1,2 ,3, ]\nb={x=1,y = {} ,z=[]}", "a = [1, 2, 3]\nb = { x = 1, y = {}, z = [] }\n");
    check(
        "a = [\n1,   # one\n\n\n  [2,\n3],\n    # four\n  {a=1}\n  ]\n",
        "a = [\n    1,   # one\n\n    [2,\n        3],\n    # four\n    { a = 1 }\n]\n",
    );
    check("a = '''\n  x   \n'''  \nb = \"\"\"[ x ]\"\"\"\n", "a = '''\n  x   \n'''\nb = \"\"\"[ x ]\"\"\"\n");
}

#[test]
fn expressions_get_quotes_that_need_no_escapes() {
    check("when = \"a == \\\"b\\\"\"", "when = 'a == \"b\"'\n");
    check("fallback=[{pools=\"x\"},{ pools = \"it's\" }]", "fallback = [{ pools = 'x' }, { pools = \"it's\" }]\n");
    check("when = \"a\\nb\"\nname = \"x\"\n", "when = \"a\\nb\"\nname = \"x\"\n");
    check("exclude = \"caf\\u00e9 \\\\d\"", "exclude = 'café \\d'\n");
}

#[test]
fn what_is_no_toml_is_told_and_left() {
    let report = format(Source::new("a.toml", "a = \nb = 1\nc = [\n")).unwrap_err();
    assert!(report.iter().all(|one| one.code == "toml-syntax"), "{report}");
    assert!(!report.is_empty());
}

proptest::proptest! {
    /// Lines of every kind in any order: what can be formatted means the same, and is formatted at once.
    #[test]
    fn it_means_the_same_and_is_done_at_once(lines in proptest::collection::vec(0_usize..LINES.len(), 0..30)) {
        let text: String = lines.iter().enumerate().map(|(index, line)| {
            LINES[*line].replace("KEY", &format!("k{index}"))
        }).collect();
        let once = formatted(&text);
        proptest::prop_assert_eq!(meaning(&once), meaning(&text));
        proptest::prop_assert_eq!(comments(&once), comments(&text));
        proptest::prop_assert_eq!(formatted(&once), once);
    }
}

const LINES: [&str; 26] = [
    "\n",
    "   \n",
    "\t\n",
    "# a comment  \n",
    "  #\n",
    "KEY=1\n",
    " KEY = \"x\" # y\n",
    "'KEY z'.\"b\" . c=-1.5e3\n",
    "[KEY]\n",
    "[ KEY . a ]#x\n",
    "[KEY.a.b]\n",
    "[[KEY]]\n",
    "[[KEY]] # x\n[KEY . a]\n",
    "KEY = [1,2,\n\n\n 3 , # c\n]\n",
    "KEY = [ [ ], [ 'a' , \"b\" ], ]\n",
    "KEY={a=1,b.c = [ {} ,{d=2}]}\n",
    "KEY = '''\n a \n\n'''\n",
    "KEY = \"\"\"a\\\n   b \"\"\" # x\n",
    "KEY = 1979-05-27 07:32:00.25\n",
    "KEY = 07:32:00\n",
    "[KEY]\nwhen = \"a\\\"b\\\"\"\n",
    "KEY = { when = \"it's\", pools = \"\\u00e9\\\\\" }\n",
    "KEY = [\n{ exclude=\"a\" }\n  ,\n# b\n{x=[\n1\n]\n}]\n",
    "KEY=nan\n",
    "KEY = 0xff\n",
    "KEY = 1\r\n",
];

const SLIPS: [&str; 22] = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\n\n\n",
    "[",
    "]",
    "{ ",
    "}",
    "=",
    ",",
    "#",
    "'",
    "\"",
    "'''",
    "\"\"\"",
    "\\",
    ".",
    "é",
    "\na = [1,\n2]\n",
    "\n[x]",
];

proptest::proptest! {
    /// A shipped file with a few slips: refused only where it is no TOML.
    #[test]
    fn slips_do_no_harm(edits in proptest::collection::vec((0_usize..1700, 0_usize..4, 0_usize..SLIPS.len()), 1..6)) {
        let mut text = include_str!("../../../library/balanced.toml").to_owned();
        for (at, length, slip) in edits {
            let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let span = floor(at)..floor(at + length);
            text.replace_range(span, SLIPS[slip]);
        }
        match format(Source::new("a.toml", &*text)) {
            Ok(once) => {
                proptest::prop_assert_eq!(comments(&once), comments(&text));
                proptest::prop_assert_eq!(formatted(&once), once);
            }
            Err(report) => {
                let only_syntax = report.iter().all(|one| one.code == "toml-syntax");
                proptest::prop_assert!(only_syntax, "{}\n{}", report, text);
            }
        }
    }
}
