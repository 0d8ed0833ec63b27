//! The local backend as a command line sees it: what it has, whether it works, what is known after the end.

use async_trait::async_trait;
use qwex_runner::backend::{Details, Feature, Probe};
use qwex_runner::{Backend, Handle, Key, RunnerError};

use crate::backend::LocalBackend;
use crate::records::OutputMode;
use crate::snapshot::details;

const LAPTOP: &[Feature] = &[
    Feature::Cpu,
    Feature::Memory,
    Feature::Outputs,
    Feature::SeparateStreams,
];
/// Output is merged, and the directory of a run is its own and empty.
const EMBEDDED: &[Feature] = &[Feature::Image, Feature::Cpu, Feature::Memory];

impl LocalBackend {
    /// [`Backend::details`] without a runtime.
    ///
    /// # Errors
    /// The directory of the attempt cannot be read.
    pub fn details_sync(&self, handle: &Handle) -> Result<Details, RunnerError> {
        let snapshot = self.inner.snapshot(Key::of(handle))?;
        let ours = snapshot.filter(|snapshot| handle.is_about(snapshot.uid().as_ref()));
        Ok(details(ours.as_ref()))
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn features(&self) -> &[Feature] {
        match self.config().output {
            OutputMode::Split => LAPTOP,
            OutputMode::Merged => EMBEDDED,
        }
    }

    async fn probe(&self) -> Result<Probe, RunnerError> {
        let root = &self.config().root;
        let writable = nix::unistd::access(root, nix::unistd::AccessFlags::W_OK);
        writable.map_err(|error| RunnerError::Failed {
            message: format!("{} is not writable: {}", root.display(), error.desc()),
        })?;
        Ok(Probe {
            version: None,
            detail: "processes of this machine".to_owned(),
            notes: Vec::new(),
            skew: None,
        })
    }

    async fn details(&self, handle: &Handle) -> Result<Details, RunnerError> {
        let handle = handle.clone();
        self.blocking(move |this| this.details_sync(&handle)).await
    }

    /// The attempt's directory lies beside the run's record, which is what remains of it.
    async fn remove(&self, _handle: &Handle) -> Result<(), RunnerError> {
        Ok(())
    }
}
