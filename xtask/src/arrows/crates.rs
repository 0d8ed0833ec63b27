//! The arrows between crates, read from `cargo metadata`: what a manifest names, and what its whole
//! tree holds.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::rules::{CRATES, CrateRule, NEVER_DIRECT};
use crate::report::Breach;

/// The part of `cargo metadata` that is looked at.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None is a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDep>,
}

#[derive(Deserialize)]
struct NodeDep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// Asks cargo for the graph of the workspace at `root`.
pub fn read(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root)
        .output()
        .context("failed to start cargo metadata")?;
    ensure!(
        out.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).context("failed to read cargo metadata")
}

/// Every broken arrow between crates.
pub fn check(metadata: &Metadata, root: &Path) -> Vec<Breach> {
    let graph = Graph::of(metadata);
    let own = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id));
    own.flat_map(|package| {
        let manifest = Manifest::of(package, root);
        let mut breaches = banned(package, &manifest);
        match CRATES.iter().find(|rule| rule.package == package.name) {
            Some(rule) => {
                breaches.extend(edges(package, rule, &manifest, &graph));
                breaches.extend(trees(package, rule, &manifest, &graph));
            }
            None => breaches.push(manifest.breach(
                "name",
                format!(
                    "`{}` has no row in the table of crates: add one to xtask/src/arrows/rules.rs",
                    package.name
                ),
            )),
        }
        breaches
    })
    .collect()
}

fn banned(package: &Package, manifest: &Manifest) -> Vec<Breach> {
    let named = |name: &str| {
        package
            .dependencies
            .iter()
            .any(|dependency| dependency.name == name)
    };
    let broken = NEVER_DIRECT.iter().filter(|(name, _)| named(name));
    broken
        .map(|(name, sentence)| manifest.breach(name, (*sentence).to_owned()))
        .collect()
}

/// The edges to packages of the workspace that the manifest itself names.
fn edges(package: &Package, rule: &CrateRule, manifest: &Manifest, graph: &Graph<'_>) -> Vec<Breach> {
    let inner = package
        .dependencies
        .iter()
        .filter(|dependency| graph.own.contains(&dependency.name.as_str()));
    inner
        .filter(|dependency| {
            let for_tests = dependency.kind.as_deref() == Some("dev") && dependency.name == "qwex-testbed";
            !rule.inside.contains(&dependency.name.as_str()) && !for_tests
        })
        .map(|dependency| {
            manifest.breach(
                &dependency.name,
                format!("{} (names {})", rule.sentence, dependency.name),
            )
        })
        .collect()
}

/// Packages anywhere below this one that it must never see, each with the shortest way to it.
fn trees(package: &Package, rule: &CrateRule, manifest: &Manifest, graph: &Graph<'_>) -> Vec<Breach> {
    let ways = graph.ways(&package.id);
    let seen = ways
        .iter()
        .filter(|way| way.last().is_some_and(|end| rule.never.contains(end)));
    seen.map(|way| {
        let chain = std::iter::once(package.name.as_str())
            .chain(way.iter().copied())
            .collect::<Vec<_>>()
            .join(" -> ");
        manifest.breach(way[0], format!("{} (sees {chain})", rule.sentence))
    })
    .collect()
}

struct Graph<'m> {
    names: BTreeMap<&'m str, &'m str>,
    below: BTreeMap<&'m str, Vec<&'m str>>,
    own: Vec<&'m str>,
}

impl<'m> Graph<'m> {
    fn of(metadata: &'m Metadata) -> Self {
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|p| (p.id.as_str(), p.name.as_str()))
            .collect();
        let shipped = |dep: &NodeDep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let below = metadata
            .resolve
            .nodes
            .iter()
            .map(|node| {
                let deps = node
                    .deps
                    .iter()
                    .filter(|dep| shipped(dep))
                    .map(|dep| dep.pkg.as_str());
                (node.id.as_str(), deps.collect())
            })
            .collect();
        let own = metadata
            .workspace_members
            .iter()
            .filter_map(|id| names.get(id.as_str()).copied())
            .collect();
        Self { names, below, own }
    }

    /// The shortest way from `start` to everything that is compiled into it.
    fn ways(&self, start: &'m str) -> Vec<Vec<&'m str>> {
        let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::from([(start, Vec::new())]);
        let mut open = VecDeque::from([start]);
        while let Some(id) = open.pop_front() {
            let way = ways[id].clone();
            for next in self.below.get(id).into_iter().flatten() {
                if !ways.contains_key(next) {
                    let name = self.names.get(next).copied().unwrap_or(next);
                    ways.insert(next, way.iter().copied().chain([name]).collect());
                    open.push_back(next);
                }
            }
        }
        ways.into_values().filter(|way| !way.is_empty()).collect()
    }
}

/// A Cargo.toml, to say on which line a dependency is named.
struct Manifest {
    path: String,
    text: String,
}

impl Manifest {
    fn of(package: &Package, root: &Path) -> Self {
        let path = Path::new(&package.manifest_path);
        let below = path.strip_prefix(root).unwrap_or(path);
        Self {
            path: below.to_string_lossy().into_owned(),
            text: std::fs::read_to_string(path).unwrap_or_default(),
        }
    }

    fn breach(&self, name: &str, sentence: String) -> Breach {
        let names = |line: &str| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        };
        let line = self.text.lines().position(names).map_or(0, |at| at + 1);
        Breach::new(&self.path, line, sentence)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A workspace of `own` packages; an edge is (from, to, kind).
    fn workspace(own: &[&str], edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let mut names: Vec<&str> = own.to_vec();
        names.extend(edges.iter().map(|edge| edge.1));
        names.sort_unstable();
        names.dedup();
        let of = |name: &str| {
            edges
                .iter()
                .filter(move |edge| edge.0 == name)
                .collect::<Vec<_>>()
        };
        let package = |name: &&str| {
            let deps: Vec<Value> = of(name)
                .iter()
                .map(|e| json!({"name": e.1, "kind": e.2}))
                .collect();
            json!({"id": name, "name": name, "manifest_path": format!("/none/{name}/Cargo.toml"), "dependencies": deps})
        };
        let node = |name: &&str| {
            let deps: Vec<Value> = of(name)
                .iter()
                .map(|e| json!({"pkg": e.1, "dep_kinds": [{"kind": e.2}]}))
                .collect();
            json!({"id": name, "deps": deps})
        };
        let whole = json!({
            "packages": names.iter().map(package).collect::<Vec<_>>(),
            "workspace_members": own,
            "resolve": {"nodes": names.iter().map(node).collect::<Vec<_>>()},
        });
        serde_json::from_value(whole).unwrap()
    }

    fn sentences(metadata: &Metadata) -> Vec<String> {
        check(metadata, Path::new("/none"))
            .iter()
            .map(Breach::to_string)
            .collect()
    }

    #[test]
    fn a_runner_that_names_another_runner_is_told_the_rule() {
        let metadata = workspace(
            &["qwex-runner-local", "qwex-runner-k8s"],
            &[("qwex-runner-local", "qwex-runner-k8s", None)],
        );
        assert_eq!(
            sentences(&metadata),
            [
                "qwex-runner-local/Cargo.toml: a runner knows core and runner only: never another runner, api, sqlx, or a server (names qwex-runner-k8s)"
            ]
        );
    }

    #[test]
    fn core_must_not_see_tokio_even_through_another() {
        let metadata = workspace(
            &["qwex-core"],
            &[("qwex-core", "helper", None), ("helper", "tokio", None)],
        );
        let seen = sentences(&metadata);
        assert!(seen[0].contains("core is vocabulary"), "{seen:?}");
        assert!(
            seen[0].ends_with("(sees qwex-core -> helper -> tokio)"),
            "{seen:?}"
        );
    }

    #[test]
    fn every_crate_rule_can_be_broken() {
        for rule in CRATES {
            for never in rule.never {
                let seen = sentences(&workspace(&[rule.package], &[(rule.package, never, None)]));
                assert!(
                    seen.iter().any(|s| s.contains(rule.sentence)),
                    "{} may see {never}",
                    rule.package
                );
            }
        }
    }

    #[test]
    fn what_only_tests_need_is_not_in_the_tree() {
        let metadata = workspace(
            &["qwex-core", "qwex-testbed"],
            &[
                ("qwex-core", "tokio", Some("dev")),
                ("qwex-core", "qwex-testbed", Some("dev")),
            ],
        );
        assert_eq!(sentences(&metadata), [""; 0]);
    }

    #[test]
    fn chrono_is_refused_directly_and_not_through_others() {
        let direct = workspace(&["qwex-core"], &[("qwex-core", "chrono", Some("dev"))]);
        assert!(sentences(&direct)[0].contains("chrono is nobody's direct dependency"));
        let through = workspace(
            &["qwex-core"],
            &[("qwex-core", "other", None), ("other", "chrono", None)],
        );
        assert_eq!(sentences(&through), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        assert!(sentences(&workspace(&["qwex-extra"], &[]))[0].contains("`qwex-extra` has no row"));
    }
}
