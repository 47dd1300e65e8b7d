//! Failures after the first byte: a stream that breaks ends in an error event, never like a good one.

use pointsman_tests::client::{self, Ask, Next};
use pointsman_tests::double::{Act, DONE, Double, End, FIRST, LAST};
use pointsman_tests::files::{CHEAPEST, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use serde_json::json;

async fn events_of(act: Act) -> Vec<String> {
    let machine = Double::always(act).await;
    let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
    let mut stream = client::open(gateway.address(), Ask::chat(&chat(9, true))).await;
    assert_eq!(stream.status, 200);
    let (events, end) = stream.rest().await;
    assert_eq!(end, Next::End, "the error event says what happened, so the answer itself ends well");
    events
}

#[track_caller]
fn assert_broken(events: &[String], case: &str) {
    let last = events.last().expect("events");
    assert!(last.starts_with("{\"error\":") && last.contains("\"code\":\"stream_broken\""), "{case}: {last}");
    assert!(!events.iter().any(|event| event == "[DONE]"), "{case}: {events:?}");
}

#[test]
fn a_stream_that_breaks_ends_in_one_error_event() {
    beside_others(async {
        let cases = [
            ("the connection breaks", Act::stream(&[FIRST, FIRST], End::Broken)),
            ("the machine ends the stream early", Act::stream(&[FIRST, FIRST], End::Clean)),
            ("the machine ends inside an event", Act::stream(&[FIRST, FIRST, "data: {\"id\""], End::Clean)),
        ];
        for (case, act) in cases {
            let events = events_of(act).await;
            assert_eq!(events.len(), 3, "{case}: {events:?}");
            assert_broken(&events, case);
        }
    });
}

/// What breaks behind the end of the answer is no matter, and the client hears of its end in any case.
#[test]
fn a_stream_without_done_is_good_if_it_is_complete() {
    beside_others(async {
        for pieces in [[FIRST, LAST].as_slice(), &[FIRST, LAST, DONE]] {
            for end in [End::Clean, End::Broken] {
                let events = events_of(Act::stream(pieces, end)).await;
                assert_eq!((events.len(), events[2].as_str()), (3, "[DONE]"), "{end:?}: {events:?}");
            }
        }
    });
}

/// The end of one choice is not the end of all that were asked for.
#[test]
fn a_stream_of_several_choices_is_complete_when_each_has_ended() {
    beside_others(async {
        let second = |text: &str| text.replace("\"index\":0", "\"index\":1");
        let (first_of_second, last_of_second) = (second(FIRST), second(LAST));
        let usage = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
        let more = [FIRST, &first_of_second, LAST, &first_of_second];
        let chats = json!({"n": 2});
        let prompts = json!({"prompt": ["one", "two"]});
        for (path, extra) in [("/v1/chat/completions", chats), ("/v1/completions", prompts)] {
            for end in [End::Clean, End::Broken] {
                for (pieces, complete) in [
                    (vec![FIRST, LAST], false),
                    (more.to_vec(), false),
                    ([&more[..], &[&last_of_second]].concat(), true),
                    ([&more[..], &[&last_of_second, &first_of_second, &first_of_second]].concat(), true),
                    ([&more[..], &[usage]].concat(), true),
                ] {
                    let machine = Double::always(Act::stream(&pieces, end)).await;
                    let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
                    let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
                    let mut body = chat(9, true);
                    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                    let (events, _) = client::open(gateway.address(), Ask::post(path, &body)).await.rest().await;
                    let case = format!("{path}, {} events, {end:?}", pieces.len());
                    match complete {
                        true => assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{case}"),
                        false => assert_broken(&events, &case),
                    }
                }
            }
        }
    });
}

#[test]
fn an_error_event_of_the_machine_is_passed_on_as_it_is() {
    beside_others(async {
        let error = "{\"error\":{\"message\":\"out of memory\",\"code\":\"oom\"}}";
        let events = events_of(Act::stream(&[FIRST, &format!("data: {error}\n\n")], End::Clean)).await;
        assert_eq!(events[1..], [error]);
    });
}

#[test]
fn machines_that_break_every_stream_are_told_apart_from_good_ones() {
    beside_others(async {
        let machine = machines::faulty("h100", &["reset-mid-stream:1"]).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST).await;
        let mut broken = 0.0;
        for http2 in [false, true, false] {
            let connection = match http2 {
                true => client::Connection::http2(gateway.address()).await,
                false => client::Connection::http1(gateway.address()).await,
            };
            let mut stream = connection.open(Ask::chat(&chat(50, true))).await;
            // A reset throws away what the gateway has not read yet: then there was no stream to break.
            if stream.status != 200 {
                continue;
            }
            broken += 1.0;
            let (events, end) = stream.rest().await;
            assert_eq!(end, Next::End);
            assert_broken(&events, if http2 { "HTTP/2" } else { "HTTP/1.1" });
        }
        assert!(broken > 0.0, "no stream was seen to begin");
        assert_eq!(
            gateway.endpoint("gpu").await["availability"],
            "breaker-open",
            "broken or not begun, it is a failure"
        );
        assert_eq!(
            gateway
                .metric(
                    "pointsman_requests_total{class=\"interactive\",pool=\"gpu\",hardware=\"gpu\",outcome=\"broken\"}"
                )
                .await,
            broken
        );
    });
}

#[test]
fn the_next_request_of_the_same_client_is_served() {
    beside_others(async {
        let machine = Double::start(|seen| match seen.body.windows(4).any(|bytes| bytes == b"true") {
            true => Act::stream(&[FIRST], End::Broken),
            false => Act::json(200, pointsman_tests::double::WHOLE),
        })
        .await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let connection = client::Connection::http1(gateway.address()).await;
        let (events, _) = connection.open(Ask::chat(&chat(9, true))).await.rest().await;
        assert_broken(&events, "first");
        assert_eq!(connection.send(Ask::chat(&chat(9, false))).await.status, 200);
    });
}
