//! The dashboard's files, as a browser gets them.

use pointsman_tests::client::Ask;
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::run::beside_others;

async fn gateway() -> Gateway {
    let process = format!("{PROCESS}[admin]\ntoken = {{ file = \"token\" }}\n");
    let files = Files::new(&process, &portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])]), CHEAPEST);
    files.write("token", "a-token-of-some-length-5521");
    Gateway::on(files).await
}

#[test]
fn every_page_and_what_it_loads_comes_without_a_token_and_bound_to_its_origin() {
    beside_others(async {
        let gateway = gateway().await;
        let pages = ["/", "/requests?filter=slo:miss", "/trace/0af7", "/policies", "/backends", "/slo", "/setup"];
        for page in pages {
            let reply = gateway.admin(page).await;
            assert_eq!(reply.status, 200, "{page}");
            assert!(reply.header("content-type").starts_with("text/html"), "{page}");
            let policy = reply.header("content-security-policy");
            assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!(
                (reply.header("x-content-type-options"), reply.header("cache-control")),
                ("nosniff", "no-cache")
            );
        }
        let page = gateway.admin("/").await.text();
        let loaded: Vec<&str> = page.split('"').filter(|text| text.starts_with('/')).collect();
        assert_eq!(loaded.len(), 3, "icon, script, style: {page}");
        for path in loaded {
            let reply = gateway.admin(path).await;
            assert_eq!(reply.status, 200, "{path}");
            assert!(!reply.body.is_empty(), "{path}");
        }
        assert_eq!(gateway.admin("/app.mjs").await.status, 404);
        assert_eq!(gateway.admin("/dist/app.js").await.status, 404);
    });
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    beside_others(async {
        let gateway = gateway().await;
        let tag = gateway.admin("/app.js").await.header("etag").to_owned();
        let again = |tag: &str| gateway.operate(Ask::get("/app.js").header("if-none-match", tag));
        let known = again(&tag).await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
        assert_eq!(again(&format!("\"other\", W/{tag}")).await.status, 304);
        assert_eq!(again("\"other\"").await.status, 200);
    });
}
