//! kubectl on a cluster of the bed; it is one of the programs inside kubelab.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qwex_testbed::artifacts::{Program, program};

use crate::bed::Bed;
use crate::parts::PartName;

/// Becomes kubectl; returns only when that fails.
pub async fn run(bed: &Bed, cluster: PartName, arguments: &[String]) -> Result<()> {
    let kubeconfig = bed.part_dir(cluster).join("admin.kubeconfig");
    ensure!(kubeconfig.exists(), "no cluster called {} is up", cluster.name());
    let kubelab = program(Program::Kubelab).await?;
    let error = Command::new(kubelab)
        .arg("kubectl")
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .exec();
    Err(error).context("failed to run kubectl")
}
