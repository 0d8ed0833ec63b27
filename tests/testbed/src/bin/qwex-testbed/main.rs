//! `qwex-testbed`: the surroundings that tests use, for people. Starts clusters and Postgres, keeps them until told to
//! stop, and prints what to export.

mod bed;
mod kubectl;
mod parts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use qwex_testbed::artifacts::{Program, program};
use qwex_testbed::images;
use qwex_testbed::queue::QueueStandIn;
use tracing_subscriber::EnvFilter;

use bed::Bed;
use parts::PartName;

#[derive(Parser)]
#[command(about = "Real clusters and databases on this machine, for tests and for trying things out")]
struct Arguments {
    /// Where the state lies.
    #[arg(long, global = true, env = "QWEX_TESTBED_DIR", default_value_os_t = std::env::temp_dir().join("qwex-bed"))]
    dir: PathBuf,
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Start the parts in the background, wait until they are ready and print what to export
    Up {
        /// Only these parts; otherwise alpha, beta and postgres
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<PartName>,
        /// Stay in the foreground; the parts end with this process, however it ends
        #[arg(long)]
        foreground: bool,
    },
    /// Stop all parts and remove their files
    Down,
    /// Tell whether the parts run, and print what to export
    Status,
    /// Build and cache the programs and images that the clusters are made of
    Build,
    /// Install the queue stand-in (not Kueue) on any cluster and run it until Ctrl-C; `up` does so by itself
    Queue {
        /// The cluster's kubeconfig
        #[arg(long)]
        kubeconfig: PathBuf,
    },
    /// Run kubectl on a running cluster: `qwex-testbed kubectl alpha get pods -A`
    Kubectl {
        /// The cluster's part
        cluster: PartName,
        /// What kubectl shall do
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that anyhow adds: what failed is on this machine, not in the program.
            eprintln!("qwex-testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    // The clients' complaints about servers that are not up yet would bury the rest.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let Arguments { dir, order } = Arguments::parse();
    let bed = Bed::new(&dir)?;
    match order {
        Order::Up { only, foreground } => {
            let only = if only.is_empty() {
                PartName::USUAL.to_vec()
            } else {
                only
            };
            match foreground {
                true => bed.serve(&only).await,
                false => bed.up(&only).await,
            }
        }
        Order::Down => bed.down().await,
        Order::Status => bed.status(),
        Order::Build => build().await,
        Order::Queue { kubeconfig } => queue(&kubeconfig).await,
        Order::Kubectl { cluster, arguments } => kubectl::run(&bed, cluster, &arguments).await,
    }
}

async fn queue(kubeconfig: &Path) -> Result<()> {
    let _queue = QueueStandIn::start(&std::fs::read_to_string(kubeconfig)?).await?;
    println!("the queue stand-in runs; Ctrl-C ends it");
    Ok(tokio::signal::ctrl_c().await?)
}

async fn build() -> Result<()> {
    for one in [Program::Warden, Program::Kwok, Program::Kubelab] {
        println!("{}", program(one).await?.display());
    }
    println!(
        "{}\n{}",
        images::busybox().await?.display(),
        images::pause().await?.display()
    );
    Ok(())
}
