//! The testbed's own clusters: what a pod does on each, and that nothing of them outlives the process.

use anyhow::Result;
use qwex_testbed::shared;

#[tokio::test]
async fn the_server_tells_a_version_that_parses() -> Result<()> {
    let version = shared::alpha().await?.client().await?.apiserver_version().await?;
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "34"));
    Ok(())
}
