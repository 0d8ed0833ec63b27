//! FP7: each scripted fault as a real client sees it. The API server here is the webhook sink: it records what
//! reached it, which is all that matters. The same proxy stands before real API servers in the tests of the clusters.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use qwex_testbed::http_proxy::{Amount, Answer, HttpProxy, Rule, Verb};
use qwex_testbed::webhook_sink::{self, WebhookSink};
use qwex_testbed::{require, shared};
use reqwest::{Certificate, Client, Response};

const LIMIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(100);
const JOBS: &str = "/apis/batch/v1/namespaces/n/jobs";

struct Bed {
    api: WebhookSink,
    proxy: HttpProxy,
    client: Client,
}

impl Bed {
    async fn start() -> Self {
        let api = WebhookSink::start().await.unwrap();
        api.otherwise(webhook_sink::Answer::status(200).body("{}"));
        let proxy = HttpProxy::before(kube::Config::new(api.url("").parse().unwrap()))
            .await
            .unwrap();
        let trusted = Certificate::from_pem(proxy.certificate().as_bytes()).unwrap();
        let client = Client::builder()
            .tls_certs_only([trusted])
            .timeout(LIMIT)
            .build()
            .unwrap();
        Self { api, proxy, client }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.proxy.addr())
    }

    async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(path)).send().await
    }

    async fn create(&self) -> reqwest::Result<Response> {
        self.client
            .post(self.url(JOBS))
            .body(r#"{"metadata":{"name":"j"}}"#)
            .send()
            .await
    }
}

#[tokio::test]
async fn forwards_and_records() {
    let bed = Bed::start().await;
    let reply = bed
        .client
        .post(bed.url(&format!("{JOBS}?dryRun=All")))
        .header("x-mine", "yes")
        .body("job");
    assert_eq!(reply.send().await.unwrap().text().await.unwrap(), "{}");
    let reached = &bed.api.received()[0];
    assert_eq!(reached.target, format!("{JOBS}?dryRun=All"));
    assert_eq!(
        (reached.header("x-mine"), &reached.body[..]),
        (Some("yes"), &b"job"[..])
    );
    let entry = &bed.proxy.ledger()[0];
    assert_eq!(
        (entry.request.verb, entry.request.resource.as_str()),
        (Verb::Create, "jobs")
    );
    assert_eq!(
        (entry.status, entry.upstream, &entry.body[..]),
        (Some(200), Some(200), &b"job"[..])
    );
}

#[tokio::test]
async fn a_kube_client_takes_the_kubeconfig() {
    let bed = Bed::start().await;
    bed.proxy
        .rule(Rule::new(Answer::status(410)).verb(Verb::List).resource("pods"));
    let client = bed.proxy.client().await.unwrap();
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client, "n");
    let Err(kube::Error::Api(status)) = pods.list(&Default::default()).await else {
        panic!("no API error")
    };
    assert_eq!(
        (status.code, status.reason.as_str(), status.message.as_str()),
        (410, "Expired", "scripted 410")
    );
    assert!(bed.api.received().is_empty());
}

#[tokio::test]
async fn answers_the_nth_match_with_retry_after() {
    let bed = Bed::start().await;
    let answer = Answer::too_many_requests(Duration::from_secs(7));
    let id = bed.proxy.rule(
        Rule::new(answer)
            .verb(Verb::Create)
            .path("/apis/batch/**")
            .skip(1)
            .times(1),
    );
    let mut codes = Vec::new();
    for _ in 0..3 {
        let reply = bed.create().await.unwrap();
        codes.push(reply.status().as_u16());
        if reply.status() == 429 {
            assert_eq!(reply.headers()["retry-after"], "7");
        }
    }
    assert_eq!(codes, [200, 429, 200]);
    assert_eq!(bed.api.received().len(), 2);
    assert_eq!(bed.proxy.count(|entry| entry.rule == Some(id)), 1);
}

#[tokio::test]
async fn applies_then_answers_504() {
    let bed = Bed::start().await;
    bed.proxy
        .rule(Rule::new(Answer::apply_then_504()).verb(Verb::Create).times(1));
    assert_eq!(bed.create().await.unwrap().status(), 504);
    assert_eq!(bed.api.received().len(), 1, "it was carried out");
    let entry = &bed.proxy.ledger()[0];
    assert_eq!((entry.status, entry.upstream), (Some(504), Some(200)));
    bed.proxy
        .rule(Rule::new(Answer::ApplyThen(Box::new(Answer::HangUp))).verb(Verb::Create));
    assert!(bed.create().await.is_err());
    assert!(bed.proxy.ledger().last().unwrap().upstream.is_some());
}

#[tokio::test]
async fn hangs_hangs_up_and_delays() {
    let bed = Bed::start().await;
    bed.proxy.rule(Rule::new(Answer::Hang).times(1));
    bed.proxy.rule(Rule::new(Answer::Delay(MOMENT)).skip(1).times(1));
    assert!(
        bed.client
            .get(bed.url("/version"))
            .timeout(MOMENT)
            .send()
            .await
            .unwrap_err()
            .is_timeout()
    );
    let started = Instant::now();
    // The first rule is used up, and its match counted as the one that the second rule skips.
    bed.get("/version").await.unwrap();
    bed.get("/version").await.unwrap();
    assert!(started.elapsed() >= MOMENT);
    bed.proxy.clear();
    bed.proxy.rule(Rule::new(Answer::HangUp));
    assert!(bed.get("/version").await.is_err());
}

#[tokio::test]
async fn cuts_a_watch_after_events_or_bytes() {
    let bed = Bed::start().await;
    let events = webhook_sink::Answer::status(200).body("one\ntwo\nthree\n");
    bed.api.otherwise(events);
    let watch = format!("{JOBS}?watch=true");
    let rule = |after, clean| Rule::new(Answer::Cut { after, clean }).verb(Verb::Watch).times(1);
    bed.proxy.rule(rule(Amount::Events(2), false));
    let mut broken = bed.get(&watch).await.unwrap();
    let mut got = Vec::new();
    let error = loop {
        match broken.chunk().await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk),
            Ok(None) => panic!("a clean end"),
            Err(error) => break error,
        }
    };
    assert_eq!(got, b"one\ntwo\n", "{error}");
    bed.proxy.clear();
    bed.api
        .otherwise(webhook_sink::Answer::status(200).drip("one\ntwo\n", Duration::from_millis(1)));
    bed.proxy.rule(rule(Amount::Bytes(5), true));
    assert_eq!(bed.get(&watch).await.unwrap().text().await.unwrap(), "one\nt");
    assert_eq!(bed.get(&watch).await.unwrap().text().await.unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn streams_pass_unbuffered() {
    let bed = Bed::start().await;
    bed.api.otherwise(webhook_sink::Answer::status(200).endless());
    let mut log = bed
        .get("/api/v1/namespaces/n/pods/p/log?follow=true")
        .await
        .unwrap();
    assert!(log.chunk().await.unwrap().is_some());
    assert_eq!(bed.proxy.ledger()[0].request.verb, Verb::Log);
}

#[tokio::test]
async fn replays_an_old_list() {
    let bed = Bed::start().await;
    bed.api
        .script([webhook_sink::Answer::status(200).body(r#"{"items":["old"]}"#)]);
    bed.get(JOBS).await.unwrap();
    let listed = |entry: &qwex_testbed::http_proxy::Entry| entry.list.is_some();
    let old = bed
        .proxy
        .wait_for(LIMIT, "a list", listed)
        .await
        .unwrap()
        .list
        .unwrap();
    assert_eq!(bed.get(JOBS).await.unwrap().text().await.unwrap(), "{}");
    bed.proxy
        .rule(Rule::new(Answer::Raw { code: 200, body: old }).verb(Verb::List));
    assert_eq!(
        bed.get(JOBS).await.unwrap().text().await.unwrap(),
        r#"{"items":["old"]}"#
    );
}

#[tokio::test]
async fn an_api_server_that_is_gone_is_a_closed_connection() {
    let bed = Bed::start().await;
    drop(bed.api);
    let reply = bed
        .client
        .get(format!("https://{}/version", bed.proxy.addr()))
        .send()
        .await;
    assert!(reply.is_err());
    assert_eq!(bed.proxy.ledger()[0].status, None);
}

/// FP7 before a real API server: the create that is carried out though the client is told otherwise, and the rights of
/// the user the proxy was started for.
#[tokio::test]
async fn stands_before_a_real_api_server() {
    require!(Go);
    let beta = shared::beta().await.unwrap();
    let namespace = beta.namespace("proxy").await.unwrap();
    let proxy = HttpProxy::start(&beta.kubeconfig_path()).await.unwrap();
    let ambiguous = Rule::new(Answer::apply_then_504())
        .verb(Verb::Create)
        .resource("configmaps");
    proxy.rule(ambiguous.times(1));
    let maps: Api<ConfigMap> = Api::namespaced(proxy.client().await.unwrap(), &namespace);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some("one".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    // The client repeats the create by itself and meets its own object: kube-rs does so on 429, 503 and 504.
    let Err(kube::Error::Api(status)) = maps.create(&PostParams::default(), &map).await else {
        panic!("the second create was refused")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
    let forwarded = |entry: &qwex_testbed::http_proxy::Entry| entry.upstream == Some(201);
    assert_eq!(proxy.count(forwarded), 1, "{:?}", proxy.ledger());
    maps.get("one").await.unwrap();

    let nobody = HttpProxy::for_user(&beta.mint_user("nobody", &[]).unwrap())
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(nobody.client().await.unwrap(), &namespace);
    let Err(kube::Error::Api(status)) = maps.get("one").await else {
        panic!("nobody may read it")
    };
    assert_eq!(status.code, 403);
}
