//! `project`: makes and lists projects.

use qwex_api::project::CreateProject;

use super::Done;
use super::session::Session;
use crate::cli::ProjectCommand;

pub async fn project(session: &Session, command: ProjectCommand) -> Done {
    let client = session.client()?;
    match command {
        ProjectCommand::Create { name } => {
            let made = client.create_project(&CreateProject { name }).await?;
            let name = made.value.name.to_string();
            session
                .out
                .one(&made.json, &name, || format!("project {name} is made\n"))?;
        }
        ProjectCommand::Ls => {
            let projects = client.list_projects().await?;
            session
                .out
                .list(projects.items.iter().map(|item| (&item.value, &item.json)))?;
        }
    }
    Ok(0)
}
