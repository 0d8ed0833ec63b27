//! `qwexcloud healthcheck`: for images without curl.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Address of the replica
    #[arg(
        long,
        env = "QWEX_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// Longest wait, in seconds
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    timeout: u64,
}

pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let url = format!("http://{}/readyz", super::replica::reachable(options.listen));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(options.timeout))
        .build()?;
    let answer = client
        .get(&url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let ready = answer.status().is_success();
    println!("{}", answer.text().await.unwrap_or_default().trim_end());
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
