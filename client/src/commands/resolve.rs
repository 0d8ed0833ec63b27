//! How people name a run: id, unique prefix of one, name, `@latest`, `@last-failed`.

use qwex_core::{RunId, RunStatus};

use super::session::Session;
use crate::error::{CliError, Exit};
use crate::remote::{JobApiClient, RunFilter};

/// Fewest characters of a prefix; shorter words are names.
const SHORTEST_PREFIX: usize = 4;

/// What a word may mean, in the order in which it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Id(RunId),
    Latest,
    LastFailed,
    /// A prefix of an id if one fits, else a name.
    PrefixOrName(String),
    Name(String),
}

impl Named {
    pub fn read(word: &str) -> Result<Self, CliError> {
        if let Ok(id) = word.parse() {
            return Ok(Self::Id(id));
        }
        match word {
            "" => Err(CliError::usage("a run must be named").fix(WAYS)),
            "@latest" => Ok(Self::Latest),
            "@last-failed" => Ok(Self::LastFailed),
            word if word.starts_with('@') => {
                Err(CliError::usage(format!("{word} is no way to name a run")).fix(WAYS))
            }
            word if is_prefix(word) => Ok(Self::PrefixOrName(word.to_ascii_lowercase())),
            word => Ok(Self::Name(word.to_owned())),
        }
    }
}

const WAYS: &str = "name it by id, unique prefix of an id, name, @latest or @last-failed";

fn is_prefix(word: &str) -> bool {
    word.len() >= SHORTEST_PREFIX
        && word.len() <= 36
        && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The run that a word means on the server.
pub async fn remote(session: &Session, client: &dyn JobApiClient, word: &str) -> Result<RunId, CliError> {
    let filter = |status: &[RunStatus]| RunFilter {
        project: session.project(),
        statuses: status.to_vec(),
        page_size: Some(2),
        ..RunFilter::default()
    };
    let newest = |filter: RunFilter| async move {
        let page = client.list_runs(&filter).await?;
        Ok::<_, CliError>(
            page.items
                .into_iter()
                .map(|item| item.value.id)
                .collect::<Vec<_>>(),
        )
    };
    let found = match Named::read(word)? {
        Named::Id(id) => return Ok(id),
        Named::Latest => newest(filter(&[])).await?,
        Named::LastFailed => newest(filter(&[RunStatus::Failed])).await?,
        Named::PrefixOrName(prefix) => {
            let by_id = newest(RunFilter {
                id_prefix: Some(prefix),
                ..filter(&[])
            })
            .await?;
            match by_id.as_slice() {
                [_, _, ..] => return Err(ambiguous(word, &by_id)),
                [id] => return Ok(*id),
                [] => {
                    newest(RunFilter {
                        name: Some(word.to_owned()),
                        ..filter(&[])
                    })
                    .await?
                }
            }
        }
        Named::Name(name) => {
            newest(RunFilter {
                name: Some(name),
                ..filter(&[])
            })
            .await?
        }
    };
    found.first().copied().ok_or_else(|| no_such_run(word))
}

/// The sentence for a prefix that fits several runs.
pub fn ambiguous(word: &str, found: &[RunId]) -> CliError {
    let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
    CliError::new(
        Exit::Conflict,
        format!("{word} is the beginning of more than one run id"),
    )
    .why(format!("for example {}", ids.join(" and ")))
    .fix("type more of the id")
    .code("ambiguous")
}

pub fn no_such_run(word: &str) -> CliError {
    let what = match word {
        "@latest" => "there is no run yet".to_owned(),
        "@last-failed" => "no run has failed".to_owned(),
        word => format!("there is no run {word:?}"),
    };
    CliError::new(Exit::NotFound, what)
        .why("no id begins with it and no run has that name in this project")
        .fix("list them: `qwexctl ps`; another project: `--project NAME`")
        .code("not_found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let id = RunId::mint();
        assert_eq!(Named::read(&id.to_string()).unwrap(), Named::Id(id));
        assert_eq!(Named::read("@latest").unwrap(), Named::Latest);
        assert_eq!(
            Named::read("0199F2").unwrap(),
            Named::PrefixOrName("0199f2".to_owned())
        );
        assert_eq!(Named::read("abc").unwrap(), Named::Name("abc".to_owned()));
        assert_eq!(Named::read("train").unwrap(), Named::Name("train".to_owned()));
        assert_eq!(Named::read("@newest").unwrap_err().exit, Exit::Usage);
        assert!(Named::read("").is_err());
    }
}
