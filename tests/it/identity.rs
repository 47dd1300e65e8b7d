//! Who may send requests: API keys, signed tokens, and nobody where others can reach the listener.

use std::net::SocketAddr;
use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use pointsman_backends::tls::{self, ServerConfig};
use pointsman_tests::certificates::Certificates;
use pointsman_tests::client::{Ask, Reply};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::chat;
use pointsman_tests::run::beside_others;
use pointsman_tests::tokens::Signer;
use pointsman_tests::{process, wait};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const KEYS: &str = "[auth]\nkeys_file = \"keys.toml\"\n";

/// Makes a key with the command and returns it.
fn new_key(files: &Files, arguments: &[&str]) -> String {
    let all: Vec<&str> = ["keys", "new", "--file", "keys.toml"].iter().chain(arguments).copied().collect();
    let made = process::output(files.folder(), &all);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn with_key(key: &str) -> Ask {
    Ask::chat(&chat(1, false)).header("authorization", &format!("Bearer {key}"))
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    if status == 401 {
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
}

#[test]
fn only_holders_of_keys_are_let_in_and_no_machine_sees_a_key() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let pool = PoolText::new("gpu", [machine.url()]).key("forward_authorization = true");
        let files = Files::new(&format!("{PROCESS}{KEYS}"), &portfolio(&[pool]), CHEAPEST);
        let key = new_key(&files, &["app"]);
        let gateway = Gateway::on(files).await;

        assert_refused(&gateway.send(Ask::chat(&chat(1, false))).await, 401, "missing_api_key");
        assert_refused(&gateway.send(Ask::get("/v1/models")).await, 401, "missing_api_key");
        assert_refused(&gateway.send(Ask::get("/elsewhere")).await, 401, "missing_api_key");
        assert_refused(&gateway.send(with_key("pm-0123")).await, 401, "invalid_api_key");
        assert_refused(&gateway.send(with_key(&key.to_uppercase())).await, 401, "invalid_api_key");
        assert!(machine.seen().is_empty());

        for (name, value) in [
            ("authorization", format!("Bearer {key}")),
            ("x-api-key", key.clone()),
            ("api-key", key.clone()),
            ("x-pointsman-key", key.clone()),
        ] {
            let reply = gateway.send(Ask::chat(&chat(1, false)).header(name, &value)).await;
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            assert!(!format!("{:?}", machine.last().headers).contains(&key), "{name}");
        }
        let both = with_key("sk-of-the-provider").header("x-pointsman-key", &key);
        assert_eq!(gateway.send(both).await.status, 200);
        assert_eq!(machine.last().header("authorization"), "Bearer sk-of-the-provider", "that one is for the machine");
        let called =
            gateway.metric("pointsman_caller_requests_total{caller=\"app\",by=\"key\",outcome=\"answered\"}").await;
        assert_eq!(called as u32, 5);
        let refused =
            gateway.metric("pointsman_identified_requests_total{by=\"none\",result=\"missing_api_key\"}").await;
        assert_eq!(refused as u32, 3);
    });
}

#[test]
fn a_key_is_for_what_it_says() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let policy = "name = \"p\"\n[class.quick]\nttft_ms = 1000\n[class.slow]\ndeadline_s = 600\n[[classify]]\nwhen = 'request.tenant == \"batcher\"'\nclass = \"slow\"\n[[classify]]\nwhen = 'request.tenant == \"class\"'\nclass = \"quick\"\n[[route]]\nname = \"special\"\nwhen = 'request.stream'\n[[route]]\nname = \"plain\"\n";
        let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
        let files = Files::new(&format!("{PROCESS}{KEYS}"), &pools, policy);
        let [model, class, route, batcher] = [
            new_key(&files, &["model", "--models", "another"]),
            new_key(&files, &["class", "--classes", "quick"]),
            new_key(&files, &["route", "--routes", "plain"]),
            new_key(&files, &["batcher"]),
        ];
        let over = new_key(&files, &["over", "--expires", "2020-01-01"]);
        let gateway = Gateway::on(files).await;

        assert_refused(&gateway.send(with_key(&model)).await, 403, "permission_denied");
        let list = |key: &str| Ask::get("/v1/models").header("authorization", &format!("Bearer {key}"));
        assert_eq!(gateway.send(list(&model)).await.json()["data"], json!([]));
        assert_eq!(gateway.send(list(&class)).await.json()["data"][0]["id"], MODEL);

        assert_eq!(gateway.send(with_key(&class)).await.status, 200);
        let slow = with_key(&class).header("x-pointsman-class", "slow");
        assert_refused(&gateway.send(slow).await, 403, "permission_denied");

        assert_eq!(gateway.send(with_key(&route)).await.status, 200);
        let special = Ask::chat(&chat(1, true)).header("x-api-key", &route);
        assert_refused(&gateway.send(special).await, 403, "permission_denied");

        let claims = with_key(&batcher).header("x-pointsman-tenant", "somebody-else");
        assert_eq!(gateway.send(claims).await.header("x-pointsman-class"), "slow", "the key names the tenant");
        let claims = with_key(&class).header("x-pointsman-tenant", "batcher");
        assert_eq!(gateway.send(claims).await.header("x-pointsman-class"), "quick", "a header does not");
        assert_refused(&gateway.send(with_key(&over)).await, 401, "expired_api_key");
    });
}

#[test]
fn keys_are_revoked_while_it_runs_and_the_last_good_file_is_kept() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
        let files = Files::new(&format!("{PROCESS}{KEYS}"), &pools, CHEAPEST);
        let (first, second) = (new_key(&files, &["first"]), new_key(&files, &["second"]));
        let gateway = Gateway::on(files).await;
        assert_eq!(gateway.send(with_key(&first)).await.status, 200);

        // A policy with a mistake does not hold it up.
        gateway.files.write("policy.toml", "nonsense = 1\n");
        let files = &gateway.files;
        let revoked = process::output(files.folder(), &["keys", "revoke", "first", "--file", "keys.toml"]);
        assert!(revoked.status.success());
        wait::some("the key is revoked", async || (gateway.send(with_key(&first)).await.status == 401).then_some(()))
            .await;
        assert_eq!(gateway.send(with_key(&second)).await.status, 200);

        let good = std::fs::read_to_string(files.path("keys.toml")).unwrap();
        files.write("keys.toml", "[[key]]\nname = \"broken\"\n");
        wait::some("it is told", async || {
            let text = gateway.admin("/metrics").await.text();
            text.contains("pointsman_credentials_ok{what=\"api-keys\"} 0").then_some(())
        })
        .await;
        let refused = gateway.metric("pointsman_credentials_reads_total{what=\"api-keys\",result=\"refused\"}").await;
        assert_eq!(refused as u32, 1, "told once");
        let told = gateway.status().await["credentials"][0].clone();
        assert!(told["problem"].as_str().is_some_and(|problem| problem.contains("keys.toml")), "{told}");
        assert_eq!(gateway.send(with_key(&second)).await.status, 200, "the last good keys stay");
        let checked = process::output(files.folder(), &["check"]);
        let told = String::from_utf8(checked.stderr).unwrap();
        assert!(told.contains("bad-keys") && told.contains("keys.toml"), "{told}");
        files.replace("keys.toml", &good);
        let again = new_key(files, &["again"]);
        wait::some("a new key is known", async || (gateway.send(with_key(&again)).await.status == 200).then_some(()))
            .await;
        let listed = process::output(files.folder(), &["keys", "list"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("second") && listed.contains("again") && !listed.contains("first"), "{listed}");
    });
}

#[test]
fn a_listener_that_others_reach_wants_to_know_who_calls() {
    beside_others(async {
        let open = PROCESS.replacen("127.0.0.1:0", "0.0.0.0:0", 1);
        let files = Files::new(&open, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST);
        let checked = |auth: &str| {
            files.write("pointsman.toml", &format!("{open}{auth}"));
            let output = process::output(files.folder(), &["check"]);
            (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
        };
        let (sound, told) = checked("");
        assert!(!sound && told.contains("listener-without-auth") && told.contains("auth = \"none\""), "{told}");
        assert!(checked("auth = \"none\"\n").0);
        let (sound, told) = checked("[auth]\n");
        assert!(!sound && told.contains("empty-auth"), "{told}");
        files.write("keys.toml", "");
        assert!(checked(KEYS).0);
        let (sound, told) = checked("auth = \"open\"\n");
        assert!(!sound && told.contains("open"), "{told}");
        let refused = process::output(files.folder(), &["serve"]);
        assert!(!refused.status.success(), "it does not serve either");
    });
}

/// An issuer of tokens, and what it lists.
struct Issuer {
    listed: Arc<Mutex<Vec<Jwk>>>,
    server: Double,
}

impl Issuer {
    async fn start(first: &Signer) -> Issuer {
        let listed = Arc::new(Mutex::new(vec![first.listed()]));
        let told = Arc::clone(&listed);
        let server = Double::start(move |_| Act::json(200, &json!({ "keys": *told.lock() }).to_string())).await;
        Issuer { listed, server }
    }
}

#[test]
fn tokens_of_the_issuer_are_taken_and_no_others() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let (old, new, foreign) = (Signer::new("old"), Signer::new("new"), Signer::new("foreign"));
        let issuer = Issuer::start(&old).await;
        let jwt = format!(
            "[auth.jwt]\nissuer = \"https://login.example\"\naudience = \"pointsman\"\njwks_url = \"{}/keys\"\n",
            issuer.server.url()
        );
        let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
        let gateway = Gateway::start(&format!("{PROCESS}{jwt}"), &pools, CHEAPEST).await;
        let good = |signer: &Signer| signer.token("ada", "https://login.example", "pointsman", 60);

        assert_eq!(gateway.send(with_key(&good(&old))).await.status, 200, "the first keys are waited for");
        assert_eq!(issuer.server.last().path, "/keys");
        for (token, why) in [
            (old.token("ada", "https://evil.example", "pointsman", 60), "another issuer"),
            (old.token("ada", "https://login.example", "another", 60), "another audience"),
            (old.token("", "https://login.example", "pointsman", 60), "nobody"),
            (format!("{}x", good(&old)), "a broken signature"),
            (good(&old).replacen("ey", "e30.", 1), "no head"),
        ] {
            let reply = gateway.send(with_key(&token)).await;
            assert_refused(&reply, 401, "invalid_token");
            assert!(!reply.text().contains(&token), "{why}");
        }
        let over = old.token("ada", "https://login.example", "pointsman", -120);
        assert_refused(&gateway.send(with_key(&over)).await, 401, "expired_api_key");

        // A key that the issuer has begun to use is found by asking once; a made-up one makes nobody ask again.
        *issuer.listed.lock() = vec![old.listed(), new.listed()];
        let asked = issuer.server.seen().len();
        assert_eq!(gateway.send(with_key(&good(&new))).await.status, 200);
        assert_eq!(issuer.server.seen().len(), asked + 1);
        for _ in 0..20 {
            assert_refused(&gateway.send(with_key(&good(&foreign))).await, 401, "invalid_token");
        }
        assert_eq!(issuer.server.seen().len(), asked + 1, "not for every stranger");
        drop(issuer);
        assert_eq!(gateway.send(with_key(&good(&old))).await.status, 200, "the last good keys stay");
    });
}

/// Answers every request with a text, over TLS.
async fn over_tls(config: Arc<ServerConfig>, text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let length = text.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all((head + &text).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

#[test]
fn keys_of_an_issuer_come_from_whom_is_trusted() {
    beside_others(async {
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let (ours, foreign, signer) = (Certificates::new(), Certificates::new(), Signer::new("k"));
        let config = tls::server(&ours.certificate(), &ours.key()).unwrap();
        let mut http1 = (*config).clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let issuer = over_tls(Arc::new(http1), json!({ "keys": [signer.listed()] }).to_string()).await;
        for (authority, status, code) in
            [(ours.authority(), 200, ""), (foreign.authority(), 503, "identity_unavailable")]
        {
            let jwt = format!(
                "[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"https://localhost:{}/\"\nca_file = {authority:?}\n",
                issuer.port()
            );
            let pools = portfolio(&[PoolText::new("gpu", [machine.url()])]);
            let gateway = Gateway::start(&format!("{PROCESS}{jwt}"), &pools, CHEAPEST).await;
            let reply = gateway.send(with_key(&signer.token("ada", "i", "a", 60))).await;
            assert_eq!(reply.status, status, "{}", reply.text());
            assert!(reply.text().contains(code));
        }
        let plain = "[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"http://login.example/\"\n";
        let files =
            Files::new(&format!("{PROCESS}{plain}"), &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST);
        let told = String::from_utf8(process::output(files.folder(), &["check"]).stderr).unwrap();
        assert!(told.contains("bad-jwt") && told.contains("must be `https`"), "{told}");
    });
}

#[test]
fn nobody_chooses_where_requests_are_sent() {
    // Server-side request forgery by a base URL in header, query or body: CVE-2024-6587, CVE-2025-66405.
    beside_others(async {
        let (machine, inner) =
            (Double::always(Act::json(200, WHOLE)).await, Double::always(Act::json(200, WHOLE)).await);
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST).await;
        let mut body = chat(1, false);
        for name in ["base_url", "api_base", "endpoint", "url", "custom_host"] {
            body[name] = inner.url().into();
        }
        let mut ask = Ask::post(&format!("/v1/chat/completions?base_url={0}&api_base={0}", inner.url()), &body);
        let host = inner.url().trim_start_matches("http://").to_owned();
        for name in ["x-portkey-custom-host", "x-base-url", "helicone-target-url", "x-litellm-api-base", "x-target-url"]
        {
            ask = ask.header(name, &inner.url());
        }
        for name in ["x-forwarded-host", "x-pointsman-endpoint", "forwarded"] {
            ask = ask.header(name, &host);
        }
        assert_eq!(gateway.send(ask).await.status, 200);
        assert_eq!((machine.seen().len(), inner.seen().len()), (1, 0));
        // A machine that points elsewhere is not followed.
        let points = Double::always(Act::json(302, "{}").header("location", &inner.url())).await;
        let gateway = Gateway::start(PROCESS, &portfolio(&[PoolText::new("gpu", [points.url()])]), CHEAPEST).await;
        let _ = gateway.send(Ask::chat(&chat(1, false))).await;
        assert!(!points.seen().is_empty() && inner.seen().is_empty());
    });
}
