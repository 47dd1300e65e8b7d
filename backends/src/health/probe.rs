//! Asks one endpoint whether it is well and, where its answer lists models, which it has.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use crate::connect::{ConnectError, Connections, Outgoing, Spliced};

/// The longest answer that is read, bytes; lists of models are a few KiB.
const LONGEST_ANSWER: usize = 1 << 20;
/// So many bad answers in a row mean that an endpoint is not well: one may be chance.
const BAD_IN_A_ROW: u32 = 2;

/// What is asked, where, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The path, the endpoint's base path included.
    pub path: PathAndQuery,
    /// From one answer to the next question; also how long an answer may take.
    pub interval: Duration,
}

/// Why an endpoint is not taken for well.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    /// It could not be asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It says that it is not.
    #[error("status {0}")]
    Status(u16),
    /// The answer broke off, or was too long.
    #[error("the answer cannot be read: {0}")]
    Body(String),
}

impl Probe {
    /// Asks once. The names of the models that the answer lists, where it lists any.
    pub async fn ask(&self, connections: &Arc<Connections>, key: &HeaderMap) -> Result<Option<Vec<String>>, Unwell> {
        let asking = tokio::time::timeout(self.interval, self.ask_patiently(connections, key));
        asking.await.map_err(|_| Unwell::Late(self.interval))?
    }

    async fn ask_patiently(
        &self,
        connections: &Arc<Connections>,
        key: &HeaderMap,
    ) -> Result<Option<Vec<String>>, Unwell> {
        let mut headers = key.clone();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let outgoing = Outgoing { method: Method::GET, path: self.path.clone(), headers, body: Spliced::default() };
        let (response, hold) = connections.send(|| outgoing.clone(), self.interval).await?;
        let status = response.status().as_u16();
        let collected = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let bytes = collected.map_err(|error| Unwell::Body(error.to_string()))?.to_bytes();
        hold.finish();
        if !(200..300).contains(&status) {
            return Err(Unwell::Status(status));
        }
        Ok(listed(&bytes))
    }
}

/// The models that an answer lists as `/v1/models` does.
fn listed(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    Some(list.data.into_iter().map(|entry| entry.id).collect())
}

/// What the answers come to: a pure state machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wellbeing {
    bad: u32,
}

impl Wellbeing {
    /// It answered, well or not. Whether that changes what it is taken for.
    pub fn answered(&mut self, well: bool) -> bool {
        let before = self.is_well();
        self.bad = if well { 0 } else { self.bad.saturating_add(1) };
        self.is_well() != before
    }

    /// Whether it may be asked for work.
    pub fn is_well(self) -> bool {
        self.bad < BAD_IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_answer_is_chance_and_one_good_answer_is_enough() {
        let mut wellbeing = Wellbeing::default();
        let told =
            [true, false, true, false, false, false, true].map(|well| (wellbeing.answered(well), wellbeing.is_well()));
        let (same, well) = ((false, true), true);
        assert_eq!(told, [same, same, same, same, (true, false), (false, false), (true, well)]);
    }

    #[test]
    fn models_are_read_where_they_are_listed() {
        let list = br#"{"object":"list","data":[{"id":"a","object":"model"},{"id":"b"}]}"#;
        assert_eq!(listed(list), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(listed(br#"{"data":[]}"#), Some(Vec::new()));
        for other in [&b"{\"status\":\"ok\"}"[..], b"OK", b""] {
            assert_eq!(listed(other), None);
        }
    }
}
