//! Help on what is not a command: the topics of `qwexctl help TOPIC`.

/// Name and text of every topic.
pub const TOPICS: &[(&str, &str)] = &[
    ("exit-codes", include_str!("exit-codes.txt")),
    ("environment", include_str!("environment.txt")),
    ("formatting", include_str!("formatting.txt")),
    ("policy", include_str!("policy.txt")),
    ("spec", include_str!("spec.txt")),
    ("ssh", include_str!("ssh.txt")),
];

/// The text of a topic.
#[must_use]
pub fn topic(name: &str) -> Option<&'static str> {
    TOPICS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn every_exit_code_is_in_the_table() {
        let table = topic("exit-codes").unwrap();
        for exit in [
            Exit::Failure,
            Exit::Usage,
            Exit::NotFound,
            Exit::NotLoggedIn,
            Exit::Forbidden,
            Exit::Conflict,
            Exit::Timeout,
            Exit::Unavailable,
            Exit::Cancelled,
            Exit::Qwex,
        ] {
            let code = format!("\n  {:<8}", exit.code());
            assert!(table.contains(&code), "{exit:?}");
        }
    }
}
