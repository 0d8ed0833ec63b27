//! What a spec may not ask of a process on this machine. Refused before anything is written, each with
//! a way out.

use qwex_core::JobSpec;
use qwex_runner::{RunnerError, Work};

use crate::config::LocalConfig;

/// Refuses what this backend does not have, and what no process can be given.
pub fn work(config: &LocalConfig, work: &Work) -> Result<(), RunnerError> {
    let spec = &work.spec;
    if spec.image.is_some() && !config.ignore_image {
        return unsupported("a local run uses no image; leave `image` out or choose a container backend");
    }
    if let Some(queue) = &spec.queue {
        return unsupported(&format!(
            "a local run waits in no queue; leave `queue` ({queue}) out or choose a Kubernetes cluster"
        ));
    }
    if let Some(class) = &spec.priority_class {
        return unsupported(&format!(
            "a local run waits in no queue; leave `priority_class` ({class}) out or choose a Kubernetes cluster"
        ));
    }
    if spec.resources.gpu.is_some_and(|count| count > 0) {
        return unsupported(
            "a local run is given no GPU of its own; leave `resources.gpu` out (the command sees \
             the machine's GPUs) or choose a Kubernetes cluster",
        );
    }
    if !spec.secrets.is_empty() {
        return unsupported(
            "a local run has no secret store; set the variables in your own environment or choose \
             a Kubernetes cluster",
        );
    }
    if spec.command.first().is_none_or(String::is_empty) {
        return rejected("the command is empty; say what to run".to_owned());
    }
    if let Some(index) = spec.command.iter().position(|word| word.contains('\0')) {
        return rejected(format!("word {index} of the command holds a NUL byte"));
    }
    for quantity in [spec.resources.cpu_millis(), spec.resources.memory_bytes()] {
        if let Err(error) = quantity {
            return rejected(error.to_string());
        }
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return rejected(format!("{name:?} cannot be the name of a variable"));
        }
        if value.contains('\0') {
            return rejected(format!("the value of the variable {name} holds a NUL byte"));
        }
    }
    if let Some(dir) = &spec.working_dir
        && !dir.starts_with('/')
    {
        return rejected(format!("the working directory {dir:?} is no absolute path"));
    }
    Ok(())
}

/// What a spec may ask for, does not get here, and is told so.
pub fn unused(spec: &JobSpec) -> Vec<String> {
    let image = spec.image.as_ref().map(|image| format!("the image {image}"));
    image.into_iter().collect()
}

fn unsupported(message: &str) -> Result<(), RunnerError> {
    Err(RunnerError::Unsupported {
        message: message.to_owned(),
    })
}

fn rejected(message: String) -> Result<(), RunnerError> {
    Err(RunnerError::Rejected { message })
}
