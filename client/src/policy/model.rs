//! How a policy is written, and what is wrong with one that could be read.

use std::ops::Range;

use qwex_core::resources::{cpu_millis, memory_bytes};
use qwex_core::{MountKind, Span};
use serde::Deserialize;

use super::content::{self, ContentSection};
use super::images;
use crate::project_file::{At, BACKENDS, Complaint};

/// A list in the file. Absent: anything. Empty: nothing.
pub type Words = Option<At<Vec<At<String>>>>;

/// `policy:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    pub backends: Words,
    /// Globs over image references.
    pub images: Words,
    pub mounts: MountSection,
    /// Directories that a run may work in, with all below.
    pub workspaces: Words,
    /// Networks of containers.
    pub networks: Words,
    pub service_accounts: Words,
    /// The most that a run may ask for.
    pub resources: Most,
    pub timeout: Option<At<Span>>,
    pub content: ContentSection,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountSection {
    pub kinds: Words,
    /// Directories that `bind` mounts may come from, with all below.
    pub paths: Words,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Most {
    pub cpu: Option<At<String>>,
    pub memory: Option<At<String>>,
    pub gpu: Option<At<u32>>,
    pub pids: Option<At<u32>>,
}

/// What is wrong with it, in the order of the file.
#[must_use]
pub fn complaints(section: &PolicySection) -> Vec<Complaint> {
    let mut all = Vec::new();
    all.extend(each(&section.backends).filter_map(backend));
    all.extend(each(&section.images).filter_map(|glob| {
        let why = images::glob(&glob.value).err()?;
        Some(Complaint::new(&glob.at, "this is no pattern of images").label(why))
    }));
    all.extend(each(&section.mounts.kinds).filter_map(kind));
    all.extend(
        each(&section.mounts.paths)
            .chain(each(&section.workspaces))
            .filter_map(path),
    );
    let Most { cpu, memory, .. } = &section.resources;
    all.extend(quantity(cpu.as_ref(), |text| {
        cpu_millis(text).map(drop).map_err(|error| error.to_string())
    }));
    all.extend(quantity(memory.as_ref(), |text| {
        memory_bytes(text).map(drop).map_err(|error| error.to_string())
    }));
    all.extend(content::complaints(&section.content));
    all.sort_by_key(|complaint: &Complaint| (complaint.at.start, complaint.at.end));
    all
}

fn each(words: &Words) -> impl Iterator<Item = &At<String>> {
    words.iter().flat_map(|list| &list.value)
}

fn backend(word: &At<String>) -> Option<Complaint> {
    if BACKENDS.contains(&word.value.as_str()) {
        return None;
    }
    Some(among(&word.at, "backend", &word.value, &BACKENDS))
}

fn kind(word: &At<String>) -> Option<Complaint> {
    if MountKind::from_word(&word.value).is_some() {
        return None;
    }
    let known: Vec<&str> = MountKind::ALL.iter().map(|kind| kind.as_str()).collect();
    Some(among(&word.at, "kind of mount", &word.value, &known))
}

pub fn among(at: &Range<usize>, noun: &str, word: &str, known: &[&str]) -> Complaint {
    Complaint::new(at, format!("there is no {noun} `{word}`"))
        .or_meant(word, known.iter().copied())
        .fix(format!("choose from {}", known.join(", ")))
}

fn path(path: &At<String>) -> Option<Complaint> {
    let is_plain = path.value.starts_with('/') && !path.value.split('/').any(|part| part == "..");
    let what = format!("`{}` is no directory that can be allowed", path.value);
    (!is_plain).then(|| Complaint::new(&path.at, what).label("write it absolute and without `..`"))
}

fn quantity(at: Option<&At<String>>, read: impl Fn(&str) -> Result<(), String>) -> Option<Complaint> {
    let at = at?;
    Some(Complaint::new(&at.at, read(&at.value).err()?))
}
