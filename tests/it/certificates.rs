//! TLS both ways: certificates by host, swapped while it runs, clients and machines known by theirs.

use std::path::PathBuf;

use pointsman_backends::connect::Version;
use pointsman_tests::certificates::Certificates;
use pointsman_tests::client::{Ask, Connection, Next};
use pointsman_tests::double::{Act, Double, WHOLE};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, endless, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::{process, wait};

/// The files of a listener's certificate, under a name of their own so that they can be replaced.
fn put(files: &Files, (cert, key): &(PathBuf, PathBuf)) {
    files.replace("cert.pem", &std::fs::read_to_string(cert).unwrap());
    files.replace("key.pem", &std::fs::read_to_string(key).unwrap());
}

const TLS: &str = "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

async fn answers(connection: &Connection) -> u16 {
    connection.send(Ask::get("/v1/models")).await.status.as_u16()
}

#[test]
fn each_host_is_shown_its_certificate() {
    beside_others(async {
        let made = Certificates::new();
        let (one, wild) = (made.issue("one", &["one.example"], &[]), made.issue("wild", &["*.two.example"], &[]));
        let mut tls = TLS.to_owned();
        for (cert, key) in [&one, &wild] {
            tls += &format!("[[tls.certificate]]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
        }
        let files = Files::new(
            &format!("{PROCESS}{tls}"),
            &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]),
            CHEAPEST,
        );
        put(&files, &(made.certificate(), made.key()));
        let gateway = Gateway::on(files).await;
        for host in ["localhost", "one.example", "any.two.example", "127.0.0.1"] {
            let connection = Connection::try_tls(gateway.address(), host, made.client(Version::Http1)).await;
            assert_eq!(answers(&connection.unwrap_or_else(|error| panic!("{host}: {error}"))).await, 200);
        }
        let unknown = Connection::try_tls(gateway.address(), "three.example", made.client(Version::Http1)).await;
        assert!(unknown.is_err(), "it is shown the first, which is for others");
        assert!(gateway.metric("pointsman_certificate_end_timestamp_seconds{certificate=\"one.example\"}").await > 2e9);
    });
}

#[test]
fn certificates_are_swapped_under_streams_and_the_last_good_kept() {
    beside_others(async {
        let (old, new) = (Certificates::new(), Certificates::new());
        let machine = machines::start("h100").await;
        let files =
            Files::new(&format!("{PROCESS}{TLS}"), &portfolio(&[PoolText::new("gpu", [url(&machine)])]), CHEAPEST);
        put(&files, &(old.certificate(), old.key()));
        let gateway = Gateway::on(files).await;
        let before = Connection::tls(gateway.address(), old.client(Version::Http2)).await;
        let mut stream = before.open(Ask::chat(&endless())).await;

        gateway.files.replace("cert.pem", "not a certificate");
        wait::some("it is told", async || {
            let text = gateway.admin("/metrics").await.text();
            text.contains("pointsman_credentials_ok{what=\"listener-certificates\"} 0").then_some(())
        })
        .await;
        Connection::tls(gateway.address(), old.client(Version::Http1)).await;
        let told = String::from_utf8(process::output(gateway.files.folder(), &["check"]).stderr).unwrap();
        assert!(told.contains("bad-certificates"), "{told}");

        put(&gateway.files, &(new.certificate(), new.key()));
        wait::some("the new certificate is shown", async || {
            Connection::try_tls(gateway.address(), "localhost", new.client(Version::Http1)).await.ok()
        })
        .await;
        let distrusting = Connection::try_tls(gateway.address(), "localhost", old.client(Version::Http1)).await;
        assert!(distrusting.is_err(), "the old one is shown no more");
        assert!(matches!(stream.next().await, Next::Event(_)), "what runs runs on");
        assert_eq!(answers(&before).await, 200);
    });
}

#[test]
fn clients_are_known_by_their_certificates() {
    beside_others(async {
        let (made, foreign) = (Certificates::new(), Certificates::new());
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let policy = "name = \"p\"\n[class.voice]\nttft_ms = 1000\n[class.rest]\nttft_ms = 1000\n[[classify]]\nwhen = 'request.tenant == \"spiffe://example.org/ns/apps/voice\"'\nclass = \"voice\"\n[[classify]]\nwhen = 'true'\nclass = \"rest\"\n";
        let tls = format!(
            "{TLS}client_ca_file = {:?}\nspiffe_ids = [\"spiffe://example.org/ns/apps/*\"]\n",
            made.authority()
        );
        let files =
            Files::new(&format!("{PROCESS}{tls}"), &portfolio(&[PoolText::new("gpu", [machine.url()])]), policy);
        put(&files, &(made.certificate(), made.key()));
        let gateway = Gateway::on(files).await;
        let voice = made.issue("voice", &[], &["spiffe://example.org/ns/apps/voice"]);
        let connection = Connection::tls(gateway.address(), made.client_with(voice)).await;
        let reply = connection.send(Ask::chat(&chat(1, false)).header("authorization", "Bearer unused")).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-pointsman-class")), (200, "voice"), "{}", reply.text());

        let other = made.issue("other", &["app.example"], &["spiffe://example.org/ns/jobs/x"]);
        let connection = Connection::tls(gateway.address(), made.client_with(other)).await;
        let reply = connection.send(Ask::chat(&chat(1, false))).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (401, Some("unknown_certificate")));

        let stranger = foreign.issue("voice", &[], &["spiffe://example.org/ns/apps/voice"]);
        let trusting = pointsman_backends::tls::ClientFiles {
            ca: Some(made.authority()),
            certificate: Some(stranger),
            ..Default::default()
        };
        let trusting = pointsman_backends::tls::client_of(&trusting, Version::Http1).unwrap();
        for client in [made.client(Version::Http1), trusting] {
            // TLS 1.3 tells of the refusal after the client believes to be through.
            let refused = match Connection::try_tls(gateway.address(), "localhost", client).await {
                Ok(connection) => connection.try_send(Ask::get("/v1/models")).await.is_err(),
                Err(_) => true,
            };
            assert!(refused, "without a certificate of the authority nobody is let in");
        }
        assert_eq!(machine.seen().len(), 1);
    });
}

#[test]
fn where_certificates_are_optional_a_key_will_do() {
    beside_others(async {
        let made = Certificates::new();
        let machine = Double::always(Act::json(200, WHOLE)).await;
        let more = format!(
            "{TLS}client_ca_file = {:?}\nclient_certificates = \"optional\"\n[auth]\nkeys_file = \"keys.toml\"\n",
            made.authority()
        );
        let files =
            Files::new(&format!("{PROCESS}{more}"), &portfolio(&[PoolText::new("gpu", [machine.url()])]), CHEAPEST);
        put(&files, &(made.certificate(), made.key()));
        let key = process::output(files.folder(), &["keys", "new", "app"]).stdout;
        let key = String::from_utf8(key).unwrap().trim().to_owned();
        let gateway = Gateway::on(files).await;
        let bare = Connection::tls(gateway.address(), made.client(Version::Http1)).await;
        assert_eq!(bare.send(Ask::chat(&chat(1, false))).await.status, 401);
        assert_eq!(bare.send(Ask::chat(&chat(1, false)).header("x-api-key", &key)).await.status, 200);
        let shown = made.issue("app", &["app.example"], &[]);
        let certified = Connection::tls(gateway.address(), made.client_with(shown)).await;
        assert_eq!(certified.send(Ask::chat(&chat(1, false))).await.status, 200);
        let certified =
            Connection::tls(gateway.address(), made.client_with(made.issue("app", &["app.example"], &[]))).await;
        let refused = certified.send(Ask::chat(&chat(1, false)).header("x-api-key", "revoked")).await;
        assert_eq!(refused.status, 401, "a bad key does not become the certificate of whoever passes it on");
    });
}

#[test]
fn ids_of_clients_are_not_written_where_nobody_is_asked() {
    let made = Certificates::new();
    let checked = |auth: &str| {
        let ids =
            format!("{TLS}client_ca_file = {:?}\nspiffe_ids = [\"spiffe://example.org/app\"]\n", made.authority());
        let files = Files::new(
            &format!("{PROCESS}{auth}{ids}"),
            &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]),
            CHEAPEST,
        );
        put(&files, &(made.certificate(), made.key()));
        String::from_utf8(process::output(files.folder(), &["check"]).stderr).expect("UTF-8")
    };
    let told = checked("auth = \"none\"\n");
    assert!(told.contains("ids-without-auth"), "{told}");
    let told = checked("");
    assert!(told.contains(" 0 errors"), "{told}");
}

#[test]
fn machines_are_shown_a_certificate_and_known_by_theirs() {
    beside_others(async {
        let (made, theirs) = (Certificates::new(), Certificates::new());
        let shown = made.issue("machine", &["machines.internal"], &["spiffe://example.org/ns/inference/gpu"]);
        let machine = machines::tls("cs3", made.asking(shown, &theirs)).await;
        let endpoint = format!("https://localhost:{}", machine.address().port());
        let files = Files::none();
        let own = theirs.issue("gateway", &["gateway.internal"], &[]);
        put(&files, &own);
        let ask = async |keys: &str| {
            let certificate = format!(
                "client_cert_file = {:?}\nclient_key_file = {:?}\nca_file = {:?}\n{keys}",
                files.path("cert.pem"),
                files.path("key.pem"),
                made.authority()
            );
            let pools = portfolio(&[PoolText::new("gpu", [&endpoint]).key(&certificate)]);
            let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
            gateway.send(Ask::chat(&chat(1, false))).await.status.as_u16()
        };
        assert_eq!(ask("").await, 503, "its certificate is for another host");
        assert_eq!(ask("server_name = \"machines.internal\"").await, 200);
        assert_eq!(ask("spiffe_ids = [\"spiffe://example.org/ns/inference/*\"]").await, 200);
        assert_eq!(ask("spiffe_ids = [\"spiffe://example.org/ns/other/*\"]").await, 503);

        let without = PoolText::new("gpu", [&endpoint]).key(&format!("ca_file = {:?}", made.authority()));
        let without = without.key("server_name = \"machines.internal\"");
        let gateway = Gateway::start(PROCESS, &portfolio(&[without]), CHEAPEST).await;
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 503, "the machine asks for a certificate");
    });
}

#[test]
fn a_new_certificate_is_shown_to_machines_without_a_restart() {
    beside_others(async {
        let (made, wrong, right) = (Certificates::new(), Certificates::new(), Certificates::new());
        let machine = machines::tls("cs3", made.asking((made.certificate(), made.key()), &right)).await;
        let endpoint = format!("https://localhost:{}", machine.address().port());
        let files = Files::none();
        put(&files, &wrong.issue("stranger", &["stranger.internal"], &[]));
        let keys = format!(
            "client_cert_file = {:?}\nclient_key_file = {:?}\nca_file = {:?}",
            files.path("cert.pem"),
            files.path("key.pem"),
            made.authority()
        );
        let pools = portfolio(&[PoolText::new("gpu", [&endpoint]).key(&keys)]);
        let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 503);
        put(&files, &right.issue("gateway", &["gateway.internal"], &[]));
        let end = "pointsman_certificate_end_timestamp_seconds{certificate=\"gateway.internal\"}";
        assert!(gateway.metric(end).await > 2e9, "once it is told, it is shown");
        assert_eq!(gateway.send(Ask::chat(&chat(1, false))).await.status, 200);
    });
}
