//! The resolver of the connector. What it answers is dialled as it is, so an address is looked up once, checked, and
//! called: no second lookup in which a name could change its mind.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::Guard;

/// How names are looked up; tests bring their own.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The resolver of this machine.
pub fn system() -> Lookup {
    Arc::new(|name| async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed())
}

/// The name leads to no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("the name {0} leads to no address of the public internet")]
pub struct Refused(String);

/// Looks names up and lets through what the guard allows.
#[derive(Clone)]
pub struct Resolver {
    guard: Guard,
    lookup: Lookup,
}

impl Resolver {
    pub fn new(guard: Guard, lookup: Lookup) -> Self {
        Self { guard, lookup }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, found) = (self.guard, (self.lookup)(name.as_str().to_owned()));
        async move {
            let mut addresses = found.await?;
            addresses.retain(|address| guard.allows(address.ip()));
            if addresses.is_empty() {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers each lookup with the next of these lists.
    fn scripted(answers: &[&[&str]]) -> Lookup {
        let read = |list: &&[&str]| {
            list.iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 0))
                .collect()
        };
        let answers: Mutex<Vec<Vec<SocketAddr>>> = Mutex::new(answers.iter().rev().map(read).collect());
        Arc::new(move |_| {
            let next = answers
                .lock()
                .unwrap()
                .pop()
                .expect("no more lookups than expected");
            async move { Ok(next) }.boxed()
        })
    }

    async fn resolve(resolver: &Resolver) -> Result<Vec<String>, String> {
        let answer = resolver.resolve("rebind.example".parse().unwrap()).await;
        answer
            .map(|found| found.map(|address| address.ip().to_string()).collect())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn e10_a_name_that_changes_its_mind_is_refused_at_the_dial() {
        let lookup = scripted(&[&["8.8.8.8"], &["127.0.0.1"], &["169.254.169.254", "::1"]]);
        let resolver = Resolver::new(Guard::new(false), lookup);
        assert_eq!(resolve(&resolver).await.unwrap(), ["8.8.8.8"]);
        assert!(resolve(&resolver).await.unwrap_err().contains("public internet"));
        assert!(resolve(&resolver).await.is_err());
    }

    #[tokio::test]
    async fn e10_private_addresses_among_public_ones_are_left_out() {
        let lookup = scripted(&[&["10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1", "fd00::1"]]);
        let resolver = Resolver::new(Guard::new(false), lookup);
        assert_eq!(resolve(&resolver).await.unwrap(), ["8.8.8.8"]);
    }
}
