//! [`JobApiClient`]: everything the command line asks of qwexcloud, over the types of `qwex-api`.

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_api::cluster::{AddCluster, AddedCluster, ClusterInfo};
use qwex_api::log::{LogLine, LogStreamInfo};
use qwex_api::meta::{Meta, WhoAmI};
use qwex_api::project::{CreateProject, ProjectInfo};
use qwex_api::record::RunRecord;
use qwex_api::run::{AttemptInfo, RerunRequest, RunRow, SubmitRequest, Why};
use qwex_api::token::{CreateToken, CreatedToken, TokenInfo};
use qwex_api::webhook::{CreateWebhook, CreatedWebhook, DeliveryInfo, WebhookInfo};
use qwex_core::{Attempt, ClusterName, Project, QueueName, Run, RunEvent, RunId, RunStatus, Span};

use super::answer::{Answer, Listing};
use super::error::ApiError;

pub type Result<T> = std::result::Result<T, ApiError>;

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub project: Option<Project>,
    pub statuses: Vec<RunStatus>,
    pub name: Option<String>,
    pub id_prefix: Option<String>,
    /// `key=value` each.
    pub labels: Vec<String>,
    pub cluster: Option<ClusterName>,
    pub queue: Option<QueueName>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    pub page_size: Option<u32>,
    pub page_token: Option<String>,
}

/// Which lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on after this cursor.
    pub cursor: Option<String>,
    pub follow: bool,
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub attempt: Option<Attempt>,
    pub stream: Option<String>,
}

/// Which events of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those with a greater `seq`.
    pub after: Option<i64>,
}

/// What a log stream tells.
#[derive(Debug, Clone)]
pub enum LogsItem {
    Line(LogLine),
    /// The stream is whole; the run as it stands now. Last item.
    End(Box<Run>),
}

/// What an event stream tells.
#[derive(Debug, Clone)]
pub enum EventsItem {
    Event(Box<Answer<RunEvent>>),
    /// The run is over. Last item.
    End(Box<Run>),
}

/// Ends without `End` when the connection was cut or the server drains: resume it.
pub type LogStream = BoxStream<'static, Result<LogsItem>>;
pub type EventStream = BoxStream<'static, Result<EventsItem>>;
/// Raw bytes of a log.
pub type ByteStream = BoxStream<'static, Result<bytes::Bytes>>;

/// Makes the bytes of a log, from the first one on, for each try.
pub type LogUpload = Box<dyn Fn() -> BoxStream<'static, std::io::Result<bytes::Bytes>> + Send + Sync>;

/// A submit that holds.
#[derive(Debug, Clone)]
pub struct Submission {
    pub run: Answer<Run>,
    /// False: the same run was there already.
    pub is_new: bool,
}

/// The API of qwexcloud, one method per route. Reading requests are tried again by the implementation; a submit and
/// a rerun are safe to repeat because their id is minted by the caller.
#[async_trait]
pub trait JobApiClient: Send + Sync {
    /// Address of the server, for people.
    fn server(&self) -> &str;

    async fn submit(&self, request: &SubmitRequest) -> Result<Submission>;
    async fn list_runs(&self, filter: &RunFilter) -> Result<Listing<RunRow>>;
    /// With `wait` the server answers when the run is over, or after that time.
    async fn get_run(&self, id: RunId, wait: Option<Span>) -> Result<Answer<Run>>;
    async fn cancel(&self, id: RunId) -> Result<Answer<Run>>;
    async fn rerun(&self, id: RunId, request: &RerunRequest) -> Result<Answer<Run>>;
    /// Brings a run that ended elsewhere, with the bytes of its log streams in their order.
    async fn import(&self, record: &RunRecord, log: LogUpload) -> Result<Submission>;
    async fn list_events(&self, id: RunId, query: EventQuery) -> Result<Listing<RunEvent>>;
    async fn stream_events(&self, id: RunId, query: EventQuery) -> Result<EventStream>;
    async fn list_attempts(&self, id: RunId) -> Result<Listing<AttemptInfo>>;
    async fn why(&self, id: RunId) -> Result<Answer<Why>>;
    async fn stream_log(&self, id: RunId, query: &LogQuery) -> Result<LogStream>;
    /// The raw bytes; `follow` is not asked for.
    async fn read_log(&self, id: RunId, query: &LogQuery) -> Result<ByteStream>;
    async fn list_log_streams(&self, id: RunId) -> Result<Listing<LogStreamInfo>>;

    async fn list_clusters(&self) -> Result<Listing<ClusterInfo>>;
    async fn add_cluster(&self, request: &AddCluster) -> Result<Answer<AddedCluster>>;
    async fn get_cluster(&self, name: &ClusterName) -> Result<Answer<ClusterInfo>>;
    async fn drain_cluster(&self, name: &ClusterName) -> Result<()>;
    async fn undrain_cluster(&self, name: &ClusterName) -> Result<()>;
    async fn remove_cluster(&self, name: &ClusterName) -> Result<()>;

    async fn list_tokens(&self) -> Result<Listing<TokenInfo>>;
    async fn create_token(&self, request: &CreateToken) -> Result<Answer<CreatedToken>>;
    async fn revoke_token(&self, id: &str) -> Result<()>;

    async fn list_projects(&self) -> Result<Listing<ProjectInfo>>;
    async fn create_project(&self, request: &CreateProject) -> Result<Answer<ProjectInfo>>;

    async fn list_webhooks(&self) -> Result<Listing<WebhookInfo>>;
    async fn create_webhook(&self, request: &CreateWebhook) -> Result<Answer<CreatedWebhook>>;
    async fn get_webhook(&self, id: &str) -> Result<Answer<WebhookInfo>>;
    async fn remove_webhook(&self, id: &str) -> Result<()>;
    /// The delivery that was made for the test.
    async fn test_webhook(&self, id: &str) -> Result<Answer<DeliveryInfo>>;
    async fn rotate_webhook(&self, id: &str) -> Result<Answer<CreatedWebhook>>;
    async fn list_deliveries(&self, id: &str) -> Result<Listing<DeliveryInfo>>;
    async fn replay_delivery(&self, id: &str, delivery: &str) -> Result<Answer<DeliveryInfo>>;

    async fn meta(&self) -> Result<Answer<Meta>>;
    /// The server's clock, in whole seconds; `None`: it does not tell.
    async fn date(&self) -> Result<Option<Timestamp>>;
    async fn whoami(&self) -> Result<Answer<WhoAmI>>;
}
