//! Excerpts of files are shown to people and kept in logs, and refused texts are kept whole, so what may be a secret is
//! written as stars.

/// Keys whose value is a reference to a secret, and a mistake where it is a text.
const SECRET_KEYS: [&str; 2] = ["api_key", "token"];

/// The text with what may be a secret written as stars, byte for byte, so that places stay: a key that stands in the
/// file itself, and whatever stands before the `@` of a URL.
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let key = line.split('=').next().unwrap_or_default().trim();
        let literal_key = SECRET_KEYS.iter().any(|secret| key.ends_with(secret)) && !line.contains('{');
        let from = match line.find(['"', '\'']) {
            Some(quote) if literal_key => Some(quote + 1),
            _ if line.contains('@') => line.find("://").map(|at| at + 3),
            _ => None,
        };
        let until = if literal_key { line.rfind(['"', '\'']) } else { line.find('@') };
        match from.zip(until).filter(|(from, until)| from < until) {
            Some((from, until)) => shown.extend(line.char_indices().flat_map(|(at, character)| {
                let hidden = at >= from && at < until;
                let stars = if hidden { character.len_utf8() } else { 1 };
                std::iter::repeat_n(if hidden { '*' } else { character }, stars)
            })),
            None => shown.push_str(line),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_a_secret_is_hidden_and_places_stay() {
        #[track_caller]
        fn check(line: &str, expected: &str) {
            assert_eq!(without_secrets(line), expected);
            assert_eq!(without_secrets(line).len(), line.len());
        }
        check("api_key = \"sk-é\"  # mine\n", "api_key = \"*****\"  # mine\n");
        check("api_key = { env = \"KEY\" }\n", "api_key = { env = \"KEY\" }\n");
        check("admin.token = 'abc'\n", "admin.token = '***'\n");
        check("tokens_per_minute = \"abc\"\n", "tokens_per_minute = \"abc\"\n");
        check("endpoints = [\"http://me:pass@host\"]\n", "endpoints = [\"http://*******@host\"]\n");
        check("vendor = \"a@b\"\n", "vendor = \"a@b\"\n");
    }
}
