//! The query of an admin request. A parameter that nobody reads is a mistake and is told.

use std::str::FromStr;

use axum::http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use pointsman_policies::language::nearest;

use super::problem::Problem;

/// Parameters of one request; more are refused.
const MOST_PARAMETERS: usize = 16;

/// The parameters, each at most once and each known.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of an address; `known` are the parameters that there are.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Query, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name), decode(value));
            if !known.contains(&name.as_str()) {
                return Err(unknown(&name, known));
            }
            if parameters.len() == MOST_PARAMETERS || parameters.iter().any(|(other, _)| *other == name) {
                return Err(bad(format!("the parameter `{name}` is given twice")));
            }
            parameters.push((name, value));
        }
        Ok(Query(parameters))
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A parameter as a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(format!("`{name}={text}` is not a number")))
    }

    /// A parameter that is `true`, `false`, or there without a value.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(text) => Err(bad(format!("`{name}={text}` is neither `true` nor `false`"))),
        }
    }
}

fn bad(message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", message)
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let problem = bad(format!("there is no parameter `{name}`"));
    match (nearest(name, known.iter().copied()), known) {
        (Some(guess), _) => problem.help(format!("did you mean `{guess}`?")),
        (None, []) => problem.help("this address takes none"),
        (None, known) => problem.help(format!("there are: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_and_given_once() {
        let read = |query: &str| Query::read(&format!("/x?{query}").parse().unwrap(), &["dry_run", "limit"]);
        let query = read("dry_run&limit=7").unwrap();
        assert_eq!((query.flag("dry_run").unwrap(), query.number::<usize>("limit").unwrap()), (true, Some(7)));
        assert!(!read("").unwrap().flag("dry_run").unwrap());
        assert!(read("dry_run=maybe").unwrap().flag("dry_run").is_err());
        assert!(read("limit=x").unwrap().number::<usize>("limit").is_err());
        assert!(read("limit=1&limit=2").is_err());
        assert_eq!(read("dryrun=true").unwrap_err().help.unwrap(), "did you mean `dry_run`?");
    }
}
