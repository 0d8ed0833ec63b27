//! Tests of [`super::Settings`]: who wins, and whom a token is shown.

use std::collections::HashMap;
use std::fs;

use secrecy::ExposeSecret;

use super::*;

struct World {
    dir: tempfile::TempDir,
    env: HashMap<&'static str, String>,
}

impl World {
    /// One context `dev`, in use, with server, token and project.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        fs::create_dir(&config).unwrap();
        fs::write(
            config.join(contexts::FILE_NAME),
            "current: dev\ncontexts:\n- {name: dev, server: 'http://dev', token: qwx_dev, project: team}\n- {name: ci, server: 'http://ci', backend: remote}\n",
        )
        .unwrap();
        let env = HashMap::from([("QWEX_CONFIG_DIR", config.display().to_string())]);
        Self { dir, env }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn project_file(self, text: &str) -> Self {
        fs::write(self.dir.path().join("qwex.yaml"), text).unwrap();
        self
    }

    fn gather(&self, choices: &Choices) -> Result<Settings, CliError> {
        let env = |name: &str| self.env.get(name).cloned();
        Settings::gather(
            choices,
            &Surroundings {
                env: &env,
                dir: self.dir.path(),
            },
        )
    }
}

fn token(settings: &Settings) -> Option<&str> {
    settings.token.as_ref().map(|token| token.value.expose_secret())
}

#[test]
fn the_context_in_use_gives_server_token_and_project() {
    let settings = World::new().gather(&Choices::default()).unwrap();
    assert_eq!(settings.server.as_ref().unwrap().value, "http://dev");
    assert_eq!(token(&settings), Some("qwx_dev"));
    assert_eq!(settings.project.unwrap().value.as_str(), "team");
}

#[test]
fn flag_beats_environment_beats_project_file_beats_context() {
    let world = World::new().project_file("project: from-file\ncontext: ci\n");
    let settings = world.gather(&Choices::default()).unwrap();
    assert_eq!(settings.context.unwrap().value, "ci");
    let project = settings.project.unwrap();
    assert_eq!(project.value.as_str(), "from-file");
    assert!(matches!(project.origin, Origin::ProjectFile(_)));

    let world = world.set("QWEX_PROJECT", "from-env").set("QWEX_CONTEXT", "dev");
    let settings = world.gather(&Choices::default()).unwrap();
    assert_eq!(settings.context.unwrap().value, "dev");
    assert_eq!(settings.project.unwrap().value.as_str(), "from-env");

    let choices = Choices {
        context: Some("ci".to_owned()),
        project: Some(Project::new("from-flag").unwrap()),
        server: None,
    };
    let settings = world.gather(&choices).unwrap();
    assert_eq!(settings.context.unwrap().origin, Origin::Flag("--context"));
    assert_eq!(settings.project.unwrap().origin, Origin::Flag("--project"));
}

#[test]
fn a_backend_that_nothing_else_names_is_the_contexts() {
    let backend = |world: World, context: &str| {
        let settings = world
            .set("QWEX_CONTEXT", context)
            .gather(&Choices::default())
            .unwrap();
        settings.backend.value
    };
    assert_eq!(backend(World::new(), "dev"), "local");
    assert_eq!(backend(World::new(), "ci"), "remote");
    assert_eq!(
        backend(World::new().project_file("backend: docker\n"), "ci"),
        "docker"
    );
    assert_eq!(backend(World::new().set("QWEX_BACKEND", "k8s"), "ci"), "k8s");
}

#[test]
fn a_contexts_token_is_shown_to_its_own_server_only() {
    let elsewhere = World::new().set("QWEX_SERVER", "http://elsewhere");
    let settings = elsewhere.gather(&Choices::default()).unwrap();
    assert_eq!(token(&settings), None);
    assert!(settings.project.is_none());
    let same = World::new().set("QWEX_SERVER", "http://dev/");
    assert_eq!(token(&same.gather(&Choices::default()).unwrap()), Some("qwx_dev"));
}

#[test]
fn the_environment_brings_a_token_by_value_or_file() {
    let world = World::new().set("QWEX_TOKEN", "qwx_env\n");
    let settings = world.gather(&Choices::default()).unwrap();
    assert_eq!(token(&settings), Some("qwx_env"));
    let world = World::new();
    let path = world.dir.path().join("token");
    fs::write(&path, "qwx_file\n").unwrap();
    let world = world.set("QWEX_TOKEN_FILE", path.to_str().unwrap());
    assert_eq!(
        token(&world.gather(&Choices::default()).unwrap()),
        Some("qwx_file")
    );
}

#[test]
fn an_unknown_context_says_which_there_are() {
    let choices = Choices {
        context: Some("prod".to_owned()),
        ..Choices::default()
    };
    let error = World::new().gather(&choices).unwrap_err();
    assert_eq!(error.exit, Exit::NotFound);
    assert!(error.fix[0].contains("dev, ci"));
}

#[test]
fn without_anything_there_is_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let around = Surroundings {
        env: &|_| None,
        dir: dir.path(),
    };
    let settings = Settings::gather(&Choices::default(), &around).unwrap();
    assert!(settings.server.is_none() && settings.context_path.is_none());
    assert_eq!(settings.backend.value, "local");
}
