//! `why`: why a run waits, why it failed, or why it ran where it did.

use qwex_api::run::Why;
use qwex_core::Run;

use super::Done;
use super::full_disk;
use super::outputs::missing;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::WhyArgs;
use crate::direct::{DirectError, Placed};
use crate::error::CliError;
use crate::output::escape::one_line;
use crate::output::{self, Row, table};
use crate::remote::{Answer, row_of};

pub async fn why(session: &Session, args: &WhyArgs) -> Done {
    let why = match find(session, &args.run).await? {
        Target::Remote(client, id) => client.why(id).await?,
        Target::Here(local, id) => {
            let told = local.history(id)?.and_then(|history| history.why);
            match told {
                Some(why) => Answer::of(why),
                None => {
                    let run = local.get(id)?;
                    let mut why = here(&run, &local.placed(id)?);
                    if let Some((trouble, way)) = missing(&local, &run)? {
                        why.summary = format!("{}; {trouble}", why.summary);
                        why.hint = why.hint.or(Some(way));
                    }
                    if run.failure.is_some()
                        && let Some((trouble, way)) = full_disk::trouble(&local, id)
                    {
                        why.summary = format!("{}; {trouble}", why.summary);
                        why.hint = Some(way);
                    }
                    if let Some(unkept) = local.unkept(id)? {
                        let error = CliError::from(DirectError::Unkept { id, why: unkept });
                        why.summary = error.why.unwrap_or(error.what);
                        why.hint = Some(error.fix.join("; or "));
                    }
                    Answer::of(why)
                }
            }
        }
    };
    let id = why.value.run.id.to_string();
    session.out.one(&why.json, &id, || words(&why.value))?;
    Ok(0)
}

/// A run without a server was placed by whoever started it; its record says the rest.
fn here(run: &Run, placed: &Placed) -> Why {
    let message = match (&run.pending, &run.failure) {
        (Some(pending), _) => pending.message.clone(),
        (None, Some(failure)) => failure.message.clone(),
        (None, None) => format!("it went to {}, as {} asked", placed.words(), run.created_by),
    };
    Why {
        run: row_of(run),
        summary: message,
        hint: run
            .failure
            .as_ref()
            .map(|_| format!("read its log: qwexctl logs {}", run.id)),
        placement: None,
        log_waiting: None,
    }
}

fn words(why: &Why) -> String {
    let run = &why.run;
    let status = output::status_words(run.status, run.pending.as_ref(), run.failure.as_ref());
    let mut text = format!("{}: {}\n", status, one_line(&why.summary));
    if let Some(hint) = &why.hint {
        text.push_str(&format!("to do: {}\n", one_line(hint)));
    }
    if let Some(waiting) = &why.log_waiting {
        text.push_str(&format!(
            "log: {}\nwaits since {}, last refused at {}\nto do: {}\n",
            one_line(&waiting.message),
            output::age::full(waiting.since),
            output::age::full(waiting.last_refused_at),
            one_line(&waiting.hint)
        ));
    }
    if let Some(placement) = &why.placement {
        let chosen = match &placement.chosen {
            Some(cluster) => format!("chosen: {cluster}"),
            None => "no cluster fits now".to_owned(),
        };
        text.push_str(&format!(
            "\nPLACEMENT at {}, {chosen}\n",
            output::age::full(placement.at)
        ));
        let now = jiff::Timestamp::now();
        let rows: Vec<Vec<String>> = placement.candidates.iter().map(|c| c.cells(false, now)).collect();
        text.push_str(&table(Some(&qwex_api::run::Candidate::heads(false)), &rows));
    }
    text
}
