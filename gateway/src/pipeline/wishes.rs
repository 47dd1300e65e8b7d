//! What callers say of themselves and of their patience, in the headers that are in use for it.

use http::{HeaderMap, HeaderValue};
use pointsman_policies::wishes::{self, CLASS, DEADLINE, ITL, LONGEST_MS, SESSION, TENANT, TTFT};

use crate::refusal::Refusal;

/// Longest name of a class, session or tenant that is read, bytes.
const LONGEST_NAME: usize = 256;
/// How the names of all these headers begin, and those of few others.
const BEGINNING: &str = "x-";

/// What a caller says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// The class; empty where it declares none.
    pub class: String,
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
    /// Reads them, in one pass over the headers; one that cannot be understood is refused by its name.
    pub fn read(headers: &HeaderMap) -> Result<Wishes, Refusal> {
        let mut said = [
            Said::by(&CLASS),
            Said::by(&DEADLINE),
            Said::by(&TTFT),
            Said::by(&ITL),
            Said::by(&SESSION),
            Said::by(&TENANT),
        ];
        for (name, value) in headers {
            let name = name.as_str();
            if name.starts_with(BEGINNING) {
                said.iter_mut().for_each(|said| said.note(name, value));
            }
        }
        let [class, deadline, ttft, itl, session, tenant] = said;
        Ok(Wishes {
            class: class.name()?,
            deadline_ms: deadline.milliseconds()?,
            slo_ttft_ms: ttft.milliseconds()?,
            slo_itl_ms: itl.milliseconds()?,
            session: session.name()?,
            tenant: tenant.name()?,
        })
    }
}

/// What is said by one of several headers: the first of them that is there.
struct Said<'h> {
    names: &'static [&'static str],
    first: Option<(usize, &'h HeaderValue)>,
    /// Whether that one is given more than once.
    again: bool,
}

impl<'h> Said<'h> {
    fn by(names: &'static [&'static str]) -> Said<'h> {
        Said { names, first: None, again: false }
    }

    fn note(&mut self, name: &str, value: &'h HeaderValue) {
        let Some(place) = self.names.iter().position(|known| *known == name) else { return };
        match self.first {
            Some((known, _)) if known < place => {}
            Some((known, _)) if known == place => self.again = true,
            _ => (self.first, self.again) = (Some((place, value)), false),
        }
    }

    /// Its text, which is visible ASCII, and its place among the names.
    fn text(&self) -> Result<Option<(usize, &'h str)>, Refusal> {
        let Some((place, value)) = self.first else { return Ok(None) };
        if self.again {
            return Err(self.bad(place, "it is given more than once".to_owned()));
        }
        let text = value.to_str().map_err(|_| self.bad(place, "its value is not visible ASCII".to_owned()))?;
        Ok(Some((place, text.trim())))
    }

    fn milliseconds(self) -> Result<Option<f64>, Refusal> {
        let Some((place, text)) = self.text()? else { return Ok(None) };
        wishes::milliseconds(text).map(Some).ok_or_else(|| {
            self.bad(place, format!("`{text}` is not a number of milliseconds between 0 and {LONGEST_MS}"))
        })
    }

    fn name(self) -> Result<String, Refusal> {
        match self.text()? {
            Some((place, text)) if text.len() > LONGEST_NAME => {
                Err(self.bad(place, format!("it is longer than {LONGEST_NAME} bytes")))
            }
            found => Ok(found.map_or_else(String::new, |(_, text)| text.to_owned())),
        }
    }

    fn bad(&self, place: usize, problem: String) -> Refusal {
        Refusal::BadHeader { header: self.names.get(place).copied().unwrap_or_default(), problem }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn all_names_begin_alike() {
        let all: [&[&str]; 6] = [&CLASS, &DEADLINE, &TTFT, &ITL, &SESSION, &TENANT];
        assert!(all.iter().flat_map(|names| *names).all(|name| name.starts_with(BEGINNING)));
    }

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
            ("x-pointsman-class", " batch "),
            ("x-unknown", "\t"),
        ]);
        let expected = Wishes {
            class: "batch".to_owned(),
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
        let ours = read(&[("x-llm-d-slo-ttft-ms", "2"), ("x-pointsman-ttft-ms", "1")]);
        assert_eq!(ours.unwrap().slo_ttft_ms, Some(1.0), "wherever it stands");
        let mut twice = HeaderMap::new();
        for value in ["s", "t"] {
            twice.append("x-session-id", HeaderValue::from_static(value));
        }
        assert!(matches!(Wishes::read(&twice), Err(Refusal::BadHeader { header: "x-session-id", .. })));
        twice.append("x-pointsman-session", HeaderValue::from_static("ours"));
        assert_eq!(Wishes::read(&twice).unwrap().session, "ours", "what is not read may be anything");
        for (name, value) in
            [("x-pointsman-deadline-ms", "soon"), ("x-slo-ttft-ms", "-1"), ("x-session-id", &"x".repeat(257))]
        {
            let refused = read(&[(name, value)]);
            assert!(matches!(refused, Err(Refusal::BadHeader { header, .. }) if header == name), "{name}: {refused:?}");
        }
    }
}
