//! Rules of what mostly container engines take: network, ports, user, ulimits; and of outputs and the
//! service account.

use crate::spec::JobSpec;

use super::{INVALID, MAX_LIST, MAX_NAME_CHARS, Problems, TOO_LARGE, member, quoted};

pub(super) fn check(spec: &JobSpec, problems: &mut Problems) {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(network) = &spec.network
        && !is_word(network, word)
    {
        problems.add(
            INVALID,
            "/network",
            format!(
                "{} is no network; give none, bridge, host or the name of one",
                quoted(network)
            ),
        );
    }
    if let Some(user) = &spec.user
        && !is_user(user)
    {
        problems.add(
            INVALID,
            "/user",
            format!(
                "{} is no user; give uid, uid:gid or a name, like 1000:1000",
                quoted(user)
            ),
        );
    }
    if let Some(account) = &spec.service_account {
        let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !is_word(account, dns) {
            problems.add(
                INVALID,
                "/service_account",
                format!(
                    "{} is no service account; use lower-case letters, digits, `-` and `.`",
                    quoted(account)
                ),
            );
        }
    }
    check_ports(&spec.ports, problems);
    check_ulimits(spec, problems);
    check_outputs(&spec.outputs, problems);
}

fn is_word(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.len() <= MAX_NAME_CHARS
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
}

fn is_user(text: &str) -> bool {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let part = |part: &str| {
        is_word(part, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
        }) || part == "_"
    };
    part(user) && group.is_none_or(part)
}

fn too_many(pointer: &'static str, count: usize, problems: &mut Problems) {
    if count > MAX_LIST {
        problems.add(
            TOO_LARGE,
            pointer,
            format!("{count} entries are more than the most, {MAX_LIST}"),
        );
    }
}

fn check_ports(ports: &[String], problems: &mut Problems) {
    too_many("/ports", ports.len(), problems);
    for (index, port) in ports.iter().enumerate() {
        if Port::parse(port).is_none() {
            problems.add(
                INVALID,
                format!("/ports/{index}"),
                format!(
                    "{} publishes no port; write it like 8080:80, 127.0.0.1:8080:80 or 5353:53/udp",
                    quoted(port)
                ),
            );
        }
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Address of the machine; `None`: every one.
    pub address: Option<std::net::IpAddr>,
    /// Of the machine; 0: any free one.
    pub host: u16,
    /// Inside, 1 to 65535.
    pub container: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

impl Port {
    /// Reads `[address:]port:port[/tcp|/udp]`; an IPv6 address stands in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, protocol) = match text.rsplit_once('/') {
            None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), "tcp"),
            Some((numbers, "udp")) => (numbers, "udp"),
            Some(_) => return None,
        };
        let (rest, container) = numbers.rsplit_once(':')?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => (Some(address), host),
        };
        let address = match address {
            None => None,
            Some(text) => {
                let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
                Some(bare.unwrap_or(text).parse().ok()?)
            }
        };
        let container = container.parse().ok().filter(|port| *port > 0)?;
        Some(Self {
            address,
            host: host.parse().ok()?,
            container,
            protocol,
        })
    }
}

fn check_ulimits(spec: &JobSpec, problems: &mut Problems) {
    too_many("/ulimits", spec.ulimits.len(), problems);
    for (name, value) in &spec.ulimits {
        if !ULIMITS.contains(&name.as_str()) {
            problems.add(
                INVALID,
                member("/ulimits", name),
                format!("{} is no ulimit; known are {}", quoted(name), ULIMITS.join(", ")),
            );
        } else if ulimit(value).is_none() {
            problems.add(
                INVALID,
                member("/ulimits", name),
                format!(
                    "{} is no limit; write it like 1024, 1024:2048 (soft:hard) or -1 for none",
                    quoted(value)
                ),
            );
        }
    }
}

const ULIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "sigpending",
    "stack",
];

/// Soft and hard limit of `soft[:hard]`; -1 is none.
#[must_use]
pub fn ulimit(value: &str) -> Option<(i64, i64)> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1);
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(value)?, number(value)?),
    };
    let below = hard == -1 || (soft != -1 && soft <= hard);
    below.then_some((soft, hard))
}

fn check_outputs(outputs: &[String], problems: &mut Problems) {
    too_many("/outputs", outputs.len(), problems);
    for (index, glob) in outputs.iter().enumerate() {
        let wrong = if glob.is_empty() {
            "it is empty"
        } else if glob.starts_with('/') {
            "it is absolute; name files below the workspace"
        } else if glob.split('/').any(|part| part == "..") {
            "it leaves the workspace with `..`"
        } else if glob.chars().any(char::is_control) || glob.len() > 1024 {
            "it has control characters or is too long"
        } else {
            continue;
        };
        problems.add(
            INVALID,
            format!("/outputs/{index}"),
            format!("the output {} cannot be collected: {wrong}", quoted(glob)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let port = Port::parse("127.0.0.1:8080:80").unwrap();
        assert_eq!((port.host, port.container, port.protocol), (8080, 80, "tcp"));
        assert_eq!(port.address.unwrap().to_string(), "127.0.0.1");
        assert_eq!(Port::parse("5353:53/udp").unwrap().protocol, "udp");
        assert_eq!(
            Port::parse("[::1]:1:2").unwrap().address.unwrap().to_string(),
            "::1"
        );
        assert_eq!(Port::parse("0:80/tcp").unwrap().host, 0);
        for wrong in [
            "80",
            "",
            "a:b",
            "1:0",
            "1:2/sctp",
            "x:1:2",
            "70000:1",
            "1:2:3:4:5",
        ] {
            assert_eq!(Port::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ulimits_are_read() {
        assert_eq!(ulimit("1024"), Some((1024, 1024)));
        assert_eq!(ulimit("1024:-1"), Some((1024, -1)));
        assert_eq!(ulimit("-1:5"), None);
        assert_eq!(ulimit("6:5"), None);
        assert_eq!(ulimit("many"), None);
    }
}
