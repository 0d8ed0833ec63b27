//! The local backend as a command line sees it: what it has, whether it works, what is known after the end.

use async_trait::async_trait;
use qwex_runner::backend::{Details, Feature, Probe};
use qwex_runner::{Backend, Handle, RunnerError};

use crate::backend::LocalBackend;

const FEATURES: &[Feature] = &[
    Feature::Cpu,
    Feature::Memory,
    Feature::Outputs,
    Feature::SeparateStreams,
];

#[async_trait]
impl Backend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn features(&self) -> &[Feature] {
        FEATURES
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
        })
    }

    async fn details(&self, _handle: &Handle) -> Result<Details, RunnerError> {
        let name = nix::unistd::gethostname().ok();
        Ok(Details {
            host: name.and_then(|name| name.into_string().ok()),
            ..Details::default()
        })
    }

    /// The attempt's directory lies beside the run's record, which is what remains of it.
    async fn remove(&self, _handle: &Handle) -> Result<(), RunnerError> {
        Ok(())
    }
}
