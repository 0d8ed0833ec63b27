//! The fields of `qwex.yaml`. The same model makes the reader, the JSON Schema and the defaults of `run`.

use std::collections::BTreeMap;

use qwex_core::spec::PullPolicy;
use qwex_core::{ClusterName, PriorityClass, Project, QueueName, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;
use super::parts::{Asked, CommandLine, Matrix, Mounted, Places, Retry, scalar, scalars};

/// A struct with the fields that a run may have, for the top of the file and for a stage.
macro_rules! with_fields_of_a_run {
    ($(#[$meta:meta])* $name:ident $(<$generic:ident>)? { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$meta])*
        pub struct $name $(<$generic>)? {
            $($(#[$fmeta])* pub $field: $type,)*
            /// Where it runs: local, docker, podman, ssh, k8s, kueue or remote. `--backend` overrides.
            #[serde(default)]
            pub backend: Option<At<String>>,
            /// Machine of the backend ssh: a host of your config.yaml, else as in `ssh HOST`.
            #[serde(default)]
            pub host: Option<At<String>>,
            /// Container image; not used by the backends local and ssh.
            #[serde(default)]
            pub image: Option<At<String>>,
            /// When the image is pulled: always, if_not_present or never.
            #[serde(default)]
            #[schemars(with = "Option<String>", extend("enum" = ["always", "if_not_present", "never", null]))]
            pub pull_policy: Option<PullPolicy>,
            /// Environment variables.
            #[serde(default)]
            #[schemars(schema_with = "scalars")]
            pub env: BTreeMap<String, At<String>>,
            /// Environment variables by reference: variable to `secret` or `secret/key`.
            #[serde(default)]
            #[schemars(schema_with = "scalars")]
            pub secrets: BTreeMap<String, String>,
            /// Absolute path in which the command starts.
            #[serde(default)]
            pub working_dir: Option<At<String>>,
            #[serde(default)]
            pub resources: Asked,
            /// Kueue LocalQueue.
            #[serde(default)]
            #[schemars(with = "Option<String>")]
            pub queue: Option<QueueName>,
            /// Kueue WorkloadPriorityClass of runs in a queue.
            #[serde(default)]
            #[schemars(with = "Option<String>")]
            pub priority_class: Option<PriorityClass>,
            /// The only cluster that may take it.
            #[serde(default)]
            #[schemars(with = "Option<String>")]
            pub cluster: Option<ClusterName>,
            #[serde(default)]
            pub placement: Places,
            /// Longest time an attempt may run: 90s, 15m, 1h30m.
            #[serde(default)]
            #[schemars(with = "Option<String>")]
            pub timeout: Option<Span>,
            #[serde(default)]
            pub retry: Option<Retry>,
            /// Files from outside; those of a stage come beside those of the top.
            #[serde(default)]
            pub mounts: Vec<Mounted>,
            /// Container network: none, bridge, host or the name of one.
            #[serde(default)]
            pub network: Option<String>,
            /// Published ports: 8080:80, 127.0.0.1:8080:80/udp.
            #[serde(default)]
            pub ports: Vec<String>,
            /// Who the command runs as inside: uid[:gid], or a name that the image knows.
            #[serde(default)]
            #[schemars(schema_with = "scalar")]
            pub user: Option<String>,
            /// Limits of the process: nofile to 1024 or 1024:2048.
            #[serde(default)]
            #[schemars(schema_with = "scalars")]
            pub ulimits: BTreeMap<String, String>,
            /// Kubernetes service account, where policy allows it.
            #[serde(default)]
            pub service_account: Option<String>,
        }

        impl $(<$generic>)? $name $(<$generic>)? {
            /// The fields that a run may have.
            #[must_use]
            pub fn common(&self) -> Common<'_> {
                Common {
                    backend: self.backend.as_ref(),
                    host: self.host.as_ref(),
                    image: self.image.as_ref(),
                    pull_policy: self.pull_policy,
                    env: &self.env,
                    secrets: &self.secrets,
                    working_dir: self.working_dir.as_ref(),
                    resources: &self.resources,
                    queue: self.queue.as_ref(),
                    priority_class: self.priority_class.as_ref(),
                    cluster: self.cluster.as_ref(),
                    placement: &self.placement,
                    timeout: self.timeout,
                    retry: self.retry.as_ref(),
                    mounts: &self.mounts,
                    network: self.network.as_ref(),
                    ports: &self.ports,
                    user: self.user.as_ref(),
                    ulimits: &self.ulimits,
                    service_account: self.service_account.as_ref(),
                }
            }
        }
    };
}

/// What the top of the file and a stage both may say about a run.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    pub backend: Option<&'a At<String>>,
    pub host: Option<&'a At<String>>,
    pub image: Option<&'a At<String>>,
    pub pull_policy: Option<PullPolicy>,
    pub env: &'a BTreeMap<String, At<String>>,
    pub secrets: &'a BTreeMap<String, String>,
    pub working_dir: Option<&'a At<String>>,
    pub resources: &'a Asked,
    pub queue: Option<&'a QueueName>,
    pub priority_class: Option<&'a PriorityClass>,
    pub cluster: Option<&'a ClusterName>,
    pub placement: &'a Places,
    pub timeout: Option<Span>,
    pub retry: Option<&'a Retry>,
    pub mounts: &'a [Mounted],
    pub network: Option<&'a String>,
    pub ports: &'a [String],
    pub user: Option<&'a String>,
    pub ulimits: &'a BTreeMap<String, String>,
    pub service_account: Option<&'a String>,
}

with_fields_of_a_run! {
    /// What a project sets for its runs, and the stages of its pipeline.
    #[serde(bound(deserialize = "S: Deserialize<'de> + Default"))]
    #[schemars(bound = "S: JsonSchema + Default")]
    ProjectFile<S> {
        /// Name of the project's pipeline.
        #[serde(default)]
        name: Option<String>,
        /// Name of one of the user's contexts.
        #[serde(default)]
        context: Option<String>,
        /// Project of the server.
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        project: Option<Project>,
        /// Values for `${var.NAME}`; `--set NAME=VALUE` overrides.
        #[serde(default)]
        #[schemars(schema_with = "scalars")]
        vars: BTreeMap<String, String>,
        /// Most stages that run at the same time. Default: as many as are free.
        #[serde(default)]
        #[schemars(range(min = 1, max = 1000))]
        max_parallel: Option<At<u32>>,
        /// The stages of the pipeline. Those that need each other run in order, the others side by side.
        #[serde(default)]
        stages: S,
    }
}

with_fields_of_a_run! {
    /// A stage of the pipeline: one run, or one for every combination of its matrix.
    Stage {
        /// Letters, digits, `-`, `_` and `.`; once in the file.
        #[schemars(length(min = 1, max = 63))]
        name: At<String>,
        command: At<CommandLine>,
        /// Stages that must be over before. One with a matrix means all its runs; name[k=v] means one.
        #[serde(default)]
        needs: Vec<At<String>>,
        /// When it runs: `${env.X} == 'y'`, success(), failure(), always(), joined by !, && and ||. Without a word about
        /// the needs, success() is meant besides.
        #[serde(default, rename = "if")]
        #[schemars(schema_with = "scalar")]
        condition: Option<At<String>>,
        /// Its failure neither stops those that need it nor makes the pipeline fail.
        #[serde(default)]
        allow_failure: bool,
        #[serde(default)]
        matrix: Option<At<Matrix>>,
        /// Globs of the files it reads, beside the outputs of its needs. Only these go to a remote backend. Absent: all
        /// files that are not ignored.
        #[serde(default)]
        inputs: Option<Vec<At<String>>>,
        /// Globs of the files it makes: kept, handed to later stages, and brought back when the stage is reused.
        #[serde(default)]
        outputs: Vec<At<String>>,
        /// Always run it, whatever ran before.
        #[serde(default)]
        no_cache: bool,
    }
}

impl<S: Default> Default for ProjectFile<S> {
    fn default() -> Self {
        Self {
            name: None,
            context: None,
            project: None,
            vars: BTreeMap::new(),
            max_parallel: None,
            stages: S::default(),
            backend: None,
            host: None,
            image: None,
            pull_policy: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            working_dir: None,
            resources: Asked::default(),
            queue: None,
            priority_class: None,
            cluster: None,
            placement: Places::default(),
            timeout: None,
            retry: None,
            mounts: Vec::new(),
            network: None,
            ports: Vec::new(),
            user: None,
            ulimits: BTreeMap::new(),
            service_account: None,
        }
    }
}
