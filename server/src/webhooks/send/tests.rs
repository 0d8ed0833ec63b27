use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use qwex_testbed::webhook_sink::{Answer, WebhookSink};

use super::super::resolve;
use super::*;

/// Long enough for a loaded machine, short enough for a test.
const DEADLINE: Duration = Duration::from_millis(1500);

/// A lookup that gives these addresses for every name, and counts.
fn lookup(addresses: &'static [&'static str]) -> (Lookup, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let lookup: Lookup = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let found = addresses
            .iter()
            .map(|text| SocketAddr::new(text.parse().unwrap(), 0));
        let found = Ok(found.collect());
        async move { found }.boxed()
    });
    (lookup, count)
}

fn sender(allow_loopback: bool) -> Sender {
    Sender::new(Guard::new(allow_loopback), resolve::system(), DEADLINE).unwrap()
}

async fn send(sender: &Sender, url: &str) -> Outcome {
    let secrets = [Secret::mint()];
    let message = Message {
        url,
        id: "msg_1",
        body: b"{}",
        secrets: &secrets,
    };
    sender.send(&message).await
}

fn status(outcome: &Outcome) -> u16 {
    match outcome {
        Outcome::Answered { status, .. } => *status,
        Outcome::Unanswered(why) => panic!("no answer: {why}"),
    }
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Answered { status, .. } => panic!("answered {status}"),
        Outcome::Unanswered(why) => why,
    }
}

#[tokio::test]
async fn e08_an_endpoint_that_never_answers_ends_at_the_deadline() {
    let sink = WebhookSink::start().await.unwrap();
    for answer in [
        Answer::silence(),
        Answer::status(200).delay(Duration::from_secs(60)),
    ] {
        sink.otherwise(answer);
        let began = std::time::Instant::now();
        let outcome = send(&sender(true), &sink.url("/")).await;
        assert_eq!(why(outcome), "no answer within 1.5 s");
        assert!(
            began.elapsed() >= DEADLINE && began.elapsed() < DEADLINE * 4,
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn e08_a_dripping_body_ends_at_the_deadline() {
    let sink = WebhookSink::start().await.unwrap();
    for code in [200, 500] {
        sink.otherwise(Answer::status(code).drip(vec![b'x'; 3600], Duration::from_secs(1)));
        let began = std::time::Instant::now();
        let outcome = send(&sender(true), &sink.url("/")).await;
        assert!(began.elapsed() < DEADLINE * 4, "{:?}", began.elapsed());
        assert_eq!(status(&outcome), code, "the status was heard");
    }
}

#[tokio::test]
async fn e08_an_endless_body_is_cut_early() {
    let sink = WebhookSink::start().await.unwrap();
    sink.otherwise(Answer::status(200).endless());
    let slow = Sender::new(Guard::new(true), resolve::system(), Duration::from_secs(60)).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(status(&send(&slow, &sink.url("/")).await), 200);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the cap ends it, not the deadline"
    );
}

#[tokio::test]
async fn e10_redirects_are_not_followed() {
    let (first, second) = (
        WebhookSink::start().await.unwrap(),
        WebhookSink::start().await.unwrap(),
    );
    for code in [301, 302, 303, 307, 308] {
        first.script([Answer::status(code).header("location", &second.url("/stolen"))]);
        assert_eq!(status(&send(&sender(true), &first.url("/")).await), code);
    }
    first.script([Answer::status(302).header("location", "http://169.254.169.254/latest/meta-data/")]);
    assert_eq!(status(&send(&sender(true), &first.url("/")).await), 302);
    assert_eq!(first.received().len(), 6);
    assert!(second.received().is_empty());
}

#[tokio::test]
async fn e10_loopback_is_not_dialled_by_literal_nor_by_name() {
    let sink = WebhookSink::start().await.unwrap();
    let port = sink.addr().port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
    ] {
        let outcome = send(&sender(false), &format!("http://{host}:{port}/")).await;
        assert!(why(outcome).contains("public internet"), "{host}");
    }
    let (lookup, count) = lookup(&["127.0.0.1", "::1"]);
    let guarded = Sender::new(Guard::new(false), lookup, DEADLINE).unwrap();
    let outcome = send(&guarded, &format!("http://rebind.example:{port}/")).await;
    assert_eq!(
        why(outcome),
        "the name rebind.example leads to no address of the public internet"
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(sink.received().is_empty());
}

#[tokio::test]
async fn e10_a_name_is_looked_up_once_and_that_address_is_dialled() {
    let sink = WebhookSink::start().await.unwrap();
    let (lookup, count) = lookup(&["127.0.0.1"]);
    let sender = Sender::new(Guard::new(true), lookup, DEADLINE).unwrap();
    let url = format!("http://no-such-name.example:{}/", sink.addr().port());
    assert_eq!(status(&send(&sender, &url).await), 204);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(
        sink.received()[0].header("host").unwrap(),
        format!("no-such-name.example:{}", sink.addr().port())
    );
}

#[tokio::test]
async fn errors_are_short_and_tell_no_url() {
    let closed = qwex_testbed::ports::free_addr().unwrap();
    let outcome = send(&sender(true), &format!("http://{closed}/secret-path?key=hidden")).await;
    let text = why(outcome);
    assert!(text.starts_with("failed to connect: "), "{text}");
    assert!(
        !text.contains("hidden") && !text.contains("secret-path"),
        "{text}"
    );
    let sink = WebhookSink::start().await.unwrap();
    sink.otherwise(Answer::hang_up());
    let text = why(send(&sender(true), &sink.url("/?key=hidden")).await);
    assert!(!text.contains("hidden") && text.len() < 250, "{text}");
    assert!(!why(send(&sender(true), "not a url").await).is_empty());
}

#[test]
fn retry_after_is_read_in_both_forms() {
    assert_eq!(read_retry_after("120"), Some(Duration::from_secs(120)));
    assert_eq!(
        read_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
        Some(Duration::ZERO)
    );
    let later = Timestamp::now() + Duration::from_secs(3600);
    let text = jiff::fmt::rfc2822::to_string(&later.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    let wait = read_retry_after(&text).unwrap();
    assert!((3590..=3600).contains(&wait.as_secs()), "{wait:?}");
    for bad in ["", "-1", "soon", "1e9", "99999999999999999999999"] {
        assert_eq!(read_retry_after(bad), None, "{bad}");
    }
}
