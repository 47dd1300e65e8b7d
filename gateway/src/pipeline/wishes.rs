//! What callers say of themselves and of their patience, in the headers that are in use for it.

use http::HeaderMap;
use pointsman_policies::wishes::{self, DEADLINE, ITL, LONGEST_MS, SESSION, TENANT, TTFT};

use crate::refusal::Refusal;

/// Longest name of a session or tenant that is read, bytes.
const LONGEST_NAME: usize = 256;

/// What a caller says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// The whole answer within, milliseconds.
    pub deadline_ms: Option<f64>,
    /// The first token within, milliseconds.
    pub slo_ttft_ms: Option<f64>,
    /// Each further token within, milliseconds.
    pub slo_itl_ms: Option<f64>,
    /// The conversation; empty where it names none.
    pub session: String,
    /// Who asks; empty where it does not say.
    pub tenant: String,
}

impl Wishes {
    /// Reads them; a header that cannot be understood is refused by its name.
    pub fn read(headers: &HeaderMap) -> Result<Wishes, Refusal> {
        Ok(Wishes {
            deadline_ms: milliseconds(headers, &DEADLINE)?,
            slo_ttft_ms: milliseconds(headers, &TTFT)?,
            slo_itl_ms: milliseconds(headers, &ITL)?,
            session: name(headers, &SESSION)?,
            tenant: name(headers, &TENANT)?,
        })
    }
}

fn milliseconds(headers: &HeaderMap, names: &[&'static str]) -> Result<Option<f64>, Refusal> {
    let Some((name, text)) = first(headers, names)? else { return Ok(None) };
    wishes::milliseconds(text).map(Some).ok_or_else(|| Refusal::BadHeader {
        header: name,
        problem: format!("`{text}` is not a number of milliseconds between 0 and {LONGEST_MS}"),
    })
}

fn name(headers: &HeaderMap, names: &[&'static str]) -> Result<String, Refusal> {
    match first(headers, names)? {
        Some((name, text)) if text.len() > LONGEST_NAME => {
            Err(Refusal::BadHeader { header: name, problem: format!("it is longer than {LONGEST_NAME} bytes") })
        }
        found => Ok(found.map_or_else(String::new, |(_, text)| text.to_owned())),
    }
}

/// The first of several headers that is there.
fn first<'h>(headers: &'h HeaderMap, names: &[&'static str]) -> Result<Option<(&'static str, &'h str)>, Refusal> {
    for name in names {
        if let Some(text) = header(headers, name)? {
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

/// A header that concerns the gateway: at most one, visible ASCII.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::BadHeader { header: name, problem: "it is given more than once".to_owned() });
    }
    let text = first
        .to_str()
        .map_err(|_| Refusal::BadHeader { header: name, problem: "its value is not visible ASCII".to_owned() })?;
    Ok(Some(text.trim()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn wishes_are_read_or_refused_by_name() {
        let read = |pairs: &[(&'static str, &str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            Wishes::read(&headers.collect())
        };
        let all = read(&[
            ("x-pointsman-deadline-ms", "1500"),
            ("x-llm-d-slo-ttft-ms", "200.5"),
            ("x-slo-tpot-ms", "10"),
            ("x-session-id", "s-1"),
            ("x-pointsman-tenant", "acme"),
        ]);
        let expected = Wishes {
            deadline_ms: Some(1500.0),
            slo_ttft_ms: Some(200.5),
            slo_itl_ms: Some(10.0),
            session: "s-1".to_owned(),
            tenant: "acme".to_owned(),
        };
        assert_eq!(all.ok(), Some(expected));
        assert_eq!(read(&[]).ok(), Some(Wishes::default()));
        let ours = read(&[("x-pointsman-ttft-ms", "1"), ("x-llm-d-slo-ttft-ms", "2")]);
        assert_eq!(ours.unwrap().slo_ttft_ms, Some(1.0), "our own name comes first");
        for (name, value) in
            [("x-pointsman-deadline-ms", "soon"), ("x-slo-ttft-ms", "-1"), ("x-session-id", &"x".repeat(257))]
        {
            let refused = read(&[(name, value)]);
            assert!(matches!(refused, Err(Refusal::BadHeader { header, .. }) if header == name), "{name}: {refused:?}");
        }
    }
}
