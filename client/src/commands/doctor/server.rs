//! The server: whether it answers, whether versions and clocks fit, who the token is, and the clusters.

use jiff::{SignedDuration, Timestamp};
use qwex_api::meta::Meta;
use qwex_runner::Skew;

use super::super::session::Session;
use super::check::{Check, Verdict};
use super::clock::compared;
use crate::remote::{Answer, JobApiClient};

pub async fn checks(session: &Session) -> Vec<Check> {
    let client = match session.client() {
        Ok(client) => client,
        Err(error) => {
            return vec![Check::failed("server", error).with_verdict(Verdict::Skipped)];
        }
    };
    let meta = match client.meta().await {
        Ok(meta) => meta,
        Err(error) => return vec![Check::failed("server", error.into())],
    };
    let mut checks = vec![
        Check::new(
            "server",
            Verdict::Ok,
            format!("{}, version {}", client.server(), meta.value.server_version),
        ),
        version(&meta),
    ];
    checks.extend(clock(client.as_ref()).await);
    checks.extend(token(client.as_ref()).await);
    checks
}

/// Whether this clock and the server's say the same. The server's is read in whole seconds.
async fn clock(client: &dyn JobApiClient) -> Option<Check> {
    let before = Timestamp::now();
    let theirs = client.date().await.ok()??;
    let skew = Skew::of(theirs, before, Timestamp::now()).told_in(SignedDuration::from_secs(1));
    let check = Check::new("clock", Verdict::Ok, "compared with the server's");
    Some(compared(check, skew, "the server"))
}

fn version(meta: &Answer<Meta>) -> Check {
    let least = &meta.value.min_client_version;
    let own = env!("CARGO_PKG_VERSION");
    if number(own) < number(least) {
        return Check::new(
            "version",
            Verdict::Failed,
            format!("this is {own}, the server serves {least} and newer"),
        )
        .fix("install a newer qwexctl");
    }
    Check::new(
        "version",
        Verdict::Ok,
        format!("this is {own}, the server serves {least} and newer"),
    )
}

/// `1.2.3` as numbers; words behind them do not count.
fn number(version: &str) -> Vec<u64> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version
        .split('.')
        .map(|part| digits(part).parse().unwrap_or(0))
        .collect()
}

async fn token(client: &dyn JobApiClient) -> Vec<Check> {
    let who = match client.whoami().await {
        Ok(who) => who.value,
        Err(error) => return vec![Check::failed("token", error.into())],
    };
    let expires = who
        .expires_at
        .as_deref()
        .map_or("does not expire".to_owned(), |at| format!("expires {at}"));
    let role = who.role.as_str();
    let mut checks = vec![Check::new(
        "token",
        Verdict::Ok,
        format!("{}, {role} of project {}, {expires}", who.principal, who.project),
    )];
    match client.list_clusters().await {
        Err(error) => checks.push(Check::failed("clusters", error.into())),
        Ok(clusters) if clusters.items.is_empty() => checks.push(
            Check::new(
                "clusters",
                Verdict::Warning,
                "none is registered, so no run can start",
            )
            .fix("qwexctl cluster add NAME --kubeconfig FILE"),
        ),
        Ok(clusters) => checks.extend(clusters.items.iter().map(|cluster| one_cluster(&cluster.value))),
    }
    checks
}

fn one_cluster(cluster: &qwex_api::cluster::ClusterInfo) -> Check {
    let name = &cluster.name;
    if cluster.reachable {
        return Check::new(
            "cluster",
            Verdict::Ok,
            format!("{name} is {}", cluster.status.as_str()),
        );
    }
    let why = cluster.message.as_deref().unwrap_or("it does not answer");
    Check::new("cluster", Verdict::Failed, format!("{name}: {why}")).fix(format!(
        "look at the network and the rights of cluster {name}; the server tries again by itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("0.10.0") > number("0.9.12"));
        assert!(number("1.0.0-rc1") >= number("1.0.0"));
    }
}
