//! [`JobApiClient`] over HTTP, a few lines per route: the whole surface at a glance.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use qwex_api::cluster::{AddCluster, AddedCluster, ClusterInfo};
use qwex_api::log::LogStreamInfo;
use qwex_api::meta::{Meta, WhoAmI};
use qwex_api::project::{CreateProject, ProjectInfo};
use qwex_api::record::RunRecord;
use qwex_api::run::{AttemptInfo, RerunRequest, RunRow, SubmitRequest, Why};
use qwex_api::token::{CreateToken, CreatedToken, TokenInfo};
use qwex_api::webhook::{CreateWebhook, CreatedWebhook, DeliveryInfo, WebhookInfo};
use qwex_core::{ClusterName, Run, RunEvent, RunId, Span};
use reqwest::{Method, StatusCode};

use super::answer::{Answer, Listing};
use super::calls::{events_call, list_call, log_call};
use super::client::{
    ByteStream, EventQuery, EventStream, EventsItem, JobApiClient, LogQuery, LogStream, LogUpload, LogsItem,
    Result, RunFilter, Submission,
};
use super::http::{HttpJobApiClient, post};
use super::retry::Patience;
use super::send::Call;
use super::streams::{broken_off, items, read_end};
use super::upload::Upload;

const SSE: &str = "text/event-stream";

#[async_trait]
impl JobApiClient for HttpJobApiClient {
    fn server(&self) -> &str {
        &self.sender.server
    }

    async fn submit(&self, request: &SubmitRequest) -> Result<Submission> {
        let mut call = post(&["runs"], Some(request));
        let mut patience = Patience::Once;
        if request.id.is_some() {
            // The run id is the key: a repeat is told apart from a second run by the server's own record.
            call.key = None;
            patience = Patience::Submit(self.retry_for);
        }
        let (status, run) = self.answer(&call, patience).await?;
        let is_new = status == StatusCode::CREATED;
        Ok(Submission { run, is_new })
    }

    async fn list_runs(&self, filter: &RunFilter) -> Result<Listing<RunRow>> {
        self.page(&list_call(filter)).await
    }

    async fn get_run(&self, id: RunId, wait: Option<Span>) -> Result<Answer<Run>> {
        let mut call = Call::new(Method::GET, &["runs", &id.to_string()]);
        if let Some(wait) = wait {
            call = call.query("wait", Some(wait));
            call.limit = Some(wait.as_duration() + Duration::from_secs(10));
        }
        let (_, run) = self.answer(&call, Patience::Read).await?;
        Ok(run)
    }

    async fn cancel(&self, id: RunId) -> Result<Answer<Run>> {
        let call = post(&["runs", &id.to_string(), "cancel"], None::<&()>);
        let (_, run) = self.answer(&call, Patience::Read).await?;
        Ok(run)
    }

    async fn rerun(&self, id: RunId, request: &RerunRequest) -> Result<Answer<Run>> {
        let mut call = post(&["runs", &id.to_string(), "rerun"], Some(request));
        let mut patience = Patience::Once;
        if request.id.is_some() {
            call.key = None;
            patience = Patience::Submit(self.retry_for);
        }
        let (_, run) = self.answer(&call, patience).await?;
        Ok(run)
    }

    async fn import(&self, record: &RunRecord, log: LogUpload) -> Result<Submission> {
        let call = Call::new(Method::PUT, &["runs", &record.run.id.to_string(), "import"]);
        let upload = Upload::new(record, log);
        // All of it or nothing is recorded, and the same twice is once.
        let (status, run) = self.upload(&call, &upload).await?;
        let is_new = status == StatusCode::CREATED;
        Ok(Submission { run, is_new })
    }

    async fn list_events(&self, id: RunId, query: EventQuery) -> Result<Listing<RunEvent>> {
        self.pages(events_call(id, query)).await
    }

    async fn stream_events(&self, id: RunId, query: EventQuery) -> Result<EventStream> {
        let response = self
            .send(&events_call(id, query).stream(SSE), Patience::Once)
            .await?;
        Ok(items(&self.sender.server, response, |event| {
            Ok(match event.kind.as_str() {
                "end" => Some(EventsItem::End(Box::new(read_end(event)?))),
                _ => Some(EventsItem::Event(Box::new(Answer::read(event.data.as_bytes())?))),
            })
        }))
    }

    async fn list_attempts(&self, id: RunId) -> Result<Listing<AttemptInfo>> {
        self.pages(Call::new(Method::GET, &["runs", &id.to_string(), "attempts"]))
            .await
    }

    async fn why(&self, id: RunId) -> Result<Answer<Why>> {
        self.get(&["runs", &id.to_string(), "why"]).await
    }

    async fn stream_log(&self, id: RunId, query: &LogQuery) -> Result<LogStream> {
        let response = self
            .send(&log_call(id, query).stream(SSE), Patience::Once)
            .await?;
        Ok(items(&self.sender.server, response, |event| {
            Ok(match event.kind.as_str() {
                "line" => Some(LogsItem::Line(serde_json::from_str(&event.data)?)),
                "end" => Some(LogsItem::End(Box::new(read_end(event)?))),
                // A kind of a newer server.
                _ => None,
            })
        }))
    }

    async fn read_log(&self, id: RunId, query: &LogQuery) -> Result<ByteStream> {
        let response = self
            .send(&log_call(id, query).stream("text/plain"), Patience::Read)
            .await?;
        let server = self.sender.server.clone();
        Ok(response
            .bytes_stream()
            .map(move |bytes| bytes.map_err(|error| broken_off(&server, &error)))
            .boxed())
    }

    async fn list_log_streams(&self, id: RunId) -> Result<Listing<LogStreamInfo>> {
        self.pages(Call::new(
            Method::GET,
            &["runs", &id.to_string(), "logs", "streams"],
        ))
        .await
    }

    async fn list_clusters(&self) -> Result<Listing<ClusterInfo>> {
        self.pages(Call::new(Method::GET, &["clusters"])).await
    }

    async fn add_cluster(&self, request: &AddCluster) -> Result<Answer<AddedCluster>> {
        self.post(&["clusters"], Some(request)).await
    }

    async fn get_cluster(&self, name: &ClusterName) -> Result<Answer<ClusterInfo>> {
        self.get(&["clusters", name.as_str()]).await
    }

    async fn drain_cluster(&self, name: &ClusterName) -> Result<()> {
        self.command(Method::POST, &["clusters", name.as_str(), "drain"])
            .await
    }

    async fn undrain_cluster(&self, name: &ClusterName) -> Result<()> {
        self.command(Method::POST, &["clusters", name.as_str(), "undrain"])
            .await
    }

    async fn remove_cluster(&self, name: &ClusterName) -> Result<()> {
        self.command(Method::DELETE, &["clusters", name.as_str()]).await
    }

    async fn list_tokens(&self) -> Result<Listing<TokenInfo>> {
        self.pages(Call::new(Method::GET, &["tokens"])).await
    }

    async fn create_token(&self, request: &CreateToken) -> Result<Answer<CreatedToken>> {
        self.post(&["tokens"], Some(request)).await
    }

    async fn revoke_token(&self, id: &str) -> Result<()> {
        self.command(Method::DELETE, &["tokens", id]).await
    }

    async fn list_projects(&self) -> Result<Listing<ProjectInfo>> {
        self.pages(Call::new(Method::GET, &["projects"])).await
    }

    async fn create_project(&self, request: &CreateProject) -> Result<Answer<ProjectInfo>> {
        self.post(&["projects"], Some(request)).await
    }

    async fn list_webhooks(&self) -> Result<Listing<WebhookInfo>> {
        self.pages(Call::new(Method::GET, &["webhooks"])).await
    }

    async fn create_webhook(&self, request: &CreateWebhook) -> Result<Answer<CreatedWebhook>> {
        self.post(&["webhooks"], Some(request)).await
    }

    async fn get_webhook(&self, id: &str) -> Result<Answer<WebhookInfo>> {
        self.get(&["webhooks", id]).await
    }

    async fn remove_webhook(&self, id: &str) -> Result<()> {
        self.command(Method::DELETE, &["webhooks", id]).await
    }

    async fn test_webhook(&self, id: &str) -> Result<Answer<DeliveryInfo>> {
        self.post(&["webhooks", id, "test"], None::<&()>).await
    }

    async fn rotate_webhook(&self, id: &str) -> Result<Answer<CreatedWebhook>> {
        self.post(&["webhooks", id, "rotate"], None::<&()>).await
    }

    async fn list_deliveries(&self, id: &str) -> Result<Listing<DeliveryInfo>> {
        self.pages(Call::new(Method::GET, &["webhooks", id, "deliveries"]))
            .await
    }

    async fn replay_delivery(&self, id: &str, delivery: &str) -> Result<Answer<DeliveryInfo>> {
        self.post(&["webhooks", id, "deliveries", delivery, "replay"], None::<&()>)
            .await
    }

    async fn meta(&self) -> Result<Answer<Meta>> {
        self.get(&["meta"]).await
    }

    async fn date(&self) -> Result<Option<jiff::Timestamp>> {
        let response = self
            .send(&Call::new(Method::GET, &["meta"]), Patience::Read)
            .await?;
        let date = response.headers().get(reqwest::header::DATE);
        let text = date.and_then(|date| date.to_str().ok());
        Ok(text.and_then(|text| {
            jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(text)
                .ok()
        }))
    }

    async fn whoami(&self) -> Result<Answer<WhoAmI>> {
        self.get(&["whoami"]).await
    }
}
