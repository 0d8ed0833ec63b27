//! `8080:80`, `127.0.0.1:8080:80/udp`, `80` → what an engine calls port bindings.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard::models::{PortBinding, PortMap};

/// What a list of ports becomes: the ports of the container, and where each is bound on the machine.
#[derive(Debug, Default, PartialEq)]
pub struct Ports {
    pub exposed: Vec<String>,
    pub bindings: PortMap,
}

/// Why a port cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no port; write it like 8080:80, 127.0.0.1:8080:80 or 8080:80/udp")]
pub struct PortError(pub String);

pub fn parse(texts: &[String]) -> Result<Ports, PortError> {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for text in texts {
        let (inside, binding) = one(text).ok_or_else(|| PortError(text.clone()))?;
        bindings.entry(inside).or_default().push(binding);
    }
    Ok(Ports {
        exposed: bindings.keys().cloned().collect(),
        bindings: bindings
            .into_iter()
            .map(|(inside, list)| (inside, Some(list)))
            .collect::<HashMap<_, _>>(),
    })
}

fn one(text: &str) -> Option<(String, PortBinding)> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return None;
    }
    let (rest, inside) = match rest.rsplit_once(':') {
        Some((rest, inside)) => (Some(rest), inside),
        None => (None, rest),
    };
    let (address, outside) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
        Some((address, outside)) => (address, outside),
        None => ("", ""),
    };
    let inside = number(inside)?;
    let outside = if outside.is_empty() {
        String::new()
    } else {
        number(outside)?.to_string()
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return None;
    }
    let binding = PortBinding {
        host_ip: Some(address.to_owned()),
        host_port: Some(outside),
    };
    Some((format!("{inside}/{protocol}"), binding))
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, String)> {
        let ports = parse(&[text.to_owned()]).ok()?;
        let (inside, bound) = ports.bindings.into_iter().next()?;
        let bound = bound?.pop()?;
        Some((inside, bound.host_ip?, bound.host_port?))
    }

    #[test]
    fn ports_are_read() {
        let is = |text, inside: &str, ip: &str, port: &str| {
            assert_eq!(
                read(text),
                Some((inside.to_owned(), ip.to_owned(), port.to_owned())),
                "{text}"
            );
        };
        is("8080:80", "80/tcp", "", "8080");
        is("80", "80/tcp", "", "");
        is("127.0.0.1:8080:80/udp", "80/udp", "127.0.0.1", "8080");
        is("127.0.0.1::80", "80/tcp", "127.0.0.1", "");
        is("[::1]:8080:80", "80/tcp", "::1", "8080");
        for bad in [
            "",
            "0:80",
            "80:0",
            "x:80",
            "host:8080:80",
            "8080:80/icmp",
            "99999:80",
            "1:2:3:4",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
