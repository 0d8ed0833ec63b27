//! Names of images: what is asked of which registry.

/// Where an image without a registry in its name comes from, on engines with Docker's rules.
const DOCKER_HUB: &str = "docker.io";
/// The name under which Docker keeps its hub's credentials.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A name, split where the engine's API wants it split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    /// Tag or digest.
    pub tag: String,
}

impl Reference {
    pub fn of(image: &str) -> Self {
        if let Some((name, digest)) = image.split_once('@') {
            // A tag beside a digest says nothing more.
            let name = split_tag(name).map_or(name, |(name, _)| name);
            return Self::new(name, digest);
        }
        match split_tag(image) {
            Some((name, tag)) => Self::new(name, tag),
            None => Self::new(image, "latest"),
        }
    }

    fn new(name: &str, tag: &str) -> Self {
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
        }
    }

    pub fn registry(&self) -> &str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            Some(_) | None => DOCKER_HUB,
        }
    }

    /// The key of the registry in a `config.json`.
    pub fn credentials_key(&self) -> &str {
        match self.registry() {
            DOCKER_HUB => DOCKER_HUB_KEY,
            other => other,
        }
    }
}

/// A colon is a tag's only behind the last slash; before it is a port.
fn split_tag(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_like_docker_splits_them() {
        for (image, name, tag, registry) in [
            ("busybox", "busybox", "latest", "docker.io"),
            ("team/app:1", "team/app", "1", "docker.io"),
            (
                "localhost:5000/app",
                "localhost:5000/app",
                "latest",
                "localhost:5000",
            ),
            ("r.example/app:1", "r.example/app", "1", "r.example"),
            (
                "r.example/app:1@sha256:ab",
                "r.example/app",
                "sha256:ab",
                "r.example",
            ),
        ] {
            let found = Reference::of(image);
            assert_eq!(
                (found.name.as_str(), found.tag.as_str(), found.registry()),
                (name, tag, registry)
            );
        }
        assert_eq!(
            Reference::of("busybox").credentials_key(),
            "https://index.docker.io/v1/"
        );
    }
}
