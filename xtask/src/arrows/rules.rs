//! The table of arrows: what each crate and each room may know. Change it only together with
//! ARCHITECTURE.md. A rule carries the sentence that is printed when it is broken.

/// What a package of the workspace may depend on.
pub struct CrateRule {
    pub package: &'static str,
    /// Packages of the workspace it may use. Tests may use the testbed besides.
    pub inside: &'static [&'static str],
    /// Packages that must not be in its tree at all, directly or through another.
    pub never: &'static [&'static str],
    pub sentence: &'static str,
}

const RUNNER: &str = "a runner knows core and runner only: never another runner, api, sqlx, or a server";
const LIBRARIES: &[&str] = &[
    "qwex-core",
    "qwex-runner",
    "qwex-runner-local",
    "qwex-runner-container",
    "qwex-runner-ssh",
    "qwex-runner-k8s",
    "qwex-api",
];

pub const CRATES: &[CrateRule] = &[
    CrateRule {
        package: "qwex-core",
        inside: &[],
        never: &["tokio", "sqlx", "kube", "axum", "hyper", "reqwest"],
        sentence: "core is vocabulary: no async, no I/O, no database, no cluster, no HTTP",
    },
    CrateRule {
        package: "qwex-runner",
        inside: &["qwex-core"],
        never: &["reqwest", "sqlx", "axum", "kube"],
        sentence: "runner holds the traits of every backend: it knows core, never api, an HTTP client or sqlx",
    },
    CrateRule {
        package: "qwex-runner-local",
        inside: &["qwex-core", "qwex-runner"],
        never: &["sqlx", "axum", "reqwest", "kube"],
        sentence: RUNNER,
    },
    CrateRule {
        package: "qwex-runner-container",
        inside: &["qwex-core", "qwex-runner"],
        never: &["sqlx", "axum", "reqwest", "kube"],
        sentence: RUNNER,
    },
    CrateRule {
        package: "qwex-runner-ssh",
        inside: &["qwex-core", "qwex-runner"],
        never: &["sqlx", "axum", "reqwest", "kube"],
        sentence: RUNNER,
    },
    CrateRule {
        package: "qwex-runner-k8s",
        inside: &["qwex-core", "qwex-runner"],
        never: &["sqlx", "axum", "reqwest"],
        sentence: RUNNER,
    },
    CrateRule {
        package: "qwex-api",
        inside: &["qwex-core"],
        never: &["axum", "reqwest", "hyper", "tokio", "sqlx"],
        sentence: "api is the wire: types and codes, no routing, no HTTP client, no database",
    },
    CrateRule {
        package: "qwexcloud",
        inside: &[
            "qwex-core",
            "qwex-runner",
            "qwex-runner-local",
            "qwex-runner-k8s",
            "qwex-api",
        ],
        never: &["qwexctl", "qwex-runner-container", "qwex-runner-ssh"],
        sentence: "the server dispatches to clusters: it knows neither the client nor the laptop's backends",
    },
    CrateRule {
        package: "qwexctl",
        inside: LIBRARIES,
        never: &["qwexcloud", "sqlx", "axum"],
        sentence: "the client speaks HTTP to the server: it knows neither the server nor its database",
    },
    CrateRule {
        package: "qwex-testbed",
        inside: &[],
        never: LIBRARIES,
        sentence: "the testbed brings up real parts: it knows nothing of qwex, so that it cannot lie for it",
    },
    CrateRule {
        package: "qwex-suite",
        inside: &[
            "qwex-core",
            "qwex-runner",
            "qwex-runner-k8s",
            "qwex-api",
            "qwex-testbed",
        ],
        never: &["qwexcloud", "qwexctl"],
        sentence: "the suite drives whole binaries from outside: it links neither server nor client",
    },
    CrateRule {
        package: "qwex-bench",
        inside: &[
            "qwex-core",
            "qwex-runner",
            "qwex-runner-k8s",
            "qwex-runner-container",
            "qwex-runner-ssh",
            "qwex-api",
            "qwex-testbed",
            "qwex-suite",
        ],
        never: &["qwexcloud", "qwexctl"],
        sentence: "the bench measures whole binaries from outside: it links neither server nor client",
    },
    CrateRule {
        package: "xtask",
        inside: &[],
        never: &["tokio", "sqlx", "kube", "axum"],
        sentence: "xtask is chores: it reads the tree and builds in seconds",
    },
];

/// Packages that none of ours may name in its manifest, not even for tests.
pub const NEVER_DIRECT: &[(&str, &str)] = &[
    ("chrono", "times are jiff: chrono is nobody's direct dependency"),
    ("serde_yaml", "YAML is serde-saphyr: serde_yaml is dead"),
    ("serde_yml", "YAML is serde-saphyr: serde_yml is dead"),
    ("figment", "configuration is clap and serde: figment is dormant"),
];

/// A package whose modules are rooms with arrows between them.
pub struct House {
    /// Where its sources lie, ending in a slash.
    pub src: &'static str,
    /// Every room with what it holds. `main` stands for the files that belong to no room.
    pub rooms: &'static [(&'static str, &'static str)],
}

pub const HOUSES: &[House] = &[
    House {
        src: "server/src/",
        rooms: &[
            ("main", "hands the command line to cli"),
            ("cli", "the commands; wires the rooms together"),
            ("http", "routes, extractors, problem+json"),
            ("runs", "what can be done with runs: submit, cancel, rerun, list"),
            ("projects", "projects, members, tokens as their owners see them"),
            ("auth", "who asks, and what they may"),
            ("answers", "answers kept under an Idempotency-Key"),
            (
                "sealing",
                "secrets under the server's key, bound to what they belong to",
            ),
            (
                "clusters",
                "the registry: kubeconfigs opened, (Runner, Watcher) pairs built",
            ),
            ("placement", "which cluster, and why"),
            ("cleanup", "ended attempts stopped, archived, released"),
            ("dispatch", "pending attempts handed to their cluster"),
            ("watch", "observations read from clusters"),
            ("recorder", "the only writer of run state"),
            ("cleanup", "objects released once result and log are durable"),
            ("logs", "log streams, chunks, archive, cursors"),
            ("sealing", "secrets at rest"),
            ("hints", "what wakes those who wait; lost hints cost a second"),
            ("webhooks", "endpoints, deliveries, signatures, retries"),
            ("db", "SQL, one file per table"),
            ("config", "settings and their origins"),
            ("telemetry", "tracing and metrics"),
            ("dev", "the embedded Postgres and cluster of `qwexcloud dev`"),
        ],
    },
    House {
        src: "client/src/",
        rooms: &[
            ("main", "the entry points"),
            ("cli", "what can be typed"),
            ("commands", "one file per command"),
            (
                "remote",
                "JobApiClient and the backend that goes through qwexcloud",
            ),
            ("direct", "runs without a server"),
            ("output", "tables, JSON, progress, colours"),
            ("progress", "what happens meanwhile, on stderr"),
            ("help", "help topics"),
            ("mark", "what only this user can have put there, by an HMAC"),
            ("config", "contexts, settings and their origins, config.yaml"),
            ("policy", "what runs may ask for, and what their commands may do"),
            (
                "project_file",
                "qwex.yaml: read strictly, its stages made into specs",
            ),
            (
                "pipeline",
                "stages as runs and a graph record; artifacts by hash, stages reused",
            ),
            ("error", "what can go wrong, with its exit code"),
        ],
    },
];

/// Which rooms a rule binds.
pub enum Bound {
    In(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// What rooms may not name.
pub struct RoomRule {
    pub src: &'static str,
    pub bound: Bound,
    /// Paths that must not be named; a star stands for the rest of a segment.
    pub never: &'static [&'static str],
    pub sentence: &'static str,
}

const SERVER: &str = "server/src/";
const CLIENT: &str = "client/src/";

pub const ROOM_RULES: &[RoomRule] = &[
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["http"]),
        never: &["crate::db"],
        sentence: "http -> runs -> db: a handler asks a service (runs, clusters, logs, webhooks, auth, projects), never the database",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["http"]),
        never: &["kube", "k8s_openapi", "qwex_runner_k8s", "sqlx"],
        sentence: "http names no kube and no sqlx: a handler speaks wire types and services",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["http"]),
        never: &["crate::dispatch", "crate::watch", "crate::recorder"],
        sentence: "http starts nothing on a cluster and writes no run state: it leaves an intent through runs",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::AllBut(&["http", "main", "cli", "dev"]),
        never: &["crate::http"],
        sentence: "nothing behind http looks back at it: arrows go http -> services -> db",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::AllBut(&["http", "main", "cli", "auth", "telemetry", "dev"]),
        never: &["axum", "axum_extra", "utoipa_axum"],
        sentence: "axum stays in http: a service takes and gives plain types",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["db"]),
        never: &[
            "axum",
            "kube",
            "k8s_openapi",
            "qwex_runner_k8s",
            "qwex_runner_local",
        ],
        sentence: "db names no axum and no kube: it is SQL and rows",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["db"]),
        never: &[
            "crate::http",
            "crate::runs",
            "crate::dispatch",
            "crate::watch",
            "crate::recorder",
            "crate::logs",
            "crate::webhooks",
            "crate::clusters",
            "crate::placement",
            "crate::dev",
        ],
        sentence: "db is the bottom: every arrow ends there and none begins",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["watch"]),
        never: &["crate::db", "sqlx"],
        sentence: "watch -> recorder, never db: a watcher proposes observations, the Recorder alone writes them",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["recorder"]),
        never: &["crate::watch", "crate::dispatch", "kube", "qwex_runner_k8s"],
        sentence: "the Recorder applies observations: it knows neither who read them nor on what cluster",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["dispatch"]),
        never: &[
            "crate::webhooks",
            "crate::logs",
            "crate::watch",
            "kube",
            "k8s_openapi",
        ],
        sentence: "dispatch -> runs, db: it hands attempts to a Runner and knows no cluster's objects",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["cleanup"]),
        never: &[
            "crate::runs",
            "crate::dispatch",
            "crate::watch",
            "crate::webhooks",
            "kube",
            "k8s_openapi",
        ],
        sentence: "cleanup -> logs, db: it waits for a sealed log and asks the Runner to release",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["sealing"]),
        never: &[
            "crate::http",
            "crate::db",
            "crate::runs",
            "crate::clusters",
            "crate::webhooks",
            "sqlx",
        ],
        sentence: "sealing is a function of key, bytes and owner: it knows nobody's secrets",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["webhooks"]),
        never: &[
            "crate::runs",
            "crate::dispatch",
            "crate::watch",
            "crate::recorder",
            "crate::clusters",
            "kube",
        ],
        sentence: "webhooks -> db: deliveries are rows of the outbox, whatever wrote them",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::In(&["logs"]),
        never: &[
            "crate::runs",
            "crate::dispatch",
            "crate::webhooks",
            "kube",
            "k8s_openapi",
        ],
        sentence: "logs -> db: bytes come from a Watcher and go to the archive, their index to db",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::AllBut(&["clusters"]),
        never: &["kube", "k8s_openapi"],
        sentence: "only clusters may name kube: everyone else holds a Runner or a Watcher",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::AllBut(&["clusters", "dev"]),
        never: &["qwex_runner_k8s", "qwex_runner_local"],
        sentence: "only clusters builds (Runner, Watcher) pairs: everyone else holds the traits",
    },
    RoomRule {
        src: SERVER,
        bound: Bound::AllBut(&["db"]),
        never: &[
            "sqlx::query*",
            "sqlx::raw_sql",
            "sqlx::QueryBuilder",
            "sqlx::migrate",
            "sqlx::FromRow",
        ],
        sentence: "SQL lives only in server/src/db/, one function per question",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::AllBut(&["remote"]),
        never: &["reqwest"],
        sentence: "remote is the only room of the client that names reqwest: everyone else asks JobApiClient",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::In(&[
            "remote",
            "direct",
            "output",
            "progress",
            "help",
            "config",
            "policy",
            "project_file",
            "pipeline",
            "mark",
            "error",
        ]),
        never: &["crate::commands"],
        sentence: "commands -> remote, direct, output: nothing below a command knows which one was typed",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::In(&["pipeline", "project_file", "policy"]),
        never: &["crate::remote", "crate::direct"],
        sentence: "a pipeline asks a StageRunner, project file and policy run nothing: they know no backend and no server",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::In(&["output", "progress"]),
        never: &["crate::remote", "crate::direct"],
        sentence: "output and progress print what they are given: they name neither remote nor direct",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::In(&["remote"]),
        never: &["crate::direct", "crate::output"],
        sentence: "remote speaks HTTP: it neither prints nor runs anything here",
    },
    RoomRule {
        src: CLIENT,
        bound: Bound::In(&["direct"]),
        never: &["crate::remote", "crate::output"],
        sentence: "a runner never calls the qwexcloud API: direct knows no remote",
    },
];
