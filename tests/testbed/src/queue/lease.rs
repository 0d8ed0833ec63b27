//! One stand-in per cluster: two would give out the same quota. The one that holds the Lease works, others wait, as in
//! a test run beside `qwex-testbed up`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

const NAME: &str = "qwex-testbed-queue";
const NAMESPACE: &str = "kube-system";
/// Seen unchanged for this long by a waiting one, a Lease is free.
const EXPIRES: Duration = Duration::from_secs(6);
const RENEW: Duration = Duration::from_millis(1500);

/// The right to work on one cluster.
pub struct Tenure {
    leases: Api<Lease>,
    holder: String,
}

impl Tenure {
    /// Waits until the Lease is ours. Errors of the API server are waited out too.
    pub async fn begin(client: &Client) -> Self {
        let leases = Api::namespaced(client.clone(), NAMESPACE);
        let this = Self {
            leases,
            holder: uuid::Uuid::now_v7().to_string(),
        };
        let mut seen = (None, Instant::now());
        loop {
            let known = this.leases.get_opt(NAME).await;
            if let Ok(known) = known {
                let version = known
                    .as_ref()
                    .and_then(|lease| lease.metadata.resource_version.clone());
                if seen.0 != version {
                    seen = (version, Instant::now());
                }
                // Judged by our own clock, never by the holder's.
                let free = known.as_ref().is_none_or(is_released) || seen.1.elapsed() > EXPIRES;
                if free && this.take(known).await.is_ok() {
                    return this;
                }
            }
            sleep(RENEW).await;
        }
    }

    /// Renews until that fails: then somebody else may work, and we must not.
    pub async fn hold(&self) -> String {
        loop {
            sleep(RENEW).await;
            let renewed = async {
                let lease = self.leases.get(NAME).await?;
                let ours =
                    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.holder);
                if ours {
                    self.take(Some(lease)).await.map(|()| true)
                } else {
                    Ok(false)
                }
            };
            match tokio::time::timeout(EXPIRES / 2, renewed).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "another stand-in took the Lease".to_owned(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "the API server did not answer in time".to_owned(),
            }
        }
    }

    /// Lets others in at once.
    pub async fn end(&self) -> kube::Result<()> {
        let mut lease = self.leases.get(NAME).await?;
        lease.spec = Some(LeaseSpec::default());
        self.leases
            .replace(NAME, &PostParams::default(), &lease)
            .await
            .map(drop)
    }

    /// Writes our name; refused by the API server when the Lease changed since `known`.
    async fn take(&self, known: Option<Lease>) -> kube::Result<()> {
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let posting = PostParams::default();
        let Some(mut lease) = known else {
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(spec),
            };
            return self.leases.create(&posting, &lease).await.map(drop);
        };
        lease.spec = Some(spec);
        self.leases.replace(NAME, &posting, &lease).await.map(drop)
    }
}

fn is_released(lease: &Lease) -> bool {
    lease
        .spec
        .as_ref()
        .is_none_or(|spec| spec.holder_identity.is_none())
}
