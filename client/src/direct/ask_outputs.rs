//! Asks for the outputs of a run that is over, whoever gave them up before. Its keeper brings them; it is started if there
//! is none.

use std::time::Duration;

use qwex_core::{Run, RunId};

use super::error::DirectError;
use super::keeper;
use super::outputs::{self, Outputs};
use super::runs::{Direct, Result};

const LOOK: Duration = Duration::from_millis(50);

impl Direct {
    /// What came of the outputs of a run; `None`: nobody tried to bring any.
    ///
    /// # Errors
    /// The run is not there, or the file beside its record cannot be read.
    pub fn outputs(&self, id: RunId) -> Result<Option<Outputs>> {
        Ok(Outputs::read(&self.journal(id)?)?)
    }

    /// Those of a run that are not here although they should be.
    ///
    /// # Errors
    /// As [`Direct::outputs`].
    pub fn missing_outputs(&self, run: &Run) -> Result<Option<Outputs>> {
        if run.spec.outputs.is_empty() {
            return Ok(None);
        }
        Ok(self
            .outputs(run.id)?
            .filter(|outputs| outputs.trouble().is_some()))
    }

    /// Whether a keeper goes on bringing them, by itself or because somebody asked.
    ///
    /// # Errors
    /// As [`Direct::outputs`].
    pub fn are_outputs_tried(&self, run: &Run) -> Result<bool> {
        Ok(Outputs::are_tried(&self.journal(run.id)?, run)?)
    }

    /// The file in which that is kept: as young as what it tells.
    ///
    /// # Errors
    /// The run is not there.
    pub fn outputs_file(&self, id: RunId) -> Result<std::path::PathBuf> {
        Ok(self.journal(id)?.path_of(outputs::FILE))
    }

    /// Has the outputs of a run tried once more, and returns with what came of that.
    ///
    /// # Errors
    /// Nobody keeps the run and none will come; its record cannot be read or written.
    pub async fn ask_for_outputs(&self, id: RunId) -> Result<Outputs> {
        let journal = self.journal(id)?;
        Outputs::ask(&journal)?;
        keeper::try_anew(&journal)?;
        loop {
            // Of several who ask, the word of the last one stands for all: its answer is younger than every question.
            let outputs = Outputs::read(&journal)?.unwrap_or_default();
            if outputs.collected.is_some() || !outputs.is_asked(&journal)? {
                return Ok(outputs);
            }
            // A keeper that was just leaving is followed by another.
            if let Some(why) = self.unkept(id)? {
                return Err(DirectError::Unkept { id, why });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
