//! HK: the receiver keeps what came and answers by script.

use std::time::{Duration, Instant};

use qwex_testbed::webhook_sink::{Answer, WebhookSink};

const LIMIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(100);

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .build()
        .unwrap()
}

#[tokio::test]
async fn keeps_headers_and_bytes() {
    let sink = WebhookSink::start().await.unwrap();
    let body = vec![0u8, 159, 146, 150, b'\n'];
    let request = client()
        .post(sink.url("/hook?a=b"))
        .header("webhook-id", "msg_1")
        .body(body.clone());
    assert_eq!(request.send().await.unwrap().status(), 204);
    let received = sink.wait_for(1, LIMIT).await.unwrap();
    assert_eq!(
        (received[0].method.as_str(), received[0].target.as_str()),
        ("POST", "/hook?a=b")
    );
    assert_eq!(received[0].header("webhook-id"), Some("msg_1"));
    assert_eq!(received[0].body, body);
}

#[tokio::test]
async fn answers_by_script_then_by_default() {
    let sink = WebhookSink::start().await.unwrap();
    sink.script([
        Answer::status(500).body("broken"),
        Answer::status(302).header("location", "http://127.0.0.1:1/"),
        Answer::hang_up(),
    ]);
    sink.otherwise(Answer::status(200).body("fine"));
    let client = client();
    let post = || client.post(sink.url("/")).send();
    let first = post().await.unwrap();
    assert_eq!(
        (first.status().as_u16(), first.text().await.unwrap().as_str()),
        (500, "broken")
    );
    let second = post().await.unwrap();
    assert_eq!(
        (
            second.status().as_u16(),
            second.headers()["location"].to_str().unwrap()
        ),
        (302, "http://127.0.0.1:1/")
    );
    assert!(post().await.is_err());
    assert_eq!(post().await.unwrap().text().await.unwrap(), "fine");
    let seen: Vec<u16> = sink.received().iter().map(|request| request.status).collect();
    assert!(
        seen.starts_with(&[500, 302]) && seen.ends_with(&[200]),
        "{seen:?}"
    );
}

#[tokio::test]
async fn is_slow_on_request() {
    let sink = WebhookSink::start().await.unwrap();
    sink.script([
        Answer::status(200).delay(MOMENT),
        Answer::status(200).drip("slow", MOMENT / 4),
    ]);
    for _ in 0..2 {
        let started = Instant::now();
        client()
            .post(sink.url("/"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert!(started.elapsed() >= MOMENT);
    }
}

#[tokio::test]
async fn sends_without_end() {
    let sink = WebhookSink::start().await.unwrap();
    sink.otherwise(Answer::status(200).endless());
    let mut response = client().post(sink.url("/")).send().await.unwrap();
    let mut read = 0;
    while read < 10 << 20 {
        read += response.chunk().await.unwrap().expect("no end").len();
    }
}

#[tokio::test]
async fn counts_what_is_in_flight() {
    let sink = WebhookSink::start().await.unwrap();
    sink.otherwise(Answer::silence());
    let client = client();
    let calls = (0..3)
        .map(|_| tokio::spawn(client.post(sink.url("/")).send()))
        .collect::<Vec<_>>();
    sink.wait_for(3, LIMIT).await.unwrap();
    assert_eq!(sink.most_at_once(), 3);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    let error = sink.wait_for(4, MOMENT).await.unwrap_err().to_string();
    assert!(error.contains("4 webhook requests; last: 3 came"), "{error}");
}
