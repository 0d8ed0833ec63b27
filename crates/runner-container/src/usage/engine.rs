//! Counters from the engine itself, where its containers are not of this machine or have no control group that we see.

use std::time::Duration;

use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptions;
use futures::StreamExt;

use super::Sample;
use crate::ask::ask_stream;
use crate::backend::Inner;

const PATIENCE: Duration = Duration::from_secs(5);

/// One answer, and the stream of them is closed: it would outlive the container.
pub async fn ask(inner: &Inner, id: &str) -> Option<Sample> {
    let asked = async {
        let client = inner.link.client().await.ok()?;
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut answers = std::pin::pin!(ask_stream(|| client.docker.stats(id, Some(options.clone()))));
        of(&answers.next().await?.ok()?)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

fn of(stats: &ContainerStatsResponse) -> Option<Sample> {
    let memory = stats.memory_stats.as_ref()?;
    let inactive = memory.stats.as_ref().and_then(|stats| {
        let named = ["total_inactive_file", "inactive_file"].iter();
        named.filter_map(|name| stats.get(*name)).copied().next()
    });
    Some(Sample {
        cpu_nanos: stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?,
        memory_bytes: memory.usage?.saturating_sub(inactive.unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Sample> {
        of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn answers_of_both_kernels_and_both_engines_are_read() {
        let sample = Some(Sample {
            cpu_nanos: 7,
            memory_bytes: 60,
        });
        for memory in [
            r#"{"usage":100,"stats":{"inactive_file":1,"total_inactive_file":40}}"#,
            r#"{"usage":100,"stats":{"inactive_file":40}}"#,
            r#"{"usage":60}"#,
        ] {
            let text =
                format!(r#"{{"cpu_stats":{{"cpu_usage":{{"total_usage":7}}}},"memory_stats":{memory}}}"#);
            assert_eq!(read(&text), sample, "{text}");
        }
    }

    #[test]
    fn a_container_that_has_ended_has_no_counters() {
        assert_eq!(read(r#"{"cpu_stats":{},"memory_stats":{}}"#), None);
        assert_eq!(read("{}"), None);
    }
}
