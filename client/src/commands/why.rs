//! `why`: why a run waits, why it failed, or why it ran where it did.

use qwex_api::run::Why;

use super::session::Session;
use super::{Done, resolve};
use crate::cli::WhyArgs;
use crate::output::escape::one_line;
use crate::output::{self, Row, table};

pub async fn why(session: &Session, args: &WhyArgs) -> Done {
    let client = session.client()?;
    let id = resolve::remote(session, client.as_ref(), &args.run).await?;
    let why = client.why(id).await?;
    session
        .out
        .one(&why.json, &id.to_string(), || words(&why.value))?;
    Ok(0)
}

fn words(why: &Why) -> String {
    let run = &why.run;
    let status = output::status_words(run.status, run.pending.as_ref(), run.failure.as_ref());
    let mut text = format!("{}: {}\n", status, one_line(&why.summary));
    if let Some(hint) = &why.hint {
        text.push_str(&format!("to do: {}\n", one_line(hint)));
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
