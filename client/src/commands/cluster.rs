//! `cluster`: registers, lists, drains and forgets clusters.

use std::io::Read;
use std::path::Path;

use qwex_api::cluster::{AddCluster, AddedCluster};

use super::Done;
use super::session::Session;
use crate::cli::{ClusterAdd, ClusterCommand};
use crate::error::{CliError, Exit};
use crate::output::table;

pub async fn cluster(session: &Session, command: ClusterCommand) -> Done {
    let client = session.client()?;
    match command {
        ClusterCommand::Add(add) => {
            let added = client.add_cluster(&request(*add)?).await?;
            let name = added.value.cluster.name.to_string();
            session.out.one(&added.json, &name, || words(&added.value))?;
        }
        ClusterCommand::Ls => {
            let clusters = client.list_clusters().await?;
            session
                .out
                .list(clusters.items.iter().map(|item| (&item.value, &item.json)))?;
        }
        ClusterCommand::Get { name } => {
            let cluster = client.get_cluster(&name).await?;
            if session.out.for_people() {
                session.out.list([(&cluster.value, &cluster.json)])?;
            } else {
                session.out.one(&cluster.json, name.as_str(), String::new)?;
            }
        }
        ClusterCommand::Drain { name } => {
            client.drain_cluster(&name).await?;
            session
                .progress
                .stage("draining", &format!("{name} takes no new runs"));
        }
        ClusterCommand::Undrain { name } => {
            client.undrain_cluster(&name).await?;
            session
                .progress
                .stage("active", &format!("{name} takes runs again"));
        }
        ClusterCommand::Rm { name } => {
            client.remove_cluster(&name).await?;
            session
                .progress
                .stage("removed", &format!("{name}; the history of its runs stays"));
        }
    }
    Ok(0)
}

fn request(add: ClusterAdd) -> Result<AddCluster, CliError> {
    Ok(AddCluster {
        kubeconfig: read(&add.kubeconfig)?,
        name: add.name,
        context: add.kube_context,
        namespace: add.namespace,
        labels: add
            .labels
            .into_iter()
            .map(|pair| (pair.key, pair.value))
            .collect(),
        default_queue: add.default_queue,
    })
}

fn read(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| {
        CliError::new(
            Exit::Failure,
            format!("the kubeconfig {} cannot be read", path.display()),
        )
        .why(error.to_string())
        .fix("give the file: `--kubeconfig ~/.kube/config`, or - for stdin")
        .code("kubeconfig")
    })?;
    Ok(text)
}

fn words(added: &AddedCluster) -> String {
    let rows: Vec<Vec<String>> = added
        .checks
        .iter()
        .map(|check| {
            let verdict = if check.ok { "ok" } else { "no" };
            vec![check.check.clone(), verdict.to_owned(), check.message.clone()]
        })
        .collect();
    let head = format!("cluster {} is registered\n", added.cluster.name);
    head + &table(Some(&["CHECK", "OK", "MESSAGE"]), &rows)
}
